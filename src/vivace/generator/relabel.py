"""`write_relabel_configs`: labels of each series as one endpoint wants them, and the series that it does not want.

Rule 1  a rule does what it does in Prometheus: anchored expressions, `$1` and `${name}` in replacements, empty values drop labels.
Rule 2  labels are worked out once: what became of them is kept, up to CACHE_SERIES series, by their encoded bytes.

Source: https://prometheus.io/docs/prometheus/latest/configuration/configuration/#relabel_config. Expressions are Python's.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Final

from ..config.remote_write import Relabel
from ..errors import ConfigError
from .write_request import decode_labels, encode_labels, join_series, series_of

CACHE_SERIES: Final = 100_000
"""Some 60 MB at most; beyond it everything is worked out anew, which costs about 20 µs a series."""

_REFERENCE: Final = re.compile(r"\$(?:(\$)|(\w+)|\{(\w+)\})")
_LABEL_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


class Relabeller:
    """The rules of one endpoint; used by one thread."""

    def __init__(self, rules: Sequence[Relabel], where: str) -> None:
        """`where` is the section that the rules come from. Raises ConfigError, naming the rule, for one that cannot be used."""
        self._rules = rules
        self._patterns = [_compile(rule, f"{where}[{place}]") for place, rule in enumerate(rules)]
        self._known: dict[bytes, bytes] = {}

    def request(self, request: bytes) -> tuple[bytes, int]:
        """The request with new labels, and how many of its series were dropped."""
        kept, dropped = [], 0
        for labels, rest in series_of(request):
            new = self._known.get(labels)
            if new is None:
                new = encode_labels(self.labels(dict(decode_labels(labels))).items())
                if len(self._known) >= CACHE_SERIES:
                    self._known.clear()
                self._known[labels] = new
            if new:
                kept.append((new, rest))
            else:
                dropped += 1
        return join_series(kept), dropped

    def labels(self, labels: dict[str, str]) -> dict[str, str]:
        """What the rules make of one series' labels; empty when the series is not wanted. May change the argument."""
        for rule, pattern in zip(self._rules, self._patterns, strict=True):
            made = _apply(rule, pattern, labels)
            if made is None:
                return {}
            labels = made
        return {name: value for name, value in labels.items() if value}


def _compile(rule: Relabel, where: str) -> re.Pattern[str]:
    if (
        rule.action in ("replace", "hashmod", "lowercase", "uppercase", "keepequal", "dropequal")
        and not rule.target_label
    ):
        raise ConfigError(f"{where}: action {rule.action} needs target_label", key=f"{where}.target_label")
    if rule.action == "hashmod" and not rule.modulus:
        raise ConfigError(f"{where}: action hashmod needs a modulus above 0", key=f"{where}.modulus")
    try:
        return re.compile(rule.regex, re.DOTALL)
    except re.error as error:
        raise ConfigError(f"{where}: cannot use regex {rule.regex!r}: {error}", key=f"{where}.regex") from error


def _apply(rule: Relabel, pattern: re.Pattern[str], labels: dict[str, str]) -> dict[str, str] | None:
    """The labels after one rule; None when it drops the series."""
    joined = rule.separator.join(labels.get(name, "") for name in rule.source_labels)
    match rule.action:
        case "keep":
            return labels if pattern.fullmatch(joined) else None
        case "drop":
            return None if pattern.fullmatch(joined) else labels
        case "keepequal":
            return labels if labels.get(rule.target_label, "") == joined else None
        case "dropequal":
            return None if labels.get(rule.target_label, "") == joined else labels
        case "labeldrop":
            return {name: value for name, value in labels.items() if not pattern.fullmatch(name)}
        case "labelkeep":
            return {name: value for name, value in labels.items() if pattern.fullmatch(name)}
        case "labelmap":
            matches = [(pattern.fullmatch(name), value) for name, value in labels.items()]
            return labels | {_expand(rule.replacement, found): value for found, value in matches if found}
        case "lowercase":
            return labels | {rule.target_label: joined.lower()}
        case "uppercase":
            return labels | {rule.target_label: joined.upper()}
        case "hashmod":
            # as Prometheus: the last 8 of the 16 bytes of MD5
            number = int.from_bytes(hashlib.md5(joined.encode(), usedforsecurity=False).digest()[8:])
            return labels | {rule.target_label: str(number % rule.modulus)}
        case "replace":
            found = pattern.fullmatch(joined)
            target = _expand(rule.target_label, found) if found else ""
            if found is None or not _LABEL_NAME.fullmatch(target):
                return labels
            return labels | {target: _expand(rule.replacement, found)}


def _expand(template: str, found: re.Match[str]) -> str:
    """`template` with its references filled in; a group that does not exist or took no part is empty, as in Go."""

    def value(reference: re.Match[str]) -> str:
        if reference[1]:
            return "$"
        name = reference[2] or reference[3]
        try:
            return found[int(name) if name.isdecimal() else name] or ""
        except IndexError:
            return ""

    return _REFERENCE.sub(value, template)
