"""Tests and doctests keep what they compute once in a folder of their own, not in the user's; compiled programs too, so
that tests that need the same one compile it once."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

if "PYTEST_XDIST_WORKER" not in os.environ:  # the workers share their parent's
    os.environ["JAXTL_CACHE"] = tempfile.mkdtemp(prefix="jaxtl-tests-")
    atexit.register(shutil.rmtree, os.environ["JAXTL_CACHE"], ignore_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = os.path.join(os.environ["JAXTL_CACHE"], "compiled")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.05"
