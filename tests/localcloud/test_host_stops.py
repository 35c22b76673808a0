"""Failures that stop the platform's host stop this one: whole, with its workers, and another is started."""

import asyncio
import base64
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from support.faulty_storage import Door, Fault, door
from support.host_cloud import Cloud, Parts, event, is_gone, notify, own_cloud, probe, status, until, variant

from localcloud.cloud import DATA_ACCOUNT, HOST_ACCOUNT
from localcloud.functions_host.connections import Retries
from localcloud.functions_host.errors import HostError
from localcloud.functions_host.keys import VARIABLE
from localcloud.functions_host.process import FunctionsHostProcess

STOPPED_ITSELF = 3


@dataclass
class Harmed:
    """A cloud whose host finds storage behind doors."""

    cloud: Cloud
    host: FunctionsHostProcess
    blobs: Door
    queues: Door

    async def hidden(self) -> int:
        """Messages on the blob trigger's own queue, none of which is visible once the host is idle."""
        return (await self.cloud.internal_queue().get_queue_properties()).approximate_message_count or 0

    async def works(self, name: str) -> None:
        """A new upload and a new message are processed."""
        created = await self.cloud.upload(name)
        await self.cloud.order(name)
        assert await notify(self.host, created) == 202
        await self.cloud.seen_times("on_blob", 1, name)
        await self.cloud.seen_times("on_message", 1, name)
        while (await status(self.host))["local"]["messages"]:
            await asyncio.sleep(0.02)


@pytest.fixture(scope="module")
async def harmed(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Harmed]:
    async with AsyncExitStack() as stack:
        blob_origin = parts.azurite.blob_url(DATA_ACCOUNT).rpartition("/")[0]
        queue_origin = parts.azurite.queue_url(DATA_ACCOUNT).rpartition("/")[0]
        blobs = await stack.enter_async_context(door(blob_origin, parts.certificates))
        queues = await stack.enter_async_context(door(queue_origin, parts.certificates))
        seen_by_host = {blob_origin: blobs.origin, queue_origin: queues.origin}
        cloud = await stack.enter_async_context(own_cloud(parts, tmp_path_factory.mktemp("harmed"), seen_by_host))
        host = await stack.enter_async_context(cloud.host(settings={"LOCAL_HOST_UNREACHABLE_SECONDS": "0.3"}))
        yield Harmed(cloud, host, blobs, queues)


def on(path: str, fault: Fault) -> Callable[[str, str], Fault | None]:
    return lambda _method, asked: fault if path in asked else None


@pytest.mark.parametrize("fault", ["refused", "unreachable", "unavailable"])
async def test_a_look_at_the_blob_that_fails_stops_the_host(harmed: Harmed, fault: Fault) -> None:
    """The host stops: when refused at once, otherwise after six tries. Invocations end; both messages stay hidden."""
    cloud, host = harmed.cloud, harmed.host
    bystander, created = await cloud.upload(f"hang-{fault}"), await cloud.upload(f"look-{fault}")
    ends, pid, url, keys = len(host.ends), host.pid, host.url, (host.master_key, host.blobs_extension_key)
    hidden = await harmed.hidden()
    await notify(host, bystander)
    (busy,) = await cloud.seen_times("on_blob", 1, f"hang-{fault}")
    harmed.blobs.met.clear()
    harmed.blobs.fault = on(f"look-{fault}", fault)
    await notify(host, created)
    await host.restarted(ends)
    harmed.blobs.heal()
    assert host.ends[ends].exit_code == STOPPED_ITSELF
    # An HTTP client may repeat a request automatically when the connection it had kept is gone.
    assert harmed.blobs.met[fault] in ({1} if fault == "refused" else range(6, 13))
    await until(lambda: is_gone(busy["pid"]) and is_gone(pid))
    assert cloud.seen("end") == [], "something was cancelled"
    assert (host.url, host.master_key, host.blobs_extension_key) == (url, *keys)
    await harmed.works(f"after-look-{fault}")
    assert (await harmed.hidden() - hidden, await cloud.internal_queue().peek_messages()) == (2, [])
    assert [record["name"] for record in cloud.seen("on_blob", f"look-{fault}")] == [f"after-look-{fault}"]
    assert "An unhandled exception has occurred. Host is shutting down." in cloud.log.read_text()


@pytest.mark.parametrize("account", [DATA_ACCOUNT, HOST_ACCOUNT])
@pytest.mark.parametrize("fault", ["refused", "unreachable"])
async def test_a_queue_that_refuses_or_can_not_be_reached_stops_the_host(
    harmed: Harmed, account: str, fault: Fault
) -> None:
    """Any listener's: a queue trigger's, and the blob trigger's own."""
    ends = len(harmed.host.ends)
    harmed.queues.met.clear()
    harmed.queues.fault = on(f"/{account}/", fault)
    await until(lambda: harmed.queues.met[fault])
    await until(lambda: is_gone(harmed.host.pid))
    harmed.queues.heal()
    await harmed.host.restarted(ends)
    assert harmed.host.ends[ends].exit_code == STOPPED_ITSELF
    await harmed.works(f"after-queue-{account}-{fault}")


def test_storage_is_tried_for_25_seconds() -> None:
    """Six tries, as far apart as the real host's."""
    retries = Retries(24.8)
    assert [retries.get_backoff_time({"count": retry}) for retry in range(1, 6)] == pytest.approx(
        [0.8, 1.6, 3.2, 6.4, 12.8]
    )
    assert retries.total_retries == retries.connect_retries == retries.read_retries == retries.status_retries == 5


