"""`refsample chat`: one message, or a conversation at the terminal, as POST /v1/chat/completions answers it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import click

from refsample.cli.answer import footer, print_stream
from refsample.cli.complete import behaviour_with, counted, respond
from refsample.cli.options import asking, body_from, open_model, say_defaults, split_rules, text_from
from refsample.cli.terminal import complain, note, say
from refsample.errors import ParameterError, RefsampleError

if TYPE_CHECKING:
    from refsample.generation.behaviour import Behaviour

Message = dict[str, str]
Stream = Callable[[list[Message]], Iterable[Mapping[str, Any]]]

HELP = "/reset forgets the conversation, /exit or Ctrl-D leaves, Ctrl-C stops an answer"


@click.command(short_help="Answer a message, or talk.")
@click.argument("message", required=False)
@click.option("--system", metavar="TEXT", help="What the model is told before the conversation.")
@asking
@click.option("--json", "as_json", is_flag=True, help="Print the API's response as one line of JSON.")
@click.option("--no-stream", is_flag=True, help="Print when the whole answer is there.")
def chat(
    message: str | None, system: str | None, model_name: str, lora: str | None, spec: str,
    settings: tuple[str, ...], overlay: bool, strict: bool, threads: int | None, as_json: bool, no_stream: bool,
) -> None:  # fmt: skip
    """Answer MESSAGE (an argument, - or a pipe); without one, talk: history, /reset, /exit, Ctrl-C stops the answer.

    \b
    refsample chat "Name an animal that can fly." -o temperature=0
    refsample chat --system "You answer briefly."
    """
    body = body_from(settings)
    rules = split_rules(body)
    told: list[Message] = [] if system is None else [{"role": "system", "content": system}]
    if "messages" in body:
        if message is not None or system is not None:
            raise ParameterError("-o", "messages", "give either messages or MESSAGE and --system", "the command line")
    else:
        text = text_from(message, "MESSAGE")
        if text is None and not as_json:
            model = open_model(model_name, threads, lora)
            behaviour = behaviour_with(rules, spec, strict, overlay)
            if overlay:
                say_defaults([model])
            converse(lambda turns: ask(model, {**body, "messages": turns}, spec, strict, behaviour), told)
            return
        if text is None:
            raise click.UsageError("--json needs a MESSAGE", click.get_current_context())
        body["messages"] = [*told, {"role": "user", "content": text}]
    respond(
        body, (model_name, lora), spec, chat=True, strict=strict, threads=threads, as_json=as_json,
        no_stream=no_stream, rules=rules, overlay=overlay,
    )  # fmt: skip


def ask(
    model: Any, body: dict[str, object], spec: str, strict: bool, behaviour: Behaviour | None
) -> Iterable[Mapping[str, Any]]:
    """Chunks of one answer within a conversation."""
    from refsample.api.stream import stream

    return stream(model, counted(body, spec, True, strict), spec, True, strict=strict, behaviour=behaviour)


def converse(answer: Stream, told: list[Message], read: Callable[[str], str] = input) -> None:
    """Talk until /exit or the end of input. A refused turn is taken back, so that the conversation can go on."""
    note(HELP)
    turns = list(told)
    while True:
        try:
            line = read("> ").strip()
        except EOFError:
            say("\n")
            return
        except KeyboardInterrupt:
            say("\n")
            note(HELP)
            continue
        if line == "/exit":
            return
        if line == "/reset":
            turns = list(told)
            note("forgotten")
        elif line.startswith("/"):
            note(HELP)
        elif line:
            turns = turn(answer, turns, line)


def turn(answer: Stream, turns: list[Message], line: str) -> list[Message]:
    """One question and its answer; the history afterwards. A stopped answer stays in it as far as it came."""
    asked: list[Message] = [*turns, {"role": "user", "content": line}]
    try:
        reply = print_stream(answer(asked), interruptible=True)
    except RefsampleError as error:
        complain(str(error))
        return turns
    say("\n")
    footer(reply)
    return [*asked, {"role": "assistant", "content": reply.text}]
