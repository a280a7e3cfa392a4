"""The settings of an instance: user data, secrets and the role, from stand-ins of both services of AWS."""

import json
import re
from pathlib import Path

import pytest

from rehearsal.vpc import REGION
from tests.support.certificates import Authority
from tests.support.environment import until
from tests.support.machine import USER_DATA, Instance, entries

pytestmark = [
    pytest.mark.timeout(900),  # the first one makes the machine, of a Debian that may have to be made
    pytest.mark.xdist_group("machines"),
]
PEOPLE = b'{"dateOfBirth":"1990-04-23"}'


def environment(instance: Instance) -> str:
    return instance.run("cat", "/run/hello/environment")


def everything_told(instance: Instance) -> str:
    """Return all that is told of the services to others than root: states, journal, list of processes."""
    shown = instance.run("systemctl", "show", "hello", "hello-settings")
    status = instance.run("systemctl", "status", "--full", "hello", "hello-settings", check=False)
    lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")]
    return shown + status + instance.journal() + b"\n".join(lines).replace(b"\0", b" ").decode()


def test_a_secret_is_fetched_by_the_role(instance: Instance) -> None:
    """The ARN of a secret stands for what it holds; the keys in it are honoured, and open access is over."""
    (key,), text = entries("caller")
    instance.restart(f"HELLO_KEYS={instance.secret('hello/keys', text)}\nHELLO_DRAIN_SECONDS=1\n")
    assert instance.request("PUT", "/hello/eve", PEOPLE).status == 401
    assert instance.request("PUT", "/hello/eve", PEOPLE, key).status == 204
    assert instance.metadata.without_token == 0


def test_a_secret_is_told_to_nobody(instance: Instance) -> None:
    """It is in a file in memory, for root, not in the journal, the units' states or the processes' list."""
    _, text = entries("caller")
    store = instance.secret("hello/store", "postgresql://hello:s3cret-of-the-store@10.0.0.1:1/hello")
    kept = instance.secret("hello/keys2", text)
    cursor = instance.cursor()
    instance.restart(f"HELLO_STORE={store}\nHELLO_KEYS={kept}\nHELLO_DRAIN_SECONDS=1\n", wait=False)
    until(lambda: "postgresql://hello:***@" in instance.journal(cursor), "hello's own word on its settings")
    digest = json.loads(text)[0]["sha256"]
    assert "s3cret-of-the-store" in environment(instance)
    assert digest in environment(instance)
    told = everything_told(instance)
    assert "settings of this instance: HELLO_DRAIN_SECONDS, HELLO_KEYS, HELLO_STORE" in told
    assert "s3cret-of-the-store" not in told
    assert digest not in told
    modes = instance.run("stat", "-c", "%U %a", "/run/hello", "/run/hello/environment")
    assert modes == "root 700\nroot 600\n"
    assert instance.run("stat", "-f", "-c", "%T", "/run/hello") == "tmpfs\n"


def test_values_of_any_characters_arrive(instance: Instance, root: Path) -> None:
    """Quotes, backslashes, dollars and line breaks are the value's own."""
    value = "a\"b'c\\d$HOME`e` #f\ng;h=i"
    odd = instance.secret("hello/odd", value)
    instance.restart(f"HELLO_OIDC_AUDIENCE={odd}\n{USER_DATA}", wait=False)
    until(lambda: instance.show("hello", "ExecMainStatus") == "2", "a refusal: an audience needs an issuer")
    (root / "etc/systemd/system/odd.service").write_text(
        "[Service]\nType=oneshot\nEnvironmentFile=/run/hello/environment\n"
        "ExecStart=/usr/bin/printenv HELLO_OIDC_AUDIENCE\n"
    )
    cursor = instance.cursor()
    instance.run("systemctl", "daemon-reload")
    instance.run("systemctl", "start", "odd")
    assert value in instance.journal(cursor)


def test_it_waits_for_a_secret(instance: Instance) -> None:
    """Without a secret that it is to have, hello does not start; the journal says why; it is tried again."""
    cursor = instance.cursor()
    arn = f"arn:aws:secretsmanager:{REGION}:123456789012:secret:hello/late-abcdef"
    instance.restart(f"HELLO_KEYS={arn}\n", wait=False)
    until(lambda: "trying again" in instance.journal(cursor), "a reason")
    assert re.search(
        f"{arn} was not given: status 40[04] ResourceNotFoundException", instance.journal(cursor)
    )
    assert not instance.answers()
    instance.metadata.user_data = USER_DATA
    until(instance.answers, "hello to serve")


