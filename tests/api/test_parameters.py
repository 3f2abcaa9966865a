"""Request fields beyond OpenAI's usual ones: what each changes of an answer, and how each is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from refsample.api.answer import default_behaviour, ready
from refsample.api.chat import chat
from refsample.api.completions import complete, whole
from refsample.api.echoes import echo, of_prompts
from refsample.api.response import answered
from refsample.api.stream import stream
from refsample.errors import ParameterError, RequestTimeoutError, UnknownModelError
from refsample.generation.load import load
from refsample.generation.model import Model
from refsample.spec.provider import provider, providers
from refsample_kernels.softmax import row_log_softmax
from tests.api.pages import ASK, ONCE, ask, once, read_as, text_of

MODEL = load("tiny")


@pytest.mark.parametrize("value", [1e-9, "1e-9", "0.000000001"])
def test_a_request_out_of_time_is_refused(value: Any) -> None:
    with pytest.raises(RequestTimeoutError) as caught:
        complete(MODEL, once(inference_timeout=value), "scale")
    assert caught.value.seconds == 1e-9
    with pytest.raises(RequestTimeoutError):
        list(stream(MODEL, once(inference_timeout=value), "scale"))


def test_enough_time_changes_nothing() -> None:
    bodies = (once(), once(inference_timeout=3600), once(inference_timeout="3600"), once(inference_timeout=None))
    texts = {text_of(complete(MODEL, body, "scale")) for body in bodies}
    assert len(texts) == 1


def test_out_of_time_with_the_text_so_far() -> None:
    page = read_as("scale", timeout="text_so_far")
    answer = complete(MODEL, once(inference_timeout=1e-9, n=2), page)
    assert [(choice["text"], choice["finish_reason"]) for choice in answer["choices"]] == [("", "length")] * 2
    last = list(stream(MODEL, once(inference_timeout=1e-9), page))[-1]
    assert last["choices"][0]["finish_reason"] == "length"


def test_the_time_limit_holds_for_what_is_said_of_prompts() -> None:
    for fields, say in (({"echo": True, "logprobs": 1}, echo), ({"prompt_logprobs": 1}, of_prompts)):
        job = whole(MODEL, once(prompt=[ONCE] * 2, **fields), "openai", "completions", None, False)
        late = replace(job, deadline=0.0, request=replace(job.request, timeout_s=1.0))
        with pytest.raises(RequestTimeoutError):
            say(late)
        assert len(say(job)) == 2


def test_who_waits_is_asked_before_each_pass() -> None:
    body = once(prompt=[ONCE] * 2, best_of=3, echo=True, logprobs=1, prompt_logprobs=1)
    job, asked = whole(MODEL, body, "openai", "completions", None, False), []
    answered(replace(job, wanted=lambda: asked.append(1)), job.events)
    assert len(asked) == 2 + 2  # what is drawn is asked for by the flow of events


@pytest.mark.parametrize("value", [0, -1, "0", "-2.5", "soon", "", "nan", "inf", "1e999", "1_0", " 5 ", "\u0663", "+1"])
def test_time_limits_that_are_refused(value: Any) -> None:
    with pytest.raises(ParameterError) as caught:
        complete(MODEL, once(inference_timeout=value), "scale")
    assert caught.value.parameter == "inference_timeout"


def test_token_ids_of_completions() -> None:
    answer = complete(MODEL, once(n=2, return_token_ids=True, logprobs=0))
    for choice in answer["choices"]:
        assert choice["prompt_token_ids"] == list(MODEL.tokenizer.encode(ONCE))
        assert MODEL.tokenizer.decode(choice["token_ids"]) == choice["text"]
        assert len(choice["token_ids"]) == len(choice["logprobs"]["tokens"])
    assert "token_ids" not in complete(MODEL, once())["choices"][0]
    found = list(stream(MODEL, once(n=2, return_token_ids=True)))
    for index, choice in enumerate(answer["choices"]):
        parts = [chunk["choices"][0] for chunk in found if chunk["choices"][0]["index"] == index]
        assert [token for part in parts for token in part.get("token_ids", [])] == choice["token_ids"]
        assert [part["prompt_token_ids"] for part in parts if "prompt_token_ids" in part] == [
            choice["prompt_token_ids"]
        ]


def test_token_ids_of_chats() -> None:
    answer = chat(MODEL, ask(return_token_ids=True))
    assert answer["prompt_token_ids"] == list(MODEL.prompt_ids(ASK))
    ids = answer["choices"][0]["token_ids"]
    assert MODEL.tokenizer.decode(ids, skip_special=True) == text_of(answer)
    found = list(stream(MODEL, ask(return_token_ids=True), chat=True))
    assert [token for chunk in found for token in chunk["choices"][0].get("token_ids", [])] == ids
    assert [chunk["prompt_token_ids"] for chunk in found if "prompt_token_ids" in chunk] == [answer["prompt_token_ids"]]


def test_prompt_logprobs() -> None:
    """The same facts as echo gives, in vLLM's shape; computed here a third time from the logits."""
    ids = list(MODEL.tokenizer.encode(ONCE))
    found = complete(MODEL, once(prompt_logprobs=2))["choices"][0]["prompt_logprobs"]
    assert found[0] is None and len(found) == len(ids)
    for token, row, shown in zip(ids[1:], MODEL.logits(ids), found[1:], strict=False):
        raw = row_log_softmax(row)
        order = list(np.argsort(-raw, kind="stable"))
        assert set(shown) == {str(i) for i in (token, *order[:2])}
        for key, entry in shown.items():
            assert entry["logprob"] == raw[int(key)] and entry["rank"] == order.index(int(key)) + 1
            assert entry["decoded_token"] == MODEL.tokenizer.token_text(int(key))
    most = chat(MODEL, ask(prompt_logprobs=20))["prompt_logprobs"]
    assert {len(entry) for entry in most[1:]} <= {20, 21}
    for outside in (-1, 21, 10**9):  # vLLM's max_logprobs
        with pytest.raises(ParameterError, match=f"^prompt_logprobs={outside}: must lie in 0 <= x <= 20"):
            chat(MODEL, ask(prompt_logprobs=outside))
    assert [list(entry) for entry in chat(MODEL, ask(prompt_logprobs=0))["prompt_logprobs"][1:]] == [
        [str(token)] for token in MODEL.prompt_ids(ASK)[1:]
    ]
    with pytest.raises(ParameterError, match="prompt_logprobs=1: cannot be combined with stream"):
        stream(MODEL, once(prompt_logprobs=1))


