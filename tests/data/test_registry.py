"""Datasets by name: a table of one's own, LLaMA-Factory's, and names that ms-swift knows."""

import json
from pathlib import Path

import pytest

from tunekit.data.files import NAMED_BY_SWIFT, local_file
from tunekit.data.registry import NamedDataset, find_datasets, name_of_swift2, read_registry
from tunekit.errors import TunekitError


def table(text, name="datasets.toml"):
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_text(text, encoding="utf-8")


def found(*words, table=""):
    return [one.dataset for one in find_datasets(words, table)]


def test_what_a_table_says():
    table('[chat]\npath = "chat.jsonl"\ncolumns = {prompt = "ask", response = "reply"}\nimages = "pics"\nratio = 0.5\n')
    (chat,) = found("chat")
    assert chat == NamedDataset(
        "chat.jsonl", {"ask": "query", "reply": "response"}, {}, "pics", 0.5, None, "", "datasets.toml line 1"
    )


def test_words():
    table('[a]\npath = "a.jsonl"\n[b]\nid = "me/b"\nratio = 0.2\n[c]\npath = "c.jsonl"\nsamples = 7\n')
    assert [(one.place, one.share, one.samples) for one in found("a,b:0.5", "c", "b", "a#9", "x/y#5")] == [
        ("a.jsonl", None, None),
        ("me/b", 0.5, None),
        ("c.jsonl", None, 7),
        ("me/b", 0.2, None),
        ("a.jsonl", None, 9),
        ("x/y", None, 5),
    ]


def test_files_stay_what_they_are():
    for name in ("a,b.jsonl", "a:0.5", "a"):
        Path(name).write_text("{}", encoding="utf-8")
        assert found(name) == [NamedDataset(name)]


def test_paths_begin_at_the_table():
    table('[a]\npath = "rows/a.jsonl"\n', "conf/datasets.toml")
    for place in ("conf", "conf/datasets.toml"):
        assert found("a", table=place)[0].place == "conf/rows/a.jsonl"


def test_tags_and_formats():
    table(
        '[a]\npath = "a.jsonl"\nformat = "sharegpt"\ncolumns = {messages = "talk"}\n'
        'tags = {role = "who", content = "says", user = "human", assistant = "robot"}\n'
        '[b]\npath = "b.jsonl"\nformat = "alpaca"\ncolumns = {prompt = "task", input = "data", response = "done"}\n'
    )
    first, second = found("a", "b")
    assert first.columns == {"talk": "messages"}
    assert first.messages == {"role_key": "who", "content_key": "says", "assistant_role": "robot"}
    assert second.columns == {"task": "instruction", "data": "input", "done": "output"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('[a]\npth = "x"\n', r"datasets.toml line 2: pth is nothing"),
        ("[a]\nratio = 0.5\n", "line 1: a needs path"),
        ('[a]\npath = "x"\nid = "y/z"\n', "a needs path, or id"),
        ('[a]\npath = "x"\nratio = 2\n', "ratio is a share"),
        ('[a]\npath = "x"\nsamples = 0\n', "samples is a number"),
        ('[a]\npath = "x"\nformat = "alpacca"\n', "format takes"),
        ('[a]\npath = "x"\ncolumns = {promt = "y"}\n', "columns has promt"),
        ('[a]\npath = "x"\ntags = {speaker = "y"}\n', "tags has speaker"),
        ('a = "x"\n', "a must be a table"),
    ],
)
def test_what_a_table_cannot_say(text, why):
    table(text)
    with pytest.raises(TunekitError, match=why):
        read_registry()


class TestLlamaFactory:
    def entry(self, **entry):
        table(json.dumps({"mine": entry}), "data/dataset_info.json")
        return read_registry()["mine"]

    def test_a_file_beside_it(self):
        assert self.entry(file_name="mine.json").place == "data/mine.json"
        assert self.entry(file_name="mine.json").columns == {}

    def test_ids(self):
        assert self.entry(hf_hub_url="me/it", subset="en").place == "hf::me/it:en"
        assert self.entry(ms_hub_url="me/it").place == "ms::me/it"
        assert self.entry(file_name="a.json", num_samples=9).samples == 9

    def test_columns(self):
        columns = {"prompt": "task", "query": "data", "response": "done", "system": "sys", "history": "history"}
        assert self.entry(file_name="a.json", columns=columns).columns == {
            "task": "instruction",
            "data": "input",
            "done": "output",
            "sys": "system",
        }
        pair = {"prompt": "instruction", "chosen": "good", "rejected": "bad"}
        assert self.entry(file_name="a.json", ranking=True, columns=pair).columns == {
            "instruction": "query",
            "good": "response",
            "bad": "rejected_response",
        }
        tagged = self.entry(file_name="a.json", columns={"messages": "talk", "kto_tag": "mark"}, formatting="sharegpt")
        assert tagged.columns == {"talk": "messages", "mark": "label"}

    def test_tags(self):
        tags = {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "robot"}
        assert self.entry(file_name="a.json", formatting="sharegpt", tags=tags).messages == {"assistant_role": "robot"}

    @pytest.mark.parametrize(
        ("entry", "why"),
        [
            ({"file_name": "a.json", "formatting": "sharegpt", "ranking": True}, "objects"),
            ({"file_name": "a.json", "split": "test"}, "the split train"),
            ({"script_url": "x.py"}, "no counterpart of script_url"),
        ],
    )
    def test_what_must_be_converted(self, entry, why):
        assert why in self.entry(**entry).convert

    def test_a_list_is_not_its_table(self):
        table("[]", "dataset_info.json")
        with pytest.raises(TunekitError, match="an object of datasets") as error:
            read_registry()
        assert "--custom_dataset_info" in error.value.hint


def test_names_of_swift():
    assert local_file("self-cognition#500") is None
    assert local_file("hf::me/it") is None
    assert name_of_swift2("alpaca-zh") == "AI-ModelScope/alpaca-gpt4-data-zh"
    assert name_of_swift2("alpaca-zh", use_hf=True) == "llm-wizard/alpaca-gpt4-data-zh"
    assert name_of_swift2("nobody") == ""


@pytest.mark.engine
def test_these_are_the_names_that_swift_has():
    pytest.importorskip("swift.dataset", exc_type=ImportError)
    from swift.dataset.dataset_meta import DATASET_MAPPING

    assert {name for name in DATASET_MAPPING if isinstance(name, str)} == set(NAMED_BY_SWIFT)


def test_a_registry_that_is_not_there():
    assert read_registry() == {}
    for name in ("nope.toml", "."):
        with pytest.raises(TunekitError, match="--registry"):
            read_registry(name)
