"""`refsample score`: how likely a model finds a text that is given."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from refsample.checks import known_names
from refsample.cli.options import adapter_option, body_from, check_unicode, open_model, split_rules, text_from
from refsample.cli.streaming import hint, watching
from refsample.cli.terminal import show
from refsample.cli.transcripts import read_lines
from refsample.render import Token, ansi, columns, visible, wants_colour

if TYPE_CHECKING:
    from refsample.generation.model import Model
    from refsample.generation.scoring import Scored, Transcript
    from refsample.sampling.params import SamplingParams
    from refsample.spec.types import Semantics

LONG = 500
"""Fewer tokens are scored before anybody would look at a bar."""


@click.command(short_help="Say how likely a given text is.")
@click.argument("prompt", required=False)
@click.argument("completion", required=False)
@click.option("--file", "source", metavar="FILE|-",
              help='Many at once: one JSON object a line, {"prompt": ..., "completion": ...}; - is standard input.')
@click.option("--model", "model_name", default="tiny", show_default=True, metavar="NAME|PATH|ID", help="Who scores.")
@adapter_option
@click.option("-o", "settings", multiple=True, metavar="KEY=VALUE",
              help="A sampling parameter of the processed law, or a rule of --engine: semantics.NAME=VALUE.")
@click.option("--engine", default="reference", show_default=True, metavar="NAME", help="Whose sampling rules.")
@click.option("--top", type=click.IntRange(0), default=0, metavar="N", help="List the N best tokens of each place too.")
@click.option("--threads", type=click.IntRange(1), metavar="N", help="Threads of the kernels; never changes an answer.")
@click.option("--stream-layers", is_flag=True,
              help="For a model larger than memory: each layer is read from disk once for all transcripts.")
@click.option("--resume", metavar="DIR",
              help="With --stream-layers: keep what is done in this folder, and go on from there after a stop.")
@click.option("--json", "as_json", is_flag=True,
              help="One JSON object, with --file one a line; a token outside the support has logprob null.")
def score(
    prompt: str | None, completion: str | None, source: str | None, model_name: str, lora: str | None,
    settings: tuple[str, ...], engine: str, top: int, threads: int | None, stream_layers: bool, resume: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Score COMPLETION after PROMPT token by token: raw and processed logprob, rank, entropy, whether it could be drawn
    at all. An empty PROMPT scores a whole text from its second token on.

    \b
    refsample score "Once upon a time" " there was a girl" -o top_p=0.9 --top 3
    refsample score --file transcripts.jsonl --json
    refsample score --file transcripts.jsonl --model ./large --stream-layers --resume state
    """
    from refsample.generation.scoring import transcript
    from refsample.sampling.params import SamplingParams
    from refsample.sampling.semantics import resolve

    if source is not None and prompt is not None:
        raise click.UsageError("--file stands instead of PROMPT and COMPLETION")
    if source is None and completion is None:
        raise click.UsageError(f"Missing argument '{'PROMPT' if prompt is None else 'COMPLETION'}', or --file")
    if resume is not None and not stream_layers:
        raise click.UsageError("--resume goes with --stream-layers")
    given = body_from(settings)
    semantics = resolve(engine, split_rules(given))
    known_names(given, SamplingParams.__slots__, "score")
    if isinstance(given.get("logit_bias"), dict):
        given["logit_bias"] = token_keys(given["logit_bias"])
    sampling = SamplingParams(**given)  # type: ignore[arg-type]  # checked at construction
    if source is not None:
        lines = list(read_lines(source))
        model = open_model(model_name, threads, lora, stream_layers)
        known = [transcript(model, line.prompt, line.completion, line.name) for line in lines]  # type: ignore[arg-type]  # the same
        quiet = as_json and sys.stdout.isatty()
        if stream_layers:
            found = streamed(model, known, sampling, semantics, top, resume, quiet=quiet)
        else:
            hint(model)
            found = scored(model, known, sampling, semantics, top, quiet=quiet)
        show_many(model, [line.number for line in lines], found, as_json=as_json)
        return
    text = text_from(prompt, "PROMPT") or ""
    assert completion is not None
    check_unicode(completion, "COMPLETION")
    model = open_model(model_name, threads, lora, stream_layers)
    known = [transcript(model, text, completion)]
    if stream_layers:
        (one,) = streamed(model, known, sampling, semantics, top, resume, quiet=as_json and sys.stdout.isatty())
    else:
        (one,) = scored(model, known, sampling, semantics, top, quiet=True)
    if as_json:
        click.echo(json.dumps(plain(model, one)))
    else:
        show_one(model, one)


