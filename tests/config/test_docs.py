"""The page of settings is current, and the tables of keys do not contradict each other."""

from __future__ import annotations

from pathlib import Path

from vivace.config.docs import main, render
from vivace.config.known import KnownKeys, read_unused
from vivace.config.settings import Settings

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_page_is_current(tmp_path: Path) -> None:
    assert main([str(tmp_path / "page.md")]) == 0
    assert (tmp_path / "page.md").read_text() == render()
    assert PAGE.read_text() == render(), "run python -m vivace.config.docs"


def test_no_key_is_both_used_and_without_effect() -> None:
    known = KnownKeys.of(Settings)
    for entry in read_unused():
        assert not known.is_used(entry.pattern), entry


def test_every_key_has_a_description() -> None:
    for line in render().splitlines():
        cells = line.split(" | ")
        if line.startswith("| `") and len(cells) == 4:
            assert len(cells[3].strip(" |")) > 5, line
            assert cells[3].rstrip(" |").endswith("."), line
