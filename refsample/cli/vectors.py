"""`refsample vectors`: the conformance vectors, and somebody else's sampler held to them."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import click

from refsample.checks import known_names
from refsample.errors import ParameterError, shorten
from refsample.render import ansi, columns, wants_colour

if TYPE_CHECKING:
    from refsample.sampling.vectors import Vector

SHOWN = 20


@click.group(short_help="Vectors that any sampler can be held to.")
def vectors() -> None:
    """Conformance vectors: inputs of one decision, and its law worked out with fifty digits."""


@vectors.command("list", short_help="List the vectors.")
@click.option("--engine", metavar="NAME", help="Only those of one engine.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, as the runner reads them.")
def list_vectors(engine: str | None, as_json: bool) -> None:
    """List the vectors: name, engine decisions, what each is about."""
    from refsample.sampling.vectors import vectors as all_vectors

    check_engine(engine)
    found = [one for one in all_vectors() if engine in (None, one.engine)]
    if as_json:
        for one in found:
            shown = {"id": one.id, "engine": one.engine, "about": one.about, "decisions": list(one.decisions)}
            click.echo(json.dumps(shown))
        return
    rows = [("vector", "decisions", "about"), *((v.id, " ".join(map(str, v.decisions)), v.about) for v in found)]
    click.echo("\n".join(columns(rows)))
    click.echo(f"{len(found)} vectors in specs/vectors; `refsample vectors run --adapter FILE.py` runs a sampler")


@vectors.command("run", short_help="Run a sampler against them.")
@click.option("--adapter", metavar="MODULE|FILE.py",
              help="Module with ENGINE and law(logits, params, prompt_ids, output_ids); default: refsample itself.")
@click.option("--engine", metavar="NAME", help="Whose vectors; default: the adapter's ENGINE, or all for refsample.")
@click.option("--float64", is_flag=True, help="Give it float64 logits and hold it to 1e-9, not to what float32 can do.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def run(adapter: str | None, engine: str | None, float64: bool, as_json: bool) -> int:
    """Run a sampler against the vectors of its engine; exit code 1 where one does not agree.

    An adapter is a Python module: ENGINE names the engine file, law(logits, params, prompt_ids, output_ids) returns
    probabilities [V]. Optional are PARAMETERS (names that it can be asked), OVERRIDES (rules of the file that it does
    not follow) and fits(vector); vectors that it cannot be asked are left out, and counted. bench/peers has five.
    """
    from refsample.sampling.vectors import vectors as all_vectors

    if adapter is None and float64:
        raise click.UsageError("--float64 goes with --adapter: refsample itself is held to it anyway")
    module = None if adapter is None else load(adapter)
    wanted = engine if module is None else engine or str(module.ENGINE)
    check_engine(wanted)
    of_engine = [one for one in all_vectors() if wanted in (None, one.engine)]
    found = of_engine if module is None else [one for one in of_engine if askable(module, one)]
    if not found:
        raise ParameterError("--adapter", adapter, f"can be asked none of {len(of_engine)} vectors", "the adapter")
    results = [(one, own_problems(one) if module is None else their_problems(module, one, not float64))
               for one in found]  # fmt: skip
    return report(results, len(of_engine) - len(found), as_json=as_json)


def check_engine(name: str | None) -> None:
    """Raises ParameterError for a name that no engine file has; None is all of them."""
    from refsample.spec.load import engines

    if name not in (None, *engines()):
        raise ParameterError("engine", name, f"must be one of {', '.join(engines())}", "the engine files")


def askable(module: ModuleType, one: Vector) -> bool:
    """Whether the adapter can answer a vector."""
    from refsample.sampling.vectors import can_be_asked

    if not can_be_asked(one, getattr(module, "PARAMETERS", None), getattr(module, "OVERRIDES", {})):
        return False
    if not hasattr(module, "fits"):
        return True
    try:
        return bool(module.fits(one))
    except (Exception, SystemExit) as error:  # its own code
        rule = f"its fits raised {type(error).__name__} at {one.id}: {' '.join(str(error).split())}"
        raise ParameterError("--adapter", module.__name__, rule, "the adapter") from error


def own_problems(one: Vector) -> tuple[str, ...]:
    """What is wrong with our own answer: law, logprobs at the engine's stage, draws."""
    from refsample.sampling.pipeline import draw
    from refsample.sampling.vectors import answer_problems, draw_problems, law_problems, logprob_problems, own_law

    law = own_law(one)
    return (
        *law_problems(one, law.probs),
        *logprob_problems(one, law.logprobs()),
        *draw_problems(one, lambda u: draw(law.probs, u)),
        *answer_problems(one, law),
    )


