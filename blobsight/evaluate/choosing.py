"""The images of expected answers: in a folder, or in the input container."""

from collections.abc import Sequence
from pathlib import Path

from azure.storage.blob import BlobProperties

from blobsight.account import Account
from blobsight.evaluate.expected import Expectations
from blobsight.local_files import LocalFile, file_in
from blobsight.reading import properties_of, side_by_side
from blobsight.terminal import Problem, Trouble, Unknown, progress
from blobsight.trials.choosing import Chosen, require_few, sampled, take_blobs, take_files
from pipeline.names import is_blob_name, wants_result
from pipeline.storage.facts import ListedBlob


def choose_local(  # noqa: PLR0913 - what the person says
    expected: Expectations, folder: Path, container: str, sample: int | None, seed: int, *, follow_links: bool = False
) -> Chosen:
    """Choose among the images in `folder`, on this machine, that expected answers name.

    Args:
        expected: names the images. It may be another person's, so nothing outside of the folder is meant.
        folder: where they are.
        container: that of trials, in which the images will be.
        sample: how many; None for all.
        seed: of the sample.
        follow_links: also those that lead out of the folder.

    Raises:
        Trouble: there is no image, or there are too many.
    """
    chosen = Chosen()
    files: list[LocalFile] = []
    for name in expected.answers:
        found = file_in(folder, name, follow_links=follow_links)
        if isinstance(found, LocalFile):
            files.append(found)
        else:
            chosen.problems.append(Problem(found.path, Unknown(found.reason)))
    return take_files(chosen, sampled(files, [file.name for file in files], seed), container, sample)


async def choose_uploaded(account: Account, names: Sequence[str], sample: int | None, seed: int) -> Chosen:
    """Choose among the images with these names in the input container.

    Raises:
        Trouble: there is none, or there are too many.
        AzureError: as the SDK gives it.
    """
    chosen = Chosen()
    chosen.problems += [Problem(name, Unknown("it can't be an image's name")) for name in names if not _is_image(name)]
    names = [name for name in names if _is_image(name)]
    chosen.of = len(names)
    wanted = sampled(names, names, seed)[:sample]
    require_few(len(wanted))
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
    return await take_blobs(chosen, account, blobs)


def _is_image(name: str) -> bool:
    """Whether the app gives an upload of this name a result under the same name."""
    return is_blob_name(name) and wants_result(name)
