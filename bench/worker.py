"""One engine, or one probe, in a process of its own: commands as JSON lines on stdin, answers on stdout.

`python -m bench.worker refsample|llamacpp|hf FOLDER bf16|f32`, `... dram FILE BYTES`, `... sgemm`. Between commands it
waits for its input, so that only one of many computes at a time. Engines differ in four functions (`start`, `feed`,
`keep`, `threads`); what is timed is the same loop for all of them.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

MODULES = {
    "refsample": "bench.peers.run_refsample", "llamacpp": "bench.peers.run_llamacpp", "hf": "bench.peers.run_hf",
}  # fmt: skip
Asked = Mapping[str, Any]


def memory() -> dict[str, int]:
    """Bytes that this process has resident: now, at most, and what of it is its own and what is of files."""
    names = {"VmHWM": "peak", "VmRSS": "now", "RssAnon": "anonymous", "RssFile": "files"}
    found = {}
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name in names:
            found[names[name]] = int(value.split()[0]) * 1024
    return found


class Runner:
    """The commands that every engine is asked."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.length, self.tokens = 0, np.zeros(0, np.int64)

    def threads(self, asked: Asked) -> dict[str, Any]:
        """`count`."""
        self.engine.threads(asked["count"])
        return {}

    def open(self, asked: Asked) -> dict[str, Any]:
        """Fresh states with `room`, one for each of `prompts` [n][T], all as long, which are taken up.

        `flash`: whether llama.cpp takes its fused attention.
        """
        prompts = asked["prompts"]
        self.length = len(prompts[0])
        self.engine.start(len(prompts), asked["room"], asked["flash"])
        self.tokens = self.engine.feed(prompts).argmax(axis=-1)  # [n]
        return {}

    def check(self, asked: Asked) -> dict[str, Any]:
        """Logits [1 + steps, n, V] after the prompts and after each further token go to the file `out`.

        The tokens are `forced` [steps][n], or `steps` of the engine's own choice; they are answered.
        """
        self.engine.start(len(asked["prompts"]), asked["room"], asked["flash"])
        logits, forced = [self.engine.feed(asked["prompts"]).copy()], asked.get("forced") or []
        taken = []
        for step in range(asked["steps"]):
            taken.append(forced[step] if forced else logits[-1].argmax(axis=-1).tolist())
            logits.append(self.engine.feed([[token] for token in taken[-1]]).copy())
        np.save(asked["out"], np.stack(logits))
        return {"tokens": taken}

    def decode(self, asked: Asked) -> dict[str, Any]:
        """After the prompts, greedily, up to `tokens` tokens of each, or as many as `seconds` allow."""
        engine, tokens = self.engine, self.tokens
        engine.keep(self.length)
        tokens = engine.feed([[token] for token in tokens.tolist()]).argmax(axis=-1)  # not timed
        done, start, now = 0, time.perf_counter(), 0.0
        while done < asked["tokens"] and now < asked["seconds"]:
            tokens = engine.feed([[token] for token in tokens.tolist()]).argmax(axis=-1)
            done += 1
            now = time.perf_counter() - start
        return {"tokens": done, "seconds": now, "place": self.length + 1 + (done - 1) / 2}

    def prefill(self, asked: Asked) -> dict[str, Any]:
        """`ids` at once into an empty state, logits of the last."""
        self.engine.keep(0)
        start = time.perf_counter()
        self.engine.feed([asked["ids"]])
        return {"tokens": len(asked["ids"]), "seconds": time.perf_counter() - start}

    def score(self, asked: Asked) -> dict[str, Any]:
        """Logprobs of every token but the first of `texts` [n][T] go to the file `out`."""
        start = time.perf_counter()
        found = self.engine.score(asked["texts"])
        took = time.perf_counter() - start
        np.save(asked["out"], found)
        return {"tokens": int(found.size), "seconds": took}

    def memory(self, asked: Asked) -> dict[str, Any]:
        """What is resident; see `memory`."""
        return memory()


def commands(kind: str, arguments: list[str]) -> tuple[Callable[[str, Asked], dict[str, Any]], dict[str, str]]:
    """What answers (command, its fields), and versions."""
    if kind in MODULES:
        module = import_module(MODULES[kind])
        runner = Runner(module.Engine(Path(arguments[0]), arguments[1]))
        versions: dict[str, str] = runner.engine.versions()
        return lambda do, asked: getattr(runner, do)(asked), versions
    limits = import_module("bench.limits")
    if kind == "dram":
        dram = limits.Dram(Path(arguments[0]), int(arguments[1]))
        return lambda do, asked: {"rate": dram.probe(asked["count"])}, {}
    products = limits.Products()
    return lambda do, asked: {"rates": products.probe()}, {"numpy": np.__version__}


def main() -> None:
    """Answer until stdin ends. What a library prints goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(what: Mapping[str, Any]) -> None:
        answers.write(json.dumps(what) + "\n")
        answers.flush()

    try:
        answer, versions = commands(sys.argv[1], sys.argv[2:])
    except ModuleNotFoundError as error:
        say({"missing": str(error)})
        return
    say({"versions": versions})
    for line in sys.stdin:
        asked = json.loads(line)
        say(answer(asked.pop("do"), asked))
    os._exit(0)  # no destructors: a library's threads may outlive what they need


if __name__ == "__main__":
    main()
