"""The prompt of the training, written for others."""

from __future__ import annotations

import jinja2
import pytest

from tunekit.runs.trained.export.template import matching_template, ollama_template

CHATML = {
    "prefix": "<s>",
    "system_prefix": "<s>system\n{{SYSTEM}}</s>\n",
    "prompt": 'user "\n{{QUERY}}</s>\nassistant\n',
    "chat_sep": "</s>\n",
    "suffix": "</s>",
}
USER, BOT = {"role": "user", "content": "Hi {{ you }}"}, {"role": "assistant", "content": "Ho"}


@pytest.mark.parametrize(
    ("system", "messages", "text"),
    [
        ("", [USER], '<s>user "\nHi {{ you }}</s>\nassistant\n'),
        ("你好\n", [USER], '<s>system\n你好\n</s>\nuser "\nHi {{ you }}</s>\nassistant\n'),
        (
            "no",
            [{"role": "system", "content": "yes"}, USER],
            '<s>system\nyes</s>\nuser "\nHi {{ you }}</s>\nassistant\n',
        ),
        (
            "",
            [USER, BOT, USER],
            '<s>user "\nHi {{ you }}</s>\nassistant\nHo</s>\nuser "\nHi {{ you }}</s>\nassistant\n',
        ),
        ("", [USER, BOT], '<s>user "\nHi {{ you }}</s>\nassistant\nHo</s>'),
    ],
)
def test_jinja_writes_a_conversation_as_training_does(system, messages, text):
    written = jinja2.Environment().from_string(matching_template(CHATML, system)).render(messages=messages)  # noqa: S701
    assert written == text


def test_ollamas_template_trims_no_line_break():
    made = ollama_template(CHATML)
    assert "{{-" not in made
    assert "-}}" not in made
    assert made.count("{{") == made.count("}}")
    assert made.count("{{ end }}") == made.count("{{ if ") + made.count("{{ range ")
    assert 'user "\n{{ .Content }}</s>\nassistant\n' in made