def their_problems(module: ModuleType, one: Vector, float32: bool) -> tuple[str, ...]:
    """What is wrong with the adapter's law; an exception of its own is its answer too."""
    import numpy as np

    from refsample.sampling.vectors import is_law_of_float32, law_problems

    try:
        given = module.law(*question(module, one, float32))
    except (Exception, SystemExit) as error:  # noqa: BLE001  # its own code: what it raises is its answer
        return (f"the adapter raised {type(error).__name__}: {' '.join(str(error).split())}",)
    try:
        probs = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        return (f"the adapter returned {shorten(given)}, which is no array of numbers",)
    problems = law_problems(one, probs, float32)
    rounded = float32 and probs.shape == one.logits.shape
    return () if problems and rounded and is_law_of_float32(one, probs) else problems


def load(adapter: str) -> ModuleType:
    """The adapter's module, by file or by name. Raises ParameterError."""
    from refsample.sampling.params import SamplingParams

    if "" not in sys.path:
        sys.path.insert(0, "")  # an adapter may import its neighbours, as under `python -m`
    try:
        if adapter.endswith(".py"):
            spec = importlib.util.spec_from_file_location(Path(adapter).stem, adapter)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(adapter)
    except Exception as error:  # noqa: BLE001  # whatever somebody else's module does while it is imported
        reason = f"cannot be imported: {type(error).__name__}: {error}"
        raise ParameterError("--adapter", adapter, reason, "the command line") from None
    missing = [name for name in ("ENGINE", "law") if not hasattr(module, name)]
    if missing:
        raise ParameterError("--adapter", adapter, f"has no {' and no '.join(missing)}", "the command line")
    names = getattr(module, "PARAMETERS", ())
    if isinstance(names, str):
        raise ParameterError("PARAMETERS", names, "must be a list of names", "the adapter")
    known_names(dict.fromkeys(names), SamplingParams.__slots__, "the adapter's PARAMETERS")
    return module


def question(module: ModuleType, one: Vector, float32: bool) -> tuple[Any, ...]:
    """Logits, every parameter that the adapter has, the others neutral, and both histories."""
    import numpy as np

    from refsample.sampling.params import SamplingParams

    names = getattr(module, "PARAMETERS", SamplingParams.__slots__)
    neutral = SamplingParams()
    params = {name: one.params.get(name, getattr(neutral, name)) for name in names}
    return one.logits.astype(np.float32 if float32 else np.float64), params, one.prompt_ids, one.output_ids


def report(results: list[tuple[Vector, tuple[str, ...]]], left: int, *, as_json: bool) -> int:
    """The conformance table; 1 where a vector failed, else 0."""
    failed = [(one, problems) for one, problems in results if problems]
    if as_json:
        click.echo(json.dumps({
            "vectors": len(results), "passed": len(results) - len(failed), "left_out": left,
            "failed": [{"id": one.id, "about": one.about, "problems": list(p)} for one, p in failed],
        }))  # fmt: skip
    else:
        colour = wants_colour(sys.stdout)
        for one, problems in failed[:SHOWN]:
            click.echo(ansi(f"{one.id}: {one.about}", "bad", on=colour))
            click.echo("\n".join(f"  {problem}" for problem in problems[:4]))
        if len(failed) > SHOWN:
            click.echo(f"and {len(failed) - SHOWN} more")
        rows = [("decision", "vectors", "passed")]
        for decision in sorted({d for one, _ in results for d in one.decisions}):
            of = [problems for one, problems in results if decision in one.decisions]
            rows.append((str(decision), str(len(of)), str(sum(not p for p in of))))
        click.echo("\n".join(columns(rows)))
        tail = f"; {left} left out, which the adapter cannot be asked" if left else ""
        click.echo(f"{len(results) - len(failed)} of {len(results)} vectors agree{tail}")
    return int(bool(failed))
