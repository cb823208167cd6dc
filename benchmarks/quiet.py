"""A machine without other work, as far as its load average tells."""

from __future__ import annotations

import os
import time

_MOST, _EVERY = 180, 5  # seconds


def quiet_until(cores: int) -> float:
    """The one-minute load average above which other work counts: 0.15 for each core.

    >>> quiet_until(2)
    0.3
    """
    return 0.15 * cores


def wait_for_quiet() -> float:
    """Waits until the load average has fallen, three minutes at most, and returns it.

    What ran here before keeps it up for two minutes or so: the load that is left then is that of others.
    """
    load, waited, most = os.getloadavg()[0], 0, quiet_until(len(os.sched_getaffinity(0)))
    if load > most:
        print(f"load average {load:.1f}: waiting until it is {most:.1f}, three minutes at most", flush=True)
    while load > most and waited < _MOST:
        time.sleep(_EVERY)
        load, waited = os.getloadavg()[0], waited + _EVERY
    if waited:
        print(f"load average {load:.1f} after {waited} seconds", flush=True)
    return load
