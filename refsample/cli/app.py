"""The group of commands. It knows their names and nothing of what they do; heavy imports wait inside each command."""

from __future__ import annotations

import click

from refsample import __version__
from refsample.cli.audit import faults, judge, verify
from refsample.cli.catalogue import specs
from refsample.cli.chat import chat
from refsample.cli.complete import complete
from refsample.cli.demo import demo
from refsample.cli.explain import explain
from refsample.cli.inspect import inspect
from refsample.cli.models import models
from refsample.cli.noise import noise
from refsample.cli.score import score
from refsample.cli.serve import serve
from refsample.cli.vectors import vectors


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name="refsample")
@click.pass_context
def app(context: click.Context) -> None:
    """A reference sampler: the thing you compare a hosted model against.

    Start with `refsample demo`. Every command works offline on the embedded model `tiny`.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


COMMANDS = (
    chat, complete, demo, explain, faults, inspect, judge, models, noise, score, serve, specs, vectors, verify,
)  # fmt: skip
for command in COMMANDS:
    app.add_command(command)
