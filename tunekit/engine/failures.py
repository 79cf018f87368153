"""Name a failure by the exit status and the end of the log. Only memory is worth another try.

A log holds text of the user too: ms-swift prints the first row, and the rows that it drops. So a failure is looked for
in the lines that end a traceback of Python, at their beginning, and not in what was printed before.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunekit.engine.kinds import PATTERNS, SIGKILLED, SIGNALLED, Kind
from tunekit.engine.logs import ERROR_LINE, printable, rows_in

if TYPE_CHECKING:
    from pathlib import Path

LOG_TAIL = 256 * 1024
"""Bytes at the end of a log in which a failure is looked for: tracebacks of eight ranks fit."""

EVALUATION = re.compile(r"in (?:evaluation_loop|evaluate|prediction_step|_evaluate)\b")
"""Frames of a traceback that stand in the evaluation."""

LOADING = re.compile(r"in (?:from_pretrained|get_model_processor|load_state_dict|_load_pretrained_model)\b")
"""Frames of a traceback that stand in the loading of a model."""

NO_ROWS = re.compile(
    r'File ".*swift/(?:dataset|pipelines/train)/.*", line \d+, in (?:_show_dataset|sample_dataset|load)'
)
"""Frames of ms-swift that fail where no row is left, with an error that speaks of something else."""
NO_ROWS_ERRORS = ("TypeError: 'NoneType'", "ZeroDivisionError", "StopIteration", "IndexError")

SAMPLE = re.compile(r"^\[INFO:swift\] \[(?:\w+_)?(?:INPUT|LABELS)(?:_IDS)?\]")
"""Where ms-swift prints the first row (template/base.py, print_inputs)."""
SAID = re.compile(r"^\[(?:INFO|WARNING):swift\] ")
"""Where it says the next thing."""
CAUGHT = "[INFO:swift] Traceback (most recent call last)"
"""A row that is dropped: its traceback ends with a warning (dataset/preprocessor/core.py)."""

RANK = re.compile(r"^\[rank\d+\]: ?")
TRACEBACK = "Traceback (most recent call last)"
PASSED_OVER = ("Exception ignored", "Exception in thread")
"""What stands before a traceback that ended nothing."""
LAUNCHER = "ChildFailedError"
"""What torchrun raises."""
CHAINED = ("During handling of the above exception", "The above exception was the direct cause")


@dataclass(frozen=True)
class Failure:
    """Why an attempt ended: `evidence` is the line of the log that shows it, or what the exit status means.

    `machine` names the one of several that it happened on; empty where there is one, or it is not known.
    """

    kind: Kind
    evidence: str
    status: int
    machine: str = ""


def failure_in(log: Path, status: int, oom_kills: int | None = None, unwritten: str = "") -> Failure:
    """Why a program of ms-swift failed, as the end of its log shows, and the last lines that the log did not take.

    `oom_kills` as in `classify`.
    """
    return classify(status, log_tail(log) + unwritten, oom_kills=oom_kills)


def log_tail(log: Path) -> str:
    """The end of a log; nothing where there is none."""
    try:
        with log.open("rb") as file:
            begin = max(0, log.stat().st_size - LOG_TAIL)
            file.seek(begin)
            file.readline() if begin else b""  # the rest of a line, which may begin with anything
            return file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""


def classify(status: int, log: str, *, oom_kills: int | None = None) -> Failure:
    """Name a failure by the exit status of ms-swift (negative for a signal) and the end of its output.

    `oom_kills` are the processes that the kernel's out-of-memory killer ended meanwhile; None where it does not say.
    """
    lines = [line for line in re.split(r"[\r\n]+", log) if line.strip()]
    ours = without_samples(lines)
    ended = last_traceback(ours)
    errors = error_lines(ended) or ([] if ended else ours)
    for pattern in PATTERNS:
        pool = [*ours, *errors] if pattern.anywhere else errors
        line = next((line for line in reversed(pool) if pattern.text.search(line)), None)
        if line is not None:
            kind, evidence = _settled(pattern.kind, ended, line.strip(), oom_kills)
            return Failure(kind, printable(evidence, LONGEST_EVIDENCE), status)
    if status in SIGKILLED:
        kind, evidence = _settled(Kind.KILLED, ended, "", oom_kills)
        return Failure(kind, evidence, status)
    if status in SIGNALLED and not ended:
        return Failure(*SIGNALLED[status], status)
    shown = next((line for line in reversed(errors) if ERROR_LINE.match(line)), None)
    evidence = (shown or (lines[-1] if lines else "it printed nothing")).strip()
    lost = _no_rows(lines, ended, evidence)
    kind = Kind.DATA if lost else Kind.UNKNOWN
    return Failure(kind, printable(lost or evidence, LONGEST_EVIDENCE), status)


LONGEST_EVIDENCE = 200


def without_samples(lines: list[str]) -> list[str]:
    """The lines of a log without the rows of the user that ms-swift prints."""
    kept, inside = [], ""
    for line in lines:
        if inside == CAUGHT:
            inside = "" if line.startswith("[WARNING:swift]") else inside
        elif CAUGHT in line:
            inside = CAUGHT
        elif SAMPLE.match(line):
            inside = "sample"
        elif not inside or SAID.match(line):
            inside = ""
            kept.append(line)
    return kept


def last_traceback(lines: list[str]) -> list[str]:
    """A log from the traceback on that ended the program; empty where there is none.

    Where one error led to another, from the first of them; under torchrun from the first rank's. The launcher's own
    says nothing, nor do those of what was only cleaned up.
    """
    starts = [at for at, line in enumerate(lines) if RANK.sub("", line).startswith(TRACEBACK)]
    pieces = list(zip(starts, [*starts[1:], len(lines)], strict=False))
    pieces = [piece for piece in pieces if not _says_nothing(lines, *piece)]
    if not pieces:
        return []
    first = next((place for place, (at, _) in enumerate(pieces) if RANK.match(lines[at])), None)
    if first is None:
        first = len(pieces) - 1
        while first and lines[pieces[first][0] - 1].startswith(CHAINED):
            first -= 1
    return [line for at, end in pieces[first:] for line in lines[at:end]]


def _says_nothing(lines: list[str], start: int, end: int) -> bool:
    """Whether a traceback is the launcher's, or of what was only cleaned up."""
    error = next((line for line in lines[start:end] if ERROR_LINE.match(line)), "")
    return LAUNCHER in error or lines[max(0, start - 1)].startswith(PASSED_OVER)


