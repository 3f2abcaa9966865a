"""Other engines' own sampling code against the engine files, on random cases; `bench/peers` runs them in thousands."""

from __future__ import annotations

import pytest

from bench.peers.compare import compare

pytestmark = pytest.mark.parity

NEEDS = {
    "hf": ("torch", "transformers"), "llamacpp": ("xllamacpp",), "vllm": ("torch", "vllm"),
    "sglang": ("torch", "sglang"), "mlx": ("mlx.core", "mlx_lm"),
}  # fmt: skip
MOST_UNDECIDED = 0.1
"""Cases in which a token lies nearer to a cut than float32 can tell; measured: 1 to 6 in a hundred."""


@pytest.mark.parametrize(
    ("name", "cases"), [("hf", 600), ("llamacpp", 600), ("vllm", 600), ("sglang", 600), ("mlx", 40)]
)
def test_their_code_is_the_engine_file(name: str, cases: int) -> None:
    for module in NEEDS[name]:
        if module in ("vllm", "sglang"):  # only their files are read
            from importlib.util import find_spec

            if find_spec(module) is None:
                pytest.skip(f"no {module} here")
        else:
            pytest.importorskip(module)
    row = compare(name, cases, seed=len(name))
    assert row["mismatch"] == 0 and row["cases"] == cases
    assert row["undecided"] <= MOST_UNDECIDED * cases
