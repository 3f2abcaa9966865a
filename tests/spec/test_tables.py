"""The pages of docs/ that come from provider files, or make one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from refsample.api.validate import parse
from refsample.errors import ParameterError
from refsample.spec.provider import provider, providers
from refsample.spec.tables import document
from tests.house.sources import ROOT


def test_the_page_is_what_the_files_say() -> None:
    written = (ROOT / "docs" / "providers.md").read_text(encoding="utf-8")
    made = document([provider(name) for name in providers()])
    assert written == made, "refsample specs --markdown > docs/providers.md"


@pytest.mark.parametrize("name", providers())
def test_every_record_has_a_row(name: str) -> None:
    lines = document([provider(name)]).splitlines()
    rows = {line.split("|")[1].strip(): line for line in lines if line.startswith("| `")}
    for endpoint in provider(name).endpoints.values():
        for record in (*endpoint.parameters.values(), *endpoint.response.values(), *endpoint.chunk.values()):
            assert f"`{record.name}`" in rows
    bars = [len(re.findall(r"(?<!\\)\|", line)) for line in lines]
    for before, here in zip(bars, bars[1:], strict=False):  # a cell that holds a bar would break its row
        assert 0 in (before, here) or before == here


def test_the_template_is_a_provider(tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "adding-a-provider.md").read_text(encoding="utf-8")
    (template,) = re.findall(r"```toml\n(.*?)```", guide, re.DOTALL)
    (tmp_path / "mine.toml").write_text(template, encoding="utf-8")
    page = provider(str(tmp_path / "mine.toml"))
    assert parse({"prompt": "Hi.", "heat": 0}, page, "completions").generation.sampling.temperature == 0
    with pytest.raises(ParameterError, match="heat: is not a parameter"):
        parse({"prompt": "Hi.", "heat": 1}, page, "completions", strict=True)
    with pytest.raises(ParameterError, match="0 < x < 2"):
        parse({"prompt": "Hi.", "temperature": 0}, page, "completions", strict=True)
    assert page.reading("stop_text", strict=True) == "kept" and page.reading("overlong") == "refused"
