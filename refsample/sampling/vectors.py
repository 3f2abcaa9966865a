"""Conformance vectors: inputs of one decision and its expected law, for any sampler. Knows no particular sampler.

The files are `specs/vectors/*.json`; `specs/vectors/README.md` says what each key means, so that a sampler in another
language can be held to them.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refsample.errors import SpecError
from refsample.sampling.context import Memory
from refsample.sampling.logprobs import rendered, token_logprobs
from refsample.sampling.params import SamplingParams
from refsample.sampling.pipeline import Distribution, distribution
from refsample.sampling.semantics import resolve
from refsample.spec.load import folder
from refsample.spec.types import Semantics
from refsample_kernels.softmax import log_softmax

Floats = NDArray[np.float64]
FLOAT32, SLACK, SUM = 2.0**-24, 1e-6, 1e-4
FAINT = 1e-37
MULTIPLIER, WORD = 2654435761, 1 << 32


@dataclass(frozen=True, slots=True, eq=False)
class Vector:
    """One decision."""

    id: str
    about: str
    decisions: tuple[int, ...]
    """Of the list "What a reference must decide"."""
    engine: str
    semantics: Mapping[str, Any]
    """Rules that differ from the engine's file."""
    logits: Floats
    """[V]."""
    params: Mapping[str, Any]
    prompt_ids: tuple[int, ...]
    output_ids: tuple[int, ...]
    allowed: tuple[int, ...] | None
    """What a grammar lets through."""
    mu: float | None
    """State of mirostat; None: its first draw."""
    expected: Mapping[str, Any]


def recipe(stated: Mapping[str, Any]) -> list[float]:
    """Logits by recipe: `scrambled`: (i * 2654435761 mod 2^32) / 2^32 * scale, exact but for the last product."""
    if stated.get("recipe") != "scrambled":
        raise SpecError(f"vectors: recipe {stated.get('recipe')!r} does not exist; known here: scrambled")
    return [(i * MULTIPLIER % WORD) / WORD * stated["scale"] for i in range(stated["size"])]


@cache
def vectors() -> tuple[Vector, ...]:
    """All vectors of the shipped files, by file and place."""
    found = []
    for path in sorted((folder() / "vectors").glob("*.json")):
        if path.stem != "schema":
            found += [_vector(entry) for entry in json.loads(path.read_text(encoding="utf-8"))["vectors"]]
    return tuple(found)


def _vector(entry: Mapping[str, Any]) -> Vector:
    stated = entry["logits"]
    logits = recipe(stated) if isinstance(stated, Mapping) else [float.fromhex(x) for x in stated]
    params = dict(entry["params"])
    if "logit_bias" in params:
        params["logit_bias"] = {int(i): float.fromhex(x) for i, x in params["logit_bias"].items()}
    return Vector(
        id=entry["id"],
        about=entry["about"],
        decisions=tuple(entry["decisions"]),
        engine=entry["engine"],
        semantics=MappingProxyType(entry["semantics"]),
        logits=np.array(logits),
        params=MappingProxyType(params),
        prompt_ids=tuple(entry["prompt_ids"]),
        output_ids=tuple(entry["output_ids"]),
        allowed=None if entry["allowed"] is None else tuple(entry["allowed"]),
        mu=entry["mu"],
        expected=MappingProxyType(entry["expected"]),
    )


def own_law(one: Vector, rules: Semantics | None = None) -> Distribution:
    """Our answer, under the vector's rules or others."""
    allowed = None if one.allowed is None else np.isin(np.arange(one.logits.size), one.allowed)
    memory = None if one.mu is None else Memory(one.mu)
    rules = rules or resolve(one.engine, one.semantics)
    params = SamplingParams(**one.params)
    return distribution(one.logits, params, one.prompt_ids, one.output_ids, rules, memory, allowed=allowed)


def is_law_of_float32(one: Vector, probs: Floats) -> bool:
    """Whether a law is the right one for logits rounded to float32, as samplers get them: that may turn a tie."""
    if not np.isfinite(probs).all() or (probs < 0.0).any() or abs(float(probs.sum()) - 1.0) > SUM:
        return False
    rounded = replace(one, logits=one.logits.astype(np.float32).astype(np.float64))
    law = own_law(rounded).probs
    bound = bound_of(one, float32=True)
    known = law > FAINT
    return bool(((probs > FAINT) == known).all() and np.allclose(np.log(probs[known]), np.log(law[known]), 0.0, bound))


def can_be_asked(one: Vector, parameters: Collection[str] | None, overrides: Mapping[str, Any]) -> bool:
    """Whether an adapter can answer: no grammar, no state, parameters that it has, no rule that it says to break."""
    if one.allowed is not None or one.mu is not None or one.semantics:
        return False
    if parameters is not None and not set(one.params) <= set(parameters):
        return False
    if not overrides:
        return True
    rules = resolve(one.engine, {**one.semantics, **overrides})
    return not law_problems(one, own_law(one, rules).probs)


