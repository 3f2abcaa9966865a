"""vectors on the command line: the list, our own run, and adapters right and wrong."""

from __future__ import annotations

from pathlib import Path

from refsample.sampling.vectors import vectors
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


def test_refusals(cli: Cli, tmp_path: Path) -> None:
    empty = tmp_path / "empty.py"
    empty.write_text("", encoding="utf-8")
    for given, words in ((str(empty), "has no ENGINE and no law"), ("no_such_module", "cannot be imported"),
                         (str(tmp_path / "no.py"), "cannot be imported")):  # fmt: skip
        found = cli("vectors", "run", "--adapter", given)
        assert found.code == 2 and words in found.err
