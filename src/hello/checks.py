"""What the value of a flag or setting has to be."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import CoercionError, Parameter, Token


@dataclass(frozen=True)
class Within:
    """A validator that wants a number from `low` to `high`."""

    low: float
    high: float

    def __call__(self, _: type, value: float | None) -> None:
        if value is not None and not self.low <= value <= self.high:
            raise ValueError(f"Give a number from {self.low} to {self.high}.")


def parsed_by(parse: Callable[[str], object]) -> Callable[[type, Any], None]:
    """Return a validator that wants what `parse` takes without a ValueError, or nothing."""

    def validate(_: type, value: str | None) -> None:
        if value is not None:
            parse(value)

    return validate


def check_prefix(value: str) -> None:
    """Check a prefix of keys in etcd; raise ValueError."""
    if not re.fullmatch(r"(/[A-Za-z0-9_.-]+)+", value):
        raise ValueError("Give a key such as /skydns/local/hello, with no slash at its end.")


def check_host(value: str) -> None:
    """Check an address to listen on, as far as that goes without listening; raise ValueError."""
    if not value:
        raise ValueError("Give an address such as 127.0.0.1.")


def _whole_number(kind: type, tokens: Sequence[Token]) -> int:
    # By itself cyclopts rounds 1.5 and reads 0x10.
    if not re.fullmatch("-?[0-9]{1,18}", tokens[0].value):
        raise CoercionError(token=tokens[0], target_type=kind)
    return int(tokens[0].value)


WholeNumber = Annotated[int, Parameter(converter=_whole_number)]
