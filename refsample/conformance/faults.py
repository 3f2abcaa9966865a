"""The fault dictionary: each fault is a map from one Behaviour to another.

`serve --fault` serves the changed Behaviour, and the verifier uses the very same object as a hypothesis, so what is
injected and what is looked for cannot drift apart. Facts: D-numbers of the divergence catalogue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Literal

from refsample.conformance.page import Page, pages_of
from refsample.errors import ParameterError
from refsample.generation.behaviour import Behaviour
from refsample.spec.load import engine
from refsample.spec.provider import ProviderSpec
from refsample.spec.types import Scope, Stage

Area = Literal["model", "law", "contract"]


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to answer wrongly."""

    name: str
    title: str
    area: Area
    change: Callable[[Behaviour], Behaviour]
    shown: Callable[[Page], bool]
    """Whether questions that stay inside a page can bring it to light."""

    def applies(self, behaviour: Behaviour) -> bool:
        """False where the fault is what this engine does anyway."""
        return self.change(behaviour) != behaviour

    @property
    def flaw(self) -> bool:
        """True where tokens and their logprobs are as they should be, and only the API around them is not."""
        return self.area == "contract"


def _drop(*names: str) -> Callable[[Behaviour], Behaviour]:
    return lambda b: replace(b, dropped=b.dropped | frozenset(names))


def _flaw(name: str) -> Callable[[Behaviour], Behaviour]:
    return lambda b: replace(b, flaws=b.flaws | {name})


def _temperature_last(behaviour: Behaviour) -> Behaviour:
    order = tuple(s for s in behaviour.semantics.order if s != "temperature")
    return replace(behaviour, semantics=replace(behaviour.semantics, order=(*order, "temperature")))


def _other_penalty_scope(behaviour: Behaviour) -> Behaviour:
    scope: Scope = "prompt_and_output" if behaviour.semantics.additive_scope == "output" else "output"
    return replace(behaviour, semantics=replace(behaviour.semantics, additive_scope=scope))


def _same_draws(behaviour: Behaviour) -> Behaviour:
    return replace(behaviour, semantics=replace(behaviour.semantics, seed_rule="identical"))


def _stage(stage: Stage) -> Callable[[Behaviour], Behaviour]:
    return lambda b: replace(b, semantics=replace(b.semantics, logprob_stage=stage))


def _takes(*means: str) -> Callable[[Page], bool]:
    return lambda page: page.takes(*means)


def _counted(page: Page) -> bool:
    return "usage.completion_tokens" in page.endpoint.response


def _logprobs_of_tokens(page: Page) -> bool:
    """Asked for, and with the token beside the number."""
    return page.takes("logprobs") and page.endpoint.logprobs != "bare"


def _stop_is_cut(page: Page) -> bool:
    return page.takes("stop") and "kept" not in page.readings("stop_text")


def _greedy_choices(page: Page) -> bool:
    record = page.record("temperature")
    zero = record is not None and (record.effective is None or record.effective.holds(0))
    open_still = "refused" not in page.readings("greedy_n") and not _documented(page, "greedy_n")
    return zero and page.allows("n", 2) and open_still


def _documented(page: Page, check: str) -> bool:
    """Whether a failure of this check of the page's route is known of its engine or provider, and so does not count."""
    name, check = page.provider.engine, f"contract.{page.kind}.{check}"
    known = (*engine("reference" if name == "unknown" else name).known, *page.provider.known)
    return any(fnmatchcase(check, difference.check) for difference in known)


def _table(*faults: Fault) -> Mapping[str, Fault]:
    return {fault.name: fault for fault in faults}


