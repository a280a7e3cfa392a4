"""Requests at random times, to the microsecond: `open_loop.py PORT RATE SECONDS NAMES`.

wrk's pauses are whole milliseconds, so that its requests come in bunches, which hello answers together. Here
they come one by one, as from people who know nothing of each other, whether the answers to the ones before
are there or not. It never sleeps: that costs a core. Prints what it saw, as JSON.
"""

import json
import random
import select
import socket
import sys
import time
from pathlib import Path

CONNECTIONS = 256
END = b"\r\n\r\n"


def run(port: int, rate: float, seconds: float, names: list[str]) -> dict[str, float]:
    """Send for `seconds`; return the rate, and the percentiles of the latency from when a request was due."""
    poll = select.epoll()
    sockets: dict[int, socket.socket] = {}
    for _ in range(CONNECTIONS):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        poll.register(connection, select.EPOLLIN)
        sockets[connection.fileno()] = connection
    requests = [f"GET /hello/{name} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() for name in names]
    free, sent, latencies = list(sockets), dict[int, float](), list[float]()
    start = due = time.perf_counter()
    while due < start + seconds or sent:
        now = time.perf_counter()
        while due <= now and due < start + seconds and free:
            number = free.pop()
            sockets[number].send(random.choice(requests))
            sent[number] = due
            due += random.expovariate(rate)
        for number, _ in poll.poll(0):
            answer = sockets[number].recv(65536)
            if not answer.startswith(b"HTTP/1.1 200 "):
                raise ValueError(f"An answer that is no greeting: {answer!r}.")
            if END in answer:  # with its body: hello sends both at once
                latencies.append(time.perf_counter() - sent.pop(number))
                free.append(number)
    latencies.sort()
    count = len(latencies)
    return {"rate": count / seconds, "p50": latencies[count // 2], "p99": latencies[count * 99 // 100]}


if __name__ == "__main__":
    at, per_second, duration, file = sys.argv[1:]
    print(json.dumps(run(int(at), float(per_second), float(duration), Path(file).read_text().split())))
