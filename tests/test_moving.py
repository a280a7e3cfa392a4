"""People moved between any two stores, and `hello migrate`."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.people import write_csv
from tests.support import HELLO, ROOT, hello
from tests.test_stores import STORES

PEOPLE = ROOT / "examples" / "people.csv"
FIGURES = re.compile(r"614 people, digest [0-9a-f]{64}")
