"""polars, imported at first use: 40 MB of memory and a quarter of a second of each start, for the reads of single traces
and of attributes without a column. A server that is not asked for them does without.
"""

from __future__ import annotations

import threading
from types import ModuleType

_loading = threading.Lock()
_loaded: ModuleType | None = None


def polars() -> ModuleType:
    """The module, set up by one thread: several that ran their first query at once have been seen to wait for each other
    for ever, once in some hundred starts (polars 2.1)."""
    global _loaded
    with _loading:
        if _loaded is None:
            import polars as pl

            rows = pl.DataFrame({"row": [0, 1], "key": ["a", "b"]}).lazy().filter(pl.col("row").is_between(0, 1))
            rows.collect().to_arrow(compat_level=pl.CompatLevel.oldest())
            _loaded = pl
        return _loaded


def polars_errors() -> tuple[type[Exception], ...]:
    """What polars raises for a file that it cannot read, for an `except` clause; () while it is not loaded."""
    return () if _loaded is None else (_loaded.exceptions.PolarsError,)
