"""The emulator with a doorkeeper: what it refuses, it refuses as Azure does."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from aiohttp import ClientResponse, web
from person import Person

from localcloud.cloud import DATA_ACCOUNT, DATA_KEY
from localcloud.front.forwarding import HEADER_BYTES, Forwarder, storage_error

type Refuses = Callable[[str, str], bool]
"""Gets method and path of each request; what it says yes to is answered with the refusal."""

MISSING_ROLE = (
    403,
    "AuthorizationPermissionMismatch",
    "This request is not authorized to perform this operation using this permission.",
)
"""Status, code and message."""


@asynccontextmanager
async def guarded(person: Person, refuses: Refuses, refusal: tuple[int, str, str] = MISSING_ROLE) -> AsyncIterator[str]:
    """The connection string of the data account behind a doorkeeper, which raises no events."""
    azurite = person.cloud.azurite
    async with AsyncExitStack() as stack:
        blobs = await _door(stack, person, azurite.blob_url(DATA_ACCOUNT), refuses, refusal)
        queues = await _door(stack, person, azurite.queue_url(DATA_ACCOUNT), refuses, refusal)
        yield (
            f"DefaultEndpointsProtocol=http;AccountName={DATA_ACCOUNT};AccountKey={DATA_KEY};"
            f"BlobEndpoint={blobs};QueueEndpoint={queues};"
        )


async def _door(
    stack: AsyncExitStack, person: Person, target: str, refuses: Refuses, refusal: tuple[int, str, str]
) -> str:
    origin = target.rpartition("/")[0]
    forwarder = await stack.enter_async_context(Forwarder(origin, person.cloud.certificates.client_context()))

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if refuses(request.method, request.raw_path):
            return storage_error(*refusal)
        return await forwarder.forward(request, _nothing)

    runner = web.ServerRunner(web.Server(answer, access_log=None, max_line_size=HEADER_BYTES))
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return f"http://127.0.0.1:{runner.addresses[0][1]}/{DATA_ACCOUNT}"


async def _nothing(_answer: ClientResponse) -> None:
    return
