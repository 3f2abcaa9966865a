"""Every family against transformers (float32, eager): 600 tokens at once, 64 tokens one by one, and our own float64.

`python -m tests.parity.test_families` prints the table of docs/families.md.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from refsample.model.load import load_transformer  # noqa: E402  (after the skips)
from refsample.model.rows import FAMILIES  # noqa: E402
from tests.parity.families import CASES, write_random  # noqa: E402

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore::FutureWarning:transformers"),
    pytest.mark.filterwarnings("ignore:.past_key_values. is deprecated:FutureWarning"),  # 5.0 lacks the new name
]
BOUND = 5e-5
TEXT, PROMPT, GREEDY = 600, 24, 64


@dataclass(frozen=True, slots=True)
class Row:
    """Largest differences in standard deviations of transformers' logits."""

    prefill: float
    decode: float
    exact: float
    """Ours in float32 against ours in float64."""
    theirs: float
    """transformers in float32 against ours in float64."""
    greedy: int
    """Tokens of the greedy texts that are equal, up to a difference of the two best that is below the bound."""
    clear: bool
    """Where the texts part, the two best were no clearer than the bound."""


def compare(name: str, folder: Path) -> Row:
    """Write a random model of a case and run it both ways."""
    write_random(name, folder)
    eager: dict[str, Any] = {"attn_implementation": "eager"}
    if "num_experts_per_tok" in CASES[name][1]:
        eager["experts_implementation"] = "eager"
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **eager).eval()
    ours = load_transformer(folder)
    exact = ours.with_precision("float64")
    ids = np.random.default_rng(1).integers(0, ours.config.vocab_size, TEXT)
    with torch.no_grad():
        want = theirs(torch.tensor(ids[None])).logits[0].numpy()
    deviation = float(want.std())
    got = ours.forward([(ids, ours.new_cache(TEXT))], rows="all")[0]
    truth = exact.forward([(ids, exact.new_cache(TEXT))], rows="all")[0]
    decode, greedy, clear = _greedy(theirs, ours, ids[:PROMPT], BOUND * deviation)

    def apart(a: NDArray[Any], b: NDArray[Any]) -> float:
        return float(np.abs(a - b).max()) / deviation

    return Row(apart(got, want), decode / deviation, apart(got, truth), apart(want, truth), greedy, clear)


def _greedy(theirs: Any, ours: Any, prompt: NDArray[Any], bound: float) -> tuple[float, int, bool]:
    """64 greedy tokens of both with a cache: the largest difference of logits, how many agree, and whether a parting
    was a near tie."""
    past, cache, worst = None, ours.new_cache(PROMPT + GREEDY), 0.0
    tokens = list(prompt)
    for step in range(GREEDY):
        with torch.no_grad():
            out = theirs(torch.tensor([tokens]), past_key_values=past, use_cache=True)
        past, want = out.past_key_values, out.logits[0, -1].numpy()
        got = ours.forward([(tokens, cache)])[0][0]
        worst = max(worst, float(np.abs(got - want).max()))
        if got.argmax() != want.argmax():
            best = np.sort(want)[-2:]
            return worst, step, bool(best[1] - best[0] <= 2 * bound)
        tokens = [int(want.argmax())]
    return worst, GREEDY, True


def test_every_family_has_three_configs() -> None:
    kinds = [model_type for model_type, _ in CASES.values()]
    assert set(kinds) == set(FAMILIES) and min(kinds.count(kind) for kind in set(kinds)) >= 3


@pytest.mark.parametrize("name", CASES)
def test_family(name: str, tmp_path: Path) -> None:
    row = compare(name, tmp_path)
    assert max(row.prefill, row.decode, row.exact) <= BOUND
    assert row.greedy == GREEDY or row.clear


def main() -> None:
    """The table, in Markdown."""
    warnings.simplefilter("ignore")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    click.echo(f"transformers {transformers.__version__}, torch {torch.__version__}\n")
    click.echo("| config | prefill 600 | decode 64 | float32 - float64 | theirs - float64 | greedy |")
    click.echo("| --- | --- | --- | --- | --- | --- |")
    for name in sys.argv[1:] or CASES:
        with tempfile.TemporaryDirectory() as place:
            row = compare(name, Path(place))
        figures = " | ".join(f"{value:.1e}" for value in (row.prefill, row.decode, row.exact, row.theirs))
        click.echo(f"| {name} | {figures} | {row.greedy} of {GREEDY} |")


if __name__ == "__main__":
    main()
