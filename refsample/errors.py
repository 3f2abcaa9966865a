"""Every error that refsample raises on purpose. It knows nothing of the code that raises them.

RefsampleError
├── ParameterError            a user's parameter: which, what value, which rule, whose rule   (HTTP 400)
│   └── ContextLengthError    prompt and max_tokens do not fit the model's context             (HTTP 400)
├── UnknownModelError         no such model here                                               (HTTP 404)
├── ModelError                a model folder that cannot be loaded
│   ├── MissingFileError      a file that has to be there is not
│   ├── CorruptFileError      a file is damaged: header, size, JSON
│   ├── MismatchError         files that contradict each other: shape, dtype, vocabulary, left-over tensors
│   └── UnsupportedModelError a family, a switch or a file format that refsample does not run
├── SpecError                 a spec file that says something impossible
├── BusyError                 more requests wait than this server keeps                        (HTTP 429)
├── RequestTimeoutError       a request ran longer than it said it would wait                  (HTTP 408)
├── EndpointError             an endpoint under test that cannot be reached or does not speak HTTP/JSON
├── RecordError               a recorded verification that cannot be read back
└── MissingExtraError         an optional dependency is not installed
"""

from __future__ import annotations


class RefsampleError(Exception):
    """Base of the tree; its text is one line that says what is wrong and, where it can, what to do."""

    def __reduce__(self) -> tuple[object, ...]:
        # The usual way calls the class with `args`, the one line, which is not what the constructors below take.
        return _rebuilt, (type(self), self.args, self.__dict__)


class ParameterError(RefsampleError):
    """A parameter that breaks a rule.

    `parameter` is its name as the user wrote it, `value` what was given (`...` where nothing was), `rule` what is
    allowed, `source` who says so (a provider's page, an engine, this library), `code` the kind of mistake as
    OpenAI's error bodies name it.
    """

    def __init__(
        self, parameter: str, value: object, rule: str, source: str = "refsample", code: str = "invalid_value"
    ) -> None:
        self.parameter, self.value, self.rule, self.source, self.code = parameter, value, rule, source, code
        given = "" if value is ... else f"={shorten(value)}"
        super().__init__(f"{shown(parameter)}{given}: {rule} (rule of {source})")


class ContextLengthError(ParameterError):
    """Prompt and requested tokens do not fit into the model's context."""


class UnknownModelError(RefsampleError):
    """A model name that names nothing here."""

    def __init__(self, name: str, known: tuple[str, ...] = (), hint: str = "") -> None:
        self.name, self.known, self.hint = name, known, hint
        reason = f": {hint}" if hint else ""
        others = f"; known here: {', '.join(known)}" if known else ""
        super().__init__(f"model {shorten(name)} does not exist{reason}{others}")


class ModelError(RefsampleError):
    """A model folder that cannot be loaded."""


class MissingFileError(ModelError):
    """A file that has to be there is not."""


class CorruptFileError(ModelError):
    """A damaged file: header, size or JSON."""


class MismatchError(ModelError):
    """Files of one folder that contradict each other."""


class UnsupportedModelError(ModelError):
    """A family, switch or format that refsample does not run."""


class SpecError(RefsampleError):
    """A spec file that says something impossible."""


class BusyError(RefsampleError):
    """More requests wait than a server keeps: try again later."""


class RequestTimeoutError(RefsampleError):
    """A request that ran longer than it said it would wait."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"the request was not finished within its own limit of {seconds:g} s")


class EndpointError(RefsampleError):
    """An endpoint that cannot be reached or does not speak HTTP and JSON."""


class RecordError(RefsampleError):
    """A recorded verification that cannot be read back."""


class MissingExtraError(RefsampleError):
    """An optional dependency is not installed."""

    def __init__(self, extra: str, module: str) -> None:
        self.extra, self.module = extra, module
        super().__init__(f"this needs the package {module}: pip install 'refsample[{extra}]'")


def _rebuilt(kind: type[RefsampleError], args: tuple[object, ...], fields: dict[str, object]) -> RefsampleError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(fields)
    return error


def shown(name: str, limit: int = 80) -> str:
    """A name as it is. Names come from users and files too: one that would break the line is shown as a literal."""
    return name if name.isprintable() and 0 < len(name) <= limit else shorten(name, limit)


def shorten(value: object, limit: int = 80) -> str:
    """repr of a value, cut so that an error stays one line."""
    try:
        text = repr(value).replace("\n", " ")
    except (ValueError, RecursionError):  # Python writes no integer of more than 4300 digits, nor what nests too deep
        text = f"<{type(value).__name__} too long to write>"
    return text if len(text) <= limit else text[: limit - 3] + "..."
