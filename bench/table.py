"""Markdown tables of what `bench.runtime` and `bench.score` wrote. Measures nothing.

    python -m bench.table               prints them from bench/results
    python -m bench.table --write       puts them into bench/README.md, between its marks
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BEGIN, END = "<!-- tables of bench.table -->", "<!-- end of them -->"
FASTER = "refsample / it"


def lines(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table."""
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def _ratio(row: Mapping[str, Any]) -> str:
    return f"{row['ratio']:.2f}" if row.get("ratio") else "-"


def _memory(shape: Mapping[str, Any]) -> list[list[str]]:
    return [
        [engine, *(f"{held[name] / 2**20:.0f}" for name in ("peak", "anonymous", "files"))]
        for engine, held in shape.get("memory", {}).items()
    ]


def _decode(reports: Mapping[str, Any]) -> list[str]:
    rows = []
    for name, one in reports.items():
        for row in one.get("decode", ()):
            parts = row.get("regimes") or [row]
            rows.append([
                name, str(row["threads"]), row["engine"], " / ".join(f"{p['rate']:.1f}" for p in parts),
                " / ".join(f"{p['rate'] * p['use'] / 1e9:.1f}" for p in parts),
                " / ".join(f"{p['limit'] / 1e9:.1f}" for p in parts), " / ".join(f"{p['share']:.0%}" for p in parts),
                _ratio(row), f"{row['pairs']} of {len(row['samples'])}" if "pairs" in row else str(len(row["samples"])),
            ])  # fmt: skip
    head = ["shape", "threads", "engine", "tok/s", "GB/s", "ceiling", "share", FASTER, "pairs"]
    return lines(head, rows) if rows else []


def _products(reports: Mapping[str, Any]) -> list[str]:
    rows = []
    for name, one in reports.items():
        for row in (*one.get("batch", ()), *one.get("prefill", ())):
            what = f"prefill {row['tokens']}" if "tokens" in row else "batch 32"
            rows.append([
                name, what, str(row["threads"]), row["engine"], f"{row['rate']:.1f}",
                f"{row['rate'] * row['use'] / 1e9:.1f}", f"{row['limit'] / 1e9:.1f}", f"{row['share']:.0%}",
                _ratio(row), str(len(row["samples"])),
            ])  # fmt: skip
    head = ["shape", "what", "threads", "engine", "tok/s", "GFLOP/s", "sgemm", "share", FASTER, "samples"]
    return lines(head, rows) if rows else []


def _starts(start: Mapping[str, Any]) -> list[str]:
    rows = [
        [name, what, f"{statistics.median(took):.2f}", str(len(took))]
        for name, one in start["shapes"].items() for what, took in one.items()
    ]  # fmt: skip
    for what in ("import refsample", "python alone"):
        rows.append(["-", what, f"{statistics.median(start[what]):.3f}", str(len(start[what]))])
    return lines(["shape", "what", "seconds", "processes"], rows)


def _where(report: Mapping[str, Any]) -> str:
    held, versions = report["machine"], report["versions"]
    said = ", ".join(f"{name} {value}" for name, value in sorted(versions.items()) if "features" not in name)
    return (
        f"{report['date']}: {held['processor']} (family/model {held['family']}; {' '.join(held['flags'])}), "
        f"{held['cores']} cores, {held['memory_gib']} GiB. {said}."
    )


def runtime(report: Mapping[str, Any]) -> str:
    """All tables of a run of `bench.runtime`."""
    shapes = report["shapes"]
    found = [_where(report), ""]
    for title, table in (
        ("Decode, batch 1:", _decode(shapes)), ("Batches and prefill:", _products(shapes)),
        ("Resident at most in a fresh process that decodes, MiB (files: mapped weights, shared with the page cache):", [
            *lines(["shape", "engine", "peak", "own", "files"],
                   ([name, *row] for name, one in shapes.items() for row in _memory(one))),
        ] if any(_memory(one) for one in shapes.values()) else []),
        ("Start to first token:", _starts(report["start"]) if "start" in report else []),
    ):  # fmt: skip
        if table:
            found += [title, "", *table, ""]
    apart = [row for one in shapes.values() for row in one["checks"]]
    if apart:
        exact = [row["rms"] for row in apart if row["kind"] == "f32"]  # none where float32 does not fit the machine
        worst = f"float32 engines {max(exact):.0e} apart, " if exact else ""
        widest = max(row["rms"] for row in apart)
        found.append(
            f"Logits were compared first, {len(apart)} times: {worst}engines that round to 16 bits inside "
            f"{widest:.0e} at most (root mean squares of differences, in standard deviations of the logits)."
        )
    return "\n".join(found).rstrip()


def score(report: Mapping[str, Any]) -> str:
    """The table of a run of `bench.score`."""
    rows = [
        [row["engine"], str(row["threads"]), f"{row['rate']:.0f}", f"{row['rate'] * row['use'] / 1e9:.1f}",
         f"{row['limit'] / 1e9:.1f}", f"{row['share']:.0%}", _ratio(row), str(len(row["samples"]))]
        for row in report["score"]
    ]  # fmt: skip
    head = ["engine", "threads", "tokens/s", "GFLOP/s", "sgemm", "share", FASTER, "samples"]
    said = f"Scoring {report['texts']} texts of {report['tokens']} tokens, shape B ({report['date']}):"
    return "\n".join([said, "", *lines(head, rows)])


def section(results: Path = HERE / "results") -> str:
    """What stands in README.md between the marks."""
    found = []
    for name, shown in (("runtime", runtime), ("score", score)):
        path = results / f"{name}.json"
        if path.exists():
            found.append(shown(json.loads(path.read_text(encoding="utf-8"))))
    return "\n\n".join([BEGIN, *found, END])


def main() -> None:
    """Print the section, or write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    made = section()
    if not parser.parse_args().write:
        print(made)
        return
    page = HERE / "README.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    page.write_text(before + made + rest.partition(END)[2], encoding="utf-8")


if __name__ == "__main__":
    main()
