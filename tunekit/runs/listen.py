"""A port of this machine alone to serve a page on, and the way to it for the user's own browser."""

from __future__ import annotations

import os
import socket
import webbrowser
from typing import TYPE_CHECKING

from tunekit.errors import TunekitError
from tunekit.files import cache_folder, write_atomically

if TYPE_CHECKING:
    from pathlib import Path

HERE, USUAL_PORT = "127.0.0.1", 7531
"""The address that nobody but this machine reaches, and the port that is taken where none is named."""


def listen_on(port: int | None) -> socket.socket:
    """A socket that listens on a port of the loopback address; without a port on the usual one, or a free one.

    Raises TunekitError where the port that was named is taken.
    """
    for number in (port,) if port is not None else (USUAL_PORT, 0):
        found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((HERE, number))
        except OSError as error:
            found.close()
            why = error.strerror or str(error)
            continue
        found.listen(64)
        return found
    raise TunekitError(f"port {port} of {HERE} cannot be taken: {why}", "without --port tunekit takes a free one")


def port_of(listening: socket.socket) -> int:
    """On which port a socket listens."""
    return int(listening.getsockname()[1])


def door_to(url: str, port: int) -> Path:
    """A file that leads a browser to `url`, which holds a secret: as a word of the browser's command all could read it.

    Only its owner can read the file.
    """
    path = cache_folder() / f"board-{port}.html"
    page = (
        f'<!doctype html><meta charset="utf-8"><title>tunekit</title><meta http-equiv="refresh" content="0;url={url}">'
    )
    write_atomically(path, page, mode=0o600)
    return path


def has_screen() -> bool:
    """Whether a browser can show itself to the user of this machine."""
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def show_in_browser(url: str, port: int) -> None:
    """Open `url` in a browser, where this machine has a screen; one of a terminal would be in the way."""
    if has_screen():
        webbrowser.open(door_to(url, port).as_uri())
