"""Which images wait, and why: the app's marks of them (`pipeline.storage.marks`), read by listing alone."""

from collections import Counter
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from azure.core.exceptions import AzureError

from blobsight.account import Account
from pipeline.storage.facts import IN_BATCH
from pipeline.storage.listing import listed
from pipeline.storage.marks import PREFIX, Mark, mark_of


@dataclass(frozen=True, slots=True)
class Waiting:
    """The images that wait, in the whole account: marks are named by hashes of names."""

    whys: Counter[str]
    """How many wait for which reason: a kind of failure, or `IN_BATCH`."""
    batched: AbstractSet[str] = frozenset()
    """The marks of those in batches; 100 bytes each."""

    def is_in_batch(self, name: str) -> bool:
        """Whether the image `name` waits for a batch to be sent, or for its reply."""
        return bool(self.batched) and mark_of(name) in self.batched


async def waiting_images(account: Account) -> Waiting | None:
    """List the marks, 5,000 a request; None where the person may not, or can't: only the app has to."""
    whys: Counter[str] = Counter()
    batched: set[str] = set()
    try:
        async for page in listed(account.state, metadata=True, prefix=PREFIX):
            for blob in page.blobs:
                mark = Mark.of(blob.metadata, blob.last_modified)
                if mark is None or mark.is_lost:
                    continue
                whys[mark.why] += 1
                if mark.why == IN_BATCH:
                    batched.add(blob.name)
    except AzureError:
        return None
    return Waiting(whys, batched)
