"""What names of datasets become: files, numbers of rows, columns and where pictures lie."""

import json
from pathlib import Path

import pytest

RUN = ("--model", "Qwen2.5-7B", "--gpus", "80GB", "--preset", "7b", "--json")
TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


def write(name, *rows):
    Path(name).parent.mkdir(exist_ok=True, parents=True)
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def plan(tunekit):
    """The settings, variables and notes of a plan with these words."""

    def plan(*words, stage="sft"):
        ended = tunekit(stage, *RUN, *words)
        assert ended.code == 0, ended.err
        document = ended.json
        return {name: setting["value"] for name, setting in document["settings"].items()}, document

    return plan


@pytest.fixture
def rows():
    for name in ("a", "b"):
        write(f"data/{name}.jsonl", *[{"messages": TURNS}] * 40)
    Path("datasets.toml").write_text(
        '[a]\npath = "data/a.jsonl"\n[b]\npath = "data/b.jsonl"\nratio = 0.5\n', encoding="utf-8"
    )


@pytest.mark.usefixtures("rows")
def test_names_shares_and_numbers(plan):
    settings, _ = plan("--dataset", "a,b:0.25", "b", "a#5", "--val-dataset", "b")
    assert settings["dataset"] == ["data/a.jsonl", "data/b.jsonl#10", "data/b.jsonl#20", "data/a.jsonl#5"]
    assert settings["val_dataset"] == ["data/b.jsonl#20"]


@pytest.mark.usefixtures("rows")
def test_a_table_of_another_place(plan):
    Path("datasets.toml").rename("other.toml")
    settings, _ = plan("--dataset", "a", "--registry", "other.toml")
    assert settings["dataset"] == ["data/a.jsonl"]


@pytest.mark.usefixtures("rows")
def test_a_name_that_no_table_has(tunekit):
    ended = tunekit("sft", *RUN, "--dataset", "bb")
    assert ended.code == 4
    assert "dataset bb is neither a file nor in the table" in ended.err
    assert "did you mean b?" in ended.err


def test_a_share_of_a_file(plan):
    write("a.jsonl", *[{"messages": TURNS}] * 10)
    assert plan("--dataset", "a.jsonl:0.5")[0]["dataset"] == ["a.jsonl#5"]


def test_a_share_of_what_nobody_counts(tunekit):
    ended = tunekit("sft", *RUN, "--dataset", "me/it:0.5")
    assert ended.code == 2
    assert "a share of me/it needs its rows to be counted" in ended.err


def test_columns_of_one_and_of_several(plan):
    write("a.jsonl", {"ask": "Hi", "reply": "Hello"})
    write("b.jsonl", {"q": "Hi", "r": "Hello"})
    Path("datasets.toml").write_text(
        '[a]\npath = "a.jsonl"\ncolumns = {prompt = "ask", response = "reply"}\n'
        '[b]\npath = "b.jsonl"\ncolumns = {prompt = "q", response = "r"}\n',
        encoding="utf-8",
    )
    settings, _ = plan("--dataset", "a")
    assert json.loads(settings["columns"]) == {"ask": "query", "reply": "response"}
    settings, _ = plan("--dataset", "a", "b")
    assert "columns" not in settings
    (info,) = settings["custom_dataset_info"]
    assert [(Path(one["dataset_path"]).name, one["columns"]) for one in json.loads(info)] == [
        ("a.jsonl", {"ask": "query", "reply": "response"}),
        ("b.jsonl", {"q": "query", "r": "response"}),
    ]


def test_columns_that_are_said_twice(tunekit):
    write("a.jsonl", {"ask": "Hi"})
    Path("datasets.toml").write_text('[a]\npath = "a.jsonl"\ncolumns = {prompt = "ask"}\n', encoding="utf-8")
    ended = tunekit("sft", *RUN, "--dataset", "a", "--columns", '{"ask": "query"}')
    assert ended.code == 2
    assert "datasets.toml line 1 says which columns there are" in ended.err


