"""Request fields beyond OpenAI's usual ones: what each changes of an answer, and how each is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refsample.api.answer import default_behaviour
from refsample.api.chat import chat
from refsample.api.completions import complete
from refsample.api.stream import stream
from refsample.errors import ParameterError, RequestTimeoutError
from refsample.generation.load import load
from refsample.generation.model import Model
from refsample.spec.provider import provider
from refsample_kernels.softmax import log_softmax
from tests.api.pages import read_as

ONCE = "Once upon a time"
ASK = [{"role": "user", "content": "Name an animal."}]
MODEL = load("tiny")


def text_of(answer: dict[str, Any], index: int = 0) -> str:
    choice = answer["choices"][index]
    return str(choice["text"] if "text" in choice else choice["message"]["content"])


def once(**fields: Any) -> dict[str, Any]:
    return {"prompt": ONCE, "seed": 1, "max_tokens": 8, **fields}


def ask(**fields: Any) -> dict[str, Any]:
    return {"messages": ASK, "seed": 1, "max_tokens": 8, **fields}


# ------------------------------------------------------------------------------------------------ prediction

PREDICTED = st.one_of(
    st.just(""),
    st.sampled_from([" there was a little girl", "A cat. A dog.", "\n", "🐢 Zoë"]),
    st.integers(1, 30).map(lambda size: "own" + str(size)),
)


@settings(max_examples=25)
@given(
    predicted=PREDICTED,
    seed=st.integers(0, 2**32),
    n=st.integers(1, 3),
    temperature=st.sampled_from([0, 0.7, 1.5]),
    stop=st.sampled_from([None, ["."], ["e", " a"]]),
)
def test_a_prediction_changes_no_token(
    predicted: str, seed: int, n: int, temperature: float, stop: list[str] | None
) -> None:
    body = ask(seed=seed, n=n, temperature=temperature, stop=stop, logprobs=True, top_logprobs=2, max_tokens=20)
    plain = chat(MODEL, body)
    if predicted.startswith("own"):  # a beginning of the answer itself, then something else
        predicted = text_of(plain)[: int(predicted[3:])] + " or so"
    content = predicted if seed % 2 else [{"type": "text", "text": predicted}]
    helped = chat(MODEL, {**body, "prediction": {"type": "content", "content": content}})
    assert helped["choices"] == plain["choices"]
    details = helped["usage"].pop("completion_tokens_details")
    assert helped["usage"] == plain["usage"] and "completion_tokens_details" not in plain["usage"]
    ids = MODEL.tokenizer.encode(predicted, bos=False)
    assert details["accepted_prediction_tokens"] + details["rejected_prediction_tokens"] == n * len(ids)


def test_predicted_tokens_are_counted() -> None:
    plain = chat(MODEL, ask(temperature=0, max_tokens=None))
    right = chat(MODEL, ask(temperature=0, max_tokens=None, prediction={"type": "content", "content": text_of(plain)}))
    size = len(MODEL.tokenizer.encode(text_of(plain), bos=False))
    assert right["usage"]["completion_tokens_details"] == {
        "accepted_prediction_tokens": size,
        "rejected_prediction_tokens": 0,
    }
    wrong = chat(MODEL, ask(temperature=0, prediction={"type": "content", "content": "\n\n\n"}))
    assert wrong["usage"]["completion_tokens_details"]["accepted_prediction_tokens"] == 0
    assert wrong["usage"]["completion_tokens_details"]["rejected_prediction_tokens"] > 0


@pytest.mark.parametrize(
    ("prediction", "place"),
    [
        ({"type": "text", "content": "x"}, "prediction.type"),
        ({"content": "x"}, "prediction.type"),
        ({"type": "content"}, "prediction.content"),
        ({"type": "content", "content": 5}, "prediction.content"),
        ({"type": "content", "content": [{"type": "image_url", "text": "x"}]}, "prediction.content[0].type"),
        ({"type": "content", "content": [{"type": "text"}]}, "prediction.content[0].text"),
        ("x", "prediction"),
    ],
)
def test_predictions_that_are_refused(prediction: Any, place: str) -> None:
    with pytest.raises(ParameterError) as caught:
        chat(MODEL, ask(prediction=prediction))
    assert caught.value.parameter == place


# ------------------------------------------------------------------------------------------------ time limits


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


@pytest.mark.parametrize("value", [0, -1, "0", "-2.5", "soon", "", "nan", "inf", "1e999"])
def test_time_limits_that_are_refused(value: Any) -> None:
    with pytest.raises(ParameterError) as caught:
        complete(MODEL, once(inference_timeout=value), "scale")
    assert caught.value.parameter == "inference_timeout"


# ------------------------------------------------------------------------------------------------ token ids, prompts


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
        raw = log_softmax(row.astype(np.float64))
        order = list(np.argsort(-raw, kind="stable"))
        assert set(shown) == {str(i) for i in (token, *order[:2])}
        for key, entry in shown.items():
            assert entry["logprob"] == raw[int(key)] and entry["rank"] == order.index(int(key)) + 1
            assert entry["decoded_token"] == MODEL.tokenizer.token_text(int(key))
    every = chat(MODEL, ask(prompt_logprobs=-1))["prompt_logprobs"]
    assert {len(entry) for entry in every[1:]} == {MODEL.config.vocab_size}
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


# ------------------------------------------------------------------------------------------------ templates


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
    with pytest.raises(ParameterError) as caught:
        chat(other, ask(chat_template_kwargs={"messages": []}))
    assert caught.value.parameter == "chat_template_kwargs.messages"


# ------------------------------------------------------------------------------------------------ names, rules


def test_other_names_mean_the_same() -> None:
    whole = text_of(complete(MODEL, once(temperature=0), "scale"))
    stop = whole[3:6]
    for name, value in (("stop", stop), ("stop", [stop]), ("stop_sequences", [stop])):
        cut = complete(MODEL, once(temperature=0, **{name: value}), "scale")
        assert text_of(cut) == whole[:3], name
    with pytest.raises(ParameterError, match="must not differ"):
        complete(MODEL, once(stop="a", stop_sequences=["b"]), "scale")
    asked = complete(MODEL, once(logprobs=True), "scale")["choices"][0]["logprobs"]
    assert asked == complete(MODEL, once(return_token_log_probs=True), "scale")["choices"][0]["logprobs"]
    for name in ("max_tokens", "max_completion_tokens", "max_new_tokens"):
        body = {"prompt": ONCE, "ignore_eos": True, name: 3}
        assert complete(MODEL, body, "scale")["usage"]["completion_tokens"] == 3


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
    for name, neutral in (("audio", None), ("modalities", None), ("modalities", ["text"]), ("modalities", [])):
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


def test_128_choices() -> None:
    answer = complete(MODEL, once(n=128, max_tokens=1))
    alone = [text_of(complete(MODEL, once(seed=1 + i, max_tokens=1))) for i in (0, 77, 127)]
    assert [text_of(answer, i) for i in (0, 77, 127)] == alone and len(answer["choices"]) == 128


# ------------------------------------------------------------------------------------------------ forms and tools

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "legs": {"enum": [2, 4]}},
    "required": ["name", "legs"],
    "additionalProperties": False,
}
TOOLS = [{"type": "function", "function": {"name": "animal", "parameters": SCHEMA}}]


def test_an_answer_in_a_form() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "animal", "schema": SCHEMA}}
    answer = chat(MODEL, ask(max_tokens=200, n=2, response_format=form))
    for choice in answer["choices"]:
        assert choice["finish_reason"] == "stop"
        said = json.loads(choice["message"]["content"])
        assert set(said) == {"name", "legs"} and said["legs"] in (2, 4)
    assert answer["refsample"]["constraint"] == "response_format.json_schema.schema"
    assert "constraint" not in chat(MODEL, ask())["refsample"]
    cut = chat(MODEL, ask(max_tokens=3, response_format=form))
    assert cut["choices"][0]["finish_reason"] == "length"


def calls_of(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The calls of one choice's deltas, put together by hand."""
    calls: list[dict[str, Any]] = []
    for chunk in found:
        for piece in chunk["choices"][0]["delta"].get("tool_calls", []):
            if piece["index"] == len(calls):
                calls.append({"type": piece["type"], "function": {"name": piece["function"]["name"], "arguments": ""}})
            calls[piece["index"]]["function"]["arguments"] += piece["function"].get("arguments", "")
    return calls


