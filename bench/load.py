"""A server under load: streaming clients, a third of whom hang up at random. Is every answer the one it has alone?

The expected chunks of each question are computed in this process first, one question at a time. Then the clients ask
for so many seconds; every stream has to equal its expectation chunk by chunk, and one that is left early the beginning
of it. Memory of the server is read a quarter of the way through and at the end.

    python bench/load.py --clients 64 --seconds 120 --out bench/results/load.json
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

import refsample
from refsample.api.stream import stream
from refsample.generation.model import Model
from served import served

PATHS = {False: "/v1/completions", True: "/v1/chat/completions"}
PROMPTS = ("Once upon a time", "The cat sat on", "Two plus three is", "In the morning the boy", "One day a")
LEAVING = 1 / 3
"""The share of streams that are left before their end."""


@dataclass(frozen=True, slots=True)
class Question:
    """A request and the chunks that answer it."""

    path: str
    body: Mapping[str, Any]
    expected: tuple[str, ...]


@dataclass(slots=True)
class Tally:
    """What the clients saw."""

    answered: int = 0
    left: int = 0
    chunks: int = 0
    wrong: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


def questions(models: Mapping[str, Model], count: int, seed: int) -> list[Question]:
    """`count` questions of all kinds, with their answers computed alone."""
    draw = random.Random(seed)
    asked = []
    for number in range(count):
        name, chat = draw.choice(list(models)), draw.random() < 0.3
        body: dict[str, Any] = {
            "model": name,
            "seed": number,
            "max_tokens": draw.choice((1, 8, 24, 48)),
            "temperature": draw.choice((0, 0.7, 1, 1.4)),
            "n": draw.choice((1, 1, 1, 2, 3)),
            "stream": True,
            "stream_options": {"include_usage": True},
            **draw.choice(({}, {"top_p": 0.8}, {"top_k": 20}, {"frequency_penalty": 0.5}, {"stop": ["."]})),
        }
        prompt = draw.choice(PROMPTS)
        if chat:
            body |= {"messages": [{"role": "user", "content": prompt}], "logprobs": True, "top_logprobs": 2}
        else:
            body |= {"prompt": prompt, "logprobs": 2}
        if body["temperature"] == 0:
            body["n"] = 1
        chunks = stream(models[name], body, chat=chat)
        asked.append(Question(PATHS[chat], body, tuple(plain(chunk) for chunk in chunks)))
    return asked


def plain(chunk: Mapping[str, Any]) -> str:
    """A chunk as text, less what differs between two answers to one request."""
    return json.dumps({name: value for name, value in chunk.items() if name not in ("id", "created")}, sort_keys=True)


def ask(client: httpx2.Client, question: Question, leave_after: int | None, tally: Tally) -> None:
    """One stream, read to its end or left after so many chunks; what is wrong with it goes into the tally."""
    got: list[str] = []
    ids: set[str] = set()
    done = False
    try:
        with client.stream("POST", question.path, json=question.body) as response:
            if response.status_code != 200:
                response.read()
                got.append(f"status {response.status_code}: {response.text}")
            for line in response.iter_lines() if not got else ():
                if line == "data: [DONE]":
                    done = True
                elif line:
                    chunk = json.loads(line.removeprefix("data: "))
                    ids.add(chunk.get("id", ""))
                    got.append(plain(chunk))
                if leave_after is not None and len(got) >= leave_after:
                    break
    except httpx2.HTTPError as error:
        got.append(f"{type(error).__name__}: {error}")
    expected = question.expected if leave_after is None else question.expected[: len(got)]
    fault = None
    if tuple(got) != expected:
        at = next((i for i, pair in enumerate(zip(got, expected, strict=False)) if pair[0] != pair[1]), len(expected))
        fault = f"chunk {at} of {question.body}: {got[at] if at < len(got) else 'missing'}"
    elif len(ids) > 1 or (leave_after is None and not done):
        fault = f"{question.body}: ids {sorted(ids)}, done {done}"
    with tally.lock:
        tally.chunks += len(got)
        tally.answered += leave_after is None
        tally.left += leave_after is not None
        if fault is not None:
            tally.wrong.append(fault)


def client(url: str, asked: Sequence[Question], seed: int, goes_on: Callable[[int], bool], tally: Tally) -> None:
    """One client: asks questions at random while `goes_on(number of streams so far)`."""
    draw, count = random.Random(seed), 0
    with httpx2.Client(base_url=url, timeout=60) as http:
        while goes_on(count):
            question = draw.choice(asked)
            leaves = draw.random() < LEAVING
            ask(http, question, draw.randint(1, len(question.expected)) if leaves else None, tally)
            count += 1


def load(url: str, asked: Sequence[Question], clients: int, goes_on: Callable[[int], bool], patience: float) -> Tally:
    """So many clients at once. `patience`: seconds until a client that does not end counts as hanging."""
    tally = Tally()
    threads = [
        threading.Thread(target=client, args=(url, asked, seed, goes_on, tally), daemon=True) for seed in range(clients)
    ]
    for thread in threads:
        thread.start()
    end = time.monotonic() + patience
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    hanging = sum(thread.is_alive() for thread in threads)
    with tally.lock:
        tally.wrong += ["a client never came to its end"] * hanging
    return tally


def resident(pid: int) -> int:
    """Bytes of memory that a process has (Linux)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def main() -> int:
    """Run the load, print what came of it; exit code 1 where an answer was wrong or memory grew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--adapter", help="also served, beside the model: a name or folder as `serve --lora` takes it")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    models = {"tiny": refsample.load("tiny")}
    arguments = ["--model", "tiny"]
    if options.adapter:
        models["adapter"] = refsample.load("tiny", adapter=options.adapter)
        arguments += ["--lora", f"adapter={options.adapter}"]
    asked = questions(models, options.questions, 0)
    memory: list[int] = []
    with served(*arguments) as (url, pid):
        start = time.monotonic()
        quarter = threading.Timer(options.seconds / 4, lambda: memory.append(resident(pid)))
        quarter.start()
        tally = load(url, asked, options.clients, lambda _: time.monotonic() < start + options.seconds,
                     options.seconds + 60)  # fmt: skip
        memory.append(resident(pid))
    size = {name: getattr(options, name) for name in ("clients", "seconds", "questions", "adapter")}
    row = {**size, "answered": tally.answered, "left": tally.left, "chunks": tally.chunks,
           "wrong": len(tally.wrong), "mib_quarter": memory[0] >> 20, "mib_end": memory[-1] >> 20}  # fmt: skip
    print(json.dumps(row, indent=1))
    for line in tally.wrong[:5]:
        print(line, file=sys.stderr)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(row, indent=1) + "\n")
    return 1 if tally.wrong or memory[-1] > 1.1 * memory[0] else 0


if __name__ == "__main__":
    sys.exit(main())
