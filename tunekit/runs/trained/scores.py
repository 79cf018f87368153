"""Scores: what a script of the user's own says of a model's answers, what a benchmark gave, where both are kept."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.data.files import local_file
from tunekit.engine.plugin import bare
from tunekit.errors import TunekitError, closest
from tunekit.files import digest_of, path_of, read_object, write_atomically
from tunekit.plan.secrets import redact, secret_values
from tunekit.runs.folder import now
from tunekit.runs.supervisor import TICK, StopRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tunekit.plan.settings import Value
    from tunekit.runs.trained.targets import Target

BY_CONTENT = 1 << 30
"""Bytes up to which a file of weights is known by its content. Larger ones, of whole models, are known by size and
time: to read them would take longer than many an evaluation."""

SAVED = re.compile(r"saved to result_jsonl: `([^`]+)`")
"""Where ``swift eval`` says that its scores are (pipelines/eval/eval.py)."""

SHOWN = 3
"""Lines of a failed script that are shown."""


@dataclass(frozen=True)
class Pair:
    """A dataset, and the scripts that judge the answers to it."""

    data: str
    scripts: tuple[Path, ...]


@dataclass(frozen=True)
class Score:
    """What a script said of the answers of a checkpoint to a dataset.

    Attributes:
        scores: by name; empty where it failed or printed no object.
        output: what it printed, where that was no object.
        error: its last lines, where it failed.
        predictions: the file that it was given, with `rows` answers.
    """

    checkpoint: str
    data: str
    script: str
    scores: Mapping[str, Any] = field(default_factory=dict)
    output: str = ""
    error: str = ""
    predictions: str = ""
    rows: int = 0
    at: str = ""


def pairs_of(words: Iterable[str]) -> list[Pair]:
    """The pairs that ``--pair DATA:SCRIPT.py,SCRIPT.py`` names; several of the same data become one.

    Raises TunekitError: exit code 2 where it is no pair or a script is missing, exit code 4 where the data are.
    """
    found: dict[str, list[Path]] = {}
    for word in words:
        data, colon, scripts = word.rpartition(":")
        if not colon or not data or not scripts:
            raise TunekitError(f"--pair {word} is no pair", "write DATA.jsonl:SCRIPT.py, or DATA.jsonl:ONE.py,TWO.py")
        local_file(data)
        for script in scripts.split(","):
            path = path_of(script)
            if not path.is_file():
                near = closest(path.name, [item.name for item in path.parent.glob("*.py")])
                hint = f"did you mean {path.parent / near[0]}?" if near else "a pair is DATA.jsonl:SCRIPT.py"
                raise TunekitError(f"--pair {word}: there is no script {path}", hint)
            found.setdefault(data, []).append(path)
    return [Pair(data, tuple(dict.fromkeys(scripts))) for data, scripts in found.items()]


def predictions_place(target: Target, data: str, flags: Mapping[str, Value], engine: str) -> Path:
    """Where the answers of a model to a dataset are kept: another place for other weights, rows, flags or `engine`."""
    mark = hashlib.sha256()
    for name in sorted(target.weights.folder.glob("*")):
        if name.suffix in (".safetensors", ".bin"):
            mark.update(f"{name.name} {_content(name)}\n".encode())
    row_format = target.plan.row_format.spec if target.plan and target.plan.row_format else ""
    counting = {flag: value for flag, value in flags.items() if flag not in ("adapters", "val_dataset", "result_path")}
    path = local_file(data)
    rows = _content(path) if path else ""
    mark.update(json.dumps([data, rows, counting, row_format, engine], sort_keys=True).encode())
    stem = Path(bare(data)).stem
    return target.home / "eval" / f"{stem}-{target.weights.folder.name}-{mark.hexdigest()[:10]}.jsonl"


def _content(path: Path) -> str:
    """By what a file is taken to be the same."""
    there = path.stat()
    if there.st_size > BY_CONTENT:
        return f"{there.st_size} {there.st_mtime_ns}"
    return digest_of(path)


def run_script(python: str, script: Path, predictions: Path) -> tuple[dict[str, Any], str, str]:
    """Run ``python SCRIPT PREDICTIONS.jsonl``: its scores, what it printed without any, its last lines if it failed.

    Raises KeyboardInterrupt where a signal asked to stop; nothing of the script is left.
    """
    secrets = secret_values(os.environ)
    with StopRequest() as stop:
        process = subprocess.Popen(
            [python, str(script), str(predictions)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        try:
            printed, errors = _output(process, stop)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what it started ends with it
            process.wait()
    printed, errors = redact(printed, secrets).strip(), redact(errors, secrets).strip()
    if process.returncode != 0:
        last = (errors or printed or "it printed nothing").splitlines()[-SHOWN:]
        return {}, "", "\n".join([*last, f"(exit status {process.returncode})"])
    scores = scores_in(printed)
    return scores, "" if scores else printed, ""


def _output(process: subprocess.Popen[str], stop: StopRequest) -> tuple[str, str]:
    while not stop.received:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=TICK)
    raise KeyboardInterrupt


def scores_in(printed: str) -> dict[str, Any]:
    """The scores that a script printed: a JSON object, alone or as the last line; a number alone is ``score``."""
    for text in (printed, *printed.splitlines()[-1:]):
        with contextlib.suppress(ValueError, RecursionError):
            found = json.loads(text)
            if isinstance(found, dict):
                return found
            if isinstance(found, (int, float)) and not isinstance(found, bool):
                return {"score": found}
    return {}


def benchmark_scores(log: Path) -> dict[str, dict[str, Any]]:
    """The scores of ``swift eval`` by dataset, from the file that its log names."""
    found = SAVED.findall(log.read_text(encoding="utf-8", errors="replace"))
    lines = Path(found[-1]).read_text(encoding="utf-8").splitlines() if found and Path(found[-1]).is_file() else []
    report = json.loads(lines[-1]) if lines else {}
    scores: dict[str, dict[str, Any]] = {}
    for result in report.values():
        if isinstance(result, list):  # of evalscope itself: a report for each dataset
            for item in result:
                if isinstance(item, dict) and "dataset_name" in item:
                    metrics = {metric["name"]: metric["score"] for metric in item.get("metrics", [])}
                    scores[item["dataset_name"]] = metrics
        elif isinstance(result, dict):  # of OpenCompass and VLMEvalKit: {dataset: {metric: value}}
            scores |= {data: dict(metrics) for data, metrics in result.items() if isinstance(metrics, dict)}
    return scores


def keep_scores(path: Path, made: list[Score]) -> None:
    """Add scores to ``scores.json``; those of the same checkpoint, data and script take the place of older ones."""

    def same(row: Mapping[str, Any]) -> tuple[Any, ...]:
        return row.get("checkpoint"), row.get("data"), row.get("script")

    new = [asdict(score) | {"at": now()} for score in made]
    taken = {same(row) for row in new}
    known = [row for row in read_object(path).get("scores", []) if same(row) not in taken]
    write_atomically(path, json.dumps({"scores": [*known, *new]}, indent=1, ensure_ascii=False) + "\n")
