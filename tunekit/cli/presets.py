"""``tunekit presets list | show | copy``."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunekit.cli.table import print_table
from tunekit.errors import TunekitError

if TYPE_CHECKING:
    from tunekit.plan.presets import Preset

app = typer.Typer(help="List, show and copy presets.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


@app.command("list")
def list_presets(as_json: Json = False) -> None:
    """The presets and overlays that can be named."""
    from tunekit.cli.prepare import library
    from tunekit.engine.flags import flag_table

    shelf = library(flag_table())
    presets = [shelf.load(name) for name in shelf.names()]
    overlays = [shelf.load_overlay(name) for name in shelf.overlay_names()]
    if as_json:
        shown = {"presets": [_summary(preset) for preset in presets], "overlays": [_summary(item) for item in overlays]}
        print(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    head = ["preset", "micro × accum", "max_length", "packing", "attn_impl", "learning_rate", "for"]
    keys = ["name", "batch", "max_length", "packing", "attn_impl", "learning_rate", "title"]
    print_table([head, *([str(row[key]) for key in keys] for row in map(_summary, presets))])
    print()
    rows = [["overlay", "what it is for and sets (--with NAME,NAME)"]]
    for overlay in overlays:
        parts = {**overlay.batch, **overlay.train}
        settings = ", ".join(f"{key} {_text(setting.value)}" for key, setting in parts.items())
        rows.append([overlay.name, f"{overlay.title}: {settings}"])
    print_table(rows)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A preset, an overlay or a file.", show_default=False)],
    as_json: Json = False,
) -> None:
    """A preset with all that it inherits: each value, where it comes from, why."""
    preset = _find(name)
    if as_json:
        print(json.dumps(_summary(preset) | {"settings": _settings(preset)}, indent=2, ensure_ascii=False))
        return
    print(f"{preset.name}: {preset.title}")
    print(f"file: {preset.path}\n")
    settings = _settings(preset).items()
    print_table([[key, _text(item["value"]), item["source"], item["why"]] for key, item in settings])


@app.command()
def copy(
    name: Annotated[str, typer.Argument(help="A preset or an overlay.", show_default=False)],
    file: Annotated[Path, typer.Argument(help="Where to; must not exist.", show_default=False)],
) -> None:
    """Copy a preset's file, to change it and use it with --preset FILE."""
    preset = _find(name)
    if file.exists():
        raise TunekitError(f"{file} exists already", "take another name, or delete it")
    if not file.parent.is_dir():
        raise TunekitError(f"the folder {file.parent} does not exist")
    shutil.copyfile(preset.path, file)
    print(f"copied {preset.path} to {file}\nuse it with: --preset {file}", file=sys.stderr)


def _find(name: str) -> Preset:
    from tunekit.cli.prepare import library
    from tunekit.engine.flags import flag_table

    shelf = library(flag_table())
    if name in shelf.overlay_names() and name not in shelf.names():
        return shelf.load_overlay(name)
    return shelf.load(name)


def _summary(preset: Preset) -> dict[str, Any]:
    train = {flag: setting.value for flag, setting in preset.train.items()}
    micro = preset.batch["micro"].value if "micro" in preset.batch else None
    effective = preset.batch["effective"].value if "effective" in preset.batch else None
    whole = isinstance(micro, int) and isinstance(effective, int)
    return {
        "name": preset.name,
        "title": preset.title,
        "batch": f"{micro} × {int(str(effective)) // int(str(micro))} = {effective}" if whole else "",
        "max_length": train.get("max_length", ""),
        "packing": _text(train.get("packing", "")),
        "attn_impl": train.get("attn_impl", ""),
        "learning_rate": _text(train.get("learning_rate", "")),
        "file": str(preset.path),
    }


def _settings(preset: Preset) -> dict[str, dict[str, Any]]:
    named = {f"batch.{key}": setting for key, setting in preset.batch.items()} | preset.train
    return {key: {"value": item.value, "source": item.source, "why": item.why} for key, item in named.items()}


def _text(value: Any) -> str:
    from tunekit.plan.settings import text

    return text(value)
