"""What the tests of the release share: infra's scripts, moto behind a proxy, and a stub of terraform."""

import http.client
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.dynamodb import CREDENTIALS
from tests.support.dynamodb_proxy import Call, Proxy, Reply, forward
from tests.support.environment import HELLO, ROOT, need

REGION = "eu-west-1"
TARGETS = {
    "ecr": "AmazonEC2ContainerRegistry_V20150921",
    "ecs": "AmazonEC2ContainerServiceV20141113",
    "logs": "Logs_20140328",
    "secretsmanager": "secretsmanager",  # pragma: allowlist secret
}
Answering = Callable[[Call], Reply]
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
TERRAFORM = """#!/bin/bash
# As much of terraform as the scripts ask for; plan and apply may be played by a script of a test.
cd "$(dirname "$0")"
echo "$*" >>asked
case $1 in
output) cat outputs.json ;;
show) cat plan.json ;;
state) printf '# aws_lb.alb:\\n    dns_name = "%s"\\n    name     = "hello"\\n' "$(cat dns_name)" ;;
*) if [ -x "./$1" ]; then exec "./$1" "$@"; elif [ "$1" = plan ]; then exit 2; fi ;;
esac
"""


def commit(number: int) -> str:
    """Return the SHA of a made-up commit; those of different numbers share no beginning of 7."""
    return f"{number:08x}" * 5


def digest(number: int) -> str:
    """Return the digest of the image of a made-up commit."""
    return f"sha256:{number:064x}"


