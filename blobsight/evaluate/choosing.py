"""The images of expected answers: beside them, in a folder, or in the input container."""

from collections.abc import Sequence
from pathlib import Path

from azure.storage.blob import BlobProperties

from blobsight.account import Account
from blobsight.estimate.measuring import blob_sizes
from blobsight.evaluate.expected import Expectations
from blobsight.local_files import LocalFile, why_unreadable
from blobsight.reading import properties_of, side_by_side
from blobsight.terminal import Problem, Trouble, Unknown, progress
from blobsight.trials.choosing import Chosen, sampled, take_files
from blobsight.trials.record import TrialImage
from pipeline.names import is_blob_name
from pipeline.storage.facts import ListedBlob


def choose_local(expected: Expectations, folder: Path | None, container: str, sample: int | None, seed: int) -> Chosen:
    """Choose among the images on this machine: those beside their expected answers, or those in `folder` by name.

    Args:
        expected: names the images.
        folder: where they are, unless they are beside.
        container: that of trials, in which the images will be.
        sample: how many; None for all.
        seed: of the sample.

    Raises:
        Trouble: there is no image.
    """
    chosen = Chosen()
    files: list[LocalFile] = []
    for name in expected.answers:
        path = expected.images.get(name) if folder is None else folder / name
        if path is None or not is_blob_name(name):  # not ../elsewhere
            chosen.problems.append(Problem(name, Unknown("it is not a file's name")))
            continue
        try:
            files.append(LocalFile(path, name, path.stat().st_size))
        except OSError as error:
            chosen.problems.append(Problem(str(path), Unknown(why_unreadable(path, error))))
    return take_files(chosen, sampled(files, [file.name for file in files], seed), container, sample)


async def choose_uploaded(account: Account, names: Sequence[str], sample: int | None, seed: int) -> Chosen:
    """Choose among the images with these names in the input container.

    Raises:
        Trouble: there is none.
        AzureError: as the SDK gives it.
    """
    chosen = Chosen(of=len(names))
    wanted = sampled(names, names, seed)[:sample]
    blobs: list[ListedBlob] = []
    with progress("Looking for images", len(wanted)) as bar:

        def take(name: str, found: BlobProperties | Unknown | None) -> None:
            bar.advance()
            if isinstance(found, BlobProperties):
                blobs.append(ListedBlob(name, found.etag.strip('"'), found.last_modified, {}, found.size))
            else:
                why = found or Unknown(f"it is not in the container '{account.place.images}'")
                chosen.problems.append(Problem(name, why))

        await side_by_side(wanted, lambda name: properties_of(account.images, name), take)
    if not blobs:
        raise Trouble(
            f"None of the images with an expected answer is in the container '{account.place.images}': the names have"
            " to be those of blobs, or give the folder with the images as --image-folder."
        )
    chosen.images = [
        TrialImage(name=blob.name, container=account.place.images, blob=blob.name, etag=blob.etag)
        for blob in sorted(blobs, key=lambda blob: blob.name)
    ]
    chosen.sizes, unread = await blob_sizes(account.images, blobs)
    chosen.problems += unread
    return chosen
