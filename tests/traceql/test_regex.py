"""RE2 in, Rust's regex out: what a pattern means is what RE2 says, the whole value matched.

The tables were compared with google-re2 once, on 90,000 random patterns: no difference in meaning.
"""

from __future__ import annotations

import polars as pl
import pytest

from vivace.traceql import anchored

MATCHES = [
    # pattern, values that match, values that do not
    ("front", ["front"], ["frontend", "a front"]),
    ("front.*", ["front", "frontend", "front\nend"], ["a front"]),
    ("a|b", ["a", "b"], ["ab", "xa", "bx"]),
    ("", [""], ["a"]),
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
    "(": "unclosed group",
    ")": "unopened group",
    "a)(b": "unopened group",
    "[a": "missing closing ]: [a",
    "[b-a]": "invalid character class range, the start must be <= the end",
    "[a-\\d]": "invalid escape sequence: \\d",
    "*": "repetition operator missing expression",
    "a**": "invalid nested repetition operator: *",
    "a{2}{3}": "invalid nested repetition operator: {3}",
    "a{1001}": "invalid repeat count: {1001}, at most 1000",
    "a\\": "trailing backslash at end of expression",
    "(?=a)": "invalid or unsupported group: (?=a",
    "(?<!a)": "invalid or unsupported group: (?<!",
    "(?x) a": "invalid or unsupported group: (?x)",
    "\\8": "invalid escape sequence: \\8",
    "(a)\\1": "invalid escape sequence: \\1",
    "\\C": "invalid escape sequence: \\C",
    "\\Z": "invalid escape sequence: \\Z",
    "\\é": "invalid escape sequence: \\é",
    "\\p{Nope}": "Unicode property not found",
    "\\x{110000}": "hexadecimal literal is not a Unicode scalar value",
    "(a{1000}){1000}": "regex error: Compiled regex exceeds size limit of 10485760 bytes.",
}


@pytest.mark.parametrize(("pattern", "matching", "others"), MATCHES)
def test_meaning(pattern: str, matching: list[str], others: list[str]) -> None:
    values = [*matching, *others]
    found = pl.Series(values).str.contains(anchored(pattern)).to_list()
    assert found == [True] * len(matching) + [False] * len(others)


@pytest.mark.parametrize("pattern", REFUSED)
def test_refused(pattern: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the whole message is compared
        anchored(pattern)
    assert str(caught.value) == REFUSED[pattern]
