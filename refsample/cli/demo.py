"""`refsample demo`: the main job in one go, offline: write text, pass an honest endpoint, find a faulty one out."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from refsample.cli.answer import print_stream
from refsample.cli.serve import faulty
from refsample.cli.terminal import Progress, say
from refsample.render import Token, ansi, ansi_token, columns, wants_colour

if TYPE_CHECKING:
    from refsample.conformance.report import Report
    from refsample.generation.behaviour import Behaviour
    from refsample.generation.model import Model

PROMPT, SEED = "Once upon a time", 1
DEFAULT_FAULT = "temperature_after_top_p"
"""An order swapped: the answers look right, no field is missing, and text-comparing tools pass it."""
PROFILE = "smoke"


@click.command(short_help="Show the main job, offline, in under a minute.")
@click.option("--fault", default=DEFAULT_FAULT, show_default=True, metavar="NAME", help="Fault of the second endpoint.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), metavar="N", help="Draws the probes.")
def demo(fault: str, seed: int) -> int:
    """Show the main job on the embedded model, offline: a completion, an honest endpoint, a faulty one.

    Exit code 0 only if the honest endpoint is found consistent and the fault of the other is named first.
    The last line of stdout is one JSON object.
    """
    from refsample.generation.load import load

    start, progress = time.perf_counter(), Progress()
    behaviour = faulty((fault,), "openai")
    progress("loading tiny; a first run compiles the kernels")
    model = load("tiny")
    write_story(model, progress)
    honest = check(model, None, "an honest endpoint", seed, progress)
    wrong = check(model, behaviour, f"an endpoint with {fault}", seed, progress)
    named = wrong.faults[0][0] if wrong.faults else None
    outcome: dict[str, Any] = {
        "ok": honest.verdict == "consistent" and wrong.verdict == "inconsistent" and named == fault,
        "honest": figures(honest),
        "faulty": {**figures(wrong), "fault_served": fault, "fault_named": named},
        "seconds": round(time.perf_counter() - start, 1),
    }
    click.echo(json.dumps(outcome))
    return 0 if outcome["ok"] else 1


def write_story(model: Model, progress: Progress) -> None:
    """A completion, its tokens tinted by probability."""
    from refsample.api.stream import stream

    body = {"prompt": PROMPT, "max_tokens": 96, "temperature": 0.8, "seed": SEED, "logprobs": 0}
    chunks = stream(model, body)
    first = next(chunks)
    progress.clear()
    on = wants_colour(sys.stdout)
    click.echo(ansi("1. A completion", "bold", on=on))
    if on:
        scale = (1.0, 0.3, 0.1, 0.03, 0.01, 0.001)
        legend = "".join(ansi_token(Token(f" {share:g} ", share)) for share in scale)
        click.echo(f"   probability of each token under the raw law: {legend}")
    say(PROMPT)
    print_stream(joined(first, chunks))
    say("\n\n")


def joined(first: Any, rest: Any) -> Any:
    """The stream again, after its first chunk was waited for."""
    yield first
    yield from rest


def check(model: Model, behaviour: Behaviour | None, what: str, seed: int, progress: Progress) -> Report:
    """Serve the model on a loopback port, verify that endpoint over HTTP, and print the outcome."""
    from refsample.api.server import LocalServer, create_app
    from refsample.conformance.verify import verify

    on = wants_colour(sys.stdout)
    with LocalServer(create_app({model.name: model}, "openai", behaviour=behaviour)) as url:
        watch = progress.requests(f"verifying {what}")
        report = verify(url, model, "openai", None, PROFILE, model=model.name, seed=seed, on_request=watch)
    progress.clear()
    click.echo(ansi(f"{'2' if behaviour is None else '3'}. Verifying {what} at {url}", "bold", on=on))
    failed = [c for c in report.checks if c.verdict == "inconsistent"]
    for line in columns([(f"   {c.id}", " ".join(c.evidence.split())) for c in failed]):
        click.echo(line)
    named = f"; likeliest {report.faults[0][0]} ({report.faults[0][1]:.0%})" if report.faults and failed else ""
    style = "good" if report.verdict == "consistent" else "bad"
    click.echo(f"   {len(report.checks)} checks, {report.requests} requests, {report.tokens} output tokens: "
               + ansi(report.verdict, style, on=on) + named + "\n")
    return report


def figures(report: Report) -> dict[str, Any]:
    """What the last line tells of a report."""
    return {"verdict": report.verdict, "requests": report.requests, "tokens": report.tokens}
