"""From a model's name to a Model: embedded, a folder, or an id of the hub. Knows nothing of what a model does."""

from __future__ import annotations

import os
from pathlib import Path

from refsample import tiny
from refsample.errors import UnknownModelError
from refsample.generation import hub
from refsample.generation.model import Model
from refsample.model.load import fingerprint, load_transformer
from refsample.text.chat import load_template
from refsample.text.tokenizer import load_tokenizer

EMBEDDED = {"tiny": tiny.FOLDER}


def load(name: str | os.PathLike[str] = "tiny", *, precision: str = "float32") -> Model:
    """Open a model.

    `name`: an embedded model, else a folder in Hugging Face layout, else a hub id: the local cache first, then the hub
    itself where huggingface_hub is installed and HF_HUB_OFFLINE is not set. Raises UnknownModelError where there is no
    such model, ModelError and its children where its folder cannot be run, ParameterError for a bad `precision`.
    """
    text = os.fspath(name)
    folder = locate(text)
    transformer = load_transformer(folder, precision)
    return Model(
        name=text,
        folder=folder,
        transformer=transformer,
        tokenizer=load_tokenizer(folder, transformer.config),
        template=load_template(folder),
        config=transformer.config,
        fingerprint=fingerprint(folder),
    )


def locate(name: str) -> Path:
    """The folder of a model by name; see `load`."""
    if name in EMBEDDED:
        return EMBEDDED[name]
    if not name.strip():
        raise UnknownModelError(name, known(), hint="give a folder, a name or an id")
    try:
        path = Path(name).expanduser()
        if path.is_dir():
            return path
        if path.exists():
            raise UnknownModelError(name, hint="it is a file; give the folder that holds config.json and *.safetensors")
    except (OSError, RuntimeError) as error:  # a name too long, a folder that may not be read, ~ of nobody
        raise UnknownModelError(name, known(), f"no folder that can be read: {error}") from error
    if name.startswith((".", "/", "~")):  # a path by its looks: no id begins so
        raise UnknownModelError(name, known(), hint="there is no such folder")
    snapshot = hub.cached(name)
    if snapshot is not None and hub.whole(snapshot):
        return snapshot
    return hub.download(name, known(), snapshot)


def known() -> tuple[str, ...]:
    """Names that `load` can open without a network: the embedded models and what the local hub cache holds."""
    return (*EMBEDDED, *(name for name, snapshot in hub.all_cached() if hub.whole(snapshot)))
