"""The data that tunekit ships about ms-swift is what the installed ms-swift says today."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tunekit.engine.flags import AFTER_CLASSES, SNAPSHOT, read_flags, to_json
from tunekit.engine.locate import find_engine
from tunekit.plan.models.catalogue import CATALOGUE

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "snapshots"

pytestmark = pytest.mark.engine


def test_snapshots_are_up_to_date():
    ended = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, ""), ended.stderr[-2000:]


def test_the_shipped_flags_are_those_of_the_installed_version():
    shipped = json.loads(SNAPSHOT.read_text(encoding="utf-8"))
    engine = find_engine()
    tables = (read_flags(engine), read_flags(engine, AFTER_CLASSES))
    assert shipped == json.loads(json.dumps(to_json(*tables)))
    assert shipped["version"] == engine.version


def test_the_shipped_catalogue_is_of_the_same_version():
    assert json.loads(CATALOGUE.read_text(encoding="utf-8"))["version"] == find_engine().version
