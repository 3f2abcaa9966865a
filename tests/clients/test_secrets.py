"""A key goes in and never comes out: not in answers, refusals, logs, tracebacks, reports or records.

A server process of all six providers and the verifier's commands are given the canary KEY in every place that a key
can be put, right and wrong, and every byte that they wrote is searched for it.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from refsample.spec.provider import provider, providers
from tests.clients.live import KEY, KEY_ENV, environ, serving
from tests.house.sources import ROOT

FORMS = {
    "as it is": KEY.encode(),
    "base64": base64.b64encode(KEY.encode())[:-4],
    "backwards": KEY[::-1].encode(),
    "hex": KEY.encode().hex().encode(),
    "its secret half": KEY[-12:].encode(),
}
"""Ways in which a key could stand in a file."""
MODEL = "tiny"
SPECS = tuple(providers())
HEADERS: tuple[dict[str, str], ...] = (
    {"authorization": f"Bearer {KEY}"},
    {"x-api-key": KEY},
    {},
    {"authorization": KEY},
    {"authorization": f"Basic {KEY}"},
    {"authorization": f"Bearer {KEY}-not"},
    {"x-api-key": f"{KEY}-not"},
    {"cookie": f"key={KEY}"},
)
BODIES: tuple[Any, ...] = (
    {"max_tokens": 129},
    {"max_tokens": 129, "stream": True},
    {"max_tokens": 129, "token": KEY},
    {"max_tokens": 129, "token": KEY, "temperature": 999},
    {"max_tokens": 10**6, "token": KEY},
    {"token": [KEY]},
    {"token": {"key": KEY}},
    {"token": f"{KEY}-not"},
    {"max_tokens": 129, "api_key": KEY, "headers": {"authorization": KEY}},
    {"max_tokens": 129, "inference_extra_headers": {"authorization": f"Bearer {KEY}"}},
    {"max_tokens": 129, "inference_extra_params": {"token": KEY}},
    {"max_tokens": 129, "extra_body": {"token": KEY, "api_key": KEY}},
)


def leaks(*places: Path) -> list[str]:
    """Where the key stands: `file: form`."""
    files = [file for place in places for file in (place.rglob("*") if place.is_dir() else [place]) if file.is_file()]
    assert files and any(file.stat().st_size for file in files), "nothing was written, so nothing was looked at"
    return [f"{file.name}: {form}" for file in files for form, text in FORMS.items() if text in file.read_bytes()]


def test_the_search_finds_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "clean").write_text("nothing")
    assert leaks(tmp_path) == []
    (tmp_path / "deep").mkdir()
    for text in (f"x{KEY}y", base64.b64encode(KEY.encode()).decode(), f"...{KEY[-12:]}", KEY.encode().hex()):
        (tmp_path / "deep" / "log").write_text(text)
        assert leaks(tmp_path), text


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that takes everything anybody writes."""
    return tmp_path_factory.mktemp("written")


@pytest.fixture(scope="module")
def url(written: Path) -> Iterator[str]:
    """A server of all providers that logs all it can."""
    words = [word for name in SPECS for word in ("--spec", name)]
    with serving(written / "server", *words, "--log-level", "debug") as served:
        yield served.url


def generating(spec: str) -> list[str]:
    """The paths that write text."""
    return [endpoint.path for endpoint in provider(spec).endpoints.values()]


def sent(path: str, more: dict[str, Any]) -> dict[str, Any]:
    """A body for a path with more fields."""
    text: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}]} if "chat" in path else {"prompt": "Hi"}
    return {"model": MODEL, **text, **more}