FAULTS: Mapping[str, Fault] = _table(
    Fault("temperature_ignored", "temperature is taken and not applied", "law", _drop("temperature"),
          _takes("temperature")),
    Fault("temperature_after_top_p", "temperature is applied after the filters (D01, D02)", "law", _temperature_last,
          _takes("temperature", "top_p")),
    Fault("top_k_ignored", "top_k is taken and not applied", "law", _drop("top_k"), _takes("top_k")),
    Fault("top_p_ignored", "top_p is taken and not applied", "law", _drop("top_p"), _takes("top_p")),
    Fault("min_p_ignored", "min_p is taken and not applied", "law", _drop("min_p"), _takes("min_p")),
    Fault("logit_bias_ignored", "logit_bias is taken and not applied", "law", _drop("logit_bias"),
          _takes("logit_bias")),
    Fault("penalty_scope", "presence and frequency penalties count the other span: prompt and output instead of "
          "output, or the reverse (D11)", "law", _other_penalty_scope, _takes("presence_penalty")),
    Fault("penalties_ignored", "presence and frequency penalty are taken and not applied", "law",
          _drop("presence_penalty", "frequency_penalty"), _takes("presence_penalty")),
    Fault("repetition_penalty_ignored", "repetition_penalty is taken and not applied", "law",
          _drop("repetition_penalty"), _takes("repetition_penalty")),
    Fault("other_defaults", "temperature 0.6, top_p 0.95 and top_k 20 where a request sends none of them, as a model's "
          "generation_config has it", "law", _flaw("other_defaults"), _takes("temperature")),
    Fault("temperature_plus_10", "temperature is 10 % higher", "law", lambda b: replace(b, temperature_scale=1.1),
          _takes("temperature")),
    Fault("temperature_minus_10", "temperature is 10 % lower", "law", lambda b: replace(b, temperature_scale=0.9),
          _takes("temperature")),
    Fault("hidden_top_p", "top_p 0.95 where none was asked for", "law",
          lambda b: replace(b, imposed=(("top_p", 0.95),)), _takes("temperature")),
    Fault("hidden_top_k", "top_k 50 where none was asked for", "law", lambda b: replace(b, imposed=(("top_k", 50),)),
          _takes("temperature")),
    Fault("best_of_ignored", "the first of best_of candidates is answered, not the best", "law",
          _flaw("best_of_ignored"), lambda page: page.allows("best_of", 2)),
    Fault("stop_text_kept", "the matched stop text stays in the answer (D22)", "contract",
          lambda b: replace(b, include_stop=True), _stop_is_cut),
    Fault("eos_not_counted", "usage leaves end tokens out", "contract", _flaw("eos_not_counted"), _counted),
    Fault("usage_first_choice", "usage counts the tokens of one choice only", "contract", _flaw("usage_first_choice"),
          lambda page: _counted(page) and page.allows("n", 2)),
    Fault("role_chunk_missing", "no chunk of a chat's stream names the role", "contract", _flaw("role_chunk_missing"),
          lambda page: page.takes("stream") and "choices[].delta.role" in page.endpoint.chunk),
    Fault("done_missing", "a stream ends without [DONE]", "contract", _flaw("done_missing"), _takes("stream")),
    Fault("logprobs_shape_swapped", "logprobs come in the other endpoint's shape", "contract",
          _flaw("logprobs_shape_swapped"), _logprobs_of_tokens),
    Fault("top_logprobs_n", "a drawn token outside the N likeliest is left out of their list", "contract",
          _flaw("top_logprobs_n"), lambda page: page.takes("logprobs") and page.endpoint.logprobs == "legacy"),
    Fault("unknown_model_accepted", "any model name is answered", "contract", _flaw("unknown_model_accepted"),
          _takes("model")),
    Fault("bound_not_enforced", "values beyond the bounds are taken", "contract", _flaw("bound_not_enforced"),
          lambda page: bool(page.bounded())),
    Fault("greedy_n_refused", "n > 1 at temperature 0 is refused", "contract", _flaw("greedy_n_refused"),
          _greedy_choices),
    Fault("choices_copied", "all n choices are one draw (D26)", "contract", _same_draws,
          lambda page: page.allows("n", 4) and page.takes("temperature")),
    Fault("seed_ignored", "the same seed gives different draws (D28)", "contract", _drop("seed"), _takes("seed")),
    Fault("logprobs_after_temperature", "logprobs are taken after temperature instead of from the raw logits (D17)",
          "contract", _stage("post_temperature"), _logprobs_of_tokens),
    Fault("weights_int4", "weights rounded to 4 bits in groups of 32", "model",
          lambda b: replace(b, precision="int4-g32"), _takes("temperature")),
)  # fmt: skip


def shows(fault: Fault, provider: ProviderSpec, extensions: bool | None = None) -> bool:
    """Whether a verification that stays inside a provider's page can see the fault, by the page's records."""
    return any(fault.shown(page) for page in pages_of(provider, extensions).values())


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
