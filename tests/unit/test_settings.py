"""Settings: each from a flag, a variable, a file or its default, and what is wrong with a value."""

import json
import os
import typing
from collections.abc import Callable, Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, Literal

import pytest
from cyclopts import CycloptsError

from hello.settings import PREFIX, Settings, effective, without_passwords
from hello.sources import unknown_variables
from hello.usage import explain
from tests.support.commands import hello
from tests.support.settings import read

FIELDS = [field for field in fields(Settings) if field.name != "config"]
HINTS = {
    name: typing.get_args(hint)[0]
    for name, hint in typing.get_type_hints(Settings, include_extras=True).items()
}
TEXTS = {
    "store": ("sqlite:///a.db", "sqlite:////tmp/b.db"),
    "timezone": ("Europe/Berlin", "Asia/Kathmandu"),
    "host": ("::1", "localhost"),
    "commit": ("a", "b"),
    "keys": ("[]", '{"name":"a"}'),
    "keys_file": ("a.json", "b.json"),
    "oidc_issuer": ("https://id.example", "http://localhost:8080/realms/a"),
    "oidc_audience": ("a", "b"),
    "audit_log": ("audit.jsonl", "/var/log/hello/audit.jsonl"),
    "proxies": ("10.0.0.0/8", "192.0.2.1,::1"),
    "key_rate": ("100/s", "1/h"),
    "address_rate": ("100/s", "1/h"),
    "failure_rate": ("100/s", "1/h"),
    "tls_cert": ("a.pem", "b.pem"),
    "tls_key": ("a.pem", "b.pem"),
    "tls_client_ca": ("a.pem", "b.pem"),
    "etcd": ("http://127.0.0.1:2379", "https://10.0.0.1:2379,https://10.0.0.2:2379"),
    "etcd_prefix": ("/skydns/local/hello", "/a"),
    "etcd_user": ("a", "b"),
    "etcd_password": ("a", "b"),
    "etcd_password_file": ("a", "b"),
    "etcd_ca": ("a.pem", "b.pem"),
    "etcd_cert": ("a.pem", "b.pem"),
    "etcd_key": ("a.pem", "b.pem"),
    "advertise": ("10.0.0.5", "[::1]:80"),
}

each_setting = pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def variable(name: str) -> str:
    return PREFIX + name.upper()


def key(name: str) -> str:
    return name.replace("_", "-")


def kind(name: str) -> Any:
    """Return the type of a setting, where it is set."""
    hint = HINTS[name]
    if typing.get_origin(hint) is Literal:
        return hint
    return next((part for part in typing.get_args(hint) if part is not type(None)), hint)


def values(field: "Field[Any]") -> Sequence[Any]:
    """Return values that the setting takes, the default among them."""
    taken: dict[Any, Sequence[Any]] = {bool: (True, False), int: (1, 2), float: (0.5, 20.25)}
    taken[str] = TEXTS.get(field.name, ())
    taken[Path] = [Path(text) for text in taken[str]]
    found = kind(field.name)
    others = typing.get_args(found) if typing.get_origin(found) is Literal else taken[found]
    return [value for value in dict.fromkeys((field.default, *others)) if value is not None]


def refusal(*arguments: str, environment: dict[str, str] | None = None) -> str:
    """Return what is said of settings that are refused."""
    with pytest.raises(CycloptsError) as refused:
        read(*arguments, environment=environment)
    return explain(refused.value)


@pytest.fixture
def toml(tmp_path: Path) -> Callable[[str | bytes], str]:
    """Write a file of settings; return its path."""

    def write(content: str | bytes) -> str:
        path = tmp_path / "hello.toml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return write


# Where values come from


