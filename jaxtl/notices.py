"""What a user should know but need not act on, through the logger ``jaxtl``."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger("jaxtl")


class _StandardError(logging.Handler):
    """Writes to what ``sys.stderr`` is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        print(f"jaxtl: {record.getMessage()}", file=sys.stderr)


def say(message: str) -> None:
    """Logs one line at INFO.

    It goes to standard error, unless the program shows INFO itself or has given the logger ``jaxtl`` a level or a
    handler: then its settings alone decide. Handlers without a level for INFO say nothing, because importing absl's
    logging, which others do, already leaves one behind.
    """
    if not logger.handlers and logger.level == logging.NOTSET and not logger.isEnabledFor(logging.INFO):
        logger.addHandler(_StandardError())
        logger.setLevel(logging.INFO)
        logger.propagate = False
    logger.info(message)


@contextmanager
def quiet() -> Iterator[None]:
    """Says nothing inside the block."""
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
