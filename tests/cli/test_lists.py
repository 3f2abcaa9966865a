"""specs and faults: lists of what there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from refsample.conformance.faults import FAULTS
from refsample.spec.load import engines, folder
from refsample.spec.provider import providers
from tests.cli.conftest import Cli
from tests.house.sources import ROOT


def test_specs_lists_every_file(cli: Cli) -> None:
    rows = [line.split()[:2] for line in cli("specs").out.splitlines()[1:]]
    assert rows == [["engine", name] for name in engines()] + [["provider", name] for name in providers()]
    assert [(entry["kind"], entry["name"]) for entry in cli("specs", "--json").json] == [tuple(row) for row in rows]


@pytest.mark.parametrize("name", engines())
def test_engine_shows_every_rule(cli: Cli, name: str) -> None:
    text, data = cli("specs", name).out, cli("specs", name, "--json").json
    assert all(field in text for field in data["engine"]["semantics"])
    assert all(entry["check"] in text for entry in data["engine"]["known"])


@pytest.mark.parametrize("name", providers())
def test_provider_shows_every_parameter(cli: Cli, name: str) -> None:
    text, data = cli("specs", name).out, cli("specs", name, "--json").json
    for endpoint in data["provider"]["endpoints"].values():
        assert f"POST {endpoint['path']}" in text
        assert all(parameter in text for parameter in endpoint["parameters"])


def test_provider_says_what_is_not_on_the_page_or_not_served(cli: Cli) -> None:
    lines = {name: cli("specs", name).out.splitlines() for name in ("nebius", "openai")}
    said = {name: {line.split()[0]: line for line in found if line} for name, found in lines.items()}
    assert "(extension)" in said["nebius"]["ignore_eos"] and "(extension, ignored)" in said["nebius"]["store"]
    assert "(ignored)" in said["openai"]["store"] and "(refused)" in said["openai"]["verbosity"]
    assert "(" not in said["nebius"]["user"].partition("an identifier")[0]


def test_a_provider_file_by_its_path(cli: Cli, tmp_path: Path) -> None:
    """The template of docs/adding-a-provider.md, shown and made a document by where it lies."""
    page = (ROOT / "docs" / "adding-a-provider.md").read_text(encoding="utf-8")
    mine = tmp_path / "mine.toml"
    mine.write_text(page.partition("```toml\n")[2].partition("```")[0], encoding="utf-8")
    assert cli("specs", str(mine)).out.startswith("provider mine: Mine")
    assert cli("specs", str(mine), "--json").json["provider"]["title"] == "Mine"
    assert cli("specs", str(mine), "--openapi").json["info"]["title"] == "Mine"
    engine = folder() / "engines" / "vllm.toml"
    assert cli("specs", str(engine)).out.startswith("engine vllm")
    gone = cli("specs", str(tmp_path / "gone.toml"))
    assert gone.code == 2 and "gone.toml" in gone.err


def test_faults_lists_the_dictionary(cli: Cli) -> None:
    assert [line.split()[0] for line in cli("faults").out.splitlines()[1:]] == list(FAULTS)
    assert [(entry["name"], entry["area"]) for entry in cli("faults", "--json").json] == [
        (fault.name, fault.area) for fault in FAULTS.values()
    ]


@pytest.mark.parametrize("name", providers())
def test_openapi_document(cli: Cli, name: str) -> None:
    printed, read = cli("specs", name, "--openapi", "--strict").json, cli("specs", name, "--openapi").json
    assert printed["openapi"] == read["openapi"] == "3.1.0"
    assert set(printed["paths"]) == set(read["paths"]) and printed != read


@pytest.mark.parametrize(
    "words", [("specs", "--openapi"), ("specs", "openai", "--strict"), ("specs", "openai", "--markdown", "--json")]
)
def test_openapi_needs_a_provider(cli: Cli, words: tuple[str, ...]) -> None:
    assert cli(*words).code == 2
