"""`hello` and `python -m hello`."""

from hello.cli import main

if __name__ == "__main__":
    main()
