"""Terraform in the tests: a copy of infra/ to work in, its provider, and AWS as an emulator."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rehearsal.providers import CACHE, use_mirror
from tests.support.aws_sdk import Sdk
from tests.support.environment import ROOT, missing, need

INFRA = ROOT / "infra"
PYTHON = ROOT / ".venv-emulators" / "bin" / "python"
UNTRACKED = (".terraform", "*.tfstate*", "terraform.tfvars", "*.auto.tfvars*", "backend.tf")
REGION = "us-east-1"
# An emulator's gap fails at once, in place of 25 retries.
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "s3cret",
    "AWS_REGION": REGION,
    "AWS_MAX_ATTEMPTS": "2",
}
# Go's garbage collector visits the provider's large schema again and again. Collecting at five times the heap
# saves 30 % of the processor time of `terraform test`, and takes 300 MB more.
GARBAGE = {"GOGC": "400"}


@dataclass(frozen=True)
class Infra:
    """A copy of infra/ in a folder of its own, initialised, with the variables that Terraform gets."""

    folder: Path
    environment: Mapping[str, str]

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a terraform command to its end; unless `check` is off, it has to succeed."""
        done = subprocess.run(
            [need("terraform"), *arguments],
            cwd=self.folder,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert done.returncode == 0 or not check, f"terraform {arguments[0]}:\n{done.stdout}{done.stderr}"
        return done

    def apply(self, *arguments: str, check: bool = True) -> str:
        """Apply without asking, and return all that is said."""
        done = self.run("apply", "-auto-approve", "-input=false", *arguments, check=check)
        return done.stdout + done.stderr

    def release(self, **release: str) -> None:
        """Say what is to run, as bump.sh does: commit, and digest or ami."""
        (self.folder / "version.auto.tfvars.json").write_text(json.dumps({"release": release}))

    def state(self) -> dict[str, Any]:
        """Return the local state, which is sooner read than asked for."""
        path = self.folder / "terraform.tfstate"
        return dict(json.loads(path.read_text())) if path.exists() else {"outputs": {}, "resources": []}

    def outputs(self) -> dict[str, Any]:
        """Return the outputs by name."""
        return {name: output["value"] for name, output in self.state()["outputs"].items()}

    def addresses(self) -> set[str]:
        """Return the addresses of all that Terraform has made."""
        return {
            f"{resource['type']}.{resource['name']}" + _index(instance)
            for resource in self.state()["resources"]
            if resource["mode"] == "managed"
            for instance in resource["instances"]
        }


def _index(instance: Mapping[str, Any]) -> str:
    return f"[{json.dumps(instance['index_key'])}]" if "index_key" in instance else ""


def initialised(folder: Path, environment: Mapping[str, str] | None = None) -> Infra:
    """Copy infra/ into a new folder, without what git ignores there, and initialise it.

    The provider comes from the registry, or where that can't be reached from a mirror on this machine.
    """
    ignored = shutil.ignore_patterns(
        ".terraform", "*.tfstate*", "terraform.tfvars", "*.auto.tfvars*", "backend.tf"
    )
    shutil.copytree(INFRA, folder, ignore=ignored)
    CACHE.mkdir(exist_ok=True)
    own = {"TF_IN_AUTOMATION": "1", "TF_CLI_ARGS": "-no-color", "TF_PLUGIN_CACHE_DIR": str(CACHE)}
    infra = Infra(folder, {**own, **GARBAGE, **(environment or {})})
    done = infra.run("init", "-input=false", "-lockfile=readonly", check=False)
    configuration = folder / ".terraform.rc"
    if done.returncode and use_mirror(configuration):
        infra = Infra(folder, {**infra.environment, "TF_CLI_CONFIG_FILE": str(configuration)})
        done = infra.run("init", "-input=false", "-lockfile=readonly", check=False)
    if done.returncode:
        missing(f"terraform init finds no AWS provider, in the registry or in a mirror:\n{done.stderr}")
    return infra


@contextmanager
def emulated_aws() -> Iterator[str]:
    """Run an emulated AWS, and give its address."""
    if not PYTHON.exists():
        missing("moto is not installed (make .venv/.stamps/emulators)")
    with subprocess.Popen(
        [PYTHON, "-m", "rehearsal.emulator", "--port", "0"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            port = process.stdout.readline().strip()
            assert port.isdigit(), f"the emulator did not start: status {process.wait()}"
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def variables(endpoint: str) -> dict[str, str]:
    """Return the environment that makes Terraform and other tools call the emulator, without asking."""
    return {**CREDENTIALS, "AWS_ENDPOINT_URL": endpoint, "TF_VAR_region": REGION}


@contextmanager
def begun(
    command: list[str], folder: Path, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[str]]:
    """Run a command beside the tests, and end it with them."""
    with subprocess.Popen(
        command, cwd=folder, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


class Applied:
    """infra/ applied to an emulated AWS of its own: first without a release, then with one."""

    def __init__(self, infra: Infra, endpoint: str, release: dict[str, str]) -> None:
        self.infra = infra
        self.environment = variables(endpoint)
        self._sdk = Sdk(PYTHON, endpoint, {**os.environ, **self.environment, "NO_PROXY": "127.0.0.1"})
        self.first = infra.apply()
        self.at_first = infra.addresses()
        infra.release(**release)
        self.second = infra.apply()
        self.outputs = infra.outputs()

    def aws(self, service: str, operation: str, **parameters: Any) -> Any:
        """Call an operation of the emulated AWS, which must succeed."""
        answer = self._sdk.call(service, operation, **parameters)
        assert "Error" not in answer, answer
        return answer

    def close(self) -> None:
        """End the process that calls the emulated AWS."""
        self._sdk.close()


@contextmanager
def applied_infra(folder: Path, release: dict[str, str], **settings: str) -> Iterator[Applied]:
    """Start an emulated AWS, apply a copy of infra/ to it, and yield both."""
    with emulated_aws() as endpoint:
        environment = {**variables(endpoint), **{f"TF_VAR_{name}": value for name, value in settings.items()}}
        applied = Applied(initialised(folder, environment), endpoint, release)
        yield applied
        applied.close()