@pytest.mark.parametrize(
    "sources",
    [("file",), ("variable", "file"), ("flag", "file"), ("flag", "variable"), ("flag", "variable", "file")],
    ids=" over ".join,
)
def test_flag_then_variable_then_file(sources: Sequence[str], toml: Callable[[str | bytes], str]) -> None:
    """The flag wins over the variable, the variable over the file, for each value of each setting."""
    for shift in range(max(len(values(field)) for field in FIELDS)):
        given: dict[str, dict[str, Any]] = {"flag": {}, "variable": {}, "file": {}}
        for field in FIELDS:
            winner, loser = (values(field)[(shift + n) % len(values(field))] for n in (0, 1))
            assert winner != loser
            for rank, source in enumerate(sources):
                given[source][field.name] = loser if rank else winner
        file = "".join(f"{key(name)} = {_toml(value)}\n" for name, value in given["file"].items())
        found = read(
            *(f"{flag(name)}={_text(value)}" for name, value in given["flag"].items()),
            *([f"--config={toml(file)}"] if file else []),
            environment={variable(name): _text(value) for name, value in given["variable"].items()},
        )
        assert {name: getattr(found, name) for name in given[sources[0]]} == given[sources[0]]


def test_a_setting_that_is_not_given_has_its_default() -> None:
    """Without a flag, a variable or a file."""
    found = read()
    assert {field.name: getattr(found, field.name) for field in FIELDS} == {f.name: f.default for f in FIELDS}


def _toml(value: Any) -> str:
    return json.dumps(value, default=str)


def _text(value: Any) -> str:
    return json.dumps(value, default=str) if isinstance(value, bool) else str(value)


def test_an_empty_variable_is_one_that_is_not_set(toml: Callable[[str | bytes], str]) -> None:
    """HELLO_X= leaves the file or the default in force, for each setting."""
    empty = {variable(field.name): "" for field in FIELDS}
    found = read(environment={**empty, variable("config"): ""})
    assert {field.name: getattr(found, field.name) for field in FIELDS} == {f.name: f.default for f in FIELDS}
    last = {field.name: values(field)[-1] for field in FIELDS}
    file = toml("".join(f"{key(name)} = {_toml(value)}\n" for name, value in last.items()))
    found = read("--config", file, environment=empty)
    assert {field.name: getattr(found, field.name) for field in FIELDS} == last


def test_the_file_may_be_named_by_a_variable(toml: Callable[[str | bytes], str]) -> None:
    """HELLO_CONFIG is --config."""
    file = toml("stop-seconds = 7")
    settings = read(environment={"HELLO_CONFIG": file})
    assert settings.stop_seconds == 7
    assert settings.config == Path(file)


@pytest.mark.parametrize("command", ["import", "export", "birthdays"])
def test_commands_pass_over_settings_of_the_service(command: str, toml: Callable[[str | bytes], str]) -> None:
    """One file serves all commands: import, export and birthdays take from it what concerns them."""
    file = toml('port = 1\nlog = "json"\nstore = "sqlite:///else.db"')
    assert read("--config", file, command=command).store == "sqlite:///else.db"


@pytest.mark.parametrize("text", ["true", "TRUE", "yes", "1"])
def test_open_is_true_in_the_usual_words(text: str) -> None:
    """A variable says yes in several ways."""
    assert read(environment={"HELLO_OPEN": text}).open is True


# What is wrong with them

REFUSED = {
    "store": [
        "",
        "hello.db",
        "sqlite://hello.db",
        "sqlite:///",
        "sqlite:///:memory:",
        "postgresql://u:secret@x:port/y",
        "postgresql://u:secret@x/y?sslmode=on",
        "postgresql://u@x/y?pasword=secret",
    ],
    "store_timeout": ["0", "-1", "60.1", "nan", "inf", "soon"],
    "timezone": ["Mars", "europe/berlin", "../UTC", "UTC ", "posixrules"],
    "leap_day": ["feb29", "FEB28"],
    "host": [],
    "store_connections": ["0", "1001", "1.5", "many"],
    "port": ["-1", "65536", "1.5", "0x10", "5_0", "http", "9" * 5000],
    "open": ["maybe", "2"],
    "workers": ["0", "257", "1.0"],
    "drain_seconds": ["-0.1", "3601", "nan"],
    "stop_seconds": ["-0.1", "3601", "nan"],
    "keep_alive_seconds": ["0", "3601", "nan"],
    "max_in_flight": ["0", "1000001", "many"],
    "request_timeout": ["0", "3601"],
    "log": ["xml"],
    "access_log": ["none"],
    "audit_log": [],  # any text
    "commit": [],  # any text
    "keys": [],  # read when they are needed, see test_keys.py
    "keys_file": [],
    "oidc_issuer": [
        "id.example",
        "http://id.example",
        "https://id.example/?a",
        "https://me:secret@id.example",
    ],
    "oidc_audience": [],
    "metrics": ["write", "READ"],
    "proxies": ["proxy.example", "10.0.0.1/8", "10.0.0.0/8;::1", ","],
    "key_rate": ["fast", "0/s", "1/d", "1.5/s"],
    "address_rate": ["fast"],
    "failure_rate": ["fast", "none"],
    "tls_cert": [],  # test_tls.py has what is refused of the files
    "tls_key": [],
    "tls_client_ca": [],
    "etcd": ["10.0.0.1:2379", "http://a:secret@10.0.0.1:2379", "http://10.0.0.1"],
    "etcd_prefix": ["hello", "/hello/", "/a b", "/"],
    "etcd_user": [],
    "etcd_password": [],
    "etcd_password_file": [],  # test_discover.py has what is refused of the files
    "etcd_ca": [],
    "etcd_cert": [],
    "etcd_key": [],
    "advertise": ["a b", "10.0.0.5:0", ":80"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, of in REFUSED.items() for value in of])
