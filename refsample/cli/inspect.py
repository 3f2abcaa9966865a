"""`refsample inspect`: what a model folder holds, what running it takes, and why it cannot be run if it cannot."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from refsample.render import ansi, columns, visible, wants_colour

if TYPE_CHECKING:
    from refsample.generation.inspection import Inspection

MOST = 12
"""Added tokens that are listed for people; --json has all."""
NOT_RUN = 1


@click.command(short_help="Show what a model folder holds.")
@click.argument("model")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def inspect(model: str, as_json: bool) -> int:
    """Show what MODEL (tiny, a folder, or an id of the local hub cache, with @revision if wanted) holds: sizes, memory,
    tokens, chat templates, generation_config.json. Reads no weights and needs no network.

    Exit code 1 where it cannot be run; it says why and shows the rest.

    \b
    refsample inspect tiny
    refsample inspect org/name@v1.0 --json
    """
    from refsample.generation.inspection import inspect_model

    found = inspect_model(model)
    if as_json:
        click.echo(json.dumps(found.to_dict(), ensure_ascii=False))
    else:
        colour = wants_colour(sys.stdout)
        for title, lines in sections(found, colour):
            click.echo(ansi(title, "bold", on=colour))
            click.echo("\n".join(f"  {line}" for line in lines))
    return 0 if found.runnable else NOT_RUN


def sections(found: Inspection, colour: bool) -> Iterator[tuple[str, list[str]]]:
    """Titles and their lines."""
    yield visible(found.name), list(head(found, colour))
    if found.architecture is not None:
        yield "architecture", columns([(name, shown(value)) for name, value in found.architecture.items()])
    if found.weights is not None:
        yield "weights", columns(list(weights(found.weights)))
    if found.memory is not None:
        yield "memory", columns([(name.replace("_", " "), size(value)) for name, value in found.memory.items()])
    if found.special_tokens is not None:
        yield "special tokens", columns(list(specials(found.special_tokens))) or ["none"]
    if found.tokenizer is not None:
        yield "tokenizer", columns(list(tokenizer(found.tokenizer)))
    if found.chat_templates is not None:
        yield "chat templates", list(templates(found.chat_templates, colour))
    if found.generation_config:
        rows = [(str(e["name"]), text(e["value"]), str(e["use"]), str(e["detail"])) for e in found.generation_config]
        yield "generation_config.json (taken with --generation-config)", columns(rows)


def head(found: Inspection, colour: bool) -> Iterator[str]:
    """What it is and whether it runs."""
    verdict = ansi("yes", "good", on=colour) if found.runnable else ansi("no", "bad", on=colour)
    yield from columns([
        ("family", visible(found.family or "?")), ("folder", visible(found.folder)),
        *([("revision", found.revision)] if found.revision else []),
        *([("adapters", visible(", ".join(found.adapters)))] if found.adapters else []),
        ("fingerprint", found.fingerprint), ("runnable", verdict),
    ])  # fmt: skip
    for reason in found.why_not:
        yield f"- {visible(reason)}"


def weights(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Files, parameters, types."""
    yield "files", f"{facts['files']}, {size(facts['bytes'])}"
    yield "parameters", f"{facts['parameters']:,} in {facts['tensors']} tensors"
    yield "types", ", ".join(f"{name} {count:,}" for name, count in facts["by_dtype"].items()) or "none"


def specials(facts: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Name, text and id of each; a name without an id is in no vocabulary."""
    for name, token in facts.items():
        if name != "ends":
            yield name, text(token["text"]), "no id" if token["id"] is None else str(token["id"])
    for token in facts["ends"]:
        yield "ends a text", text(token["text"]), str(token["id"])


def tokenizer(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Its parts, then the added tokens, as many as a person wants to see."""
    level = ", byte-level" if facts["byte_level"] else ", byte fallback" if facts["byte_fallback"] else ""
    yield "kind", f"{facts['kind']}{level}"
    for name in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
        yield name, " > ".join(facts[name]) or "none"
    yield "ids", f"{facts['ids']:,}; {shown(facts['rows_without_an_id'])} rows of the model have none"
    added = facts["added_tokens"]
    for token in added[:MOST]:
        yield "added", f"{token['id']}  {text(token['text'])}{'  special' if token['special'] else ''}"
    if len(added) > MOST:
        yield "added", f"and {len(added) - MOST} more"


def templates(facts: Mapping[str, Any], colour: bool) -> Iterator[str]:
    """Names, and the example as the default one writes it: its special tokens are bold, and listed below."""
    yield ", ".join(visible(name) for name in facts["names"])
    if facts["refused"] is not None:
        yield f"the example is refused: {visible(facts['refused'])}"
    if facts["rendered"] is None:
        return
    marks = sorted(set(facts["special_tokens"]), key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, marks))) if marks else None
    for line in facts["rendered"].split("\n"):
        plain = visible(line)
        bold = plain if pattern is None else pattern.sub(lambda found: ansi(found[0], "bold", on=colour), plain)
        yield f"| {bold}".rstrip()
    listed = " ".join(text(mark) for mark in dict.fromkeys(facts["special_tokens"])) or "none"
    yield f"{facts['tokens']} tokens, special among them: {listed}"


def size(count: int) -> str:
    """Bytes for people."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} bytes"


def shown(value: Any) -> str:
    """A number or a switch; `?` for what is not known."""
    if value is None:
        return "?"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else visible(str(value))


def text(value: Any) -> str:
    """A value as JSON on one line, cut."""
    line = visible(json.dumps(value, ensure_ascii=False))
    return line if len(line) <= 60 else line[:57] + "..."
