"""testssl.sh against the service: protocols, ciphers, certificate, header fields, known vulnerabilities."""

import json
import os
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.conftest import Serve
from tests.support.certificates import Authority
from tests.support.environment import need

FINE = {"OK", "INFO", "LOW"}
UNSURE = ("WARN", "sessionresumption_ticket")  # its client may leave before TLS 1.3's ticket has come
# Everything but the simulated clients; two runs at a time, for testssl mostly waits. --fast has it try what
# OpenSSL can do itself: for ciphers, that would miss those that no OpenSSL of today has.
PARTS = {
    "offered": ["--fast", "--protocols", "--fs", "--server-preference", "--server-defaults", "--headers"],
    "weak": ["--std", "--vulnerable"],
}
# Findings of each part: without them, it was not run to its end.
EXPECTED = {
    "offered": {
        "SSLv2": "not offered",
        "SSLv3": "not offered",
        "TLS1": "not offered",
        "TLS1_1": "not offered",
        "TLS1_2": "offered",
        "PFS": "offered",
        "cipher_order": "server",
        "cert_chain_of_trust": "passed.",
        "HSTS_time": "365 days (=31536000 seconds) > 15552000 seconds",
        "X-Content-Type-Options": "nosniff",
    },
    "weak": {
        "cipherlist_NULL": "not offered",
        "cipherlist_AVERAGE": "not offered",
        "cipherlist_STRONG": "offered",
        "heartbleed": "not vulnerable, no heartbeat extension",
        "secure_client_renego": "not vulnerable",
        "CRIME_TLS": "not vulnerable",
        "LUCKY13": "not vulnerable",
        "RC4": "not vulnerable",
    },
}


def scan(port: int, authority: Authority) -> dict[str, list[dict[str, Any]]]:
    """Run testssl.sh on a port of this machine; return the findings of each part."""
    command = [need("testssl"), "--quiet", "--color", "0", "--warnings", "batch", "--nodns", "none"]
    command += ["--add-ca", str(authority.file)]
    with ExitStack() as stack:
        runs = []
        for part, options in PARTS.items():
            run = subprocess.Popen(
                [*command, *options, "--jsonfile", f"{part}.json", f"https://localhost:{port}/"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                # Neither is the engine for GOST ciphers missed, nor anybody asked but the service.
                env={**os.environ, "NO_ENGINE": "true", "PHONE_OUT": "false"},
                cwd=authority.folder,
            )
            stack.enter_context(run)
            stack.callback(run.kill)
            runs.append(run)
        for run in runs:
            run.wait(240)
    return {part: json.loads((authority.folder / f"{part}.json").read_text()) for part in PARTS}


def complaints(findings: list[dict[str, Any]]) -> list[str]:
    """Return what is worse than LOW, and what testssl warns that it could not test."""
    return [
        f"{f['severity']}: {f['id']}: {f['finding']}"
        for f in findings
        if f["severity"] not in FINE and (f["severity"], f["id"]) != UNSURE
    ]


def test_testssl_finds_nothing_above_low(serve: Serve, tmp_path: Path) -> None:
    """Each check of testssl.sh is passed, and each part was run; the service is as it was before."""
    authority = Authority(tmp_path)
    service = serve(*authority.server().options)
    for part, findings in scan(service.port, authority).items():
        assert complaints(findings) == []
        found = {finding["id"]: finding["finding"] for finding in findings}
        assert {name: found.get(name) for name in EXPECTED[part]} == EXPECTED[part]
    assert not any("raw" in entry or "exception" in entry for entry in service.log())
    assert service.stop() == 0
