"""An input container that is a dictionary."""

from dataclasses import dataclass, field

from pipeline.errors import RetryableFailure


@dataclass
class Container:
    """An input container of instruction files, that counts how often it is asked."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    reads: list[str] = field(default_factory=list)
    broken: bool = False

    async def read_start(self, name: str, length: int) -> bytes | None:
        self.reads.append(name)
        if self.broken:
            raise RetryableFailure("storage is out of order")
        found = self.blobs.get(name)
        return None if found is None else found[:length]