async def test_a_time_that_is_not_a_number_is_named(cloud: Cloud) -> None:
    with pytest.raises(HostError, match="LOCAL_HOST_HIDDEN_SECONDS is '10 min'; it must be a number of seconds"):
        async with cloud.host(settings={"LOCAL_HOST_HIDDEN_SECONDS": "10 min"}):
            pass


async def test_a_queue_that_answers_503_is_polled_again(harmed: Harmed) -> None:
    """The same host, after more failed polls than one request is tried."""
    ends, pid = len(harmed.host.ends), harmed.host.pid
    harmed.queues.met.clear()
    harmed.queues.fault = on(harmed.cloud.orders + "/", "unavailable")
    await until(lambda: harmed.queues.met["unavailable"] > 12)
    harmed.queues.heal()
    await harmed.works("after-503")
    assert (len(harmed.host.ends), harmed.host.pid) == (ends, pid)


@pytest.mark.parametrize("text", ["{", '{"Type": "BlobTrigger", "ContainerName": "c", "BlobName": "b"}'])
async def test_a_message_of_the_blob_triggers_own_queue_that_can_not_be_read_stops_the_host(
    harmed: Harmed, text: str
) -> None:
    """A body that is not JSON, or names no function."""
    ends, hidden = len(harmed.host.ends), await harmed.hidden()
    await harmed.cloud.internal_queue().send_message(base64.b64encode(text.encode()).decode())
    await harmed.host.restarted(ends)
    assert harmed.host.ends[ends].exit_code == STOPPED_ITSELF
    assert await harmed.hidden() - hidden == 1


async def test_an_event_whose_url_names_no_blob_is_taken_and_stops_the_host(harmed: Harmed) -> None:
    """Its message has an empty blob name."""
    ends = len(harmed.host.ends)
    assert await notify(harmed.host, event("https://a.blob.core.windows.net/images")) == 202
    await harmed.host.restarted(ends)
    assert harmed.host.ends[ends].exit_code == STOPPED_ITSELF


async def test_a_message_that_stopped_the_host_too_often_goes_to_the_poison_queue_with_nothing_run(
    cloud: Cloud, tmp_path: Path
) -> None:
    """It is back after each stop when its 10 minutes, here one second, are over; after five, here two, no more."""
    app = probe(tmp_path / "app", {"extensions": {"blobs": {"poisonBlobThreshold": 2}}})
    message = {"FunctionId": "Host.Functions.on_blob", "ContainerName": cloud.input, "BlobName": ""}
    content = base64.b64encode(json.dumps(message).encode()).decode()
    async with cloud.host(app, settings={"LOCAL_HOST_HIDDEN_SECONDS": "1"}) as host:
        await cloud.internal_queue().send_message(content)
        (poison,) = await cloud.messages(cloud.data_poison(), 1)
        await cloud.internal_queue_is_empty()
    assert (poison.content, len(host.ends), cloud.seen("on_blob")) == (content, 2, [])


async def test_a_killed_host_is_started_again_and_its_messages_are_back_once_they_are_visible(cloud: Cloud) -> None:
    """As chaos does: host and workers are killed in the middle of work, even a worker whose event loop is blocked."""
    created = await cloud.upload("block-1")
    async with cloud.host(grace=0.1, settings={"LOCAL_HOST_HIDDEN_SECONDS": "2"}) as host:
        await notify(host, created)
        (first,) = await cloud.seen_times("on_blob", 1)
        pid = host.pid
        end = await host.kill()
        assert (end.exit_code, [end]) == (host.ends[0].exit_code, host.ends)
        assert host.pid != pid
        await until(lambda: is_gone(first["pid"]) and is_gone(pid))
        second = (await cloud.seen_times("on_blob", 2))[1]
        assert second["at"] - first["at"] > 1.5
        assert [worker["pid"] for worker in (await status(host))["local"]["workers"]] == [second["pid"]]
        assert VARIABLE not in psutil.Process(second["pid"]).environ(), "the app has the host's keys"


async def test_workers_that_crash_again_and_again_stop_the_host(cloud: Cloud, tmp_path: Path) -> None:
    """The third crash; a message whose function killed its worker goes on from where it was."""
    app = probe(tmp_path / "app", {"extensions": {"blobs": {"poisonBlobThreshold": 4}}})
    created = await cloud.upload("exit-1")
    async with cloud.host(app) as host:
        await notify(host, created)
        await cloud.messages(cloud.data_poison(), 1)
        assert (len(cloud.seen("on_blob")), [end.exit_code for end in host.ends]) == (4, [STOPPED_ITSELF])
        await notify(host, await cloud.upload("fine"))
        await cloud.seen_times("on_blob", 1, "fine")


async def test_a_supervised_host_that_can_not_start_is_tried_again(cloud: Cloud, tmp_path: Path) -> None:
    """An app that is broken for a while."""
    app = variant(tmp_path / "app", "@app.route(route='a')\ndef one(req: func.HttpRequest) -> str: return ''\n")
    code = (app / "function_app.py").read_text()
    async with cloud.host(app) as host:
        (app / "function_app.py").write_text("raise ValueError('broken')")
        os.kill(host.pid, signal.SIGKILL)
        await until(lambda: "broken" in cloud.log.read_text())
        (app / "function_app.py").write_text(code)
        await host.restarted(0)
        assert (await status(host))["state"] == "Running"
