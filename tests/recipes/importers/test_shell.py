"""Shell scripts are read, not run."""

import pytest

from tunekit.recipes.importers.shell import MOST_CALLS, read_script


def words(text):
    return [[word for word, _ in call.words] for call in read_script(text)]


@pytest.mark.parametrize(
    ("script", "read"),
    [
        ("swift sft --a 1", ["swift", "sft", "--a", "1"]),
        ("swift sft \\\n  --a 1 \\\n  --b 'x y'  # c\n", ["swift", "sft", "--a", "1", "--b", "x y"]),
        ('A=one\nB="$A two"\nswift "$B" $B', ["swift", "one two", "one", "two"]),
        ("swift ${A:-x} ${B-y z} ${C:+no}end", ["swift", "x", "y", "z", "end"]),
        (
            "A=path/model.bin; swift ${A##*/} ${A%.bin} ${A/path/here} ${#A}",
            ["swift", "model.bin", "path/model", "here/model.bin", "14"],
        ),
        ("A=(--a 1 --b 'x y')\nA+=(--c)\nswift \"${A[@]}\" ${A[1]}", ["swift", "--a", "1", "--b", "x y", "--c", "1"]),
        ("N=4; swift $(expr 32 / $N) $((N * 2 + 1)) `expr 9 - 2`", ["swift", "8", "9", "7"]),
        ("swift --gpus $(seq 0 2) $(seq 3)", ["swift", "--gpus", "0", "1", "2", "1", "2", "3"]),
        ("swift --model <MODEL_ID> --data '<a b>' > log 2>&1 &", ["swift", "--model", "<MODEL_ID>", "--data", "<a b>"]),
        ("swift --re 'a$b' \"a\\$b\" a\\ b", ["swift", "--re", "a$b", "a$b", "a b"]),
        ("swift --json '{\"a\": 1}'", ["swift", "--json", '{"a": 1}']),
        ("cat <<EOF\nswift no\nEOF\nswift yes", ["cat"]),
    ],
)
def test_words(script, read):
    assert words(script)[0] == read


def test_commands_end_where_bash_ends_them():
    assert words("set -e\na b && c; d | e\n(f)\n") == [["a", "b"], ["c"], ["d"], ["e"], ["f"]]


def test_variables_of_a_command_and_exported_ones():
    first, second = read_script("export A=1\nB=2 swift x\nswift y")
    assert (first.env, second.env) == ({"A": "1", "B": "2"}, {"A": "1"})


def test_each_word_has_its_line():
    (call,) = read_script("\n# c\nswift \\\n  --a \\\n  --b")
    assert [line for _, line in call.words] == [3, 4, 5]


def test_a_loop_over_words_is_followed():
    assert words("for a in x 'y z'; do\n swift $a\n swift \"$a\"\ndone\nend") == [
        ["swift", "x"],
        ["swift", "x"],
        ["swift", "y", "z"],
        ["swift", "y z"],
        ["end"],
    ]


@pytest.mark.parametrize(
    "text", ["$(date +%s)", "`hostname`", "$HOME/x", "$1", "${A:?needed}", "$((1/0))", "$(expr 1 / x)"]
)
def test_what_only_running_could_tell_stays_and_is_said(text):
    (call,) = read_script(f"A2={text}\nswift --a $A2 --b {text}")
    assert call.words[2][0] == text
    assert call.unread
    assert "line 2" in call.unread[0]


def test_an_unreadable_variable_that_is_not_used_is_nobodys_business():
    (call,) = read_script("A=$(date)\nswift --a 1")
    assert not call.unread


def test_a_comment_in_the_middle_does_not_hide_the_rest():
    (call,) = read_script("swift sft --a 1 \\\n  # --b 2 \\\n  --c 3")
    assert [word for word, _ in call.words] == ["swift", "sft", "--a", "1", "--c", "3"]
    assert "backslash" in call.unread[-1]


def test_control_flow_is_said():
    (call,) = [call for call in read_script("if [ -f x ]; then\n swift a\nfi") if call.words[0][0] == "swift"]
    seen = [note for one in read_script("if [ -f x ]; then\n swift a\nfi") for note in one.unread]
    assert call.words[1][0] == "a"
    assert "`if` is not followed" in seen[0]


def test_nothing_grows_without_end():
    assert len(read_script("A=xx\n" + "A=$A$A\n" * 60 + "swift $A")) == 1
    deep = "".join(f"for a{i} in $(seq 1000); do\n" for i in range(6)) + "swift\n" + "done\n" * 6
    assert len(read_script(deep)) <= MOST_CALLS
    assert read_script("".join(f"for a{i} in $(seq 1000); do\n" for i in range(6)) + "done\n" * 6) == []
