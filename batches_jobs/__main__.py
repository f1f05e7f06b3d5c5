"""Runs the command line: ``python -m batches_jobs``."""

from ._cli.main import main

if __name__ == "__main__":
    main()