def error_lines(ended: list[str]) -> list[str]:
    """The line behind the frames of each traceback: the error, and the beginning of what it says."""
    found, inside = [], set[str]()
    for line in ended:
        mark = RANK.match(line)
        rank, said = (mark[0], line[mark.end() :]) if mark else ("", line)
        if said.startswith(TRACEBACK):
            inside.add(rank)
        elif rank in inside and not said.startswith(" ") and "%|" not in said:  # frames, progress bars
            inside.discard(rank)
            found += [] if LAUNCHER in said else [said]
    return found


def _settled(kind: Kind, ended: list[str], evidence: str, oom_kills: int | None) -> tuple[Kind, str]:
    """What a text means: where memory ran out is told by the frames, who killed by the kernel's counter."""
    if kind is Kind.GPU_MEMORY:
        return _where(ended, evidence), evidence
    if kind is not Kind.KILLED:
        return kind, evidence
    if oom_kills == 0:
        return kind, evidence or "killed by SIGKILL, while the kernel's out-of-memory killer ended nothing"
    guess = "killed by SIGKILL, as the kernel does when host memory runs out"
    return Kind.HOST_MEMORY, evidence or ("the kernel's out-of-memory killer ended it" if oom_kills else guess)


def _where(ended: list[str], evidence: str) -> Kind:
    """Whether GPU memory ran out in training, evaluation or loading, by the frames above the line that says so."""
    place = next((at for at, line in enumerate(ended) if evidence in line), len(ended))
    starts = [at for at, line in enumerate(ended[:place]) if TRACEBACK in line]
    frames = "\n".join(ended[starts[-1] if starts else 0 : place])
    if EVALUATION.search(frames):
        return Kind.GPU_MEMORY_EVAL
    return Kind.GPU_MEMORY_LOAD if LOADING.search(frames) else Kind.GPU_MEMORY


def _no_rows(lines: list[str], ended: list[str], evidence: str) -> str:
    """Why no row was left to train on, in ms-swift's words; empty where that is not what happened."""
    dropped = rows_in(lines).dropped
    if dropped and not dropped[-1].kept:
        return dropped[-1].line()
    frames = [line for line in ended if NO_ROWS.search(line)]
    if frames and evidence.startswith(NO_ROWS_ERRORS):
        return f"no row of the dataset can be used ({evidence})"
    return ""


def memory_sizes(evidence: str) -> str:
    """The sizes in PyTorch's out-of-memory line, for people: ``tried 2.32 GiB, 1.10 GiB free of 39.14 GiB``."""
    parts = []
    if tried := re.search(r"[Tt]ried to allocate ([\d.]+ [KMG]iB|\d+ bytes)", evidence):
        number, unit = tried[1].split()
        parts.append(f"tried {int(number) / 2**30:.2f} GiB" if unit == "bytes" else f"tried {tried[1]}")
    total = re.search(r"total capacity of ([\d.]+ [KMG]iB)", evidence)
    free = re.search(r"of which ([\d.]+ [KMG]iB) is free", evidence)
    if free and total:
        parts.append(f"{free[1]} free of {total[1]}")
    return ", ".join(parts)
