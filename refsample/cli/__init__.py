"""The command line: the outermost edge, where errors become one line and an exit code. Knows no command.

Exit codes: 0 done, 1 inconsistent, 2 usage or a named error, 3 inconclusive, 70 a fault of this program, 130 stopped.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

USAGE, INTERNAL, STOPPED, PIPE_CLOSED = 2, 70, 130, 141
TRACEBACK = "REFSAMPLE_TRACEBACK"


def main() -> NoReturn:
    """Entry point of the installed command and of `python -m refsample`."""
    if sys.stdout is None or sys.stderr is None:  # started with a closed stream: there is nobody to tell
        nowhere = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # it lives as long as the process
        sys.stdout = sys.stdout or nowhere
        sys.stderr = sys.stderr or nowhere
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = PIPE_CLOSED
    if code == PIPE_CLOSED:
        # Python flushes stdout once more while it shuts down, and would complain about the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command line; the exit code. Nothing is raised, every failure is one line on stderr."""
    import click

    from refsample.cli.app import app
    from refsample.cli.terminal import complain
    from refsample.errors import RefsampleError

    try:
        # Not `app.main`: it has its own mind about closed pipes and Ctrl-C.
        with app.make_context("refsample", list(arguments)) as context:
            result = app.invoke(context)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        where = getattr(error, "ctx", None)
        hint = f" ({where.command_path} --help says what there is)" if where is not None else ""
        complain(error.format_message().removesuffix(".") + hint)
        return USAGE
    except RefsampleError as error:
        complain(str(error))
        return USAGE
    except (KeyboardInterrupt, click.Abort):
        complain("stopped")
        return STOPPED
    except BrokenPipeError:
        return PIPE_CLOSED
    except Exception as error:  # the one place that may: a user sees no traceback unless asked for
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            complain(f"cannot write the output: {error.strerror}")
            return USAGE
        if os.environ.get(TRACEBACK):
            raise
        complain(f"unexpected {type(error).__name__}: {error}; this is a fault of refsample, {TRACEBACK}=1 shows where")
        return INTERNAL
    return result if isinstance(result, int) else 0
