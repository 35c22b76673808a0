"""What the page does."""
from collections.abc import AsyncIterator
from aiohttp import web
routes = web.RouteTableDef()
async def kept(_app: web.Application) -> AsyncIterator[None]:
    yield
