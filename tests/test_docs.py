"""Pages that lead somewhere, say how things are called, and are up to date."""

import re
import sys
from pathlib import Path

import pytest

from tunekit import __version__
from tunekit.cli.app import COMMANDS
from tunekit.plan.strategies import STRATEGIES
from tunekit.stages import STAGES

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / ".github").rglob("*.md")])

LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    found = []
    for heading in HEADING.findall(FENCED.sub("", page.read_text(encoding="utf-8"))):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
        anchor = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        found.append(f"{anchor}-{found.count(anchor)}" if anchor in found else anchor)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in LINK.findall(FENCED.sub("", page.read_text(encoding="utf-8"))):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name) if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_of_docs_is_in_the_index():
    for folder in ("docs", "docs/zh"):
        index = (ROOT / folder / "index.md").read_text(encoding="utf-8")
        pages = {page.name for page in (ROOT / folder).glob("*.md")} - {"index.md"}
        assert {page for page in pages if f"({page})" not in index} == set()


def test_what_chinese_pages_list_by_hand_is_whole():
    def names(*globs):
        return {path.stem for pattern in globs for path in ROOT.glob(pattern)}

    listed = {
        "docs/zh/vision.md": set(STRATEGIES),
        "docs/zh/stages.md": set(STAGES),
        "docs/zh/presets.md": names("presets/*.toml", "presets/overlays/*.toml") - {"base"},
        "docs/zh/gallery.md": names("recipes/*.toml"),
        "docs/gallery.md": names("recipes/*.toml"),
    }
    for name, wanted in listed.items():
        page = (ROOT / name).read_text(encoding="utf-8")
        assert {word for word in wanted if f"`{word}`" not in page} == set(), name


def test_the_readme_fits():
    for name in ("README.md", "README.zh.md"):
        assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) < 200


def test_the_citation_has_the_version():
    assert f"version: {__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_the_tables_are_up_to_date(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT / "scripts"), *sys.path])
    from tables import TABLES

    for name, made in TABLES.items():
        page = (ROOT / name).read_text(encoding="utf-8")
        for mark, make in made.items():
            assert f"<!-- {mark}: written by scripts/docs -->\n\n{make()}\n<!-- end of {mark} -->" in page, (
                "scripts/docs"
            )


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
