"""FastAPI, as its documentation teaches it."""

from fastapi import FastAPI
from greeter import message

app = FastAPI(openapi_url=None)


@app.get("/hello/{username}")
async def hello(username: str) -> dict[str, str]:
    return message(username)
