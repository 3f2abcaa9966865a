"""The `llamacpp` engine file against the running server: the law of the next token, after every sampler step.

With `post_sampling_probs` and one alternative for each token of the vocabulary the server tells the probabilities that
it draws from, so nothing here is statistical. The raw logits come from transformers in float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refsample.sampling.params import SamplingParams
from refsample.sampling.pipeline import distribution

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
httpx = pytest.importorskip("httpx2")
pytest.importorskip("gguf")
pytest.importorskip("xllamacpp")

# The helpers import those packages, hence after the skips.
from tests.parity.stranger.gguf_writer import convert  # noqa: E402
from tests.parity.stranger.llamacpp_server import serve_gguf  # noqa: E402

pytestmark = pytest.mark.parity

TINY = Path(__file__).parents[2] / "refsample" / "tiny"
OFF = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
PROMPT = "Once upon a time there was a"
STORY = (
    "Once upon a time there was a small dog. The dog had a red ball. The ball was small and red. One day the dog lost "
    "the ball in the park. The dog looked for the ball near the tree, near the pond and near the house. The ball was "
    "not there. The dog was sad. Then a girl came to the park. The girl had the red ball. The dog"
)
CASES: tuple[dict[str, Any], ...] = (
    {},
    {"temperature": 0.7},
    {"temperature": 1.8},
    {"top_k": 1},
    {"top_k": 7},
    {"top_p": 0.5},
    {"top_p": 0.93},
    {"min_p": 0.02},
    {"min_p": 1.0},
    {"temperature": 0.5, "top_p": 0.8},
    {"temperature": 2.0, "min_p": 0.05},
    {"temperature": 0.6, "top_k": 12, "top_p": 0.9, "min_p": 0.03},
    {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05},
    {"presence_penalty": 1.2},
    {"frequency_penalty": 0.4},
    {"repetition_penalty": 1.3},
    {"repetition_penalty": 0.8},
    {"repetition_penalty": 1.2, "frequency_penalty": -0.2, "presence_penalty": 0.5, "temperature": 0.9, "top_p": 0.9},
)


@dataclass(frozen=True, slots=True)
class Stranger:
    """The server and the float64 model behind the same weights."""

    http: Any
    model: Any
    tokenizer: Any

    def answer(self, prompt: list[int], params: dict[str, Any], **body: object) -> list[dict[str, Any]]:
        """Per generated token its `id` and the law it was drawn from, `top_probs` over the whole vocabulary."""
        sent = {**OFF, **params}
        sent["repeat_penalty"] = sent.pop("repetition_penalty", 1.0)
        fixed = {"prompt": prompt, "logprobs": self.model.config.vocab_size, "post_sampling_probs": True}
        reply = self.http.post("/v1/completions", json={**fixed, **sent, **body})
        assert reply.status_code == 200, reply.text
        return reply.json()["choices"][0]["logprobs"]["content"]

    def logits(self, ids: list[int]) -> Any:
        with torch.no_grad():
            return self.model(input_ids=torch.tensor([ids])).logits[0].numpy()  # [T, V]


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stranger]:
    model = transformers.AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float64, attn_implementation="eager")
    path = convert(TINY, tmp_path_factory.mktemp("law") / "tiny.gguf")
    with serve_gguf(path, slots=1) as url, httpx.Client(base_url=url, timeout=60) as http:
        yield Stranger(http, model.eval(), transformers.AutoTokenizer.from_pretrained(TINY))


def assert_same_law(
    entry: dict[str, Any],
    logits: Any,
    params: dict[str, Any],
    prompt: list[int],
    output: list[int],
) -> None:
    """Support and probabilities of the engine file are the server's, but for tokens within 1e-6 of a cut."""
    ours = distribution(logits, SamplingParams(**params), prompt, output, engine="llamacpp")
    theirs = np.zeros(ours.probs.size)
    for candidate in entry["top_probs"]:
        theirs[candidate["id"]] = candidate["prob"]
    # Below 1e-30 float32 runs out of exponent: the server's probability is 0 and says nothing of the support.
    decided = np.setdiff1d(np.flatnonzero((ours.probs > 1e-30) | (theirs > 0.0)), ours.boundary)
    assert (ours.support[decided] == (theirs[decided] > 0.0)).all(), params
    if (ours.support == (theirs > 0.0))[ours.boundary].all():
        assert np.abs(ours.probs - theirs).max() <= 5e-6, params


@pytest.mark.parametrize("params", CASES, ids=str)
@pytest.mark.parametrize("text", [PROMPT, STORY], ids=["short", "beyond the window"])
def test_the_first_token_has_the_law_of_the_engine_file(stranger: Stranger, text: str, params: dict[str, Any]) -> None:
    prompt = stranger.tokenizer(text)["input_ids"]
    (entry,) = stranger.answer(prompt, params, max_tokens=1, seed=1)
    assert_same_law(entry, stranger.logits(prompt)[-1], params, prompt, [])


@pytest.mark.parametrize("params", [case for case in CASES if any("penalty" in name for name in case)], ids=str)
def test_penalties_see_the_last_64_tokens_of_prompt_and_output(stranger: Stranger, params: dict[str, Any]) -> None:
    prompt = stranger.tokenizer(STORY)["input_ids"][-60:]
    entries = stranger.answer(prompt, params, max_tokens=12, seed=3, ignore_eos=True)
    output = [entry["id"] for entry in entries]
    assert len(output) == 12
    logits = stranger.logits(prompt + output)
    end = stranger.model.config.eos_token_id
    for step, entry in enumerate(entries):
        row = logits[len(prompt) - 1 + step].copy()
        row[end] = -np.inf  # ignore_eos
        assert_same_law(entry, row, params, prompt, output[:step])


def test_a_bias_is_added_before_the_penalties_and_not_clamped(stranger: Stranger) -> None:
    prompt = stranger.tokenizer(PROMPT)["input_ids"]
    row = stranger.logits(prompt)[-1]
    best, seen = int(row.argmax()), prompt[-1]
    bias = {best: -2.5, seen: 150.0, 40: 3.25}
    params = {"repetition_penalty": 1.5, "temperature": 0.9}
    (entry,) = stranger.answer(prompt, params, max_tokens=1, logit_bias={str(i): value for i, value in bias.items()})
    assert_same_law(entry, row, {**params, "logit_bias": bias}, prompt, [])


def test_what_is_not_sent_has_the_defaults_that_the_server_names(stranger: Stranger) -> None:
    """The trap for a verifier: top_k, top_p and min_p are on unless they are switched off."""
    prompt = stranger.tokenizer(PROMPT)["input_ids"]
    size = stranger.model.config.vocab_size
    body = {"prompt": prompt, "max_tokens": 1, "logprobs": size, "post_sampling_probs": True, "temperature": 1}
    reply = stranger.http.post("/v1/completions", json=body).json()
    entry = reply["choices"][0]["logprobs"]["content"][0]
    assert_same_law(entry, stranger.logits(prompt)[-1], {"top_k": 40, "top_p": 0.95, "min_p": 0.05}, prompt, [])


def test_greedy_is_the_largest_logit_that_the_filters_left(stranger: Stranger) -> None:
    prompt = stranger.tokenizer(PROMPT)["input_ids"]
    row = stranger.logits(prompt)[-1]
    (entry,) = stranger.answer(prompt, {"temperature": 0.0, "frequency_penalty": 1.0}, max_tokens=1)
    law = distribution(row, SamplingParams(temperature=0.0, frequency_penalty=1.0), prompt, (), engine="llamacpp")
    assert entry["id"] == int(law.probs.argmax())
    assert law.probs.max() == 1.0