def test_special_tokens_in_the_text() -> None:
    body = ask(temperature=0, max_tokens=None)
    hidden, shown = chat(MODEL, body), chat(MODEL, {**body, "skip_special_tokens": False})
    assert text_of(shown) == text_of(hidden) or text_of(shown).startswith(text_of(hidden))
    end = MODEL.tokenizer.eos_token_ids[0]
    bias = {str(end): 100}
    kept = complete(MODEL, once(max_tokens=2, ignore_eos=True, logit_bias=bias, skip_special_tokens=False))
    gone = complete(MODEL, once(max_tokens=2, ignore_eos=True, logit_bias=bias))
    assert (text_of(kept), text_of(gone)) == (MODEL.tokenizer.token_text(end) * 2, "")


def test_the_last_message_goes_on() -> None:
    begun = [*ASK, {"role": "assistant", "content": "A small brown"}]
    answer = chat(MODEL, ask(messages=begun, continue_final_message=True, return_token_ids=True))
    assert MODEL.template is not None
    text = MODEL.template.render(ASK) + "A small brown"
    assert MODEL.tokenizer.decode(answer["prompt_token_ids"]) == text
    said = chat(MODEL, ask(messages=begun, add_generation_prompt=False, return_token_ids=True))
    assert MODEL.tokenizer.decode(said["prompt_token_ids"]) == MODEL.template.render(begun, add_generation_prompt=False)
    with pytest.raises(ParameterError, match="cannot be combined with add_generation_prompt"):
        chat(MODEL, ask(messages=begun, continue_final_message=True, add_generation_prompt=True))


