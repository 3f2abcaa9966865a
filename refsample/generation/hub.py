"""Where models lie in the local Hugging Face hub cache, and how one gets there. Knows nothing of what is in a model.

Layout: `models--org--name/refs/main` holds a commit, `snapshots/<commit>/` its files as links into `blobs/`. A name is
`org/name` or `org/name@revision`: a branch, a tag, `refs/pr/1`, or a commit, whole or its first digits.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from refsample.errors import CorruptFileError, ParameterError, UnknownModelError, shorten
from refsample.files import read_json_object

_ID = re.compile(r"[\w.-]+(?:/[\w.-]+)?")
_REVISION = re.compile(r"[\w.+-]+(?:/[\w.+-]+)*")
_DIGITS = re.compile(r"[0-9a-f]{4,40}")
_LONGEST = 96  # huggingface_hub refuses longer ids
_SHORT = 8  # digits of a commit in a list
_FILES = ["*.safetensors", "*.json", "*.jinja", "merges.txt"]
_NOT = ["original/*", "consolidated*", "onnx/*"]  # the same weights in other formats
_READ = (".safetensors", ".json", ".jinja", ".txt")
_INDEX = "model.safetensors.index.json"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One commit of a model in the cache."""

    name: str
    """The id, without a revision."""
    commit: str
    references: tuple[str, ...]
    """Branches and tags that point to it, sorted."""
    path: Path
    default: bool
    """It is what the id alone means."""

    @property
    def call(self) -> str:
        """What `load` takes to open it."""
        return self.name if self.default else f"{self.name}@{self.commit[:_SHORT]}"


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
    """True for what can be a hub id: `name` or `org/name`, with or without `@revision`."""
    plain, at, revision = name.partition("@")
    if at and (_REVISION.fullmatch(revision) is None or ".." in revision or len(revision) > 2 * _LONGEST):
        return False
    return len(plain) <= _LONGEST and _ID.fullmatch(plain) is not None and ".." not in plain


def at_revision(name: str, revision: str | None) -> str:
    """`name@revision`, or the name as it is for None. ParameterError where the name has another one already."""
    if revision is None or name.endswith(f"@{revision}"):
        return name
    if not isinstance(revision, str) or "@" in name or not is_id(f"{name}@{revision}"):
        rule = "must be a branch, a tag or a commit of a hub id that has no other @revision"
        raise ParameterError("revision", revision, rule, f"model {name}")
    return f"{name}@{revision}"


def cached(name: str, folder: Path | None = None) -> Path | None:
    """The snapshot of a hub id in the local cache: that of its revision; without one that of `main`, else the only one
    there is. None without any. UnknownModelError for the first digits of several commits.

    It may hold a part of the files only, see `lacking`.
    """
    root = cache_folder() if folder is None else folder
    if root is None or not is_id(name):
        return None
    plain, _, revision = name.partition("@")
    repository = root / f"models--{plain.replace('/', '--')}"
    commit = _pointed(repository, revision or "main")
    snapshots = sorted(path for path in (repository / "snapshots").glob("*") if path.is_dir())
    if commit is not None:
        return next((path for path in snapshots if path.name == commit), None)
    if not revision:
        return snapshots[0] if len(snapshots) == 1 else None
    found = [path for path in snapshots if path.name == revision]
    if not found and _DIGITS.fullmatch(revision):
        found = [path for path in snapshots if path.name.startswith(revision)]
    if len(found) > 1:
        names = tuple(f"{plain}@{path.name}" for path in found)
        raise UnknownModelError(name, names, f"{len(found)} commits in the local hub cache begin so")
    return found[0] if found else None


def _pointed(repository: Path, revision: str) -> str | None:
    """The commit that a branch, a tag or `refs/...` points to; None for what is none of these here."""
    for place in (revision, f"refs/{revision}"):
        commit = _commit(repository / "refs" / place)
        if commit is not None:
            return commit
    return None


def _commit(path: Path) -> str | None:
    """What a file of `refs` points to; None for what is no such file, or one that cannot be read."""
    try:
        return path.read_text(encoding="utf-8").strip() if path.is_file() else None
    except (OSError, ValueError):
        return None