def scored(
    model: Model, known: list[Transcript], params: SamplingParams, semantics: Semantics, top: int, *, quiet: bool
) -> Iterator[Scored]:
    """Each transcript scored, in their order, and a bar on stderr that says how far it has come."""
    from refsample.generation.scoring import score_many

    with bar(sum(len(one.ids) - one.start for one in known), quiet) as advance:
        yield from score_many(model, known, params, semantics, top, advance)


def streamed(
    model: Model, known: list[Transcript], params: SamplingParams, semantics: Semantics, top: int, resume: str | None,
    *, quiet: bool,
) -> Iterator[Scored]:  # fmt: skip
    """The same layer by layer from disk."""
    from refsample.generation.scoring import score_many

    with watching(quiet, resume) as watch:
        yield from score_many(model, known, params, semantics, top, resume=resume, watch=watch)


@contextmanager
def bar(tokens: int, quiet: bool) -> Iterator[Callable[[int], None] | None]:
    """click's bar over so many tokens, where they are many and stderr is a terminal."""
    if quiet or tokens < LONG or not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=tokens, label="tokens", show_pos=True, file=sys.stderr) as shown:
        yield shown.update


def plain(model: Model, one: Scored) -> dict[str, Any]:
    """Sums and tokens for JSON."""
    sums = {name: finite(getattr(one, name)) for name in ("total", "per_token", "raw_total", "perplexity", "entropy")}
    tokens = []
    for t in one.tokens:
        token: dict[str, Any] = {
            "token_id": t.token_id, "text": t.text, "raw_logprob": finite(t.raw_logprob),
            "logprob": finite(t.logprob), "rank": t.rank, "in_support": t.in_support, "entropy": t.entropy,
        }  # fmt: skip
        if t.top:
            named = ((i, model.tokenizer.token_text(i), finite(value)) for i, value in t.top)
            token["top"] = [{"token_id": i, "text": text, "logprob": value} for i, text, value in named]
        tokens.append(token)
    return {**sums, "tokens": tokens}


def show_one(model: Model, one: Scored) -> None:
    """The text, tinted where that can be seen, and a table of its tokens."""
    if wants_colour(sys.stdout):
        show([Token(t.text, math.exp(t.raw_logprob)) for t in one.tokens])
        click.echo("\n")
    head = ("token", "raw", "processed", "rank", "support", "entropy")
    rows = [head + (("best",) if one.tokens[0].top else ())]
    for t in one.tokens:
        row = (
            visible(repr(t.text)), f"{t.raw_logprob:.4f}", f"{t.logprob:.4f}", str(t.rank),
            "in" if t.in_support else "out", f"{t.entropy:.4f}",
        )  # fmt: skip
        best = " ".join(f"{visible(repr(model.tokenizer.token_text(i)))} {value:.4f}" for i, value in t.top)
        rows.append(row + ((best,) if t.top else ()))
    show_table(rows)
    click.echo(f"total {sums(one.total, len(one.tokens))}; perplexity {one.perplexity:.4g}, entropy {one.entropy:.4f}")


def show_many(model: Model, numbers: list[int], found: Iterator[Scored], *, as_json: bool) -> None:
    """A JSON object a line, each as soon as it is there, or a table with a last line for all."""
    if as_json:
        for one in found:
            click.echo(json.dumps(plain(model, one)))
        return
    rows: list[tuple[str, ...]] = [("line", "tokens", "total", "a token", "perplexity", "entropy")]
    total, tokens = 0.0, 0
    for number, one in zip(numbers, found, strict=True):
        total, tokens = total + one.total, tokens + len(one.tokens)
        numbered = (str(number), str(len(one.tokens)), f"{one.total:.4f}", f"{one.per_token:.4f}")
        rows.append((*numbered, f"{one.perplexity:.4g}", f"{one.entropy:.4f}"))
    show_table(rows)
    if tokens:
        click.echo(f"total {sums(total, tokens)} of {len(rows) - 1} transcripts")


def show_table(rows: list[tuple[str, ...]]) -> None:
    """Columns under a bold first line."""
    for place, line in enumerate(columns(rows)):
        click.echo(ansi(line, "bold", on=place == 0 and wants_colour(sys.stdout)))


def sums(total: float, tokens: int) -> str:
    """A sum of logprobs in words."""
    return f"{total:.4f} nat, {total / tokens:.4f} a token over {tokens}"


def token_keys(bias: object) -> object:
    """JSON has text keys only; token ids are numbers. Keys that are none stay, for the parameter's own check."""
    if not isinstance(bias, dict):
        return bias
    return {int(key) if str(key).lstrip("-").isdecimal() else key: value for key, value in bias.items()}


def finite(value: float) -> float | None:
    """JSON has no infinity: None stands for the logprob of a token that cannot be drawn."""
    return value if math.isfinite(value) else None
