"""`refsample score`: how likely a model finds a text that is given."""

from __future__ import annotations

import json
import math
import sys

import click

from refsample.checks import known_names
from refsample.cli.options import adapter_option, body_from, check_unicode, open_model, split_rules, text_from
from refsample.cli.terminal import show
from refsample.render import Token, ansi, columns, visible, wants_colour


@click.command(short_help="Say how likely a given text is.")
@click.argument("prompt")
@click.argument("completion")
@click.option("--model", "model_name", default="tiny", show_default=True, metavar="NAME|PATH|ID", help="Who scores.")
@adapter_option
@click.option("-o", "settings", multiple=True, metavar="KEY=VALUE",
              help="A sampling parameter of the processed law, or a rule of --engine: semantics.NAME=VALUE.")
@click.option("--engine", default="reference", show_default=True, metavar="NAME", help="Whose sampling rules.")
@click.option("--threads", type=click.IntRange(1), metavar="N", help="Threads of the kernels; never changes an answer.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object; a token outside the support has logprob null.")
def score(
    prompt: str, completion: str, model_name: str, lora: str | None, settings: tuple[str, ...], engine: str,
    threads: int | None, as_json: bool,
) -> None:  # fmt: skip
    """Score COMPLETION after PROMPT token by token: raw and processed logprob, rank, whether it could be drawn at all.

    \b
    refsample score "Once upon a time" " there was a girl" -o top_p=0.9
    """
    from refsample.generation.scoring import score as score_text
    from refsample.sampling.params import SamplingParams
    from refsample.sampling.semantics import resolve

    given = body_from(settings)
    semantics = resolve(engine, split_rules(given))
    known_names(given, SamplingParams.__slots__, "score")
    if isinstance(given.get("logit_bias"), dict):
        given["logit_bias"] = token_keys(given["logit_bias"])
    text = text_from(prompt, "PROMPT") or ""
    check_unicode(completion, "COMPLETION")
    model = open_model(model_name, threads, lora)
    scored = score_text(model, text, completion, SamplingParams(**given), semantics)  # type: ignore[arg-type]
    rows = [
        {
            "token_id": t.token_id, "text": t.text, "raw_logprob": finite(t.raw_logprob),
            "logprob": finite(t.logprob), "rank": t.rank, "in_support": t.in_support,
        }
        for t in scored.tokens
    ]  # fmt: skip
    if as_json:
        click.echo(json.dumps({"total": finite(scored.total), "per_token": finite(scored.per_token), "tokens": rows}))
        return
    colour = wants_colour(sys.stdout)
    if colour:
        show([Token(t.text, math.exp(t.raw_logprob)) for t in scored.tokens])
        click.echo("\n")
    table = [("token", "raw", "processed", "rank", "support")] + [
        (
            visible(repr(t.text)), f"{t.raw_logprob:.4f}", f"{t.logprob:.4f}", str(t.rank),
            "in" if t.in_support else "out",
        )
        for t in scored.tokens
    ]
    for place, line in enumerate(columns(table)):
        click.echo(ansi(line, "bold", on=colour and place == 0))
    click.echo(f"total {scored.total:.4f} nat, {scored.per_token:.4f} a token over {len(scored.tokens)}")


def token_keys(bias: object) -> object:
    """JSON has text keys only; token ids are numbers. Keys that are none stay, for the parameter's own check."""
    if not isinstance(bias, dict):
        return bias
    return {int(key) if str(key).lstrip("-").isdecimal() else key: value for key, value in bias.items()}


def finite(value: float) -> float | None:
    """JSON has no infinity: None stands for the logprob of a token that cannot be drawn."""
    return value if math.isfinite(value) else None