def law_problems(one: Vector, probs: Floats, float32: bool = False) -> tuple[str, ...]:
    """What is wrong with a law [V]; nothing where it is the expected one.

    Probabilities may differ by 1e-9 relative; `float32`: by 1e-6 + 4 * 2^-24 * max |logit / T| in their logs.
    """
    expected, problems = one.expected, []
    if probs.shape != one.logits.shape:
        return (f"probabilities of the shape {list(probs.shape)} instead of {list(one.logits.shape)}",)
    if not np.isfinite(probs).all() or (probs < 0.0).any():
        worst = int(np.flatnonzero(~np.isfinite(probs) | (probs < 0.0))[0])
        return (f"p({worst}) is {probs[worst]}",)
    if abs(float(probs.sum()) - 1.0) > SUM:
        problems.append(f"the probabilities add up to {float(probs.sum()):.9g}")
    faint = frozenset(expected["faint"])  # not cut, but below what a float32 holds: there or not
    support = [i for i in np.flatnonzero(probs > 0.0).tolist() if i not in faint]
    if expected["ties_open"]:
        return _sorted_problems(one, probs, bound_of(one, float32))
    if not _same(support, expected["support"]):
        problems.append(f"support: {_short(support)} instead of {_short(expected['support'])}")
    bound = bound_of(one, float32)
    for token, text in expected["probs"].items():
        wanted, given = float(text), float(probs[int(token)])
        if int(token) in faint and (float32 or wanted < np.finfo(np.float64).tiny):
            continue
        if given <= 0.0 or abs(math.log(given / wanted)) > bound:
            problems.append(f"p({token}) {given:.12g} instead of {wanted:.12g}")
    return tuple(problems)


def bound_of(one: Vector, float32: bool) -> float:
    """How far a ln p may be off."""
    if not float32:
        return 1e-9
    finite = one.logits[np.isfinite(one.logits)]
    largest = max(np.abs(finite).max(), np.abs(log_softmax(finite)).max())  # some normalise before they divide by T
    return SLACK + 4.0 * FLOAT32 * float(largest) / max(0.001, float(one.params.get("temperature", 1.0)))


def _sorted_problems(one: Vector, probs: Floats, bound: float) -> tuple[str, ...]:
    """Who of several tied tokens stays is open: what is left must have the expected probabilities, sorted."""
    wanted = np.sort([float(text) for text in one.expected["probs"].values()])
    given = np.sort(probs[probs > 0.0])
    if wanted.size == given.size and np.allclose(given, wanted, rtol=bound, atol=0.0):
        return ()
    return (f"probabilities, sorted: {given.tolist()[:8]} instead of {wanted.tolist()[:8]}",)


def logprob_problems(one: Vector, values: Floats) -> tuple[str, ...]:
    """What is wrong with logprobs [V] at the engine's own stage."""
    return tuple(
        f"logprob({token}) {values[int(token)]:.12g} instead of {text}"
        for token, text in one.expected["logprobs"].items()
        if not np.isclose(values[int(token)], float(text), rtol=1e-9, atol=1e-9)
    )


def answer_problems(one: Vector, law: Distribution) -> tuple[str, ...]:
    """What is wrong with rank, list and shown numbers of drawn tokens."""
    rules, problems = law.context.semantics, []
    for told in one.expected.get("answers", ()):
        found = token_logprobs(law, told["token"], told["n"], rules)
        listed = [i for i, _ in found.top]
        if (found.rank, listed) != (told["rank"], told["top"]):
            wanted = f"rank {told['rank']} and {told['top']}"
            problems.append(f"token {told['token']}: rank {found.rank} and {listed} instead of {wanted}")
        values = law.logprobs()
        shown = {i: repr(rendered(float(values[int(i)]), rules)) for i in told["shown"]}
        if shown != told["shown"]:
            problems.append(f"shown: {shown} instead of {told['shown']}")
    return tuple(problems)


def draw_problems(one: Vector, draw: Callable[[float], int]) -> tuple[str, ...]:
    """What is wrong with draws by inverse CDF in token-id order."""
    pairs = ((float.fromhex(u), token) for u, token in one.expected["draws"])
    return tuple(f"u {u!r} draws {draw(u)} instead of {token}" for u, token in pairs if draw(u) != token)


def digest(ids: Sequence[int]) -> str:
    """SHA-256 of the ids in decimal with commas between them."""
    return hashlib.sha256(",".join(map(str, ids)).encode()).hexdigest()


def _same(ids: Sequence[int], stated: Sequence[int] | Mapping[str, Any]) -> bool:
    if isinstance(stated, Mapping):
        return bool(len(ids) == stated["count"] and digest(ids) == stated["sha256"])
    return list(ids) == list(stated)


def _short(ids: Sequence[int] | Mapping[str, Any]) -> str:
    if isinstance(ids, Mapping):
        return f"{ids['count']} tokens of digest {ids['sha256'][:8]}"
    return str(ids) if len(ids) <= 12 else f"{len(ids)} tokens of digest {digest(ids)[:8]}"
