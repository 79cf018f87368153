"""A port of this machine alone, and a door whose secret no other user sees."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from tunekit.errors import TunekitError
from tunekit.runs import listen
from tunekit.runs.listen import door_to, listen_on, port_of, show_in_browser

if TYPE_CHECKING:
    from pathlib import Path


def test_a_port_that_is_taken_is_refused_where_it_was_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with listen_on(0) as first:
        taken = port_of(first)
        assert first.getsockname()[0] == "127.0.0.1"
        with pytest.raises(TunekitError, match=f"port {taken} of 127.0.0.1 cannot be taken"):
            listen_on(taken)
        monkeypatch.setattr(listen, "USUAL_PORT", taken)
        with listen_on(None) as second:
            assert port_of(second) not in (0, taken)


def test_the_door_is_its_owners_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEKIT_CACHE", str(tmp_path))
    door = door_to("http://127.0.0.1:7531/?token=secret", 7531)
    assert stat.S_IMODE(door.stat().st_mode) == 0o600
    assert "url=http://127.0.0.1:7531/?token=secret" in door.read_text(encoding="utf-8")


def test_a_browser_is_opened_where_there_is_a_screen_and_its_command_holds_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEKIT_CACHE", str(tmp_path))
    opened: list[str] = []
    monkeypatch.setattr(listen.webbrowser, "open", opened.append)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    show_in_browser("http://127.0.0.1:7531/?token=secret", 7531)
    assert opened == []
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    show_in_browser("http://127.0.0.1:7531/?token=secret", 7531)
    assert len(opened) == 1
    assert "secret" not in opened[0]
