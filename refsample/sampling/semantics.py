"""From an engine's name and overrides to Semantics. It knows no request and runs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from types import MappingProxyType

from refsample.errors import ParameterError, SpecError
from refsample.spec.load import engine as engine_named
from refsample.spec.strict import converted, hints, problem
from refsample.spec.types import EngineSpec, Semantics

NOTHING: Mapping[str, object] = MappingProxyType({})


def resolve(engine: str | EngineSpec | Semantics, overrides: Mapping[str, object] = NOTHING) -> Semantics:
    """Semantics of an engine (name, path that ends in .toml, spec or Semantics), with fields replaced by name.

    Raises SpecError for an unknown engine, ParameterError for an override with an unknown name or a bad value, and
    SpecError where the result contradicts itself.
    """
    if isinstance(engine, str):
        engine = engine_named(engine)
    rules = engine.semantics if isinstance(engine, EngineSpec) else engine
    if not isinstance(rules, Semantics):
        raise ParameterError("engine", engine, "must be a name, a path that ends in .toml, an EngineSpec or Semantics")
    if not overrides:
        return rules
    known = hints(Semantics)
    changed: dict[str, object] = {}
    for name, value in overrides.items():
        if name not in known:
            near = get_close_matches(name, known, n=1)
            advice = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(known)}"
            raise ParameterError(f"semantics.{name}", value, f"no such choice{advice}", "the engine files")
        rule = problem(known[name], value)
        if rule:
            raise ParameterError(f"semantics.{name}", value, rule, "the engine files")
        changed[name] = converted(known[name], value)
    try:
        return replace(rules, **changed)  # type: ignore[arg-type]  # checked against the annotations just above
    except SpecError as error:
        raise SpecError(f"semantics.{error} (rule of the engine files)") from None
