"""The command ``jaxtl``, also ``python -m jaxtl``."""

from __future__ import annotations

import sys

from jaxtl.huge_pages import restart_with_huge_pages


def main() -> int:
    """The command line in huge pages; gives its exit code."""
    restart_with_huge_pages()
    from jaxtl.cli import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
