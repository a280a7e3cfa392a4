"""`hello discover`: who is registered, each change, and a backend of HAProxy in step, on a real etcd."""

import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from cyclopts import CycloptsError

from hello.cli import app
from hello.etcd import Etcd, EtcdError
from hello.instances import list_instances
from hello.usage import explain
from tests.support.commands import hello
from tests.support.environment import free_port, until
from tests.support.etcd import Cluster, Link, Watch, answering, put_record
from tests.support.haproxy import HAProxy, kept_in_step

COMMIT = "c0ffee" * 6 + "cafe"


@pytest.fixture
def two(etcd: Cluster, prefix: str) -> tuple[str, ...]:
    """Two instances, and what is none; the options that lead to them."""
    put_record(etcd, prefix, "b", port=5000, commit=COMMIT, since="2026-11-26T01:02:03Z", more=[1])
    put_record(etcd, prefix, "a", host="2001:db8::1", port=443, scheme="https")
    etcd.ctl("put", f"{prefix}/text", "no JSON")
    put_record(etcd, prefix, "port", port=0)
    put_record(etcd, prefix, "host", host="1.2.3.4:5; shutdown sessions")
    put_record(etcd, prefix, "c;shutdown")
    put_record(etcd, f"{prefix}more", "d")
    return ("--etcd", etcd.urls, "--etcd-prefix", prefix)


def test_a_table(two: tuple[str, ...], tmp_path: Path) -> None:
    """Address, scheme, version, commit and since when, a line each; other records are passed over."""
    done = hello("discover", *two, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == (
        "ADDRESS            SCHEME  VERSION  COMMIT        SINCE\n"
        "[2001:db8::1]:443  https   1.2.3\n"
        "127.0.0.1:5000     http    1.2.3    c0ffeec0ffee  2026-11-26T01:02:03Z\n"
    )


def test_json(two: tuple[str, ...], tmp_path: Path) -> None:
    """All that is known of each."""
    done = hello("discover", "--format", "json", *two, folder=tmp_path)
    more = {"version": "1.2.3"}
    assert json.loads(done.stdout) == [
        {"id": "a", "host": "2001:db8::1", "port": 443, "scheme": "https", "commit": "", "since": "", **more},
        {"id": "b", "host": "127.0.0.1", "port": 5000, "scheme": "http", "commit": COMMIT,
         "since": "2026-11-26T01:02:03Z", **more},
    ]  # fmt: skip


def test_what_prometheus_reads(two: tuple[str, ...], tmp_path: Path) -> None:
    """A list of groups of targets and labels, as http_sd and file_sd have it: promtool takes it."""
    done = hello("discover", "--format", "http-sd", *two, folder=tmp_path)
    groups = json.loads(done.stdout)
    assert [group["targets"] for group in groups] == [["[2001:db8::1]:443"], ["127.0.0.1:5000"]]
    assert groups[1]["labels"] == {
        "__scheme__": "http",
        "__meta_hello_id": "b",
        "__meta_hello_version": "1.2.3",
        "__meta_hello_commit": COMMIT,
    }


def test_nobody_is_no_failure(etcd: Cluster, prefix: str, tmp_path: Path) -> None:
    """It is said, and the output is as empty as can be read."""
    done = hello(
        "discover", "--etcd", etcd.urls, "--etcd-prefix", prefix, "--format", "json", folder=tmp_path
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"[]\n", b"no instances\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "Say where etcd is: --etcd (HELLO_ETCD)."),
        (("--etcd", "http://127.0.0.1:1", "--etcd-user", "hello", "--etcd-password-file", "missing"),
         "missing can't be read: No such file"),
        (("--etcd", "https://127.0.0.1:1", "--etcd-ca", "missing"), "files can't be used (missing): No such"),
        (("--etcd", "http://127.0.0.1:1"), "etcd: http://127.0.0.1:1 can't be reached."),
        (("--etcd", "https://{etcd}"), "can't be reached."),
    ],
)  # fmt: skip
def test_what_is_of_no_use_is_said(
    arguments: tuple[str, ...], says: str, etcd: Cluster, tmp_path: Path
) -> None:
    """In words, with exit status 2."""
    address = etcd.members[0].url.partition("://")[2]
    done = hello("discover", *(word.format(etcd=address) for word in arguments), folder=tmp_path)
    said = " ".join(done.stderr.decode().split())
    assert says in said
    assert done.returncode == 2
    assert "Traceback" not in said


