"""The flags of ms-swift, read from its source or from a file."""

import json

import pytest

from tunekit.engine.flags import flag_table, from_json, read_flags, to_json
from tunekit.engine.locate import Installation
from tunekit.errors import TunekitError

COMMANDS = ("sft", "pt", "rlhf")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_its_flags(flags, command):
    assert {"model", "dataset", "learning_rate", "output_dir", "lora_rank"} <= flags.by_command[command].keys()
    assert ("beta" in flags.by_command[command]) == (command == "rlhf")


def test_json_round_trip(flags):
    again = from_json(json.loads(json.dumps(to_json(flags))), installed=True)
    assert again == flags


SOURCE = {
    "version.py": "__version__ = '4.9.1'\n",
    "cli/main.py": "",
    "arguments/__init__.py": "from .base import BaseArguments\n",
    "arguments/base.py": """
from dataclasses import dataclass
from typing import Dict, List, Literal, Optional, Union
from .kinds import Speed

@dataclass
class Shared:
    model: Optional[str] = None
    output_dir: str = 'x'
    overridden: int = 1

@dataclass
class BaseArguments(Shared):
    names: List[str] = None
    maybe: 'int | None' = None
    either: Union[int, str] = 1
    method: Literal['a', 'b', None] = None
    table: Optional[Union[dict, str]] = None
    speed: Union[Speed, str] = Speed.FAST
    ratio: float = 0.5
    one_word: 'None | str | list[str]' = None
    any_word: 'str | None | Literal[False]' = None
    yes: Union[str, bool] = False
    not_a_flag = 3

    def method_is_not_a_flag(self) -> int: ...
""",
    "arguments/kinds.py": "from enum import Enum\n\nclass Speed(Enum):\n    FAST = 'fast'\n    SLOW = 'slow'\n",
    "arguments/sft_args.py": """
from . import BaseArguments
from abc import ABC

class SftArguments(BaseArguments, ABC):
    overridden: bool = True
""",
    "arguments/pretrain_args.py": "from .sft_args import SftArguments as S\n\nclass PretrainArguments(S): ...\n",
    "arguments/rlhf_args.py": "from .sft_args import *\nfrom .base import BaseArguments\n\n"
    "class RLHFArguments(BaseArguments):\n    beta: Optional[float] = None\n",
}


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """A package `swift` whose arguments are declared in the ways that ms-swift declares its own."""
    from tunekit.engine import flags as reader

    root = tmp_path / "site" / "swift"
    for name, content in SOURCE.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    monkeypatch.setattr(reader, "find_package", lambda name: root if name == "swift" else None)
    monkeypatch.setattr(reader, "find_engine", lambda: Installation("python", root, "4.9.1"))
    caches = (reader._module, reader._class, reader._stand_in)
    for cache in caches:
        cache.cache_clear()
    yield root
    for cache in caches:
        cache.cache_clear()


def test_flags_are_read_from_source(sources):
    table = read_flags(Installation("python", sources, "4.9.1"))
    sft = table.by_command["sft"]
    assert {name: flag.kind for name, flag in sft.items()} == {
        "model": "str",
        "output_dir": "str",
        "overridden": "bool",
        "names": "list",
        "maybe": "int",
        "method": "str",
        "table": "str",
        "speed": "str",
        "ratio": "float",
        # Beside one other type, transformers' parser forgets the text; among more it takes a text.
        "either": "int",
        "yes": "bool",
        "one_word": "str",
        "any_word": "str",
    }
    assert {name for name, flag in sft.items() if flag.choices} == {"method", "speed"}
    assert sft["method"].choices == ("a", "b")
    assert sft["speed"].choices == ("fast", "slow")
    assert {name for name, flag in sft.items() if flag.optional} == {"model", "maybe", "table", "one_word", "any_word"}
    assert table.by_command["pt"].keys() == sft.keys()
    assert table.by_command["rlhf"].keys() == sft.keys() | {"beta"}
    assert table.by_command["rlhf"]["overridden"].kind == "int"


def test_the_table_of_the_installed_engine_is_cached(sources, tmp_path):
    first = flag_table()
    (kept,) = (tmp_path / "cache").iterdir()
    (sources / "arguments/base.py").unlink()
    assert flag_table() == first
    kept.write_text("{not json", encoding="utf-8")
    with pytest.raises(TunekitError, match=r"flags of ms-swift 4\.9\.1 could not be read"):
        _uncached()


@pytest.mark.parametrize("other", ["transformers", "trl"])
def test_another_version_of_a_package_that_ms_swift_inherits_from_is_read_anew(sources, tmp_path, monkeypatch, other):
    from tunekit.engine import flags as reader

    base = tmp_path / "site" / other
    base.mkdir()
    (base / "__init__.py").write_text("__version__ = '1'", encoding="utf-8")
    roots = {"swift": sources, other: base}
    monkeypatch.setattr(reader, "find_package", roots.get)
    before = flag_table()
    changed = (sources / "arguments/base.py").read_text(encoding="utf-8").replace("maybe", "perhaps")
    (sources / "arguments/base.py").write_text(changed, encoding="utf-8")
    assert "perhaps" not in _uncached().by_command["sft"], "nothing was installed since"
    (base / "__init__.py").write_text("__version__ = '1.1'", encoding="utf-8")
    assert "perhaps" in _uncached().by_command["sft"]
    assert "perhaps" not in before.by_command["sft"]


def _uncached():
    from tunekit.engine import flags as reader

    for cache in (reader._module, reader._class, reader._stand_in):
        cache.cache_clear()
    return flag_table()


def test_the_file_of_a_table_is_read_once_until_it_changes(sources, tmp_path):
    assert flag_table() == flag_table()
    assert flag_table() is flag_table()
    (kept,) = (tmp_path / "cache").iterdir()
    document = json.loads(kept.read_text(encoding="utf-8"))
    kept.write_text(json.dumps(document | {"version": "4.9.1.post1"}), encoding="utf-8")
    assert flag_table().version == "4.9.1.post1"


def test_a_cache_that_cannot_be_written_costs_nothing_else(sources, monkeypatch, tmp_path):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be", encoding="utf-8")
    monkeypatch.setenv("TUNEKIT_CACHE", str(blocked))
    assert flag_table().version == "4.9.1"


def test_without_ms_swift_the_snapshot_is_used(monkeypatch, flags):
    monkeypatch.setattr("tunekit.engine.flags.find_engine", lambda: None)
    table = flag_table()
    assert not table.installed
    assert table.by_command == flags.by_command