class Infra:
    """A folder with the scripts in it, for a registry and secrets of its own in moto."""

    def __init__(self, folder: Path, proxy: Proxy, name: str) -> None:
        self.folder = folder / "infra"
        self.stub = folder / "bin"
        self.proxy = proxy
        self.name = name
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "TF_VAR_", "HELLO_"))},
            **CREDENTIALS,
            "AWS_ENDPOINT_URL": proxy.address,
            "AWS_MAX_ATTEMPTS": "1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": str(folder / "no-config"),
            "AWS_SHARED_CREDENTIALS_FILE": str(folder / "no-credentials"),
            "NO_PROXY": "127.0.0.1,localhost",
            "CURL_HOME": str(folder),
            "PATH": f"{self.stub}:{os.environ['PATH']}",
        }
        self.folder.mkdir()
        self.stub.mkdir()
        for script in (ROOT / "infra").glob("*.sh"):
            self.real(script.name)
        self.play("terraform", TERRAFORM)
        (self.stub / "hello").symlink_to(HELLO)
        self.version = self.folder / "version.auto.tfvars.json"
        self.outputs(
            region=REGION,
            repository_name=name,
            repository_url=f"000000000000.dkr.ecr.{REGION}.amazonaws.com/{name}",
            architecture="ARM64",
            cluster=name,
            service=name,
            url="http://lb.test:5000",
            log_group=name,
            target_group_arn="arn:aws:elasticloadbalancing:eu-west-1:000000000000:targetgroup/hello/1",
            keys_secret=f"{name}/keys",
            integration_test_secret=f"{name}/integration-test",
        )
        (self.stub / "dns_name").write_text("lb.test")

    def real(self, script: str) -> None:
        """Put a script of the repository into the folder, also where `replace` put another."""
        shutil.copy(ROOT / "infra" / script, self.folder)

    def replace(self, script: str, text: str) -> None:
        """Put another in the place of a script, as what it does is not what a test looks at."""
        (self.folder / script).write_text(f"#!/bin/bash\n{text}\n")

    def play(self, command: str, text: str) -> None:
        """Put a script into the folder of stubs: `terraform`, or `plan` and `apply`, which it runs."""
        (self.stub / command).write_text(text)
        (self.stub / command).chmod(0o755)

    def outputs(self, **values: str | None) -> None:
        """Set what `terraform output` answers, beside what it had."""
        path = self.stub / "outputs.json"
        known = json.loads(path.read_text()) if path.exists() else {}
        new = {name: {"sensitive": False, "type": "string", "value": value} for name, value in values.items()}
        path.write_text(json.dumps(known | new))

    @property
    def asked(self) -> list[str]:
        """What the stub was asked, but for outputs."""
        lines = (self.stub / "asked").read_text().splitlines()
        return [line for line in lines if not line.startswith("output")]

    def aws(self, service: str, action: str, **payload: object) -> Any:
        """Ask moto for something, without a signature, which it does not look at."""
        connection = http.client.HTTPConnection(self.proxy.emulator, timeout=30)
        scope = f"Credential=test/20260101/{REGION}/{service}/aws4_request"
        headers = {
            "Authorization": f"AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0",
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": f"{TARGETS[service]}.{action}",
        }
        try:
            connection.request("POST", "/", json.dumps(payload), headers)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        assert answer.status == 200, body
        return json.loads(body or b"null")

    def push(self, number: int, *architectures: str, tag: str | None = None) -> None:
        """Push the image of a commit, for arm64 and amd64 unless told otherwise."""
        manifests = [
            {"digest": digest(number), "platform": {"architecture": each, "os": "linux"}}
            for each in architectures or ("amd64", "arm64")
        ]
        manifest = {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}
        self.put_image(number, manifest, tag)

    def put_image(self, number: int, manifest: Mapping[str, object], tag: str | None = None) -> None:
        """Push a manifest."""
        self.aws(
            "ecr", "PutImage", repositoryName=self.name, imageManifest=json.dumps(manifest),
            imageTag=tag or commit(number), imageDigest=digest(number),
        )  # fmt: skip

    def secret(self, name: str, value: str) -> None:
        """Make a secret."""
        self.aws("secretsmanager", "CreateSecret", Name=f"{self.name}/{name}", SecretString=value)

    def answer(self, **answers: Answering) -> None:
        """Have the proxy answer actions by functions, and forward all others."""
        self.proxy.play = lambda call: answers.get(call.action, forward)(call)

    def run(self, script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a script to its end."""
        return subprocess.run(
            [self.folder / script, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env={**self.environment, **environment},
            timeout=120,
            check=False,
        )

    def done(self, script: str, *arguments: str, **environment: str) -> str:
        """Run a script that has to succeed; return what it says."""
        done = self.run(script, *arguments, **environment)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def refused(self, script: str, *arguments: str, status: int = 1, **environment: str) -> str:
        """Run a script that has to fail, and leave version and folder as they were; return what it says."""
        before = self.version.read_bytes() if self.version.exists() else None
        names = sorted(path.name for path in self.folder.iterdir())
        done = self.run(script, *arguments, **environment)
        assert done.returncode == status, done.stderr
        assert (self.version.read_bytes() if self.version.exists() else None) == before
        assert sorted(path.name for path in self.folder.iterdir()) == names
        return done.stderr

    def chosen(self) -> tuple[str, str]:
        """Return commit and digest of the version that is chosen."""
        release = json.loads(self.version.read_text())["release"]
        return release["commit"], release["digest"]

    def choose(self, number: int) -> None:
        """Choose a version, as bump.sh does."""
        release = {"commit": commit(number), "digest": digest(number)}
        self.version.write_text(json.dumps({"release": release}))


def said(value: object) -> Answering:
    """Return what answers an action by this."""
    return lambda _: (200, json.dumps(value).encode())


def error(code: str, message: str) -> Answering:
    """Return what answers an action by an error of AWS."""
    return lambda _: (400, json.dumps({"__type": code, "message": message}).encode())


@pytest.fixture
def infra(tmp_path: Path, moto_server: str) -> Iterator[Infra]:
    """Give the scripts, with an empty registry."""
    need("aws")
    need("jq")
    proxy = Proxy(moto_server).start()
    made = Infra(tmp_path, proxy, f"hello-{tmp_path.parent.name}-{tmp_path.name}".lower().replace("_", "-"))
    made.aws("ecr", "CreateRepository", repositoryName=made.name)
    yield made
    proxy.stop()


# What is done with aws's answers is looked at with one that is fast; two tests have the real one.
AWS = r"""#!/bin/bash
while [[ $1 == --* ]]; do shift 2; done
target=$(sed -E 's/(^|-)(.)/\U\2/g' <<<"$2")
printf '%s\n' "${@:3}" |
  jq -nR '[inputs] | [range(0; length; 2) as $i | {key: .[$i][2:], value: .[$i + 1]}] | from_entries' |
  curl -sS -H "X-Amz-Target: fast.$target" -d @- "$AWS_ENDPOINT_URL"
"""


def changes(address: str, *actions: str, reason: str | None = None) -> dict[str, Any]:
    """Return a plan, as `terraform show -json` has it, that changes one thing."""
    kind = address.partition(".")[0]
    change = {"address": address, "type": kind, "change": {"actions": actions}, "action_reason": reason}
    return {"resource_changes": [change]}
