"""What is exported is whole, says what it is, names nothing of this machine, and is what was trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from running import make_run, read_json, tunekit

from tunekit.errors import Exit, TunekitError
from tunekit.runs.trained.export import export as exporting
from tunekit.runs.trained.export.export import check_export, export_target
from tunekit.runs.trained.export.formats import FORMATS
from tunekit.runs.trained.job import prepare_job

CONVERTER = """
import sys
folder, _, outtype, _, file = sys.argv[1:]
open(file, "w").write(open(folder + "/model.safetensors").read() + " as " + outtype)
"""

SILENT = "import sys"

PARTS = {
    "prefix": "",
    "system_prefix": "<s>{{SYSTEM}}</s>",
    "prompt": "<u>{{QUERY}}</u>",
    "chat_sep": "|",
    "suffix": "<end>",
    "system": "Be brief.",
}


class FakeWorker:
    """Answers what a worker would; `said` maps what is done to its answers, one a question."""

    def __init__(self, **said):
        self.said = {name: list(answers) for name, answers in said.items()}

    def __call__(self, _target):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def ask(self, question, _seconds):
        return self.said[question["do"]].pop(0)


def prompts(*same, jinja="{{ matching }}"):
    pairs = [{"trained": "a", "served": "a" if one else "b", "same": one} for one in same]
    return {"pairs": pairs, "parts": PARTS, "stops": ["<end>"], "jinja": jinja}


REFERENCE = {"prompts": 2, "tokens": 40, "texts": [], "base": {"top1": 0.5, "kl": 1.0}}
NEAR, FAR = {"top1": 0.99, "kl": 0.001}, {"top1": 0.5, "kl": 0.9}


def converter(folder, text=CONVERTER):
    folder.mkdir()
    (folder / "convert_hf_to_gguf.py").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def wished(monkeypatch, tmp_path):
    """Export the run ``kit`` with a worker that answers so; ms-swift's merge is replaced by a folder."""
    make_run(dataset=["data/mine.jsonl"], cwd=tmp_path / "there")
    (tmp_path / "there/data").mkdir(parents=True)
    (tmp_path / "there/data/mine.jsonl").write_text('{"query": "Hi", "response": "Ho"}\n', encoding="utf-8")

    def merged(_job, scratch, name):
        folder = scratch / name
        folder.mkdir()
        (folder / "model.safetensors").write_text("whole", encoding="utf-8")
        (folder / "args.json").write_text('{"hub_token": "secret"}', encoding="utf-8")
        return folder, ["swift merge-lora"]

    monkeypatch.setattr(exporting, "merge_whole", merged)

    def run(name="merged", worker=None, **more):
        monkeypatch.setattr(
            exporting, "Worker", worker or FakeWorker(prompts=[prompts(True)], reference=[REFERENCE], compare=[NEAR])
        )
        job = prepare_job("export", "kit", "", {})
        wish = exporting.Wish(FORMATS[name], tmp_path / "out", **more)
        return export_target(job, wish, check_export(job, wish))

    return run


def test_a_merged_folder_says_what_it_is_and_keeps_what_names_files_of_this_machine(wished, tmp_path):
    made = wished()
    assert sorted(path.name for path in made.target.home.parent.parent.joinpath("out").iterdir()) == [
        "README.md",
        "export.json",
        "model.safetensors",
    ]
    record = read_json(tmp_path / "out/export.json")
    assert record["base"] == "Qwen/Qwen2.5-7B"
    assert record["prompt_as_trained"] is True
    assert record["parity"] == {"prompts": 2, "tokens": 40, "top1": 0.99, "kl": 0.001, "base": 1.0}
    card = (tmp_path / "out/README.md").read_text(encoding="utf-8")
    assert "base_model: Qwen/Qwen2.5-7B" in card
    assert "- mine.jsonl, SHA-256 " in card
    assert str(tmp_path) not in card + json.dumps(record)


def test_a_prompt_that_differs_is_shown_and_mended(wished, tmp_path, capsys):
    worker = FakeWorker(prompts=[prompts(True, False), prompts(True, True)], reference=[REFERENCE], compare=[NEAR])
    assert wished(worker=worker).same_prompt
    said = capsys.readouterr().err
    assert "trained: 'a'" in said
    assert "served:  'b'" in said
    assert (tmp_path / "out/chat_template.jinja").read_text(encoding="utf-8") == "{{ matching }}"


def test_a_prompt_that_cannot_be_mended_is_no_secret(wished, tmp_path, capsys):
    worker = FakeWorker(prompts=[prompts(False), prompts(False)], reference=[REFERENCE], compare=[NEAR])
    assert wished(worker=worker).same_prompt is False
    assert "no chat template could be written that matches" in capsys.readouterr().err
    assert not (tmp_path / "out/chat_template.jinja").exists()


