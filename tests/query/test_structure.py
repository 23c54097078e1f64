"""Structural operators on one trace of every shape: a tree, an orphan, a ring, a client and a server with one id.

r (root)        o (parent missing)      x (ring: x and y are each other's parents, x is received first)
├ a             └ p                     └ y
│ ├ b
│ │ └ d
│ └ c
├ e
└ s (client)
  └ t (server, with the id of s)
    └ u
"""

from __future__ import annotations

from collections.abc import Iterator

import builders as b
import pytest
from engine import Engine, cut, engine

from vivace.storage import layout

CLIENT, SERVER = 3, 2

# name: id, parent's id, kind
TREE = {
    "r": (1, 0, 1),
    "a": (2, 1, 1),
    "b": (3, 2, 1),
    "c": (4, 2, 1),
    "d": (5, 3, 1),
    "e": (6, 1, 1),
    "s": (7, 1, CLIENT),
    "t": (7, 1, SERVER),
    "u": (8, 7, 1),
    "o": (10, 99, 1),
    "p": (11, 10, 1),
    "x": (20, 21, 1),
    "y": (21, 20, 1),
}

ALL = "".join(sorted(TREE))

# left side, operator, right side (names, or . for all), spans found
TABLE = [
    ("r", ">", ".", "aes"),
    ("a", ">", "bd", "b"),
    ("s", ">", ".", "t"),
    ("t", ">", ".", "u"),
    ("o", ">", ".", "p"),
    ("x", ">", ".", "y"),
    ("y", ">", ".", ""),
    ("d", ">", ".", ""),
    ("r", ">>", ".", "abcdestu"),
    ("ab", ">>", ".", "bcd"),
    ("s", ">>", ".", "tu"),
    ("x", ">>", ".", "y"),
    ("d", "<", ".", "b"),
    ("bc", "<", ".", "a"),
    ("ru", "<", ".", "t"),
    ("y", "<", ".", "x"),
    ("x", "<", ".", ""),
    ("d", "<<", ".", "abr"),
    ("u", "<<", ".", "rst"),
    ("p", "<<", ".", "o"),
    ("b", "~", ".", "c"),
    ("bc", "~", ".", "bc"),
    ("a", "~", ".", "es"),
    ("r", "~", ".", ""),
    ("o", "~", ".", ""),
    ("t", "~", ".", ""),
    (".", "!>", ".", "orx"),
    ("a", "!>", "bcd", "d"),
    ("", "!>", "ab", "ab"),
    (".", "!>>", ".", "orx"),
    ("b", "!>>", "abcd", "abc"),
    (".", "!<", ".", "cdepuy"),
    (".", "!<<", ".", "cdepuy"),
    ("d", "!<<", "abc", "c"),
    ("b", "!~", "abc", "ab"),
    ("rd", "&>", ".", "raes"),
    ("ae", "&>", "bd", "ab"),
    ("ae", "&>>", "cd", "acd"),
    ("cd", "&<", "a", "ac"),
    ("dc", "&<<", "b", "bd"),
    ("b", "&~", ".", "bc"),
    ("d", "&~", ".", ""),
    ("a", "&&", "e", "ae"),
    ("a", "&&", "", ""),
    ("", "||", "e", "e"),
    ("a", "||", "e", "ae"),
]


@pytest.fixture(scope="module", params=["head", "block", "many row groups"])
def tree(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The same tree in two traces, so that a relation that leaves its trace is seen."""
    spans = [
        b.span(trace, id, parent, name=name, kind=kind, start=b.NOON + 20 * trace + place)
        for trace in (1, 2)
        for place, (name, (id, parent, kind)) in enumerate(TREE.items())
    ]
    with pytest.MonkeyPatch.context() as patch, engine(tmp_path_factory.mktemp("tree")) as made:
        if request.param == "many row groups":
            patch.setattr(layout, "ROW_GROUP_SPANS", 2)
        made.house.send(b.request(*reversed(spans)))
        if request.param != "head":
            cut(made.house)
        yield made


@pytest.mark.parametrize(("left", "op", "right", "result"), TABLE, ids=[f"{x} {op} {y}" for x, op, y, _ in TABLE])
def test_operators(tree: Engine, left: str, op: str, right: str, result: str) -> None:
    answer = tree.search(f"{spans_named(left)} {op} {spans_named(right)} | select(name)")
    found = ["".join(sorted(str(span.name) for span in s.spans)) for trace in answer.traces for s in trace.spansets]
    assert found == (["".join(sorted(result))] * 2 if result else [])


def spans_named(names: str) -> str:
    return "{ }" if names == "." else f'{{ name =~ "[{names}]" }}' if names else "{ false }"


@pytest.mark.parametrize(("left", "op", "right", "result"), TABLE, ids=[f"{x} {op} {y}" for x, op, y, _ in TABLE])
def test_behind_a_stage_both_sides_are_of_its_spans(tree: Engine, left: str, op: str, right: str, result: str) -> None:
    """The structure is that of the whole trace."""
    answer = tree.search(f"{{ name != `a` }} | {spans_named(left)} {op} {spans_named(right)} | select(name)")
    whole = tree.search(f"{without_a(left)} {op} {without_a(right)} | select(name)")
    assert [t.spansets for t in answer.traces] == [t.spansets for t in whole.traces]


def without_a(names: str) -> str:
    return f"({spans_named(names)} | {{ name != `a` }})"


NUMBERS = [
    ("nestedSetParent = -1", "r"),
    ("nestedSetParent = 0", "ox"),
    ("nestedSetLeft = 1", "r"),
    ("nestedSetRight = 18", "r"),
    ("nestedSetRight = nestedSetLeft + 1", "cdepuy"),
    ("span:childCount = 3", "r"),
    ("span:childCount = 2", "a"),
    ("span:childCount = 0", "cdepuy"),
]


@pytest.mark.parametrize(("condition", "names"), NUMBERS)
def test_numbers(tree: Engine, condition: str, names: str) -> None:
    traces = tree.search(f"{{ {condition} }} | select(name)").traces
    assert ["".join(sorted(str(s.name) for s in trace.spansets[0].spans)) for trace in traces] == [names] * 2
