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
STATUS: Mapping[str, str] = {
    "honoured": "good", "different": "bad", "dropped": "bad", "rejected": "bad", "unknown": "dim",
}  # fmt: skip
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
    if report.parameters:
        out += ["", ansi("parameters: page / expected / observed", "bold", on=on), *parameter_lines(report, on)]
    style = MARKS[report.verdict][1]
    out += ["", ansi(f"verdict: {report.verdict}", style, on=on)
            + f" - {report.requests} requests, {report.tokens} output tokens, e-value {figure(report.e_value)}"]
    if report.faults:
        named = [f"{name} ({share:.0%})" for name, share in report.faults[:LIKELY] if share >= 0.005]
        out += [f"likeliest: {', '.join(named)}"]
    if report.excluded:
        out += [f"ruled out: {'; '.join(excluded(entry) for entry in report.excluded)}"]
    if report.not_excluded:
        out += [f"not ruled out: {', '.join(report.not_excluded)}"]
    for check in failed:
        if check.reproduce:
            out += ["", f"# {check.id}", visible(check.reproduce)]
    sys.stdout.write("\n".join(out) + "\n")


def check_lines(checks: list[Check], on: bool) -> list[str]:
    """The checks of an area in columns. A check that was made several times with one outcome takes one line."""
    groups: dict[tuple[str, str], list[Check]] = {}
    for check in checks:
        groups.setdefault((check.id, check.verdict), []).append(check)
    marks = [MARKS[verdict] for _, verdict in groups]
    lines = columns([(mark, *cells(group)) for (mark, _), group in zip(marks, groups.values(), strict=True)])
    return [
        "  " + ansi(mark, style, on=on) + line[len(mark):] for (mark, style), line in zip(marks, lines, strict=True)
    ]  # fmt: skip


def parameter_lines(report: Report, on: bool) -> list[str]:
    """One line a parameter: status, name, page, expected, observed."""
    rows = [(line.status, f"{line.endpoint}.{line.name}", line.page, line.expected,
             visible(" ".join(line.observed.split()))) for line in report.parameters]  # fmt: skip
    return [
        "  " + ansi(status, STATUS[status], on=on) + line[len(status):]
        for (status, *_), line in zip(rows, columns(rows), strict=True)
    ]  # fmt: skip


def cells(group: list[Check]) -> tuple[str, str, str, str]:
    """Id, cost, weight and evidence of a check; a documented difference says where it is documented."""
    check, tokens = group[0], sum(check.tokens for check in group)
    cost = f"{sum(check.requests for check in group)} req" + (f", {tokens} tok" if tokens else "")
    weight = "" if check.e_value is None else f"e={figure(check.e_value)}"
    more = f" (and {len(group) - 1} more)" if len(group) > 1 else ""
    evidence = " ".join(check.evidence.split()) + more + (f" [{check.known}]" if check.known else "")
    return check.id, cost, weight, visible(evidence)


def excluded(entry: Mapping[str, Any]) -> str:
    """One thing that the data rules out, with its figures."""
    return f"{entry['name']} (ln LR {figure(entry['log_likelihood_ratio'])}, {entry['observations']} draws)"


def figure(value: object) -> str:
    """A number in four digits, anything else as it is."""
    return number(value) if isinstance(value, int | float) else str(value)
