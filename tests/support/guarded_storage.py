"""The emulator with a doorkeeper: it refuses as Azure does, or answers in its place."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from aiohttp import ClientResponse, web

from localcloud.cloud import DATA_ACCOUNT, DATA_KEY
from localcloud.front.forwarding import HEADER_BYTES, Forwarder, storage_error
from support.person import Person

type Refuses = Callable[[str, str], bool]
"""Gets method and path of each request; what it says yes to is answered with the refusal."""

MISSING_ROLE = (
    403,
    "AuthorizationPermissionMismatch",
    "This request is not authorized to perform this operation using this permission.",
)
"""Status, code and message."""


type Answers = Callable[[web.BaseRequest], web.StreamResponse | None]
"""Gets each request; what it answers itself does not reach the emulator."""


@asynccontextmanager
async def guarded(person: Person, refuses: Refuses, refusal: tuple[int, str, str] = MISSING_ROLE) -> AsyncIterator[str]:
    """The connection string of the data account behind a doorkeeper, which raises no events."""

    def answers(request: web.BaseRequest) -> web.StreamResponse | None:
        return storage_error(*refusal) if refuses(request.method, request.raw_path) else None

    async with answering(person, answers) as connection_string:
        yield connection_string


@asynccontextmanager
async def answering(person: Person, answers: Answers) -> AsyncIterator[str]:
    """The same behind one who answers some requests himself."""
    azurite = person.cloud.azurite
    async with AsyncExitStack() as stack:
        blobs = await _door(stack, person, azurite.blob_url(DATA_ACCOUNT), answers)
        queues = await _door(stack, person, azurite.queue_url(DATA_ACCOUNT), answers)
        yield (
            f"DefaultEndpointsProtocol=http;AccountName={DATA_ACCOUNT};AccountKey={DATA_KEY};"
            f"BlobEndpoint={blobs};QueueEndpoint={queues};"
        )


async def _door(stack: AsyncExitStack, person: Person, target: str, answers: Answers) -> str:
    origin = target.rpartition("/")[0]
    forwarder = await stack.enter_async_context(Forwarder(origin, person.cloud.certificates.client_context()))

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        own = answers(request)
        return await forwarder.forward(request, _nothing) if own is None else own

    runner = web.ServerRunner(web.Server(answer, access_log=None, max_line_size=HEADER_BYTES))
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return f"http://127.0.0.1:{runner.addresses[0][1]}/{DATA_ACCOUNT}"


async def _nothing(_answer: ClientResponse) -> None:
    return
