"""llama.cpp's own server on our folders, against transformers: the stranger is trusted only after this.

The server serves the folder converted to GGUF (float32) with a float32 cache and without flash attention, so that
what it reports is the law of the same weights up to the rounding of float32 sums.
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from refsample.generation.load import load

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
httpx = pytest.importorskip("httpx2")
pytest.importorskip("gguf")
pytest.importorskip("xllamacpp")

# The helpers import those packages, hence after the skips.
from tests.parity.stranger.gguf_writer import convert  # noqa: E402
from tests.parity.stranger.llamacpp_server import serve_gguf  # noqa: E402
from tests.parity.stranger.random_llama import random_llama  # noqa: E402

pytestmark = pytest.mark.parity

TOLERANCE = 1e-5  # nat, on differences of logprobs: llama.cpp computes in float32, transformers here in float64
FAR = 5e-5  # the same after a thousand tokens, where float32 angles of the rotary embedding differ too
NEUTRAL = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
PROMPTS = ("Once upon a time", "The cat sat on the mat; the owl", "1, 2, 3,", "Él niño", "日本", " \n\n  a")
STRINGS = (
    "I'm sure they'll say we've done what she'd do; it's John's, isn't it? YOU'LL, I'M",
    "12 apples + 345 pears = 357.0, 1,000,000 ½ ² Ⅷ ٣ 4th 5G x1y2z3",
    "  two spaces, trailing  ",
    "tabs\t\tand\nlines\r\n\r\n\n  indented\n\n\n",
    "naïve café — Straße… déjà-vu «guillemets» ¿qué? e\u0301 (combining)",
    "日本語の文、中文字符。 한국어 Ελληνικά Русский עברית العربية नमस्ते ไทย",
    "😀👍🏽 👩\u200d👩\u200d👧 \ufe0f no\u00a0break \u3000wide \u2028line",
    "def f(x):\n    return {'a': [x**2, -1.5e-3]}  # <tag attr=\"v\"/> https://a.b/c?d=e&f#g",
    "\x00\x01\x7f\x80\xa0\xad control",
    "a<|endoftext|>b<|user|> c <|assistant|>\n<|system|>d <|nothing|> <| user |>",
    "",
)


@dataclasses.dataclass(frozen=True, slots=True)
class Served:
    """One folder, its server, and transformers' reading of the same files."""

    folder: Path
    http: Any
    model: Any
    tokenizer: Any
    partial: tuple[int, ...]
    """Tokens that hold no whole characters: the server reports no logprobs for one that leaves a character open."""

    def complete(self, **body: object) -> dict[str, Any]:
        """Choice 0 of a completion without `partial` tokens; the reported logprobs are those before the bias."""
        bias = [[token, False] for token in self.partial]
        reply = self.http.post("/v1/completions", json={"logit_bias": bias, **body})
        assert reply.status_code == 200, reply.text
        return reply.json()["choices"][0]

    def logprobs(self, ids: list[int]) -> Any:
        """transformers' log softmax after each of `ids`, computed in float64: [T, V]."""
        with torch.no_grad():
            logits = self.model(input_ids=torch.tensor([ids])).logits[0]
        return logits.log_softmax(-1)


def errors(entries: list[dict[str, Any]], row: Any) -> tuple[float, float]:
    """Largest error of the reported logprobs against `row` [V] beside a common shift, and that shift; in nats."""
    off = [entry["logprob"] - row[entry["id"]].item() for entry in entries]
    shift = sum(off) / len(off)
    return max(abs(error - shift) for error in off), abs(shift)


def normaliser_error(vocabulary: int) -> float:
    """Bound of the shift common to all logprobs: llama.cpp adds the V terms of the softmax one by one in float32."""
    return vocabulary * 2.0**-24


def _tiny() -> Path:
    return Path(__file__).parents[2] / "refsample" / "tiny"


