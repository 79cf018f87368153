"""``tunekit board``: runs and a planner in a browser of this machine."""

from __future__ import annotations

import os
import secrets
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunekit.cli.command import Number
from tunekit.console import say
from tunekit.errors import TunekitError, did_you_mean

if TYPE_CHECKING:
    from tunekit.runs.scan import Scan

NEEDED = ("starlette", "uvicorn")
PORTS_TAKEN = range(1, 65536)


def board_command(
    port: Annotated[Number, typer.Option(help="Default: 7531, or a free one.", show_default=False)] = None,
    lang: Annotated[str, typer.Option(help="en or zh.")] = "en",
    no_open: Annotated[bool, typer.Option("--no-open", help="Only print the address.")] = False,
    folder: Annotated[Path, typer.Option(help="Where the runs are.")] = Path("runs"),
) -> None:
    """Show runs as they go, compare them, and plan, in a browser of this machine. Nothing can be changed there."""
    from tunekit.cli.show.page_words import LANGUAGES

    if lang not in LANGUAGES:
        raise TunekitError(f"--lang takes {' or '.join(LANGUAGES)}, not {lang}", did_you_mean(lang, LANGUAGES))
    if port is not None and port not in PORTS_TAKEN:
        raise TunekitError(f"--port takes a number from 1 to 65535, not {port}")
    if folder != Path("runs") and not folder.is_dir():
        raise TunekitError(f"there is no folder {folder}", "--folder is the one that holds runs, ./runs by default")
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        named = f"{' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed"
        raise TunekitError(f"tunekit board needs {named}", 'pip install "tunekit[board]"')
    from tunekit.runs.scan import Scan

    _serve_board(Scan(folder), lang, port, opens=not no_open)


def _serve_board(scan: Scan, language: str, port: int | None, *, opens: bool) -> None:
    import uvicorn

    from tunekit.cli.board_app import guarded
    from tunekit.runs.listen import HERE, listen_on, port_of, show_in_browser

    with listen_on(port) as listening:
        number, token = port_of(listening), secrets.token_urlsafe(24)
        url = f"http://{HERE}:{number}/?token={token}"
        app = guarded(scan, language, token, number, ahead=True)
        print(url, flush=True)
        say("Ctrl-C ends it. The address holds a token: who has it sees your runs.")
        if "SSH_CONNECTION" in os.environ:
            way = f"ssh -N -L {number}:{HERE}:{number} {os.uname().nodename}"
            say(f"From your own machine: {way}, then the same address")
        if opens:
            show_in_browser(url, number)
        # A log of requests would show the token, and of a fault the application tells in a line.
        config = uvicorn.Config(app, lifespan="off", ws="none", log_level="critical", access_log=False)
        config.timeout_graceful_shutdown, config.server_header = 1, False
        try:
            uvicorn.Server(config).run(sockets=[listening])
        except KeyboardInterrupt:
            say("stopped")