@settings(max_examples=8)
@given(seed=st.integers(0, 2**32), choice=st.sampled_from(["auto", "required", "none"]))
def test_calls_streamed_are_calls_whole(seed: int, choice: str) -> None:
    body = ask(tools=TOOLS, tool_choice=choice, seed=seed, max_tokens=150, logprobs=True)
    (whole,) = chat(MODEL, body)["choices"]
    found = list(stream(MODEL, body, chat=True))
    parts = [chunk["choices"][0] for chunk in found]
    assert parts[-1]["finish_reason"] == whole["finish_reason"]
    message = whole["message"]
    made = [{"type": one["type"], "function": one["function"]} for one in message.get("tool_calls", [])]
    assert calls_of(found) == made
    assert "".join(part["delta"].get("content") or "" for part in parts) == (message["content"] or "")
    rows = [entry for part in parts if part["logprobs"] for entry in part["logprobs"]["content"]]
    assert rows == whole["logprobs"]["content"]
    if choice == "required":
        assert message["content"] is None and whole["finish_reason"] in ("tool_calls", "length")
        assert whole["finish_reason"] == "length" or set(json.loads(made[0]["function"]["arguments"])) == set(
            SCHEMA["required"]
        )
    else:
        assert choice == "auto" or not made


def test_the_older_form_of_calls() -> None:
    body = ask(functions=[TOOLS[0]["function"]], function_call={"name": "animal"}, max_tokens=150)
    (choice,) = chat(MODEL, body)["choices"]
    assert choice["message"]["function_call"]["name"] == "animal" and "tool_calls" not in choice["message"]
    assert set(json.loads(choice["message"]["function_call"]["arguments"])) == {"name", "legs"}
    assert choice["finish_reason"] == "function_call"