def test_variables_of_the_template(model: Model) -> None:
    assert model.template is not None and model.template.compiled is not None
    compiled = model.template.compiled.environment.from_string(
        "{% for m in messages %}{{ m.content }}{% endfor %}{% if shout %}!{% endif %}"
    )
    other = replace(model, template=replace(model.template, compiled=compiled))
    plain, loud = (
        chat(other, ask(return_token_ids=True, chat_template_kwargs=kwargs))["prompt_token_ids"]
        for kwargs in (None, {"shout": True})
    )
    assert (model.tokenizer.decode(plain), model.tokenizer.decode(loud)) == ("Name an animal.", "Name an animal.!")
    for name in ("messages", "tools", "add_generation_prompt", "continue_final_message", "self"):
        with pytest.raises(ParameterError) as caught:
            chat(other, ask(chat_template_kwargs={name: []}))
        assert caught.value.parameter == f"chat_template_kwargs.{name}"


def test_other_names_mean_the_same() -> None:
    whole = text_of(complete(MODEL, once(temperature=0), "scale"))
    stop = whole[3:6]
    for name, value in (("stop", stop), ("stop", [stop]), ("stop_sequences", [stop])):
        cut = complete(MODEL, once(temperature=0, **{name: value}), "scale")
        assert text_of(cut) == whole[:3], name
    with pytest.raises(ParameterError, match="must not differ"):
        complete(MODEL, once(stop="a", stop_sequences=["b"]), "scale")
    same = complete(MODEL, once(stop=".", stop_sequences=["."]), "scale")
    assert text_of(same) == text_of(complete(MODEL, once(stop=["."]), "scale"))
    asked = complete(MODEL, once(logprobs=True), "scale")["choices"][0]["logprobs"]
    assert asked == complete(MODEL, once(return_token_log_probs=True), "scale")["choices"][0]["logprobs"]
    for name in ("max_tokens", "max_completion_tokens", "max_new_tokens"):
        body = {"prompt": ONCE, "ignore_eos": True, name: 3}
        assert complete(MODEL, body, "scale")["usage"]["completion_tokens"] == 3


def test_a_rule_of_the_samplers_own_names_the_field_as_it_was_sent() -> None:
    """Nebius prints no range of top_p, so in strict mode the sampler itself is the first to mind."""
    with pytest.raises(ParameterError, match=r"extra_body.top_p=1.5: must lie in \[0, 1\]"):
        chat(MODEL, {"messages": ASK, "extra_body": {"top_p": 1.5}}, "nebius", strict=True)


def test_any_seed_is_vllms_word_and_no_pages() -> None:
    def answer(strict: bool) -> dict[str, Any]:
        return complete(MODEL, once(seed=-1, temperature=1.5), strict=strict)

    loose, printed = [answer(False) for _ in range(3)], [answer(True) for _ in range(3)]
    assert len({one["refsample"]["seed"] for one in loose}) == 3
    assert len({text_of(one) for one in printed}) == 1
    assert {one["refsample"]["seed"] for one in printed} == {(1 << 64) - 1}  # the same key: both are taken mod 2^64


def test_how_much_to_think_is_listed_as_ignored() -> None:
    for spec in ("nebius", "openai"):
        for effort, ignored in (("low", ["reasoning_effort"]), ("none", [])):
            assert chat(MODEL, ask(reasoning_effort=effort), spec)["refsample"]["ignored"] == ignored
        with pytest.raises(ParameterError, match="must be one of none, minimal"):
            chat(MODEL, ask(reasoning_effort="banana"), spec)


def test_top_logprobs_need_logprobs() -> None:
    for fields in ({}, {"logprobs": False}, {"logprobs": None}):
        with pytest.raises(ParameterError, match="needs logprobs: true"):
            complete(MODEL, once(top_logprobs=1, **fields), "scale")
        with pytest.raises(ParameterError, match="needs logprobs: true"):
            chat(MODEL, ask(top_logprobs=0, **fields))


