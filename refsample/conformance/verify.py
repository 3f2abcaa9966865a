"""The verifier's door: an endpoint and a reference in, a report (and a record of every exchange) out."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from refsample import __version__
from refsample.conformance.campaign import Plan, run
from refsample.conformance.oracle import HONEST, Oracle
from refsample.conformance.page import pages_of
from refsample.conformance.probes import PROFILES
from refsample.conformance.record import keep_specs, make_room, write_exchange, write_run
from refsample.conformance.report import Check, Report
from refsample.conformance.session import Session, Target, first_model
from refsample.conformance.transport import Endpoint, HttpEndpoint, Recorder
from refsample.errors import ParameterError
from refsample.generation.behaviour import Behaviour
from refsample.generation.load import load
from refsample.generation.model import Model
from refsample.spec.load import engine as engine_spec
from refsample.spec.provider import ProviderSpec
from refsample.spec.provider import provider as provider_spec
from refsample.spec.types import EngineSpec


def verify(
    endpoint: str | Endpoint,
    reference: str | Model | None = None,
    spec: str = "openai",
    engine: str | None = None,
    profile: str = "standard",
    *,
    model: str | None = None,
    api_key: str | None = None,
    api_key_env: str | None = None,
    out: Path | None = None,
    max_tokens: int | None = None,
    seed: int | None = None,
    only: Iterable[str] = (),
    extensions: bool | None = None,
    timeout_s: float = 120.0,
    on_request: Callable[[], None] | None = None,
    on_check: Callable[[Check], None] | None = None,
) -> Report:
    """Hold an endpoint to a reference model and to a provider's page.

    endpoint: a URL (with or without /v1) or anything with `send`. reference: a loaded model, a name or folder for
    `refsample.load`, or None for contract and self-consistency only. engine: whose sampling rules are claimed; default
    the provider file's. model: the name asked for there; default the first that
    its /v1/models lists. api_key_env: the variable that `api_key` came from, for the commands that repeat a check; KEY
    where it is not told. max_tokens: stop spending after that many output tokens.
    seed: of the private prompts and requests; default a new one, told in the report. out: folder for the record,
    written exchange by exchange.
    only: check ids (globs) to run. extensions: also ask for what engines take beside the page; None: only where the
    page is an interface that many engines serve. timeout_s: longest wait for one answer.
    Raises EndpointError, ParameterError, ModelError, SpecError.
    """
    key_env = (api_key_env or "KEY") if api_key else None
    plan, loaded = plan_for(reference, spec, engine, profile, seed, frozenset(only), extensions, key_env)
    asked = _reach(endpoint, api_key, plan.provider, timeout_s) if isinstance(endpoint, str) else endpoint
    if out is not None:
        make_room(out)
        keep_specs(out, {"spec": spec, "engine": engine})
    recorder = Recorder(asked, None if out is None else partial(write_exchange, out))
    try:
        report = execute(recorder, plan, loaded, model, max_tokens, on_request, on_check)
    finally:
        if isinstance(asked, HttpEndpoint):
            asked.close()
    if out is not None:
        settings = {"model": model, "max_tokens": max_tokens, "only": sorted(plan.only), "extensions": extensions}
        write_run(out, report, {**settings, "key_env": key_env})
    return report


def plan_for(
    reference: str | Model | None,
    spec: str,
    engine: str | None,
    profile: str,
    seed: int | None,
    only: frozenset[str],
    extensions: bool | None = None,
    key_env: str | None = None,
) -> tuple[Plan, Model | None]:
    if profile not in PROFILES:
        raise ParameterError("profile", profile, f"must be one of {', '.join(PROFILES)}")
    provider = provider_spec(spec)
    named = engine or provider.engine
    rules: EngineSpec = engine_spec("reference" if named == "unknown" else named)
    loaded = load(reference) if isinstance(reference, str) else reference
    name = reference if isinstance(reference, str) else loaded.name if loaded is not None else None
    fingerprint = loaded.fingerprint if loaded is not None else None
    drawn = secrets.randbelow(2**31) if seed is None else seed
    claimed = (provider, rules, PROFILES[profile], profile, drawn, name, fingerprint)
    return Plan(*claimed, __version__, only, extensions, key_env), loaded


def _reach(url: str, api_key: str | None, page: ProviderSpec, timeout_s: float) -> HttpEndpoint:
    """The endpoint at a URL, with the provider's paths, and the key where its page wants it."""
    paths = [*(e.path for e in page.endpoints.values()), *([page.models_path] if page.models_path else [])]
    auth = next((a for a in page.auth if a.printed), page.auth[0])
    bare = next((a for a in page.auth if a.place == "header"), None)
    headers = {header.name: header.value for header in page.headers if header.name != "content-type"}
    return HttpEndpoint(url, api_key, timeout_s=timeout_s, paths=paths, auth=auth, bare=bare, headers=headers)


def execute(
    endpoint: Endpoint,
    plan: Plan,
    reference: Model | None,
    model: str | None,
    max_tokens: int | None,
    on_request: Callable[[], None] | None = None,
    on_check: Callable[[Check], None] | None = None,
) -> Report:
    """A planned run against an endpoint, live or recorded."""
    page = plan.provider
    name = first_model(endpoint, page.models_path) if model is None else model
    target = Target(name, pages_of(page, plan.extensions, plan.engine.aliases), page.models_path)
    session = Session(endpoint, target, plan.seed, on_request, max_tokens)
    honest = Behaviour(semantics=plan.engine.semantics, precision=HONEST)
    oracle = None if reference is None else Oracle(reference, honest)
    return run(session, oracle, plan, on_check)
