"""Falcon, with msgspec for JSON."""

import falcon.asgi
import msgspec
from falcon.asgi import Request, Response
from greeter import message

encode = msgspec.json.Encoder().encode


class Hello:
    async def on_get(self, request: Request, response: Response, username: str) -> None:
        response.data = encode(message(username))
        response.content_type = falcon.MEDIA_JSON


app = falcon.asgi.App()
app.add_route("/hello/{username}", Hello())