def test_turns_of_tools() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "animal", "arguments": '{"name": "cat"}'}}
    turns = [
        *ASK,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "It has 4 legs."},
    ]
    answer = chat(MODEL, ask(messages=turns, tools=TOOLS, tool_choice="none", return_token_ids=True))
    prompt = MODEL.tokenizer.decode(answer["prompt_token_ids"])
    assert prompt.index('"cat"') < prompt.index("It has 4 legs.") and text_of(answer)
    older = [
        *ASK,
        {"role": "assistant", "content": None, "function_call": call["function"]},
        {"role": "function", "name": "animal", "content": "It has 4 legs."},
    ]
    same = chat(MODEL, ask(messages=older, tools=TOOLS, tool_choice="none", return_token_ids=True))
    assert same["prompt_token_ids"] == answer["prompt_token_ids"]


@pytest.mark.parametrize(
    ("message", "place"),
    [
        ({"role": "tool", "content": "x"}, "messages[0].tool_call_id"),
        ({"role": "function", "content": "x"}, "messages[0].name"),
        ({"role": "user", "content": None}, "messages[0].content"),
        ({"role": "assistant"}, "messages[0].content"),
        ({"role": "assistant", "tool_calls": []}, "messages[0].content"),
        ({"role": "user", "content": None, "tool_calls": [{"id": "1"}]}, "messages[0].tool_calls[0].function"),
    ],
)
def test_messages_that_are_refused(message: dict[str, Any], place: str) -> None:
    with pytest.raises(ParameterError) as caught:
        chat(MODEL, {"messages": [message]})
    assert caught.value.parameter == place


# ------------------------------------------------------------------------------------------------ flaws


def flawed(name: str, spec: str = "openai") -> Any:
    return replace(default_behaviour(provider(spec)), flaws=frozenset({name}))


def test_flaws_of_usage() -> None:
    (eos,) = MODEL.tokenizer.eos_token_ids
    ends = once(logit_bias={str(eos): 100}, n=2)
    honest = complete(MODEL, ends)["usage"]
    assert honest["completion_tokens"] == 2
    assert complete(MODEL, ends, behaviour=flawed("eos_not_counted"))["usage"]["completion_tokens"] == 0
    assert complete(MODEL, ends, behaviour=flawed("usage_first_choice"))["usage"]["completion_tokens"] == 1
    options = {"stream_options": {"include_usage": True}}
    last = list(stream(MODEL, {**ends, **options}, behaviour=flawed("usage_first_choice")))[-1]
    assert last["usage"]["completion_tokens"] == 1


def test_flaws_of_shapes() -> None:
    roles = [
        "role" in chunk["choices"][0]["delta"]
        for chunk in stream(MODEL, ask(), chat=True, behaviour=flawed("role_chunk_missing"))
    ]
    assert not any(roles)
    swapped = flawed("logprobs_shape_swapped")
    assert "content" in complete(MODEL, once(logprobs=1), behaviour=swapped)["choices"][0]["logprobs"]
    assert "tokens" in chat(MODEL, ask(logprobs=True), behaviour=swapped)["choices"][0]["logprobs"]
    hot = once(logprobs=1, temperature=2, max_tokens=30)
    sizes = [
        {len(best) for best in complete(MODEL, hot, behaviour=each)["choices"][0]["logprobs"]["top_logprobs"]}
        for each in (None, flawed("top_logprobs_n"))
    ]
    assert sizes == [{1, 2}, {1}]


def test_flaws_of_choices() -> None:
    every = [text_of(complete(MODEL, once(n=6, temperature=1.5)), i) for i in range(6)]
    body = once(best_of=6, n=2, temperature=1.5)
    ignored = complete(MODEL, body, behaviour=flawed("best_of_ignored"))
    assert [text_of(ignored, i) for i in (0, 1)] == every[:2]
    assert [text_of(complete(MODEL, body), i) for i in (0, 1)] != every[:2]
    with pytest.raises(ParameterError, match="must be 1 with temperature 0"):
        complete(MODEL, once(n=2, temperature=0), behaviour=flawed("greedy_n_refused"))
    assert complete(MODEL, once(temperature=3), behaviour=flawed("bound_not_enforced"))["choices"]
