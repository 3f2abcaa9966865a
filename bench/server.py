"""Tokens a second that `refsample serve` gives one stream, and sixteen at once. First: do all say what they say alone?

Server and clients are processes of their own; clients are threads of the second, which only count bytes while the time
is taken.

    PYTHONPATH=.:kernels python bench/server.py --model tiny --out bench/results/server.json
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any
from urllib.parse import urlsplit

from served import served

PROMPTS = ("Once upon a time", "The cat sat on", "Two plus three is", "In the morning the boy", "One day a")


def body(number: int, model: str, tokens: int) -> dict[str, Any]:
    """A request whose answer has exactly so many tokens."""
    return {"model": model, "prompt": PROMPTS[number % len(PROMPTS)], "max_tokens": tokens, "min_tokens": tokens,
            "ignore_eos": True, "temperature": 0.8, "top_p": 0.95, "seed": number, "stream": True}  # fmt: skip


def ask(url: str, asked: dict[str, Any], start: Barrier) -> tuple[bytes, float]:
    """The whole stream, and when its last byte had come (seconds of the monotonic clock)."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=300)
    connection.connect()
    start.wait()
    connection.request("POST", "/v1/completions", json.dumps(asked), {"content-type": "application/json"})
    response = connection.getresponse()
    read = response.read()
    if response.status != 200:
        raise RuntimeError(f"{response.status}: {read.decode()}")
    return read, time.monotonic()


def together(url: str, asked: list[dict[str, Any]]) -> tuple[list[bytes], float]:
    """The streams of requests that are sent at once, and the seconds until the last of them had ended."""
    start = Barrier(len(asked) + 1)
    with ThreadPoolExecutor(len(asked)) as pool:
        running = [pool.submit(ask, url, one, start) for one in asked]
        start.wait()
        begun = time.monotonic()
        results = [one.result() for one in running]
    return [read for read, _ in results], max(end for _, end in results) - begun


def text(read: bytes) -> str:
    """What a stream says."""
    lines = [line.removeprefix("data: ") for line in read.decode().split("\n\n") if line]
    if lines[-1] != "[DONE]":
        raise RuntimeError(f"a stream broke off: {lines[-1]}")
    return "".join(choice["text"] for line in lines[:-1] for choice in json.loads(line)["choices"])


def measure(url: str, model: str, streams: int, tokens: int, rounds: int) -> dict[str, Any]:
    """Rows of one server: the check, then rounds of one stream and of all, by turns."""
    name = Path(model).name  # as the server calls a folder
    asked = [body(number, name, tokens) for number in range(streams)]
    alone = [text(together(url, [one])[0][0]) for one in asked]  # it warms the server up as well
    beside = [text(read) for read in together(url, asked)[0]]
    if alone != beside:
        raise SystemExit("a stream says something else beside others than alone")
    one, many = [], []
    for number in range(rounds):
        one.append(tokens / together(url, [asked[number % streams]])[1])
        many.append(streams * tokens / together(url, asked)[1])
    ratios = [b / a for a, b in zip(one, many, strict=True)]
    return {"model": name, "streams": streams, "tokens": tokens, "rounds": rounds,
            "one": round(statistics.median(one), 1), "many": round(statistics.median(many), 1),
            "ratio": round(statistics.median(ratios), 2)}  # fmt: skip


def main() -> int:
    """Start a server, ask it from a process of its own, print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tiny", help="as `refsample serve --model` takes it")
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.url:
        print(json.dumps(measure(options.url, options.model, options.streams, options.tokens, options.rounds)))
        return 0
    with served("--model", options.model) as (url, _):
        command = [sys.executable, __file__, *sys.argv[1:], "--url", url]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        return 1
    print(done.stdout, end="")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        rows = json.loads(options.out.read_text()) if options.out.exists() else []
        options.out.write_text(json.dumps([*rows, json.loads(done.stdout)], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
