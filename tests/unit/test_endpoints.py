"""Addresses: etcd's members, what is registered, and the name that it is registered under."""

import pytest

from hello.endpoints import advertised, endpoints, in_clear, instance_id


def test_members_are_urls() -> None:
    """Several are separated by commas; what is written in other ways becomes the same."""
    assert endpoints("http://127.0.0.1:2379, https://[2001:DB8::1]:2379/,https://etcd.example.org:1") == [
        "http://127.0.0.1:2379", "https://[2001:db8::1]:2379", "https://etcd.example.org:1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ["", "10.0.0.1:2379", "https://10.0.0.1", "https://10.0.0.1:2379,", "https://10.0.0.1:2379/v3", "ftp://a:1",
     "https://user:s3cret@10.0.0.1:2379", "https://10.0.0.1:99999", "https://[::1:2379", "https://a b:2379"],
)  # fmt: skip
def test_other_members_are_refused(text: str) -> None:
    """A message says what to write, and repeats nothing."""
    with pytest.raises(ValueError, match=r"^Give ") as refused:
        endpoints(text)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "clear"),
    [("https://10.0.0.1:1", False), ("http://127.0.0.1:1,http://localhost:1,http://[::1]:1", False),
     ("https://10.0.0.1:1,http://10.0.0.2:1", True), ("http://etcd:1", True)],
)  # fmt: skip
def test_what_is_in_clear(text: str, clear: bool) -> None:
    """http beyond this machine is."""
    assert in_clear(text) == clear


@pytest.mark.parametrize(
    ("text", "host", "port", "name"),
    [
        ("10.0.0.5", "10.0.0.5", None, "10-0-0-5-5000"),
        ("10.0.0.5:80", "10.0.0.5", 80, "10-0-0-5-80"),
        ("2001:db8::5", "2001:db8::5", None, "2001-0db8-0000-0000-0000-0000-0000-0005-5000"),
        ("[2001:db8::5]:80", "2001:db8::5", 80, "2001-0db8-0000-0000-0000-0000-0000-0005-80"),
        ("Web-1.example.org", "Web-1.example.org", None, "web-1-example-org-84a03cf5-5000"),
        ("web.1.example.org:80", "web.1.example.org", 80, "web-1-example-org-6aa6f206-80"),
    ],
)
def test_what_may_be_advertised(text: str, host: str, port: int | None, name: str) -> None:
    """Addresses and names, with a port or without; each has a label of its own."""
    assert advertised(text) == (host, port)
    assert instance_id(host, port or 5000) == name
    assert len(name) <= 63


def test_a_long_name_is_one_label() -> None:
    """What does not fit is cut, and the hash tells it from others."""
    names = [f"{'a' * 60}.{'b' * 60}.{letter}" for letter in "cd"]
    labels = {instance_id(name, 65535) for name in names}
    assert len(labels) == 2
    assert all(len(label) <= 63 for label in labels)


@pytest.mark.parametrize(
    "text",
    ["", ":80", "10.0.0.5:0", "10.0.0.5:65536", "10.0.0.256", "a_b", "a b", "[::1]80", "[a]:80", "a:b:c",
     "fe80::1%eth0", "-a", "1.2.3.4:80; shutdown"],
)  # fmt: skip
def test_what_may_not_be_advertised(text: str) -> None:
    """A message says what to write."""
    with pytest.raises(ValueError, match=r"^Give an address"):
        advertised(text)
