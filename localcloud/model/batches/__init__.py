"""The other lane of the model: files of requests, answered later from a quota of their own.

`script` says what batches meet, `facts` what they are. Files are on disk, in a folder of the model's; batches and
files live as long as the model runs, and those of an earlier run answer 404.
"""

from localcloud.model.batches.facts import ODD, Batch, BatchError, BatchLimits, BilledLine, Looks
from localcloud.model.batches.script import (
    BATCH_ROLE_MISSING,
    TOKEN_LIMIT,
    TOKEN_LIMIT_AT_ONCE,
    BatchRequest,
    BatchScript,
    Course,
)

__all__ = [
    "BATCH_ROLE_MISSING", "ODD", "TOKEN_LIMIT", "TOKEN_LIMIT_AT_ONCE", "Batch", "BatchError", "BatchLimits",
    "BatchRequest", "BatchScript", "BilledLine", "Course", "Looks",
]  # fmt: skip
