"""`refsample specs`: the spec files there are, and what each says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import click

from refsample.errors import SpecError
from refsample.render import columns


@click.command(short_help="List spec files, or show one.")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--openapi", "as_openapi", is_flag=True, help="A provider's OpenAPI 3.1 document.")
@click.option("--strict", is_flag=True, help="With --openapi: as the page prints it.")
@click.option("--markdown", is_flag=True, help="All providers as the tables of docs/providers.md.")
def specs(name: str | None, as_json: bool, as_openapi: bool, strict: bool, markdown: bool) -> None:
    """List the spec files, or show the one called NAME: a provider's parameters, an engine's rules."""
    from refsample.spec.load import engine, engines, is_path, read
    from refsample.spec.openapi import openapi
    from refsample.spec.provider import provider, providers
    from refsample.spec.tables import document

    if markdown and (as_json or as_openapi):
        raise click.UsageError("--markdown is a format of its own: leave out --json and --openapi")
    if markdown:
        click.echo(document([provider(name)] if name else [provider(each) for each in providers()]), nl=False)
        return
    if as_openapi and name is None:
        raise click.UsageError("--openapi needs the NAME of a provider")
    if strict and not as_openapi:
        raise click.UsageError("--strict goes with --openapi")
    if as_openapi:
        click.echo(json.dumps(openapi(provider(str(name)), strict=strict), ensure_ascii=False))
        return
    if name is None:
        found = [("engine", engine(n)) for n in engines()] + [("provider", provider(n)) for n in providers()]
        if as_json:
            rows = [{"kind": k, "name": s.name, "title": s.title, "version": s.version} for k, s in found]
            click.echo(json.dumps(rows))
            return
        table = [("kind", "name", "version", "title"), *((k, s.name, s.version, s.title) for k, s in found)]
        click.echo("\n".join(columns(table)))
        return
    shown: dict[str, Any] = {}
    page = is_path(name) and Path(name).is_file() and "endpoints" in read(Path(name))
    if name in engines() or (is_path(name) and not page):
        shown["engine"] = engine(name)
    if name in providers() or page:
        shown["provider"] = provider(name)
    if not shown:
        raise SpecError(f"spec {name!r} does not exist; known here: {', '.join((*engines(), *providers()))}")
    if as_json:
        click.echo(json.dumps({kind: plain(spec) for kind, spec in shown.items()}, ensure_ascii=False))
        return
    click.echo("\n\n".join("\n".join((engine_lines if kind == "engine" else provider_lines)(spec))
                           for kind, spec in shown.items()))


def plain(value: object) -> Any:
    """Dataclasses, mappings and tuples as JSON knows them; an infinite bound becomes text."""
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return str(value)
    return value


def engine_lines(spec: Any) -> list[str]:
    """An engine file for people: its rules one by one, then the differences known of it."""
    rows = []
    for field in fields(spec.semantics):
        value = getattr(spec.semantics, field.name)
        rows.append((f"  {field.name}", " ".join(value) if isinstance(value, tuple) else str(value)))
    lines = [f"engine {spec.name}: {spec.title}", f"version {spec.version}; read from {spec.source}", *columns(rows)]
    if spec.aliases:
        lines.append("  field names: " + ", ".join(f"{ours} = {theirs}" for ours, theirs in spec.aliases.items()))
    if spec.known:
        lines += ["known differences:", *columns([(f"  {k.check}", k.summary) for k in spec.known])]
    return lines


def provider_lines(spec: Any) -> list[str]:
    """A provider file for people: every parameter of every endpoint; a printed range only where it is another one."""
    lines = [f"provider {spec.name}: {spec.title}", f"version {spec.version}; read from {spec.source}",
             f"engine {spec.engine}; errors as {spec.envelope}; key in "
             + " or ".join(f"{auth.place} {auth.name}" for auth in spec.auth)]
    readings = [(f"  {name}", f"{r.effective} (printed: {r.printed})", r.grade, r.source)
                for name, r in spec.behaviours.items() if r.printed != r.effective]
    if readings:
        lines += ["read otherwise than printed:", *columns(readings)]
    for endpoint in spec.endpoints.values():
        rows = [("  parameter", "range", "default", "grade", "meaning")]
        for p in endpoint.parameters.values():
            printed, effective = ("any" if bound is None else bound.about() for bound in (p.printed, p.effective))
            extent = effective if effective != "any" else "|".join(p.types)
            notes = ["extension"] * p.extension + [p.support] * (p.support != "served")
            notes += [f"printed: {printed}"] if printed != effective and not p.extension else []
            extent += f" ({', '.join(notes)})" if notes else ""
            default = "required" if p.required else "" if p.default is None else json.dumps(p.default)
            rows.append((f"  {p.name}", extent, default, p.grade, p.meaning))
        lines += ["", f"POST {endpoint.path}", *columns(rows)]
    return lines
