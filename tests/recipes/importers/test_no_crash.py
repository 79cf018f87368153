"""No input crashes the importer: it is read, or there is one line that says why not."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tunekit.errors import TunekitError
from tunekit.recipes.importers.recognition import DIALECTS, import_file
from tunekit.recipes.importers.source import Entry, Origin
from tunekit.recipes.importers.translation import translate_source
from tunekit.recipes.importers.written import recipe_of, script_of

PIECES = [
    "swift sft --model x ",
    "for x in ",
    "; do\n",
    "done\n",
    "$(expr 1 / 0)",
    "${A:-",
    "}",
    "$((",
    "))",
    "A=(",
    ")",
]
PIECES += [
    "cat <<E\n",
    "E\n",
    "\\\n",
    "'",
    '"',
    "`",
    "a: [",
    "&a ",
    "*a",
    "[[x]]\n",
    "a = 1\n",
    '{"a":',
    "<",
    ">",
    "#",
    "\t",
]
PIECES += [
    "llamafactory-cli train ",
    "torchrun --nproc_per_node ",
    "stage: sft\n",
    "do_train: true\n",
    "\0",
    "é",
    " ",
    "\n",
]
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=30).map("".join)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["lora", "full", "freeze", "dpo", "pt", "kto", "a,b", "auto", "none", "zero3", "#", "::"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
PROGRAMS = [
    (),
    ("llamafactory-cli", "train"),
    ("llamafactory-cli", "api"),
    ("swift", "sft"),
    ("swift", "dpo"),
    ("swift",),
]
OFTEN = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("ending", ["", ".sh", ".yaml", ".toml", ".json", ".py"])
@OFTEN
@given(text=TEXTS)
@example(text="a: " + "[" * 5000)
@example(text="swift " + "$(" * 5000)
def test_any_text(tmp_path_factory, ending, text):
    path = tmp_path_factory.mktemp("any") / f"file{ending}"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    message = ""
    try:
        _, drafts = import_file(str(path))
        assert script_of(drafts, swift=True)
    except TunekitError as error:
        message = error.message
    assert "\n" not in message


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
@OFTEN
@given(data=st.data())
def test_any_value_of_any_key(dialect, data):
    keys = data.draw(st.lists(st.sampled_from([*sorted(dialect.rules), "no_such_key"]), max_size=15, unique=True))
    entries = tuple(Entry(key, data.draw(VALUES), 1) for key in keys)
    try:
        drafts = translate_source(Origin(data.draw(st.sampled_from(PROGRAMS)), entries, Path()), dialect)
    except TunekitError:
        return
    script_of(drafts, swift=True)
    script_of(drafts, swift=False)
    recipe_of(drafts, "any")
    for draft in drafts:
        written = [outcome.key for outcome in draft.outcomes if outcome.line]
        assert len(written) == len(set(written))
