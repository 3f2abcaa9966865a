"""`refsample explain`: what every parameter did to every candidate of one token."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from refsample import render
from refsample.checks import known_names
from refsample.cli.options import adapter_option, body_from, check_unicode, open_model, split_rules, text_from
from refsample.cli.score import token_keys
from refsample.cli.terminal import note
from refsample.errors import ParameterError
from refsample.render import ansi, columns, visible, wants_colour

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from refsample.sampling.params import SamplingParams
    from refsample.sampling.pipeline import Distribution
    from refsample.teach.explain import Explanation


@click.command(short_help="Show what each parameter does to each candidate.")
@click.argument("prompt", required=False)
@click.option("--probs", metavar="P,P,...", help="No model: these are the probabilities of the tokens 0, 1, ...")
@click.option("--model", "model_name", default="tiny", show_default=True, metavar="NAME|PATH|ID", help="Whose logits.")
@adapter_option
@click.option("--answer", default="", metavar="TEXT",
              help="What was generated so far; with --probs a JSON list of ids. Penalties see it as output.")
@click.option("--history", metavar="IDS", help="With --probs: a JSON list of ids that stand for the prompt.")
@click.option("-o", "settings", multiple=True, metavar="KEY=VALUE",
              help="A sampling parameter, or a rule of --engine: -o semantics.top_p_rule=gt. Repeatable.")
@click.option("--engine", default="reference", show_default=True, metavar="NAME", help="Whose sampling rules.")
@click.option("--diff", metavar="ENGINE", help="A second engine; shows both, and who is treated otherwise.")
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, metavar="N", help="Candidates to show.")
@click.option("--html", "html_file", type=click.Path(dir_okay=False), metavar="FILE", help="Also write a page.")
@click.option("--threads", type=click.IntRange(1), metavar="N", help="Threads of the kernels; never changes an answer.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def explain(
    prompt: str | None, probs: str | None, model_name: str, lora: str | None, answer: str, history: str | None,
    settings: tuple[str, ...], engine: str, diff: str | None, top: int, html_file: str | None, threads: int | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Explain one token: rank, probability before and after each step, and who cut it.

    \b
    refsample explain "Once upon a time" -o temperature=0.7 -o top_p=0.9 --engine llamacpp
    refsample explain --probs .4,.3,.2,.1 -o top_p=.5 -o temperature=.5 --diff llamacpp
    """
    from refsample.sampling.params import SamplingParams
    from refsample.teach.explain import differing
    from refsample.teach.explain import explain as explained

    given = body_from(settings)
    rules = split_rules(given)
    known_names(given, SamplingParams.__slots__, "explain")
    if isinstance(given.get("logit_bias"), dict):
        given["logit_bias"] = token_keys(given["logit_bias"])
    params = SamplingParams(**given)  # type: ignore[arg-type]
    if (prompt is not None and probs is not None) or (prompt is probs is None and sys.stdin.isatty()):
        raise click.UsageError("give a PROMPT or --probs, one of the two", click.get_current_context())
    with_model = {"--model": model_name != "tiny", "--lora": lora is not None, "--threads": threads is not None}
    for option, is_given in (with_model if probs is not None else {"--history": history is not None}).items():
        if is_given:
            goes = "a PROMPT, not with --probs" if probs is not None else "--probs"
            raise click.UsageError(f"{option} goes with {goes}", click.get_current_context())
    seen: tuple[Any, Callable[[int], str], Sequence[int], Sequence[int]]
    if probs is not None:
        seen = (_logits(probs), str, _ids("--history", history), _ids("--answer", answer or None))
    else:
        seen = _model(prompt, model_name, lora, threads, answer)
    logits, text_of, before, after = seen
    label = ", ".join((engine, *(f"{name}={value}" for name, value in rules.items())))
    asked = [(engine, rules, label), *([] if diff is None else [(diff, {}, diff)])]
    laws = [_law(logits, params, before, after, name, own) for name, own, _ in asked]
    found = [explained(law, shown, text_of, top) for law, (_, _, shown) in zip(laws, asked, strict=True)]
    apart = None if diff is None else differing(laws[0], laws[1])
    difference = [] if apart is None else _difference(apart, laws, [one.engine for one in found], text_of)
    if html_file is not None:
        title = prompt if prompt is not None else f"probabilities {probs}"
        told = [*settings, *(f"{name} {value}" for name, value in (("answer", answer), ("history", history)) if value)]
        _write(html_file, _page(str(title), told, found, difference))
    if as_json:
        data: dict[str, Any] = found[0].to_dict()
        if apart is not None:
            data = {**data, "diff": found[1].to_dict(), "differing": list(apart)}
        click.echo(json.dumps(data, ensure_ascii=False, allow_nan=False))
        return
    for place, one in enumerate(found):
        _print(one, titled=len(found) > 1 or bool(rules), first=place == 0)
    if apart is not None:
        click.echo("\n" + "\n".join(difference))
    if html_file is not None:
        note(f"written to {html_file}")


def _law(
    logits: Any, params: SamplingParams, before: Sequence[int], after: Sequence[int], engine: str,
    rules: Mapping[str, object],
) -> Distribution:  # fmt: skip
    """The law under one engine; errors name it, and the options that histories came from."""
    from refsample.sampling.pipeline import distribution
    from refsample.sampling.semantics import resolve

    semantics = resolve(engine, rules)
    try:
        return distribution(logits, params, before, after, semantics)
    except ParameterError as error:
        name = {"prompt_ids": "--history", "output_ids": "--answer"}.get(error.parameter, error.parameter)
        raise ParameterError(name, error.value, error.rule, f"engine {engine}") from None


