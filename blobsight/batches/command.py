"""`blobsight batches`: what waits in the batch lane; cancelling a batch, and sending one early."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import override

import click
from azure.core.exceptions import AzureError, ResourceNotFoundError

from blobsight.account import Account, Place, account_options, of_the_sdk, service_code
from blobsight.batches.lane import Lane, batch_json, lane_of, short_id
from blobsight.batches.words import HEAD, RIGHT, row, waits
from blobsight.running import run
from blobsight.terminal import Exit, Trouble, counted, name_problems, say, shortened, table, write_json
from pipeline.batches.shard import Shard, State
from pipeline.errors import RetryableFailure
from pipeline.storage.shards import Shards

TRIES = 5
"""Of a write that the app's own writes overtake."""


class Group(click.Group):
    """Without the name of a command it is `list`; options may come before the name."""

    @override
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or args[0] not in {*self.commands, *ctx.help_option_names}:
            name = next((arg for arg in args if arg in self.commands), None)
            if name:
                args.remove(name)
            args = [name or "list", *args]
        return super().parse_args(ctx, args)


@click.group(cls=Group)
def batches() -> None:
    """List the batches; cancel one, or send what waits now.

    Images with the service tier `batch` wait until a batch is full or the oldest has waited for a while. The service
    answers a batch within a day, as a rule.

    \b
    blobsight batches                    list them
    blobsight batches send               send what waits, now
    blobsight batches cancel 1a2b3c4d
    """  # noqa: D301 - click's mark of lines to leave alone


as_json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")


@batches.command("list")
@as_json_option
@account_options
def list_batches(place: Place, *, as_json: bool) -> Exit:
    """List the batches that are not done, and those that were done within a day, the oldest first.

    A question is an image, or one of its pages with per_page. The service counts answers only now and again.
    """
    lane = run(_read(place))
    if as_json:
        problems = [problem.to_json() for problem in lane.problems]
        write_json(lane.to_json(lane.batches) | {"problems": problems})
    else:
        table(HEAD, [row(batch, lane.at) for batch in lane.batches], right=RIGHT)
        if not lane.batches:
            say("There are no batches.")
        if sentence := waits(lane.unsent, lane.at):
            say(f"{sentence} `blobsight batches send` sends them now.")
    name_problems(lane.problems)
    return Exit.SOME_FAILED if lane.problems else Exit.DONE


@batches.command()
@click.argument("batch_id", metavar="ID")
@click.option("-y", "--yes", is_flag=True, help="Don't ask before.")
@as_json_option
@account_options
def cancel(place: Place, batch_id: str, *, yes: bool, as_json: bool) -> Exit:
    """Cancel the batch ID, as `blobsight batches` names it.

    What it has answered by then is kept, and charged. The rest goes into another batch; what has been in two goes on
    as tier_fallback says. To be rid of an image, delete it as well.
    """
    if not (yes or sys.stdin.isatty()):
        raise click.UsageError("There is no terminal to confirm on: give --yes to cancel the batch.")
    batch = _one(run(_read(place)), batch_id)
    if not (yes or click.confirm(f"Cancel the batch {short_id(batch)} ({_how_far(batch)})?", err=True)):
        say("Nothing was cancelled.")
        return Exit.DONE
    batch = run(_cancel(place, batch))
    if as_json:
        write_json(batch_json(batch, datetime.now(UTC)))
    when = "at its next look" if batch.state is State.SUBMITTED else "as soon as the service has it"
    say(f"The app cancels it {when}; that may take ten minutes. What has no answer then is asked in another batch.")
    return Exit.DONE


@batches.command()
@as_json_option
@account_options
def send(place: Place, *, as_json: bool) -> Exit:
    """Send what waits now, without waiting for more.

    The app does it at its next look, within a minute (BATCH_POLL_SECONDS).
    """
    lane = run(_send(place))
    if as_json:
        write_json({"unsent": lane.unsent.to_json()})
    if lane.unsent.questions:
        say(f"{waits(lane.unsent, lane.at)} The app sends {'it' if lane.unsent.questions == 1 else 'them'} now.")
    else:
        say("Nothing waits to be sent.")
    return Exit.DONE


async def _read(place: Place) -> Lane:
    async with place.opened() as account:
        return await _lane(account)


async def _lane(account: Account) -> Lane:
    with _understood(account.place, "read", "Storage Blob Data Reader"):
        return await lane_of(account, datetime.now(UTC))


async def _send(place: Place) -> Lane:
    async with place.opened() as account:
        lane = await _lane(account)
        if lane.unsent.questions:
            with _understood(place, "write", "Storage Blob Data Contributor"):
                await Shards(account.blobs, place.state).send_now()
        return lane


def _one(lane: Lane, given: str) -> Shard:
    """The batch that is meant.

    Raises:
        Trouble: there is none, or it can't be cancelled any more.
    """
    found = lane.named(given)
    if len(found) > 1:
        raise Trouble(f"Several batches are called {given!r}: give a whole id, as in `blobsight batches --json`.")
    if not found:
        raise Trouble(f"There is no batch {shortened(given, 60)!r}: `blobsight batches` lists those that there are.")
    return _cancellable(found[0])


def _cancellable(batch: Shard) -> Shard:
    if batch.state in (State.ENDED, State.DONE):
        raise Trouble(f"The batch {short_id(batch)} has ended already: there is nothing to cancel.")
    return batch


async def _cancel(place: Place, batch: Shard) -> Shard:
    """Note that a batch is to be cancelled: the app does it."""
    async with place.opened() as account:
        shards = Shards(account.blobs, place.state)
        with _understood(place, "write", "Storage Blob Data Contributor"):
            for _ in range(TRIES):
                body, etag = await shards.read(batch.id) or (b"", "")
                present = Shard.from_json(body)
                if present is None:
                    raise Trouble(f"The batch {short_id(batch)} is not there any more.")
                asked = _cancellable(present).model_copy(update={"cancel_asked": True})
                if await shards.write(asked.id, asked.to_json(), etag, is_done=False):
                    return asked
    raise Trouble("The app is just now at this batch: try again.")


def _how_far(batch: Shard) -> str:
    if not batch.lines:
        return "being filled"
    return f"{counted(batch.lines, 'question')}, {batch.completed:,} answered"


@contextmanager
def _understood(place: Place, doing: str, role: str) -> Iterator[None]:
    """Explain failures at the state container, which most people have no business with.

    Raises:
        Trouble: they may not, or it is not there.
    """
    try:
        yield
    except (AzureError, RetryableFailure) as error:
        cause = of_the_sdk(error)
        named = service_code(cause) if cause else None
        if getattr(cause, "status_code", None) == 403:
            raise Trouble(
                f"You may not {doing} the app's notes: that takes the role '{role}' on the container '{place.state}'"
                f" ({named}). A new role takes effect within ten minutes.",
                named,
            ) from error
        if isinstance(cause, ResourceNotFoundError):
            raise Trouble(f"The account has no container '{place.state}' with the app's notes.", named) from error
        raise