@pytest.mark.parametrize("spec", SPECS)
def test_answers_and_refusals(spec: str, url: str, written: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING", "httpx2")  # it logs URLs, and this test puts the key into two of them
    statuses = set()
    told = written / f"answers-{spec}"
    with httpx2.Client(base_url=f"{url}/{spec}", timeout=120) as client, told.open("wb") as file:

        def ask(method: str, path: str, **fields: Any) -> None:
            answer = client.request(method, path, **fields)
            statuses.add(answer.status_code)
            file.write(repr((answer.status_code, answer.headers)).encode() + answer.content + b"\n")

        for path in generating(spec):
            for headers in HEADERS:
                ask("POST", path, headers=headers, json=sent(path, BODIES[0]))
            for body in BODIES:
                for headers in (*HEADERS[:2], {}):
                    ask("POST", path, headers=headers, json=sent(path, body))
            broken = json.dumps(sent(path, {"token": KEY}))[:-1]
            for content in (broken, f'{{"token": {KEY}}}', f"[{json.dumps(KEY)}]", json.dumps(KEY), KEY):
                for headers in HEADERS[:3]:
                    ask("POST", path, headers=headers, content=content)
            ask("GET", path, headers=HEADERS[0])
            ask("POST", f"{path}?api_key={KEY}&key={KEY}", headers=HEADERS[0], json=sent(path, {"temperature": -1}))
        ask("GET", "/nowhere", headers=HEADERS[0], params={"key": KEY})
    assert {200, 400, 401, 404, 405} <= statuses and max(statuses) < 500
    assert leaks(told) == []


def refsample(folder: Path, *words: str, key: str, **more: str) -> int:
    """A command line in a process of its own; both streams go to files. Its exit code."""
    folder.mkdir(parents=True, exist_ok=True)
    env = environ(**{KEY_ENV: key, "REFSAMPLE_TRACEBACK": "1", **more})
    number = len(list(folder.iterdir()))
    with (folder / f"{number}.out").open("wb") as out, (folder / f"{number}.err").open("wb") as err:
        return subprocess.run(
            [sys.executable, "-m", "refsample", *words], cwd=ROOT, env=env, stdout=out, stderr=err,
            stdin=subprocess.DEVNULL, timeout=280,
        ).returncode  # fmt: skip


ASKED = ("--model", MODEL, "--api-key-env", KEY_ENV, "--profile", "smoke", "--seed", "1", "--only", "contract.*")


@pytest.mark.parametrize("spec", ["openai", "visioncraft", "scale"])
def test_verify_and_its_record(spec: str, url: str, written: Path) -> None:
    """The key in a header, in the body, and in a header of its own."""
    folder, record = written / f"verify-{spec}", written / f"verify-{spec}" / "record"
    base = f"{url}/{spec}" + next(iter(generating(spec))).replace("/chat/completions", "").replace("/completions", "")
    words = ("verify", base, "--reference", "tiny", "--spec", spec, *ASKED)
    assert refsample(folder, *words, "--out", str(record), key=KEY) in (0, 1, 3)
    assert list(record.rglob("*")), "a record was written"
    assert refsample(folder, "judge", str(record), key=KEY) in (0, 1, 3)
    assert refsample(folder, *words, "--dry-run", key=KEY) == 0
    assert refsample(folder, *words, "--json", key=f"{KEY}-not") != 0
    assert leaks(folder) == []


def test_what_goes_wrong(url: str, written: Path) -> None:
    folder = written / "wrong"
    nobody, asked = "http://127.0.0.1:9", ("--reference", "none", *ASKED)
    assert refsample(folder, "verify", nobody, *asked, "--timeout", "5", key=KEY) == 2
    assert refsample(folder, "verify", nobody, *asked, key=f"{KEY}\n{KEY}") == 2
    host = url.removeprefix("http://")
    assert refsample(folder, "verify", f"http://user:{KEY}@{host}/openai/v1", *asked, key=KEY) == 2
    assert refsample(folder, "verify", f"{url}/openai/v1?key={KEY}", *asked, key=KEY) == 2
    assert refsample(folder, "verify", f"http://{KEY}@{host}/openai/v1", *asked, "--dry-run", key=KEY) == 0
    assert refsample(folder, "serve", "--model", "no-such-model", "--api-key-env", KEY_ENV, key=KEY) == 2
    assert refsample(folder, "serve", "--port", host.split(":")[1], "--api-key-env", KEY_ENV, key=KEY) == 2
    assert leaks(folder) == []


def test_nothing_that_was_written_holds_it(url: str, written: Path) -> None:
    """Last: the server's own streams, with a line for each of the requests above, and all the rest once more."""
    log = (written / "server" / "serve.err").read_text(encoding="utf-8")
    assert log.count(" -> ") > 100
    assert leaks(written) == []


def test_the_key_is_not_on_any_command_line(url: str) -> None:
    """Other people of the machine can read those."""
    if shutil.which("ps") is None:
        pytest.skip("no ps here")
    shown = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, timeout=60).stdout
    assert KEY not in shown and KEY not in os.environ.values()
