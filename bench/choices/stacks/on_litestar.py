"""Litestar, which has msgspec itself."""

from greeter import message
from litestar import Litestar, get


@get("/hello/{username:str}")
async def hello(username: str) -> dict[str, str]:
    return message(username)


app = Litestar([hello], openapi_config=None)
