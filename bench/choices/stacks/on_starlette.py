"""Starlette, with msgspec for JSON."""

import msgspec
from greeter import message
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

encode = msgspec.json.Encoder().encode


async def hello(request: Request) -> Response:
    return Response(encode(message(request.path_params["username"])), media_type="application/json")


app = Starlette(routes=[Route("/hello/{username}", hello)])
