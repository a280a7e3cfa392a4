"""AWS credentials: each source of them, against endpoints that play AWS's, and their renewal."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web

from hello.stores import StoreUnavailableError, open_store
from hello.stores.aws_credentials import Credentials, CredentialsError, RenewedCredentials
from hello.stores.aws_sources import source

pytestmark = pytest.mark.anyio

END = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
GIVEN = {"AccessKeyId": "AKID", "SecretAccessKey": "secret", "Token": "token", "Expiration": f"{END:%FT%TZ}"}
STS = """<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>
<AccessKeyId>AKID</AccessKeyId><SecretAccessKey>secret</SecretAccessKey><SessionToken>token</SessionToken>
<Expiration>2030-01-02T03:04:05Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult>
</AssumeRoleWithWebIdentityResponse>"""

Handler = Callable[[web.Request], Awaitable[web.Response]]


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Run these tests on the loop that the service runs on."""
    return "asyncio", {"use_uvloop": True}


@asynccontextmanager
async def served(handler: Handler) -> AsyncIterator[str]:
    """Serve on a free port of loopback, and return the address."""
    runner = web.ServerRunner(web.Server(handler))  # type: ignore[arg-type]
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def environ(tmp_path: Path, **variables: str) -> Mapping[str, str]:
    """Return an environment in which nothing of this machine is found."""
    return {
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_EC2_METADATA_DISABLED": "true",
        **variables,
    }


async def give(variables: Mapping[str, str]) -> tuple[str, str, str | None, float | None]:
    """Return the parts of what the source gives."""
    found = await source("eu-central-1", variables)()
    return found.key_id, found.secret, found.token, found.expires


async def test_the_environment_comes_first(tmp_path: Path) -> None:
    """A key, a secret and perhaps a token; half a pair is none."""
    pair = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "secret"}
    assert await give(environ(tmp_path, **pair)) == ("AKID", "secret", None, None)
    assert await give({**pair, "AWS_SECRET_ACCESS_KEY": "secret\n"}) == ("AKID", "secret", None, None)
    assert await give({**pair, "AWS_SESSION_TOKEN": "token"}) == ("AKID", "secret", "token", None)
    with pytest.raises(CredentialsError, match="No AWS credentials were found: set AWS_ACCESS_KEY_ID"):
        await give(environ(tmp_path, AWS_ACCESS_KEY_ID="AKID"))


async def test_a_profile_is_read_from_the_shared_file(tmp_path: Path) -> None:
    """The one that AWS_PROFILE names, else `default`; one that is named and missing is an error."""
    path = tmp_path / "credentials"
    path.write_text(
        "[default]\naws_access_key_id = AKID\naws_secret_access_key = se%cret\n"
        "[other]\naws_access_key_id=OTHER\naws_secret_access_key=s\naws_session_token=t=\n"
    )
    variables = environ(tmp_path, AWS_SHARED_CREDENTIALS_FILE=str(path))
    assert await give(variables) == ("AKID", "se%cret", None, None)
    assert await give({**variables, "AWS_PROFILE": "other"}) == ("OTHER", "s", "t=", None)
    with pytest.raises(CredentialsError, match="no AWS profile third"):
        await give({**variables, "AWS_PROFILE": "third"})
    path.write_text("aws_secret_access_key = secret\n")
    with pytest.raises(CredentialsError, match="not well-formed") as refused:
        await give(variables)
    assert "secret =" not in str(refused.value)


