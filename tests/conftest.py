"""Tests of every room build their spans with builders.py."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
