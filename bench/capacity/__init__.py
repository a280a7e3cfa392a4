"""How many instances the service needs, what they cost, and what breaks first: `python -m bench.capacity`."""
