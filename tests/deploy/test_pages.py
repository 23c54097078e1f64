"""The pages for those who run Vivace: what they name is there, what they tell to type is understood."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from vivace.commands import blocks, config_check, query
from vivace.config.flags import flag_names

from .test_monitoring import NAME, reported

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs" / f"{name}.md" for name in ("operating", "migrating-from-tempo", "troubleshooting")]
PARSERS = {"blocks": blocks._parser, "config": config_check._parser, "query": query._parser}

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


@pages
def test_links_and_files(page: Path) -> None:
    text = page.read_text()
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)]+)\)", text)]
    assert [t for t in targets if not (page.parent / t).exists()] == []
    named = re.findall(r"\bdeploy/[\w./-]*\w", text)
    assert [name for name in named if not (ROOT / name).exists()] == []


@pages
def test_metrics(page: Path) -> None:
    named = {name for name in NAME.findall(page.read_text()) if not name.endswith("_")}
    assert named - reported() == set()


@pages
def test_commands(page: Path) -> None:
    """Every command in code, with its placeholders taken as words and its options as given."""
    text = page.read_text().replace("\\|", "|")
    lines = re.findall(r"`((?:kubectl exec \S+ -- )?vivace [^`]+)`", text) + re.findall(
        r"^    (vivace .*)$", text, re.MULTILINE
    )
    assert lines
    for line in lines:
        words = shlex.split(re.sub(r"\[([^]…]*)[^]]*\]", r"\1", line), comments=True)
        words = words[words.index("vivace") + 1 :]
        if words[0] in PARSERS:
            needed = ["-config.file=F"] if words[0] != "query" and "-config.file" not in line else []
            PARSERS[words[0]]().parse_args([*words[1:], *needed])
        else:
            flag = words[0].lstrip("-").partition("=")[0]
            assert flag in [*flag_names(), "help"], line
