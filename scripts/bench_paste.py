"""Count the commands of ms-swift that `tunekit` takes in the place of `swift`, and say why it refuses the others.

    python scripts/bench_paste.py FOLDER [--gpus 8x80] [--at DIR] [--verbose]

Nothing of a script is run: its variables, and sums of whole numbers (``$(expr 16 / $n)``), are put in, and each
``swift sft|pt|rlhf`` is planned in this process as ``tunekit … --dry-run`` would be.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import operator
import os
import re
import shlex
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tunekit.cli.call import run_words  # noqa: E402
from tunekit.errors import TunekitError  # noqa: E402
from tunekit.plan.secrets import move_to_environment  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

COMMANDS = ("sft", "pt", "rlhf")
ASSIGNED = re.compile(
    r"""^(?:export )?([A-Za-z_]\w*)=("(?:\\.|[^"\\])*"|'[^']*'|\$\(\([^()]*\)\)|[^\s'"]*)[ \t]*(?:#.*)?$""",
    re.MULTILINE,
)
VARIABLE = re.compile(r"\$(?:\{([A-Za-z_]\w*)(?::?-([^}]*))?\}|([A-Za-z_]\w*))")
SUM = re.compile(r"\$\(\(([^()]*)\)\)|\$\(expr ([^()]*)\)")
SIGNS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.floordiv}
END = {"&", "&&", "|", "||", ";", ">", ">>", "2>&1", "<"}


@dataclass(frozen=True)
class Found:
    """One command of a script: where it stands, its variables, and the words behind ``swift``."""

    place: str
    env: Mapping[str, str]
    words: tuple[str, ...]


def commands_of(path: Path, folder: Path) -> Iterator[Found]:
    """The commands of a script that train, with its variables put in."""
    text = path.read_text(encoding="utf-8", errors="replace")
    variables: dict[str, str] = {}
    for name, value in ASSIGNED.findall(text):
        variables[name] = put_in(value[1:-1] if value[:1] in ("'", '"') else value, variables)
    lines, joined, first = text.splitlines(), "", 0
    for number, line in enumerate(lines, 1):
        bare = line.strip()
        if bare.startswith("#"):
            continue  # a comment between the lines of a command
        first = first if joined else number
        joined += f" {bare.removesuffix(chr(92))}"
        if bare.endswith("\\") and number < len(lines):
            continue
        found = command_in(put_in(joined, variables), f"{path.relative_to(folder)}:{first}")
        joined = ""
        if found:
            yield found


def command_in(line: str, place: str) -> Found | None:
    """The command of a line that trains; None where there is none."""
    if not re.match(r"\s*(?:[A-Z_a-z]\w*=\S*\s+)*swift (?:sft|pt|rlhf)\b", line):
        return None
    try:
        words = shlex.split(line)
    except ValueError:  # a quote that stands alone
        words = line.split()
    start = words.index("swift")
    env = dict(word.split("=", 1) for word in words[:start])
    end = next((place for place, word in enumerate(words) if word in END), len(words))
    return Found(place, env, tuple(words[start + 1 : end]))


def put_in(text: str, variables: Mapping[str, str]) -> str:
    """`text` with its variables and its sums; a variable that is set elsewhere is empty."""

    def value(found: re.Match[str]) -> str:
        return variables.get(found[1] or found[3], found[2] or "")

    return SUM.sub(lambda found: total(found[1] or found[2], variables), VARIABLE.sub(value, text))


def total(text: str, variables: Mapping[str, str]) -> str:
    """A sum of whole numbers, from left to right; the text as it is where it is none."""
    words = [variables.get(word, word).lstrip("\\") for word in text.split()]
    if not all(word.isdigit() for word in words[::2]) or not all(word in SIGNS for word in words[1::2]):
        return text
    result = int(words[0])
    for sign, word in zip(words[1::2], words[2::2], strict=False):
        result = SIGNS[sign](result, int(word))
    return str(result)


def refusal(found: Found, gpus: str) -> str:
    """Why tunekit makes no plan of a command; empty where it makes one."""
    before = dict(os.environ)
    try:
        argv, moved = move_to_environment(found.words, os.environ)
        os.environ.update({**{name: value for name, value in found.env.items() if value}, **moved})
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            run_words([*argv, "--gpus", gpus, "--dry-run"])
    except TunekitError as error:
        return "\n      ".join(f"{one.message} ({one.hint or 'no hint'})" for one in (error, *error.others))
    finally:
        os.environ.clear()
        os.environ.update(before)
    return ""


def main() -> None:
    """Plan every command, print the share that succeeds and, for each reason, the commands that do not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gpus", default="8x80")
    parser.add_argument("--at", type=Path)
    parser.add_argument("--verbose", action="store_true", help="every command that is refused, not the first three")
    asked = parser.parse_args()
    folder = asked.folder.resolve()
    found = [command for path in sorted(folder.rglob("*.sh")) for command in commands_of(path, folder)]
    if not found:
        sys.exit(f"error: no swift sft, pt or rlhf in the *.sh of {folder}")
    os.chdir(asked.at or folder.parent)
    for name in [name for name in os.environ if name.startswith("TUNEKIT_")]:
        del os.environ[name]
    reasons: dict[str, list[str]] = defaultdict(list)
    for command in found:
        if reason := refusal(command, asked.gpus):
            reasons[reason].append(command.place)
    refused = Counter({reason: len(places) for reason, places in reasons.items()})
    for reason, count in refused.most_common():
        print(f"{count:4}  {reason}")
        for place in reasons[reason][: None if asked.verbose else 3]:
            print(f"      {place}")
    planned = len(found) - refused.total()
    print(f"{planned} of {len(found)} commands give a plan: {planned / len(found):.1%}")


if __name__ == "__main__":
    main()
