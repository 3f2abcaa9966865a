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
_FILES = ["*.safetensors", "*.json", "*.jinja"]


def cache_folder(environ: Mapping[str, str] | None = None) -> Path:
    """The hub cache, by the rules of huggingface_hub: HF_HUB_CACHE, else HF_HOME/hub, else ~/.cache/huggingface/hub."""
    env = os.environ if environ is None else environ
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if env.get(name):
            return Path(env[name]).expanduser()
    home = env.get("HF_HOME") or Path(env.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(home).expanduser() / "hub"


def offline(environ: Mapping[str, str] | None = None) -> bool:
    """True where the user says that the hub must not be asked."""
    env = os.environ if environ is None else environ
    flags = (env.get(name, "").upper() for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
    return any(flag in ("1", "ON", "YES", "TRUE") for flag in flags)


def is_id(name: str) -> bool:
    """True for what can be a hub id: `name` or `org/name`."""
    return _ID.fullmatch(name) is not None and ".." not in name


def cached(name: str, folder: Path | None = None) -> Path | None:
    """The snapshot of a hub id in the local cache: that of `main`, else the only one there is; None without any."""
    if not is_id(name):
        return None
    repository = (cache_folder() if folder is None else folder) / f"models--{name.replace('/', '--')}"
    reference = repository / "refs" / "main"
    if reference.is_file():
        snapshot = repository / "snapshots" / reference.read_text(encoding="utf-8").strip()
        return snapshot if snapshot.is_dir() else None
    snapshots = [path for path in (repository / "snapshots").glob("*") if path.is_dir()]
    return snapshots[0] if len(snapshots) == 1 else None


def all_cached(folder: Path | None = None) -> tuple[tuple[str, Path], ...]:
    """(id, snapshot) of every model in the local cache, by id."""
    root = cache_folder() if folder is None else folder
    names = sorted(path.name.removeprefix("models--").replace("--", "/") for path in root.glob("models--*"))
    found = ((name, cached(name, root)) for name in names)
    return tuple((name, path) for name, path in found if path is not None)


def download(name: str, known: tuple[str, ...] = ()) -> Path:
    """Fetch the runnable files of a hub id with huggingface_hub, where that is installed and the user is not offline.

    Raises UnknownModelError with the reason, and with the names that are `known`, where that is not possible.
    """
    if not is_id(name):
        raise UnknownModelError(name, known, "neither a folder nor a hub id")
    if offline():
        raise UnknownModelError(name, known, "no such folder, not in the local hub cache, and HF_HUB_OFFLINE is set")
    if find_spec("huggingface_hub") is None:
        hint = "no such folder and not in the local hub cache; to fetch it: pip install huggingface_hub"
        raise UnknownModelError(name, known, hint)
    hub = import_module("huggingface_hub")
    errors = import_module("huggingface_hub.errors")
    try:
        return Path(hub.snapshot_download(name, allow_patterns=_FILES))
    except (errors.HfHubHTTPError, errors.HFValidationError, errors.LocalEntryNotFoundError, OSError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UnknownModelError(name, known, f"no such folder, and the hub does not give it: {lines[0]}") from error