def test_token_limits_that_differ() -> None:
    body = once(max_tokens=5, max_new_tokens=2, max_completion_tokens=4)
    lowest = complete(MODEL, body, read_as("scale", token_limits="lowest"))
    assert lowest["usage"]["completion_tokens"] <= 2
    assert lowest["refsample"]["ignored"] == ["max_completion_tokens", "max_tokens"]
    with pytest.raises(ParameterError, match="must not differ"):
        complete(MODEL, body, read_as("scale", token_limits="refused"))


def test_ignore_eos_may_ignore_stops_too() -> None:
    whole = text_of(complete(MODEL, once(temperature=0)))
    body = once(temperature=0, ignore_eos=True, stop=[whole[2:4]], stop_token_ids=[MODEL.tokenizer.encode(" ")[0]])
    cut = complete(MODEL, body)
    assert text_of(cut) == whole[:2] and cut["choices"][0]["finish_reason"] == "stop"
    on = complete(MODEL, body, read_as("openai", ignore_eos="stop_too"))
    assert on["choices"][0]["finish_reason"] == "length" and on["usage"]["completion_tokens"] == 8


def test_what_top_p_keeps_is_the_providers_reading() -> None:
    assert default_behaviour(read_as("openai", top_p_rule="gt")).semantics.top_p_rule == "gt"
    page = provider("visioncraft")
    assert default_behaviour(page).semantics.top_p_rule == "ge"
    assert default_behaviour(page, strict=True).semantics.top_p_rule == "gt"


def test_vendor_rules_are_printed_ones() -> None:
    tools = [{"type": "function", "function": {"name": "weather"}}]
    cases: tuple[tuple[dict[str, Any], str, str], ...] = (
        ({"tools": tools}, "openai/tiny", "mistral/tiny"),
        ({"tools": tools}, "anthropic/tiny", "tiny"),
        ({"tools": tools, "parallel_tool_calls": False}, "openai/tiny", "anthropic/tiny"),
        ({"suffix": " The end."}, "openai/gpt-3.5-turbo-instruct", "openai/tiny"),
    )
    for fields, right, wrong in cases:
        body = {"prompt": ONCE, "max_tokens": 2, **fields}
        complete(MODEL, {**body, "model": wrong}, "scale")
        complete(MODEL, {**body, "model": right}, "scale", strict=True)
        with pytest.raises(ParameterError, match="is only for models of") as caught:
            complete(MODEL, {**body, "model": wrong}, "scale", strict=True)
        assert caught.value.parameter == list(fields)[-1] and caught.value.code == "unsupported_parameter"


def test_audio_is_refused_by_name() -> None:
    for name, value in (("audio", {"format": "wav", "voice": "x"}), ("modalities", ["text", "audio"])):
        with pytest.raises(ParameterError) as caught:
            complete(MODEL, once(**{name: value}), "scale")
        assert (caught.value.parameter, caught.value.code) == (name, "unsupported_parameter")
    neutral_values: tuple[tuple[str, Any], ...] = (
        ("audio", None), ("audio", {}), ("modalities", None), ("modalities", ["text"]), ("modalities", []),
    )  # fmt: skip
    for name, neutral in neutral_values:
        assert text_of(complete(MODEL, once(**{name: neutral}), "scale")) == text_of(complete(MODEL, once(), "scale"))


def test_headers_for_others_are_listed_as_ignored() -> None:
    answer = complete(MODEL, once(inference_extra_headers={"x-team": "blue"}), "scale")
    assert answer["refsample"]["ignored"] == ["inference_extra_headers"]


def test_extra_params_are_merged() -> None:
    body = {"prompt": ONCE, "seed": 1, "inference_extra_params": {"max_tokens": 3, "ignore_eos": True}}
    assert complete(MODEL, body, "scale")["usage"]["completion_tokens"] == 3
    with pytest.raises(ParameterError, match="another value"):
        complete(MODEL, {**body, "max_tokens": 4}, "scale")
    assert complete(MODEL, {**body, "max_tokens": 3}, "scale")["usage"]["completion_tokens"] == 3


