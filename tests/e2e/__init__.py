"""The contract over a real socket, against any service: `pytest tests/e2e --url https://…`."""
