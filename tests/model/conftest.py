"""Requests to decode come from the same place as those of the decoder's own tests."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "ingest"))
