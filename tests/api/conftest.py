"""Random queries come from the same place as those that the engines are tested with."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "query"))
