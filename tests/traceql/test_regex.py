"""What a pattern means is what RE2 says, the whole value matched."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from vivace.traceql import anchored

MATCHES = [
    # pattern, values that match, values that do not
    ("front", ["front"], ["frontend", "a front"]),
    ("front.*", ["front", "frontend", "front\nend"], ["a front"]),
    ("a|b", ["a", "b"], ["ab", "xa", "bx"]),
    ("", [""], ["a"]),
    ("a|", ["a", ""], ["b"]),
    (r"a\\E?", ["a\\", "a\\E"], ["a"]),
    (r"a\\C", ["a\\C"], ["ab"]),
    ("(?i)get", ["GET", "get"], ["gett"]),
    ("^a$", ["a"], ["a\n"]),
    (r"\d+", ["42"], ["٣", ""]),  # an Arabic-Indic digit is no \d of RE2
    (r"\D", ["٣"], ["4"]),
    (r"\w+", ["a_1"], ["é", "a b"]),
    (r"a\s", ["a ", "a\n"], ["a\xa0"]),
    (r"[\d\s]", ["1", " "], ["a"]),
    (r"[^\W]", ["a"], ["-", "é"]),
    (r"\Qa.b*\E+", ["a.b*", "a.b**"], ["axb", "a.b"]),
    (r"\Qa.b", ["a.b"], ["axb"]),
    (r"\101\x42\x{43}", ["ABC"], ["abc"]),
    (r"\pN\p{Greek}\p{^Greek}", ["1αa"], ["1aa", "1αα"]),
    ("[[a]", ["[", "a"], ["]"]),
    ("[a&&b]", ["a", "&", "b"], ["c"]),
    ("[+--]", ["+", ",", "-"], ["a"]),
    ("[]a]", ["]", "a"], ["b"]),
    ("[^]a]", ["b"], ["]", "a"]),
    (r"[\]\-x-z]", ["]", "-", "y"], ["w"]),
    ("[[:alpha:]-]+", ["a-b"], ["1"]),
    ("a{", ["a{"], ["a"]),
    ("a{,2}", ["a{,2}"], ["a", "aa"]),
    ("a{2}", ["aa"], ["a", "a{2}"]),
    ("a{1,}b", ["aab"], ["b"]),
    (r"\<a\>", ["<a>"], ["a"]),
    (r"\bé|a\b", ["a"], ["é"]),  # é is no word character of RE2
    (r"\{}]", ["{}]"], ["{}"]),
    ("(?P<n>a)(?:b)", ["ab"], ["a"]),
    (r"\A.\z", ["a", "\n"], ["ab"]),
]

REFUSED = {
    "(": "missing ): (",
    ")": "unexpected ): )",
    "a)(b": "unexpected ): a)(b",
    "[a": "missing ]: [a",
    "[b-a]": "invalid character class range: b-a",
    "[a-\\d]": "invalid escape sequence: \\d",
    "*": "no argument for repetition operator: *",
    "a**": "bad repetition operator: **",
    "a{2}{3}": "bad repetition operator: {2}{3}",
    "a{1001}": "invalid repetition size: {1001}",
    "a\\": "trailing \\",
    "(?=a)": "invalid perl operator: (?=",
    "(?<!a)": "invalid perl operator: (?<!",
    "(?x) a": "invalid perl operator: (?x",
    "\\8": "invalid escape sequence: \\8",
    "(a)\\1": "invalid escape sequence: \\1",
    "\\C": "invalid escape sequence: \\C",
    "\\Z": "invalid escape sequence: \\Z",
    "\\é": "invalid escape sequence: \\é",
    "\\p{Nope}": "invalid character class range: \\p{Nope}",
    "\\x{110000}": "invalid escape sequence: \\x{110000",
    "(a{1000}){1000}": "invalid repetition size: {1000}",
}


@pytest.mark.parametrize(("pattern", "matching", "others"), MATCHES)
def test_meaning(pattern: str, matching: list[str], others: list[str]) -> None:
    values = [*matching, *others]
    found = pc.match_substring_regex(pa.array(values), anchored(pattern)).to_pylist()
    assert found == [True] * len(matching) + [False] * len(others)


@pytest.mark.parametrize("pattern", REFUSED)
def test_refused(pattern: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the whole message is compared
        anchored(pattern)
    assert str(caught.value) == REFUSED[pattern]
