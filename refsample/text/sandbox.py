"""The sandbox in which a chat template runs: jinja2 with the switches and helpers of transformers 5. Knows no messages.

They are those of `transformers.utils.chat_template_utils` (5.x).
`chat` imports it for a folder that has a template: jinja2 takes longer to import than a small model to open.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox
import jinja2.utils

from refsample.errors import CorruptFileError
from refsample.text.chat import Clock

MAX_CHARACTERS = 4_000_000
"""A template that writes more than this is refused: no context is that long."""

_KIND_TESTS = ("string", "iterable", "sequence", "mapping")
_RENDER_ERRORS = (
    jinja2.TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError,
)  # fmt: skip


class Refused(Exception):
    """A template refuses what it is given, or cannot do with it."""


class _Generation(jinja2.ext.Extension):
    """`{% generation %}...{% endgeneration %}` marks the assistant's part for training; here it only passes through."""

    tags = {"generation"}

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        # A call block, as in transformers: what is set inside is not known outside.
        return jinja2.nodes.CallBlock(self.call_method("_through"), [], [], body).set_lineno(line)

    def _through(self, caller: Callable[[], str]) -> str:
        return caller()


class _Dict:
    """`dict(...)` without the class behind it."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


class _Namespace(jinja2.utils.Namespace):
    """`namespace(...)` that refuses underscore names, as transformers does."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # so that `namespace(self=1)` works, as in jinja2
        values: dict[str, Any] = dict(*args[1:], **kwargs)
        for name in values:
            _refuse_underscore(name)
        jinja2.utils.Namespace.__init__(args[0], values)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_underscore(name)
        jinja2.utils.Namespace.__setitem__(self, name, value)


def _refuse_underscore(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"a namespace cannot hold {name!r}")


def _raise_exception(message: str) -> str:
    raise jinja2.exceptions.TemplateError(message)


def _tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """jinja's own filter escapes HTML; a model wants plain JSON."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def compiled(source: str, clock: Clock, origin: str) -> jinja2.Template:
    """A template, ready to be rendered. CorruptFileError, which names `origin`, where it does not parse."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda layout: clock().strftime(layout)
    environment.globals["dict"] = _Dict()
    environment.globals["namespace"] = _Namespace
    try:
        return environment.from_string(source)
    except jinja2.TemplateSyntaxError as error:
        raise CorruptFileError(f"{origin}: chat template, line {error.lineno}: {error.message}") from error


def reads_parts(source: str) -> bool:
    """Whether a template walks through content without asking whether it is text: of a text it would show nothing."""
    tree = jinja2.Environment(extensions=[_Generation, jinja2.ext.loopcontrols]).parse(source)
    walks = False
    for loop in tree.find_all(jinja2.nodes.For):
        over = loop.iter
        if isinstance(over, jinja2.nodes.Getitem) and isinstance(over.arg, jinja2.nodes.Const):
            walks = walks or over.arg.value == "content"
        elif isinstance(over, jinja2.nodes.Getattr):
            walks = walks or over.attr == "content"
        elif isinstance(over, jinja2.nodes.Name):
            walks = walks or over.name == "content"
    return walks and not any(test.name in _KIND_TESTS for test in tree.find_all(jinja2.nodes.Test))


def written(template: jinja2.Template, values: Mapping[str, object]) -> str:
    """What a template writes. Refused for whatever goes wrong in it, and for a text that has no end."""
    pieces: list[str] = []
    size = 0
    try:
        for piece in template.generate(values):
            size += len(piece)
            if size > MAX_CHARACTERS:
                raise jinja2.TemplateError(f"more than {MAX_CHARACTERS} characters")
            pieces.append(piece)
    except _RENDER_ERRORS as error:
        raise Refused(str(error)) from error
    return "".join(pieces)
