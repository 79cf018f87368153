"""Variables, ``${A:-b}``, arithmetic and ``$(expr …)`` of a shell, computed without a shell."""

from __future__ import annotations

import ast
import fnmatch
import operator
import re
from dataclasses import dataclass

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
REFERENCE = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*|[0-9@*#?$!-])")
INSIDE = re.compile(r"(#?)([A-Za-z_][A-Za-z0-9_]*|[0-9@*])(\[[^\]]*\])?(.*)", re.DOTALL)
OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
SUM = re.compile(r"[0-9\s+*/%()-]{1,200}")
MOST_NUMBERS = 1000
"""Numbers that ``$(seq …)`` may give."""
DEEPEST = 20
"""Variables within variables."""
LONGEST = 100_000
"""Characters of a variable: a few lines that double one would fill the memory."""
LONGEST_CUT = 5_000
"""Characters of a value of which an end is cut off by a pattern."""


@dataclass(frozen=True)
class Piece:
    """A part of a word: in quotes or not; `literal` where nothing in it is to be replaced."""

    text: str
    quoted: bool = False
    literal: bool = False


def closing_of(text: str, start: int, mark: str) -> int:
    """Where the next `mark` stands; the end of the text where there is none."""
    found = text.find(mark, start)
    return len(text) if found < 0 else found


def substitution_end(text: str, position: int) -> int:
    """Where the ``$…`` or the text in backquotes that begins here ends."""
    if text[position] == "`":
        return min(closing_of(text, position + 1, "`") + 1, len(text))
    for opening, closing in (("(", ")"), ("{", "}")):
        if text.startswith(f"${opening}", position):
            depth, place = 0, position + 1
            while place < len(text):
                depth += (text[place] == opening) - (text[place] == closing)
                place += 1
                if not depth:
                    break
            return place
    found = REFERENCE.match(text, position)
    return found.end() if found else position + 1


class Expander:
    """The variables of a script, and what words with them say.

    `unread` gathers what only running could tell; it stays in the word as it is written.
    """

    def __init__(self) -> None:
        self.unread: list[str] = []
        self._values: dict[str, str] = {}
        self._lists: dict[str, list[str]] = {}
        self._unread_of: dict[str, tuple[str, ...]] = {}
        self._depth = 0

    def value(self, name: str) -> str | None:
        """The value of a variable; None where it is not set."""
        self.unread += [why for why in self._unread_of.get(name, ()) if why not in self.unread]
        if name in self._lists:
            return " ".join(self._lists[name])
        return self._values.get(name)

    def assign(self, name: str, value: str, *, more: bool = False, unread: tuple[str, ...] = ()) -> None:
        """Set a variable; with `more` the value is put behind the one that it has.

        `unread` is what could not be read of the value: it is said where the variable is used.
        """
        self._unread_of[name] = unread
        self._lists.pop(name, None)
        value = (self._values.get(name, "") + value) if more else value
        if len(value) > LONGEST:
            value, self._unread_of[name] = "", (*unread, f"${name} is longer than {LONGEST:,} characters")
        self._values[name] = value

    def assign_list(self, name: str, values: list[str], *, more: bool = False) -> None:
        """Set an array, or with `more` make it longer."""
        whole = [*(self._lists.get(name, []) if more else []), *values]
        self._lists[name] = whole if sum(map(len, whole)) + len(whole) <= LONGEST else []

    def words(self, pieces: list[Piece]) -> list[str]:
        """The words that a word of the script becomes: more than one where a variable holds several."""
        words: list[str] = []
        current: str | None = None
        for piece in pieces:
            if piece.quoted:
                array = self._array(piece.text) if not piece.literal else None
                if array is not None:
                    words += [*([current] if current else []), *array]
                    current = None
                    continue
                current = (current or "") + (piece.text if piece.literal else self._inside(piece.text))
                continue
            array, known = self._array(piece.text), len(self.unread)
            text = " ".join(array) if array is not None else self._inside(piece.text)
            whole = piece.literal or not piece.text.startswith(("$", "`")) or len(self.unread) > known
            if whole:
                current = (current or "") + text
                continue
            fields = text.split()
            if fields and text[:1].isspace() and current is not None:
                words.append(current)
                current = None
            for number, word in enumerate(fields):
                if number and current is not None:
                    words.append(current)
                    current = None
                current = (current or "") + word
            if fields and text[-1:].isspace() and current is not None:
                words.append(current)
                current = None
        return [*words, *([current] if current is not None else [])]

    def text(self, pieces: list[Piece]) -> str:
        """The same as one text, as in an assignment."""
        return "".join(piece.text if piece.literal else self._inside(piece.text) for piece in pieces)

    def _array(self, text: str) -> list[str] | None:
        found = re.fullmatch(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\[[@*]\]\}", text)
        return self._lists.get(found[1]) if found else None

    def _inside(self, text: str) -> str:
        """A text with what it refers to put in."""
        if "$" not in text and "`" not in text and "\\" not in text:
            return text
        found: list[str] = []
        place = 0
        while place < len(text):
            char = text[place]
            if char == "\\" and place + 1 < len(text):
                found.append(text[place + 1] if text[place + 1] in '"\\$`' else text[place + 1].join(("\\", "")))
                place += 2
            elif char in "$`":
                end = substitution_end(text, place)
                found.append(self._value(text[place:end]))
                place = end
            else:
                found.append(char)
                place += 1
        return "".join(found)

    def _value(self, text: str) -> str:
        """What ``$NAME``, ``${…}``, ``$(…)``, ``$((…))`` or `…` says; itself where that is not known."""
        if len(text) < 2 or self._depth > DEEPEST:
            return text
        self._depth += 1
        try:
            if text.startswith("$(("):
                found = self._arithmetic(text[3:].removesuffix(")").removesuffix(")"))
            elif text.startswith(("$(", "`")):
                found = self._command(text[2:-1] if text[0] == "$" else text[1:-1])
            elif text.startswith("${"):
                found = self._parameter(text[2:-1])
            else:
                found = self.value(text[1:])
        finally:
            self._depth -= 1
        if found is None:
            simple = text.startswith("$") and NAME.fullmatch(text.strip("${}"))
            why = "is not set in the script" if simple else "cannot be read without running it"
            self.unread.append(f"{text} {why}")
            return text
        return found

    def _arithmetic(self, text: str) -> str | None:
        """The whole number that an expression of literals and variables is."""
        text = self._inside(text)
        known = NAME.sub(lambda found: self.value(found[0]) or found[0], text)
        if not SUM.fullmatch(known):
            return None
        try:
            return str(_computed(ast.parse(known.strip().replace("/", "//"), mode="eval").body))
        except (SyntaxError, ValueError, ZeroDivisionError, OverflowError, RecursionError, MemoryError):
            return None

    def _command(self, text: str) -> str | None:
        """What ``expr`` and ``seq`` print; any other program is not run."""
        name, _, rest = self._inside(text).strip().partition(" ")
        if name == "expr":
            return self._arithmetic(rest.replace("\\*", "*").replace("'*'", "*").replace('"*"', "*"))
        if name == "echo" and re.fullmatch(r"[\w./:+, -]+", rest):
            return rest.strip()
        if name == "seq" and re.fullmatch(r"-?\d{1,9}( +-?\d{1,9}){0,2}", rest.strip()):
            numbers = [int(word) for word in rest.split()]
            first, step, last = {1: (1, 1, numbers[-1]), 2: (numbers[0], 1, numbers[-1])}.get(
                len(numbers), (numbers[0], numbers[len(numbers) // 2], numbers[-1])
            )
            counted = range(first, last + (1 if step > 0 else -1), step) if step else range(0)
            return " ".join(map(str, counted)) if len(counted) <= MOST_NUMBERS else None
        return None

    def _parameter(self, text: str) -> str | None:
        """``NAME:-default`` and its kin."""
        found = INSIDE.fullmatch(text)
        if not found:
            return None
        length, name, index, rest = found.groups()
        known = self._element(name, index) if index else self.value(name)
        if length:
            return str(len(self._lists[name])) if name in self._lists else (None if known is None else str(len(known)))
        mark = re.match(r":?[-=+?]", rest)
        if mark:
            return self._default(mark[0], name, known, rest[mark.end() :])
        if known is None or not rest:
            return known
        return _cut(known, self._inside(rest))

    def _default(self, mark: str, name: str, known: str | None, word: str) -> str | None:
        missing = known is None or (mark[0] == ":" and not known)
        if mark[-1] == "+":
            return "" if missing else self._inside(word)
        if not missing:
            return known
        if mark[-1] == "?":
            return None
        value = self._inside(word.strip("\"'"))
        if mark[-1] == "=":
            self.assign(name, value)
        return value

    def _element(self, name: str, index: str) -> str | None:
        inner = self._inside(index[1:-1])
        known = self._lists.get(name, [])
        if inner in ("@", "*"):
            return " ".join(known) if name in self._lists else None
        place = int(inner) if re.fullmatch(r"-?\d{1,6}", inner) else None
        return known[place] if place is not None and -len(known) <= place < len(known) else None


def _cut(value: str, rest: str) -> str | None:
    """``%suffix``, ``#prefix``, ``/from/to``, ``:from:length`` and ``,,`` / ``^^`` of a value."""
    if rest in (",,", "^^"):
        return value.lower() if rest == ",," else value.upper()
    if slice_of := re.fullmatch(r": ?(-?\d{1,6})(?::(\d{1,6}))?", rest):
        start = int(slice_of[1])
        return value[start:][: int(slice_of[2])] if slice_of[2] else value[start:]
    if replaced := re.fullmatch(r"(//?)([^/]+)/?(.*)", rest):
        return value.replace(replaced[2], replaced[3], -1 if replaced[1] == "//" else 1)
    mark = re.match(r"%%|%|##|#", rest)
    if not mark or len(value) > LONGEST_CUT:
        return None
    pattern = rest[mark.end() :]
    ends = range(len(value) + 1)
    cuts = [value[:end] if mark[0][0] == "%" else value[end:] for end in ends]
    gone = [value[end:] if mark[0][0] == "%" else value[:end] for end in ends]
    fitting = [kept for kept, cut in zip(cuts, gone, strict=True) if fnmatch.fnmatchcase(cut, pattern)]
    if not fitting:
        return value
    return min(fitting, key=len) if len(mark[0]) == 2 else max(fitting, key=len)


def _computed(node: ast.expr) -> int:
    """The number that arithmetic of whole numbers is. Raises ValueError for anything else."""
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_computed(node.operand)
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        number = OPERATORS[type(node.op)](_computed(node.left), _computed(node.right))
        if abs(number) < 2**63:
            return int(number)
    raise ValueError("no arithmetic of whole numbers")
