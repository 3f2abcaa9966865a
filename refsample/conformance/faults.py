"""The fault dictionary: each fault is a map from one Behaviour to another.

`serve --fault` serves the changed Behaviour, and the verifier uses the very same object as a hypothesis, so what is
injected and what is looked for cannot drift apart. Facts: D-numbers of the divergence catalogue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from refsample.errors import ParameterError
from refsample.generation.behaviour import Behaviour
from refsample.spec.types import Scope, Stage

Area = Literal["model", "law", "contract"]


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to answer wrongly."""

    name: str
    title: str
    area: Area
    change: Callable[[Behaviour], Behaviour]

    def applies(self, behaviour: Behaviour) -> bool:
        """False where the fault is what this engine does anyway."""
        return self.change(behaviour) != behaviour


def _drop(*names: str) -> Callable[[Behaviour], Behaviour]:
    return lambda b: replace(b, dropped=b.dropped | frozenset(names))


def _temperature_last(behaviour: Behaviour) -> Behaviour:
    order = tuple(s for s in behaviour.semantics.order if s != "temperature")
    return replace(behaviour, semantics=replace(behaviour.semantics, order=(*order, "temperature")))


def _other_penalty_scope(behaviour: Behaviour) -> Behaviour:
    scope: Scope = "prompt_and_output" if behaviour.semantics.additive_scope == "output" else "output"
    return replace(behaviour, semantics=replace(behaviour.semantics, additive_scope=scope))


def _stage(stage: Stage) -> Callable[[Behaviour], Behaviour]:
    return lambda b: replace(b, semantics=replace(b.semantics, logprob_stage=stage))


def _table(*faults: Fault) -> Mapping[str, Fault]:
    return {fault.name: fault for fault in faults}


FAULTS: Mapping[str, Fault] = _table(
    Fault("temperature_ignored", "temperature is taken and not applied", "law", _drop("temperature")),
    Fault("temperature_after_top_p", "temperature is applied after the filters (D01, D02)", "law", _temperature_last),
    Fault("top_k_ignored", "top_k is taken and not applied", "law", _drop("top_k")),
    Fault("top_p_ignored", "top_p is taken and not applied", "law", _drop("top_p")),
    Fault("min_p_ignored", "min_p is taken and not applied", "law", _drop("min_p")),
    Fault("logit_bias_ignored", "logit_bias is taken and not applied", "law", _drop("logit_bias")),
    Fault(
        "penalty_scope",
        "presence and frequency penalties count the other span: prompt and output instead of "
        "output, or the reverse (D11)",
        "law",
        _other_penalty_scope,
    ),
    Fault("temperature_plus_10", "temperature is 10 % higher", "law", lambda b: replace(b, temperature_scale=1.1)),
    Fault("temperature_minus_10", "temperature is 10 % lower", "law", lambda b: replace(b, temperature_scale=0.9)),
    Fault(
        "hidden_top_p", "top_p 0.95 where none was asked for", "law", lambda b: replace(b, imposed=(("top_p", 0.95),))
    ),
    Fault("hidden_top_k", "top_k 50 where none was asked for", "law", lambda b: replace(b, imposed=(("top_k", 50),))),
    Fault(
        "stop_text_kept",
        "the matched stop text stays in the answer (D22)",
        "contract",
        lambda b: replace(b, include_stop=True),
    ),
    Fault("seed_ignored", "the same seed gives different draws (D28)", "contract", _drop("seed")),
    Fault(
        "logprobs_after_temperature",
        "logprobs are taken after temperature instead of from the raw logits (D17)",
        "contract",
        _stage("post_temperature"),
    ),
    Fault(
        "weights_int4", "weights rounded to 4 bits in groups of 32", "model", lambda b: replace(b, precision="int4-g32")
    ),
)


def fault(name: str) -> Fault:
    """The fault of that name; an unknown name is an error that lists the known ones."""
    if name not in FAULTS:
        raise ParameterError("fault", name, f"must be one of {', '.join(FAULTS)}", "the fault dictionary")
    return FAULTS[name]


def apply(names: Iterable[str], behaviour: Behaviour) -> Behaviour:
    """Behaviour with the named faults, in the order given."""
    for name in names:
        behaviour = fault(name).change(behaviour)
    return behaviour
