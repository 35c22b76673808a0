"""`blobsight results`: export results into one file."""

import asyncio
import sys
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any

import click
from azure.core.exceptions import AzureError, ResourceNotFoundError
from azure.storage.blob.aio import ContainerClient
from rich.highlighter import JSONHighlighter

from blobsight.account import Place, about_blob, account_options, affects_all, may_affect_all
from blobsight.image_states import SHORTENED_AT, checked_prefix, odd_ones
from blobsight.reading import Content, UnreadableError, side_by_side
from blobsight.results.by_page import ByPage
from blobsight.results.export import JSON_LINES, TABLES, Export, JsonLines, Table, new_file
from blobsight.results.flattening import json_text
from blobsight.results.page import PAGES, AnswersPage
from blobsight.running import run
from blobsight.stored_results import parse_result, read_result, read_stored
from blobsight.terminal import (
    Bar,
    Exit,
    Problem,
    Trouble,
    Unknown,
    name_problems,
    out,
    progress,
    say,
    shortened,
    talk,
    write_json,
)
from blobsight.whole_files import check_output
from pipeline.names import image_of_result, is_blob_name, result_name
from pipeline.storage.facts import ListedBlob, Page
from pipeline.storage.listing import list_page, listed


@dataclass(slots=True)
class Tally:
    """Counts of an export."""

    found: int = 0
    """Results in the container, wanted or not."""
    exported: dict[str, int] = field(default_factory=lambda: {"succeeded": 0, "failed": 0})
    problems: list[Problem] = field(default_factory=list)


def _output(_context: click.Context, _parameter: click.Parameter, path: Path | None) -> Path | None:
    if path is None or str(path) == "-":
        return None
    check_output(path, (*JSON_LINES, *TABLES, *PAGES))
    return path


@click.command()
@click.argument("prefix", default="", metavar="[NAME | PREFIX]", callback=checked_prefix)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    callback=_output,
    help="File to write: .jsonl, .csv, .parquet, or .html for a page to send. A file of that name is replaced, once the"
    " new one is complete.  [default: JSON Lines on stdout]",
)
@click.option("--by-page", is_flag=True, help="A row for each page that was asked about by itself (option per_page).")
@click.option("--succeeded", is_flag=True, help="Only results with status succeeded.")
@click.option("--failed", is_flag=True, help="Only results with status failed.")
@click.option(
    "--json", "as_json", is_flag=True, help="List what could not be exported as JSON too: a line each, at the end."
)
@account_options
def results(  # noqa: PLR0913 - one for each option
    place: Place, prefix: str, output: Path | None, *, by_page: bool, succeeded: bool, failed: bool, as_json: bool
) -> Exit:
    """Export results, or show one.

    \b
    blobsight results -o answers.csv
    blobsight results 2026/invoices/ -o invoices.parquet
    blobsight results 2026/invoices/ -o invoices.html
    blobsight results --failed | jq -r '[.source.name, .error.message] | @tsv'
    blobsight results 2026/invoices/0001.jpg

    PREFIX is the start of the images' names; without it, all results are exported. The exact name of an image shows its
    result. Followed by an asterisk, or with -o, --by-page, --failed or --succeeded, it is a prefix like any other.

    A page (.html) holds answers and thumbnails in one file that needs no server. JSON Lines hold whole
    results. In tables, a column is named by its path, such as answer.data.total; the page "The command line" in docs/
    describes the rest.
    """  # noqa: D301 - click's mark of lines to leave alone
    if succeeded and failed:
        raise click.UsageError(
            "--succeeded and --failed exclude each other: give one of them, or neither for all results."
        )
    wanted = "succeeded" if succeeded else "failed" if failed else None
    exports = output or by_page or wanted
    if is_blob_name(prefix) and not exports and run(_show(place, prefix)):
        return Exit.DONE
    prefix = prefix.removesuffix("*")
    tally = Tally()
    try:
        with new_file(output) if output else _stdout() as export:
            with _bar(output) as bar:
                run(export_results(place, prefix, wanted, ByPage(export) if by_page else export, tally, bar))
            if not tally.found:
                raise Trouble(
                    f"'{place.results}' has no result"
                    + (f" of an image whose name begins with '{prefix}'" if prefix else "")
                    + ". `blobsight status` shows what is pending."
                )
            with progress("writing", sum(tally.exported.values())) as bar:
                export.complete(bar.advance)
    except OSError as error:
        if output is None or isinstance(error, BrokenPipeError):
            raise
        raise Trouble(f"{output} can't be written ({error.strerror or error}).") from error
    _report(tally, export, output, wanted)
    if as_json:
        for problem in tally.problems:
            write_json(problem.to_json())
    return Exit.SOME_FAILED if tally.problems else Exit.DONE


def _report(tally: Tally, export: Export, output: Path | None, wanted: str | None) -> None:
    name_problems(tally.problems)
    if isinstance(export, Table) and export.without_column:
        say(
            f"{export.without_column:,} values are in the column answer.data_rest: the answers have too many different"
            " names for a column each. Export JSON Lines instead."
        )
    if output or wanted:
        counted = [(status, count) for status, count in tally.exported.items() if wanted in (None, status)]
        counts = ", ".join(f"{count:,} {status}" for status, count in counted)
        say(f"{counts}{f': {output}' if output else ''}")
    if tally.problems:
        say(f"{len(tally.problems):,} could not be exported.", "red")


@contextmanager
def _stdout() -> Iterator[Export]:
    yield JsonLines(_utf8_stdout())
    sys.stdout.flush()


