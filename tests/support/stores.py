"""The stores that every contract test runs on."""

# Each names the fixture that gives the URL of an empty store.
STORES = ["sqlite", "postgresql", "moto", "dynalite"]
