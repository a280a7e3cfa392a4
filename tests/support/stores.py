"""The stores that every contract test runs on."""

# Each names the fixture that returns the URL of an empty store. Both emulators stand for DynamoDB; the slower
# one, moto, is for `make test-all` (see tests/conftest.py).
STORES = ["sqlite", "postgresql", "dynalite", "moto"]
