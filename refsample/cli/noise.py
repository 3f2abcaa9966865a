"""`refsample noise`: what each emulated precision does to a model's laws, against float64."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from refsample.cli.options import adapter_option, check_unicode, open_model
from refsample.cli.terminal import Progress
from refsample.errors import ParameterError
from refsample.render import ansi, columns, wants_colour

if TYPE_CHECKING:
    from refsample.generation.noise import Noise

DECADES = 8
"""The picture shows mean KLs from 1e-8 nats to 1, two marks a decade."""


@click.command(short_help="Measure what rounding does to a model.")
@click.argument("model_name", metavar="[MODEL]", default="tiny")
@adapter_option
@click.option("-p", "--prompts", metavar="FILE",
              help="Prompts, a blank line between two; in a .jsonl file a line each, text or token ids.")
@click.option("-e", "--emulation", "names", multiple=True, metavar="NAME",
              help="Only this emulation (see docs/numerics.md). Repeatable.")
@click.option("--threads", type=click.IntRange(1), metavar="N", help="Threads of the kernels; never changes a figure.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object; null for what is not finite.")
def noise(
    model_name: str, lora: str | None, prompts: str | None, names: tuple[str, ...], threads: int | None, as_json: bool
) -> None:  # fmt: skip
    """Measure how far each emulated precision moves the laws of MODEL (default tiny) from the float64 truth.

    Over every position of the prompts: mean KL(truth || emulation) in nats, how often the likeliest token is the same,
    the root mean square error of the next token's probability, the error of its logprob (median, 95 %, 99 %, worst),
    and the logit error over the 64 likeliest tokens, which the verifier's error bars are made of.

    \b
    refsample noise tiny -e bf16 -e int8-token
    """
    from refsample.generation.noise import default_prompts, measure, truth_of
    from refsample.model.emulations import ARITHMETICS

    chosen = tuple(dict.fromkeys(names)) or tuple(name for name in ARITHMETICS if name != "float64")
    for name in chosen:
        if name not in ARITHMETICS:
            raise ParameterError("--emulation", name, f"must be one of {', '.join(ARITHMETICS)}", "the command line")
    given = None if prompts is None else read_prompts(prompts)
    model, progress = open_model(model_name, threads, lora), Progress()
    texts = default_prompts(model) if given is None else given
    progress("float64, the truth")
    truth = truth_of(model, texts, lambda done: progress("float64, the truth", bar(done / len(texts))))
    found: list[Noise] = []
    progress(f"{len(chosen)} emulations")
    for one in measure(
        model, truth, chosen,
        lambda name, done: progress(f"{len(chosen)} emulations",
                                    f"{bar((len(found) + done / len(texts)) / len(chosen))} {name}"),
    ):  # fmt: skip
        found.append(one)
    progress.clear()
    found.sort(key=lambda one: math.inf if math.isnan(one.kl) else one.kl)
    if as_json:
        shown = {"model": model.name, "truth": "float64", "prompts": len(texts), "positions": truth.positions}
        click.echo(json.dumps(shown | {"emulations": [as_record(one) for one in found]}))
        return
    click.echo(f"{model.name}: {truth.positions} positions of {len(texts)} prompts, against float64; errors in nats")
    for place, line in enumerate(table(found)):
        click.echo(ansi(line, "bold", on=wants_colour(sys.stdout) and place == 0))


def bar(share: float, width: int = 24) -> str:
    """How far something has come, as a bar of fixed width."""
    return f"[{'=' * round(share * width):<{width}}]"


def decades(kl: float) -> str:
    """A mean KL on a log scale, two marks a decade; nothing for 1e-8 and less, or for what is no number."""
    if not kl > 0:
        return ""
    return "=" * round(2 * min(max(math.log10(kl) + DECADES, 0), DECADES))


def table(found: Sequence[Noise]) -> list[str]:
    """A line for each emulation under a heading; then what each is, and what was left out."""
    picture = "1e-8 .. 1".ljust(2 * DECADES)
    rows: list[tuple[str, ...]] = [("emulation", "mean KL", picture, "same top", "RMS dp", "|dlogp| 50 %", "95 %",
                                    "99 %", "worst", "logits")]  # fmt: skip
    for one in found:
        errors = [f"{value:.1e}" for value in one.dlogp]
        rows.append((one.name, f"{one.kl:.2e}", decades(one.kl), f"{100 * one.same_top:.2f} %", f"{one.rms_dp:.1e}",
                     *errors, f"{one.logit_error:.1e}"))  # fmt: skip
    left_out = [f"{one.name}: {one.not_finite} positions left out, their logits are not finite"
                for one in found if one.not_finite]  # fmt: skip
    return [*columns(rows), "", *columns([(one.name, one.about) for one in found]), *left_out]


def as_record(one: Noise) -> dict[str, object]:
    """The figures for JSON, which knows no NaN."""
    from refsample.generation.noise import QUANTILES

    record = asdict(one)
    record["dlogp"] = {f"{share:g}": value for share, value in zip(QUANTILES, one.dlogp, strict=True)}
    if not one.positions:
        gone = ("kl", "kl_median", "kl_max", "same_top", "rms_dp", "logit_error")
        record |= dict.fromkeys(gone) | {"dlogp": dict.fromkeys(record["dlogp"])}
    return record


def read_prompts(path: str) -> list[str | list[int]]:
    """Prompts of a file: JSON text or lists of ids, one a line, where it ends in .jsonl; else text between blank lines.

    Raises ParameterError.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ParameterError("--prompts", path, f"cannot be read: {error.strerror}", "the command line") from None
    except UnicodeDecodeError:
        raise ParameterError("--prompts", path, "must be UTF-8", "the command line") from None
    if not path.endswith(".jsonl"):
        found: list[str | list[int]] = [part.strip("\n") for part in text.split("\n\n") if part.strip()]
    else:
        found = [json_prompt(line, number, path) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not found:
        raise ParameterError("--prompts", path, "holds no prompt", "the command line")
    return found


def json_prompt(line: str, number: int, path: str) -> str | list[int]:
    """One line of a .jsonl file. Raises ParameterError."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    whole = isinstance(value, list) and all(type(one) is int for one in value)
    if not isinstance(value, str) and not whole:
        rule = f"line {number} must be a JSON string or a list of token ids"
        raise ParameterError("--prompts", path, rule, "the command line")
    if isinstance(value, str):
        check_unicode(value, "--prompts")
    return value  # type: ignore[no-any-return]
