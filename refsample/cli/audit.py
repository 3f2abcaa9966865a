"""`refsample verify`, `judge` and `faults`: the verifier's commands."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click

from refsample.cli.serve import key_from
from refsample.cli.terminal import Progress
from refsample.cli.verdict import EXIT, print_report
from refsample.render import columns


@click.command(short_help="Check an endpoint against the reference.")
@click.argument("url")
@click.option("--model", "endpoint_model", required=True, metavar="NAME_THERE", help="The model's name there.")
@click.option("--reference", required=True, metavar="tiny|PATH|ID|none",
              help="The model it claims to be; none: contract and self-consistency only.")
@click.option("--spec", default="openai", show_default=True, metavar="NAME", help="Provider spec it claims to follow.")
@click.option("--engine", metavar="NAME", help="Engine it claims to run; default: the one that the spec names.")
@click.option("--profile", type=click.Choice(["smoke", "standard", "deep"]), default="standard", show_default=True)
@click.option("--api-key-env", metavar="VAR", help="Environment variable that holds the key.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
              help="Keep every request and answer there, for `refsample judge`.")
@click.option("--dry-run", is_flag=True, help="Say what would be asked; ask nothing.")
@click.option("--max-tokens", type=click.IntRange(1), metavar="N", help="Stop asking after this many output tokens.")
@click.option("--seed", type=click.IntRange(0), metavar="N", help="Which probes are drawn; default: fresh ones.")
@click.option("--only", multiple=True, metavar="CHECK", help="Run these checks only (ids, * allowed). Repeatable.")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), default=120.0, show_default=True, metavar="SECONDS",
              help="Longest wait for one answer.")
@click.option("--extensions/--no-extensions", default=None,
              help="Ask also for what engines take beside the page; default: where the page names no own engine.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def verify(
    url: str, endpoint_model: str, reference: str, spec: str, engine: str | None, profile: str,
    api_key_env: str | None, out: Path | None, dry_run: bool, max_tokens: int | None, seed: int | None,
    only: tuple[str, ...], timeout: float, extensions: bool | None, as_json: bool,
) -> int:  # fmt: skip
    """Check the endpoint at URL (with or without /v1) against the reference.

    Exit code 0 consistent, 1 inconsistent, 2 usage or an endpoint that does not answer, 3 inconclusive.

    \b
    refsample verify http://127.0.0.1:8000 --model tiny --reference tiny
    """
    from refsample.conformance.verify import verify as verify_endpoint

    progress, key = Progress(), None if dry_run else key_from(api_key_env)
    known = None if reference == "none" else reference
    if dry_run:
        shown, claims = without_secrets(url), (spec, engine, profile)
        return rehearse(shown, endpoint_model, known, claims, max_tokens, seed, only, extensions, as_json=as_json)
    report = verify_endpoint(
        url, known, spec, engine, profile, model=endpoint_model, api_key=key, api_key_env=api_key_env, out=out,
        max_tokens=max_tokens, seed=seed, only=only, extensions=extensions, timeout_s=timeout,
        on_request=progress.requests(f"verifying {without_secrets(url)}"),
    )  # fmt: skip
    progress.clear()
    return tell(report, as_json)


def without_secrets(url: str) -> str:
    """A URL as it may be shown: without a user and password before the host, a query or a fragment."""
    return re.sub(r"(//)[^/?#]*@|[?#].*", r"\1", url)


def rehearse(
    url: str, endpoint_model: str, reference: str | None, claims: tuple[str, str | None, str],
    max_tokens: int | None, seed: int | None, only: tuple[str, ...], extensions: bool | None, *, as_json: bool,
) -> int:  # fmt: skip
    """Put the questions to the reference itself, on this machine, and say how many there are: URL is not touched.

    An endpoint that takes less (a smaller n, no logprobs) is asked in more requests.
    """
    from refsample.api.server import LocalServer, create_app
    from refsample.conformance.verify import verify as verify_endpoint
    from refsample.generation.load import load

    progress, model = Progress(), load(reference or "tiny")
    with LocalServer(create_app({endpoint_model: model}, claims[0])) as here:
        report = verify_endpoint(
            here, None if reference is None else model, *claims, model=endpoint_model,
            max_tokens=max_tokens, seed=seed, only=only, extensions=extensions,
            on_request=progress.requests("rehearsing here"),
        )  # fmt: skip
    progress.clear()
    checks = [{"id": c.id, "area": c.area, "requests": c.requests, "tokens": c.tokens} for c in report.checks]
    if as_json:
        whole = {"dry_run": True, "url": url, "requests": report.requests, "tokens": report.tokens, "checks": checks}
        click.echo(json.dumps(whole))
        return 0
    rows = [(f"  {c.id}", f"{c.requests} requests", f"{c.tokens} output tokens") for c in report.checks]
    total = f"{url} would be asked {report.requests} times, for {report.tokens} output tokens"
    click.echo("\n".join([*columns(rows), total]))
    return 0


def tell(report: object, as_json: bool) -> int:
    """Print a report; the exit code of its verdict."""
    from refsample.conformance.report import Report

    assert isinstance(report, Report)
    if as_json:
        click.echo(json.dumps(report.to_dict(), ensure_ascii=False))
    else:
        print_report(report)
    return EXIT[report.verdict]


@click.command(short_help="Judge recorded verifications again, offline.")
@click.argument("folders", nargs=-1, required=True, metavar="DIR...", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object a record.")
def judge(folders: tuple[Path, ...], as_json: bool) -> int:
    """Judge recorded verifications (`verify --out DIR`) again, offline. Exit code: the worst of their verdicts."""
    from refsample.conformance.judge import judge as judge_record

    codes = [tell(judge_record(folder), as_json) for folder in folders]
    return next(code for code in (1, 3, 0) if code in codes)


@click.command(short_help="List the faults that can be served and named.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
def faults(as_json: bool) -> None:
    """List the fault dictionary: what `serve --fault` injects and `verify` names, and on which pages it can be seen."""
    from refsample.conformance.faults import FAULTS, shows
    from refsample.spec.provider import provider, providers

    specs = [provider(name) for name in providers()]
    rows = [(f, [s.name for s in specs if shows(f, s)]) for f in FAULTS.values()]
    if as_json:
        click.echo(json.dumps([{"name": f.name, "area": f.area, "title": f.title, "specs": seen} for f, seen in rows]))
        return
    table = [(f.name, f.area, "all" if len(seen) == len(specs) else ", ".join(seen), f.title) for f, seen in rows]
    for line in columns([("fault", "area", "pages that show it", "what it does"), *table]):
        click.echo(line)
