"""Writes specs/vectors/*.json: inputs, and what `plain.py` makes of them with fifty digits.

Run in the root of the checkout: python -m tests.data.make_vectors
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from refsample.errors import ParameterError
from refsample.sampling.params import SamplingParams
from refsample.sampling.pipeline import distribution
from refsample.sampling.vectors import digest, recipe
from refsample.spec.load import engine as engine_named
from refsample.spec.strict import converted, hints
from refsample.spec.types import Semantics
from tests.data import plain

FOLDER = Path(__file__).resolve().parents[2] / "specs" / "vectors"
SHOWN, SMALL = 16, 64
FAINT = plain.Decimal("1e-37")
"""Below this a float32 may be 0."""
US = (0.0, 0.25, 0.5, 0.75, 1.0 - 2.0**-53)

Case = tuple[str, str, Sequence[int], str, Mapping[str, Any], Sequence[float] | Mapping[str, Any], Mapping[str, Any]]


def ln(*probs: float) -> list[float]:
    return [math.log(p) if p else -math.inf for p in probs]


STAIR, TIED, DYADIC = ln(0.4, 0.3, 0.2, 0.1), ln(0.4, 0.2, 0.2, 0.2), ln(0.5, 0.25, 0.125, 0.125)
HALVES, D06 = ln(0.5, 0.3, 0.15, 0.05), ln(0.5, 0.2, 0.15, 0.15)
FLAT = [0.0] * 4
D01, D02 = {"temperature": 0.5, "top_p": 0.5}, {"temperature": 2.0, "min_p": 0.4}
ANY = ("sglang", "llamacpp", "mlx")
"""Engines whose sorts and partitions say nothing about equal values."""
ALL = ("reference", "vllm", "hf", "sglang", "tgi", "llamacpp", "mlx")


Logits = Sequence[float] | Mapping[str, Any]


def each(
    name: str, about: str, decisions: Sequence[int], engines: Sequence[str], logits: Logits, params: Mapping[str, Any],
    *, loose: Sequence[str] = (), **more: Any,
) -> list[dict[str, Any]]:  # fmt: skip
    """One vector for each engine; `loose`: engines that leave open which of several tied tokens stays."""
    return [
        vector(f"{name}/{e}", about, decisions, e, logits, params, ties_open=e in loose, **more) for e in engines
    ]


def vector(
    name: str, about: str, decisions: Sequence[int], engine: str, logits: Logits, params: Mapping[str, Any], *,
    ties_open: bool = False, semantics: Mapping[str, Any] | None = None, prompt_ids: Sequence[int] = (),
    output_ids: Sequence[int] = (), allowed: Sequence[int] | None = None, mu: float | None = None,
) -> dict[str, Any]:  # fmt: skip
    overrides = dict(semantics or {})
    known = hints(Semantics)
    rules = asdict(replace(engine_named(engine).semantics, **{k: converted(known[k], v) for k, v in overrides.items()}))
    values = recipe(logits) if isinstance(logits, Mapping) else list(logits)
    law = plain.law(values, params, rules, prompt_ids, output_ids, allowed, mu)
    alive = [i for i, p in enumerate(law) if p > 0]
    support, faint = [i for i in alive if law[i] >= FAINT], [i for i in alive if law[i] < FAINT]
    best = sorted(alive, key=lambda i: (-law[i], i))[:SHOWN]
    staged = plain.logprobs(values, params, rules, prompt_ids, output_ids, allowed)
    listed = range(len(values)) if len(values) <= SMALL else best
    return {
        "id": name, "about": about, "decisions": list(decisions), "engine": engine, "semantics": overrides,
        "logits": dict(logits) if isinstance(logits, Mapping) else [hexed(x) for x in values],
        "params": {k: {str(i): hexed(b) for i, b in v.items()} if k == "logit_bias" else v for k, v in params.items()},
        "prompt_ids": list(prompt_ids), "output_ids": list(output_ids),
        "allowed": None if allowed is None else list(allowed), "mu": mu,
        "expected": {
            "faint": faint, "ties_open": ties_open,
            "support": support if len(support) <= SMALL else {"count": len(support), "sha256": digest(support)},
            "probs": {str(i): f"{float(law[i])!r}" for i in best},
            "stage": rules["logprob_stage"],
            "logprobs": {str(i): "-inf" if staged[i] is None else f"{float(staged[i])!r}" for i in listed},  # type: ignore[arg-type]
            "draws": [[hexed(u), plain.draw(law, u)] for u in US if decidable(law, u)],
        },
    }  # fmt: skip


def hexed(value: float) -> str:
    return str(value) if math.isinf(value) else float(value).hex()


def decidable(law: Sequence[plain.Decimal], u: float) -> bool:
    """Whether no cumulative probability lies so near to u that rounding decides."""
    at, total = plain.Decimal(u), plain.ZERO
    for p in law:
        total += p
        if abs(total - at) < plain.EQUAL and total < 1 - plain.EQUAL:
            return False
    return True


def order() -> list[dict[str, Any]]:
    one = {"prompt_ids": [], "output_ids": [0]}
    return [
        *each("D01", "temperature before or after top_p", [1], ALL, STAIR, D01),
        *each("D02", "temperature before or after min_p", [1], ("reference", "vllm", "hf", "sglang", "llamacpp", "mlx"),
              HALVES, D02),
        *each("D06", "min_p before top_p or after it", [1, 7], ("reference", "vllm", "hf", "sglang", "llamacpp", "mlx"),
              D06, {"top_p": 0.69, "min_p": 0.35}),
        *each("D08", "bias before the repetition penalty or after it", [1, 15],
              ("reference", "vllm", "hf", "sglang", "llamacpp", "mlx"), [2.0, 0.0],
              {"logit_bias": {0: -5.0}, "repetition_penalty": 2.0}, **one),
        *each("D09", "repetition before the additive penalties or after them", [15],
              ("reference", "vllm", "sglang", "llamacpp", "mlx"), [1.0, 0.0],
              {"repetition_penalty": 2.0, "frequency_penalty": 0.5}, **one),
        *each("D09-negative", "the same on a negative logit", [12, 15],
              ("reference", "vllm", "sglang", "llamacpp", "mlx"), [-1.0, 0.0],
              {"repetition_penalty": 2.0, "frequency_penalty": 0.5}, **one),
        *each("mask-bias", "a bias cannot bring back what is masked", [19], ("reference", "vllm", "hf", "llamacpp"),
              STAIR, {"logit_bias": {0: 100.0}}, allowed=[1, 2]),
        *each("everything", "all of the standard set at once", [1],
              ("reference", "vllm", "sglang", "llamacpp", "mlx"), [2.0, 1.5, 1.0, 0.5, 0.0, -0.5, -1.0, -3.0],
              {"temperature": 0.7, "top_p": 0.9, "top_k": 6, "min_p": 0.02, "repetition_penalty": 1.3,
               "presence_penalty": 0.4, "frequency_penalty": 0.2, "logit_bias": {2: 1.0, 7: 2.5}},
              prompt_ids=[0, 3, 3], output_ids=[1, 1, 6]),
    ]  # fmt: skip


def truncation() -> list[dict[str, Any]]:
    flash = {"top_k_ties": "keep_all", "top_p_ties": "all"}
    return [
        *each("D03", "top_k with a tie at its border", [3], ALL, TIED, {"top_k": 2}, loose=ANY),
        *each("D04", "top_p is hit exactly", [4], ALL, DYADIC, {"top_p": 0.5}),
        *each("D05", "top_p of what top_k left, or of everything", [6], ALL, STAIR, {"top_k": 2, "top_p": 0.5}),
        *each("D07", "top_p with a tie at its border", [5], ALL, ln(0.4, 0.3, 0.3), {"top_p": 0.5},
              loose=("sglang", "llamacpp", "hf")),
        vector("D03/flashinfer", "vLLM's FlashInfer path keeps ties", [3], "vllm", TIED, {"top_k": 2}, semantics=flash),
        vector("D07/flashinfer", "the same for top_p", [5], "vllm", ln(0.4, 0.3, 0.3), {"top_p": 0.5}, semantics=flash),
        vector("D05/sglang-min-p", "with min_p anywhere in the batch its base is sequential", [6], "sglang", STAIR,
               {"top_k": 2, "top_p": 0.5}, semantics={"top_p_base": "sequential"}),
        vector("keep-two", "no truncation leaves fewer than two", [8], "reference", STAIR,
               {"top_k": 1, "top_p": 0.1, "min_p": 1.0}, semantics={"min_tokens_to_keep": 2}),
        *each("min-p-equal", "min_p: equality stays", [7], ("reference", "vllm", "hf", "sglang", "llamacpp", "mlx"),
              STAIR, {"min_p": 0.5}),
        *each("D20", "a grammar before truncation, or a redraw", [19, 20], ("reference", "vllm", "sglang", "llamacpp"),
              HALVES, {"top_k": 2}, allowed=[1, 2, 3]),
    ]  # fmt: skip


def penalties() -> list[dict[str, Any]]:
    logits, engines = [1.0, 0.0, -math.inf], ("reference", "vllm", "sglang", "llamacpp", "mlx")
    return [
        *each("D10", "the repetition penalty on a token of the prompt", [13], ALL, logits, {"repetition_penalty": 2.0},
              prompt_ids=[0]),
        *each("D10-64", "64 tokens back", [13], ALL, logits, {"repetition_penalty": 2.0}, prompt_ids=[0] + [2] * 63),
        *each("D10-65", "65 tokens back", [13], ALL, logits, {"repetition_penalty": 2.0}, prompt_ids=[0] + [2] * 64),
        *each("D10-21", "21 tokens back", [13], ALL, logits, {"repetition_penalty": 2.0}, prompt_ids=[0] + [2] * 20),
        *each("D11", "the presence penalty on a token of the prompt", [14], engines, logits, {"presence_penalty": 2.0},
              prompt_ids=[0]),
        *each("D12", "the frequency penalty counts", [14], (*engines, "tgi"), logits, {"frequency_penalty": 1.0},
              output_ids=[0, 2, 0]),
        *each("once", "repetition acts once for a token, however often it stands there", [12], ALL, [2.0, 0.0, -2.0],
              {"repetition_penalty": 1.5}, output_ids=[0, 0, 0, 2, 2]),
        vector("reward", "a penalty below 1 rewards", [12], "reference", [2.0, 0.0, -2.0], {"repetition_penalty": 0.5},
               output_ids=[0, 2]),
        vector("huge", "huge penalties cut nobody", [12], "reference", [2.0, 1.0, 0.0],
               {"repetition_penalty": 1e6, "presence_penalty": 600.0}, output_ids=[0, 1, 2]),
        *each("bias-clamp", "a bias of 200", [17], ("reference", "vllm", "hf", "sglang", "llamacpp", "mlx"),
              [0.0, 0.0, 0.0], {"logit_bias": {0: 200.0, 1: 100.0}}),
        *each("bias-ban", "a bias of -inf", [17], ("reference", "vllm", "llamacpp"), [0.0, 1.0],
              {"logit_bias": {1: -math.inf}}),
    ]  # fmt: skip


def temperature() -> list[dict[str, Any]]:
    return [
        *each("D15", "a tiny temperature", [9], ALL, [0.01, 0.0], {"temperature": 0.001}),
        *each("zero", "temperature 0", [9, 10], ALL, [1.0, 2.0, 2.0, 0.0], {"temperature": 0.0}),
        *each("below-1e-6", "a temperature that one engine takes as 0", [9], ("reference", "sglang"), [1e-6, 0.0],
              {"temperature": 9e-7}),
        vector("zero/ties", "all of the equal maxima", [10], "sglang", [1.0, 2.0, 2.0, 0.0], {"temperature": 0.0},
               semantics={"greedy_ties": "all"}),
        vector("1e-6", "temperature 1e-6", [9], "reference", [3e-6, 1e-6, 0.0], {"temperature": 1e-6}),
        vector("100", "temperature 100", [11], "reference", [30.0, 3.0, -20.0], {"temperature": 100.0}),
        *each("D18", "logprobs at temperature 0", [29], ALL, STAIR, {"temperature": 0.0}),
        *each("D17", "logprobs at temperature 0.5 under top_p", [29], ALL, STAIR, {"temperature": 0.5, "top_p": 0.8}),
        *each("D19", "logprobs under a grammar", [29], ALL, STAIR, {}, allowed=[1, 3]),
        *each("D17-penalty", "logprobs after a penalty", [29], ALL, STAIR, {"repetition_penalty": 1.5}, output_ids=[0]),
        vector("collapsed", "logprobs at temperature 0, of what is left", [29], "reference", STAIR,
               {"temperature": 0.0}, semantics={"greedy_logprobs": "collapsed", "logprob_stage": "post_truncation"}),
    ]  # fmt: skip


def edges() -> list[dict[str, Any]]:
    tail = [0.0] + [-20.723265836946414] + [-math.inf] * 2  # e^-20.72 = 1e-9
    return [
        vector("one-token", "a vocabulary of one", [8], "reference", [-3.0], {"top_p": 0.1, "top_k": 1, "min_p": 1.0}),
        vector("one-possible", "all -inf but one", [8], "reference", [-math.inf, -math.inf, 5.0], {"top_p": 0.5}),
        vector("k-above-v", "top_k beyond the vocabulary", [3], "reference", STAIR, {"top_k": 1000}),
        vector("all-equal", "all equal, everything on", [3, 5], "reference", FLAT,
               {"top_k": 3, "top_p": 0.6, "min_p": 1.0, "temperature": 0.3}),
        vector("bias+100", "a bias of 100 on the least", [17], "reference", STAIR, {"logit_bias": {3: 100.0}}),
        vector("bias-100", "a bias of -100 on the best", [17], "reference", STAIR, {"logit_bias": {0: -100.0}}),
        vector("denormal", "probabilities below the least normal float64", [2], "reference", [0.0, -710.0, -744.0], {}),
        vector("tail-1e-9", "a token of probability 1e-9 can be drawn", [37], "reference", tail, {}),
        vector("far-apart", "logits of 1e4", [2], "reference", [1e4, 1e4 - 1.0, -1e4], {}),
        vector("empty-history", "penalties with nothing to see", [13, 14], "reference", STAIR,
               {"repetition_penalty": 2.0, "presence_penalty": 2.0, "frequency_penalty": 2.0}),
        *each("big", "151,936 tokens by recipe", [1, 3, 5], ("reference", "vllm", "llamacpp"),
              {"recipe": "scrambled", "size": 151_936, "scale": 24.0},
              {"temperature": 0.7, "top_k": 50, "top_p": 0.95, "min_p": 0.05}),
        vector("big-flat", "151,936 tokens, top_p of many", [5], "reference",
               {"recipe": "scrambled", "size": 151_936, "scale": 4.0}, {"top_p": 0.9}),
    ]  # fmt: skip


def further() -> list[dict[str, Any]]:
    line = [2.0, 0.0, 0.0, -2.0]
    abc = [0, 1, 2, 2, 1, 2, 3, 0, 1, 2]
    xtc = {"xtc_probability": 1.0, "xtc_threshold": 0.2}
    return [
        *each("typical", "typical_p, mass reached or passed", [4], ("reference", "hf", "tgi", "llamacpp"), DYADIC,
              {"typical_p": 0.75}, loose=ANY),
        *each("typical-ties", "equally typical tokens at its border", [5], ("reference", "hf", "tgi"), DYADIC,
              {"typical_p": 0.8}),
        *each("top-n-sigma", "top_n_sigma", [8], ("reference", "llamacpp"), line, {"top_n_sigma": 1.5}),
        *each("top-h", "top_h", [8], ("reference", "hf"), DYADIC, {"top_h": 0.6}),
        *each("top-h-300", "top_h looks at a hundred tokens, or at all", [8], ("reference", "hf"),
              [-i / 512 for i in range(300)], {"top_h": 1.0}),
        vector("tail-free", "tail-free", [8], "reference", ln(0.3, 0.25, 0.2, 0.15, 0.07, 0.03), {"tfs_z": 0.5}),
        vector("top-a", "top_a", [8], "reference", STAIR, {"top_a": 1.0}),
        *each("epsilon", "epsilon", [8], ("reference", "hf"), STAIR, {"epsilon_cutoff": 0.15}),
        *each("epsilon-ties", "no token reaches epsilon, and two are the best", [8], ("reference", "hf"),
              ln(0.4, 0.4, 0.2), {"epsilon_cutoff": 0.9}),
        *each("eta", "eta", [8], ("reference", "hf"), DYADIC, {"eta_cutoff": 0.5}),
        *each("xtc", "XTC, a probability at the threshold", [8], ("reference", "llamacpp", "mlx"), STAIR, xtc),
        *each("xtc-ties", "XTC, ties of the least top choice", [8], ("reference", "llamacpp", "mlx"),
              ln(0.4, 0.25, 0.25, 0.1), xtc, loose=("llamacpp",)),
        *each("xtc-zero", "XTC at temperature 0", [9], ("reference", "llamacpp", "mlx"), HALVES,
              {**xtc, "temperature": 0.0}),
        *each("xtc-coin", "XTC, the mixture over its coin", [8], ("reference", "llamacpp", "mlx"), STAIR,
              {"xtc_probability": 0.5, "xtc_threshold": 0.15, "temperature": 0.5}),
        *each("dry", "DRY", [12], ("reference", "llamacpp"), [0.0] * 5, {"dry_multiplier": 0.8}, prompt_ids=abc),
        *each("no-repeat-ngram", "no_repeat_ngram_size", [12], ("reference", "hf"), [0.0] * 4,
              {"no_repeat_ngram_size": 3}, prompt_ids=[0, 1, 2, 0], output_ids=[1]),
        *each("dynatemp", "dynamic temperature", [9], ("reference", "llamacpp"), STAIR,
              {"dynatemp_range": 0.5, "dynatemp_exponent": 2.0}),
        *each("dynatemp-list", "dynamic temperature with tokens at -inf", [9], ("reference", "llamacpp"),
              [2.0, 1.0, -math.inf, -math.inf], {"dynatemp_range": 0.5}),
        *each("mirostat", "mirostat at its start", [8], ("reference", "llamacpp"), DYADIC,
              {"mirostat": 2, "mirostat_tau": 1.0, "temperature": 1.2}),
        vector("mirostat-mu", "mirostat later", [8], "llamacpp", DYADIC, {"mirostat": 2, "mirostat_tau": 1.0}, mu=2.9),
    ]  # fmt: skip


ASKED: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "mask": [{"banned_token_ids": [1]}, {"banned_token_ids": [0, 2]}],
    "logit_bias": [{"logit_bias": {2: 1.5, 4: -2.0}}],
    "repetition": [{"repetition_penalty": 1.6}],
    "frequency": [{"frequency_penalty": 0.7}],
    "presence": [{"presence_penalty": 0.9}],
    "no_repeat_ngram": [{"no_repeat_ngram_size": 2}],
    "dry": [{"dry_multiplier": 0.8, "dry_allowed_length": 1}],
    "greedy": [{"temperature": 0.0}],
    "temperature": [{"temperature": 0.6}, {"temperature": 1.7}],
    "dynamic_temperature": [{"dynatemp_range": 0.6}],
    "min_p": [{"min_p": p} for p in (0.15, 0.3, 0.5)],
    "top_k": [{"top_k": k} for k in (2, 3, 4)],
    "top_p": [{"top_p": p} for p in (0.3, 0.5, 0.7, 0.85)],
    "typical_p": [{"typical_p": p} for p in (0.3, 0.5, 0.8)],
    "top_h": [{"top_h": h} for h in (0.3, 0.5, 0.8)],
    "top_n_sigma": [{"top_n_sigma": n} for n in (0.4, 0.8, 1.2)],
    "tail_free": [{"tfs_z": z} for z in (0.3, 0.6, 0.9)],
    "top_a": [{"top_a": a} for a in (0.3, 0.6, 0.9)],
    "epsilon": [{"epsilon_cutoff": e} for e in (0.08, 0.16, 0.24)],
    "eta": [{"eta_cutoff": e} for e in (0.2, 0.5, 0.8)],
    "xtc": [{"xtc_probability": 1.0, "xtc_threshold": t} for t in (0.08, 0.15, 0.25)],
    "mirostat": [{"mirostat": 2, "mirostat_tau": t} for t in (0.5, 0.8, 1.1)],
}
"""Parameters that switch a step on; min_p and others with several values, of which some show an order."""
TRIES = 400


def pairs() -> list[dict[str, Any]]:
    """For every two neighbours of every engine's order a decision that comes out otherwise when they change places.

    Looked for among seeded cases; neighbours without one are those that commute (`tests/sampling/test_vectors.py`).
    """
    found = []
    for engine in ALL:
        names = engine_named(engine).semantics.order
        for place, (first, second) in enumerate(zip(names, names[1:], strict=False)):
            case = _parted(engine, place)
            if case is not None:
                logits, params, history = case
                found.append(vector(f"pair/{engine}/{first}-{second}", f"{first} before {second}", [1], engine, logits,
                                    params, output_ids=history))  # fmt: skip
    return found


def _parted(engine: str, place: int) -> tuple[list[float], dict[str, Any], list[int]] | None:
    rules = engine_named(engine).semantics
    order = list(rules.order)
    first, second = order[place : place + 2]
    order[place : place + 2] = second, first
    turned = replace(rules, order=tuple(order))
    random = Random(f"{engine} {first} {second}")
    for _ in range(TRIES):
        logits = [random.randint(-40, 40) / 16 for _ in range(6)]
        history = [random.randrange(6) for _ in range(9)]
        params = {**random.choice(ASKED[second]), **random.choice(ASKED[first])}
        try:
            asked = SamplingParams(**params)
            here, there = (distribution(logits, asked, (), history, each) for each in (rules, turned))
        except ParameterError:
            continue
        decided = not here.boundary.size and not there.boundary.size
        if decided and np.abs(here.probs - there.probs).max() > 0.01:
            return logits, params, history
    return None


def answers() -> list[dict[str, Any]]:
    """What is told beside a token; worked by hand. Token 3 of (.4, .2, .2, .2), and a token at -inf among the best."""
    lists = {"vllm": ([3, 0, 1], 4), "tgi": ([0, 1, 2, 3], 2)}  # the drawn one first; with all ties. Else two by id
    ends = {"reference": "-9999.0", "vllm": "-9999.0", "llamacpp": "-3.4028234663852886e+38",
            "sglang": "-3.4028234663852886e+38"}  # fmt: skip
    made = []
    for engine in ALL:
        top, rank = lists.get(engine, ([0, 1], 2))
        told = {"token": 3, "n": 2, "rank": rank, "top": top, "shown": {}}
        made.append(_told(vector(f"D30/{engine}", "list and rank of a tied token", [30, 31], engine, TIED, {}), told))
        last = [] if engine == "tgi" else [1]  # what is cut ties with nobody
        told = {"token": 0, "n": 3, "rank": 1, "top": [0, 2, *last], "shown": {"1": ends.get(engine, "-inf")}}
        logits = [0.0, -math.inf, -1.0]
        made.append(_told(vector(f"D37/{engine}", "the stand-in for -inf", [30, 32], engine, logits, {}), told))
    return made


def _told(one: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    return {**one, "expected": {**one["expected"], "answers": [answer]}}


FILES = {"answers": answers, "pairs": pairs, "order": order, "truncation": truncation, "penalties": penalties,
         "temperature": temperature, "edges": edges, "further": further}  # fmt: skip


def text(name: str) -> str:
    """The content of one file."""
    lines = ",\n".join(json.dumps(one) for one in FILES[name]())
    return f'{{"version": 1, "vectors": [\n{lines}\n]}}\n'


def main() -> None:
    """Write the files."""
    for name in FILES:
        (FOLDER / f"{name}.json").write_text(text(name), encoding="utf-8")


if __name__ == "__main__":
    main()
