"""From a model's name to a Model: embedded, a folder, or an id of the hub. Knows nothing of what a model does."""

from __future__ import annotations

import os
from pathlib import Path

from refsample import tiny
from refsample.errors import ParameterError, UnknownModelError
from refsample.generation import hub
from refsample.generation.model import Model
from refsample.generation.prefix import ROOM, PrefixCache
from refsample.model.load import fingerprint, load_transformer
from refsample.model.lora import TENSORS
from refsample.model.peft import CONFIG
from refsample.text.chat import load_template
from refsample.text.tokenizer import load_tokenizer

EMBEDDED = {"tiny": tiny.FOLDER}


def load(
    name: str | os.PathLike[str] = "tiny",
    *,
    precision: str = "float32",
    adapter: str | os.PathLike[str] | None = None,
    prefix_cache: int = ROOM,
    revision: str | None = None,
    stream_layers: bool = False,
) -> Model:
    """Open a model, and put a LoRA over it where `adapter` names one; the model then bears the adapter's name.

    `name`: an embedded model, else a folder in Hugging Face layout, else a hub id: the local cache first, then the hub
    itself where huggingface_hub is installed and HF_HUB_OFFLINE is not set. `adapter`: one that the model's own folder
    holds (tiny has `pirate`), else a folder in PEFT's layout, else a hub id. An id may end in `@revision`: a branch, a
    tag, `refs/pr/1` or a commit; `revision` is the same for the model. `prefix_cache`: bytes of keys and values of
    recent prompts that the model keeps, with all its adapters and precisions, for prompts that begin alike; 0 keeps
    none; no answer depends on it. `stream_layers` is for a model larger than memory: its layers stay on disk, and
    `score_many` reads each once for all its transcripts (everything else does so for every pass). Raises
    UnknownModelError where there is no such model, ModelError and its children where its folder cannot be run,
    ParameterError for a bad `precision` or `prefix_cache`, or a `revision` of what has none.
    """
    text, prefixes = os.fspath(name), PrefixCache(prefix_cache)
    if revision is not None and (text in EMBEDDED or Path(text).expanduser().is_dir()):
        raise ParameterError("revision", revision, "only an id of the hub has revisions", f"model {text}")
    text = hub.at_revision(text, revision)
    folder = locate(text)
    transformer = load_transformer(folder, precision, stream_layers)
    model = Model(
        name=text,
        folder=folder,
        transformer=transformer,
        tokenizer=load_tokenizer(folder, transformer.config),
        template=load_template(folder),
        config=transformer.config,
        fingerprint=fingerprint(folder),
        prefixes=prefixes,
    )
    if adapter is None:
        return model
    label = os.fspath(adapter)
    return model.with_adapter(label, locate_adapter(label, folder))


def locate(name: str) -> Path:
    """The folder of a model by name; see `load`."""
    if name in EMBEDDED:
        return EMBEDDED[name]
    path = _folder(name, known(), "config.json and *.safetensors")
    if path is not None:
        return path
    snapshot = hub.cached(name)
    if snapshot is not None and hub.whole(snapshot):
        return snapshot
    return hub.download(name, known(), snapshot)


def held(name: str) -> Path:
    """The folder of a model that is on this machine, whole or not; nothing is fetched. UnknownModelError."""
    if name in EMBEDDED:
        return EMBEDDED[name]
    path = _folder(name, known(), "config.json") or hub.cached(name)
    if path is None:
        raise UnknownModelError(name, known(), "no such folder, and not in the local hub cache")
    return path


def locate_adapter(name: str, base: Path) -> Path:
    """The folder of an adapter by name; see `load`. `base` is the model's folder."""
    own = adapters(base)
    if name in own:
        return own[name]
    path = _folder(name, tuple(own), f"{CONFIG} and {TENSORS}")
    if path is not None:
        return path
    snapshot = hub.cached(name)
    if snapshot is not None and (snapshot / CONFIG).is_file():
        return snapshot
    return hub.download(name, tuple(own))


def adapters(base: Path) -> dict[str, Path]:
    """Adapters that the folder of a model holds itself, by name: the folders of `adapters/` in it."""
    return {path.name: path for path in sorted((base / "adapters").glob("*")) if (path / CONFIG).is_file()}


def _folder(name: str, others: tuple[str, ...], files: str) -> Path | None:
    """The folder of that path; None for what may be an id of the hub. UnknownModelError for what can be neither."""
    if not name.strip():
        raise UnknownModelError(name, others, hint="give a folder, a name or an id")
    try:
        path = Path(name).expanduser()
        if path.is_dir():
            return path
        if path.exists():
            raise UnknownModelError(name, hint=f"it is a file; give the folder that holds {files}")
    except (OSError, RuntimeError) as error:  # a name too long, a folder that may not be read, ~ of nobody
        raise UnknownModelError(name, others, f"no folder that can be read: {error}") from error
    if name.startswith((".", "/", "~")):  # a path by its looks: no id begins so
        raise UnknownModelError(name, others, hint="there is no such folder")
    return None


def known() -> tuple[str, ...]:
    """Names that `load` can open without a network: the embedded models and what the local hub cache holds."""
    return (*EMBEDDED, *(name for name, snapshot in hub.all_cached() if hub.whole(snapshot)))
