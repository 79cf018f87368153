"""Read a shell script without running it: words, variables, quotes, loops over literals.

Every command of it becomes one `Call`, in the order of the file. What only running could tell stays as it is written
and is said in `Call.unread`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tunekit.recipes.importers.expansion import Expander, Piece, closing_of, substitution_end

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_CALLS = 1000
"""Commands that are read of one script; loops in loops end here."""

MOST_STEPS = 100_000
"""Commands that are followed, those inside loops as often as the loop runs."""

OPENERS = {"if": "fi", "while": "done", "until": "done", "case": "esac"}
ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(\[[^\]]*\])?(\+?)=")
SEPARATORS = (";;", "&&", "||", "|&", "|", "&", ";", "\n", "(", ")")
REDIRECTION = re.compile(r"(\d*|&)(>>|>&|>\||<<<|<&|<>|>|<)(&?\d+-?|&-)?")
PLACEHOLDER = re.compile(r"<[^\s<>|&;()'\"`$][^<>|&;()'\"`\n]{0,60}>")
HEREDOC = re.compile(r"\d*<<(-?)[ \t]*(['\"]?)([A-Za-z0-9_]+)\2")
STEPS = ("set", "export", "declare", "local", "readonly", "typeset")


@dataclass(frozen=True)
class Call:
    """A command of a script: its words, each with its line, and the variables that are set for it."""

    words: tuple[tuple[str, int], ...]
    env: dict[str, str] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    folder: str = ""

    @property
    def line(self) -> int:
        """Where it begins."""
        return self.words[0][1]


@dataclass
class _Token:
    """A word in its pieces, or a separator (`pieces` is None)."""

    text: str
    line: int
    pieces: list[Piece] | None = None


def read_script(text: str) -> list[Call]:
    """The commands of a script; they are not executed."""
    reader = _Script()
    reader.run(_commands(list(_tokens(text))))
    return reader.calls


def _commands(tokens: list[_Token]) -> list[list[_Token]]:
    """The words between separators; of a line that begins with a flag, joined to the command before it."""
    commands: list[list[_Token]] = [[]]
    previous = ""
    for token in tokens:
        if token.pieces is not None:
            if not commands[-1] and token.text.startswith("--") and previous == "\n" and len(commands) > 1:
                commands.pop()  # a comment, or a forgotten backslash, in the middle of a command
                token.text = f"\0{token.text}"
            commands[-1].append(token)
            previous = ""
            continue
        if commands[-1]:
            commands.append([])
        previous = token.text
    return [command for command in commands if command]


def _tokens(text: str) -> Iterator[_Token]:
    """Words and separators; comments, redirections and here-documents are taken out."""
    position, line, end = 0, 1, len(text)
    heredocs: list[str] = []
    while position < end:
        char = text[position]
        if text.startswith("\\\n", position):
            position, line = position + 2, line + 1
        elif char in " \t\r":
            position += 1
        elif char == "#":
            position = _line_end(text, position)
        elif found := HEREDOC.match(text, position):
            heredocs.append(found[3])
            position = found.end()
        elif not PLACEHOLDER.match(text, position) and (redirection := REDIRECTION.match(text, position)):
            position = redirection.end()
            position = position if redirection[3] else _word(text, _behind_spaces(text, position))[1]
        elif separator := next((mark for mark in SEPARATORS if text.startswith(mark, position)), ""):
            yield _Token(separator, line)
            position += len(separator)
            line += separator == "\n"
            while heredocs and separator == "\n":
                position, line = _after_heredoc(text, position, line, heredocs.pop(0))
        else:
            pieces, after = _word(text, position)
            yield _Token(text[position:after], line, pieces)
            line += text.count("\n", position, after)
            position = max(after, position + 1)


def _behind_spaces(text: str, position: int) -> int:
    return len(text) - len(text[position:].lstrip(" \t"))


def _line_end(text: str, position: int) -> int:
    found = text.find("\n", position)
    return len(text) if found < 0 else found


def _after_heredoc(text: str, position: int, line: int, name: str) -> tuple[int, int]:
    while position < len(text):
        end = _line_end(text, position)
        content = text[position:end].strip()
        position, line = end + 1, line + 1
        if content == name:
            break
    return position, line


def _word(text: str, position: int) -> tuple[list[Piece], int]:
    """The pieces of the word that begins here, and where it ends."""
    pieces: list[Piece] = []
    end = len(text)
    while position < end:
        char = text[position]
        placeholder = PLACEHOLDER.match(text, position)
        if text.startswith("\\\n", position):
            position += 2
        elif placeholder:
            pieces.append(Piece(placeholder[0], quoted=True, literal=True))
            position = placeholder.end()
        elif char == "\\" and position + 1 < end:
            pieces.append(Piece(text[position + 1], quoted=True, literal=True))
            position += 2
        elif char == "'" or text.startswith("$'", position):
            start = position + 1 + (char == "$")
            close = closing_of(text, start, "'")
            pieces.append(Piece(text[start:close], quoted=True, literal=True))
            position = close + 1
        elif char == '"':
            close = _double_quoted(text, position + 1)
            pieces.append(Piece(text[position + 1 : close], quoted=True))
            position = close + 1
        elif char in "$`":
            after = substitution_end(text, position)
            pieces.append(Piece(text[position:after]))
            position = after
        elif char == "(" and pieces and text[position - 1] == "=":  # A=(one two)
            close = closing_of(text, position + 1, ")")
            pieces.append(Piece(text[position : close + 1], literal=True))
            position = close + 1
        elif char in " \t\r\n;|&()<>":
            break
        else:
            pieces.append(Piece(char))
            position += 1
    return pieces, position


def _double_quoted(text: str, position: int) -> int:
    """Where a text in double quotes ends; there may be substitutions in it, with quotes of their own."""
    while position < len(text) and text[position] != '"':
        if text[position] == "\\":
            position += 2
        elif text[position] in "$`":
            position = substitution_end(text, position)
        else:
            position += 1
    return min(position, len(text))


class _Script:
    """The variables of a script while its commands are followed."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._expander = Expander()
        self._exported: dict[str, str] = {}
        self._folder = ""
        self._notes: list[str] = []
        self._steps = 0

    def run(self, commands: list[list[_Token]]) -> None:
        index = 0
        while index < len(commands) and len(self.calls) < MOST_CALLS and self._steps < MOST_STEPS:
            self._steps += 1
            command = commands[index]
            head = command[0].text.lstrip("\0")
            if head == "for":
                index = self._loop(commands, index)
                continue
            if head in OPENERS:
                self._note(command[0], f"`{head}` is not followed: what is inside it is read as if it held")
            while command and command[0].text in {"if", "then", "else", "elif", "do", "while", "until", "{", "!"}:
                command = command[1:]
            if command and command[0].text not in {"fi", "done", "esac", "}", "case", "function", "in"}:
                self._simple(command)
            index += 1

    def _note(self, token: _Token, words: str) -> None:
        self._notes.append(f"line {token.line}: {words}")

    def _loop(self, commands: list[list[_Token]], index: int) -> int:
        """Follow ``for NAME in WORDS; do …; done`` once for each word; gives where it goes on."""
        head = commands[index]
        depth, end = 0, index
        while end < len(commands):
            first = [token.text.lstrip("\0") for token in commands[end][:2]]
            depth += any(word in {"for", "while", "until"} for word in first)
            depth -= first[0] == "done"
            if not depth:
                break
            end += 1
        body = commands[index + 1 : end]
        if body and body[0][0].text == "do":
            body = [body[0][1:], *body[1:]] if len(body[0]) > 1 else body[1:]
        if len(head) < 3 or head[2].text != "in":
            self._note(head[0], "this loop is read once: what it runs over is not a list of words")
            self.run(body)
            return end + 1
        values = [word for token in head[3:] for word in self._expand(token)]
        for value in values:
            self._steps += 1
            if self._steps < MOST_STEPS:
                self._expander.assign(head[1].text, value)
                self.run(body)
        return end + 1

    def _expand(self, token: _Token) -> list[str]:
        pieces = token.pieces or []
        if token.text.startswith("\0"):
            self._note(token, "the command goes on here although the line before it does not end with a backslash")
        words = self._expander.words(pieces)
        for unread in self._expander.unread:
            self._note(token, unread)
        self._expander.unread.clear()
        return words

    def _simple(self, command: list[_Token]) -> None:
        """A command: assignments, ``cd``, or a call."""
        local: dict[str, str] = {}
        rest = list(command)
        if rest[0].text in STEPS:
            exported = rest.pop(0).text == "export"
            for token in rest:
                self._assign(token, self._exported if exported else None)
            return
        before = len(self._notes)
        while rest and ASSIGNMENT.match(rest[0].text):
            self._assign(rest.pop(0), local)
        if not rest:  # assignments alone stay, and what cannot be read of them is said where they are used
            del self._notes[before:]
            self._exported |= {name: value for name, value in local.items() if name in self._exported}
            return
        words = [(word, token.line) for token in rest for word in self._expand(token)]
        unread, self._notes = tuple(dict.fromkeys(self._notes)), []
        if words and words[0][0] == "cd":
            self._folder = words[1][0] if len(words) > 1 else ""
        elif words:
            self.calls.append(Call(tuple(words), self._exported | local, unread, self._folder))

    def _assign(self, token: _Token, into: dict[str, str] | None) -> None:
        found = ASSIGNMENT.match(token.text)
        if not found:
            known = self._expander.value(token.text)  # export NAME
            if into is not None and known is not None:
                into[token.text] = known
            return
        name, index, more = found[1], found[2], bool(found[3])
        value = token.text[found.end() :]
        if value.startswith("("):
            inner = [word for part in _tokens(value[1:].rpartition(")")[0]) for word in self._expand(part)]
            self._expander.assign_list(name, inner, more=more)
            return
        if index:
            return
        pieces = (token.pieces or [])[found.end() :]  # each sign of NAME= is a piece of its own
        text = self._expander.text(pieces)
        unread = tuple(dict.fromkeys(self._expander.unread))
        self._expander.unread.clear()
        self._expander.assign(name, text, more=more, unread=unread)
        if into is not None and unread:
            self._note(token, f"{name} is not set: {'; '.join(unread)}")
        elif into is not None:
            into[name] = self._expander.value(name) or ""