async def test_a_file_that_nobody_named_may_be_out_of_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the default file can't be read, or there is no home, there may be a role."""
    (tmp_path / ".aws" / "credentials").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path))
    async with served(lambda _: _answer(GIVEN)) as url:
        role = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": url}
        assert (await give(role))[0] == "AKID"
        monkeypatch.setattr(Path, "expanduser", _no_home)
        assert (await give(role))[0] == "AKID"
        monkeypatch.undo()
        with pytest.raises(CredentialsError, match="can't be read"):
            await give({**role, "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path)})


async def test_an_operation_says_that_it_waited_for_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A metadata service that hangs is named as what does not answer; operations end in time."""
    released = asyncio.Event()

    async def hang(_: web.Request) -> web.Response:
        await released.wait()
        return web.Response()

    async with served(hang) as url:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", url)
        with pytest.raises(StoreUnavailableError, match="AWS credentials were not given in time"):
            await open_store("dynamodb://us-east-1/hello", timeout=0.5)
        released.set()


async def _answer(fields: object) -> web.Response:
    return web.json_response(fields)


def _no_home(_: Path) -> Path:
    raise RuntimeError("Could not determine home directory.")


async def test_the_container_gives_credentials_for_its_token(tmp_path: Path) -> None:
    """The token comes from the variable or, read anew each time, from a file; a wrong one is an error."""

    async def handler(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") not in {"one", "two"}:
            return web.Response(status=401, text="secret")
        return web.json_response(GIVEN)

    file = tmp_path / "token"
    file.write_text("two\n")
    async with served(handler) as url:
        variables = environ(tmp_path, AWS_CONTAINER_CREDENTIALS_FULL_URI=f"{url}/role")
        expected = ("AKID", "secret", "token", END.timestamp())
        assert await give({**variables, "AWS_CONTAINER_AUTHORIZATION_TOKEN": "one"}) == expected
        from_file = {**variables, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(file)}
        assert await give(from_file) == expected
        file.write_text("three")
        with pytest.raises(CredentialsError, match="status 401") as refused:
            await give(from_file)
        assert "secret" not in str(refused.value)


async def test_a_container_token_goes_to_no_other_host(tmp_path: Path) -> None:
    """Without TLS only this machine, ECS and EKS are asked."""
    for url in ("http://example.com/role", "file:///etc/passwd", "http://169.254.170.2.example/"):
        with pytest.raises(CredentialsError, match="must be https"):
            await give(environ(tmp_path, AWS_CONTAINER_CREDENTIALS_FULL_URI=url))


async def test_a_web_identity_is_exchanged_for_credentials(tmp_path: Path) -> None:
    """STS is asked with the role and the token of the file; a refusal names its reason and no token."""
    forms: list[dict[str, str]] = []

    async def handler(request: web.Request) -> web.Response:
        forms.append({key: str(value) for key, value in (await request.post()).items()})
        if forms[-1]["WebIdentityToken"] != "jwt":
            return web.Response(status=400, text="<Error><Code>InvalidIdentityToken</Code>bad</Error>")
        return web.Response(text=STS)

    file = tmp_path / "token"
    file.write_text("jwt")
    async with served(handler) as url:
        variables = environ(
            tmp_path, AWS_WEB_IDENTITY_TOKEN_FILE=str(file), AWS_ROLE_ARN="arn:r", AWS_ENDPOINT_URL_STS=url
        )
        assert await give(variables) == ("AKID", "secret", "token", END.timestamp())
        file.write_text("stolen")
        with pytest.raises(CredentialsError, match="InvalidIdentityToken") as refused:
            await give(variables)
    assert "stolen" not in str(refused.value)
    assert forms[0] == {
        "Action": "AssumeRoleWithWebIdentity",
        "Version": "2011-06-15",
        "RoleArn": "arn:r",
        "RoleSessionName": "hello",
        "WebIdentityToken": "jwt",
    }


async def test_an_instance_gives_the_credentials_of_its_role(tmp_path: Path) -> None:
    """IMDSv2: a token by PUT, then the role's name, then its credentials; off where it is disabled."""

    async def handler(request: web.Request) -> web.Response:
        if request.method == "PUT" and request.path == "/latest/api/token":
            assert request.headers["X-aws-ec2-metadata-token-ttl-seconds"]
            return web.Response(text="imds")
        if request.headers.get("X-aws-ec2-metadata-token") != "imds":
            return web.Response(status=401)
        prefix = "/latest/meta-data/iam/security-credentials/"
        if request.path == prefix:
            return web.Response(text="role")
        return web.json_response(GIVEN) if request.path == f"{prefix}role" else web.Response(status=404)

    async with served(handler) as url:
        variables = environ(tmp_path, AWS_EC2_METADATA_SERVICE_ENDPOINT=url)
        with pytest.raises(CredentialsError, match="No AWS credentials were found"):
            await give(variables)
        on = {**variables, "AWS_EC2_METADATA_DISABLED": "false"}
        assert await give(on) == ("AKID", "secret", "token", END.timestamp())


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"AccessKeyId": "secret", "Expiration": "soon"}'])
async def test_an_answer_that_holds_none_is_an_error(tmp_path: Path, text: str) -> None:
    """What is no set of credentials is told as that, and not repeated."""

    async def handler(request: web.Request) -> web.Response:
        return web.Response(text=text)

    async with served(handler) as url:
        with pytest.raises(CredentialsError, match="no credentials that hello understands") as refused:
            await give(environ(tmp_path, AWS_CONTAINER_CREDENTIALS_FULL_URI=url))
    assert "secret" not in str(refused.value)


# Renewal


@dataclass
class Issuer:
    """Gives credentials that last an hour, numbered; its clock stands unless it is set."""

    now: float = 1000.0
    given: int = 0
    fails: bool = False
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.go_on.set()

    async def __call__(self) -> Credentials:
        self.given += 1
        number = self.given
        await self.go_on.wait()
        if self.fails:
            raise CredentialsError("The metadata service is gone.")
        return Credentials(f"A{number}", "secret", None, self.now + 3600)

    def renewed(self) -> RenewedCredentials:
        """Return credentials from this source, by this clock."""
        return RenewedCredentials(self, lambda: self.now, lambda: 0.5)


async def settle() -> None:
    """Let the tasks that can run do so."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_many_at_once_wait_for_one_renewal() -> None:
    """Credentials are taken once for all that ask, and kept until near their end."""
    issuer = Issuer()
    credentials = issuer.renewed()
    found = await asyncio.gather(*(credentials.get() for _ in range(50)))
    assert {one.key_id for one in found} == {"A1"}
    issuer.now += 3600 - 301
    assert (await credentials.get()).key_id == "A1"
    await settle()
    assert issuer.given == 1


async def test_they_are_renewed_in_the_background_before_they_end() -> None:
    """In the last five minutes the old ones are given at once while new ones are fetched."""
    issuer = Issuer()
    credentials = issuer.renewed()
    await credentials.get()
    issuer.go_on.clear()
    issuer.now += 3600 - 200
    assert [(await credentials.get()).key_id for _ in range(3)] == ["A1"] * 3
    issuer.go_on.set()
    await settle()
    assert (await credentials.get()).key_id == "A2"
    assert issuer.given == 2


async def test_old_ones_are_used_while_renewal_fails(caplog: pytest.LogCaptureFixture) -> None:
    """Until they end; then the reason is the error; and new ones are taken once they are given again."""
    issuer = Issuer()
    credentials = issuer.renewed()
    await credentials.get()
    issuer.fails = True
    for later in (3600 - 200, 100, 99):
        issuer.now += later
        assert (await credentials.get()).key_id == "A1"
        await settle()
    assert issuer.given == 4
    assert "The metadata service is gone." in caplog.text
    assert "secret" not in caplog.text
    issuer.now += 20
    for _ in range(3):
        with pytest.raises(CredentialsError, match="metadata service is gone"):
            await credentials.get()
    assert issuer.given == 5, "who asks in the same second gets the same answer"
    issuer.fails = False
    issuer.now += 1
    assert (await credentials.get()).key_id == "A6"


async def test_who_gives_up_does_not_stop_the_renewal() -> None:
    """A caller whose time is over leaves at once; the renewal goes on for the next one."""
    issuer = Issuer()
    credentials = issuer.renewed()
    issuer.go_on.clear()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await credentials.get()
    issuer.go_on.set()
    assert (await credentials.get()).key_id == "A1"
    assert issuer.given == 1


async def test_refused_ones_are_replaced_once_for_all() -> None:
    """However many were refused with the same credentials: one renewal, and not again within a second."""
    issuer = Issuer()
    credentials = issuer.renewed()
    old = await credentials.get()
    found = await asyncio.gather(*(credentials.replace(old) for _ in range(20)))
    assert {one.key_id for one in found} == {"A2"}
    assert (await credentials.replace(old)).key_id == "A2"
    assert (await credentials.replace(found[0])).key_id == "A2"
    issuer.now += 1
    assert (await credentials.replace(found[0])).key_id == "A3"


async def test_closing_ends_a_renewal() -> None:
    """Nothing goes on after it."""
    issuer = Issuer()
    credentials = issuer.renewed()
    issuer.go_on.clear()
    before = asyncio.all_tasks()
    waiting = asyncio.create_task(credentials.get())
    await settle()
    await credentials.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert asyncio.all_tasks() == before