def test_a_value_that_is_not_taken_is_refused(name: str, value: str) -> None:
    """It is refused wherever it comes from, by the name that it has there; a URL is not repeated."""
    said = refusal(f"{flag(name)}={value}")
    assert flag(name) in said
    assert "secret" not in said
    if value:
        assert variable(name) in refusal(environment={variable(name): value})


def test_an_empty_host_is_refused() -> None:
    """It would be every address."""
    assert "127.0.0.1" in refusal("--host=")


def test_each_setting_that_is_not_any_text_has_its_refusals() -> None:
    """The table above is complete."""
    assert set(REFUSED) == {field.name for field in FIELDS}


@each_setting
@pytest.mark.parametrize("value", ["[1]", "2020-01-01", None])
def test_a_value_of_another_type_in_the_file_is_refused(
    field: "Field[Any]", value: str | None, toml: Callable[[str | bytes], str]
) -> None:
    """TOML knows types, and nothing is made of another one: neither true of 1 nor 1 of "1"."""
    found = kind(field.name)
    other = value or {bool: "1", int: "1.0", float: '"1"'}.get(found, "true")
    file = toml(f"{key(field.name)} = {other}")
    said = refusal("--config", file)
    assert f"{key(field.name)} in {file}" in said


def test_a_number_in_the_file_needs_no_decimals(toml: Callable[[str | bytes], str]) -> None:
    """7 is 7.0 where a number is wanted; true is not 1 where a whole number is."""
    assert read("--config", toml("stop-seconds = 7")).stop_seconds == 7.0
    assert "whole number" in refusal("--config", toml("port = true"))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("prot = 1", "Did you mean port?"),
        ("store_timeout = 1", "Did you mean store-timeout?"),
        ("[serve]\nport = 1", "no setting serve"),
        ('config = "x.toml"', "no setting config"),
        ("port = 1\nport = 2\n", "line 2"),
        ("port", "not TOML"),
        (b"commit = '\xff'", "not UTF-8"),
        (b"\x00", "not TOML"),
    ],
)
def test_a_file_that_is_wrong_is_refused(
    content: str | bytes, says: str, toml: Callable[[str | bytes], str]
) -> None:
    """The message names the file and what to change."""
    file = toml(content)
    said = refusal("--config", file)
    assert says in said
    assert file in said


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """So is a folder; the message says who named it."""
    said = refusal("--config", "no.toml")
    assert "no.toml, named by --config, can't be read: No such file" in said
    assert "Is a directory" in refusal(environment={"HELLO_CONFIG": str(tmp_path)})
    assert "named by HELLO_CONFIG" in refusal(environment={"HELLO_CONFIG": str(tmp_path)})


# Telling them


