"""How property-based tests run here: the same time for everybody, and nothing left behind in the checkout."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis.configuration import set_hypothesis_home_dir

settings.register_profile("house", deadline=None, database=None)
settings.load_profile("house")
# It keeps tables there that take longer to make than to read.
set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "owlclaw-up-hypothesis")
