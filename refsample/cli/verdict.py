"""A report as a table for people. Knows what a report holds and nothing of how it came about."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from refsample.render import ansi, columns, number, visible, wants_colour

if TYPE_CHECKING:
    from refsample.conformance.report import Check, Report

EXIT: Mapping[str, int] = {"consistent": 0, "inconsistent": 1, "inconclusive": 3}
MARKS: Mapping[str, tuple[str, str]] = {
    "consistent": ("ok", "good"),
    "inconsistent": ("DIFFERS", "bad"),
    "inconclusive": ("unclear", "warn"),
    "known": ("known", "dim"),
    "skipped": ("skipped", "dim"),
}
LIKELY = 5
"""As many faults are named; the rest is in the JSON."""


def print_report(report: Report) -> None:
    """One line a check, then the likeliest faults, what the data rules out, and how to repeat each failed check.

    What an endpoint said passes through `visible`, so that it cannot steer the terminal.
    """
    on = wants_colour(sys.stdout)
    out = [visible(f"{report.url}, model {report.endpoint_model}, against {report.reference or 'no reference'}"
           f" (spec {report.spec}, engine {report.engine}, profile {report.profile}, seed {report.seed})")]
    for area in ("contract", "model", "law"):
        checks = [check for check in report.checks if check.area == area]
        if checks:
            out += ["", ansi(f"{area}: {getattr(report, area)}", "bold", on=on), *check_lines(checks, on)]
    failed = [check for check in report.checks if check.verdict == "inconsistent"]
    style = MARKS[report.verdict][1]
    out += ["", ansi(f"verdict: {report.verdict}", style, on=on)
            + f" - {report.requests} requests, {report.tokens} output tokens, e-value {figure(report.e_value)}"]
    if report.faults:
        named = ", ".join(f"{name} ({share:.0%})" for name, share in report.faults[:LIKELY])
        out += [f"likeliest: {named}"]
    if report.excluded:
        out += [f"ruled out: {'; '.join(excluded(entry) for entry in report.excluded)}"]
    for check in failed:
        if check.reproduce:
            out += ["", f"# {check.id}", visible(check.reproduce)]
    sys.stdout.write("\n".join(out) + "\n")


def check_lines(checks: list[Check], on: bool) -> list[str]:
    """The checks of an area in columns; a documented difference says where it is documented."""
    rows = []
    for check in checks:
        cost = f"{check.requests} req" + (f", {check.tokens} tok" if check.tokens else "")
        evidence = " ".join(check.evidence.split()) + (f" [{check.known}]" if check.known else "")
        weight = "" if check.e_value is None else f"e={figure(check.e_value)}"
        rows.append((MARKS[check.verdict][0], check.id, cost, weight, visible(evidence)))
    lines = columns(rows)
    return [
        "  " + ansi(line[:8], MARKS[check.verdict][1], on=on) + line[8:]
        for check, line in zip(checks, padded(lines), strict=True)
    ]


def padded(lines: list[str]) -> list[str]:
    """Lines at least as long as their mark."""
    return [line.ljust(8) for line in lines]


def excluded(entry: Mapping[str, Any]) -> str:
    """One thing that the data rules out, with its figures."""
    return f"{entry['name']} (ln LR {figure(entry['log_likelihood_ratio'])}, {entry['observations']} draws)"


def figure(value: object) -> str:
    """A number in four digits, anything else as it is."""
    return number(value) if isinstance(value, int | float) else str(value)
