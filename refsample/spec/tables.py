"""The provider files as Markdown: one table of all fields, then each provider. Knows no file but those it is given.

`refsample specs --markdown > docs/providers.md` writes the page; a test holds the two equal.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

from refsample.spec.notation import Range
from refsample.spec.records import EndpointSpec, FieldSpec, ParameterSpec, ProviderSpec

_TOP = """# What the providers promise

Generated from `specs/providers/*.toml` by `refsample specs --markdown`; do not edit.

Where a page contradicts itself or the engine behind it, a cell holds two values: `printed` is what the page says, which
`--strict` enforces; `read as` is what is served by default. R: required; d: default; ext: not on the page, taken all
the same; ign: taken without effect and listed in the answer; ref: refused unless it asks for nothing; no entry:
unknown, so ignored and listed, in strict mode a 400. Grades of evidence: A the provider's own page, B upstream
specification or engine, C inference, run executed, 3p a third party. Decisions: what engines do differently behind a
field, by the numbers of the project's list of what a reference must decide.
"""


def document(pages: Sequence[ProviderSpec]) -> str:
    """The whole page."""
    return "\n".join([_TOP, *_matrix(pages), *_behaviours(pages), *(line for page in pages for line in _page(page))])


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("<string", "\\<string") for cell in cells) + " |"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield _row(head)
    yield "|" + " --- |" * len(head)
    yield from map(_row, rows)
    yield ""


def _endpoints(pages: Sequence[ProviderSpec]) -> list[tuple[str, EndpointSpec]]:
    return [
        (page.title if len(page.endpoints) == 1 else f"{page.title} {endpoint.name}", endpoint)
        for page in pages
        for endpoint in page.endpoints.values()
    ]


def _matrix(pages: Sequence[ProviderSpec]) -> Iterator[str]:
    columns = _endpoints(pages)
    names = sorted({name for _, endpoint in columns for name in endpoint.parameters if not set(".[") & set(name)})
    rows = [
        [f"`{name}`", *("" if (p := e.parameters.get(name)) is None else _brief(p) for _, e in columns)]
        for name in names
    ]
    yield "## Every request field\n"
    yield from _table(["field", *(title for title, _ in columns)], rows)


def _brief(parameter: ParameterSpec) -> str:
    """One cell: type, bounds, default, and what is special."""
    said = [_types(parameter)]
    said += [text] if (text := _range(parameter)) else []
    said += ["R"] if parameter.required or parameter.printed_required else []
    said += [f"d={json.dumps(parameter.default)}"] if parameter.default is not None else []
    said += ["ext"] if parameter.extension else []
    said += [{"served": "", "ignored": "ign", "refused": "ref"}[parameter.support]]
    return " ".join(word for word in said if word)


def _types(parameter: ParameterSpec) -> str:
    printed, effective = "/".join(parameter.printed_types), "/".join(parameter.types)
    return effective if printed == effective or parameter.extension else f"printed {printed}, read as {effective}"


def _range(parameter: ParameterSpec) -> str:
    printed, effective = _about(parameter.printed), _about(parameter.effective)
    if printed in ("", effective):
        return effective
    return effective if printed == "x" else f"printed {printed}, read as {effective}"


def _about(bounds: Range | None) -> str:
    return "" if bounds is None else bounds.about()


def _behaviours(pages: Sequence[ProviderSpec]) -> Iterator[str]:
    def reading(page: ProviderSpec, name: str) -> str:
        found = page.behaviours[name]
        if found.printed == found.effective:
            return found.effective
        return f"printed {found.printed}, read as {found.effective}"

    yield "## Behaviours\n"
    rows = [[f"`{name}`", *(reading(page, name) for page in pages)] for name in pages[0].behaviours]
    yield from _table(["behaviour", *(page.title for page in pages)], rows)


def _page(page: ProviderSpec) -> Iterator[str]:
    yield f"## {page.title}\n"
    yield f"Read from {page.source} ({page.version}). Engine: {page.engine}. Error envelope: {page.envelope}."
    keys = [
        (f"header `{auth.name}`" + (f" ({auth.scheme})" if auth.scheme else ""))
        + (", required as printed" if auth.required else "")
        if auth.place == "header" else f"body field `{auth.name}`" for auth in page.auth
    ]  # fmt: skip
    models = f"`GET {page.models_path}` ({page.models_shape})" if page.models_path else "none"
    yield f"Key: {' or '.join(keys)}. List of models: {models}.\n"
    for header in page.headers:
        yield f"Header `{header.name}`: `{header.value}` ({header.source}; grade {header.grade}).\n"
    for endpoint in page.endpoints.values():
        yield f"### POST {endpoint.path}\n"
        head = ["field", "type", "bounds", "default", "meaning", "decisions", "source", "grade"]
        yield from _table(head, map(_parameter, endpoint.parameters.values()))
        for title, records in (("Answer", endpoint.response), ("Chunk of a stream", endpoint.chunk)):
            yield f"{title}:\n"
            head = ["field", "type", "meaning", "decisions", "source", "grade"]
            yield from _table(head, map(_field, records.values()))
    failures = [[name, str(f.status), f.type, f.code] for name, f in page.errors.items()]
    yield "Errors:\n"
    yield from _table(["failure", "status", "type", "code"], failures)
    told = [[name, r.printed, r.effective, r.source, r.grade] for name, r in page.behaviours.items()]
    yield "Readings:\n"
    yield from _table(["behaviour", "printed", "read as", "source", "grade"], told)


def _parameter(p: ParameterSpec) -> list[str]:
    notes = ["required"] * p.required + ["required as printed"] * (p.printed_required and not p.required)
    notes += ["null"] * p.nullable + ["not null as printed"] * (
        p.nullable and not p.printed_nullable and not p.extension
    )
    notes += [f"for {' or '.join(p.kept_for)} as printed"] if p.kept_for else []
    notes += ["extension"] * p.extension + [p.support] * (p.support != "served")
    bounds = "; ".join(filter(None, (_range(p), _count(p.length, "entries"), _count(p.item_length, "characters"),
                                     _choices(p))))  # fmt: skip
    default = "" if p.default is None else json.dumps(p.default)
    told = [p.meaning, _numbers(p.decisions), p.source, p.grade]
    return [f"`{p.name}`", "; ".join([_types(p), *notes]), bounds, default, *told]


def _choices(p: ParameterSpec) -> str:
    read, printed = (" \\/ ".join(choices) for choices in (p.choices, p.printed_choices))
    return read if p.choices == p.printed_choices else f"printed {printed}, read as {read}"


def _count(bounds: Range | None, what: str) -> str:
    return "" if bounds is None else f"{bounds.about(what)}"


def _field(field: FieldSpec) -> list[str]:
    types = "/".join(field.types)
    if field.printed_types != field.types:
        types = f"printed {'/'.join(field.printed_types)}, read as {types}"
    notes = ["null"] * field.nullable + ["optional"] * (not field.required) + ["extension"] * field.extension
    told = [field.meaning, _numbers(field.decisions), field.source, field.grade]
    return [f"`{field.name}`", "; ".join([types, *notes]), *told]


def _numbers(decisions: Iterable[int]) -> str:
    return ", ".join(map(str, decisions))
