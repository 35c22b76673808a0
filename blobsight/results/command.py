"""The results, as one file."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
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
from blobsight.results.export import JSON_LINES, TABLES, Export, JsonLines, Table, new_file
from blobsight.results.flattening import json_text
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
from pipeline.names import image_of_result, is_blob_name, result_name
from pipeline.storage.facts import ListedBlob, Page
from pipeline.storage.listing import list_page, listed


@dataclass(slots=True)
class Tally:
    """What came out."""

    found: int = 0
    """Results there are, whether they were wanted or not."""
    exported: dict[str, int] = field(default_factory=lambda: {"succeeded": 0, "failed": 0})
    problems: list[Problem] = field(default_factory=list)


def _output(_context: click.Context, _parameter: click.Parameter, path: Path | None) -> Path | None:
    if path is None or str(path) == "-":
        return None
    known = (*JSON_LINES, *TABLES)
    if path.suffix.lower() not in known:
        raise click.BadParameter(f"'{path}' should end in one of {', '.join(known)}: that says what to write.")
    try:
        exists = path.exists()
    except OSError as error:
        raise click.BadParameter(f"'{path}' can't be a file's name: {error.strerror}.") from error
    if path.is_dir():
        raise click.BadParameter(f"'{path}' is a folder: give the name of a file in it.")
    if exists and not path.is_file():
        raise click.BadParameter(f"'{path}' is no regular file: leave out -o to write to a pipe.")
    if not path.absolute().parent.is_dir():
        raise click.BadParameter(f"there is no folder '{path.absolute().parent}': make it first.")
    return path


@click.command()
@click.argument("prefix", default="", metavar="[NAME | PREFIX]", callback=checked_prefix)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    callback=_output,
    help="File to write: .jsonl, .csv or .parquet. A file of that name is replaced, once the new one is complete."
    "  [default: JSON Lines on stdout]",
)
@click.option("--succeeded", is_flag=True, help="Only what was answered.")
@click.option("--failed", is_flag=True, help="Only what failed.")
@click.option(
    "--json", "as_json", is_flag=True, help="Say as JSON, too, what could not be exported: a line each, at the end."
)
@account_options
def results(  # noqa: PLR0913 - one for each option
    place: Place, prefix: str, output: Path | None, *, succeeded: bool, failed: bool, as_json: bool
) -> Exit:
    """Export results, or show one.

    \b
    blobsight results -o answers.csv
    blobsight results 2026/invoices/ -o invoices.parquet
    blobsight results --failed | jq -r '[.source.name, .error.message] | @tsv'
    blobsight results 2026/invoices/0001.jpg

    PREFIX is the start of the images' names; without it, all results are exported. The exact name of an image shows its
    result; with an asterisk behind it, or with -o, --failed or --succeeded, it is a prefix like any other.

    JSON Lines hold whole results. In tables a column is called by its path, such as answer.data.total; the page "The
    command line" in docs/ says how the rest is laid out.
    """  # noqa: D301 - click's mark of lines to leave alone
    if succeeded and failed:
        raise click.UsageError("--succeeded and --failed leave nothing: give one of them, or none for all results.")
    wanted = "succeeded" if succeeded else "failed" if failed else None
    if is_blob_name(prefix) and output is None and wanted is None and asyncio.run(_show(place, prefix)):
        return Exit.DONE
    prefix = prefix.removesuffix("*")
    tally = Tally()
    try:
        with new_file(output) if output else _stdout() as export:
            with _bar(output) as bar:
                asyncio.run(export_results(place, prefix, wanted, export, tally, bar))
            if not tally.found:
                raise Trouble(
                    f"There is no result in '{place.results}'"
                    + (f" whose image's name begins with '{prefix}'" if prefix else "")
                    + ". `blobsight status` says what is pending."
                )
            with progress("writing", sum(tally.exported.values())) as bar:
                export.complete(bar.advance)
    except OSError as error:
        if output is None or isinstance(error, BrokenPipeError):
            raise
        raise Trouble(f"{output} can't be written: {error.strerror or error}.") from error
    _report(tally, export, output, wanted)
    if as_json:
        for problem in tally.problems:
            write_json(problem.to_json())
    return Exit.SOME_FAILED if tally.problems else Exit.DONE


def _report(tally: Tally, export: Export, output: Path | None, wanted: str | None) -> None:
    name_problems(tally.problems)
    if isinstance(export, Table) and export.without_column:
        say(
            f"{export.without_column:,} values are in the column answer.data_rest, since answers have too many"
            " different names for a column each. JSON Lines suit them better."
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
    """JSON is UTF-8, also in the pipes of systems where text is something else."""
    if isinstance(sys.stdout, TextIOWrapper) and not sys.stdout.isatty():
        sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    return sys.stdout


def _bar(output: Path | None) -> AbstractContextManager[Bar | None]:
    """A bar where somebody sees it, unless results scroll through the same terminal."""
    if not talk.is_terminal or (output is None and out.is_terminal):
        return nullcontext()
    return progress("exporting")


async def _show(place: Place, name: str) -> bool:
    """Whether there is a result of exactly the image `name`; it is shown then."""
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
            say(f"Names of other images begin like that too: for all of them, give '{name}*'.")
    return True


async def export_results(  # noqa: PLR0913, PLR0917 - one place
    place: Place, prefix: str, wanted: str | None, export: Export, tally: Tally, bar: Bar | None
) -> None:
    """Give `export` the results of the images whose names begin with `prefix`, in the order of the listing.

    Args:
        place: where they are.
        prefix: of the images' names.
        wanted: the status that they are to have; None for any.
        export: what takes them.
        tally: what came out is counted here.
        bar: shows how far it is.

    Raises:
        Trouble: it can't go on.
    """

    def take(blob: ListedBlob, content: Content | Unknown) -> None:
        if bar:
            bar.advance()
        if isinstance(content, Unknown):
            tally.problems.append(Problem(blob.name, content))
            return
        try:
            # Not before its turn, so that only one is in memory as more than bytes.
            result = parse_result(content)
            if _is_wanted(result, prefix, wanted):
                _add(result, export, tally)
        except UnreadableError as error:
            tally.problems.append(Problem(blob.name, Unknown(str(error))))

    async with place.opened() as account:
        read = partial(_read, account.results)
        # Listing is a hundred times faster than reading: so it is soon known how long the rest will take.
        counting = asyncio.create_task(_count(account.results, prefix, wanted, bar)) if bar else None
        try:
            await side_by_side(_wanted(account.results, prefix, wanted, tally), read, take, in_order=True)
        finally:
            if counting:
                counting.cancel()
                await asyncio.gather(counting, return_exceptions=True)


async def _read(container: ContainerClient, blob: ListedBlob) -> Content:
    return await read_stored(container, blob.name)


def _add(result: Mapping[str, Any], export: Export, tally: Tally) -> None:
    try:
        export.add(result)
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"it can't be exported ({shortened(str(error))})") from error
    tally.exported[result["status"]] += 1


def _is_wanted(result: Mapping[str, Any], prefix: str, wanted: str | None) -> bool:
    """For what the listing did not tell: a status without metadata, an image behind a shortened name."""
    if wanted not in (None, result["status"]):
        return False
    image = result["source"].get("name")
    return len(prefix) <= SHORTENED_AT or (isinstance(image, str) and image.startswith(prefix))


async def _wanted(
    container: ContainerClient, prefix: str, wanted: str | None, tally: Tally
) -> AsyncIterator[ListedBlob]:
    """The results that may be wanted, as far as listing tells; all that there are are counted."""
    async for page in listed(container, metadata=True, prefix=prefix[:SHORTENED_AT]):
        tally.problems += odd_ones(page)
        tally.found += len(page.blobs) + len(page.odd)
        for blob in _chosen(page, wanted):
            yield blob


async def _count(container: ContainerClient, prefix: str, wanted: str | None, bar: Bar) -> None:
    pages = listed(container, metadata=True, prefix=prefix[:SHORTENED_AT])
    bar.says(total=sum([len(_chosen(page, wanted)) async for page in pages]))


def _chosen(page: Page, wanted: str | None) -> list[ListedBlob]:
    """Those that may be wanted, as far as the listing tells."""
    return [blob for blob in page.blobs if wanted in (None, blob.metadata.get("status", wanted))]
