"""How requests end, whichever path they took: the answers to errors, and what is counted and logged."""

import logging
import random

from starlette.exceptions import HTTPException

from hello import problems
from hello.observability import Metrics
from hello.stores import StoreError

logger = logging.getLogger("hello.request")

SLOW_SECONDS = 1.0
REFUSALS = frozenset({401, 403, 421, 429})
PROBES = frozenset({"/hc", "/ready"})

Fields = list[tuple[bytes, bytes]]


class Outcomes:
    """Takes down the end of each request."""

    def __init__(self, metrics: Metrics, *, log_all: bool) -> None:
        self._metrics = metrics
        self.log_all = log_all

    def ended(
        self,
        request_id: bytes,
        route: str,
        method: str,
        status: int,
        seconds: float,
        caller: str = "",
        address: str = "",
    ) -> None:
        """Count a request, and log it where it failed, was slow, or all are to be logged.

        Where it was refused for want of rights or for its rate, the log tells the address too.
        """
        self._metrics.request(route, method, status, seconds, caller)
        if status < 400 and seconds < SLOW_SECONDS and not self.log_all:
            return
        level = logging.ERROR if status >= 500 else logging.WARNING if status >= 400 else logging.INFO
        if route in PROBES and status == 503:  # each stop makes them fail, as it should
            level = min(level, logging.WARNING)
        fields: dict[str, object] = {
            "request_id": request_id.decode(),
            "method": method,
            "route": route,
            "status": status,
            "duration": round(seconds, 6),
        }
        if caller:
            fields["caller"] = caller
        if status in REFUSALS:
            fields["address"] = address
        logger.log(level, "request", extra={"fields": fields})

    def overloaded(self, route: str, requests: int) -> None:
        """Log how many were refused together: a line for each would take longer than the refusal."""
        fields = {"route": route, "status": 503, "requests": requests}
        logger.error("overloaded", extra={"fields": fields})

    def problem(self, request_id: bytes, error: BaseException) -> tuple[int, Fields, bytes]:
        """Return status, header fields and body that answer an error, as the table of problems says."""
        if isinstance(error, HTTPException):  # Starlette's router, on the method
            allow = (error.headers or {}).get("Allow", "")
            error = problems.MethodNotAllowedError(", ".join(sorted(allow.split(", "))))
        kind = problems.kind_of(error)
        told = {"request_id": request_id.decode()}
        detail = ""
        if kind is problems.UNEXPECTED:
            logger.error("unexpected error", exc_info=error, extra={"fields": told})
        elif isinstance(error, StoreError):
            # The reason is for the operator: it can hold paths and addresses.
            logger.error("store: %s", error, extra={"fields": told})
        elif isinstance(error, ValueError | problems.AnswerWithHeadersError):
            detail = str(error)
        headers, body = problems.answer(kind, detail)
        if isinstance(error, problems.AnswerWithHeadersError):
            headers += error.headers
        return kind.status, headers, body


def make_id() -> bytes:
    """Return an id for a request that brings none."""
    return b"%032x" % random.getrandbits(128)