def test_user_data_that_is_no_settings_is_refused(instance: Instance) -> None:
    """The line is named and not repeated, and hello does not start."""
    cursor = instance.cursor()
    instance.restart("HELLO_OPEN=true\nexport PASSWORD=s3cret-of-line-2\n", wait=False)
    until(lambda: instance.show("hello-settings", "ActiveState") == "failed", "a failure")
    assert "line 2 of the user data is no HELLO_…, ETCD_… or LOG_GROUP=VALUE" in instance.journal(cursor)
    assert "s3cret-of-line-2" not in everything_told(instance)
    assert instance.show("hello", "ActiveState") == "inactive"


def test_without_user_data_it_says_what_is_missing(instance: Instance) -> None:
    """An instance that is told nothing serves nobody, and is not started again and again."""
    cursor = instance.cursor()
    instance.restart("", wait=False)
    until(lambda: instance.show("hello", "ActiveState") == "failed", "a refusal")
    assert "0.0.0.0 is not loopback" in instance.journal(cursor)
    assert instance.show("hello", "NRestarts") == "0"


@pytest.mark.parametrize(("line", "address"), [("", "10.0.0.2"), ("HELLO_ADVERTISE=10.1.2.3\n", "10.1.2.3")])
def test_the_address_to_register_is_the_instance_s(instance: Instance, line: str, address: str) -> None:
    """With etcd, it is the private address by the metadata, unless the user data says another."""
    instance.restart(f"{USER_DATA}HELLO_ETCD=http://127.0.0.1:2379\n{line}", wait=False)
    until(lambda: "HELLO_ETCD" in instance.run("cat", "/run/hello/environment", check=False), "settings")
    assert f'HELLO_ADVERTISE="{address}"' in environment(instance)


def test_the_agent_has_a_key_of_its_own(instance: Instance) -> None:
    """The key that was made at this boot reads /metrics, which others may not; the log group is told."""
    _, text = entries("caller")
    instance.restart(
        f"HELLO_KEYS={instance.secret('hello/keys3', text)}\nLOG_GROUP=/hello\nHELLO_DRAIN_SECONDS=0\n"
    )
    key = instance.run("cat", "/run/hello/metrics-key")
    assert instance.request("GET", "/metrics").status == 401
    assert b"hello_build_info" in instance.request("GET", "/metrics", key=key).body
    assert instance.request("PUT", "/hello/eve", PEOPLE, key).status == 403
    assert instance.run("cat", "/run/hello/agent") == 'LOG_GROUP="/hello"\n'
    assert "LOG_GROUP" not in environment(instance)
    assert key not in everything_told(instance)


def test_the_authority_of_etcd_is_a_file_that_hello_reads(instance: Instance, tmp_path: Path) -> None:
    """The certificate comes from a secret, and the service is not root."""
    pem = Authority(tmp_path).pem.decode()
    arn = instance.secret("hello/etcd-ca", pem)
    instance.restart(f"{USER_DATA}HELLO_ETCD=https://127.0.0.1:2379\nHELLO_ETCD_CA={arn}\n")
    assert 'HELLO_ETCD_CA="/run/hello-public/etcd-ca.pem"' in environment(instance)
    assert instance.run("cat", "/run/hello-public/etcd-ca.pem") == pem
    assert instance.run("stat", "-c", "%U %a", "/run/hello-public") == "root 755\n"


def test_a_member_of_etcd_serves_no_greetings(instance: Instance) -> None:
    """Where user data name a member, its unit gets the settings, and hello does not start."""
    arn = f"arn:aws:secretsmanager:{REGION}:123456789012:secret:hello/etcd-abcdef"
    cursor = instance.cursor()
    try:
        instance.restart(f"ETCD_NAME=m0\nETCD_SECRET={arn}\nLOG_GROUP=/hello\n", wait=False)
        until(lambda: instance.show("hello", "ConditionResult") == "no", "hello to stay off")
        assert instance.run("cat", "/run/hello/etcd") == f'ETCD_NAME="m0"\nETCD_SECRET="{arn}"\n'
        assert instance.run("ls", "/run/hello") == "agent\netcd\n"
        instance.run("systemctl", "start", "--no-block", "etcd-member")
        # It is told no address: it waits, and says so. tests/system/ami/test_ami_etcd.py has whole members.
        until(lambda: "etcd-member: KeyError; trying again" in instance.journal(cursor), "its word")
        assert instance.run("systemctl", "is-enabled", "etcd.service", check=False).strip() == "masked"
    finally:
        instance.run("systemctl", "stop", "etcd-member", check=False)
        instance.restart(USER_DATA)
