"""The same verdict again, offline: the campaign of a recorded run, asked of its recording."""

from __future__ import annotations

from pathlib import Path

from refsample.conformance.record import kept_spec, read_record
from refsample.conformance.report import Report
from refsample.conformance.transport import Recording
from refsample.conformance.verify import execute, plan_for
from refsample.errors import RecordError


def judge(folder: Path | str) -> Report:
    """The report of a recorded run, worked out again from its raw answers. Raises RecordError."""
    folder = Path(folder)
    run, exchanges = read_record(folder)
    told, settings = run["report"], run["settings"]
    plan, model = plan_for(
        told["reference"],
        kept_spec(folder, "spec", told["spec"]),
        kept_spec(folder, "engine", told["engine"]),
        told["profile"],
        told["seed"],
        frozenset(settings["only"]),
        settings["extensions"],
        settings["key_env"],
    )
    if model is not None and model.fingerprint != told["reference_fingerprint"]:
        raise RecordError(
            f"{folder}: the reference {told['reference']!r} is not the one of the record "
            f"(fingerprint {model.fingerprint[:16]} against {str(told['reference_fingerprint'])[:16]})"
        )
    recording = Recording(told["url"], exchanges)
    report = execute(recording, plan, model, settings["model"], settings["max_tokens"])
    recording.finish()
    return report