def test_pictures(plan, tunekit):
    write("a.jsonl", {"messages": TURNS})
    text = '[a]\npath = "a.jsonl"\nimages = "pics"\n[b]\npath = "a.jsonl"\nimages = "others"\n'
    Path("datasets.toml").write_text(text, encoding="utf-8")
    assert plan("--dataset", "a")[1]["env"]["ROOT_IMAGE_DIR"] == "pics"
    assert plan("--dataset", "a", "--image-root", "x")[1]["env"]["ROOT_IMAGE_DIR"] == "x"
    ended = tunekit("sft", *RUN, "--dataset", "a", "b")
    assert ended.code == 4
    assert "different folders" in ended.err


def test_rows_that_must_be_converted_first(tunekit):
    write("data/p.json", {})
    entry = {"p": {"file_name": "p.json", "formatting": "sharegpt", "ranking": True}}
    Path("data/dataset_info.json").write_text(json.dumps(entry), encoding="utf-8")
    ended = tunekit("dpo", *RUN, "--dataset", "p")
    assert ended.code == 4
    assert "tunekit data convert data/p.json --to dpo --out data/p.dpo.jsonl" in ended.err


def test_names_of_swift(plan):
    settings, document = plan("--dataset", "self-cognition#500", "swift/self-cognition", "alpaca-zh#9")
    assert settings["dataset"] == [
        "self-cognition#500",
        "swift/self-cognition",
        "AI-ModelScope/alpaca-gpt4-data-zh#9",
    ]
    assert any("since ms-swift 3" in line for line in document["warnings"])


def test_names_of_a_file_of_ones_own(plan, tunekit):
    write("rows/a.jsonl", {"messages": TURNS})
    Path("info.json").write_text(
        json.dumps([{"dataset_name": "mine", "dataset_path": "rows/a.jsonl"}]), encoding="utf-8"
    )
    settings, _ = plan("--dataset", "mine#5", "--custom_dataset_info", "info.json")
    assert settings["dataset"] == ["rows/a.jsonl#5"]
    Path("info.json").write_text("{}", encoding="utf-8")
    ended = tunekit("sft", *RUN, "--dataset", "mine", "--custom_dataset_info", "info.json")
    assert ended.code == 4
    assert "ms-swift takes a list" in ended.err


def test_validation(plan, tunekit):
    write("a.jsonl", *[{"messages": TURNS}] * 40)
    settings, _ = plan("--dataset", "a.jsonl", "--val-split", "0.1")
    assert settings["split_dataset_ratio"] == 0.1
    settings, document = plan("--dataset", "a.jsonl", "--val-split", "0.1", "--val-dataset", "a.jsonl")
    assert any("--val-split does nothing" in line for line in document["warnings"])
    ended = tunekit("sft", *RUN, "--dataset", "a.jsonl", "--val-split", "50")
    assert ended.code == 2
    assert "a share from 0 to below 1, not 50" in ended.err


@pytest.mark.engine
def test_ms_swift_reads_each_dataset_by_its_own_columns(plan, monkeypatch, tmp_path):
    pytest.importorskip("swift.dataset", exc_type=ImportError)
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "scratch"))
    from swift.dataset import load_dataset, register_dataset_info

    write("a.jsonl", {"ask": "Hi", "reply": "Hello"})
    write("b.jsonl", {"talk": [{"who": "client", "says": "Hi"}, {"who": "robot", "says": "Hello"}]})
    Path("datasets.toml").write_text(
        '[a]\npath = "a.jsonl"\ncolumns = {prompt = "ask", response = "reply"}\n'
        '[b]\npath = "b.jsonl"\ncolumns = {messages = "talk"}\n'
        'tags = {role = "who", content = "says", user = "client", assistant = "robot"}\n',
        encoding="utf-8",
    )
    settings, _ = plan("--dataset", "a", "b")
    for info in settings["custom_dataset_info"]:
        register_dataset_info(info)
    table, _ = load_dataset(settings["dataset"])
    assert [[(turn["role"], turn["content"]) for turn in row["messages"]] for row in table] == [
        [("user", "Hi"), ("assistant", "Hello")]
    ] * 2