def test_what_lost_the_training_is_not_kept(wished, tmp_path):
    worker = FakeWorker(prompts=[prompts(True)], reference=[REFERENCE], compare=[FAR])
    with pytest.raises(TunekitError, match="the training was lost") as raised:
        wished(worker=worker)
    assert raised.value.code == Exit.TRAINING_FAILED
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs", "there"]


def test_eight_bits_that_are_farther_than_expected_are_warned_of(wished, tmp_path, capsys):
    llama = converter(tmp_path / "llama")
    worker = FakeWorker(prompts=[prompts(True)], reference=[REFERENCE], compare=[{"top1": 0.9, "kl": 0.1}])
    wished("gguf", worker, llama_cpp=str(llama))
    assert "warning: it answers otherwise than the trained model: 90.0% the same" in capsys.readouterr().err
    assert (tmp_path / "out/out-q8_0.gguf").read_text(encoding="utf-8") == "whole as q8_0"


def test_ollama_gets_the_prompt_the_system_prompt_and_the_stops(wished, tmp_path):
    wished("ollama", llama_cpp=str(converter(tmp_path / "llama")))
    lines = (tmp_path / "out/Modelfile").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "FROM ./out-q8_0.gguf"
    assert 'SYSTEM """Be brief."""' in lines
    assert 'PARAMETER stop "<end>"' in lines
    assert "PARAMETER num_ctx 2048" in lines
    assert not any("None" in line for line in lines)


def test_a_converter_that_writes_nothing_is_no_success(wished, tmp_path):
    with pytest.raises(TunekitError, match="ended well and wrote nothing"):
        wished("gguf", llama_cpp=str(converter(tmp_path / "llama", SILENT)))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "says", "hints"),
    [
        (("--to", "ggfu"), "--to takes merged", "did you mean gguf"),
        (("--to", "gguf", "--quant", "q9"), "--quant takes f16", ""),
        (("--quant", "f16"), "--quant is for --to gguf", ""),
        (("--to", "gguf"), "no converter to GGUF is here", "pip install"),
        (("--to", "gguf", "--llama-cpp", "nowhere"), "nowhere is not a folder", ""),
        (("--to", "awq"), "does not make awq", "llm-compressor"),
        (("--to", "fp8"), "llm-compressor is not here", "LLM_COMPRESSOR"),
        (("--to", "hub"), "--hub-id is missing", "--hub-id ME/NAME"),
        (("--to", "hub", "--hub-id", "me/kit", "--hub", "github"), "--hub takes huggingface or modelscope", ""),
        (("--out", "runs"), "runs exists already", "take another --out"),
    ],
)
def test_what_cannot_be_exported_is_said_before_anything_is_loaded(words, says, hints, tmp_path):
    make_run()
    ended = tunekit(tmp_path, "export", "kit", *words, env={"PATH": "/nowhere"})
    error, *hint = ended.err.splitlines()
    assert (ended.code, ended.out) == (Exit.USAGE, "")
    assert error.startswith("error: ")
    assert says in error
    assert hints in "".join(hint)


def test_a_dry_run_prints_the_merge_and_the_steps(tmp_path):
    make_run()
    llama = converter(tmp_path / "llama")
    ended = tunekit(tmp_path, "export", "kit", "--to", "gguf", "--llama-cpp", str(llama), "--dry-run")
    assert ended.code == 0, ended.err
    assert ended.out.startswith("swift merge-lora \\\n  --adapters runs/kit/output/checkpoint-15")
    assert "convert it to GGUF q8_0" in ended.err
    assert not Path("exports").exists()


def test_a_hub_gets_a_staged_folder_private_and_the_token_from_the_environment(tmp_path):
    make_run(adapter=False, tuner_type="full")
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "modelscope").write_text(
        '#!/bin/sh\necho "$@" > "$HERE/words"\nls "$3" > "$HERE/files"\n', encoding="utf-8"
    )
    (tools / "modelscope").chmod(0o755)
    words = ("--to", "hub", "--hub", "modelscope", "--hub-id", "me/kit", "--no-compare")
    env = {"PATH": f"{tools}:/usr/bin:/bin", "HERE": str(tmp_path), "MODELSCOPE_API_TOKEN": "ms-planted-123456"}
    ended = tunekit(tmp_path, "export", "kit", *words, env=env)
    assert ended.code == 0, ended.err
    assert (tmp_path / "words").read_text(encoding="utf-8") == "upload me/kit exports/kit-hub\n"
    assert "args.json" not in (tmp_path / "files").read_text(encoding="utf-8")
    assert "me/kit on modelscope, private" in ended.err
    assert "ms-planted" not in ended.err + ended.out
