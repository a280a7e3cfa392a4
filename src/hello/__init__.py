"""A greeting service: keeps each person's date of birth and greets them by it."""

__version__ = "0.1.0"
