"""OpenTelemetry traces, with the extra `hello[otel]` and the standard OTEL_* variables."""

import asyncio
import logging
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Receive, Scope, Send

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

logger = logging.getLogger("hello.tracing")

FLUSH_SECONDS = 2.0
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def traced(app: ASGIApp, environ: Mapping[str, str]) -> ASGIApp:
    """Return the application with a span around each request, where OTEL_* variables ask for it."""
    wanted = "otlp" if any(environ.get(name) for name in ENDPOINTS) else "none"
    wanted = environ.get("OTEL_TRACES_EXPORTER") or wanted
    if wanted == "none" or environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return app
    try:
        return Traced(app, _exporter(wanted))
    except ImportError:
        logger.warning("OTEL_* variables ask for traces, which need the extra: pip install 'hello[otel]'")
    except ValueError as error:
        logger.warning("no traces: %s", error)
    return app


def _exporter(name: str) -> "SpanExporter":
    if name == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter()
    if name != "otlp":
        raise ValueError(f"OTEL_TRACES_EXPORTER is {name!r}; this service knows otlp, console and none.")
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()


class Traced:
    """ASGI middleware: a server span a request, under the caller's trace.

    Attributes are those of the semantic conventions for HTTP, save the path and the query: the one
    holds usernames, the other may hold what must not leave.
    """

    def __init__(self, app: ASGIApp, exporter: "SpanExporter") -> None:
        from opentelemetry import propagate, trace
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        self._app = app
        resource = Resource.create()
        if str(resource.attributes["service.name"]).startswith("unknown_service"):  # no variable names it
            resource = resource.merge(Resource({"service.name": "hello"}))
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("hello")
        self._extract = propagate.extract
        self._kind = trace.SpanKind.SERVER
        self._error = trace.StatusCode.ERROR

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        method = scope["method"]
        with self._tracer.start_as_current_span(
            method,
            self._extract(carrier),
            self._kind,
            {"http.request.method": method, "url.scheme": scope["scheme"]},
        ) as span:

            async def send_and_note(message: Message) -> None:
                if message["type"] == "http.response.start":
                    status = message["status"]
                    span.set_attribute("http.response.status_code", status)
                    if status >= 500:
                        span.set_status(self._error)
                await send(message)

            try:
                await self._app(scope, receive, send_and_note)
            finally:
                route = scope.get("hello.route", "unknown")
                span.set_attribute("http.route", route)
                span.update_name(f"{method} {route}")

    async def shutdown(self) -> None:
        """Send the spans that still wait, if their receiver takes them in time."""
        loop, sent = asyncio.get_running_loop(), asyncio.Event()

        def send() -> None:
            self._provider.shutdown()
            with suppress(RuntimeError):  # the loop has not waited
                loop.call_soon_threadsafe(sent.set)

        # A thread that nobody has to wait for: the exporter tries for longer than a stop may take.
        threading.Thread(target=send, daemon=True).start()
        with suppress(TimeoutError):
            await asyncio.wait_for(sent.wait(), FLUSH_SECONDS)
