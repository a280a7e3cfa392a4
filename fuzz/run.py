"""Fuzz all targets in turn, and the API as a whole: `python -m fuzz.run --time SECONDS`.

Prints what ran; exits with 1 where something was found, and tells how to reproduce it.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from fuzz.targets import TARGETS, TOGETHER
from tests.support.environment import HELLO
from tests.support.service import Service

ROOT = Path(__file__).parent.parent
WORK = ROOT / ".fuzz"  # corpora and findings, kept from run to run
PYTHON = ".venv-fuzz/bin/python"
JOBS = 2
SHARES = {"protocol": 4.0, "API": 4.0, "together": 4.0}  # of the time; all else has 1
EXAMPLES = 20  # sequences, after which the API is called with another seed
INPUT_BYTES = 2048
INPUT_SECONDS = 10  # an input that takes longer is a finding
START_SECONDS = 200  # beyond the time that a target is to run; later it hangs


class Outcome(NamedTuple):
    """How one target ended."""

    name: str
    runs: int
    seconds: float
    corpus: int
    finding: str


def fuzz(name: str, seconds: int) -> Outcome:
    """Fuzz one target for so long."""
    target = {**TARGETS, "together": TOGETHER}[name]
    slug = name.replace(" ", "-")
    corpus, findings = WORK / "corpus" / slug, WORK / "findings"
    for folder in (corpus, findings):
        folder.mkdir(parents=True, exist_ok=True)
    for seed in target.seeds:
        (corpus / sha256(seed).hexdigest()[:16]).write_bytes(seed)
    words = WORK / f"{slug}.dict"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in target.words or [b"\0"]))
    command = [
        *(
            PYTHON,
            "-m",
            "fuzz.one",
            name,
            str(corpus),
            f"-dict={words}",
            f"-artifact_prefix={findings}/{slug}-",
        ),
        *(f"-max_total_time={seconds}", f"-max_len={INPUT_BYTES}", f"-timeout={INPUT_SECONDS}"),
        "-print_final_stats=1",
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        timeout=seconds + START_SECONDS,
        check=False,
    )
    said = done.stderr.decode(errors="replace") + done.stdout.decode(errors="replace")
    runs = re.findall(r"stat::number_of_executed_units:\s+(\d+)", said) or re.findall(r"#(\d+)\t", said)
    artifact = re.findall(r"Test unit written to (\S+)", said)
    finding = ""
    if done.returncode or artifact:
        again = f"{PYTHON} -m fuzz.one {name!r} {' '.join(artifact)}"
        finding = f"{_last_words(said)}\nreproduce: PYTHONPATH=src:. {again}"
    elapsed = re.findall(r"Done \d+ runs in (\d+) second", said)
    return Outcome(
        name,
        int(runs[-1]) if runs else 0,
        float(elapsed[0]) if elapsed else seconds,
        len(list(corpus.iterdir())),
        finding,
    )


def call_the_api(seconds: int) -> Outcome:
    """Have schemathesis call a service, in sequences that the document's links make, for so long."""
    calls, begin, finding = 0, time.monotonic(), ""
    with TemporaryDirectory() as folder:
        service = Service(Path(folder)).start()
        try:
            for name, born in (("Zoe", "1990-04-23"), ("Adam", "2000-02-29")):
                service.put(name, born)
            pages = {path: service.get(f"{path}?limit=1&days=366") for path in ("/hello", "/birthdays")}
            cursors = json.dumps({path: page.json()["next"] for path, page in pages.items()})
            while not finding and time.monotonic() < begin + seconds:
                done = subprocess.run(
                    [
                        HELLO.with_name("schemathesis"),
                        f"--config-file={ROOT / 'tests' / 'support' / 'schemathesis.toml'}",
                        *(
                            "run",
                            f"{service.url}/openapi.json",
                            "--phases=stateful",
                            "--checks=all",
                            "--no-color",
                        ),
                        "--exclude-checks=negative_data_rejection",  # unknown parameters are passed over
                        *(f"--max-examples={EXAMPLES}", f"--seed={int.from_bytes(os.urandom(4), 'big')}"),
                    ],
                    capture_output=True,
                    cwd=folder,
                    env={**os.environ, "CURSORS": cursors, "PYTHONPATH": str(ROOT)},
                    text=True,
                    timeout=seconds + START_SECONDS,
                    check=False,
                )
                calls += sum(int(count) for count in re.findall(r"(\d+) generated", done.stdout))
                wrong = [e for e in service.log() if e.get("status") == 500 or "exception" in e or "raw" in e]
                if done.returncode or wrong:
                    finding = f"{done.stdout}{done.stderr}{wrong or ''}"
        finally:
            service.stop()
    return Outcome("API", calls, time.monotonic() - begin, 0, finding)


def main() -> int:
    """Return 1 where something was found."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--time", type=float, default=60, help="seconds in all")
    parser.add_argument("--only", choices=[*TARGETS, "API"], help="one target")
    parser.add_argument("--together", action="store_true", help="all targets but the API in one process")
    options = parser.parse_args()
    if not (ROOT / PYTHON).exists():
        print(f"{PYTHON} is missing: run `make fuzz`", file=sys.stderr)
        return 2
    names = [options.only] if options.only else ["API", *(["together"] if options.together else TARGETS)]
    share = options.time * min(JOBS, len(names)) / sum(SHARES.get(name, 1) for name in names)
    found = 0
    print(f"{'target':16}{'runs':>10}{'a second':>10}{'corpus':>8}")
    with ThreadPoolExecutor(JOBS) as pool:
        for outcome in pool.map(lambda name: _run(name, max(1, round(share * SHARES.get(name, 1)))), names):
            rate = outcome.runs / max(outcome.seconds, 1)
            print(f"{outcome.name:16}{outcome.runs:>10}{rate:>10.0f}{outcome.corpus or '-':>8}", flush=True)
            if outcome.finding:
                found += 1
                print(f"\n{outcome.finding}\n", flush=True)
    print(f"{found} findings" if found else "nothing found")
    return 1 if found else 0


def _run(name: str, seconds: int) -> Outcome:
    return call_the_api(seconds) if name == "API" else fuzz(name, seconds)


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


def _last_words(said: str) -> str:
    start = said.find("=== Uncaught Python exception")
    if start >= 0:
        return said[start:]
    return "\n".join(line for line in said.splitlines()[-30:] if not line.startswith("INFO:"))


if __name__ == "__main__":
    sys.exit(main())
