"""What commands share: -o settings, text from arguments or pipes, the model. Knows nothing of requests."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from refsample.cli.terminal import note
from refsample.errors import ParameterError, shorten

if TYPE_CHECKING:
    from refsample.generation.model import Model

Command = TypeVar("Command", bound=Callable[..., object])

RESERVED: Mapping[str, str] = {
    "stream": "chosen by --no-stream",
    "model": "chosen by --model",
}


RULES = "semantics."
MOMENT = 0.5
"""Seconds of compiling that nobody has to be told about."""


adapter_option = click.option("--lora", metavar="NAME|PATH|ID",
                              help="Adapter over the model: one of its own, a folder in PEFT's layout, or a hub id.")


overlay_option = click.option("--generation-config", "overlay", is_flag=True,
                              help="What a request leaves open is as the model's generation_config.json says.")


def asking(command: Command) -> Command:
    """The options of every command that asks a model: --model --lora --spec -o --generation-config --strict
    --threads."""
    for option in (
        click.option("--threads", type=click.IntRange(1), metavar="N",
                     help="Threads of the kernels; never changes an answer."),
        click.option("--strict", is_flag=True,
                     help="Bounds as the provider's page prints them; unknown keys are refused."),
        overlay_option,
        click.option("-o", "settings", multiple=True, metavar="KEY=VALUE",
                     help="Any field of the request (the value is JSON, else text), or a rule of the engine: "
                          "semantics.NAME=VALUE. Repeatable."),
        click.option("--spec", default="openai", show_default=True, metavar="NAME",
                     help="Provider spec: see `refsample specs`."),
        adapter_option,
        click.option("--model", "model_name", default="tiny", show_default=True, metavar="NAME|PATH|ID",
                     help="Embedded model, folder in Hugging Face layout, or id in the local hub cache."),
    ):
        command = option(command)
    return command


def body_from(settings: tuple[str, ...]) -> dict[str, object]:
    """Request fields from `-o key=value` pairs. Raises ParameterError."""
    body: dict[str, object] = {}
    for pair in settings:
        key, sign, value = pair.partition("=")
        if not sign or not key:
            raise ParameterError("-o", pair, "must be KEY=VALUE", "the command line")
        if key in RESERVED:
            raise ParameterError("-o", pair, f"{key} is {RESERVED[key]}", "the command line")
        if key in body:
            raise ParameterError("-o", pair, f"{key} is given twice", "the command line")
        body[key] = json_or_text(value)
    return body


def json_or_text(value: str) -> object:
    """`5` and `.5` are numbers, `true` a boolean, `["a"]` a list; what is no JSON is itself."""
    try:
        parsed: object = json.loads(re.sub(r"^(-?)(?=\.\d+$)", r"\g<1>0", value))
    except ValueError:
        return value
    return parsed


def split_rules(given: dict[str, object]) -> dict[str, object]:
    """Take the rules of an engine (`semantics.top_p_rule=gt`) out of the settings; `inf` is a number there."""
    names = [name for name in given if name.startswith(RULES)]
    typed = {"inf": float("inf"), "-inf": float("-inf")}
    rules = {name.removeprefix(RULES): given.pop(name) for name in names}
    return {name: typed.get(value, value) if isinstance(value, str) else value for name, value in rules.items()}


def text_from(argument: str | None, name: str) -> str | None:
    """The argument, or standard input where it is `-` or absent with something piped in; None where there is neither.

    One final line break of piped text is dropped: echo and editors add it, and it would change the tokens.
    Raises ParameterError for text that is not UTF-8.
    """
    if argument is None and sys.stdin.isatty():
        return None
    if argument not in (None, "-"):
        check_unicode(str(argument), name)
        return argument
    try:
        text = sys.stdin.read()
    except UnicodeDecodeError as error:
        raise ParameterError(name, error.object[:20], "must be UTF-8", "the command line") from None
    check_unicode(text, name)
    return text.removesuffix("\n").removesuffix("\r")


def check_unicode(text: str, name: str) -> None:
    """Raises ParameterError for bytes that the interpreter smuggled in as lone surrogates."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ParameterError(name, text, "must be UTF-8", "the command line") from None


