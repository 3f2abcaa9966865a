"""`refsample complete`: text in, text out, through the same door as POST /v1/completions."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from refsample.cli.answer import footer, print_stream, print_whole
from refsample.cli.options import asking, body_from, open_model, say_defaults, split_rules, text_from
from refsample.cli.terminal import say
from refsample.errors import ParameterError

if TYPE_CHECKING:
    from refsample.generation.behaviour import Behaviour


@click.command(short_help="Continue a text.")
@click.argument("prompt", required=False)
@asking
@click.option("--json", "as_json", is_flag=True, help="Print the API's response as one line of JSON.")
@click.option("--no-stream", is_flag=True, help="Print when the whole answer is there.")
def complete(
    prompt: str | None, model_name: str, lora: str | None, spec: str, settings: tuple[str, ...], overlay: bool,
    strict: bool, threads: int | None, as_json: bool, no_stream: bool,
) -> None:  # fmt: skip
    """Continue PROMPT (an argument, - or a pipe), as POST /v1/completions does.

    \b
    refsample complete "Once upon a time" -o temperature=0.8 -o seed=1 -o logprobs=0
    refsample complete "Once upon a time" --json -o logprobs=5 -o n=3
    refsample complete "Once upon a time" -o top_p=0.5 -o semantics.top_p_rule=gt
    """
    body = body_from(settings)
    rules = split_rules(body)
    if "prompt" in body and prompt is not None:
        raise ParameterError("-o", "prompt", "the prompt is given already, as an argument", "the command line")
    if "prompt" not in body:
        text = text_from(prompt, "PROMPT")
        if text is None:
            raise click.UsageError("a PROMPT is needed: an argument, - or a pipe", click.get_current_context())
        body["prompt"] = text
    respond(
        body, (model_name, lora), spec, chat=False, strict=strict, threads=threads, as_json=as_json,
        no_stream=no_stream, rules=rules, overlay=overlay,
    )  # fmt: skip


def respond(
    body: dict[str, object], which: tuple[str, str | None], spec: str, *, chat: bool, strict: bool,
    threads: int | None, as_json: bool, no_stream: bool, rules: dict[str, object], overlay: bool,
) -> None:  # fmt: skip
    """Answer one request body on stdout; `which` is a model and an adapter over it, `rules` are put in place of the
    engine's own, `overlay` puts the model's generation_config.json under the body.

    JSON is always the whole response: streamed or not, it is the same object.
    """
    from refsample.api.chat import chat as chat_once
    from refsample.api.completions import complete as complete_once
    from refsample.api.stream import stream

    behaviour = behaviour_with(rules, spec, strict, overlay)
    model = open_model(which[0], threads, which[1])
    if overlay:
        say_defaults([model])
    if as_json or no_stream or several(body):
        start = time.perf_counter()
        response = (chat_once if chat else complete_once)(model, body, spec, strict=strict, behaviour=behaviour)
        if as_json:
            click.echo(json.dumps(response, ensure_ascii=False, allow_nan=False))
            return
        reply = print_whole(response, time.perf_counter() - start)
    else:
        asked = counted(body, spec, chat, strict)
        reply = print_stream(stream(model, asked, spec, chat, strict=strict, behaviour=behaviour))
    if not reply.text.endswith("\n"):
        say("\n")
    footer(reply)


def behaviour_with(rules: dict[str, object], spec: str, strict: bool, overlay: bool = False) -> Behaviour | None:
    """The provider's honest server with some of its engine's rules changed, or with the model's own defaults; None:
    with neither. Raises ParameterError."""
    if not rules and not overlay:
        return None
    from refsample.api.answer import default_behaviour
    from refsample.sampling.semantics import resolve
    from refsample.spec.provider import provider

    honest = default_behaviour(provider(spec), strict=strict)
    return replace(honest, semantics=resolve(honest.semantics, rules), generation_config=overlay)


def several(body: dict[str, object]) -> bool:
    """Whether a request has more than one choice; such answers are printed one after the other."""
    prompt = body.get("prompt")
    prompts = len(prompt) if isinstance(prompt, list) and prompt and isinstance(prompt[0], str | list) else 1
    return body.get("n", 1) != 1 or body.get("best_of", 1) != 1 or prompts > 1


def counted(body: dict[str, object], spec: str, chat: bool, strict: bool) -> dict[str, object]:
    """The same request, asking for usage in the stream where the provider has a field for it: the footer's figures."""
    from refsample.spec.provider import provider

    endpoint = provider(spec).endpoints.get("chat" if chat else "completions")
    record = None if endpoint is None else endpoint.parameters.get("stream_options")
    if record is None or (strict and record.extension) or record.support != "served" or "stream_options" in body:
        return body
    return {**body, "stream_options": {"include_usage": True}}
