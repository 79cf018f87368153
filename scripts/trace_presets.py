"""Write, or with --check compare, what each shipped preset takes of a GPU: the table [fits] in its file.

    python scripts/trace_presets.py [--check] [PRESET …]

A model's row is traced with the preset's own micro-batch and length; where the trace cannot tell, it is estimated, and
says so. Everything else in the file stays as it is, byte for byte.

--check traces the models of `TRACED` again and wants the same numbers, to `SAME`. For the others it makes the estimate
again and wants the number that was traced not to be further from it than `NEAR`: to trace all takes minutes, and a
change of the trace that moves any row moves those that are traced too. The lines above the table, which name the
micro-batch, the length and the tuner, must be what the preset says today.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tunekit.engine.flags import SNAPSHOT, from_json  # noqa: E402
from tunekit.errors import TunekitError  # noqa: E402
from tunekit.files import shipped_presets, write_atomically  # noqa: E402
from tunekit.hardware import GIB_PER_GB, choose_hardware  # noqa: E402
from tunekit.memory.estimate import estimate  # noqa: E402
from tunekit.memory.spec import Prediction, Spec, Unknown  # noqa: E402
from tunekit.memory.trace.client import trace, trace_worker  # noqa: E402
from tunekit.plan.models.config import config_of  # noqa: E402
from tunekit.plan.models.find import resolve  # noqa: E402
from tunekit.plan.planner import Facts, make_plan  # noqa: E402
from tunekit.plan.predict import SPARE, spec_of  # noqa: E402
from tunekit.plan.presets.fits import MARKS, Fits, by_model, with_fits  # noqa: E402
from tunekit.plan.presets.shelf import Library  # noqa: E402
from tunekit.plan.request import Request  # noqa: E402
from tunekit.plan.settings import COMMAND_LINE, Setting  # noqa: E402
from tunekit.runs.forecast import CLASSES  # noqa: E402
from tunekit.stages import STAGES, USUAL  # noqa: E402

if TYPE_CHECKING:
    from tunekit.worker import Worker

MODELS = {
    "Qwen2.5-3B": "Qwen/Qwen2.5-3B",
    "Qwen2.5-7B": "Qwen/Qwen2.5-7B",
    "Mistral-7B": "mistralai/Mistral-7B-Instruct-v0.3",
    "Llama-3.1-8B": "meta-llama/Meta-Llama-3.1-8B",
    "Qwen3-8B": "Qwen/Qwen3-8B",
    "Qwen2.5-14B": "Qwen/Qwen2.5-14B",
    "Mistral-Small-24B": "mistralai/Mistral-Small-24B-Base-2501",
    "gpt-oss-20b": "openai/gpt-oss-20b",
    "Qwen3-30B-A3B": "Qwen/Qwen3-30B-A3B",
}
"""Name in the tables, and the model whose shape stands in tunekit/plan/models/configs.json."""

PRESETS = {
    "7b": ("Qwen2.5-7B", "Mistral-7B"),
    "8b": ("Llama-3.1-8B", "Qwen3-8B"),
    "8b-tight": ("Llama-3.1-8B", "Qwen3-8B"),
    "20b": ("Qwen2.5-14B", "Mistral-Small-24B"),
    "20b-moe": ("gpt-oss-20b", "Qwen3-30B-A3B"),
    "low-memory": ("Qwen2.5-3B", "Qwen2.5-7B", "Qwen2.5-14B"),
}
"""The models that stand for a preset's class: of those with small vocabularies and with large ones."""

MEANING = """\
# peak_gib: of the whole process. gpu_gb: the smallest common GPU that holds it with a little to spare, as sold.
# loss_percent: of the tokens, those that carry loss: 100 is the most that can be, 25 is usual where prompts are masked.
"""

VARIANTS = ((100, False), (25, False), (100, True))
"""Percent of the tokens that carry loss, and Liger, with whose fused cross-entropy the share hardly matters."""

TRACED = (("7b", "Qwen2.5-7B"), ("20b-moe", "gpt-oss-20b"))
"""What --check traces: a dense packed model, and one of experts that is not packed."""

SAME, NEAR = 0.01, 0.08
"""How far a number may be from the one in the file: traced again, for another PyTorch may allocate a little otherwise;
and against the estimate, which is off by 5 % at most in the rows that are shipped."""

LIMIT = 300
"""Seconds that one trace may take, on a busy machine too."""


def library() -> Library:
    """The shipped presets, checked against the shipped snapshot of flags."""
    flags = from_json(json.loads(SNAPSHOT.read_text(encoding="utf-8")), installed=False)
    return Library(shipped_presets(), None, flags)


def spec(shelf: Library, preset: str, model: str, loss_percent: int, *, liger: bool) -> Spec:
    """What one GPU computes with a preset."""
    known = resolve(MODELS[model])
    said = {"dataset": ["data.jsonl"], "use_liger_kernel": liger}
    typed = {flag: Setting(value, COMMAND_LINE) for flag, value in said.items()}
    request = Request(STAGES[USUAL], known.id, typed, preset=preset)
    facts = Facts(shelf.flags, shelf, {}, choose_hardware("80GB"), packages=None, model=known)
    plan = make_plan(request, facts)
    return spec_of(plan, config_of(known), loss_percent / 100)


def row(model: str, answer: Prediction, loss_percent: int, *, liger: bool) -> Fits:
    """A row of the table."""
    peak = round(answer.process_gib, 1)
    return Fits(model, peak, smallest(peak), loss_percent, liger, answer.method)


