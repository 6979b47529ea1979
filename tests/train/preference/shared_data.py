"""Where the public sets lie that may not be passed on; tests of them are skipped without."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED = Path("../shared/data")
needs_shared = pytest.mark.skipif(
    not SHARED.exists() and not os.environ.get("CI"), reason="needs ../shared"
)
