"""Page, expected, observed: one line for each parameter that a provider's page has, from what a run showed.

honoured: it was seen to act, by an act, a law that was tested, or a check that fails without it; a field that has no
effect was seen to have none. different: it acts otherwise, or its bounds are others. dropped: taken without effect.
rejected: refused though the page has it. unknown: nothing showed it; that a value was taken is no sign of an effect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from refsample.conformance.page import Kind, Page
from refsample.conformance.report import Check, NamedFault, Note, ParameterLine, Status
from refsample.conformance.session import Target
from refsample.spec.provider import ParameterSpec, Reading

SHOWN_BY: Mapping[str, tuple[str, ...]] = {
    "temperature": ("law.temperature_*",),
    "top_p": ("law.top_p", "law.self.top_p"),
    "top_k": ("law.top_k", "law.self.top_k"),
    "min_p": ("law.min_p", "law.self.min_p"),
    "logit_bias": ("law.logit_bias",),
    "presence_penalty": ("law.penalty_scope",),
    "frequency_penalty": ("law.penalty_scope",),
    "repetition_penalty": ("law.repetition",),
    "best_of": ("law.best_of",),
    "seed": ("contract.seed",),
    "n": ("contract.{kind}.n", "contract.{kind}.n_range", "contract.{kind}.stream_n"),
    "stop": ("contract.{kind}.stop",),
    "max_tokens": ("contract.{kind}.max_tokens",),
    "echo": ("contract.{kind}.echo",),
    "logprobs": ("contract.{kind}.logprobs", "contract.{kind}.logprobs_shape", "contract.{kind}.stream_logprobs"),
    "top_logprobs": ("contract.{kind}.top_logprobs", "contract.{kind}.top_logprobs_count"),
    "stream": ("contract.{kind}.stream", "contract.{kind}.stream_type"),
    "stream_options": ("contract.{kind}.stream_usage_place",),
    "stream_options.include_usage": ("contract.{kind}.stream_usage_place",),
    "model": ("contract.models", "contract.{kind}.model_name"),
}
"""Checks that show a parameter acting; those of laws are made on one route alone."""
READINGS: Mapping[str, str] = {
    "stop": "stop_text", "best_of": "best_of_floor", "stream_options.include_usage": "usage_chunk",
    "top_p": "top_p_rule", "ignore_eos": "ignore_eos", "inference_timeout": "timeout", "n": "greedy_n",
}  # fmt: skip
"""Behaviours that belong to one parameter."""
ORDER: tuple[Status, ...] = ("rejected", "dropped", "different", "honoured", "unknown")


def parameter_lines(
    target: Target, notes: Sequence[Note], checks: Sequence[Check], faults: Sequence[NamedFault]
) -> tuple[ParameterLine, ...]:
    """A line for each parameter on the page of each route that answers, in the order of the provider's file."""
    return tuple(
        _line(target, kind, record, notes, checks, {fault.name for fault in faults})
        for kind in target.kinds
        for record in target.pages[kind].endpoint.parameters.values()
        if "[]" not in record.name and not target.pages[kind].beside(record)
    )


def _line(
    target: Target,
    kind: Kind,
    record: ParameterSpec,
    notes: Sequence[Note],
    checks: Sequence[Check],
    faults: set[str],
) -> ParameterLine:
    page = target.pages[kind]
    mine = [note for note in notes if (note.endpoint, note.parameter) == (kind, record.name)]
    statuses: list[Status] = [note.status for note in mine]
    said = [note.said for note in mine]
    for check in _shown_by(page, record, checks, kind == target.kinds[0]):
        if check.verdict in ("consistent", "inconsistent"):
            statuses.append("honoured" if check.verdict == "consistent" else "different")
            said.append(f"{check.id} {check.verdict}")
    if f"{record.means}_ignored" in faults:
        statuses.append("dropped")
    if kind == target.kinds[0] and record.means in target.refused and page.record(record.means) is record:
        statuses.append("rejected")
        said.append(target.refused[record.means])
    status: Status = min(statuses, key=ORDER.index, default="unknown")
    return ParameterLine(kind, record.name, _printed(record, page), _meant(record, page), "; ".join(said), status)


def _shown_by(page: Page, record: ParameterSpec, checks: Sequence[Check], law: bool) -> list[Check]:
    if page.record(record.means) is not record and "." not in record.name:
        return []
    patterns = [p.format(kind=page.kind) for p in SHOWN_BY.get(record.means, ())]
    patterns = [p for p in patterns if law or p.startswith(f"contract.{page.kind}.")]
    return [check for check in checks if any(fnmatchcase(check.id, pattern) for pattern in patterns)]


def _reading(record: ParameterSpec, page: Page) -> Reading | None:
    name = READINGS.get(record.means)
    return None if name is None else page.provider.behaviours[name]


def _printed(record: ParameterSpec, page: Page) -> str:
    """What the page says, in one line."""
    reading = _reading(record, page)
    parts = [" or ".join(record.printed_types) + (" or null" if record.printed_nullable else "")]
    parts += [record.printed.about()] if record.printed is not None else []
    parts += ["required"] if record.printed_required else []
    return ", ".join([*parts, *([reading.printed] if reading is not None else [])])


def _meant(record: ParameterSpec, page: Page) -> str:
    """What is made of it, and expected."""
    reading = _reading(record, page)
    parts: list[str] = [record.support] if record.support != "served" else []
    parts += [record.effective.about()] if record.effective is not None else []
    parts += [f"default {record.default!r}"] if record.default is not None else []
    parts += [reading.effective] if reading is not None else []
    return ", ".join(parts) or "served"
