"""What a check of rows calls fine is loaded whole by the real ms-swift, and what it refuses as unreadable is not."""

import json
from pathlib import Path

import pytest

from tunekit.data.survey import check_dataset

pytestmark = pytest.mark.engine

GOOD = '{"query": "q", "response": "a"}'
TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
CHAT = json.dumps({"messages": TURNS})
FINE = {
    "lines.json": f"{GOOD}\n{GOOD}\n",
    "list.json": f"[{GOOD}, {GOOD}]",
    "pretty.jsonl": f"{json.dumps(json.loads(GOOD), indent=1)}\n{GOOD}\n",
    "mark.jsonl": f"\ufeff{GOOD}\n{GOOD}\n",
    "ends.jsonl": f"{GOOD}\r\n\r\n  \n{GOOD}",
    "twice.json": f'[{GOOD}, {{"query": "q", "query": "r", "response": "a"}}]',
    "nan.jsonl": f'{GOOD}\n{{"query": "q", "response": "a", "score": NaN}}\n',
    "large.jsonl": f'{GOOD}\n{{"query": "q", "response": "a", "n": 123456789012345678901234567890}}\n',
    "types.jsonl": "\n".join(f'{{"query": "q", "response": "a", "meta": {meta}}}' for meta in ("1", '"x"', '{"a": 1}')),
    "zero.jsonl": '{"query": "q\\u0000", "response": "a"}\n',
    "quotes.csv": 'query,response\n"a,b","c\nd"\nx,y\n',
    "words.csv": "query,response\nNULL,NA\n1,2\n",
    "speakers.jsonl": '{"system": "s", "conversation": [{"human": "q", "assistant": "a"}]}\n',
    "text.jsonl": json.dumps({"messages": json.dumps(TURNS)}) + "\n",
    "parts.jsonl": json.dumps({"messages": [{"role": "user", "content": [{"type": "text", "text": "q"}]}, TURNS[1]]}),
}
STOPS = {
    "twice.jsonl": f'{GOOD}\n{{"query": "q", "query": "r", "response": "a"}}\n',
    "deep.jsonl": CHAT + "\n" + CHAT.replace('"content": "q"', '"content": "r", "content": "q"') + "\n",
    "cut.jsonl": f'{GOOD}\n{{"query": "q',
    "comma.jsonl": f"{GOOD},\n{GOOD}\n",
    "zero.jsonl": f'{GOOD}\n{{"query": "q\0", "response": "a"}}\n',
    "half.jsonl": f'{GOOD}\n{{"query": "q\\ud800", "response": "a"}}\n',
    "fields.csv": "query,response\na,b\nc,d,e\n",
    "open.csv": 'query,response\na,"b\nc,d\n',
    "semicolon.csv": "query;response\na;b\n",
    "key.json": f'{{"data": [{GOOD}, {GOOD}]}}',
    "mark.json": f"\ufeff[{GOOD}]",
}
LOST = {
    "other.jsonl": f"{CHAT}\n{GOOD}\n{CHAT}\n",
    "role.jsonl": f"{CHAT}\n{CHAT.replace('user', 'narrator')}\n{CHAT}\n",
    "null.jsonl": CHAT + "\n" + CHAT.replace('"a"', "null") + "\n" + CHAT + "\n",
    "none.jsonl": f'{CHAT}\n{{"messages": []}}\n{{}}\n{CHAT}\n',
}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    dataset = pytest.importorskip("swift.dataset", exc_type=ImportError)
    patch = pytest.MonkeyPatch()
    patch.setenv("MODELSCOPE_CACHE", str(tmp_path_factory.mktemp("cache")))

    def count(name: str, text: str) -> int:
        Path(name).write_bytes(text.encode())
        return len(dataset.load_dataset([str(Path(name).absolute())], num_proc=1, load_from_cache_file=False)[0])

    yield count
    patch.undo()


@pytest.mark.parametrize("name", FINE)
def test_what_is_fine_is_loaded_whole(name, loaded):
    rows = loaded(name, FINE[name])
    done = check_dataset([name], stage="sft")
    assert (done.errors, done.rows) == ([], rows)


@pytest.mark.parametrize("name", STOPS)
def test_what_stops_ms_swift_is_an_error(name, loaded):
    with pytest.raises(Exception):  # noqa: B017 - it raises what it likes
        loaded(name, STOPS[name])
    assert {one.kind for one in check_dataset([name], stage="sft").errors} & {"unreadable", "form"}


@pytest.mark.parametrize("name", LOST)
def test_what_is_lost_is_counted(name, loaded):
    rows = loaded(name, LOST[name])
    done = check_dataset([name], stage="sft")
    assert done.rows - done.bad == rows < done.rows
