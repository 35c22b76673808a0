"""A worker may be killed between any two steps of the batch lane: nothing is lost, and nothing is paid twice."""

from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest
from support.batch_shop import BatchShop, batch_shop
from support.person import Person

from localcloud.certificates import Certificates
from pipeline.errors import Failure
from pipeline.job.race import Outcome
from pipeline.job.requests import Request

pytestmark = pytest.mark.timeout(240)
ROUNDS = 8
"""Of the timer, minutes apart: more than any of these needs."""


class Killed(BaseException):
    """The worker is gone."""


class Killer:
    """Lets so many requests of a worker pass, to storage or the model's service, and kills it at the next one."""

    def __init__(self, shop: BatchShop, passing: int, *, done: bool) -> None:
        self.has_killed = False
        self._passing = passing
        self._is_revived = False
        self._done = done
        """Whether the last request is done, and only its answer is not heard."""
        self._storage = type(shop.shop.connection).send
        self._connection = shop.shop.connection

    async def send(self, request: Any, **options: Any) -> Any:
        """In place of the connection to storage."""
        return await self.watch(self._storage(self._connection, request, **options))

    async def watch(self, call: Coroutine[Any, Any, Any]) -> Any:
        """Pass a request, or kill the worker."""
        self._passing -= 1
        if self._passing >= 0 or self._is_revived:
            return await call
        if self._done and self._passing == -1:
            await call
        call.close()
        self.has_killed = True
        raise Killed

    def revive(self) -> None:
        """Start another worker."""
        self._is_revived = True


@pytest.fixture
async def shop(person: Person, certificates: Certificates) -> AsyncIterator[BatchShop]:
    async with batch_shop(person, certificates) as shop:
        yield shop


async def expire_claims(shop: BatchShop) -> None:
    """What a claim is after its lifetime: anybody's, as if no run had it."""
    container = shop.shop.person.blobs.get_container_client("shop-state")
    async for found in container.list_blobs(name_starts_with="claims/", include=["metadata"]):
        free = {name: value for name, value in found.metadata.items() if name != "owner"}
        await container.get_blob_client(found.name).set_blob_metadata(free)


async def bring_to_results(shop: BatchShop, killer: Killer, requests: list[Request]) -> None:
    """Deliver, and run the timer, until nothing is left to do. What a kill interrupts is delivered again."""
    waiting = list(requests)
    for _ in range(ROUNDS):
        while waiting:
            try:
                await shop.deliver(waiting[0])
            except Killed:
                killer.revive()
                await expire_claims(shop)
            except Failure as failure:
                pytest.fail(f"{failure.message}")
            else:
                waiting.pop(0)
        try:
            await shop.run(minutes=2)
        except BaseException:
            if not killer.has_killed:  # a kill while a file is sent reaches here as aiohttp's own stumbling
                raise
            killer.revive()
        await shop.ended()
        waiting += shop.returned()
        if not waiting and f"{requests[0].name}.json" in await shop.shop.results():
            return


@pytest.mark.parametrize("done", [False, True], ids=["before a request", "after a request"])
async def test_a_kill_at_any_step(shop: BatchShop, monkeypatch: pytest.MonkeyPatch, *, done: bool) -> None:
    step = 0
    while True:
        name = f"{step}.png"
        request = await shop.drop(name)
        killer = Killer(shop, step, done=done)
        with monkeypatch.context() as patch:
            patch.setattr(shop.shop.connection, "send", killer.send)
            patch.setattr(shop.service, "watch", killer.watch)
            await bring_to_results(shop, killer, [request])
        assert (await shop.result(name))["status"] == "succeeded", step
        assert await shop.deliver(request) == [Outcome.ALREADY_DONE], step
        assert set(shop.billed.values()) == {1}, step
        if not killer.has_killed:
            break
        step += 1
    assert step > 20, "steps from the first request to the last"
    assert not (await shop.state())["claims"]
