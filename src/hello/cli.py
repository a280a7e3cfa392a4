"""The commands. `serve` puts the parts together: settings, store, application, server."""

import asyncio
import logging
import os
import shlex
import signal
import sys
from typing import TYPE_CHECKING

from cyclopts import App, CycloptsError, Group

from hello import __version__, commands, discover_command, key_commands
from hello.completion import add_completion
from hello.files import discard_output, flush_output
from hello.keys import Keys, KeysError
from hello.settings import Settings, effective
from hello.sources import ignore_empty_variables, read_toml, unknown_variables
from hello.stores import StoreError, open_store
from hello.terminal import complain
from hello.transfer import TemporaryFileError
from hello.usage import UsageError, explain

if TYPE_CHECKING:
    from hello.tls import Credentials

app = App(
    name="hello",
    help="Keep dates of birth under usernames, and greet people by them.",
    version=__version__,
    config=[ignore_empty_variables, read_toml],
    group_parameters=Group("Options", sort_key=0),
    help_format="markdown",
    help_epilogue="Settings are flags, HELLO_* variables, or keys of the TOML file that --config names.",
)
add_completion(app)


def run() -> int:
    """Run the command line; return the exit status: 2 where the command or a setting is wrong."""
    if sys.stderr is None:  # or what is said would go to standard output
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 - for as long as the process lives
    try:
        # cyclopts takes a lone - for an option; as a path this is the same.
        words = ["./-" if word == "-" else word for word in sys.argv[1:]]
        status = app(words, print_error=False, exit_on_error=False, result_action="return_value")
        flush_output()
    except CycloptsError as error:
        return complain(explain(error), 2)
    except (UsageError, KeysError, StoreError, TemporaryFileError) as error:
        return complain(str(error), 2)
    except BrokenPipeError:  # `hello export | head`
        discard_output()
        return 128 + signal.SIGPIPE
    return status or 0


@app.command(usage="hello serve [OPTIONS]")
def serve(*, settings: Settings = Settings()) -> int:
    """Serve people over HTTP.

    Stops on Ctrl-C or SIGTERM once what is in flight is answered; on the second signal at once.
    """
    from hello import listening, workers
    from hello.audit import open_file
    from hello.logs import set_up_logging

    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in the background of a shell
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if refusal := settings.refusal():
        raise UsageError(refusal)
    if settings.keys or settings.keys_file:
        Keys(settings.keys, settings.keys_file)  # to say at once what is wrong with them
    form = set_up_logging(settings.log)
    logger = logging.getLogger("hello")
    for warning in unknown_variables(os.environ):
        logger.warning("%s", warning)
    if settings.etcd is not None:
        from hello import etcd_access  # with an HTTP client that takes long to load

        etcd_access.check(settings)
    if settings.audit_log is not None:
        os.close(open_file(settings.audit_log))  # what is wrong with it is said once, not by each worker
    secured_by = _credentials(settings)
    if secured_by is None and settings.in_clear:
        logger.warning(
            "keys and tokens come in clear: give --tls-cert and --tls-key, or name what ends TLS by --proxies"
        )
    try:
        bound = listening.bind(settings.host, settings.port)
    except listening.AddressError as error:
        raise UsageError(str(error)) from error
    logger.info("starting", extra={"fields": {"version": __version__, "settings": effective(settings)}})

    def invite() -> None:
        if form == "text":
            print(_invitation(listening.url_of(bound, tls=secured_by is not None), settings), file=sys.stderr)
            if secured_by is not None:
                print(_about(secured_by), file=sys.stderr, flush=True)

    if settings.workers == 1:
        from hello import server  # later than `workers` would have set the environment up for its own

        server.run(settings, bound, secured_by, on_listening=invite)
        return 0
    asyncio.run(_check_store(settings))  # a store that can't be opened is said once, and not by each worker
    invite()
    return workers.Supervisor(settings, bound, secured_by).run()


app.command(commands.import_, name="import", usage="hello import [OPTIONS] [FILE]")
app.command(commands.export, usage="hello export [OPTIONS]")
app.command(commands.digest, usage="hello digest [OPTIONS]")
app.command(commands.migrate, usage="hello migrate [OPTIONS]")
app.command(commands.compact, usage="hello compact [OPTIONS]")
app.command(commands.birthdays, usage="hello birthdays [OPTIONS]")
app.command(discover_command.discover, usage="hello discover [OPTIONS]")
app.command(key_commands.app)


async def _check_store(settings: Settings) -> None:
    store = await open_store(settings.store, timeout=settings.store_timeout, patient=True, connections=1)
    await store.close()


def _credentials(settings: Settings) -> "Credentials | None":
    if settings.tls_cert is settings.tls_key is settings.tls_client_ca is None:
        return None
    from hello import tls  # its library for certificates takes long to load

    return tls.credentials(settings)


def _invitation(url: str, settings: Settings) -> str:
    body = '{"dateOfBirth":"1990-04-23"}'
    curl = 'curl -H "Authorization: Bearer $KEY"' if settings.has_rights else "curl"
    return (
        f"\n  hello is at {url}, and so is a page for your browser. Try:\n\n"
        f"    {curl} -X PUT -H 'Content-Type: application/json' -d '{body}' {url}/hello/Zoe\n"
        f"    {curl} {url}/hello/Zoe\n"
    )


def _about(secured_by: "Credentials") -> str:
    """Return what curl has to be told of the certificate, beside the URL."""
    lines = [
        f"The certificate is for {', '.join(secured_by.names) or 'no name'}: the URL has to have that name."
    ]
    if secured_by.self_signed:
        lines.append(f"curl needs --cacert {shlex.quote(str(secured_by.file))}.")
    else:
        lines.append("Where curl does not know the issuer, it needs --cacert and a file with the issuer's.")
    if secured_by.wants_clients:
        lines.append("It needs --cert and --key as well, with a certificate for the client.")
    return "".join(f"  {line}\n" for line in lines)
