"""A typed query as a tree, in the language of Argilla's search box: Elasticsearch's simple_query_string.

    parse('+cats dogs | "black bird" -fish* (a | b)')

A blank or + is "and", | is "or", - before a word is "not", "..." are words side by side, * lets a word go on, ( ) group.
It is read from left to right, and none of these binds tighter than another. Nothing is an error: a sign that is no
operator where it stands is passed over. ~1, which asks for words that are spelt like it, is read as if it were not there.
https://www.elastic.co/guide/en/elasticsearch/reference/current/query-dsl-simple-query-string-query.html"""

import re
from dataclasses import dataclass

_DEEPEST = 32  # brackets inside brackets; Python's stack ends at a thousand
_NEARLY = re.compile(r"~\d*")


@dataclass(frozen=True)
class Term:
    """Words side by side; with `is_prefix` the last may go on."""

    text: str
    is_prefix: bool = False


@dataclass(frozen=True)
class Not:
    """What does not hold `part`."""

    part: "Part"


@dataclass(frozen=True)
class Group:
    """A first part, then ("and" or "or", part) applied one after the other to what was found so far."""

    first: "Part"
    rest: tuple[tuple[str, "Part"], ...]


Part = Term | Not | Group


def parse(query: str) -> Part | None:
    """Return the query's tree, None when it holds no letter and no digit to look for."""
    return _Reader(query).group(0)


class _Reader:
    def __init__(self, query: str):
        self.query, self.at = query, 0

    def group(self, depth: int) -> Part | None:
        """Return what is read up to the bracket that closes this group, or the end."""
        parts: list[tuple[str, Part]] = []
        operator, is_not = "", False
        while self.at < len(self.query):
            letter = self.query[self.at]
            if letter == "-":
                is_not, self.at = not is_not, self.at + 1
                continue
            if letter == ")" and depth:
                self.at += 1
                break
            if letter in "+|":
                self.at += 1
                if parts and not operator:
                    operator = "and" if letter == "+" else "or"
            elif letter.isspace() or letter == ")" or (letter == "(" and depth == _DEEPEST) or self._is_lone_quote():
                self.at += 1
            else:
                part = self._part(depth)
                if part is not None:
                    parts.append((operator or "and", Not(part) if is_not else part))
                operator = ""
            is_not = False  # not even a blank may stand between - and its word
        if len(parts) < 2:
            return parts[0][1] if parts else None
        return Group(parts[0][1], tuple(parts[1:]))

    def _part(self, depth: int) -> Part | None:
        match self.query[self.at]:
            case "(":
                self.at += 1
                return self.group(depth + 1)
            case '"':
                return self._phrase()
        return self._word()

    def _is_lone_quote(self) -> bool:
        return self.query[self.at] == '"' and self.query.find('"', self.at + 1) < 0

    def _phrase(self) -> Term | None:
        end = self.query.index('"', self.at + 1)
        text, self.at = self.query[self.at + 1 : end], end + 1
        if nearly := _NEARLY.match(self.query, self.at):
            self.at = nearly.end()
        return _term(text)

    def _word(self) -> Term | None:
        letters: list[str] = []
        is_prefix = False
        while self.at < len(self.query) and not (self.query[self.at].isspace() or self.query[self.at] in '"|+()'):
            is_prefix = self.query[self.at] == "*"
            if self.query[self.at] == "\\" and self.at + 1 < len(self.query):
                self.at += 1  # the next letter is a letter, whatever it is
            letters.append(self.query[self.at])
            self.at += 1
        text = "".join(letters)
        return _term(text.rstrip("*") if is_prefix else re.sub(r"~\d*$", "", text), is_prefix)


def _term(text: str, is_prefix: bool = False) -> Term | None:
    return Term(text, is_prefix) if any(letter.isalnum() for letter in text) else None
