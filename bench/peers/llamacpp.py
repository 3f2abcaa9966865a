"""llama.cpp's own samplers through its C interface, as they lie compiled in the wheel of xllamacpp.

    pip install xllamacpp
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import xllamacpp
from numpy.typing import NDArray

from bench.peers.cases import Case
from refsample.sampling.pipeline import Distribution
from refsample_kernels.thresholds import entropy

ENGINE = "llamacpp"
VERSION = f"xllamacpp {xllamacpp.__version__}"
PATH = "llama_sampler_* of the C interface, float32 on a CPU"
OVERRIDES: dict[str, object] = {}
PARAMETERS = frozenset({
    "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty",
    "logit_bias", "dry_multiplier", "dry_base", "dry_allowed_length", "dry_penalty_last_n",
    "dynatemp_range", "dynatemp_exponent", "typical_p",
    "top_n_sigma", "xtc_probability", "xtc_threshold",
})  # fmt: skip
FLOAT_MAX, UNDERFLOW = float(np.finfo(np.float32).max), -87.0
WINDOW, MIN_KEEP = 64, 0


class TokenData(ctypes.Structure):
    _fields_ = (("id", ctypes.c_int32), ("logit", ctypes.c_float), ("p", ctypes.c_float))


class TokenArray(ctypes.Structure):
    _fields_ = (("data", ctypes.POINTER(TokenData)), ("size", ctypes.c_size_t), ("selected", ctypes.c_int64),
                ("sorted", ctypes.c_bool))  # fmt: skip


class Bias(ctypes.Structure):
    _fields_ = (("token", ctypes.c_int32), ("bias", ctypes.c_float))


def _library() -> ctypes.CDLL:
    place = find_spec("xllamacpp")
    assert place is not None and place.submodule_search_locations
    library = ctypes.CDLL(str(next(Path(next(iter(place.submodule_search_locations))).glob("*.so"))))
    i, f, n, p = ctypes.c_int32, ctypes.c_float, ctypes.c_size_t, ctypes.c_void_p
    for name, arguments in {
        "logit_bias": (i, i, ctypes.POINTER(Bias)), "penalties": (i, i, f, f, f), "dry": (p, f, f, i, i, p, n),
        "top_n_sigma": (f,), "top_k": (i,), "typical": (f, n), "top_p": (f, n), "min_p": (f, n),
        "xtc": (f, f, n, ctypes.c_uint32), "temp_ext": (f, f, f),
    }.items():  # fmt: skip
        function = getattr(library, f"llama_sampler_init_{name}")
        function.argtypes, function.restype = arguments, p
    library.llama_sampler_accept.argtypes = (p, i)
    library.llama_sampler_apply.argtypes = (p, ctypes.POINTER(TokenArray))
    library.llama_sampler_free.argtypes = (p,)
    return library


LIBRARY = _library()


def _chain(params: Mapping[str, Any], size: int) -> list[int]:
    """The server's default chain, in its order (common/common.h), without the draw."""
    bias = params["logit_bias"]
    listed = (Bias * max(1, len(bias)))(*(Bias(token, value) for token, value in bias.items()))
    make = {name: getattr(LIBRARY, f"llama_sampler_init_{name}") for name in (
        "logit_bias", "penalties", "dry", "top_n_sigma", "top_k", "typical", "top_p", "min_p", "xtc", "temp_ext",
    )}  # fmt: skip
    return [
        make["logit_bias"](size, len(bias), listed),
        make["penalties"](size, WINDOW, params["repetition_penalty"], params["frequency_penalty"],
                          params["presence_penalty"]),
        make["dry"](None, params["dry_multiplier"], params["dry_base"], params["dry_allowed_length"],
                    params["dry_penalty_last_n"], None, 0),
        make["top_n_sigma"](params["top_n_sigma"]),
        make["top_k"](params["top_k"]),
        make["typical"](params["typical_p"], MIN_KEEP),
        make["top_p"](params["top_p"], MIN_KEEP),
        make["min_p"](params["min_p"], MIN_KEEP),
        make["xtc"](params["xtc_probability"], params["xtc_threshold"], MIN_KEEP, 1),
        make["temp_ext"](params["temperature"], params["dynatemp_range"], params["dynatemp_exponent"]),
    ]  # fmt: skip


def fits(one: Case) -> bool:
    """It gives one side of XTC's coin at a time."""
    return one.params.get("xtc_probability", 0.0) in (0.0, 1.0)


def error(one: Case, law: Distribution) -> float:
    """Dynamic temperature goes by an entropy that is a float32 sum, and by a power of it: that of a sure thing is lost.

    The error of T by that of the entropy, to first order, over the widest logit.
    """
    width = one.params["dynatemp_range"]
    logits = law.trace.step("temperature").logits
    alive = logits[logits > -np.inf]
    if not width or alive.size < 2:
        return 0.0
    lost = 4.0 * (alive.size + 4) * 2.0**-24  # of the entropy, in nats
    share, power = max(entropy(alive), lost) / np.log(alive.size), one.params["dynatemp_exponent"]
    low = max(0.0, one.params["temperature"] - width)
    heat = (one.params["temperature"] + width - low) * share**power
    moved = power * heat * lost / max(entropy(alive), lost)
    return float(np.ptp(alive) * moved / (low + heat) ** 2)


def doubtful(law: Distribution, one: Case, near: float, apart: NDArray[np.int64]) -> bool:
    """What its float32 makes of two extremes.

    A candidate of probability 0 makes the entropy of typical_p NaN, and then the order of all of them chance: one that
    underflows, or one at -inf that no top_k took off the list. And a DRY penalty may pass the largest float32.
    """
    steps = {step.name: step.logits for step in law.trace.steps}
    ends = any(np.abs(logits[np.isfinite(logits)]).max() > FLOAT_MAX for logits in steps.values())
    if ends or one.params["typical_p"] >= 1.0:
        return ends
    before = steps["top_k"]
    alive = before[before > -np.inf]
    listed = min(one.params["top_k"] or before.size, before.size)
    return listed > alive.size or float((alive - alive.max()).min()) < UNDERFLOW


def law(
    logits: NDArray[np.float32], params: Mapping[str, Any], prompt_ids: Sequence[int], output_ids: Sequence[int]
) -> NDArray[np.float64]:
    """Probabilities [V] of the next token: softmax of the candidates that the chain leaves."""
    size = logits.size
    data = (TokenData * size)(*(TokenData(i, float(logits[i]), 0.0) for i in range(size)))
    candidates = TokenArray(data, size, -1, False)
    for sampler in _chain(params, size):
        for token in (*prompt_ids, *output_ids):
            LIBRARY.llama_sampler_accept(sampler, token)
        LIBRARY.llama_sampler_apply(sampler, ctypes.byref(candidates))
        LIBRARY.llama_sampler_free(sampler)
    left = [candidates.data[place] for place in range(candidates.size)]
    found = np.zeros(size)
    values = np.array([one.logit for one in left], dtype=np.float64)
    if values.max() == -np.inf:
        return found
    found[[one.id for one in left]] = np.exp(values - values.max())
    return found / found.sum()
