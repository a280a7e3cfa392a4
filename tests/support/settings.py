"""Settings as a command would parse them."""

import os
from typing import Any

import pytest

from hello.cli import app
from hello.settings import PREFIX, Settings


def read(*arguments: str, environment: dict[str, str] | None = None, command: str = "serve") -> Any:
    """Return the settings that a command would run with."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(PREFIX)]:
            patch.delenv(name)
        for name, value in (environment or {}).items():
            patch.setenv(name, value)
        _, bound, _ = app.parse_args([command, *arguments], exit_on_error=False, print_error=False)
    return bound.arguments.get("settings", Settings())
