"""`refsample serve`: the reference behind HTTP, honest or with named faults."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import click

from refsample.cli.options import named, overlay_option, put_adapters, say_compiling, say_defaults, set_threads
from refsample.cli.terminal import note
from refsample.errors import ParameterError

if TYPE_CHECKING:
    from refsample.api.site import Site
    from refsample.generation.behaviour import Behaviour
    from refsample.generation.model import Model

LEVELS: Final = ("debug", "info", "warning", "error")
TAILS: Final = {"completions": "/completions", "chat": "/chat/completions"}
"""What clients add to a base URL themselves."""


@click.command(short_help="Serve models over HTTP, honest or with named faults.")
@click.option("--model", "names", multiple=True, metavar="NAME|PATH|ID|NAME=PATH",
              help="Model to serve, if need be under another name. Repeatable; default tiny.")
@click.option("--lora", "adapters", multiple=True, metavar="NAME|PATH|ID|NAME[@BASE]=PATH",
              help="LoRA adapter over a served model, served beside it under its own name. Repeatable.")
@click.option("--spec", "specs", multiple=True, default=("openai",), show_default=True, metavar="NAME",
              help="Provider spec to serve. Repeatable: several are served under /NAME each.")
@click.option("--strict", is_flag=True, help="Bounds as the provider's page prints them; unknown keys are refused.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535))
@click.option("--fault", "faults", multiple=True, metavar="NAME",
              help="Answer wrongly: see `refsample faults`. Repeatable.")
@overlay_option
@click.option("--api-key-env", metavar="VAR", help="Ask for the key held in this environment variable.")
@click.option("--max-live", default=64, show_default=True, type=click.IntRange(1), metavar="N",
              help="Choices that are computed together.")
@click.option("--max-waiting", default=256, show_default=True, type=click.IntRange(0), metavar="N",
              help="Requests that wait for their turn; one more is told to come back (429).")
@click.option("--prefix-cache", default=256, show_default=True, type=click.IntRange(0), metavar="MIB",
              help="Keys and values of recent prompts that each model keeps; 0: none. Never changes an answer.")
@click.option("--log-level", default="warning", show_default=True, type=click.Choice(LEVELS),
              help="What goes to stderr; info: a line for each request.")
@click.option("--threads", type=click.IntRange(1), metavar="N", help="Threads of the kernels; never changes an answer.")
def serve(
    names: tuple[str, ...], adapters: tuple[str, ...], specs: tuple[str, ...], strict: bool, host: str, port: int,
    faults: tuple[str, ...], overlay: bool, api_key_env: str | None, max_live: int, max_waiting: int,
    prefix_cache: int, log_level: str, threads: int | None,
) -> None:  # fmt: skip
    """Serve models over HTTP as a provider's page says, on the provider's own paths; / tells which.

    \b
    refsample serve --fault top_k_ignored
    refsample serve --spec nebius --spec novita --model mine=./folder --lora pirate=./adapter
    refsample serve --host 0.0.0.0 --api-key-env KEY
    """
    key = key_from(api_key_env)

    from refsample.api.server import create_app, run

    served = by_prefix(specs)
    behaviour = None
    if faults or overlay:
        made = {prefix: faulty(faults, spec, strict) for prefix, spec in served.items()}
        behaviour = {prefix: replace(one, generation_config=overlay) for prefix, one in made.items()}
    for spec, name in unseen(served.values(), faults):
        note(f"nothing on the page of {spec} shows {name}: it is served, and verify cannot see it")
    set_threads(threads)
    say_compiling()
    models = open_models(names or ("tiny",), adapters, prefix_cache << 20)
    if overlay:
        say_defaults(models.values())
    app = create_app(
        models, served, behaviour=behaviour, strict=strict, api_key=key, max_live=max_live, max_waiting=max_waiting
    )
    logging.basicConfig(level=log_level.upper(), format="%(levelname)s %(name)s: %(message)s")
    wrong = f", with faults {', '.join(faults)}" if faults else ""
    try:
        run(app, host, port, ready=lambda url: announce(url, app.state.sites, wrong))
    except KeyboardInterrupt:
        note("stopped")


def by_prefix(specs: tuple[str, ...]) -> dict[str, str]:
    """Prefix -> spec: a single one has the root, several have their names. ParameterError for one given twice."""
    from refsample.spec.provider import provider

    if len(specs) == 1:
        return {"": specs[0]}
    served: dict[str, str] = {}
    for spec in specs:
        name = provider(spec).name
        if name in served:
            raise ParameterError("--spec", spec, "is given twice", "the command line")
        served[name] = spec
    return served


def announce(url: str, sites: Sequence[Site], wrong: str) -> None:
    """One line for each spec: what a client takes as its base URL."""
    for site in sites:
        bases = sorted({endpoint.path.removesuffix(TAILS[endpoint.kind]) for endpoint in site.page.endpoints.values()})
        where = " and ".join(f"{url}{site.prefix}{base}" for base in bases)
        stops = " (Ctrl-C stops)" if site is sites[-1] else ""
        note(f"serving {', '.join(site.shared.models)} as {site.page.name}{wrong} on {where}{stops}")


def open_models(
    names: tuple[str, ...], adapters: tuple[str, ...] = (), prefix_cache: int = 256 << 20
) -> dict[str, Model]:
    """Models, and adapters over them, by the name they are served under. ParameterError for a name given twice."""
    from refsample.generation.load import load

    models: dict[str, Model] = {}
    for entry in names:
        alias, source = named(entry)
        if alias in models:
            raise ParameterError("--model", entry, f"the name {alias} is taken: write OTHER=PATH", "the command line")
        models[alias] = load(source, prefix_cache=prefix_cache)
    put_adapters(models, adapters)
    return models


def faulty(faults: tuple[str, ...], spec: str, strict: bool = False) -> Behaviour:
    """The behaviour that the spec's engine has, with the named faults. Raises ParameterError for an unknown one."""
    from refsample.api.answer import default_behaviour
    from refsample.conformance.faults import apply
    from refsample.spec.provider import provider

    return apply(faults, default_behaviour(provider(spec), strict=strict))


def unseen(specs: Iterable[str], faults: Iterable[str]) -> list[tuple[str, str]]:
    """(spec, fault) where the page has no field that the fault would show in."""
    from refsample.conformance.faults import fault, shows
    from refsample.spec.provider import provider

    return [(spec, name) for spec in specs for name in faults if not shows(fault(name), provider(spec))]


def key_from(variable: str | None) -> str | None:
    """The key in an environment variable, since command lines can be seen. Raises ParameterError without it."""
    if variable is None:
        return None
    if not os.environ.get(variable):
        raise ParameterError("--api-key-env", variable, "this variable is not set, or empty", "the command line")
    return os.environ[variable]