@pytest.mark.parametrize("answer", [b"{}", b"[]", b'{"kvs":[1]}', b'{"error":7}', b"hello"])
def test_what_is_no_answer_of_etcd_is_said(answer: bytes) -> None:
    """Another server at its address gives no instances, whatever it answers."""

    async def ask(url: str) -> None:
        client = Etcd([url])
        try:
            with pytest.raises(EtcdError):
                await list_instances(client, "/hello")
            with pytest.raises(EtcdError):
                await anext(client.watch("/hello/", 1))
        finally:
            await client.close()

    with answering(answer) as url:
        asyncio.run(ask(url))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--backend", "a b"), "Give a name as HAProxy's"),
        (("--server-options", "check; shutdown"), "Give options as"),
        (("--server-options", "check <<"), "Give options as"),
        (("--server-options", "weight 1"), "`check` among them"),
    ],
)
def test_what_goes_to_haproxy_is_checked(arguments: tuple[str, ...], says: str) -> None:
    """No option can hold another command of the Runtime API."""
    with pytest.raises(CycloptsError) as error:
        app.parse_args(["discover", *arguments], exit_on_error=False, print_error=False)
    assert says in explain(error.value)


@pytest.fixture
def watch(etcd: Cluster, prefix: str) -> Iterator[Callable[..., Watch]]:
    """Start watches of the test's prefix, through all members or those of `urls`."""
    with ExitStack() as stack:

        def start(*options: str, urls: str = "") -> Watch:
            watch = Watch("--etcd", urls or etcd.urls, "--etcd-prefix", prefix, *options)
            stack.callback(watch.process.communicate)
            stack.callback(watch.process.kill)
            return watch

        yield start


def test_changes_are_told_as_they_come(watch: Callable[..., Watch], etcd: Cluster, prefix: str) -> None:
    """Those that are there, those that come, change and go, a line each; Ctrl-C ends it."""
    put_record(etcd, prefix, "a", port=1)
    lines, objects, targets = watch(), watch("--format", "json"), watch("--format", "http-sd")
    until(lambda: lines.out and objects.out and targets.out, "the first line")
    put_record(etcd, prefix, "b", port=2)
    put_record(etcd, prefix, "b", port=3)
    etcd.ctl("put", f"{prefix}/text", "no JSON")
    etcd.ctl("del", f"{prefix}/a")
    until(lambda: lines.out[-1].startswith("down  127.0.0.1:1"), "the last change")
    assert [line.split()[:2] for line in lines.out] == [
        ["up", "127.0.0.1:1"],
        ["up", "127.0.0.1:2"],
        ["up", "127.0.0.1:3"],
        ["down", "127.0.0.1:1"],
    ]
    until(lambda: len(objects.out) == 4, "the last change")
    told = [json.loads(line) for line in objects.out]
    assert [(one["change"], one["id"]) for one in told] == [
        ("up", "a"),
        ("up", "b"),
        ("up", "b"),
        ("down", "a"),
    ]
    until(lambda: json.loads(targets.out[-1])[0]["targets"] == ["127.0.0.1:3"], "the last change")
    assert lines.end() == 130
    assert lines.err == "hello: interrupted.\n"


def test_what_was_missed_is_told_when_the_way_is_free_again(
    watch: Callable[..., Watch], etcd: Cluster, prefix: str
) -> None:
    """A watch that is cut off says so, keeps what it knows, and lists anew, also after a compaction."""
    link = Link(etcd.members[0].port)
    put_record(etcd, prefix, "a", port=1)
    put_record(etcd, prefix, "b", port=2)
    cut = watch(urls=link.url)
    until(lambda: len(cut.out) == 2, "the first lines")
    link.cut()
    until(lambda: "; what is known stays, trying on" in cut.err, "the failure")  # whatever was under way
    etcd.ctl("del", f"{prefix}/a")
    put_record(etcd, prefix, "c", port=3)
    revision = json.loads(etcd.ctl("get", "x", "-w", "json"))["header"]["revision"]
    etcd.ctl("compact", str(revision))
    assert len(cut.out) == 2
    link.mend()
    until(lambda: len(cut.out) == 4, "what was missed")
    assert [line.split()[:2] for line in cut.out[2:]] == [["down", "127.0.0.1:1"], ["up", "127.0.0.1:3"]]
    assert cut.err.count("\n") == 2
    assert "etcd is back" in cut.err
    link.close()


# HAProxy


@pytest.fixture
def haproxy(tmp_path: Path) -> Iterator[HAProxy]:
    """A HAProxy with an empty backend."""
    haproxy = HAProxy(tmp_path, patient=True).start()
    yield haproxy
    haproxy.stop()


@pytest.fixture
def backends() -> Iterator[list[int]]:
    """Three ports that take connections, which is enough of an instance to be added."""
    with ExitStack() as stack:
        listeners = [stack.enter_context(closing(socket.create_server(("127.0.0.1", 0)))) for _ in range(3)]
        yield [listener.getsockname()[1] for listener in listeners]


