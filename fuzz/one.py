"""Fuzz one target with the options of libFuzzer, or try the inputs in files.

`python -m fuzz.one NAME [OPTION …] [FOLDER | FILE …]`
"""

import sys

import atheris

with atheris.instrument_imports(include=["csv", "hello", "json", "urllib", "uvicorn.protocols"]):
    from fuzz.targets import TARGETS, TOGETHER

if __name__ == "__main__":
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, {**TARGETS, "together": TOGETHER}[name].check)
    atheris.Fuzz()
