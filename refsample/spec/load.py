"""Finds spec files and reads engine files. It knows where they lie and nothing of what a rule does."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from refsample.errors import SpecError
from refsample.spec.strict import converted, from_table, problem
from refsample.spec.types import EngineSpec, KnownDifference, Semantics


def folder() -> Path:
    """The folder of spec files: the packaged one, else the checkout's. Raises SpecError if neither is there.

    Packaged first: an installed copy must not read whatever `specs` folder lies beside it.
    """
    package = Path(__file__).resolve().parents[1]
    for candidate in (package / "specs", package.parent / "specs"):
        if (candidate / "engines").is_dir():
            return candidate
    raise SpecError(f"no folder of spec files in {package} or beside it")


def names(kind: str) -> tuple[str, ...]:
    """Names of the spec files of one kind (`engines`, `providers`), sorted."""
    return tuple(sorted(path.stem for path in (folder() / kind).glob("*.toml")))


def is_path(name_or_path: str) -> bool:
    """Whether this is a path and no name: a path ends in .toml."""
    return name_or_path.endswith(".toml")


def find(kind: str, name_or_path: str) -> Path:
    """The file of a spec: a path that ends in .toml, else a name of `names(kind)`. Raises SpecError."""
    if is_path(name_or_path):
        path = Path(name_or_path)
        if not path.is_file():
            raise SpecError(f"{name_or_path}: no such file")
        return path
    known = names(kind)
    if name_or_path not in known:
        raise SpecError(f"{kind[:-1]} {name_or_path!r} does not exist; known here: {', '.join(known)}")
    return folder() / kind / f"{name_or_path}.toml"


def read(path: Path) -> dict[str, Any]:
    """A TOML file as a dict. Raises SpecError that names the file."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SpecError(f"{path.name}: {error}") from None


def engines() -> tuple[str, ...]:
    """Names of the engine files."""
    return names("engines")


def engine(name_or_path: str) -> EngineSpec:
    """The engine file of a name, or at a path that ends in .toml. Raises SpecError.

    A shipped file is read once; one at a path each time, for it may have changed.
    """
    if is_path(name_or_path):
        path = find("engines", name_or_path)
        return engine_from(read(path), path.name)
    return _shipped(name_or_path)


@cache
def _shipped(name: str) -> EngineSpec:
    path = find("engines", name)
    return engine_from(read(path), path.name)


def engine_from(data: Mapping[str, Any], where: str) -> EngineSpec:
    """An EngineSpec from a parsed file; `where` is its name for errors. Raises SpecError naming file and key."""
    rest = dict(data)
    if "semantics" not in rest:
        raise SpecError(f"{where}: missing key semantics")
    semantics = from_table(Semantics, rest.pop("semantics"), f"{where} [semantics]")
    entries = rest.pop("known", [])
    if not isinstance(entries, list):
        raise SpecError(f"{where}: known={entries!r}: must be a list of tables")
    known = tuple(from_table(KnownDifference, entry, f"{where} [[known]] {i}") for i, entry in enumerate(entries))
    aliases = rest.pop("aliases", {})
    rule = problem(Mapping[str, str], aliases)
    if rule:
        raise SpecError(f"{where}: aliases={aliases!r}: {rule}")
    frozen = MappingProxyType(converted(Mapping[str, str], aliases))
    return from_table(EngineSpec, rest, where, semantics=semantics, known=known, aliases=frozen)
