"""No file of the repository holds a secret; what only looks like one is told by what it is, not where."""

import random
import string
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
from detect_secrets.core.secrets_collection import SecretsCollection
from detect_secrets.settings import get_settings, transient_settings

from tests.support.docs import PINNED
from tests.support.environment import ROOT, need

# Made up: a secret of these words is a test's or an example's. One that merely looks like one, and is not
# made of words, has "pragma: allowlist secret" on its line, with a reason where that is not plain.
MADE_UP = r"(?i)^(user:)?(test|bench|secret|s3cret|s%40crt|password|\*+)([%\\/@:].*)?$"
# Lines that hold no secret by their form: entity tags.
HARMLESS = [r'^etag: "[0-9a-f]{16}"$']


# What a project of this kind could hold: no keys of chats, payments and mailings, which take twice the time.
DETECTORS = [
    "AWSKeyDetector",
    "Base64HighEntropyString",
    "BasicAuthDetector",
    "GitHubTokenDetector",
    "HexHighEntropyString",
    "IPPublicDetector",
    "JwtTokenDetector",
    "KeywordDetector",
    "NpmDetector",
    "PrivateKeyDetector",
    "PypiTokenDetector",
]


@pytest.fixture(scope="module", autouse=True)
def detectors() -> Iterator[None]:
    """Our detectors, all filters that detect-secrets has by default, and what is made up."""
    plugins: list[dict[str, Any]] = [{"name": name} for name in DETECTORS]
    detector = ROOT / "tests" / "support" / "key_detector.py"
    plugins.append({"name": "HelloKeyDetector", "path": f"file://{detector}"})
    filters: list[dict[str, Any]] = [{"path": path} for path in get_settings().filters]
    filters += [
        {"path": "detect_secrets.filters.regex.should_exclude_secret", "pattern": [MADE_UP]},
        {"path": "detect_secrets.filters.regex.should_exclude_line", "pattern": HARMLESS},
    ]
    with transient_settings({"plugins_used": plugins, "filters_used": filters}):
        get_mapping_from_secret_type_to_class.cache_clear()  # it has not seen ours
        yield
    get_mapping_from_secret_type_to_class.cache_clear()


@pytest.mark.parametrize("name", ["terraform.tfvars", "production.tfvars", "version.auto.tfvars.json"])
def test_what_may_hold_keys_is_ignored_by_git(name: str) -> None:
    """Variables of Terraform, whatever environment the file is named after; the example is kept."""
    ignored = [need("git"), "check-ignore", "--quiet", "--no-index"]
    assert subprocess.run([*ignored, f"infra/{name}"], cwd=ROOT, check=False).returncode == 0
    example = subprocess.run([*ignored, "infra/terraform.tfvars.example"], cwd=ROOT, check=False)
    assert example.returncode == 1


def found(files: Iterable[Path]) -> list[str]:
    """Return where a secret is and of which kind, never the secret."""
    collection = SecretsCollection()
    for file in files:
        collection.scan_file(str(file))
    return sorted(f"{file}:{secret.line_number}: {secret.type}" for file, secret in collection)


def test_no_file_holds_a_secret() -> None:
    """In all files that are, or could be, committed nothing is found that could be a secret."""
    listed = subprocess.run(
        [need("git"), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    ).stdout.split("\0")[:-1]  # fmt: skip
    # These hold versions and hashes alone; test_supply_chain.py looks at each of their lines.
    files = {ROOT / name for name in listed} - set(PINNED)
    assert len(files) > 100
    seen = found(sorted(file for file in files if file.is_file()))
    assert not seen, "\n".join(seen)


# Made as the test runs, so that the repository holds none; the same in each run, since the detectors pass
# over some random strings.
RANDOM = random.Random(1)


def characters(count: int, alphabet: str = string.ascii_letters + string.digits) -> str:
    return "".join(RANDOM.choices(alphabet, k=count))


PLANTED = {
    "hello API key": f"hello_{characters(43)}",
    "AWS Access Key": "AKIA" + characters(16, string.ascii_uppercase + string.digits),
    "Private Key": f"-----BEGIN {'PRIVATE'} KEY-----",
    "Secret Keyword": f"password = '{characters(16)}'",
    "Basic Auth Credentials": f"postgresql://hello:{characters(16, '0123456789abcdef')}@db/hello",
}


@pytest.mark.parametrize("name", ["tests/unit/test_app.py", "docs/api.md", "src/hello/settings.py"])
def test_a_secret_is_found(name: str, tmp_path: Path) -> None:
    """Each kind that is planted in the code, the documentation or the tests is found, at its line."""
    copy = tmp_path / Path(name).name
    lines = (ROOT / name).read_text().splitlines()
    copy.write_text("\n".join([*lines, *PLANTED.values()]))
    seen = found([copy])
    for number, kind in enumerate(PLANTED, len(lines) + 1):
        assert f"{copy}:{number}: {kind}" in seen


@pytest.mark.parametrize("key", ["hello_" + "a" * 42, "hello_" + "a" * 44, "xhello_" + "a" * 43])
def test_what_is_no_key_is_not_found(key: str, tmp_path: Path) -> None:
    """A name that is shorter or longer than a key, or a part of another, is none."""
    (file := tmp_path / "file.py").write_text(f"{key} = 1\n")
    assert found([file]) == []