def test_the_effective_settings_are_all_that_are_set(tmp_path: Path) -> None:
    """They are logged by name, as JSON can hold them; what is not set is left out."""
    told = effective(read("--port", "1", "--config", os.devnull))
    assert told == {
        **{field.name: field.default for field in FIELDS if field.default is not None},
        "port": 1,
        "config": os.devnull,
    }
    assert json.loads(json.dumps(told, default=str)) == told


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://u:secret@x:5432/y?sslmode=require", "postgresql://u:***@x:5432/y?sslmode=require"),
        ("postgresql://u:secret:%40@/y?host=/run", "postgresql://u:***@/y?host=/run"),
        ("postgresql://:secret@x", "postgresql://:***@x"),
        ("postgresql://u@x/y?password=secret&user=v", "postgresql://u@x/y?password=***&user=v"),
        (
            "postgresql://u@x/y?sslmode=require&sslpassword=secret",
            "postgresql://u@x/y?sslmode=require&sslpassword=***",
        ),
        ("postgresql://u@x:5432/y", "postgresql://u@x:5432/y"),
        ("sqlite:////var/lib/a:b@c.db", "sqlite:////var/lib/a:b@c.db"),
    ],
)
def test_passwords_are_not_told(url: str, told: str) -> None:
    """Of a store's URL all is logged but its passwords."""
    assert without_passwords(url) == told
    assert effective(read("--store", url))["store"] == told


def test_the_password_of_etcd_is_not_told() -> None:
    """That there is one is."""
    told = effective(read("--etcd-user", "hello", environment={"HELLO_ETCD_PASSWORD": "secret"}))
    assert told["etcd_password"] == "***"


ETCD, USER = ("--etcd", "https://10.0.0.1:2379"), ("--etcd-user", "hello")
WITH_PASSWORD = (*USER, "--etcd-password", "secret")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((*ETCD, *USER), "A user of etcd and a password go together"),
        ((*ETCD, "--etcd-password-file", "a"), "A user of etcd and a password go together"),
        ((*ETCD, *WITH_PASSWORD, "--etcd-password-file", "a"), "either in HELLO_ETCD_PASSWORD or by"),
        ((*ETCD, "--etcd-cert", "a.pem"), "give both --etcd-cert and --etcd-key"),
        (("--etcd", "http://10.0.0.1:2379", *WITH_PASSWORD), "in clear"),
        (("--etcd", "https://10.0.0.1:2379,http://10.0.0.2:2379", *WITH_PASSWORD), "in clear"),
        (("--etcd", "http://127.0.0.1:2379", *WITH_PASSWORD), None),
        ((*ETCD, *WITH_PASSWORD, "--etcd-cert", "a.pem", "--etcd-key", "b.pem"), None),
    ],
)
def test_what_can_not_be_used_with_etcd_is_refused(arguments: tuple[str, ...], says: str | None) -> None:
    """A password travels encrypted, and what goes together is given together."""
    refused = read(*arguments).refusal()
    assert (refused is None) == (says is None)
    assert (says or "") in (refused or "")
    assert "secret" not in (refused or "")


def test_unknown_variables_are_warned_of() -> None:
    """Each HELLO_* variable that is no setting is named, with what was meant perhaps."""
    known = {variable(field.name): "x" for field in fields(Settings)}
    assert unknown_variables({**known, "PATH": "", "HELL_PORT": "1"}) == []
    [misspelt, strange] = unknown_variables({**known, "HELLO_STOER": "x", "HELLO_QQQQ": "y"})
    assert "HELLO_QQQQ is no setting" in misspelt
    assert "mean" not in misspelt
    assert "HELLO_STOER is no setting" in strange
    assert strange.endswith("Did you mean HELLO_STORE?")


@pytest.mark.parametrize("command", ["import", "export", "birthdays", "discover"])
def test_commands_warn_of_a_misspelt_variable(command: str, tmp_path: Path) -> None:
    """A misspelt HELLO_STORE would have them work on another store."""
    ended = hello(command, folder=tmp_path, environment={"HELLO_STOER": "sqlite:///mine.db"})
    assert b"HELLO_STOER is no setting" in ended.stderr
    assert ended.stdout == b""


def test_help_names_each_setting_under_its_kind(tmp_path: Path) -> None:
    """Flag and variable stand in the help of `serve`, and no setting is left among the other options."""
    shown = hello("serve", "--help", folder=tmp_path).stdout.decode()
    for field in fields(Settings):
        assert f" {flag(field.name)} " in shown
        assert variable(field.name) in shown
    headings = [line.split()[1] for line in shown.splitlines() if line.startswith("╭")]
    assert headings == [
        "Store", "Calendar", "Listening", "TLS", "Rights", "Limits", "Discovery", "Logging",
        "Audit", "Other",
    ]  # fmt: skip
