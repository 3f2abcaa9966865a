"""vectors on the command line: the list, our own run, and adapters right and wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from refsample.sampling.vectors import vectors
from refsample.spec.load import engines
from tests.cli.conftest import Cli

ADAPTER = '''
import refsample
from refsample.sampling.params import SamplingParams

ENGINE = "llamacpp"
PARAMETERS = ("temperature", "top_p", "top_k")

def law(logits, params, prompt_ids, output_ids):
    return refsample.distribution(logits, SamplingParams(**params), prompt_ids, output_ids, engine=OTHER).probs
'''


def test_list_and_own_run(cli: Cli) -> None:
    assert f"{len(vectors())} vectors" in cli("vectors", "list").out
    assert "D01/mlx" in cli("vectors", "list", "--engine", "mlx").out
    found = cli("vectors", "run", "--engine", "tgi", "--json")
    assert found.code == 0 and found.json["failed"] == [] and found.json["passed"] == found.json["vectors"] > 10


def test_an_adapter(cli: Cli, tmp_path: Path) -> None:
    right, wrong = tmp_path / "right.py", tmp_path / "wrong.py"
    right.write_text(ADAPTER.replace("OTHER", '"llamacpp"'), encoding="utf-8")
    wrong.write_text(ADAPTER.replace("OTHER", '"vllm"'), encoding="utf-8")
    good = cli("vectors", "run", "--adapter", str(right))
    assert good.code == 0 and "left out, which the adapter cannot be asked" in good.out
    bad = cli("vectors", "run", "--adapter", str(wrong))
    assert bad.code == 1 and "D01/llamacpp: temperature before or after top_p" in bad.out
    assert "support: [0] instead of [0, 1]" in bad.out


BROKEN = [
    ("raise Exception('boom')", "the adapter raised Exception: boom"),
    ("raise SystemExit(3)", "the adapter raised SystemExit: 3"),
    ("return None", "probabilities of the shape [] instead of [4]"),
    ("return [[0.25] * len(logits)]", "probabilities of the shape [1, 4] instead of [4]"),
    ("return 'x'", "which is no array of numbers"),
    ("return [float('nan')] * len(logits)", "is nan"),
    ("return [-1.0, *[2.0 / (len(logits) - 1)] * (len(logits) - 1)]", "p(0) is -1.0"),
    ("return [1.0] * len(logits)", "the probabilities add up to 4"),
]


@pytest.mark.parametrize(("body", "words"), BROKEN)
def test_a_broken_adapter_is_told(cli: Cli, tmp_path: Path, body: str, words: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(f'ENGINE = "tgi"\nPARAMETERS = ("top_k", "top_p")\n'
                    f"def law(logits, params, prompt_ids, output_ids):\n    {body}\n", encoding="utf-8")  # fmt: skip
    found = cli("vectors", "run", "--adapter", str(path))
    assert found.code == 1 and words in found.out and found.err == ""


@pytest.mark.parametrize("engine", engines())
def test_our_own_law_through_an_adapter(cli: Cli, tmp_path: Path, engine: str) -> None:
    """From float32 logits, where rounding turns ties, and from float64 logits."""
    path = tmp_path / "ours.py"
    text = ADAPTER.replace('"llamacpp"', f'"{engine}"').replace("OTHER", f'"{engine}"')
    path.write_text(text.replace('PARAMETERS = ("temperature", "top_p", "top_k")', ""), encoding="utf-8")
    for more in ((), ("--float64",)):
        found = cli("vectors", "run", "--adapter", str(path), *more)
        assert found.code == 0, found.out


def test_refusals(cli: Cli, tmp_path: Path) -> None:
    empty = tmp_path / "empty.py"
    empty.write_text("", encoding="utf-8")
    bad = {name: tmp_path / f"{name}.py" for name in ("syntax", "engine", "names", "none")}
    bad["syntax"].write_text("def", encoding="utf-8")
    bad["engine"].write_text("ENGINE = 'nope'\nlaw = print", encoding="utf-8")
    bad["names"].write_text("ENGINE = 'hf'\nlaw = print\nPARAMETERS = ('temp',)", encoding="utf-8")
    bad["none"].write_text("ENGINE = 'hf'\nlaw = print\nfits = lambda one: False", encoding="utf-8")
    for given, words in ((str(empty), "has no ENGINE and no law"), ("no_such_module", "cannot be imported"),
                         (str(tmp_path / "no.py"), "cannot be imported"), ("", "cannot be imported"),
                         (str(bad["syntax"]), "SyntaxError"), (str(bad["engine"]), "engine='nope': must be one of"),
                         (str(bad["names"]), "temp"), (str(bad["none"]), "can be asked none of")):  # fmt: skip
        found = cli("vectors", "run", "--adapter", given)
        assert found.code == 2 and words in found.err
    assert cli("vectors", "list", "--engine", "nope").code == 2
    assert "goes with --adapter" in cli("vectors", "run", "--float64").err


def test_a_broken_fits_is_told(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text('ENGINE = "tgi"\ndef law(*a): pass\ndef fits(one): return one.nothing\n', encoding="utf-8")
    found = cli("vectors", "run", "--adapter", str(path))
    assert found.code == 2 and "its fits raised AttributeError at " in found.err and found.err.count("\n") == 1
