"""How often the verifier is right: honest and faulty servers, one verification per probe seed, over HTTP.

For each fault `refsample serve --fault NAME` runs as a process of its own on loopback and is verified with probe seeds
0, 1, ...; results go to a JSON lines file, so a run that was stopped goes on where it was. The table shows medians.

    python bench/verifier.py --seeds 20 --honest 100 --out bench/results/verifier.jsonl
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import refsample
from refsample.conformance.faults import FAULTS
from refsample.conformance.verify import verify
from refsample.generation.model import Model

HONEST = "(honest)"


@contextmanager
def served(fault: str) -> Iterator[str]:
    """URL of a server process that serves the embedded model with a fault, or honestly."""
    command = [sys.executable, "-m", "refsample", "serve", "--port", "0"]
    command += [] if fault == HONEST else ["--fault", fault]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            address = re.search(r"http://127\.0\.0\.1:\d+", line)
            if address:
                # a full pipe would stop the server, so somebody has to read whatever else it says
                threading.Thread(target=deque, args=(process.stdout, 0), daemon=True).start()
                yield address.group()
                return
        raise RuntimeError(f"refsample serve --fault {fault} ended before it named its URL")
    finally:
        process.terminate()
        process.wait(timeout=20)


def one(url: str, fault: str, seed: int, profile: str, model: Model) -> dict[str, Any]:
    """One verification as a row."""
    start = time.perf_counter()
    report = verify(url, model, profile=profile, seed=seed)
    decided = [(c.decided_after, c.id) for c in report.checks if c.verdict == "inconsistent" and c.decided_after]
    return {
        "fault": fault,
        "seed": seed,
        "profile": profile,
        "verdict": report.verdict,
        "named": report.faults[0][0] if report.faults else None,
        "ln_e": math.log(report.e_value) if report.e_value > 0 else 0.0,
        "requests": report.requests,
        "tokens": report.tokens,
        "decided_after": min(decided)[0] if decided else None,
        "failed": [c.id for c in report.checks if c.verdict == "inconsistent"],
        "seconds": round(time.perf_counter() - start, 2),
    }


def found(row: dict[str, Any]) -> bool:
    """Whether the verifier called the server faulty."""
    return bool(row["verdict"] == "inconsistent")


def named(row: dict[str, Any]) -> bool:
    """Whether it found the fault that was served, and called it by its name."""
    return found(row) and row["named"] == row["fault"]


def of_run(rows: Sequence[dict[str, Any]], profile: str, seeds: int, honest: int) -> list[dict[str, Any]]:
    """The rows that one run is about: a file may hold other profiles and further seeds."""
    limit = {HONEST: honest}
    return [r for r in rows if r["profile"] == profile and r["seed"] < limit.get(r["fault"], seeds)]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown table: a line a fault."""
    lines = ["| served | runs | found | named | requests | tokens | ln e | decided after (draws) | seconds |"]
    lines += ["| --- " * 9 + "|"]
    for fault in (HONEST, *FAULTS):
        mine = [r for r in rows if r["fault"] == fault]
        if not mine:
            continue
        counts = f"{sum(map(found, mine))} | " + ("-" if fault == HONEST else str(sum(map(named, mine))))
        middle = {k: statistics.median(r[k] for r in mine) for k in ("requests", "tokens", "ln_e", "seconds")}
        after = [r["decided_after"] for r in mine if r["decided_after"]]
        decided = f"{statistics.median(after):.0f}" if after else "-"
        lines.append(f"| {fault} | {len(mine)} | {counts} | {middle['requests']:.0f} | {middle['tokens']:.0f} "
                     f"| {middle['ln_e']:.1f} | {decided} | {middle['seconds']:.1f} |")  # fmt: skip
    return "\n".join(lines)


def main() -> int:
    """Run what is missing, print the table; exit code 1 where an acceptance bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="probe seeds per fault")
    parser.add_argument("--honest", type=int, default=100, help="probe seeds of the honest server")
    parser.add_argument("--profile", default="standard")
    parser.add_argument("--faults", nargs="*", default=list(FAULTS))
    parser.add_argument("--out", type=Path, default=Path("bench/results/verifier.jsonl"))
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    model = refsample.load("tiny")
    rows = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    done = {(r["fault"], r["seed"], r["profile"]) for r in rows}
    for fault, seeds in ((HONEST, options.honest), *((f, options.seeds) for f in options.faults)):
        missing = [s for s in range(seeds) if (fault, s, options.profile) not in done]
        if not missing:
            continue
        with served(fault) as url, options.out.open("a") as file:
            for seed in missing:
                row = one(url, fault, seed, options.profile, model)
                rows.append(row)
                file.write(json.dumps(row) + "\n")
                file.flush()
                print(f"{fault} {seed}: {row['verdict']} {row['named'] or ''} {row['seconds']} s", file=sys.stderr)
    rows = of_run(rows, options.profile, options.seeds, options.honest)
    print(table(rows))
    alarms = sum(found(r) for r in rows if r["fault"] == HONEST)
    missed = [f for f in options.faults if sum(not named(r) for r in rows if r["fault"] == f) > options.seeds // 20]
    print(f"\nhonest alarms: {alarms} of {options.honest}; faults below 95 %: {', '.join(missed) or 'none'}")
    return 1 if missed or alarms > 3 * options.honest / 100 else 0


if __name__ == "__main__":
    sys.exit(main())
