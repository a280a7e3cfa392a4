"""What a GET from DynamoDB costs its client: hello's store beside aiobotocore, against the same stub.

The stub has the other core, and only the client's processor time counts: how fast a stub answers tells
nothing of DynamoDB.
"""

import json
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.people import write_sample
from bench.processes import BenchError, Command, Running, free_port, run
from bench.servers import HELLO, PEERS, PEERS_VENV, ROOT
from bench.throughput import PEOPLE, Plan, say

URL = "dynamodb://us-east-1/people"
CLIENTS = {"hello": HELLO, "hello-batches": HELLO, "aiobotocore": PEERS_VENV}
TITLES = {
    "hello": "hello, `get`",
    "hello-batches": "hello, `get_many` of 32",
    "aiobotocore": "aiobotocore, `get_item`",
}


def compare_clients(plan: Plan, folder: Path) -> Mapping[str, Sequence[float]]:
    """Measure the clients in turn, `plan.rounds` times.

    Return the seconds of processor time per person read, of each round of each client.
    """
    own = folder / "dynamodb"
    own.mkdir()
    names = own / "names"
    write_sample(names, PEOPLE)
    port = free_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
    }
    stub = Command(
        [HELLO / "python", ROOT / "bench" / "dynamodb_stub.py", str(port)], ready=lambda: _listens(port)
    )
    cpus: dict[str, list[float]] = {key: [] for key in CLIENTS}
    with Running([stub], own, plan.load_core):
        for number in range(1, plan.rounds + 1):
            for key, venv in CLIENTS.items():
                script = PEERS / "dynamodb_gets.py"
                arguments: list[str | Path] = [venv / "python", script, key, URL, names, str(plan.seconds)]
                cpus[key].append(_cpu(Command(arguments, environment), own, plan.server_core))
                say(f"round {number}: {TITLES[key]}: {cpus[key][-1] * 1e6:.0f} µs")
    return cpus


def _cpu(command: Command, folder: Path, core: int) -> float:
    run(command, folder, core)
    output = (folder / "run.log").read_text()
    result = json.loads(output.splitlines()[-1])
    if not result["gets"]:
        raise BenchError(f"The client read nothing:\n{output}")
    return float(result["cpu"] / result["gets"])


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