def test_restarts_of_either_side_are_harmless(
    etcd: Cluster, prefix: str, haproxy: HAProxy, backends: list[int]
) -> None:
    """What changed while one of them was away is put right; servers that are not ours are left alone."""
    one, two, three = backends
    put_record(etcd, prefix, "a", port=one)
    put_record(etcd, prefix, "b", port=two)
    haproxy.ask(f"add server hello/own 127.0.0.1:{free_port()}")
    with kept_in_step(haproxy, etcd.urls, prefix, "--server-options", "check inter 100s"):
        until(lambda: haproxy.up() == {one, two}, "both")
    etcd.ctl("del", f"{prefix}/a")
    put_record(etcd, prefix, "b", port=three)
    assert haproxy.up() == {one, two}
    with kept_in_step(haproxy, etcd.urls, prefix, "--server-options", "check inter 100s") as process:
        until(lambda: haproxy.up() == {three}, "the one that moved")
        assert len(haproxy.servers()) == 2
        haproxy.ask("set server hello/etcd-b state maint")
        until(lambda: haproxy.up() == {three}, "the server to be enabled again")
        haproxy.stop()
        put_record(etcd, prefix, "c", port=one)
        haproxy.start()
        until(lambda: haproxy.up() == {one, three}, "all in the new HAProxy")
        process.terminate()
        said = process.communicate(timeout=30)[1]
    assert said.count("trying on") <= 1
    assert said.count(f"added 127.0.0.1:{three}") == 2


def test_etcd_that_is_lost_empties_no_backend(
    etcd: Cluster, prefix: str, haproxy: HAProxy, backends: list[int]
) -> None:
    """While etcd can't be asked all stay; so they do when it comes back with nothing in it."""
    one, two, three = backends
    link = Link(etcd.members[0].port)
    for name, port in zip("abc", backends, strict=True):
        put_record(etcd, prefix, name, port=port)
    with kept_in_step(haproxy, link.url, prefix, "--server-options", "check inter 100s") as process:
        until(lambda: haproxy.up() == {one, two, three}, "all")
        link.cut()
        etcd.ctl("del", "--prefix", prefix)
        put_record(etcd, prefix, "a", port=one)
        assert process.stderr is not None
        said = iter(process.stderr.readline, "")
        assert "trying on" in next(line for line in said if "added" not in line)
        assert haproxy.up() == {one, two, three}
        link.mend()
        assert "is back" in next(said)
        assert haproxy.up() == {one, two, three}  # those that are missing may be on their way back
        etcd.ctl("del", f"{prefix}/a")
        put_record(etcd, prefix, "b", port=two)
        until(lambda: haproxy.up() == {two, three}, "the one to go that was seen to go")
        etcd.ctl("del", "--prefix", prefix)
        time.sleep(1)  # four looks at what HAProxy has
        assert haproxy.up() == {two, three}
    link.close()


def test_a_server_that_leaves_answers_what_it_has_begun(
    etcd: Cluster, prefix: str, haproxy: HAProxy, backends: list[int]
) -> None:
    """It is drained, and removed only when nothing is under way any more."""
    options = ("--server-options", "check inter 100s")
    with (
        closing(socket.create_server(("127.0.0.1", 0))) as slow,
        kept_in_step(haproxy, etcd.urls, prefix, *options),
    ):
        port = slow.getsockname()[1]
        put_record(etcd, prefix, "slow", port=port)
        until(lambda: haproxy.up() == {port}, "the slow one")
        with closing(socket.create_connection(("127.0.0.1", haproxy.port), timeout=30)) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            taken = next(
                c for c in iter(lambda: slow.accept()[0], None) if c.recv(65536).startswith(b"GET / ")
            )
            with closing(taken):
                put_record(etcd, prefix, "a", port=backends[0])
                etcd.ctl("del", f"{prefix}/slow")
                until(lambda: "DRAIN" in haproxy.servers()[port], "the drain")
                until(lambda: haproxy.servers()[port] == "MAINT", "its removal to be tried")
                taken.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow")
            assert b"".join(iter(lambda: client.recv(65536), b"")).endswith(b"slow")
        until(lambda: port not in haproxy.servers(), "the removal")


def test_what_haproxy_does_not_take_is_said(
    etcd: Cluster, prefix: str, haproxy: HAProxy, backends: list[int]
) -> None:
    """A name in place of an address, a backend that is not there, options that are none: once each."""
    put_record(etcd, prefix, "name", host="web.example.org")
    put_record(etcd, prefix, "a", port=backends[0])
    cases: list[tuple[tuple[str, ...], str]] = [
        (("--server-options", "check chuck"), "unknown keyword 'chuck'"),
        (("--backend", "nothing"), "Can't find backend"),
        ((), "left out web.example.org"),  # the last: it adds a server, to which nothing would be said
    ]
    for options, says in cases:
        with kept_in_step(haproxy, etcd.urls, prefix, *options) as process:
            assert process.stderr is not None
            assert says in next(line for line in process.stderr if line.startswith("HAProxy") or not options)
