"""schemathesis on the OpenAPI documents of the providers, each against a live server: one line for each.

python -m tests.clients.schema [--cases 2000] [--model random|tiny] [--spec NAME ...] [--fault NAME ...]

Exit code 0 only if no answer was a 5xx, none broke its schema, none held the key, and no server wrote a traceback.
`random`: one layer, a context of 192 tokens, a quarter of its tokens end a text, so that answers come fast.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.clients.live import KEY, environ, serving
from tests.clients.schema.documents import Schema, document, generating, narrowed
from tests.factories import write_llama
from tests.house.sources import ROOT

SPECS = ("openai", "visioncraft", "nebius", "novita", "empower", "scale")
CHECKS = (
    "chunks_fit", "not_a_server_error", "status_code_conformance", "content_type_conformance",
    "response_headers_conformance", "response_schema_conformance", "negative_data_rejection",
)  # fmt: skip
MODEL = "tiny"
ENDS = [0, *range(4 + 0xC0, 4 + 0x100)]
"""The end token and bytes that begin no ASCII character: a quarter of the vocabulary, none that a grammar asks for."""
SETTINGS = "max-stream-events = 100000\n"
"""schemathesis hangs up after 100 events of a stream, and what it then holds has no [DONE]."""
ALL_PHASES_FROM = 1000
"""Cases from which the coverage phase, some hundreds of cases for each path, still leaves room for drawn ones."""


@dataclass(frozen=True, slots=True)
class Round:
    """One run of schemathesis."""

    cases: int
    said: str
    code: int


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.clients.schema")
    parser.add_argument("--cases", type=int, default=2000, help="at least so many for each spec")
    parser.add_argument("--model", choices=("random", "tiny"), default="random")
    parser.add_argument("--spec", action="append", choices=SPECS, help="repeatable; default all")
    parser.add_argument("--fault", action="append", default=[], help="serve with it: the run has to fail")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = "tiny" if given.model == "tiny" else str(random_model(folder / "model"))
        for spec in given.spec or SPECS:
            faults = [word for fault in given.fault for word in ("--fault", fault)]
            line, said = one_spec(spec, [f"{MODEL}={model}", *faults], given.cases, given.seed, folder / spec)
            sys.stdout.write(f"{line}\n{said}")
            sys.stdout.flush()
            bad += bool(said)
    return int(bad > 0)


def random_model(folder: Path) -> Path:
    return write_llama(folder, layers=1, width=32, max_position=192, eos=ENDS)


def one_spec(spec: str, model: list[str], cases: int, seed: int, folder: Path) -> tuple[str, str]:
    """The line of a spec, and what is wrong with it. `model` and what follows it go to `refsample serve`."""
    start = time.monotonic()
    done: list[Round] = []
    with serving(folder, "--spec", spec, "--model", *model) as served:
        for part in rounds(spec, cases, done):
            done.append(schemathesis(spec, served.url, part, cases, seed + len(done), not done, folder))
    seconds = time.monotonic() - start
    log = served.out.read_text(encoding="utf-8") + served.err.read_text(encoding="utf-8", errors="replace")
    said = "".join(each.said for each in done if each.code)
    if "Traceback" in log:
        said += f"the server wrote a traceback:\n{log[-4000:]}\n"
    if KEY in log or KEY in "".join(each.said for each in done):
        said += "the key was written\n"
    count = sum(each.cases for each in done)
    notes = [json.loads(line) for line in (folder / "tally").read_text(encoding="utf-8").splitlines()]
    met = Counter("stream" if streamed else str(status) for _, status, streamed, _ in notes)
    statuses = ", ".join(f"{status}: {number}" for status, number in sorted(met.items()))
    result = "FAILED" if said else "ok"
    return f"{spec:<12} {result:<7} {count:>5} cases in {seconds:6.1f} s, answers {statuses}", said


def rounds(spec: str, cases: int, done: list[Round]) -> Iterator[Schema]:
    """The document as it is, then narrowed: once, and until there are enough cases."""
    whole = document(spec, MODEL)
    yield whole
    yield narrowed(whole)
    while sum(each.cases for each in done) < cases and len(done) < 6:
        yield narrowed(whole)


def schemathesis(spec: str, url: str, part: Schema, cases: int, seed: int, first: bool, folder: Path) -> Round:
    """One run of the command on one document."""
    path, report = folder / "openapi.json", folder / "report.json"
    path.write_text(json.dumps(part), encoding="utf-8")
    (folder / "schemathesis.toml").write_text(SETTINGS, encoding="utf-8")
    phases = "examples,coverage,fuzzing" if first and cases >= ALL_PHASES_FROM else "fuzzing"
    least = cases // (6 if first else 3 * generating(part)) + 1
    command = [
        str(Path(sys.executable).parent / "st"), "run", str(path), "--url", url, "--seed", str(seed),
        "--header", f"Authorization: Bearer {KEY}", "--header", f"x-api-key: {KEY}", "--max-examples", str(least),
        "--phases", phases, "--checks", ",".join(CHECKS), "--report", "json", "--report-json-path", str(report),
        "--request-timeout", "120", "--continue-on-failure", "--no-shrink", "--suppress-health-check", "all",
        *(() if first else ("--mode", "positive")),
    ]  # fmt: skip
    extra = {"SCHEMATHESIS_HOOKS": "tests.clients.schema.hooks", "SCHEMA_TALLY": str(folder / "tally")}
    env = environ(**extra, SCHEMA_SPEC=spec, SCHEMA_DOCUMENT=str(path), NO_COLOR="1")
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT), env["PYTHONPATH"]])
    ran = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=3600)
    if not report.exists():
        return Round(0, ran.stdout + ran.stderr, ran.returncode or 1)
    told = json.loads(report.read_text(encoding="utf-8"))
    report.unlink()
    return Round(told["test_cases"]["generated"], ran.stdout, ran.returncode)


if __name__ == "__main__":
    sys.exit(main())
