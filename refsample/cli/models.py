"""`refsample models`: the embedded model, what the local hub cache holds, their own adapters; can each be run?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click

from refsample.errors import ModelError
from refsample.render import columns


@dataclass(frozen=True, slots=True)
class Listed:
    """One model folder as the list shows it."""

    name: str
    family: str | None
    bytes: int
    """Size of its weight files."""
    runnable: bool
    why_not: str | None
    folder: str
    base: str | None = None
    """Of an adapter: the model whose folder holds it."""
    revision: str | None = None
    """Of a model in the hub cache: its commit."""
    references: tuple[str, ...] = ()
    """Branches and tags that point to it."""


@click.command(short_help="List the models that are on this machine.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
def models(as_json: bool) -> None:
    """List tiny and the models of the local hub cache, every commit of them, with the adapters in their folders:
    family, size, runnable or why not. Loads nothing; `refsample inspect MODEL` says more of one."""
    found = list(listed())
    if as_json:
        click.echo(json.dumps([asdict(model) for model in found]))
        return
    rows = [("model", "revision", "family", "weights", "runnable")]
    for model in found:
        verdict = "yes" if model.runnable else f"no: {model.why_not}"
        name = model.name if model.base is None else f"{model.base} --lora {model.name}"
        where = ", ".join((*model.references, (model.revision or "-")[:8]))
        rows.append((name, where, model.family or "?", f"{model.bytes / 1e6:.1f} MB", verdict))
    click.echo("\n".join(columns(rows)))


def listed() -> Iterator[Listed]:
    """Every model here with its adapters: the embedded ones, then the hub cache by id and commit."""
    from refsample.generation.hub import snapshots
    from refsample.generation.load import EMBEDDED

    for name, folder in EMBEDDED.items():
        yield from (look(name, folder), *own_adapters(name, folder))
    for found in snapshots():
        entry = replace(look(found.call, found.path), revision=found.commit, references=found.references)
        yield from (entry, *own_adapters(found.call, found.path))


def look(name: str, folder: Path) -> Listed:
    """What a folder holds: its headers are read, its weights are not."""
    from refsample.generation.hub import broken
    from refsample.model.config import read_config
    from refsample.model.weights import check_weights

    size = sum(path.stat().st_size for path in folder.glob("*.safetensors") if path.exists())
    why_not: str | None = None
    try:
        check_weights(folder, read_config(folder))
    except ModelError as error:
        why_not = " ".join((broken(folder) or str(error)).split())
    return Listed(name, family(folder), size, why_not is None, why_not, str(folder))


def own_adapters(name: str, folder: Path) -> Iterator[Listed]:
    """The adapters that the folder of a model holds, each read over it."""
    from refsample.generation.load import adapters
    from refsample.model.config import read_config
    from refsample.model.lora import TENSORS, read_adapter
    from refsample.model.weights import open_weights

    for own, path in adapters(folder).items():
        why_not: str | None = None
        try:
            config = read_config(folder)
            read_adapter(path, config, open_weights(folder, config))
        except ModelError as error:
            why_not = " ".join(str(error).split())
        weights = path / TENSORS
        size = weights.stat().st_size if weights.is_file() else 0
        yield Listed(own, "lora", size, why_not is None, why_not, str(path), name)


def family(folder: Path) -> str | None:
    """`model_type` of the folder's config.json, where it says one."""
    try:
        config: Any = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return config.get("model_type") if isinstance(config, dict) else None
