"""Bare Starlette: what routing a path and answering JSON cost on the server that hello runs on.

Run by the uvicorn and the libraries of hello's own environment, with uvloop and httptools, and
without an access log. No middleware, no store: GET only.
"""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


async def hello(request: Request) -> JSONResponse:
    """Answer "hello world", whatever the name."""
    return JSONResponse({"message": "Hello, world!"})


app = Starlette(routes=[Route("/hello/{username}", hello)])