@pytest.fixture(scope="module", params=["tiny", "random"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    room = tmp_path_factory.mktemp("llamacpp")
    folder = _tiny() if request.param == "tiny" else random_llama(room / "model")
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float64, attn_implementation="eager"
    ).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    context = model.config.max_position_embeddings
    with (
        serve_gguf(convert(folder, room / "f32.gguf"), ctx=context) as url,
        httpx.Client(base_url=url, timeout=60) as http,
    ):
        partial = tuple(i for i in range(model.config.vocab_size) if "\ufffd" in tokenizer.decode([i]))
        yield Served(folder, http, model, tokenizer, partial)


def test_every_logprob_of_the_vocabulary_is_that_of_transformers(served: Served) -> None:
    vocabulary = served.model.config.vocab_size
    for prompt in PROMPTS:
        choice = served.complete(prompt=prompt, max_tokens=1, logprobs=vocabulary, **NEUTRAL)
        top = choice["logprobs"]["content"][0]["top_logprobs"]
        want = served.logprobs(served.tokenizer(prompt)["input_ids"])[-1]
        assert len(top) == vocabulary
        error, shift = errors(top, want)
        assert error <= TOLERANCE, prompt
        assert shift <= normaliser_error(vocabulary), prompt


def test_greedy_text_and_its_logprobs_are_those_of_transformers(served: Served) -> None:
    for prompt in PROMPTS:
        choice = served.complete(prompt=prompt, max_tokens=32, temperature=0, logprobs=5)
        entries = choice["logprobs"]["content"]
        start = served.tokenizer(prompt)["input_ids"]
        ids = [entry["id"] for entry in entries]
        law = served.logprobs(start + ids)[len(start) - 1 : -1]
        for entry, row in zip(entries, law, strict=True):
            allowed = row.index_fill(0, torch.tensor(served.partial), -math.inf).topk(2)
            # The order below a gap that float32 does not resolve is nobody's error.
            if allowed.values[0] - allowed.values[1] > 2 * TOLERANCE:
                assert entry["id"] == allowed.indices[0].item()
            error, shift = errors([entry, *entry["top_logprobs"]], row)
            assert error <= TOLERANCE, prompt
            assert shift <= normaliser_error(row.numel()), prompt
            theirs = [candidate["logprob"] for candidate in entry["top_logprobs"]]
            assert theirs == pytest.approx(row.topk(5).values.tolist(), abs=TOLERANCE + normaliser_error(row.numel()))
        ends = ids[-1] == served.model.config.eos_token_id
        assert choice["finish_reason"] == ("stop" if ends else "length")
        assert choice["text"] == served.tokenizer.decode(ids, skip_special_tokens=True)


def test_greedy_text_and_its_logprobs_are_those_of_refsample(served: Served) -> None:
    model = load(str(served.folder))
    for prompt in PROMPTS:
        choice = served.complete(prompt=prompt, max_tokens=32, temperature=0, logprobs=5)
        entries = choice["logprobs"]["content"]
        ours = model.generate(
            prompt, max_tokens=32, temperature=0.0, logprobs=5, banned_token_ids=served.partial, engine="llamacpp"
        )
        assert list(ours.token_ids) == [entry["id"] for entry in entries], prompt
        assert (ours.text, ours.finish_reason) == (choice["text"], choice["finish_reason"])
        for entry, mine in zip(entries, ours.logprobs, strict=True):
            reported = {entry["id"]: entry["logprob"]} | {e["id"]: e["logprob"] for e in entry["top_logprobs"]}
            known = {mine.token_id: mine.logprob} | dict(mine.top)
            off = [reported[token] - known[token] for token in reported]
            shift = sum(off) / len(off)
            assert max(abs(error - shift) for error in off) <= 2 * TOLERANCE, prompt  # both in float32 here
            assert abs(shift) <= normaliser_error(model.config.vocab_size) + TOLERANCE, prompt


def test_a_long_prompt_stays_within_the_same_error(served: Served) -> None:
    draw = random.Random(3)
    context = served.model.config.max_position_embeddings
    ids = [draw.randrange(4, served.model.config.vocab_size) for _ in range(context - 8)]
    choice = served.complete(prompt=ids, max_tokens=4, temperature=0, logprobs=20)
    entries = choice["logprobs"]["content"]
    law = served.logprobs(ids + [entry["id"] for entry in entries])[len(ids) - 1 : -1]
    assert entries
    for entry, row in zip(entries, law, strict=True):
        error, shift = errors(entry["top_logprobs"], row)
        assert error <= FAR
        assert shift <= normaliser_error(row.numel())


def test_text_becomes_the_same_ids_as_in_the_tokenizers_library(served: Served) -> None:
    draw = random.Random(1)
    letters = "abc XYZ \t\n\r019'sStlverd!?.,-_<>|éßñ日本한😀\u200d\u00a0\u3000½Ⅷ٣न\u0301"
    noise = ["".join(draw.choices(letters, k=draw.randrange(1, 40))) for _ in range(300)]
    for text in (*STRINGS, *noise):
        reply = served.http.post("/tokenize", json={"content": text, "parse_special": True})
        assert reply.json()["tokens"] == served.tokenizer(text)["input_ids"], repr(text)


def test_prompt_tokens_are_counted_alike(served: Served) -> None:
    for text in filter(None, STRINGS):
        reply = served.http.post("/v1/completions", json={"prompt": text, "max_tokens": 1}).json()
        assert reply["usage"]["prompt_tokens"] == len(served.tokenizer(text)["input_ids"]), repr(text)


def test_a_chat_becomes_the_same_prompt(served: Served) -> None:
    chats = (
        [{"role": "user", "content": "Who are you?"}],
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "  hello\n"},
            {"role": "assistant", "content": "It's me."},
            {"role": "user", "content": "日本?"},
        ],
    )
    for messages in chats:
        want = served.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        prompt = served.http.post("/apply-template", json={"messages": messages}).json()["prompt"]
        answer = served.http.post("/v1/chat/completions", json={"messages": messages, "max_tokens": 1}).json()
        assert prompt == want
        assert answer["usage"]["prompt_tokens"] == len(served.tokenizer(want)["input_ids"])


def test_q4_0_is_another_law(served: Served, tmp_path: Path) -> None:
    """The comparison has teeth: four-bit weights move the law a thousand times as far as the tolerance."""
    vocabulary = served.model.config.vocab_size
    want = served.logprobs(served.tokenizer(PROMPTS[0])["input_ids"])[-1]
    with (
        serve_gguf(convert(served.folder, tmp_path / "q4_0.gguf", "Q4_0"), slots=1) as url,
        httpx.Client(base_url=url, timeout=60) as http,
    ):
        other = dataclasses.replace(served, http=http)
        choice = other.complete(prompt=PROMPTS[0], max_tokens=1, logprobs=vocabulary, **NEUTRAL)
    top = choice["logprobs"]["content"][0]["top_logprobs"]
    divergence = sum(math.exp(want[e["id"]].item()) * (want[e["id"]].item() - e["logprob"]) for e in top)
    assert divergence > 1e-4
    assert errors(top, want)[0] > 1000 * TOLERANCE
