"""The code of the five pages, run as processes against `refsample serve --spec NAME`; what comes back is the page's.

The scripts are the pages' own but for what their first lines tell. Answers are read off the wire by a relay, so that
it does not matter how a script prints them, held against the response schema generated from the spec, and against
PROMISED, which is copied from the pages by hand.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from refsample.spec.openapi import openapi
from refsample.spec.provider import provider
from tests.clients.live import KEY, NODE_MODULES, Exchange, environ, need, relay, serving

HERE = Path(__file__).parent
NULL = type(None)
NUMBER = (int, float)

Fields = dict[str, tuple[Any, ...]]
"""Path in an answer -> the types it may have; `[]` goes into every element, of which there is at least one."""

USAGE: Fields = {
    "usage": (dict,),
    "usage.prompt_tokens": (int,),
    "usage.completion_tokens": (int,),
    "usage.total_tokens": (int,),
}
CHAT: Fields = {
    "id": (str,),
    "object": (str,),
    "created": (int,),
    "model": (str,),
    "choices": (list,),
    "choices[].index": (int,),
    "choices[].finish_reason": (str,),
    "choices[].message": (dict,),
    "choices[].message.role": (str,),
    "choices[].message.content": (str, NULL),
    **USAGE,
}
PROMISED: dict[str, Fields] = {
    # prints no answer, only that the openai client can read it: what that client's types require
    "visioncraft": CHAT,
    # the sample of the accordion "Response"; null in a sample is a type that is not shown
    "nebius": {
        **CHAT,
        "choices[].logprobs": (dict, NULL),
        "choices[].message.function_call": (dict, NULL),
        "choices[].message.tool_calls": (list,),
        "choices[].stop_reason": (str, int, NULL),
        "system_fingerprint": (str, NULL),
    },
    # "Response"; the values of top_logprobs are printed as integers, which no log probability is (the page's slip)
    "novita": {
        "choices": (list,),
        "choices[].finish_reason": (str,),
        "choices[].index": (int,),
        "choices[].logprobs": (dict,),
        "choices[].logprobs.text_offset": (list,),
        "choices[].logprobs.text_offset[]": (int,),
        "choices[].logprobs.token_logprobs": (list,),
        "choices[].logprobs.token_logprobs[]": NUMBER,
        "choices[].logprobs.tokens": (list,),
        "choices[].logprobs.tokens[]": (str,),
        "choices[].logprobs.top_logprobs": (list,),
        "choices[].logprobs.top_logprobs[]": (dict,),
        "choices[].logprobs.top_logprobs[].*": NUMBER,
        "choices[].text": (str,),
        "created": (int,),
        "id": (str,),
        "model": (str,),
        "object": (str,),
        **USAGE,
    },
    # "Response", and the sample answer of the stored page (section 1.1 of the parameter matrix)
    "empower": {
        "choices": (list,),
        "choices[]": (dict,),
        "choices[].finish_reason": (str,),
        "choices[].index": (int,),
        "choices[].logprobs": (list, NULL),
        "choices[].message": (dict,),
        "choices[].message.content": (str,),
        "choices[].message.role": (str,),
        "id": (str,),
        "model": (str,),
        "created": (int, NULL),
        **USAGE,
    },
    # "Response"; types from the SDK
    "scale": {
        "choices": (list,),
        "choices[].text": (str,),
        "choices[].finish_reason": (str,),
        "usage": (dict,),
        "id": (str,),
        "model": (str,),
        "object": (str,),
        "system_fingerprint": (str,),
        "created": (int,),
    },
}


@dataclass(frozen=True, slots=True)
class Seed:
    """A script, the spec it talks to, the model it names, and the variable it takes the key from."""

    script: str
    spec: str
    model: str
    variable: str = "API_KEY"


NEBIUS = Seed("nebius.py", "nebius", "meta-llama/Meta-Llama-3.1-70B-Instruct", "NEBIUS_API_KEY")
SEEDS = (
    Seed("visioncraft.py", "visioncraft", "Mixtral-8x7B-Instruct-v0.1"),
    NEBIUS,
    replace(NEBIUS, script="nebius.sh"),
    replace(NEBIUS, script="nebius.cjs"),
    Seed("novita.sh", "novita", "meta-llama/llama-3.1-8b-instruct"),
    Seed("empower.sh", "empower", "IlyaGusev/saiga_mistral_7b_lora"),
    Seed("scale.sh", "scale", "gpt-4o"),
)


def command(script: str) -> list[str]:
    """How a script is started; skips where what it needs is missing."""
    path = str(HERE / script)
    if script.endswith(".py"):
        return [sys.executable, path]
    if script.endswith(".sh"):
        need("curl", shutil.which("curl") is None)
        return ["sh", path]
    need("openai-node", shutil.which("node") is None or not NODE_MODULES.is_dir())
    return ["node", path]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """All five providers in one process, each under its prefix, with the models that the pages name."""
    specs = [word for spec in PROMISED for word in ("--spec", spec)]
    models = [word for name in sorted({seed.model for seed in SEEDS}) for word in ("--model", f"{name}=tiny")]
    with serving(tmp_path_factory.mktemp("seeds"), *specs, *models) as served:
        yield served.url


def run(seed: Seed, url: str) -> tuple[str, Exchange]:
    """What the script printed, and the one exchange it made."""
    with relay(url) as (near, noted):
        more = {seed.variable: KEY, "BASE_URL": f"{near}/{seed.spec}", "NODE_PATH": str(NODE_MODULES)}
        started = command(seed.script)
        done = subprocess.run(started, env=environ(**more), capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    (exchange,) = noted
    assert exchange.status == 200, exchange.body
    return done.stdout, exchange


def found(value: Any, path: str) -> list[Any]:
    """Every value at a path; `[]` goes into the elements, `*` into the values. KeyError where a name is missing."""
    values = [value]
    for part in path.replace("[]", ".[]").split("."):
        if part == "[]":
            values = [element for each in values for element in each]
        elif part == "*":
            values = [element for each in values for element in each.values()]
        else:
            values = [each[part] for each in values]
    assert values, f"{path}: nothing there to look at"
    return values


def broken(answer: Any, promised: Fields) -> list[str]:
    """The promised fields that are missing or of another type."""
    wrong = []
    for path, types in promised.items():
        try:
            values = found(answer, path)
        except (KeyError, TypeError) as error:
            wrong.append(f"{path}: missing ({error!r})")
            continue
        wrong += [f"{path}: {each!r}" for each in values if type(each) not in types]
    return wrong


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed.script)
def test_a_page_s_own_code(seed: Seed, servers: str) -> None:
    printed, exchange = run(seed, servers)
    answer = exchange.answer
    assert answer["model"] == seed.model == exchange.request["model"]
    assert answer["id"] in printed
    assert broken(answer, PROMISED[seed.spec]) == []
    document = openapi(provider(seed.spec))
    path = exchange.path.removeprefix(f"/{seed.spec}")
    schema = document["paths"][path]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(answer)


def test_the_javascript_client_sends_extra_body_as_it_is(servers: str) -> None:
    """C21: it is a key of the body; the schema inside it holds all the same."""
    _, exchange = run(replace(NEBIUS, script="nebius.cjs"), servers)
    assert "guided_json" in exchange.request["extra_body"] and "guided_json" not in exchange.request
    (choice,) = exchange.answer["choices"]
    assert choice["message"]["content"].startswith("{")


def test_a_promise_that_is_not_kept_is_seen() -> None:
    answer = {"choices": [{"index": 0, "text": "a"}, {"index": "1"}]}
    promised: Fields = {"choices[].index": (int,), "choices[].text": (str,), "id": (str,)}
    assert [line.split(":")[0] for line in broken(answer, promised)] == ["choices[].index", "choices[].text", "id"]
    assert broken({"created": True}, {"created": (int,)}) == ["created: True"]
