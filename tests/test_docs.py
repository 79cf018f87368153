"""Pages that lead somewhere, and say how things are called."""

import re
from pathlib import Path

import pytest

from tunekit.cli.app import COMMANDS
from tunekit.stages import STAGES

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link]
    assert all((page.parent / link).exists() for link in local), [
        link for link in local if not (page.parent / link).exists()
    ]


def test_the_pages_are_looked_at():
    assert {"README.md", "README.zh.md", "CONTRIBUTING.md", "CHANGELOG.md", "cli.md", "presets.md", "rules.md"} <= {
        page.name for page in PAGES
    }


def test_every_command_is_documented():
    shown = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    alone = set(COMMANDS) - STAGES.keys() - {"rlhf", "presets", "recipes", "data"}
    for name in alone | {"sft", "presets list", "recipes copy", "data stats"}:
        assert f"## tunekit {name}\n" in shown
    assert ", ".join(STAGES) in shown