def smallest(peak_gib: float) -> int:
    """The smallest common GPU, in GB, that keeps the share free which ``--preset auto`` leaves too.

    Raises:
        TunekitError: there is none.
    """
    for gigabytes in CLASSES:
        if peak_gib <= gigabytes * GIB_PER_GB * (1 - SPARE):
            return gigabytes
    raise TunekitError(f"{peak_gib} GiB are more than any common GPU has")


def predict(asked: Spec, worker: Worker) -> Prediction:
    """The trace, or the estimate where the trace cannot tell."""
    try:
        return trace(asked, LIMIT, worker=worker)
    except Unknown as unknown:
        print(f"  estimated: {unknown.message}", file=sys.stderr)
        return estimate(asked)


def rows(shelf: Library, preset: str, worker: Worker) -> list[Fits]:
    """All rows of a preset, traced where they can be."""
    made = []
    for model in PRESETS[preset]:
        for loss_percent, liger in VARIANTS:
            asked = spec(shelf, preset, model, loss_percent, liger=liger)
            made.append(row(model, predict(asked, worker), loss_percent, liger=liger))
            print(f"{preset} {words(made[-1])}", file=sys.stderr, flush=True)
    return made


def title(shelf: Library, preset: str) -> str:
    """The line above the table: what the numbers are for."""
    asked = [spec(shelf, preset, model, 100, liger=False) for model in PRESETS[preset]]
    settings = {
        f"micro-batch {one.micro_batch} × {one.seq_len}, {one.tuner} r{one.lora_rank}, {one.precision}" for one in asked
    }
    assert len(settings) == 1, f"a rule makes the models of {preset} differ: {settings}"
    packing = [
        f"{model} {'packed' if one.packing else 'unpacked'}" for model, one in zip(PRESETS[preset], asked, strict=True)
    ]
    kinds = {one.packing for one in asked}
    packed = ", ".join(packing) if len(kinds) > 1 else "packed" if kinds == {True} else "unpacked"
    return f"{MARKS[0]} for {settings.pop()}, {packed}"


def words(fits: Fits) -> str:
    """A row for people."""
    loss = f"{fits.loss_percent} % with loss{', Liger' if fits.liger else ''}"
    return f"{fits.model}, {loss}: {fits.peak_gib} GiB, {fits.gpu_gb} GB ({fits.by})"


def block(head: str, table: list[Fits]) -> str:
    """The table as it stands in the file."""
    lines = [head, MEANING + "[fits]"]
    for model, group in by_model(table).items():
        lines.append(f'"{model}" = [')
        for item in group:
            liger = "true" if item.liger else "false"
            numbers = f"peak_gib = {item.peak_gib}, gpu_gb = {item.gpu_gb}, loss_percent = {item.loss_percent}"
            lines.append(f'    {{ {numbers}, liger = {liger}, by = "{item.by}" }},')
        lines.append("]")
    return "\n".join([*lines, MARKS[1], ""])


def write(shelf: Library, preset: str, worker: Worker) -> None:
    """The table into the preset's file."""
    path = shelf.load(preset).path
    table = block(title(shelf, preset), rows(shelf, preset, worker))
    write_atomically(path, with_fits(path.read_text(encoding="utf-8"), table))


def problems(shelf: Library, preset: str, worker: Worker) -> list[str]:
    """What the table of a preset says otherwise than the program does today."""
    loaded = shelf.load(preset)
    head = title(shelf, preset)
    if f"{head}\n{MEANING}[fits]\n" not in loaded.path.read_text(encoding="utf-8"):
        return [f"its table is not {head.removeprefix('# fits: ')}"]
    variants = [(model, percent, liger) for model in PRESETS[preset] for percent, liger in VARIANTS]
    if [(item.model, item.loss_percent, item.liger) for item in loaded.fits] != variants:
        return ["its table has other rows"]
    found = []
    for item in loaded.fits:
        asked = spec(shelf, preset, item.model, item.loss_percent, liger=item.liger)
        traced = (preset, item.model) in TRACED
        now = predict(asked, worker) if traced else estimate(asked)
        off = now.process_gib / item.peak_gib - 1
        if abs(off) > (SAME if traced or item.by == "estimate" else NEAR) or (traced and now.method != item.by):
            found.append(f"{words(item)}: the {now.method} is {now.process_gib:.1f} GiB, {off:+.1%}")
        if item.gpu_gb != smallest(item.peak_gib):
            found.append(f"{words(item)}: {smallest(item.peak_gib)} GB hold that")
    return found


def main() -> int:
    """Write the tables, or say which are out of date."""
    check = "--check" in sys.argv[1:]
    named = [word for word in sys.argv[1:] if word != "--check"]
    unknown = [name for name in named if name not in PRESETS]
    if unknown:
        print(f"error: no table is made for {', '.join(unknown)}\nhint:  one of {', '.join(PRESETS)}", file=sys.stderr)
        return 2
    shelf = library()
    stale = 0
    with trace_worker() as worker:
        for preset in named or PRESETS:
            if not check:
                write(shelf, preset, worker)
                continue
            found = problems(shelf, preset, worker)
            for what in found:
                print(f"error: presets/{preset}.toml: {what}", file=sys.stderr)
            stale |= bool(found)
    if stale:
        print("hint:  run scripts/trace-presets", file=sys.stderr)
    return stale


if __name__ == "__main__":
    sys.exit(main())
