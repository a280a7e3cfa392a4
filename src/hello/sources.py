"""Where settings come from besides flags: HELLO_* variables and a TOML file."""

import tomllib
from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from cyclopts import App, ArgumentCollection, CycloptsError, Token

from hello.settings import PREFIX, Settings
from hello.usage import TAKES

_TOML_TYPES = {bool: (bool,), int: (int,), float: (int, float)}  # and text for all others


def ignore_empty_variables(_: App, __: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Take a variable that is set to nothing as not set (a cyclopts source, after its own of variables)."""
    for argument in arguments:
        if any(token.source == "env" and not token.value for token in argument.tokens):
            argument.tokens.clear()


def read_toml(_: App, __: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Fill what neither flag nor variable gave from the file of --config (a cyclopts source).

    Raises:
        CycloptsError: no such file, not TOML, a key that is no setting, a value of another type.
    """
    config = next(
        (argument.tokens[0] for argument in arguments if argument.name == "--config" and argument.tokens),
        None,
    )
    if config is None:
        return
    values = _parse(config)
    keys = [field.name.replace("_", "-") for field in fields(Settings) if field.name != "config"]
    for key in values:
        if key not in keys:
            raise CycloptsError(
                msg=f"There is no setting {key} (in {config.value}).{_did_you_mean(key, keys)}"
            )
    for argument in arguments:
        key = argument.name.removeprefix("--")
        if key in values and not argument.tokens:
            text = _as_text(values[key], argument.hint, f"{key} in {config.value}")
            argument.append(Token(keyword=key, value=text, source=config.value))


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """Return a warning for each HELLO_* variable that is no setting, with what was meant perhaps."""
    names = [field.name.upper() for field in fields(Settings)]
    given = sorted(name.removeprefix(PREFIX) for name in environ if name.startswith(PREFIX))
    return [
        f"{PREFIX}{name} is no setting of this version and was ignored.{_did_you_mean(name, names, PREFIX)}"
        for name in given
        if name not in names
    ]


def _parse(config: Token) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(config.value).read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror
    except UnicodeDecodeError:
        reason = "it is not UTF-8"
    except tomllib.TOMLDecodeError as error:
        reason = f"it is not TOML: {error}"
    raise CycloptsError(msg=f"{config.value}, named by {config.keyword}, can't be read: {reason}.")


def _as_text(value: object, kind: Any, place: str) -> str:
    """Return the value as a flag would give it, once its type is right."""
    if type(value) not in _TOML_TYPES.get(kind, (str,)):
        raise CycloptsError(msg=f"Invalid value for {place}: it takes {TAKES.get(kind, 'text in quotes')}.")
    return str(value)


def _did_you_mean(word: str, words: list[str], prefix: str = "") -> str:
    matches = get_close_matches(word, words, 1)
    return f" Did you mean {prefix}{matches[0]}?" if matches else ""
