"""A model folder opened for running, and its fingerprint. It knows nothing of text or of where folders come from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from refsample.errors import MissingFileError
from refsample.model.config import read_config
from refsample.model.lora import TENSORS
from refsample.model.numerics import FLOAT32
from refsample.model.peft import CONFIG
from refsample.model.rope import Angles
from refsample.model.shelf import shelved
from refsample.model.tensors import INDEX, SINGLE, foreign_weights
from refsample.model.transformer import Transformer
from refsample.model.weights import open_layers, open_weights

_SMALL = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt",
    "special_tokens_map.json", "added_tokens.json", "chat_template.json",
)  # fmt: skip
_WHOLE = 32 * 2**20  # a weight file up to this size is hashed whole
_SAMPLES, _SAMPLE = 64, 2**16


def load_transformer(folder: Path, precision: str = "float32", stream_layers: bool = False) -> Transformer:
    """Open a folder in Hugging Face layout. ModelError family; ParameterError for an unknown precision.

    `stream_layers`: layers stay on disk, each is opened when it is used (see `shelf`).
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MissingFileError(f"{folder} is not a folder")
    weights_there = (folder / SINGLE).exists() or (folder / INDEX).exists()
    if not weights_there and not (folder / "config.json").exists():  # a model of another kind: say what to do with it
        raise foreign_weights(folder) or MissingFileError(f"{folder}: config.json is missing, and so is {SINGLE}")
    config = read_config(folder)
    weights = open_weights(folder, config, stack=shelved if stream_layers else open_layers)
    angles = tuple(Angles(settings) for settings in config.ropes)
    return Transformer(config, weights, weights, FLOAT32, angles).with_precision(precision)


def fingerprint(folder: Path) -> str:
    """sha256 (hex) over all that decides an answer: configs, tokenizer, chat templates and weights.

    Small files whole, of large ones size, header and 64 evenly spaced pieces of 64 KiB.
    """
    folder = Path(folder)
    digest = hashlib.sha256()
    weights = [folder / SINGLE] if (folder / SINGLE).exists() else sorted(folder.glob("*.safetensors"))
    templates = (*sorted(folder.glob("*.jinja")), *sorted((folder / "additional_chat_templates").glob("*.jinja")))
    _take_up(digest, folder, (*(folder / name for name in _SMALL), *templates, folder / INDEX, *weights))
    return digest.hexdigest()


def adapter_fingerprint(base: str, folder: Path) -> str:
    """sha256 (hex) over the fingerprint of the base and the files of an adapter."""
    digest = hashlib.sha256(f"{base}\0".encode())
    _take_up(digest, Path(folder), (Path(folder) / CONFIG, Path(folder) / TENSORS))
    return digest.hexdigest()


def _take_up(digest: hashlib._Hash, folder: Path, paths: Iterable[Path]) -> None:
    """Name, size and content of the files that are there."""
    for path in paths:
        if not path.is_file():
            continue
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder).as_posix()}\0{size}\0".encode(errors="surrogateescape"))
        with path.open("rb") as file:
            if size <= _WHOLE:
                digest.update(file.read())
                continue
            length = int.from_bytes(file.read(8), "little")
            digest.update(file.read(min(length, _WHOLE)))
            for n in range(_SAMPLES):
                file.seek((size - _SAMPLE) * n // (_SAMPLES - 1))
                digest.update(file.read(_SAMPLE))
