"""Reading tokens for a recursive-descent parser: one token of lookahead, errors with their place, bounded recursion, precedence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from vivace.errors import TraceQLError
from vivace.traceql.ast import DEPTH_MAX
from vivace.traceql.lexer import Token, TokenKind, error_at, tokens

T = TypeVar("T")
Op = TypeVar("Op")


class Cursor:
    """`token` is the next token, not yet consumed; `previous` is the text of the last one that was."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.previous = ""
        self._tokens = tokens(text)
        self._nested = 0
        self.token: Token = next(self._tokens)

    def at(self, *texts: str) -> bool:
        """Whether the next token is one of these words or marks."""
        return self.token.kind in (TokenKind.WORD, TokenKind.PUNCTUATION) and self.token.text in texts

    def advance(self) -> Token:
        """Consume the next token; END stays."""
        token = self.token
        if token.kind is not TokenKind.END:
            self.previous = token.text
            self.token = next(self._tokens)
        return token

    def accept(self, text: str) -> bool:
        """Consume the next token if it is this word or mark."""
        if not self.at(text):
            return False
        self.advance()
        return True

    def expect(self, text: str, *, said: bool = True) -> Token:
        """Consume this word or mark. `said` is whether Tempo's text names what it expected here."""
        if not self.at(text):
            raise self.unexpected(*([text] if said else []))
        return self.advance()

    def unexpected(self, *expected: str, hint: str = "") -> TraceQLError:
        """The error of a next token that cannot stand here."""
        token, names = self.token, " or ".join(expected)
        message = f"syntax error: unexpected {token.shown}" + (f", expecting {names}" if names else "")
        if not hint and token.kind is TokenKind.IDENTIFIER:
            hint = self._misplaced_word_hint()
        return error_at(self.text, token.start, message, found=token.shown, expected=names, hint=hint)

    def unknown_identifier(self) -> TraceQLError:
        """The error of a word that TraceQL does not know, where a field or a value is expected."""
        word = self.token.text
        message = f"unknown identifier: {word}"
        return error_at(self.text, self.token.start, message, found=word, hint=unknown_word_hint(word))

    def _misplaced_word_hint(self) -> str:
        if self.token.text.startswith("'"):
            return unknown_word_hint(self.token.text)
        behind_digit = self.text[max(0, self.token.start - 1)] in "0123456789."
        return "durations are written with ns, us, ms, s, m, h, d, w or y: 1h30m, 1.5s" if behind_digit else ""

    @contextmanager
    def nested(self) -> Iterator[None]:
        """One level deeper, for each construct that contains itself; DEPTH_MAX bounds Python's stack."""
        if self._nested == DEPTH_MAX:
            raise too_deep(self.text, self.token.start)
        self._nested += 1
        yield
        self._nested -= 1


def too_deep(text: str, offset: int) -> TraceQLError:
    """The error of a query that is nested deeper than DEPTH_MAX."""
    message = f"nested more than {DEPTH_MAX} levels deep"
    return error_at(text, offset, message, hint="split the query, or group its operands with parentheses")


def unknown_word_hint(word: str) -> str:
    """What may have been meant by a word that TraceQL does not know."""
    if word.startswith("'"):
        return 'strings are written in double quotes or backquotes: "x"'
    return f"attributes are written with a scope: span.{word}, resource.{word} or .{word}"


@dataclass(frozen=True, slots=True)
class Grammar(Generic[T, Op]):
    """Infix operators between operands of one sort.

    `operators`  by their text: (level, operator); a higher level binds tighter.
    `operand`    parses one operand, prefix operators included.
    `build`      (operator, left, right, offset of the operator).
    `balanced`   operators whose runs become balanced trees, since regrouping does not change what they mean.
    `rightward`  operators that group to the right. All others group to the left.
    """

    operators: Mapping[str, tuple[int, Op]]
    operand: Callable[[], T]
    build: Callable[[Op, T, T, int], T]
    balanced: frozenset[Op] = frozenset()
    rightward: frozenset[Op] = frozenset()

    def parse(self, cursor: Cursor, level: int, first: T | None = None) -> T:
        """An expression of operators of at least `level`; `first` is its first operand if that is read already."""
        left = self.operand() if first is None else first
        while (found := self._next(cursor)) is not None and found[0] >= level:
            tighter, op = found[0] + 1, found[1]
            places = [cursor.advance().start]
            operands = [left, self.parse(cursor, tighter)]
            while (op in self.balanced or op in self.rightward) and self._next(cursor) == found:
                places.append(cursor.advance().start)
                operands.append(self.parse(cursor, tighter))
            left = self._rightward(op, operands, places) if op in self.rightward else self._halves(op, operands, places)
        return left

    def _next(self, cursor: Cursor) -> tuple[int, Op] | None:
        return self.operators.get(cursor.token.text) if cursor.token.kind is TokenKind.PUNCTUATION else None

    def _rightward(self, op: Op, operands: Sequence[T], places: Sequence[int]) -> T:
        """`places[i]` is where the operator between operands i and i + 1 stands."""
        right = operands[-1]
        for left, place in zip(operands[-2::-1], places[::-1], strict=True):
            right = self.build(op, left, right, place)
        return right

    def _halves(self, op: Op, operands: Sequence[T], places: Sequence[int]) -> T:
        """Places as in `_rightward`. Of three operands the first two go together, as in a group to the left."""
        if len(operands) == 1:
            return operands[0]
        middle = (len(operands) + 1) // 2
        left = self._halves(op, operands[:middle], places[: middle - 1])
        right = self._halves(op, operands[middle:], places[middle:])
        return self.build(op, left, right, places[middle - 1])
