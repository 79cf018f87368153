"""The prompt that a model was trained with, written for those who serve it: as jinja, and as Ollama's template."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

SYSTEM, QUERY = "{{SYSTEM}}", "{{QUERY}}"
"""Where ms-swift puts the system prompt and the question (template/template_meta.py)."""


def matching_template(parts: Mapping[str, str], system: str) -> str:
    """A jinja chat template that writes a conversation as ms-swift does in training.

    `parts` are ``prefix``, ``system_prefix``, ``prompt``, ``chat_sep`` and ``suffix`` of its template; `system` is the
    system prompt where a conversation brings none. It is for text: calls of tools and thoughts are not written.
    """
    before, after = _around(parts["prompt"], QUERY)
    first, second = _around(parts["system_prefix"], SYSTEM)
    return (
        f"{{%- set ns = namespace(system={_quoted(system)}) -%}}"
        "{%- if messages and messages[0].role == 'system' -%}{%- set ns.system = messages[0].content -%}{%- endif -%}"
        f"{{%- if ns.system -%}}{{{{ {_quoted(first)} + ns.system + {_quoted(second)} }}}}"
        f"{{%- else -%}}{{{{ {_quoted(parts['prefix'])} }}}}{{%- endif -%}}"
        "{%- for message in messages -%}"
        f"{{%- if message.role == 'user' -%}}{{{{ {_quoted(before)} + message.content + {_quoted(after)} }}}}"
        "{%- elif message.role == 'assistant' -%}{{ message.content }}"
        f"{{%- if loop.last -%}}{{{{ {_quoted(parts['suffix'])} }}}}"
        f"{{%- else -%}}{{{{ {_quoted(parts['chat_sep'])} }}}}{{%- endif -%}}"
        "{%- endif -%}{%- endfor -%}"
    )


def ollama_template(parts: Mapping[str, str]) -> str:
    """The same as the ``TEMPLATE`` of an Ollama Modelfile, in Go's language of templates.

    Ollama collects the system prompt in ``.System``, also where it comes as a message.
    """
    before, after = _around(parts["prompt"], QUERY)
    first, second = _around(parts["system_prefix"], SYSTEM)
    return (
        f"{{{{ if .System }}}}{first}{{{{ .System }}}}{second}{{{{ else }}}}{parts['prefix']}{{{{ end }}}}"
        "{{ range $i, $_ := .Messages }}{{ $last := eq (len (slice $.Messages $i)) 1 }}"
        f'{{{{ if eq .Role "user" }}}}{before}{{{{ .Content }}}}{after}'
        '{{ else if eq .Role "assistant" }}{{ .Content }}'
        f"{{{{ if not $last }}}}{parts['chat_sep']}{{{{ end }}}}{{{{ end }}}}{{{{ end }}}}"
    )


def _around(text: str, mark: str) -> tuple[str, str]:
    before, _, after = text.partition(mark)
    return before, after


def _quoted(text: str) -> str:
    """A text of jinja, which takes the escapes of JSON but those of characters that need none."""
    return json.dumps(text, ensure_ascii=False)
