"""The commands and their exit status."""

import asyncio
import logging
import os
import sys
from io import TextIOWrapper
from typing import TextIO

import click

from blobsight.batches.command import batches
from blobsight.doctor.command import doctor
from blobsight.estimate.command import estimate
from blobsight.evaluate.command import evaluation
from blobsight.gallery.command import gallery
from blobsight.invite import invite
from blobsight.results.command import results
from blobsight.retry import retry
from blobsight.show import show
from blobsight.status import status
from blobsight.terminal import Exit, Unknown, say, talk, write_json
from blobsight.trials.command import trials
from blobsight.upload import upload
from pipeline import __version__

NAME = "blobsight"
COMPLETION = "_BLOBSIGHT_COMPLETE"
"""https://click.palletsprojects.com/en/stable/shell-completion/"""
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(context_settings=CONTEXT)
@click.version_option(__version__, "--version")
def blobsight() -> None:
    """Drop images, get JSON: what goes in, what came out, what it costs.

    \b
    blobsight upload photos/ --instructions "What is in this picture?" --wait
    blobsight status
    blobsight results -o answers.csv
    blobsight gallery

    Name the storage account with --account (in Azure, as `az login` signed in) or --local (the cloud of `make up`),
    or set BLOBSIGHT_ACCOUNT in the environment once.

    Data goes to stdout, everything else to stderr. Exit status: 0 done, 1 some items failed and are listed, 2 wrong
    usage, 3 the command can't run (no access, no connection), 130 interrupted, 141 the pipe's reader closed (`| head`).
    """  # noqa: D301 - click's mark of lines to leave alone


blobsight.add_command(batches)
blobsight.add_command(doctor)
blobsight.add_command(estimate)
blobsight.add_command(evaluation)
blobsight.add_command(invite)
blobsight.add_command(gallery)
blobsight.add_command(results)
blobsight.add_command(retry)
blobsight.add_command(show)
blobsight.add_command(status)
blobsight.add_command(trials)
blobsight.add_command(upload)


def run() -> int:
    """Run the command that the process was started with, and return its exit status."""
    # The SDKs log what they also raise, some of it as critical.
    logging.getLogger("azure").setLevel(logging.CRITICAL + 1)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names may not fit the terminal's code page
    if isinstance(sys.stdin, TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # likewise, in a list of files
    try:
        return _run()
    except BrokenPipeError:  # `blobsight results | head`
        _write_no_more(sys.stdout, sys.stderr)
        return Exit.PIPE_CLOSED


def _run() -> int:
    try:
        ended = _invoked() or Exit.DONE
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return Exit.USAGE
    except click.ClickException as error:
        error.show()
        if "--json" in sys.argv:  # at any position: the command itself may be what is wrong
            write_json({"error": Unknown(error.format_message(), getattr(error, "code", None)).to_json()})
            sys.stdout.flush()
        return error.exit_code
    except (KeyboardInterrupt, asyncio.CancelledError, click.Abort) as error:
        if isinstance(error, KeyboardInterrupt):
            talk.print()  # a terminal shows ^C without ending its line
        say("Stopped.")
        return Exit.INTERRUPTED
    except BrokenPipeError:
        raise
    except OSError as error:  # stdout on a full disk
        _write_no_more(sys.stdout)
        say(f"error: reading or writing failed: {error.strerror or error}.")
        return Exit.CANNOT
    return int(ended)


def _invoked() -> int | None:
    """Do what `blobsight.main` does, except that it would exit with 1 when the reader of a pipe has closed it."""
    if COMPLETION in os.environ:  # a shell asks for completions
        blobsight.main(prog_name=NAME, complete_var=COMPLETION)
    try:
        with blobsight.make_context(NAME, sys.argv[1:]) as context:
            ended: int | None = blobsight.invoke(context)
            return ended
    except click.exceptions.Exit as ended_early:  # --help, --version
        return ended_early.exit_code


def _write_no_more(*streams: TextIO) -> None:
    """Discard what is still buffered, which the interpreter would fail to flush at exit."""
    for stream in streams:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
