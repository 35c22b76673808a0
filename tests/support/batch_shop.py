"""A workshop whose questions go by batch to a local model of its own, on a clock that jumps."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast, override

import pytest

from localcloud.certificates import Certificates
from localcloud.model import Deployment, LocalModel
from localcloud.model.batches import Course
from pipeline.batches.service import BatchService
from pipeline.batches.shard import Shard
from pipeline.job.race import Outcome
from pipeline.job.requests import Request
from support.asking_model import Echo
from support.person import Person
from support.pictures import picture
from support.workshop import Workshop, workshop


class WatchedService(BatchService):
    """Passes each request through `watch`."""

    @staticmethod
    async def watch(call: Coroutine[Any, Any, Any]) -> Any:
        return await call

    @override
    async def _send(self, call: Awaitable[Any], limit: float | None = None) -> dict[str, Any]:
        try:
            sent: dict[str, Any] = await self.watch(super()._send(call, limit))
        finally:
            cast("Coroutine[Any, Any, Any]", call).close()  # where the watch did not begin it
        return sent


QUICK = Course(validating=0.01, finalizing=0.01, cancelling=0.01)


@dataclass
class BatchShop:
    """The parts, and what tests do with them."""

    shop: Workshop
    model: LocalModel
    service: WatchedService

    async def drop(self, name: str, data: bytes | None = None, **metadata: str) -> Request:
        said = {"instructions": "?", "service_tier": "batch"} | metadata
        blob = self.shop.person.blobs.get_blob_client("shop-images", name)
        await blob.upload_blob(data or picture(), overwrite=True, metadata=said)
        return Request(container="shop-images", name=name)

    async def deliver(self, *requests: Request) -> list[Outcome]:
        return [await self.shop.analyzer.analyze(request) for request in requests]

    async def run(self, *, minutes: float = 0, wait: float = 0) -> None:
        """One run of the timer, after so many minutes."""
        self.shop.time = max(self.shop.time, datetime.now(UTC)) + timedelta(minutes=minutes)
        await self.shop.batches(self.service, wait=wait).run()

    async def ended(self) -> None:
        """Wait until the service has ended all batches."""
        async with asyncio.timeout(20):
            while not all(batch.has_ended for batch in self.model.batches.all.values()):
                await asyncio.sleep(0.01)

    async def round(self) -> list[Request]:
        """Send what waits, have it answered and collected; the requests that come back."""
        await self.run(minutes=1)
        await self.ended()
        await self.run(minutes=1)
        return self.returned()

    def returned(self) -> list[Request]:
        """The requests that came back, which are taken off the queue."""
        back = [request for request, _ in self.shop.queue.sent]
        self.shop.queue.sent.clear()
        return back

    async def through(self, *requests: Request) -> list[Outcome]:
        """Deliver them, have their batch answered, and deliver what comes back."""
        await self.deliver(*requests)
        return await self.deliver(*await self.round())

    async def result(self, name: str) -> Any:
        return await self.shop.result(name)

    async def shards(self) -> list[Shard]:
        bodies = [await self.shop.shards.read(blob.name) for blob in await self.shop.shards.listed()]
        return [shard for found in bodies if found and (shard := Shard.from_json(found[0]))]

    @property
    def billed(self) -> Counter[str]:
        """How often each line was answered and paid for."""
        return Counter(line.custom_id for line in self.model.batches.billed if line.status == 200)

    @property
    def operations(self) -> Counter[str]:
        return Counter(request.operation for request in self.model.batches.history)

    async def state(self) -> Counter[str]:
        return Counter(await self.shop.state())


@asynccontextmanager
async def batch_shop(person: Person, certificates: Certificates) -> AsyncIterator[BatchShop]:
    deployments = ("vision", Deployment("vision-batch", "GlobalBatch"))
    async with (
        workshop(person) as shop,
        LocalModel(certificates, verify=lambda _: {}, brain=Echo(), deployments=deployments) as model,
    ):
        shop.time = datetime.now(UTC)
        model.batches.script.course = lambda _: QUICK
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("SSL_CERT_FILE", str(certificates.authority))

            async def token() -> str:
                return "a-token"

            service = WatchedService(model.endpoint, token, 10)
            try:
                yield BatchShop(shop, model, service)
            finally:
                await service.close()
