"""The tables: each key ends somewhere, and each flag that they name is one of ms-swift's."""

import pytest

from tunekit.engine.flags import SNAPSHOT
from tunekit.files import read_object
from tunekit.recipes.importers.recognition import DIALECTS
from tunekit.recipes.importers.table import KINDS, TABLES, read_table, swift_defaults

FLAGS = {row[0]: row for row in read_object(SNAPSHOT)["flags"]}
SERVING = {"host", "port", "share"}
"""Flags of swift deploy and app, which the snapshot does not hold."""


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_every_flag_is_one_of_ms_swift(dialect):
    named = {rule.text for rule in dialect.rules.values() if rule.kind == "to"}
    named |= {flag for rule in dialect.rules.values() for flag in rule.sets}
    assert named <= FLAGS.keys() | SERVING
    assert named


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_every_function_is_there_and_is_used(dialect):
    named = {rule.text for rule in dialect.rules.values() if rule.kind == "by"}
    assert named <= dialect.functions.keys()


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_every_row_says_one_thing_in_words(dialect):
    for rule in dialect.rules.values():
        assert rule.kind in KINDS
        assert rule.text
        assert rule.kind in ("to", "by") or " " in rule.text, rule.key
        mapped = [word for word in rule.values.values() if word and rule.kind == "to"]
        choices = FLAGS[rule.text][2] if mapped and rule.text in FLAGS else []
        assert not choices or {str(word) for word in mapped} <= set(choices), rule.key


def test_llamafactory_is_whole():
    """0.9.5 accepts 370 keys: 233 of its own, 138 of transformers, one in both."""
    assert len(read_table("llamafactory")) == 370


def test_defaults_are_of_flags_of_ms_swift():
    for part in swift_defaults().values():
        assert part.keys() <= FLAGS.keys()


def test_templates_are_of_ms_swift():
    from tunekit.files import read_toml
    from tunekit.plan.models.catalogue import template_names

    rows, _ = read_toml(TABLES / "llamafactory_templates.toml")
    assert {name for row in rows.values() for name in row["to"]} <= template_names()


def test_what_a_model_type_of_2_was_called():
    names = read_object(TABLES / "swift2.json")
    assert (len(names["models"]), len(names["datasets"])) == (546, 168)
    assert names["models"]["qwen2_5-7b-instruct"] == "Qwen/Qwen2.5-7B-Instruct"
