"""What a machine without a GPU can check of scripts/measure-memory."""

from __future__ import annotations

import importlib.util
import json
import os
import struct
import subprocess
import sys
import time
import types
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tunekit.engine.failures import classify
from tunekit.engine.kinds import Kind
from tunekit.hardware import Gpu
from tunekit.memory.estimate import estimate
from tunekit.memory.geometry import Geometry
from tunekit.memory.spec import GIB, Spec
from tunekit.runs.folder import Attempt

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import measure_memory  # noqa: E402
from measure import material, oom, running, table  # noqa: E402
from measure.rows import CAP_GIB, OOM_ROW, ROWS, SHAPES, TINY, TINY_ROWS, Row, shape  # noqa: E402

H200 = Gpu("NVIDIA H200", 140.4, 140.0, (9, 0), "0")
TELLING = """\
Traceback (most recent call last):
  File "/opt/site/lib/python3.12/site-packages/swift/cli/sft.py", line 10, in <module>
    sft_main()
  File "/srv/site/torch/nn/functional.py", line 3458, in cross_entropy
    return torch._C._nn.cross_entropy_loss(
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 9.27 GiB. GPU 0 has a total capacity of 139.72 GiB of \
which 114.32 GiB is free. 23.00 GiB allowed; Of the allocated memory 16.04 GiB is allocated by PyTorch, and 421.12 MiB \
is reserved by PyTorch but unallocated. (https://docs.pytorch.org/docs/stable/notes/cuda.html#environment-variables)
"""
needs_tokenizers = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="the tokenizer is made with transformers"
)


def ended(**more) -> running.Outcome:
    """A row that was measured: what the plugin writes on a GPU."""
    record = {
        "pid": 7,
        "steps": [{"allocated": size * GIB, "reserved": (size + 1) * GIB, "seconds": 0.5} for size in (3, 5, 5)],
        "processes_mib": [["7", "7168"], ["9", "512"]],
        "card_used_mib": [["9216"]],
    }
    return running.Outcome(20.0, {**record, **more}, before=1024.0)


def test_the_rows_are_different_and_cover_what_training_differs_in():
    assert len({row.id for row in ROWS}) == len(ROWS)
    for name in ("tuner", "attn", "liger", "checkpointing", "stage", "packing", "uneven", "expandable", "optimizer"):
        assert len({getattr(row, name) for row in ROWS}) > 1, name
    assert {row.micro_batch for row in ROWS} > {1, 2, 4}
    assert {row.seq_len for row in ROWS} > {512, 1024, 2048, 4096}
    sizes = [Geometry.from_config(shape(row.model)).parameters / 1e9 for row in ROWS]
    assert min(sizes) < 0.6
    assert max(sizes) > 8


@pytest.mark.parametrize("row", ROWS + TINY_ROWS, ids=lambda row: row.id)
def test_a_row_can_be_predicted_and_trained(row):
    row.spec.check()
    assert row.estimate is not None
    assert row.estimate.allocated_gib < 0.9 * 79  # an 80 GB card measures them all
    assert row.question >= 1
    assert row.question + row.answer + row.frame == row.seq_len
    assert row.spec.loss_share == pytest.approx(row.loss, abs=row.frame / row.seq_len)
    assert not row.packing or row.attn == "flash"  # ms-swift refuses it


