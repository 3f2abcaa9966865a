"""What the benchmarks compute from their samples, and the folders that they make. Nothing is timed here."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from bench import equal, folders, samples, shapes, table
from bench.samples import Sample
from refsample.generation.load import load
from refsample.model.load import load_transformer

SMALL = shapes.Shape("small", 32, 2, 4, 2, 48, 300, True)
UNTIED = shapes.Shape("small-untied", 32, 1, 4, 4, 48, 300, False)
BIASED = shapes.Shape("small-qwen2", 32, 2, 4, 2, 48, 300, True, "qwen2")


def test_shapes_have_the_sizes_of_what_they_are_named_after() -> None:
    """Parameters as the models' own pages give them: 15M, 135M, 0.49B, 1.1B."""
    known = {"A": 15_191_712, "B": 134_515_008, "C": 494_032_768, "D": 1_100_048_384}
    for name, shape in shapes.SHAPES.items():
        assert sum(int(np.prod(size)) for size in folders.tensors(shape).values()) == known[name]


def test_a_step_reads_every_matrix_once_and_the_cache() -> None:
    matrices = sum(
        int(np.prod(size))
        for name, size in folders.tensors(UNTIED).items()
        if len(size) == 2 and name != "model.embed_tokens.weight"  # one row of it
    )
    assert shapes.weights_read(UNTIED) == matrices
    assert shapes.decode_bytes(UNTIED, 0, 2, 4) == 2 * matrices
    assert shapes.decode_bytes(SMALL, 10, 2, 4) - shapes.decode_bytes(SMALL, 0, 2, 4) == 10 * 2 * 2 * 16 * 4
    assert shapes.step_flops(UNTIED) == 2 * matrices


def test_flops_of_a_prefill_are_those_of_its_products() -> None:
    tokens, flops = 7, 0
    for name, size in folders.tensors(SMALL).items():
        if len(size) == 2:
            flops += 2 * size[0] * size[1] * (1 if name == "model.embed_tokens.weight" else tokens)
    for seen in range(1, tokens + 1):  # q k^T and p v of each head
        flops += SMALL.layers * SMALL.heads * 2 * (2 * SMALL.head_width * seen)
    assert shapes.prefill_flops(SMALL, tokens) == flops
    assert shapes.prefill_flops(SMALL, tokens, 3) - flops == 2 * 2 * SMALL.head_weights


def test_pairs_are_of_one_round_and_of_one_regime() -> None:
    ours = [Sample(0, 10.0, 1.0, 36.0, 36.0), Sample(1, 20.0, 1.0, 66.0, 66.0), Sample(2, 12.0, 1.0, 36.0, 40.0)]
    theirs = [Sample(0, 5.0, 1.0, 40.0, 40.0), Sample(1, 5.0, 1.0, 36.0, 36.0), Sample(3, 1.0, 1.0, 36.0, 36.0)]
    assert samples.ratios(ours, theirs) == [2.0]
    assert ours[2].limit == 38.0 and ours[2].share == pytest.approx(12 / 38)


def test_regimes_are_parted_by_gaps() -> None:
    assert samples.regimes([66.0, 36.0, 60.0, 38.0, 70.0]) == [(36.0, 38.0), (60.0, 70.0)]
    assert samples.regimes([24.0, 22.0, 26.0]) == [(22.0, 26.0)]
    found = {"us": [Sample(0, 9.0, 4.0, 36.0, 36.0), Sample(1, 15.0, 4.0, 66.0, 66.0)]}
    (row,) = samples.rows(found, "us", flips=True, threads=2)
    assert [part["share"] for part in row["regimes"]] == [1.0, pytest.approx(60 / 66)]


def test_turns_alternate_and_end_with_what_an_engine_may_take() -> None:
    order, probes = [], iter(range(100))

    def turn(name: str, seconds: float) -> samples.Turn:
        return lambda: (order.append(name), (1.0, 1.0, seconds))[1]  # type: ignore[func-returns-value]

    found = samples.taken({"a": turn("a", 1.0), "b": turn("b", 4.0)}, lambda: float(next(probes)), 4, lambda name: 5.0)
    assert order == ["a", "b", "a", "a", "a"]
    assert [(one.before, one.after) for one in found["a"]] == [(0.0, 1.0), (2.0, 3.0), (3.0, 4.0), (4.0, 5.0)]
    assert [one.round for one in found["b"]] == [0]


def test_logits_that_differ_are_not_equal() -> None:
    ours = np.random.default_rng(1).standard_normal((3, 2, 50)).astype(np.float32)
    assert equal.compared(ours, ours, "f32")["equal"]
    assert equal.compared(ours, ours + np.float32(1e-5), "f32")["equal"]
    assert not equal.compared(ours, ours[:, ::-1], "bf16")["equal"]
    one_off = ours.copy()
    one_off[1, 1, 7] += 0.01
    assert not equal.compared(ours, one_off, "f32")["equal"] and equal.compared(ours, one_off, "bf16")["equal"]


@pytest.mark.parametrize("shape", [SMALL, UNTIED, BIASED], ids=lambda shape: shape.like)
def test_a_made_folder_runs_and_is_the_same_again(shape: shapes.Shape, tmp_path: Path) -> None:
    first, second = (folders.made(shape, tmp_path / name, seed=5) for name in "ab")
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()
    logits = load_transformer(first).forward([([1, 2, 3], load_transformer(first).new_cache(3))])[0]
    assert logits.shape == (1, shape.vocabulary) and 0.3 < float(logits.std()) < 3.0
    assert load(first).generate("Once", max_tokens=2, temperature=0).token_ids


@pytest.mark.parametrize("kind", ["bf16", "f32"])
def test_gguf_says_what_it_holds(kind: str, tmp_path: Path) -> None:
    path = folders.as_gguf(folders.made(SMALL, tmp_path), SMALL, kind)
    magic, version, tensors, values = struct.unpack("<4sIQQ", path.read_bytes()[:24])
    assert (magic, version, tensors, values) == (b"GGUF", 3, len(folders.tensors(SMALL)), 12)
    matrices = sum(int(np.prod(size)) for size in folders.tensors(SMALL).values() if len(size) == 2)
    assert path.stat().st_size > matrices * (2 if kind == "bf16" else 4)


def test_the_page_shows_the_newest_results() -> None:
    page = (table.HERE / "README.md").read_text(encoding="utf-8")
    assert table.section() in page
    for path in (table.HERE / "results").glob("runtime.json"):
        report = json.loads(path.read_text(encoding="utf-8"))
        assert all(row["equal"] for one in report["shapes"].values() for row in one["checks"])
        exact = {name: one for name, one in report["shapes"].items() if any(r["kind"] == "f32" for r in one["checks"])}
        half = {name: one for name, one in report["shapes"].items() if name not in exact}
        assert "float32 engines" in table.runtime({**report, "shapes": exact})
        assert half and "float32 engines" not in table.runtime({**report, "shapes": half})  # D does not fit in float32