def open_model(
    name: str, threads: int | None = None, lora: str | None = None, stream_layers: bool = False
) -> Model:
    """The model, with an adapter over it if one is named, and the kernels set to so many threads; see `load`.

    Raises ModelError, UnknownModelError, ParameterError.
    """
    from refsample.generation.load import load

    set_threads(threads)
    say_compiling()
    return load(name, adapter=lora, stream_layers=stream_layers)


def say_defaults(models: Iterable[Model]) -> None:
    """What the generation_config.json of each model proposes, and what of it is not kept, on stderr."""
    for model in models:
        defaults = model.generation_defaults
        taken = ", ".join(f"{name}={value!r}" for name, value in defaults.fields.items()) or "nothing"
        left = f"; not kept: {', '.join(defaults.left_out)}" if defaults.left_out else ""
        note(f"{model.name}: generation_config.json gives {taken}{left}")


def named(entry: str) -> tuple[str, str]:
    """NAME=SOURCE as (name, source); a source alone bears its folder's name, else its own."""
    name, sign, source = entry.partition("=")
    if sign and not Path(entry).exists():  # a folder whose own name holds "=" is a path all the same
        if not name or not source:
            raise ParameterError("NAME=SOURCE", entry, "needs something on both sides of the =", "the command line")
        return name, source
    return (Path(entry).resolve().name if Path(entry).is_dir() else entry), entry


def put_adapters(models: dict[str, Model], entries: tuple[str, ...]) -> None:
    """Add to `models` one for each `--lora NAME=SOURCE`, over the model of them that it belongs to, or for each
    `NAME@BASE=SOURCE` over that one.

    Raises ParameterError for a name that is taken, or where it is open which model is the base.
    """
    from refsample.generation.load import locate_adapter

    bases = dict(models)
    for entry in entries:
        name, source = named(entry)
        name, at, chosen = name.partition("@") if source != entry else (name, "", "")
        if not name or (at and not chosen):
            raise ParameterError("--lora", entry, "must be NAME@BASE=PATH", "the command line")
        if name in models:
            raise ParameterError("--lora", entry, f"the name {name} is taken: write OTHER=PATH", "the command line")
        if chosen and chosen not in bases:
            raise ParameterError("--lora", entry, f"no model is served as {chosen}", "the command line")
        base = bases[chosen] if chosen else base_of(entry, source, bases)
        models[name] = base.with_adapter(name, locate_adapter(source, base.folder))


def base_of(entry: str, source: str, bases: Mapping[str, Model]) -> Model:
    """The only model, else the only one that holds the adapter itself, else the one that the adapter's config names."""
    from refsample.generation.load import adapters, locate_adapter
    from refsample.model.peft import read_adapter_config

    owners = [base for base in bases.values() if source in adapters(base.folder)]
    for candidates in (list(bases.values()), owners):
        if len(candidates) == 1:
            return candidates[0]
    said = read_adapter_config(locate_adapter(source, next(iter(bases.values())).folder)).base
    if said is None or said not in bases:
        rule = (f"several models are served, and none is called {shorten(said)}, as the adapter's config names its "
                "base: write NAME@BASE=PATH")  # fmt: skip
        raise ParameterError("--lora", entry, rule, "the command line")
    return bases[said]


def say_compiling() -> None:
    """One line on stderr when kernels have to be compiled and it takes longer than a moment; none with --json."""
    from refsample_kernels import jit, store

    context = click.get_current_context(silent=True)
    if context is not None and context.params.get("as_json"):
        return
    start = 0.0

    def told(_: str) -> None:
        nonlocal start
        start = start or time.monotonic()
        if time.monotonic() - start > MOMENT:
            jit.tell(None)
            end = "they are kept, so only the first run waits"
            if not store.keeps():
                end = "the cache cannot be written, so every run waits (NUMBA_CACHE_DIR names another folder)"
            note(f"compiling kernels for this processor; {end}")

    jit.tell(told)


def set_threads(threads: int | None) -> None:
    """Threads of the kernels; None leaves all that there are. Raises ParameterError for more than that."""
    from refsample_kernels import jit

    try:
        jit.set_threads(jit.threads() if threads is None else threads)
    except ValueError as error:
        name, _, rule = str(error).partition(": ")
        named = "--threads" if name.startswith("threads") else name.partition("=")[0]
        given: object = threads if named == "--threads" else name.partition("=")[2]
        raise ParameterError(named, given, rule, "this machine") from None
