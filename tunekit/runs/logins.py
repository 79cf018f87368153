"""Whether the trackers of a plan know who sends to them: without a key they fail after the model is loaded."""

from __future__ import annotations

import configparser
import netrc
import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tunekit.errors import TunekitError
from tunekit.plan.secrets import VARIABLE_OF_TRACKER
from tunekit.plan.trackers import OFFLINE, SWANLAB, WANDB, known_environment, sends_nothing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tunekit.plan.plan import Plan

WANDB_HOST = "https://api.wandb.ai"

HINTS = {
    WANDB: "export WANDB_API_KEY, or wandb login; WANDB_MODE=offline keeps the run here, for wandb sync later",
    SWANLAB: "export SWANLAB_API_KEY, or swanlab login; --swanlab_mode local keeps the run here",
}


def check_logins(plan: Plan) -> None:
    """Raise TunekitError where a tracker of a plan is to send, and has no key and no login on this machine."""
    environ = known_environment({**os.environ, **plan.env})
    for tracker, logged_in in LOGGED_IN.items():
        variable = VARIABLE_OF_TRACKER[tracker]
        silent = tracker not in plan.trackers or sends_nothing(plan, tracker, environ)
        if not (silent or environ.get(variable) or logged_in(environ)):
            message = f"--report_to {tracker} has no key: {variable} is not set, and nobody is logged in here"
            raise TunekitError(message, HINTS[tracker])


def _home(environ: Mapping[str, str]) -> Path:
    return Path(environ["HOME"]) if environ.get("HOME") else Path.home()


def _swanlab(environ: Mapping[str, str]) -> bool:
    """Whether SwanLab finds a key elsewhere: its own .netrc, a .env, a folder of secrets (its settings)."""
    own = environ.get("SWANLAB_ROOT") or environ.get("SWANLAB_SAVE_DIR")
    folders = [Path(".swanlab"), Path(own) if own else _home(environ) / ".swanlab"]
    said = any(environ.get(name) for name in ("SWANLAB_SECRETS_DIR", "SWANLAB_CONFIG_DIR"))
    return said or any(map(_filled, (folder / ".netrc" for folder in folders))) or "SWANLAB_API_KEY" in _text(".env")


def _wandb(environ: Mapping[str, str]) -> bool:
    """Whether W&B finds a key elsewhere, or is told to be offline: .netrc, settings (its lib/wbauth, settings_file)."""
    settings: dict[str, str] = {}
    for found in _wandb_settings(environ):
        settings |= found
    if environ.get("WANDB_IDENTITY_TOKEN_FILE") or settings.get("api_key"):
        return True
    if settings.get("mode") in OFFLINE[WANDB] and not environ.get("WANDB_MODE"):
        return True
    host = urlsplit(environ.get("WANDB_BASE_URL") or settings.get("base_url") or WANDB_HOST).netloc
    home = _home(environ)
    own = environ.get("NETRC")
    for path in [Path(own).expanduser()] if own else [home / ".netrc", home / "_netrc"]:
        try:
            return netrc.netrc(str(path)).authenticators(host) is not None
        except FileNotFoundError:
            continue
        except (netrc.NetrcParseError, OSError):  # W&B may read what Python of here does not
            return True
    return False


def _wandb_settings(environ: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Its settings for all runs, then those of this folder."""
    own = Path(environ.get("WANDB_CONFIG_DIR") or _home(environ) / ".config" / "wandb")
    for path in (own / "settings", Path(environ.get("WANDB_DIR", "."), "wandb", "settings")):
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, OSError, UnicodeDecodeError):
            continue
        yield dict(parser["default"]) if parser.has_section("default") else {}


def _filled(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def _text(name: str) -> str:
    try:
        return Path(name).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


LOGGED_IN: Mapping[str, Callable[[Mapping[str, str]], bool]] = {SWANLAB: _swanlab, WANDB: _wandb}
"""Whether a tracker finds a key beside its variable."""
