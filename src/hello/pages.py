"""The pages for browsers, and their files: read once, and nothing else is served."""

from functools import cache
from importlib.resources import files
from mimetypes import guess_type

from starlette.responses import Response

from hello.headers import entity_tag, matches
from hello.problems import NotFoundError

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def page(name: str, **parts: str) -> Response:
    """Return an HTML page; `parts` replace the comments of their names."""
    text = _files()[name].decode()
    for part, replacement in parts.items():
        text = text.replace(f"<!-- {part} -->", replacement)
    headers = {
        "cache-control": "no-cache",
        "content-security-policy": CONTENT_SECURITY_POLICY,
        "referrer-policy": "no-referrer",
        "vary": "accept",
    }
    return Response(text, media_type="text/html", headers=headers)


def asset(path: str, condition: str) -> Response:
    """Return a page's file, or 304 where If-None-Match names it.

    Raises:
        NotFoundError: no such file.
    """
    content = _files().get(path)
    if content is None:
        raise NotFoundError
    etag = entity_tag(content)
    headers = {"etag": etag.decode(), "cache-control": "no-cache"}
    if matches(condition.encode("latin-1"), etag):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=guess_type(path)[0], headers=headers)


@cache
def _files() -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    folders = [("", files("hello") / "web")]
    while folders:
        prefix, folder = folders.pop()
        for child in folder.iterdir():
            if child.is_dir():
                folders.append((f"{prefix}{child.name}/", child))
            else:
                found[prefix + child.name] = child.read_bytes()
    return found
