"""`python -m mqlog` is the `mqlog` command."""

from mqlog.cli import main

if __name__ == "__main__":
    main()