def _write(path: str, text: str) -> None:
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ParameterError("--html", path, f"cannot be written: {error.strerror}", "the command line") from None


def _logits(probs: str) -> list[float]:
    """ln of each probability; 0 is a token that cannot be drawn. Raises ParameterError."""
    values = []
    for part in probs.split(","):
        try:
            values.append(float(part))
        except ValueError:
            rule = "must be numbers with commas between them"
            raise ParameterError("--probs", probs, rule, "the command line") from None
    if not all(math.isfinite(p) and p >= 0.0 for p in values) or not any(values):
        raise ParameterError("--probs", probs, "must be >= 0 and not all 0", "the command line")
    if not math.isclose(sum(values), 1.0, abs_tol=1e-6):
        note(f"--probs add up to {sum(values):.6g}: shown divided by it")
    return [math.log(p) if p else -math.inf for p in values]


def _ids(option: str, text: str | None) -> list[int]:
    if text is None:
        return []
    try:
        ids = json.loads(text)
    except ValueError:
        ids = None
    if not isinstance(ids, list):
        raise ParameterError(option, text, "must be a JSON list of token ids, as [0, 2]", "the command line")
    return ids


def _model(
    prompt: str | None, name: str, lora: str | None, threads: int | None, answer: str
) -> tuple[Any, Callable[[int], str], Sequence[int], Sequence[int]]:
    """Logits after prompt and answer, a token's text, and the two as ids."""
    text = text_from(prompt, "PROMPT") or ""
    check_unicode(answer, "--answer")
    model = open_model(name, threads, lora)
    before = model.prompt_ids(text)
    after = model.tokenizer.encode(answer, bos=False) if answer else []
    return model.logits([*before, *after])[-1], lambda i: repr(model.tokenizer.token_text(i)), before, after


def _print(found: Explanation, *, titled: bool, first: bool) -> None:
    colour = wants_colour(sys.stdout)
    if titled:
        click.echo(("" if first else "\n") + ansi(f"engine {found.engine}", "bold", on=colour))
    lines = columns(_rows(found))
    for place, line in enumerate(lines):
        style = "bold" if place == 0 else "dim"
        dimmed = place > 0 and found.candidates[place - 1].cut_by is not None
        click.echo(ansi(visible(line), style, on=colour and (place == 0 or dimmed)))
    click.echo("\n".join(_summary(found)))


def _summary(found: Explanation) -> list[str]:
    """What the table leaves out, line by line."""
    lines = [f"and {found.others} more tokens"] if found.others else []
    lines.append(f"{found.support} of {found.others + len(found.candidates)} tokens can be drawn; - is cut")
    for column in found.columns:
        if column.name == "law":
            lines.append("law: what is drawn from; the columns before it show XTC acting, law both sides of its coin")
        if column.cut:
            known = column.margin is not None
            margin = f", nearest decision {column.margin:.3g} {column.margin_unit} away" if known else ""
            unsure = f"; {column.undecidable} within 1e-6 of the cut" if column.undecidable else ""
            lines.append(f"{column.name} cut {column.cut} and kept {column.mass_kept:.4g} of the mass{margin}{unsure}")
    return lines


def _rows(found: Explanation) -> list[tuple[str, ...]]:
    head = ("rank", "id", "token", *(column.name for column in found.columns), "")
    return [head] + [
        (
            str(c.rank), str(c.token_id), c.text, *("-" if p is None else f"{p:.4f}" if p >= 1e-4 or not p
                                                    else f"{p:.1e}" for p in c.probs),
            " ".join(([f"cut by {c.cut_by}"] if c.cut_by else []) + [f"(within 1e-6 of {n})" for n in c.near]),
        )
        for c in found.candidates
    ]  # fmt: skip


def _difference(
    apart: Sequence[int], laws: Sequence[Distribution], engines: Sequence[str], text_of: Callable[[int], str]
) -> list[str]:
    """Who is drawn otherwise, the likeliest first."""
    if not apart:
        return [f"{engines[0]} and {engines[1]} draw from the same law"]
    likeliest = sorted(apart, key=lambda i: -max(law.probs[i] for law in laws))[:10]
    rows = [("id", "token", *engines)] + [
        (str(i), visible(text_of(i)), *(f"{law.probs[i]:.4f}" if law.support[i] else "never" for law in laws))
        for i in likeliest
    ]
    return [f"{len(apart)} tokens are drawn otherwise:", *columns(rows)]


def _page(title: str, settings: Sequence[str], found: Sequence[Explanation], difference: Sequence[str]) -> str:
    shown = render.escape(visible(title))
    parts = [f"<h1>{shown}</h1>", f"<p>{render.escape(visible(', '.join(settings)) or 'no parameters')}</p>"]
    for one in found:
        head, *rows = _rows(one)
        bars: Mapping[str, float] = {f"{c.token_id} {c.text}": c.probs[-1] or 0.0 for c in one.candidates}
        lines = "<br>".join(render.escape(line) for line in _summary(one))
        parts += [f"<h2>{render.escape(one.engine)}</h2>", render.table(head, rows),
                  render.bars(bars, title="probability of each candidate"), f"<p>{lines}</p>"]  # fmt: skip
    if difference:
        parts.append(f"<pre>{render.escape(chr(10).join(difference))}</pre>")
    return render.page(f"refsample explain: {visible(title)}", *parts)