def lacking(snapshot: Path) -> str | None:
    """What a snapshot lacks to be a model, and not only, say, its tokenizer or a broken download; None: nothing."""
    if not (snapshot / "config.json").is_file() or not any(snapshot.glob("*.safetensors")):
        return broken(snapshot) or f"no config.json with *.safetensors in {snapshot}"
    return broken(snapshot)


def broken(snapshot: Path) -> str | None:
    """Which files a download that did not end has left out; None: none that can be told."""
    held = (*snapshot.glob("*"), *snapshot.glob("additional_chat_templates/*"))
    dangling = (path for path in held if path.suffix in _READ and path.is_symlink() and not path.exists())
    missing = sorted({*(str(path.relative_to(snapshot)) for path in dangling), *_absent_shards(snapshot)})
    if not missing:
        return None
    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    parts = len(list((snapshot.parent.parent / "blobs").glob("*.incomplete")))
    why = f": a download was broken off ({parts} .incomplete)" if parts else ""
    return f"{missing[0]}{more} is missing in {snapshot}{why}"


def _absent_shards(snapshot: Path) -> Iterator[str]:
    """Weight files that the index names and that are not there."""
    if (snapshot / "model.safetensors").exists():
        return
    try:
        places = read_json_object(snapshot / _INDEX, optional=True).get("weight_map")
    except CorruptFileError:  # who opens the folder will say so
        return
    for name in set(places.values()) if isinstance(places, dict) else ():
        if isinstance(name, str) and not (snapshot / name).exists():
            yield name


def whole(snapshot: Path) -> bool:
    """Whether a snapshot holds a model with all its files."""
    return lacking(snapshot) is None


def snapshots(folder: Path | None = None) -> Iterator[Snapshot]:
    """Every commit of every model in the local cache: by id, what the id alone means first, then by commit."""
    root = cache_folder() if folder is None else folder
    for repository in sorted(root.glob("models--*")) if root is not None else ():
        name = repository.name.removeprefix("models--").replace("--", "/")
        if not is_id(name):
            continue
        default, refs = cached(name, root), repository / "refs"
        pointers = {
            str(path.relative_to(refs)): commit
            for path in sorted(refs.rglob("*"))
            if (commit := _commit(path)) is not None
        }
        paths = [path for path in (repository / "snapshots").glob("*") if path.is_dir()]
        for path in sorted(paths, key=lambda path: (path != default, path.name)):
            pointing = tuple(reference for reference, commit in pointers.items() if commit == path.name)
            yield Snapshot(name, path.name, pointing, path, path == default)


def all_cached(folder: Path | None = None) -> tuple[tuple[str, Path], ...]:
    """(id, snapshot) of every model in the local cache, by id."""
    return tuple((found.name, found.path) for found in snapshots(folder) if found.default)


def download(name: str, known: tuple[str, ...] = (), partly: Path | None = None) -> Path:
    """Fetch the runnable files of a hub id with huggingface_hub, where that is installed and the user is not offline.

    `partly`: a snapshot that is not whole. Raises UnknownModelError with the reason, and with the names that are
    `known`, where that is not possible.
    """
    if not is_id(name):
        raise UnknownModelError(name, known, "neither a folder nor a hub id")
    missing = "not in the local hub cache" if partly is None else lacking(partly) or f"incomplete in {partly}"
    plain, _, revision = name.partition("@")
    others = [found.call for found in snapshots() if found.name == plain] if partly is None else []
    if others:
        missing = f"that revision is {missing}, which has {shorten(', '.join(others))}"
    if offline():
        raise UnknownModelError(name, known, f"no such folder, {missing}, and HF_HUB_OFFLINE is set")
    if find_spec("huggingface_hub") is None:
        hint = f"no such folder and {missing}; to fetch it: pip install huggingface_hub"
        raise UnknownModelError(name, known, hint)
    hub = import_module("huggingface_hub")
    errors = import_module("huggingface_hub.errors")
    try:
        return Path(
            hub.snapshot_download(plain, revision=revision or None, allow_patterns=_FILES, ignore_patterns=_NOT)
        )
    except (errors.HfHubHTTPError, errors.HFValidationError, errors.LocalEntryNotFoundError, OSError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UnknownModelError(name, known, f"no such folder, and the hub does not give it: {lines[0]}") from error
