"""The emulated AWS from outside: its processes, and the commands that are run against it."""

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from rehearsal.journal import StageError
from rehearsal.owned import command, die_with_parent
from rehearsal.providers import CACHE, use_mirror

ROOT = Path(__file__).parent.parent
PYTHON_WITH_MOTO = ROOT / ".venv-emulators" / "bin" / "python"
START_SECONDS = 60
COMMAND_SECONDS = 600
REGION = "eu-central-1"
# Of the person's own environment: where Terraform finds its provider, and a proxy to get it through.
INHERITED = (
    "HOME",
    "LANG",
    "TMPDIR",
    "TF_CLI_CONFIG_FILE",
    "HTTPS_PROXY",
    "SSL_CERT_FILE",
)


class Server:
    """A process of ours with moto in it, on a port of loopback."""

    def __init__(self, module: str, *options: str, log: Path) -> None:
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [PYTHON_WITH_MOTO, "-m", module, *options],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,  # Ctrl-C is for us, and we end it
                preexec_fn=die_with_parent,
            )
        self.url = f"http://127.0.0.1:{self._port(log)}"

    def _port(self, log: Path) -> int:
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            selector.select(START_SECONDS)
        line = self._process.stdout.readline() if self._process.poll() is None else b""
        if not line:
            self.stop()
            raise StageError(f"The emulator does not start: {log.read_text()[-2000:]}")
        return int(line)

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def pause(self) -> None:
        """Have it answer nothing; connections are still taken."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Have it answer again."""
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it, and what it started."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


class Console:
    """Runs commands as an engineer would: in a copy of infra/, with credentials of the emulated account."""

    def __init__(self, folder: Path, address: str, aws: str, store: str, compute: str = "fargate") -> None:
        self.infra = folder / "infra"
        self._compute = compute
        self._logs = folder
        (folder / ".curlrc").write_text(f'connect-to = "::{address}:"\nnoproxy = "*"\n')
        self._environment = {
            **{name: os.environ[name] for name in INHERITED if name in os.environ},
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "AWS_ENDPOINT_URL": aws,
            "AWS_ENDPOINT_URL_DYNAMODB": store,
            "AWS_ACCESS_KEY_ID": "rehearsal",
            "AWS_SECRET_ACCESS_KEY": "rehearsal",  # pragma: allowlist secret
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": "2",
            "AWS_PAGER": "",
            "CHECKPOINT_DISABLE": "1",
            "CURL_HOME": str(folder),
            "NO_PROXY": "127.0.0.1,localhost",
            "TF_CLI_ARGS": "-no-color",
            "TF_PLUGIN_CACHE_DIR": os.environ.get("TF_PLUGIN_CACHE_DIR", str(CACHE)),
            "TF_IN_AUTOMATION": "1",
            "TF_VAR_compute": compute,
            "TF_VAR_region": REGION,
        }
        self._running: subprocess.Popen[bytes] | None = None
        self.check: Callable[[], object] = lambda: None  # raises what makes it useless to go on

    def run(self, name: str, *arguments: str, seconds: float = COMMAND_SECONDS) -> tuple[int, str]:
        """Run a command in infra/; return its exit status, and what it printed. `name`.log has that too.

        Raises:
            StageError: it does not end within the time.
        """
        log = self._logs / f"{name}.log"
        with log.open("ab") as output:
            begin = output.tell()
            environment = {**self._environment, "PYTHONPATH": str(ROOT)}
            self._running = subprocess.Popen(
                command(*arguments),
                cwd=self.infra,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=die_with_parent,
            )
        deadline = time.monotonic() + seconds
        try:
            while self._running.poll() is None:
                self.check()
                if time.monotonic() > deadline:
                    raise StageError(f"{' '.join(arguments)} did not end within {seconds:g} s: see {log}")
                with suppress(subprocess.TimeoutExpired):
                    self._running.wait(0.5)
        finally:
            self.stop()
        return self._running.returncode, log.read_bytes()[begin:].decode(errors="replace")

    def initialise(self) -> None:
        """Have Terraform fetch its provider.

        Raises:
            StageError: neither the registry nor this machine has it.
        """
        CACHE.mkdir(exist_ok=True)
        configuration = self._logs / ".terraformrc"
        initialising = ("terraform", "init", "-input=false", "-lockfile=readonly")
        if self.run("terraform", *initialising)[0] and use_mirror(configuration):
            self._environment["TF_CLI_CONFIG_FILE"] = str(configuration)
        self.must("terraform", *initialising)

    def must(self, name: str, *arguments: str, seconds: float = COMMAND_SECONDS) -> str:
        """Run a command that has to succeed; return what it printed.

        Raises:
            StageError: it failed.
        """
        status, said = self.run(name, *arguments, seconds=seconds)
        if status:
            raise StageError(f"{' '.join(arguments)} failed with status {status}:\n{said[-4000:]}")
        return said

    def aws(self, *arguments: str) -> str:
        """Run the AWS command line; return what it printed. It is not kept, for it may be a secret."""
        endpoint = ["--endpoint-url", self._environment["AWS_ENDPOINT_URL"]]
        done = subprocess.run(
            ["aws", *endpoint, "--output", "text", *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            preexec_fn=die_with_parent,
            check=False,
        )
        if done.returncode:
            raise StageError(f"aws {' '.join(arguments[:2])} failed: {done.stderr.strip()}")
        return done.stdout.strip()

    def secret(self, output: str) -> str:
        """Return what the secret holds whose ARN is an output of Terraform."""
        arn = self.must("outputs", "terraform", "output", "-raw", output)
        asked = ("--secret-id", arn, "--query", "SecretString")
        return self.aws("secretsmanager", "get-secret-value", *asked)

    def publish(self, commit: str) -> None:
        """Put what is made of a commit where bump.sh looks for it."""
        if self._compute == "ec2":
            self._register(commit)
        else:
            self._push(commit)

    def _register(self, commit: str) -> None:
        """Register an AMI of the commit, with the tags that image/hello.pkr.hcl gives it."""
        made = ("--name", f"hello-{commit[:12]}", "--architecture", "arm64", "--query", "ImageId")
        image = self.aws("ec2", "register-image", *made)
        self.aws(
            "ec2",
            "create-tags",
            "--resources",
            image,
            "--tags",
            "Key=Name,Value=hello",
            f"Key=Commit,Value={commit}",
        )

    def _push(self, commit: str) -> None:
        """Put an image of the commit into the registry, for both architectures: a manifest, and no layers."""
        manifests = [
            {
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": f"sha256:{commit}{number:024x}",
                "size": 1000,
                "platform": {"architecture": architecture, "os": "linux"},
            }
            for number, architecture in enumerate(("amd64", "arm64"))
        ]
        index = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": manifests,
        }
        repository = json.loads(self.must("outputs", "terraform", "output", "-json", "repository_name"))
        image = ["--image-tag", commit, "--image-manifest", json.dumps(index)]
        self.aws("ecr", "put-image", "--repository-name", repository, *image)

    def stop(self) -> None:
        """End the command that runs, if one does."""
        if self._running is not None and self._running.poll() is None:
            self._running.terminate()
            self._running.wait()
