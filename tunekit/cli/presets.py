"""``tunekit presets list | show | copy``."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunekit.cli.show.lines import print_table
from tunekit.errors import TunekitError

if TYPE_CHECKING:
    from tunekit.plan.presets.fits import Fits
    from tunekit.plan.presets.library import Preset

app = typer.Typer(help="List, show and copy presets.", no_args_is_help=True)

SMALLEST = """\
smallest GPU: from where a quarter of the tokens carries loss to where all do;
in brackets with Liger, where that is less. The numbers: tunekit presets show
NAME; those of your own model: tunekit fit --model MODEL --preset NAME"""

TRAIN = """
# Flags of ms-swift by their own names; what is not said here comes from the preset that `extends` names.
[train]
# learning_rate = 1e-4
"""
"""What a copy without settings of its own ends with."""

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


@app.command("list")
def list_presets(as_json: Json = False) -> None:
    """The presets and overlays that can be named."""
    from tunekit.engine.flags import flag_table
    from tunekit.plan.presets.fits import in_short
    from tunekit.runs.prepare import preset_library

    shelf = preset_library(flag_table())
    presets, broken = shelf.sound()
    for error in broken:
        print(f"left out: {error.message}", file=sys.stderr)
    overlays = [shelf.load_overlay(name) for name in shelf.overlay_names()]
    if as_json:
        shown = {"presets": [_summary(preset) for preset in presets], "overlays": [_summary(item) for item in overlays]}
        print(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    head = ["preset", "micro × accum", "max_length", "smallest GPU, GB", "for"]
    lines = []
    for preset in presets:
        row = _summary(preset)
        lines.append([preset.name, row["batch"], str(row["max_length"]), in_short(preset.fits), preset.title])
    print_table([head, *lines])
    print(f"\n{SMALLEST}\n")
    rows = [["overlay", "what it is for and sets (--with NAME,NAME)"]]
    for overlay in overlays:
        parts = {**overlay.batch, **overlay.train}
        settings = ", ".join(f"{key} {_text(setting.value)}" for key, setting in parts.items())
        rows.append([overlay.name, f"{overlay.title}: {settings}"])
    print_table(rows)


@app.command("show")
def show_preset(
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
    if preset.fits:
        print("\nWhat it takes of a GPU\n")
        print_table([["model", "tokens with loss", "Liger", "peak", "smallest GPU", "by"], *map(_needs, preset.fits)])


@app.command("copy")
def copy_preset(
    name: Annotated[str, typer.Argument(help="A preset or an overlay.", show_default=False)],
    file: Annotated[Path, typer.Argument(help="Where to; must not exist.", show_default=False)],
) -> None:
    """Copy a preset's file, to change it and use it with --preset FILE. What it takes of a GPU is left out."""
    from tunekit.plan.presets.fits import without_fits

    preset = _find(name)
    if file.exists():
        raise TunekitError(f"{file} exists already", "take another name, or delete it")
    if not file.parent.is_dir():
        raise TunekitError(f"the folder {file.parent} does not exist")
    text = without_fits(preset.path.read_bytes().decode())  # as bytes, so that line ends stay as they are
    file.write_bytes((text if "\n[train]" in text else f"{text.rstrip()}\n{TRAIN}").encode())
    print(f"copied {preset.path} to {file}\nuse it with: --preset {file}", file=sys.stderr)


def _find(name: str) -> Preset:
    from tunekit.engine.flags import flag_table
    from tunekit.runs.prepare import preset_library

    shelf = preset_library(flag_table())
    if name in shelf.overlay_names() and name not in shelf.names():
        return shelf.load_overlay(name)
    return shelf.load(name)


def _summary(preset: Preset) -> dict[str, Any]:
    train = {flag: setting.value for flag, setting in preset.train.items()}
    micro, effective = (preset.batch[key].whole if key in preset.batch else None for key in ("micro", "effective"))
    return {
        "name": preset.name,
        "title": preset.title,
        "batch": f"{micro} × {effective // micro} = {effective}" if micro and effective else "",
        "max_length": train.get("max_length", ""),
        "packing": _text(train.get("packing", "")),
        "attn_impl": train.get("attn_impl", ""),
        "learning_rate": _text(train.get("learning_rate", "")),
        "fits": [asdict(row) for row in preset.fits],
        "file": str(preset.path),
    }


def _needs(row: Fits) -> list[str]:
    liger = "yes" if row.liger else ""
    return [row.model, f"{row.loss_percent:3} %", liger, f"{row.peak_gib:5.1f} GiB", f"{row.gpu_gb} GB", row.by]


def _settings(preset: Preset) -> dict[str, dict[str, Any]]:
    named = {f"batch.{key}": setting for key, setting in preset.batch.items()} | preset.train
    return {key: {"value": item.value, "source": str(item.source), "why": item.why} for key, item in named.items()}


def _text(value: Any) -> str:
    from tunekit.plan.settings import text

    return text(value)