@pytest.mark.parametrize(
    ("name", "outer"),
    [(name, outer) for name in providers() for one in provider(name).endpoints.values() for outer in one.merged],
)
def test_a_model_that_is_named_in_what_is_merged(name: str, outer: str) -> None:
    page = provider(name)
    for endpoint in page.endpoints.values():
        said = {"messages": ASK} if endpoint.kind == "chat" else {"prompt": ONCE}
        served, honest = {"other": MODEL, "tiny": MODEL}, default_behaviour(page)
        for top in ({}, {"model": "tiny"}):
            job = ready(served, {**said, **top, outer: {"model": "tiny"}}, page, endpoint, honest)
            assert job.request.model == "tiny" and job.request.ignored == ()
        with pytest.raises(UnknownModelError, match="'nix' does not exist"):
            ready(served, {**said, outer: {"model": "nix"}}, page, endpoint, honest)
        with pytest.raises(ParameterError, match="is also sent as model, with another value"):
            ready(served, {**said, "model": "tiny", outer: {"model": "other"}}, page, endpoint, honest)
        with pytest.raises(ParameterError, match="model: is required"):
            ready(served, {**said, outer: {}}, page, endpoint, honest)


def test_128_choices() -> None:
    answer = complete(MODEL, once(n=128, max_tokens=1))
    alone = [text_of(complete(MODEL, once(seed=1 + i, max_tokens=1))) for i in (0, 77, 127)]
    assert [text_of(answer, i) for i in (0, 77, 127)] == alone and len(answer["choices"]) == 128


FURTHER: tuple[dict[str, Any], ...] = (
    {"typical_p": 0.4}, {"top_h": 0.3}, {"top_n_sigma": 0.5}, {"tfs_z": 0.5}, {"top_a": 0.5}, {"epsilon_cutoff": 0.2},
    {"eta_cutoff": 0.5}, {"xtc_probability": 1.0, "xtc_threshold": 0.05},
    {"dynatemp_range": 0.9, "dynatemp_exponent": 3.0},
    {"mirostat": 2, "mirostat_tau": 0.5, "mirostat_eta": 0.5}, {"no_repeat_ngram_size": 1},
    {"dry_multiplier": 9.0, "dry_base": 2.0, "dry_allowed_length": 0, "dry_penalty_last_n": 50,
     "dry_sequence_breakers": [[13]]},
)  # fmt: skip


@pytest.mark.parametrize("fields", FURTHER, ids=lambda fields: next(iter(fields)))
def test_what_only_some_engines_have_acts_as_in_the_library(fields: dict[str, Any]) -> None:
    """Both doors, hot draws: the text of `generate` with the same parameters, another than without them."""
    body = {"prompt": ONCE, "max_tokens": 40, "seed": 2, "temperature": 1.5}
    answer, plain = complete(MODEL, {**body, **fields}), complete(MODEL, body)
    assert answer["refsample"]["ignored"] == [] and text_of(answer) != text_of(plain)
    assert text_of(answer) == MODEL.generate(ONCE, temperature=1.5, seed=2, max_tokens=40, **fields).text
    with pytest.raises(ParameterError):
        complete(MODEL, {**body, **fields}, strict=True)
    talk = {"messages": [{"role": "user", "content": "Tell me a story."}], "seed": 2, "temperature": 1.5}
    texts = [chat(MODEL, {**talk, **more})["choices"][0]["message"]["content"] for more in (fields, {})]
    assert texts[0] != texts[1]


def test_ranges_of_what_only_some_engines_have() -> None:
    for name, value, words in (
        ("typical_p", 1.5, "typical_p=1.5"), ("mirostat", 1, "must be 0 .off. or 2"), ("dry_base", 0.5, "dry_base=0.5"),
        ("epsilon_cutoff", 1, "epsilon_cutoff=1"), ("mirostat_tau", 0, "mirostat_tau=0"), ("top_h", "x", "top_h='x'"),
        ("dry_sequence_breakers", ["\n"], "dry_sequence_breakers"),
    ):  # fmt: skip
        with pytest.raises(ParameterError, match=words):
            complete(MODEL, once(**{name: value}))
