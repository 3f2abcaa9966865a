"""`refsample noise` on tiny beside llama.cpp itself, on the same weights in Q8_0 and Q4_0 and the same prompts.

The server tells the law after each prefix of each prompt; its mean KL from our float64 truth has to be what our
emulation says it is. At the first token even the errors are the same; later ones part wherever a value lay so near to
the middle between two steps that float32's own error decides which it is rounded to.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from refsample.generation.load import load
from refsample.generation.model import Model
from refsample.generation.noise import Truth, default_prompts, measure, truth_of

httpx = pytest.importorskip("httpx2")
pytest.importorskip("gguf")
pytest.importorskip("xllamacpp")

# The helpers import those packages, hence after the skips.
from tests.parity.stranger.gguf_writer import Quant, convert  # noqa: E402
from tests.parity.stranger.llamacpp_server import serve_gguf  # noqa: E402

pytestmark = pytest.mark.parity

PROMPTS = 6  # 280 positions, a request each
FACTOR = 1.5


@pytest.fixture(scope="module")
def model() -> Model:
    return load("tiny")


@pytest.fixture(scope="module")
def truth(model: Model) -> Truth:
    return truth_of(model, default_prompts(model)[:PROMPTS])


def kl(p: NDArray[Any], q: NDArray[Any]) -> float:
    """Mean KL(p || q) in nats of log-probabilities [T, V]."""
    return float((np.exp(p) * (p - q)).sum(axis=1).mean())


def laws_of_llamacpp(folder: Path, quant: Quant, model: Model, truth: Truth) -> NDArray[Any]:
    """Log-probabilities [T, V] after every prefix of the prompts, normalised here in float64."""
    size = model.config.vocab_size
    open_character = [i for i in range(size) if b"\xef\xbf\xbd" in model.tokenizer.decode([i]).encode()]
    body = {
        "max_tokens": 1, "logprobs": size, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0,
        "logit_bias": [[token, False] for token in open_character],  # they are told of no token that ends in one
    }  # fmt: skip
    laws = []
    with (
        serve_gguf(convert(model.folder, folder / f"{quant}.gguf", quant), slots=1) as url,
        httpx.Client(base_url=url, timeout=60) as http,
    ):
        for ids in truth.prompts:
            for end in range(1, len(ids)):
                reply = http.post("/v1/completions", json=body | {"prompt": list(ids[:end])})
                assert reply.status_code == 200, reply.text
                law = np.full(size, np.nan)
                for entry in reply.json()["choices"][0]["logprobs"]["content"][0]["top_logprobs"]:
                    law[entry["id"]] = entry["logprob"]
                laws.append(law - np.log(np.exp(law).sum()))
    return np.array(laws)


def ours(model: Model, name: str, truth: Truth) -> NDArray[Any]:
    """Log-probabilities [T, V] of an emulation at the same positions."""
    run, laws = model.transformer.with_precision(name), []
    for ids in truth.prompts:
        rows = run.forward([(ids[:-1], run.new_cache())], rows="all")[0].astype(np.float64)
        rows -= rows.max(axis=1, keepdims=True)
        laws.append(rows - np.log(np.exp(rows).sum(axis=1, keepdims=True)))
    return np.concatenate(laws)


@pytest.mark.parametrize(("quant", "name", "part"), [("Q8_0", "q8_0", 0.7), ("Q4_0", "q4_0", 0.1)])
def test_kl_is_that_of_llamacpp(
    quant: Quant, name: str, part: float, model: Model, truth: Truth, tmp_path: Path
) -> None:
    exact, theirs = np.concatenate(truth.laws), laws_of_llamacpp(tmp_path, quant, model, truth)
    (noise,) = measure(model, truth, [name])
    said, measured = noise.kl, kl(exact, theirs)
    assert measured / FACTOR < said < measured * FACTOR, (said, measured)
    emulated = ours(model, name, truth)
    assert kl(theirs, emulated) < part * measured, "what is left beside the same errors"
    starts = np.cumsum([0, *map(len, truth.laws[:-1])])
    assert kl(exact[starts], theirs[starts]) > 1e-5 and abs(kl(theirs[starts], emulated[starts])) < 1e-11
    top = float(np.mean(exact.argmax(axis=1) == theirs.argmax(axis=1)))
    assert abs(top - noise.same_top) < 0.02


def test_float32_weights_have_no_such_noise(model: Model, truth: Truth, tmp_path: Path) -> None:
    """What the comparison itself adds: llama.cpp's float32 and the figures in its JSON."""
    few = Truth(truth.prompts[:2], truth.laws[:2])
    assert kl(np.concatenate(few.laws), laws_of_llamacpp(tmp_path, "F32", model, few)) < 1e-9
