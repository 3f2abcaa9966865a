"""How far an emulated precision moves the law of the next token from the truth, which is float64.

The figures are those that quantised weights are judged by elsewhere (llama.cpp's perplexity tool prints the same
kinds), and the logit error that the verifier takes its error bars from. Knows nothing of endpoints or commands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refsample import tiny
from refsample.errors import ParameterError
from refsample.generation.model import Model, Prompt
from refsample.model.emulations import ARITHMETICS
from refsample.tiny.corpus import documents

if TYPE_CHECKING:
    from refsample.model.transformer import Transformer

Floats = NDArray[np.float64]
TRUTH = "float64"
LIKELIEST = 64
"""So many tokens of each position tell its logit error: the others have no say in what is drawn or reported."""
QUANTILES = (0.5, 0.95, 0.99, 1.0)
DOCUMENTS = 32  # of tiny's held-out corpus: 1500 positions
_ROWS = 256  # positions that are computed together; how ids are split changes no bit

PASSAGES = (
    "The ferry left at seven, an hour late, and by then the wind had turned. Two men on the upper deck argued about "
    "whether the lighthouse had been painted white or grey when they were boys; neither of them looked up to see it. "
    "Below, a woman counted the crates again and wrote 43 on a slip of paper. She had counted 44 in the harbour.",
    "Water boils at 100 degrees Celsius at sea level, but at the top of a mountain 3,000 metres high it boils at about "
    "90. The reason is pressure: fewer molecules of air push down on the surface, so the vapour needs less energy to "
    "escape. This is why rice takes longer to cook in La Paz than in Lima.",
    "def median(values):\n    # the middle of a list, or the mean of the middle two\n    ordered = sorted(values)\n"
    "    half = len(ordered) // 2\n    if len(ordered) % 2:\n        return ordered[half]\n"
    "    return (ordered[half - 1] + ordered[half]) / 2\n",
    '{"orders": [{"id": 1017, "item": "lamp", "price": 24.5, "paid": true}, {"id": 1018, "item": "chair", "price": '
    '61.0, "paid": false}, {"id": 1019, "item": "desk", "price": 180.0, "paid": true}], "total": 265.5}',
    "Question: A train travels 60 kilometres in 45 minutes. How fast is it?\nAnswer: 45 minutes are three quarters of "
    "an hour, so the speed is 60 divided by 0.75, which is 80 kilometres per hour.\n\nQuestion: What is the capital of "
    "Portugal?\nAnswer: The capital of Portugal is Lisbon.",
)
"""For any model but tiny: prose, code, data and questions, in about 400 tokens."""


@dataclass(frozen=True, slots=True)
class Truth:
    """The float64 laws at every position of some prompts that has a next token."""

    prompts: tuple[tuple[int, ...], ...]
    laws: tuple[Floats, ...]
    """Log-probabilities [T - 1, V] of each prompt."""

    @property
    def positions(self) -> int:
        """How many there are."""
        return sum(len(law) for law in self.laws)


@dataclass(frozen=True, slots=True)
class Noise:
    """What one precision does to the law p of the truth; q is its own. Means are over `positions`."""

    name: str
    about: str
    positions: int
    """Those that the figures are of."""
    not_finite: int
    """Those left out, where a logit is infinite or no number (float16 overflows)."""
    kl: float
    """Mean KL(p || q) in nats a token."""
    kl_median: float
    kl_max: float
    same_top: float
    """Share of positions where both have the same likeliest token."""
    rms_dp: float
    """Root of the mean square of q - p, for the token that comes next in the prompt."""
    dlogp: tuple[float, ...]
    """Quantiles QUANTILES of |ln q - ln p| of that token, in nats."""
    logit_error: float
    """Root of the mean square of `logit_error`, in nats: what the verifier's error bars are made of."""


def default_prompts(model: Model) -> tuple[str, ...]:
    """For tiny, documents of its own corpus that it never saw; PASSAGES for others."""
    if model.folder == tiny.FOLDER:
        return tuple(islice(documents(0, "held_out"), DOCUMENTS))
    return PASSAGES


def truth_of(model: Model, prompts: Sequence[Prompt], on_prompt: Callable[[int], None] = lambda done: None) -> Truth:
    """The laws of the model in float64; `on_prompt` hears how many prompts are done.

    They are kept: 8 V bytes a position. ParameterError for no prompt or one of fewer than two tokens,
    ContextLengthError for one that does not fit.
    """
    ids = tuple(model.ids_of_many(prompts))
    if not ids:
        raise ParameterError("prompts", (), "must hold at least one prompt")
    for number, one in enumerate(ids, 1):
        if len(one) < 2:
            raise ParameterError("prompts", one, f"prompt {number} needs two tokens or more: the next one is looked at")
    exact, laws = model.transformer.with_precision(TRUTH), []
    for number, one in enumerate(ids, 1):
        laws.append(np.concatenate([_log_laws(rows) for rows in _rows(exact, one)]))
        on_prompt(number)
    return Truth(ids, tuple(laws))


