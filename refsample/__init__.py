"""refsample: a reference sampler, the thing that a hosted language model is compared against.

The public names are loaded at first use, so that `import refsample` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from refsample.api.chat import chat
    from refsample.api.completions import complete
    from refsample.api.stream import stream
    from refsample.conformance.verify import verify
    from refsample.generation.load import load
    from refsample.generation.scoring import score, score_many
    from refsample.sampling.own import OwnStep
    from refsample.sampling.params import SamplingParams
    from refsample.sampling.pipeline import distribution

__version__ = "0.1.0"

__all__ = [
    "OwnStep",
    "SamplingParams",
    "__version__",
    "chat",
    "complete",
    "distribution",
    "load",
    "score",
    "score_many",
    "stream",
    "verify",
]

_HOMES = {
    "OwnStep": "refsample.sampling.own",
    "SamplingParams": "refsample.sampling.params",
    "chat": "refsample.api.chat",
    "complete": "refsample.api.completions",
    "distribution": "refsample.sampling.pipeline",
    "load": "refsample.generation.load",
    "score": "refsample.generation.scoring",
    "score_many": "refsample.generation.scoring",
    "stream": "refsample.api.stream",
    "verify": "refsample.conformance.verify",
}


def __getattr__(name: str) -> object:
    """Import a public name from its home and keep it here."""
    if name not in _HOMES:
        raise AttributeError(f"module 'refsample' has no attribute {name!r}")
    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
