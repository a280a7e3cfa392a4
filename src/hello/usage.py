"""What is wrong with a command line or a setting, said to a person.

A value is named as it is where it comes from: a flag, a variable, a key of a file. What a validator
refuses is not repeated: a URL may hold a password.
"""

from cyclopts import (
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    Token,
    UnknownCommandError,
    UnusedCliTokensError,
    ValidationError,
)

TAKES = {bool: "true or false", int: "a whole number", float: "a number"}


class UsageError(Exception):
    """What was asked for can't be done as it was asked; the message tells what to do."""


def explain(error: CycloptsError) -> str:
    """Return what is wrong, and where to read on."""
    command = " ".join(["hello", *(error.command_chain or ())])
    return f"{_reason(error)}\nTry `{command} --help`."


def _reason(error: CycloptsError) -> str:
    match error:
        case UnknownCommandError(unused_tokens=[str(option), *_]) if option.startswith("-"):
            return f"Unknown option: {option}. Name a command first; its options follow it."
        case UnusedCliTokensError(unused_tokens=[str(argument), *_]):
            return f'Unexpected argument: "{argument}".'
        case MissingArgumentError(keyword=str(flag)):
            return f"{flag} needs a value."
        case MissingArgumentError(argument=argument) if argument is not None:
            return f"{argument.name} is missing."
        case ValidationError(argument=argument) if argument is not None and argument.tokens:
            return f"Invalid value for {_place(argument.tokens[0])}. {error.exception_message}"
        case CoercionError(token=Token() as token, target_type=kind) if kind in TAKES:
            return f'Invalid value "{token.value}" for {_place(token)}: it takes {TAKES[kind]}.'
        case _:
            return str(error)


def _place(token: Token) -> str:
    return f"{token.keyword}" if token.source in {"cli", "env"} else f"{token.keyword} in {token.source}"
