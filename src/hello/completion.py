"""Completion for the shell: cyclopts writes the script, this module mends and installs it."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from hello.terminal import say
from hello.usage import UsageError

Shell = Literal["bash", "zsh", "fish"]

_BASH_FIXES = {
    "  local cur prev\n": "  local cur prev IFS=$'\\n'\n",  # a file's name may have spaces
    "complete -F": "complete -o filenames -F",  # a folder goes on after its slash
}


def add_completion(app: App) -> None:
    """Give the app its --install-completion."""

    @app.command(name="--install-completion", usage="hello --install-completion [OPTIONS]", help_epilogue="")
    def install(
        *,
        shell: Annotated[Shell | None, Parameter(help="Shell to install it for; yours if left out.")] = None,
        output: Annotated[
            Path | None,
            Parameter(alias="-o", help="Only write the script to this file, for you to load."),
        ] = None,
    ) -> None:
        """Install completion for your shell.

        Writes a script to the folder where the shell keeps them and, for bash and zsh, a line to
        ~/.bashrc or ~/.zshrc. Done again, it renews the script.
        """
        from cyclopts.completion import ShellDetectionError

        try:
            path = app.install_completion(shell=shell, output=output, add_to_startup=output is None)
            script = path.read_text()
            for text, fixed in _BASH_FIXES.items():
                script = script.replace(text, fixed)
            path.write_text(script)
        except ShellDetectionError as error:
            raise UsageError("There is no telling which shell you use; name it with --shell.") from error
        except OSError as error:
            raise UsageError(f"{error.filename} can't be written: {error.strerror}.") from error
        say(f"wrote {path}" + ("; it works in each new shell" if output is None else ""))
