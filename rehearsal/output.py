"""What tasks and instances write, as their log group has it."""

from datetime import UTC, datetime

from moto.logs.models import logs_backends

from rehearsal.tasks import Process


class Output:
    """Sends what processes wrote since the last time to a log group of moto."""

    def __init__(self, account: str, region: str) -> None:
        self._logs = logs_backends[account][region]
        self._read: dict[str, int] = {}  # bytes of each stream's process that are in the log

    def send(self, process: Process, group: str, stream: str) -> None:
        """Send the lines that are whole."""
        with process.log.open("rb") as output:
            output.seek(self._read.get(stream, 0))
            whole = output.read().rpartition(b"\n")[0]
        if not whole:
            return
        self._read[stream] = self._read.get(stream, 0) + len(whole) + 1
        now = int(datetime.now(UTC).timestamp() * 1000)
        self._logs.ensure_log_stream(group, stream)
        lines = whole.decode(errors="replace").splitlines()
        self._logs.put_log_events(group, stream, [{"timestamp": now, "message": line} for line in lines])