def measure(
    model: Model, truth: Truth, names: Sequence[str], on_prompt: Callable[[str, int], None] = lambda name, done: None
) -> Iterator[Noise]:
    """The noise of each precision in turn; `on_prompt` hears its name and how many prompts are done.

    The weights of one precision at a time are in memory. ParameterError for a name of none, before anything is run.
    """
    for name in names:
        if name not in ARITHMETICS:
            raise ParameterError("precision", name, f"must be one of {', '.join(ARITHMETICS)}")
    for name in names:
        run = model.transformer.with_precision(name)
        found = []
        for number, (ids, law) in enumerate(zip(truth.prompts, truth.laws, strict=True), 1):
            start = 0
            for rows in _rows(run, ids):
                part = slice(start, start + len(rows))
                found.append(compare(law[part], rows, np.asarray(ids[1:])[part]))
                start += len(rows)
            on_prompt(name, number)
        yield summary(name, np.concatenate(found))


def compare(law: Floats, rows: NDArray[Any], following: NDArray[np.int64]) -> Floats:
    """Per position (KL, same top, dp, |d ln p|, logit error) [T, 5], NaN where a logit is not finite.

    `law` are the true log-probabilities [T, V], `rows` the other's logits [T, V], `following` the next tokens [T].
    """
    fine = np.isfinite(rows).all(axis=1)
    result = np.full((len(rows), 5), np.nan)
    law, rows, following = law[fine], rows[fine], following[fine]
    other, at = _log_laws(rows), np.arange(len(rows))
    gap = other - law  # [T, V]
    # Each term is >= 0, so nothing cancels where the laws are near: p (e^g - 1 - g), and the first two sum to nothing.
    result[fine, 0] = (np.exp(law) * (np.expm1(gap) - gap)).sum(axis=1)
    result[fine, 1] = law.argmax(axis=1) == rows.argmax(axis=1)
    result[fine, 2] = np.exp(other[at, following]) - np.exp(law[at, following])
    result[fine, 3] = np.abs(gap[at, following])
    top = np.argsort(law, axis=1)[:, -LIKELIEST:]  # [T, 64]
    result[fine, 4] = logit_error(np.take_along_axis(law, top, 1), np.take_along_axis(other, top, 1))
    return result


def logit_error(base: NDArray[Any], other: NDArray[Any]) -> Floats:
    """Root of the mean square difference of logits along the last axis, beside a common shift, which no law sees."""
    gap = (other - base).astype(np.float64)
    return np.asarray(np.sqrt(np.mean((gap - gap.mean(axis=-1, keepdims=True)) ** 2, axis=-1)))


def summary(name: str, found: Floats) -> Noise:
    """The figures of one precision from those of its positions [T, 5]; all NaN where none has finite logits."""
    fine = found[np.isfinite(found[:, 0])]
    kept = fine if len(fine) else np.full((1, 5), np.nan)
    kl, same, dp, error, logits = kept.T
    return Noise(
        name=name,
        about=ARITHMETICS[name].about,
        positions=len(fine),
        not_finite=len(found) - len(fine),
        kl=float(kl.mean()),
        kl_median=float(np.median(kl)),
        kl_max=float(kl.max()),
        same_top=float(same.mean()),
        rms_dp=float(np.sqrt(np.mean(dp**2))),
        dlogp=tuple(float(np.quantile(error, q)) for q in QUANTILES),
        logit_error=float(np.sqrt(np.mean(logits**2))),
    )


def _rows(transformer: Transformer, ids: Sequence[int]) -> Iterator[NDArray[Any]]:
    """Logits [<= 256, V] after each id but the last, in turn."""
    cache = transformer.new_cache(len(ids))
    for start in range(0, len(ids) - 1, _ROWS):
        (rows,) = transformer.forward([(ids[start : min(start + _ROWS, len(ids) - 1)], cache)], rows="all")
        yield rows


def _log_laws(rows: NDArray[Any]) -> Floats:
    """Log-probabilities [T, V] of finite logits [T, V]."""
    shifted = rows.astype(np.float64) - rows.max(axis=1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return np.asarray(shifted)
