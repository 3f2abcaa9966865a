"""`refsample serve`: the reference behind HTTP, honest or with named faults."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from refsample.cli.options import set_threads
from refsample.cli.terminal import note
from refsample.errors import ParameterError

if TYPE_CHECKING:
    from refsample.generation.behaviour import Behaviour
    from refsample.generation.model import Model


@click.command(short_help="Serve models over HTTP, honest or with named faults.")
@click.option("--model", "names", multiple=True, metavar="NAME|PATH|ID|NAME=PATH",
              help="Model to serve, if need be under another name. Repeatable; default tiny.")
@click.option("--spec", default="openai", show_default=True, metavar="NAME", help="Provider spec to serve.")
@click.option("--strict", is_flag=True, help="Bounds as the provider's page prints them; unknown keys are refused.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535))
@click.option("--fault", "faults", multiple=True, metavar="NAME",
              help="Answer wrongly: see `refsample faults`. Repeatable.")
@click.option("--api-key-env", metavar="VAR", help="Ask for the key held in this environment variable.")
@click.option("--threads", type=click.IntRange(1), metavar="N", help="Threads of the kernels; never changes an answer.")
def serve(
    names: tuple[str, ...], spec: str, strict: bool, host: str, port: int, faults: tuple[str, ...],
    api_key_env: str | None, threads: int | None,
) -> None:  # fmt: skip
    """Serve models over HTTP as the provider's page says: /v1/completions, /v1/chat/completions, /v1/models, /health.

    \b
    refsample serve --fault top_k_ignored
    refsample serve --model mine=./folder --host 0.0.0.0 --api-key-env KEY
    """
    key = key_from(api_key_env)

    from refsample.api.server import create_app, run

    behaviour = faulty(faults, spec) if faults else None
    set_threads(threads)
    models = open_models(names or ("tiny",))
    app = create_app(models, spec, behaviour=behaviour, strict=strict, api_key=key)
    wrong = f", with faults {', '.join(faults)}" if faults else ""
    what = f"serving {', '.join(models)} as {spec}{wrong}"
    try:
        run(app, host, port, ready=lambda url: note(f"{what} on {url}/v1 (Ctrl-C stops)"))
    except KeyboardInterrupt:
        note("stopped")


def open_models(names: tuple[str, ...]) -> dict[str, Model]:
    """Models by the name they are served under. Raises ParameterError for a name given twice."""
    from refsample.generation.load import load

    models: dict[str, Model] = {}
    for entry in names:
        alias, sign, source = entry.partition("=")
        # A folder whose own name holds "=" is a path all the same.
        if not sign or Path(entry).exists():
            alias, source = Path(entry).resolve().name if Path(entry).is_dir() else entry, entry
        if alias in models:
            raise ParameterError("--model", entry, f"the name {alias} is taken: write OTHER=PATH", "the command line")
        models[alias] = load(source)
    return models


def faulty(faults: tuple[str, ...], spec: str) -> Behaviour:
    """The behaviour that the spec's engine has, with the named faults. Raises ParameterError for an unknown one."""
    from refsample.api.answer import default_behaviour
    from refsample.conformance.faults import apply
    from refsample.spec.provider import provider

    return apply(faults, default_behaviour(provider(spec)))


def key_from(variable: str | None) -> str | None:
    """The key in an environment variable, since command lines can be seen. Raises ParameterError without it."""
    if variable is None:
        return None
    if not os.environ.get(variable):
        raise ParameterError("--api-key-env", variable, "this variable is not set, or empty", "the command line")
    return os.environ[variable]
