"""`python -m refsample`: the command line."""

from __future__ import annotations

from refsample.cli import main

if __name__ == "__main__":
    main()
