"""A stand-in of EC2's API, as far as a member of etcd asks it, that does what it is asked to machines."""

import re
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl

from rehearsal.machine import Machine
from rehearsal.metadata import CREDENTIALS
from rehearsal.volume import Volume
from rehearsal.vpc import GATEWAY, REGION

PORT = 5002
SCOPE = re.compile(
    rf"AWS4-HMAC-SHA256 Credential={CREDENTIALS['AccessKeyId']}/\d{{8}}/{REGION}/ec2/aws4_request,"
)


class RefusedError(Exception):
    """EC2 does not do it; the message is the code of the error."""


class Ec2:
    """Knows machines, volumes and addresses. It listens on the network of the thread that makes it."""

    def __init__(self) -> None:
        self.machines: dict[str, Machine] = {}  # by the instance's id
        self.volumes: dict[str, Volume] = {}
        self._assigned: dict[str, str] = {}  # addresses, and the interface of each
        self._one_at_a_time = threading.Lock()
        self._server = ThreadingHTTPServer((GATEWAY, PORT), self._handler())
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """What AWS_ENDPOINT_URL has to be."""
        return f"http://{GATEWAY}:{PORT}"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def terminate(self, machine: Machine) -> None:
        """Forget a machine that has ended, and take from it what it had."""
        instance, interface = machine.interface.instance, machine.interface.id
        with self._one_at_a_time:
            del self.machines[instance]
            self._assigned = {a: i for a, i in self._assigned.items() if i != interface}
            for volume in self.volumes.values():
                if volume.instance == instance:
                    volume.detach()

    def _do(self, asked: Mapping[str, str]) -> None:
        actions = {"AttachVolume": self._attach, "AssignPrivateIpAddresses": self._assign}
        if asked.get("Action") not in actions or asked.get("Version") != "2016-11-15":
            raise RefusedError("InvalidAction")
        with self._one_at_a_time:
            actions[asked["Action"]](asked)

    def _attach(self, asked: Mapping[str, str]) -> None:
        volume, machine = self.volumes.get(asked["VolumeId"]), self.machines.get(asked["InstanceId"])
        if volume is None:
            raise RefusedError("InvalidVolume.NotFound")
        if machine is None:
            raise RefusedError("InvalidInstanceID.NotFound")
        if volume.instance:
            raise RefusedError("VolumeInUse")
        volume.attach(machine)

    def _assign(self, asked: Mapping[str, str]) -> None:
        interfaces = {machine.interface.id: machine.interface for machine in self.machines.values()}
        interface, address = interfaces.get(asked["NetworkInterfaceId"]), asked["PrivateIpAddress.1"]
        if interface is None:
            raise RefusedError("InvalidNetworkInterfaceID.NotFound")
        if self._assigned.get(address, interface.id) != interface.id and asked["AllowReassignment"] != "true":
            raise RefusedError("InvalidParameterValue")
        self._assigned[address] = interface.id
        interface.assign(address)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        ec2 = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                if not SCOPE.match(self.headers["Authorization"] or ""):
                    return self._answer(401, "<Code>AuthFailure</Code>")
                try:
                    ec2._do(dict(parse_qsl(body)))
                except RefusedError as error:
                    return self._answer(400, f"<Code>{error}</Code>")
                return self._answer(200, "<return>true</return>")

            def _answer(self, status: int, text: str) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - named there
                """Say nothing."""

        return Handler
