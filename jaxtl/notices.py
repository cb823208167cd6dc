"""What a user should know but need not act on, through the logger ``jaxtl``."""

from __future__ import annotations

import logging

logger = logging.getLogger("jaxtl")


def say(message: str) -> None:
    """Logs one line at INFO. Shown on standard error unless the program has set up logging of its own."""
    if not logger.handlers and not logging.getLogger().handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("jaxtl: %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    logger.info(message)
