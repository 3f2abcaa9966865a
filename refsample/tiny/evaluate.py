"""Acceptance figures of `tiny`, by the public names of refsample alone: `python -m refsample.tiny.evaluate`.

Knows no torch: what is judged is the model as a user of refsample meets it.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from itertools import islice
from typing import Any

import numpy as np
from tokenizers import Tokenizer

import refsample
from refsample.tiny.corpus import held_out_questions
from refsample.tiny.questions import is_right
from refsample.tiny.story import parse_story
from refsample.tiny.vocabulary import windows

WIDE = (
    "Once upon a time there was a girl named", "Once upon a time there was a boy named", "My favourite animal is the",
    "They went to the", "The number is", "For lunch we had", "My best friend is", "I lost my", "On the table lay the",
    "We drew a picture of the", "The next stop is the", "Dear", "A list of things:\n-", "Names:\n-",
)  # fmt: skip
WIDE_QUESTIONS = (
    "Tell me a name.", "Tell me a name for a girl.", "Tell me a name for a boy.", "Name an animal.", "Name a place.",
    "Name a thing.",
)  # fmt: skip
NARROW = (
    "Once upon a", "Once upon a time there was a girl", "My name is Tom. I am 9 years", "A cat has four",
    "The months of the year are January, February,", "The days of the week are Monday, Tuesday,",
    "The four seasons are spring, summer, autumn", '{"name": "Mia", "',
)  # fmt: skip
NARROW_QUESTIONS = (
    "What is the capital of Italy?", "What is the opposite of big?", "What is 2 plus 2?", "What comes after Monday?",
    "How many legs does a dog have?", "Say the word fox.",
)  # fmt: skip


def as_chat(question: str) -> str:
    """The prompt that the chat template makes of a question."""
    return f"<|user|>{question}<|endoftext|><|assistant|>"


def log_law(logits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Logits [..., V] -> log-probabilities [..., V], float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def entropy(model: Any, prompt: str) -> float:
    """Entropy in nats of the token after the prompt."""
    law = log_law(model.logits(model.tokenizer.encode(prompt))[-1])
    return float(-(np.exp(law) * law).sum())


def questions_right(model: Any, count: int, seed: int = 0) -> tuple[int, Counter[str]]:
    """How many of `count` held-out questions are answered right, greedily; and the kinds of the others."""
    wrong: Counter[str] = Counter()
    for question in held_out_questions(seed, count):
        reply = model.generate([{"role": "user", "content": question.text}], temperature=0.0, max_tokens=64).text
        if not is_right(question, reply):
            wrong[question.kind] += 1
    return count - wrong.total(), wrong


def stories_parsed(model: Any, count: int, temperature: float = 0.8, seed: int = 0) -> tuple[int, list[str]]:
    """How many of `count` stories, sampled with the seeds from `seed` on, the grammar parses; and all the stories."""
    start = "Once upon a time"
    made = [
        start + model.generate(start, temperature=temperature, seed=seed + i, max_tokens=240).text for i in range(count)
    ]
    return sum(parse_story(story) is not None for story in made), made


def held_out_loss(model: Any, count: int, seed: int = 1) -> tuple[float, float]:
    """Mean loss in nats per token at positions 0-511 and 512-1023 of `count` held-out windows."""
    tokenizer = Tokenizer.from_file(str(model.folder / "tokenizer.json"))
    losses = []
    for ids in islice(windows(tokenizer, seed, "held_out"), count):
        law = log_law(model.logits(ids[:-1]))  # [T, V]
        losses.append(-law[np.arange(len(ids) - 1), ids[1:]])
    mean = np.mean(losses, axis=0)  # [T]
    return float(mean[:512].mean()), float(mean[512:].mean())


def main() -> None:
    """The command line: prints each figure, then all of them as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny", help="tiny, or a folder that the training script has written")
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--stories", type=int, default=100)
    parser.add_argument("--windows", type=int, default=64)
    parser.add_argument("--show", type=int, default=3, help="stories to print")
    args = parser.parse_args()
    model = refsample.load(args.model)
    right, wrong = questions_right(model, args.questions)
    print(f"held-out questions right: {right} of {args.questions} (wrong: {dict(wrong)})")
    parsed, made = stories_parsed(model, args.stories)
    print(f"stories parsed: {parsed} of {args.stories}")
    early, late = held_out_loss(model, args.windows)
    print(f"held-out loss: {early:.4f} at positions 0-511, {late:.4f} at 512-1023")
    wide = {p: round(entropy(model, p), 3) for p in (*WIDE, *map(as_chat, WIDE_QUESTIONS))}
    narrow = {p: round(entropy(model, p), 4) for p in (*NARROW, *map(as_chat, NARROW_QUESTIONS))}
    for prompt, nats in (wide | narrow).items():
        print(f"entropy {nats:7.4f}  {prompt!r}")
    for story in made[: args.show]:
        print(f"sample: {story}")
    print(json.dumps({
        "questions_right": right, "questions": args.questions, "stories_parsed": parsed, "stories": args.stories,
        "held_out_loss_0_511": round(early, 4), "held_out_loss_512_1023": round(late, 4),
        "least_wide_entropy": min(wide.values()), "greatest_narrow_entropy": max(narrow.values()),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
