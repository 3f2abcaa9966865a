"""A provider file of one's own, by its path: its headers are sent, and its record is judged where the file is not."""

from __future__ import annotations

from pathlib import Path

import refsample
from refsample.api.server import LocalServer, create_app
from refsample.conformance.judge import judge
from refsample.conformance.verify import verify
from refsample.spec.openapi import openapi
from refsample.spec.provider import provider
from tests.house.sources import ROOT

HEADER = '[[headers]]\nname = "x-mine-version"\nvalue = "7"\nsource = "page: required"\ngrade = "A"\n'


def template() -> str:
    page = (ROOT / "docs" / "adding-a-provider.md").read_text(encoding="utf-8")
    return page.partition("```toml\n")[2].partition("```")[0]


def test_a_page_that_wants_a_header_of_its_own(tmp_path: Path) -> None:
    mine, out = tmp_path / "mine.toml", tmp_path / "record"
    mine.write_text(template().replace("[errors]\n", f"{HEADER}\n[errors]\n", 1), encoding="utf-8")
    tiny, page = refsample.load("tiny"), provider(str(mine))
    (operation,) = (p["post"] for path, p in openapi(page, strict=True)["paths"].items() if path == "/v1/completions")
    assert [(h["name"], h["required"]) for h in operation["parameters"]] == [("x-mine-version", True)]
    only = ("contract.completions.shape", "contract.completions.validation.temperature", "law.temp*")
    with LocalServer(create_app({"tiny": tiny}, str(mine), strict=True, api_key="sk-own-key")) as url:
        report = verify(url, tiny, str(mine), profile="smoke", seed=3, model="tiny", api_key="sk-own-key", out=out,
                        only=only)  # fmt: skip
    assert (report.contract, report.law) == ("consistent", "consistent")
    mine.unlink()
    again = judge(out)
    assert again.to_dict() == report.to_dict()
    shown = [check.reproduce for check in report.checks if check.reproduce and check.reproduce.startswith("curl")]
    assert all("x-mine-version: 7" in command for command in shown)