def _utf8_stdout() -> IO[str]:
    """Return stdout, in UTF-8 if it is a pipe: JSON is UTF-8, also where the system's encoding is another."""
    if isinstance(sys.stdout, TextIOWrapper) and not sys.stdout.isatty():
        sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    return sys.stdout


def _bar(output: Path | None) -> AbstractContextManager[Bar | None]:
    """Return a progress bar on a terminal, unless results go to the same terminal."""
    if not talk.is_terminal or (output is None and out.is_terminal):
        return nullcontext()
    return progress("exporting")


async def _show(place: Place, name: str) -> bool:
    """Show the result of exactly the image `name`. Returns whether there is one."""
    async with place.opened() as account:
        target = result_name(name)
        try:
            result = await read_result(account.results, target)
        except ResourceNotFoundError as error:
            if affects_all(error):
                raise
            return False
        except UnreadableError as error:
            raise Trouble(f"{target}: {error}.") from error
        except AzureError as error:
            if may_affect_all(error) or affects_all(error):
                raise
            why = about_blob(error)
            raise Trouble(f"{target}: {why.reason}.", why.code) from error
        shown = json_text(result, indent=2)
        if out.is_terminal:
            out.print(JSONHighlighter()(shown), soft_wrap=True)
        else:
            _utf8_stdout().write(f"{shown}\n")
        more = await list_page(account.results, None, metadata=False, prefix=name[:SHORTENED_AT], page_size=10)
        if any(
            image != name and image.startswith(name) for blob in more.blobs if (image := image_of_result(blob.name))
        ):
            say(f"Names of other images begin with this name too: give '{name}*' for all of them.")
    return True


async def export_results(  # noqa: PLR0913, PLR0917 - one place
    place: Place, prefix: str, wanted: str | None, export: Export, tally: Tally, bar: Bar | None
) -> None:
    """Pass the results of images whose names begin with `prefix` to `export`, in the order of the listing.

    Args:
        place: the account.
        prefix: of the images' names.
        wanted: their status; None for any.
        export: where they go.
        tally: gets the counts.
        bar: shows the progress.

    Raises:
        Trouble: the export can't go on.
    """
    async with place.opened() as account:
        # Listing is a hundred times faster than reading, so the bar soon has a total.
        counting = asyncio.create_task(_count(account.results, prefix, wanted, bar)) if bar else None
        try:
            names = _wanted(account.results, prefix, wanted, tally)
            advance = bar.advance if bar else lambda: None
            is_wanted = partial(_is_wanted, prefix=prefix, wanted=wanted)
            await export_named(account.results, names, export, tally, is_wanted=is_wanted, advance=advance)
            if isinstance(export, AnswersPage):
                with progress("thumbnails", sum(tally.exported.values())) if bar else nullcontext() as pictures:
                    await export.illustrate(account, pictures.advance if pictures else lambda: None)
        finally:
            if counting:
                counting.cancel()
                await asyncio.gather(counting, return_exceptions=True)


async def export_named(  # noqa: PLR0913 - what differs between callers
    container: ContainerClient,
    names: Iterable[str] | AsyncIterable[str],
    export: Export,
    tally: Tally,
    *,
    is_wanted: Callable[[Mapping[str, Any]], bool] = lambda _: True,
    advance: Callable[[], None] = lambda: None,
) -> None:
    """Pass the results in the blobs `names` to `export`, in that order. `tally` gets the counts.

    Raises:
        AzureError, RetryableFailure: a failure that affects all.
    """

    def take(name: str, content: Content | Unknown) -> None:
        advance()
        if isinstance(content, Unknown):
            tally.problems.append(Problem(name, content))
            return
        try:
            # Parsed only in its turn, so that at most one parsed result is in memory.
            result = parse_result(content)
            if is_wanted(result):
                _add(result, export, tally)
        except UnreadableError as error:
            tally.problems.append(Problem(name, Unknown(str(error))))

    await side_by_side(names, partial(read_stored, container), take, in_order=True)


def _add(result: Mapping[str, Any], export: Export, tally: Tally) -> None:
    try:
        export.add(result)
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"it can't be exported ({shortened(str(error))})") from error
    tally.exported[result["status"]] += 1


def _is_wanted(result: Mapping[str, Any], *, prefix: str, wanted: str | None) -> bool:
    """Check what the listing may not show: the status without metadata, the image behind a shortened name."""
    if wanted not in (None, result["status"]):
        return False
    image = result["source"].get("name")
    return len(prefix) <= SHORTENED_AT or (isinstance(image, str) and image.startswith(prefix))


async def _wanted(container: ContainerClient, prefix: str, wanted: str | None, tally: Tally) -> AsyncIterator[str]:
    """Yield the names of the results that may be wanted, as far as the listing shows it. All are counted."""
    async for page in listed(container, metadata=True, prefix=prefix[:SHORTENED_AT]):
        tally.problems += odd_ones(page)
        tally.found += len(page.blobs) + len(page.odd)
        for blob in _chosen(page, wanted):
            yield blob.name


async def _count(container: ContainerClient, prefix: str, wanted: str | None, bar: Bar) -> None:
    pages = listed(container, metadata=True, prefix=prefix[:SHORTENED_AT])
    bar.expect(sum([len(_chosen(page, wanted)) async for page in pages]))


def _chosen(page: Page, wanted: str | None) -> list[ListedBlob]:
    """The results that may be wanted, as far as the listing shows it."""
    return [blob for blob in page.blobs if wanted in (None, blob.metadata.get("status", wanted))]
