"""Tests and doctests keep what they compute once in a folder of their own, not in the user's."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

os.environ["JAXTL_CACHE"] = tempfile.mkdtemp(prefix="jaxtl-tests-")
atexit.register(shutil.rmtree, os.environ["JAXTL_CACHE"], ignore_errors=True)
