"""Where models lie in the local Hugging Face hub cache, and how one gets there. Knows nothing of what is in a model.

Layout: `models--org--name/refs/main` holds a commit, `snapshots/<commit>/` its files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from refsample.errors import UnknownModelError

_ID = re.compile(r"[\w.-]+(?:/[\w.-]+)?")
_LONGEST = 96  # huggingface_hub refuses longer ids
_FILES = ["*.safetensors", "*.json", "*.jinja"]


def cache_folder(environ: Mapping[str, str] | None = None) -> Path | None:
    """The hub cache, by the rules of huggingface_hub: HF_HUB_CACHE, else HF_HOME/hub, else ~/.cache/huggingface/hub.

    None where that lies in a home and the user has none.
    """
    env = os.environ if environ is None else environ
    given = env.get("HF_HUB_CACHE") or env.get("HUGGINGFACE_HUB_CACHE")
    home = env.get("HF_HOME") or Path(env.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    try:
        return Path(given).expanduser() if given else Path(home).expanduser() / "hub"
    except RuntimeError:  # no HOME, no entry in the password file
        return None


def offline(environ: Mapping[str, str] | None = None) -> bool:
    """True where the user says that the hub must not be asked."""
    env = os.environ if environ is None else environ
    flags = (env.get(name, "").upper() for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
    return any(flag in ("1", "ON", "YES", "TRUE") for flag in flags)


def is_id(name: str) -> bool:
    """True for what can be a hub id: `name` or `org/name`."""
    return len(name) <= _LONGEST and _ID.fullmatch(name) is not None and ".." not in name


def cached(name: str, folder: Path | None = None) -> Path | None:
    """The snapshot of a hub id in the local cache: that of `main`, else the only one there is; None without any.

    It may hold a part of the files only, see `whole`.
    """
    root = cache_folder() if folder is None else folder
    if root is None or not is_id(name):
        return None
    repository = root / f"models--{name.replace('/', '--')}"
    reference = repository / "refs" / "main"
    if reference.is_file():
        snapshot = repository / "snapshots" / reference.read_text(encoding="utf-8").strip()
        return snapshot if snapshot.is_dir() else None
    snapshots = [path for path in (repository / "snapshots").glob("*") if path.is_dir()]
    return snapshots[0] if len(snapshots) == 1 else None


def whole(snapshot: Path) -> bool:
    """Whether a snapshot holds a model, and not only, say, its tokenizer: config.json and weights."""
    return (snapshot / "config.json").is_file() and any(snapshot.glob("*.safetensors"))


def all_cached(folder: Path | None = None) -> tuple[tuple[str, Path], ...]:
    """(id, snapshot) of every model in the local cache, by id."""
    root = cache_folder() if folder is None else folder
    if root is None:
        return ()
    names = sorted(path.name.removeprefix("models--").replace("--", "/") for path in root.glob("models--*"))
    found = ((name, cached(name, root)) for name in names)
    return tuple((name, path) for name, path in found if path is not None)


def download(name: str, known: tuple[str, ...] = (), partly: Path | None = None) -> Path:
    """Fetch the runnable files of a hub id with huggingface_hub, where that is installed and the user is not offline.

    `partly`: a snapshot that is not whole. Raises UnknownModelError with the reason, and with the names that are
    `known`, where that is not possible.
    """
    missing = "not in the local hub cache" if partly is None else f"no config.json with *.safetensors in {partly}"
    if not is_id(name):
        raise UnknownModelError(name, known, "neither a folder nor a hub id")
    if offline():
        raise UnknownModelError(name, known, f"no such folder, {missing}, and HF_HUB_OFFLINE is set")
    if find_spec("huggingface_hub") is None:
        hint = f"no such folder and {missing}; to fetch it: pip install huggingface_hub"
        raise UnknownModelError(name, known, hint)
    hub = import_module("huggingface_hub")
    errors = import_module("huggingface_hub.errors")
    try:
        return Path(hub.snapshot_download(name, allow_patterns=_FILES))
    except (errors.HfHubHTTPError, errors.HFValidationError, errors.LocalEntryNotFoundError, OSError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UnknownModelError(name, known, f"no such folder, and the hub does not give it: {lines[0]}") from error
