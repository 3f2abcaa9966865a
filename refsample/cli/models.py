"""`refsample models`: the embedded model, what the local hub cache holds, their own adapters; can each be run?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
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


@click.command(short_help="List the models that are on this machine.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
def models(as_json: bool) -> None:
    """List tiny and the models of the local hub cache, with the adapters in their folders: family, size, runnable or
    why not. Loads nothing."""
    found = [entry for name, folder in folders() for entry in (look(name, folder), *own_adapters(name, folder))]
    if as_json:
        click.echo(json.dumps([asdict(model) for model in found]))
        return
    rows = [("model", "family", "weights", "runnable")]
    for model in found:
        verdict = "yes" if model.runnable else f"no: {model.why_not}"
        name = model.name if model.base is None else f"{model.base} --lora {model.name}"
        rows.append((name, model.family or "?", f"{model.bytes / 1e6:.1f} MB", verdict))
    click.echo("\n".join(columns(rows)))


def folders() -> Iterator[tuple[str, Path]]:
    """Name and folder of every model here: the embedded ones, then the hub cache by id."""
    from refsample.generation.hub import all_cached
    from refsample.generation.load import EMBEDDED

    yield from EMBEDDED.items()
    yield from all_cached()


def look(name: str, folder: Path) -> Listed:
    """What a folder holds: its headers are read, its weights are not."""
    from refsample.model.config import read_config
    from refsample.model.weights import open_weights

    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    why_not: str | None = None
    try:
        open_weights(folder, read_config(folder))
    except ModelError as error:
        why_not = " ".join(str(error).split())
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