def test_the_out_of_memory_fits_with_half_the_rows_and_not_before():
    whole = OOM_ROW.estimate
    half = Row(OOM_ROW.model, micro_batch=OOM_ROW.micro_batch // 2).estimate
    assert whole.allocated_gib > 1.1 * CAP_GIB
    assert half.reserved_gib < 0.95 * CAP_GIB


def test_the_words_for_swift_are_flags_it_has(flags):
    for row in ROWS + TINY_ROWS:
        command, *words = running.command(row, Path("model"), Path("data.jsonl"), Path("out"), "cpu")
        assert command == ("sft" if row.stage == "sft" else "rlhf")
        given = dict(zip(words[::2], words[1::2], strict=True))
        for name, value in given.items():
            flags.parse(name.removeprefix("--"), [value], command)
        assert given["--max_length"] == str(row.seq_len)
        assert ("--quant_bits" in given) == ("--quant_method" in given) == (row.tuner == "qlora")


def test_the_file_of_zeros_has_the_header_and_the_size_and_takes_no_space(tmp_path):
    path = tmp_path / "model.safetensors"
    material.write_zeros(path, {"a": [1000, 4000], "b": [3]})
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    assert size % 8 == 0
    assert header["a"] == {"dtype": "BF16", "shape": [1000, 4000], "data_offsets": [0, 8_000_000]}
    assert header["b"]["data_offsets"] == [8_000_000, 8_000_006]
    assert len(content) == 8 + size + 8_000_006
    assert path.stat().st_blocks * 512 < 1_000_000


@needs_tokenizers
@pytest.mark.parametrize(
    "row", [one for one in (ROWS[0], *TINY_ROWS) if one.stage != "grpo" and not one.side], ids=lambda row: row.id
)
def test_a_row_of_the_dataset_has_exactly_the_tokens(row, tmp_path):
    from transformers import AutoTokenizer

    ids = material.make_tokenizer(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.eos_token_id == ids["eos_token_id"] < SHAPES[TINY]["vocab_size"]
    lines = material.make_rows(tmp_path / "data.jsonl", row, 4).read_text().splitlines()
    lengths = []
    for line in lines:
        item = json.loads(line)
        asked, answer = (message["content"] for message in item["messages"])
        text = f"<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n{answer}<|im_end|>\n"
        lengths.append(len(tokenizer(text)["input_ids"]))
        assert len(item.get("rejected_response", answer)) == len(answer)
        assert ("rejected_response" in item) == (row.stage == "dpo")
    assert lengths == ([row.seq_len, row.seq_len - 1] * 2 if row.uneven else [row.seq_len] * 4)


@needs_tokenizers
def test_the_made_model_has_every_weight_of_its_shape(tmp_path):
    """Tied weights once, as in real files; the vocabulary is the shape's, not the tokenizer's."""
    for name in sorted({row.model for row in ROWS if not row.side}):
        known = shape(name)
        folder = material.make_model(tmp_path / name, known)
        size = (folder / "model.safetensors").stat().st_size
        (header,) = struct.unpack("<Q", (folder / "model.safetensors").open("rb").read(8))
        assert (size - 8 - header) // 2 == Geometry.from_config(known).parameters, name
        assert json.loads((folder / "config.json").read_text())["vocab_size"] == known["vocab_size"]


def test_the_peaks_are_the_largest_of_the_steps():
    outcome = ended()
    assert outcome.gib("allocated") == 5
    assert outcome.gib("reserved") == 6
    assert outcome.process_gib == 7


def test_a_container_that_shows_no_process_is_asked_for_the_card():
    assert ended(processes_mib=[]).process_gib == 8
    assert ended(processes_mib=[["4711", "7168"]]).process_gib == 8  # a number of the host
    assert ended(processes_mib=[["7", "[N/A]"]]).process_gib == 8
    assert ended(processes_mib=[], card_used_mib=[["[N/A]"]]).process_gib is None
    assert ended(processes_mib=[], card_used_mib=[]).process_gib is None


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_a_line_of_the_file_says_the_whole_configuration(row):
    line = table.record(row, ended(), "NVIDIA H200", "torch 2", "2026-01-01")
    assert tuple(line) == table.GPU_COLUMNS
    back = table.spec_of(line)
    for name in set(Spec.__dataclass_fields__) - {"loss_share"}:
        assert getattr(back, name) == getattr(row.spec, name), name
    assert back.loss_share == pytest.approx(row.spec.loss_share, abs=1e-4)
    assert float(line["allocated_gib"]) == 5


def test_the_other_measurements_have_the_columns_of_the_file_and_more():
    other = ROOT / "benchmarks/measured.csv"
    if not other.is_file():
        pytest.skip("there is no file of other measurements")
    assert other.read_text(encoding="utf-8").splitlines()[0].startswith(",".join(table.COLUMNS))


def test_lines_are_added_and_compared(tmp_path):
    path = tmp_path / "new/gpu.csv"
    for row in ROWS:
        table.add(path, table.record(row, ended(), "H200", "", "2026-01-01"))
    lines = table.read(path)
    assert [line["id"] for line in lines] == [row.id for row in ROWS]
    told = "\n".join(table.errors(lines, "estimate", (9, 0)))
    expected = 100 * (estimate(replace(ROWS[0].spec, capability=(9, 0))).allocated_gib / 5 - 1)
    assert f"5.00 {expected:+6.1f}%" in told
    assert f"allocated: {len(ROWS)} rows, mean error" in told
    assert max(map(len, told.splitlines())) <= 110


class Fake:
    """Stands in for a real run: remembers the rows, and ends them as told."""

    def __init__(self, **outcomes: running.Outcome) -> None:
        self.rows: list[str] = []
        self.outcomes = outcomes

    def __call__(self, row, work, start, card, seconds) -> running.Outcome:
        self.rows.append(row.id)
        return self.outcomes.get(row.model, ended())


class NoEngines:
    """Stands in for processes that stand ready."""

    def __init__(self, env, ahead, runs) -> None:
        assert env["HF_HUB_OFFLINE"] == "1"
        assert ahead >= 1
        assert runs >= 0

    def run(self, *_: object) -> None:
        raise AssertionError("a row is measured by `Fake`")

    def close(self) -> None:
        """Nothing was started."""


OOMS = list(oom.CASES)


@pytest.fixture
def session(tmp_path, monkeypatch):
    """A session on a card, in which nothing is really run."""

    def make(fake: Fake, minutes: float = 0) -> measure_memory.Session:
        monkeypatch.setattr(measure_memory, "measure", fake)
        monkeypatch.setattr(measure_memory, "find_engine", object)
        monkeypatch.setattr(measure_memory, "WarmEngines", NoEngines)
        monkeypatch.setattr(measure_memory, "skipped", lambda row, card: "")
        told = oom.Told([{"outcome": "gpu-memory"}, {"outcome": "done"}], TELLING, "", 50.0)
        monkeypatch.setattr(oom, "take", lambda case, work, card, seconds, *, expandable: told)
        clock = measure_memory.Clock(minutes)
        return measure_memory.Session(tmp_path / "gpu.csv", tmp_path, NoEngines.run, H200, clock)

    return make


def test_a_second_call_goes_on_where_the_first_ended(session, capsys):
    first, second = Fake(), Fake()
    session(first).run(list(ROWS[:2]), [])
    session(second).run(list(ROWS[:4]), OOMS)
    assert first.rows == [row.id for row in ROWS[:2]]
    assert second.rows == [row.id for row in ROWS[2:4]]
    assert f"{ROWS[0].id}: done before" in capsys.readouterr().out
    third = Fake()
    session(third).run(list(ROWS[:4]), OOMS)
    assert third.rows == []
    assert f"{OOMS[0].name}: done before" in capsys.readouterr().out


def test_a_row_that_fails_is_written_down_and_the_rest_goes_on(session, tmp_path):
    row = next(row for row in ROWS if row.model.startswith("meta"))
    fake = Fake(**{row.model: running.Outcome(9.0, reason="Out of GPU memory in training: …", log=TELLING)})
    now = session(fake)
    now.run([ROWS[0], row, ROWS[1]], [])
    assert [line["id"] for line in table.read(now.output)] == [ROWS[0].id, ROWS[1].id]
    told = json.loads(now.failed.read_text())
    assert (told["id"], told["reason"]) == (row.id, "Out of GPU memory in training: …")
    assert "/opt" not in told["log"]
    assert now.failures == 1
    again = Fake()
    session(again).run([row], [])
    assert again.rows == []


def test_a_row_that_the_budget_cut_is_measured_by_the_next_call(session):
    cut = session(Fake(**{ROWS[0].model: running.Outcome(9.0, reason="not done after 9 s", out_of_time=True)}))
    cut.run([ROWS[0]], [])
    assert cut.failures == 0
    assert not cut.failed.exists()
    again = Fake()
    session(again).run([ROWS[0]], [])
    assert again.rows == [ROWS[0].id]


def test_an_out_of_memory_that_the_budget_cut_is_taken_anew(session, monkeypatch, tmp_path):
    now = session(Fake())
    monkeypatch.setattr(oom, "take", lambda *_, **__: oom.Told([{"outcome": "gpu-memory"}], TELLING, oom.CUT, 9.0))
    now.out_of_memory(OOMS[0], set())
    assert not list(tmp_path.glob("*.txt"))
    assert now.failures == 0
    monkeypatch.setattr(oom, "take", lambda *_, **__: oom.Told([{"outcome": "done"}], "\n", "it fitted", 9.0))
    now.out_of_memory(OOMS[0], set())
    assert json.loads(now.failed.read_text())["reason"] == "it fitted"


@pytest.mark.parametrize("seen", [None, "NVIDIA H200"])
def test_a_torch_without_cuda_is_no_measurement(seen, tmp_path, monkeypatch):
    row = TINY_ROWS[0]

    def trained(words, env, folder, log, limit) -> int:
        log.write_text(f"Dataset Token Length: 64.0±0.0, min={row.seq_len}.0, max={row.seq_len}.0, size=12")
        Path(env["PEAK_FILE"]).write_text(json.dumps({**ended().record, "card": seen}))
        return 0

    def placed(row, work) -> tuple[Path, Path]:
        (work / row.id).mkdir()
        return work, work

    monkeypatch.setattr(running, "material", placed)
    monkeypatch.setattr(running, "used_mib", lambda card: 1024.0)
    outcome = running.measure(row, tmp_path, trained, H200, None)
    assert outcome.reason == ("" if seen else "torch does not see the GPU")
    assert outcome.gib("allocated") == (5 if seen else None)


def test_no_row_is_started_that_the_budget_has_no_time_for(session, capsys):
    fake = Fake()
    session(fake, minutes=0.01).run(list(ROWS), OOMS)
    assert fake.rows == []
    assert capsys.readouterr().out.count("no time left") == len(ROWS) + len(OOMS)


def test_slow_rows_make_the_clock_careful():
    clock = measure_memory.Clock(1)
    assert clock.enough_for(25)
    clock.learn(25, 75)
    clock.learn(25, 20)
    assert not clock.enough_for(25)
    assert measure_memory.Clock(0).enough_for(1e9)


def test_what_does_not_fit_the_card_or_lacks_a_package_is_left_out(monkeypatch):
    small = Gpu("T4", 14.9, 14.9, (7, 5), "0")
    monkeypatch.setattr("measure.rows.find_package", lambda _: Path())
    monkeypatch.setattr("measure.rows.installed_flash", frozenset)
    assert measure_memory.skipped(ROWS[0], small) == "about 18 GiB, the card has 15"
    assert measure_memory.skipped(ROWS[0], H200) == ""
    flash = next(row for row in ROWS if row.attn == "flash")
    assert measure_memory.skipped(flash, H200) == "flash attention not installed"


def test_without_a_gpu_there_is_nothing_to_measure(monkeypatch, capsys):
    monkeypatch.setattr(measure_memory, "detect", list)
    assert measure_memory.main([]) == 3
    assert capsys.readouterr().err.startswith("error: no GPU: nothing can be measured\nhint:")
    assert measure_memory.main(["--list"]) == 0
    told = capsys.readouterr().out
    assert all(row.id in told for row in ROWS)
    assert all(case.name in told for case in OOMS)
    assert max(map(len, told.splitlines())) <= 120


def test_with_a_gpu_the_errors_are_told_at_the_end(session, tmp_path, monkeypatch, capsys):
    fake = Fake()
    session(fake)
    monkeypatch.setattr(measure_memory, "detect", lambda: [H200])
    words = ["--minutes", "0", "--work", str(tmp_path), "--output", str(tmp_path / "out.csv")]
    assert measure_memory.main(words) == 0
    told = capsys.readouterr().out
    assert fake.rows == [row.id for row in ROWS]
    assert told.count("gpu-memory → done (50 s)") == len(OOMS)
    assert all((tmp_path / f"out-{case.name}.txt").read_text() == TELLING for case in OOMS)
    assert f"process: {len(ROWS)} rows, mean error" in told
    assert measure_memory.main([*words, "--fixed-segments", "--only", "flash"]) == 0
    assert set(fake.rows[len(ROWS) :]) == {f"{row.id}-fixed" for row in ROWS if "flash" in row.id}


def test_a_program_is_ended_with_all_it_started_when_its_time_is_up(tmp_path):
    words = ["bash", "-c", "sleep 60 & echo $! > child; wait"]
    began = time.monotonic()
    assert running.run(words, os.environ, tmp_path, tmp_path / "log", 0.5) is None
    assert time.monotonic() - began < 30
    child = int((tmp_path / "child").read_text())
    state = Path(f"/proc/{child}/stat")
    end = time.monotonic() + 10
    while state.is_file() and state.read_text().split()[2] != "Z" and time.monotonic() < end:
        time.sleep(0.02)
    assert not state.is_file() or state.read_text().split()[2] == "Z"


def test_a_run_on_rows_of_another_length_is_refused(tmp_path):
    found = tmp_path / "peak.json"
    found.write_text("{}")
    row = ROWS[0]
    log = "Dataset Token Length: 2048.000000±0.000000, min={}.000000, max=2048.000000, size=6"
    assert running.refusal(row, 0, log.format(2048), found) == ""
    assert running.refusal(row, 0, log.format(2000), found) == "the rows have 2000 to 2048 tokens, not 2048 to 2048"
    assert "unknown length" in running.refusal(row, 0, "", found)
    assert running.refusal(row, 0, log.format(2048), tmp_path / "none.json") == "the plugin wrote nothing"
    assert running.refusal(row, 1, TELLING, found).startswith("Out of GPU memory in training: torch.OutOfMemoryError")


def a_run(folder: Path, *outcomes: str) -> Path:
    """A run's folder as tunekit leaves it."""
    attempts = []
    for number, outcome in enumerate(outcomes, 1):
        place = folder / "attempts" / str(number)
        place.mkdir(parents=True)
        (place / "train.log").write_text(TELLING if outcome != "done" else "fine\n")
        attempts.append(asdict(Attempt(number, outcome, 8, 4, None, 0, int(outcome != "done"))))
    (folder / "run.json").write_text(json.dumps({"attempts": attempts}))
    return folder


def test_the_text_of_an_out_of_memory_is_kept_without_folders_and_is_still_understood(tmp_path):
    folder = a_run(tmp_path / "run", "gpu-memory", "done")
    attempts, text, reason = oom.read(folder, tmp_path / "log", 0)
    assert [attempt["outcome"] for attempt in attempts] == ["gpu-memory", "done"]
    assert reason == ""
    assert text.startswith("# attempt 1: gpu-memory, exit status 1\n")
    assert "/opt" not in text
    assert "/srv" not in text
    assert 'File "swift/cli/sft.py", line 10' in text
    assert "https://docs.pytorch.org/docs/stable/notes/cuda.html" in text
    assert classify(1, text).kind is Kind.GPU_MEMORY


def test_a_run_that_shows_no_retry_says_why(tmp_path):
    log = tmp_path / "log"
    log.write_text("first\nerror: no such flag\n")
    fitted = a_run(tmp_path / "fitted", "done")
    assert oom.read(fitted, log, 0)[2] == "the first attempt already fitted"
    assert oom.read(tmp_path / "none", log, 2)[2] == "tunekit ended with status 2: error: no such flag"
    assert oom.read(fitted, log, None)[2] == "not done in time"


@pytest.mark.parametrize("path", sorted(ROOT.glob("benchmarks/*-oom-*.txt")), ids=lambda path: path.name)
def test_the_measured_out_of_memory_is_understood(path):
    text = path.read_text(encoding="utf-8")
    kinds = {"evaluating": Kind.GPU_MEMORY_EVAL, "loading": Kind.GPU_MEMORY_LOAD}
    kind = kinds.get(path.stem.rpartition("-")[2], Kind.GPU_MEMORY)
    assert text.startswith(f"# attempt 1: {kind.value}, ")  # as it was understood in the run, by the whole log
    whole = "Traceback (most recent call last)" in text  # the lines that say in what it happened may be cut off
    assert classify(1, text).kind is (kind if whole or kind is Kind.GPU_MEMORY_LOAD else Kind.GPU_MEMORY)


class Cuda:
    """As much of torch.cuda as the plugin asks, on a card of 100 GiB."""

    def __init__(self, *, there: bool) -> None:
        self.there = there
        self.shares: list[float] = []

    def is_available(self) -> bool:
        return self.there

    def mem_get_info(self) -> tuple[int, int]:
        return 90 * GIB, 100 * GIB

    def set_per_process_memory_fraction(self, share: float) -> None:
        self.shares.append(share)


@pytest.mark.parametrize(
    ("there", "gib", "shares"),
    [(True, "23", [0.23]), (True, "200", [1.0]), (True, None, []), (False, "23", [])],
)
def test_the_plugin_bounds_the_allocator_when_it_is_imported(there, gib, shares, monkeypatch):
    cuda = Cuda(there=there)
    callbacks = types.SimpleNamespace(TrainerCallback=object, callbacks_map={})
    monkeypatch.setitem(
        sys.modules,
        "torch",
        types.SimpleNamespace(cuda=cuda, nn=types.SimpleNamespace(Module=object), no_grad=lambda: lambda made: made),
    )
    monkeypatch.setitem(sys.modules, "swift", types.SimpleNamespace(callbacks=callbacks))
    monkeypatch.setitem(sys.modules, "swift.callbacks", callbacks)
    monkeypatch.delenv("PEAK_CAP_GIB", raising=False)
    if gib:
        monkeypatch.setenv("PEAK_CAP_GIB", gib)
    spec = importlib.util.spec_from_file_location("peak_plugin", running.PLUGIN)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert cuda.shares == pytest.approx(shares)
    told = module.SHARE
    assert told == next(iter(cuda.shares), None)
    assert list(callbacks.callbacks_map) == [module.NAME]


@pytest.mark.engine
def test_the_same_path_runs_on_a_cpu(tmp_path):
    """The real ms-swift takes the plugin, finds rows of the wanted length and trains on them."""
    words = [sys.executable, ROOT / "scripts/measure_memory.py", "--device", "cpu", "--work", tmp_path]
    words += ["--only", TINY_ROWS[2].id, "--minutes", "0", "--output", tmp_path / "cpu.csv"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{TINY_ROWS[2].id} … trained; a CPU gives no numbers" in done.stdout
    (line,) = table.read(tmp_path / "cpu.csv")
    assert (line["id"], line["allocated_gib"]) == (TINY_ROWS[2].id, "")
    assert "ms-swift 4." in line["versions"]
    record = json.loads((tmp_path / TINY_ROWS[2].id / "peak.json").read_text())
    assert record["step"] == len(record["steps"]) == running.STEPS
    first = record["steps"][0]
    assert (first["allocated"], first["reserved"]) == (None, None)
    assert first["seconds"] > 0
