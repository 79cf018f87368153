"""``tunekit presets list | show | copy``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunekit.cli.command import check_copy
from tunekit.cli.show.lines import print_document, print_table
from tunekit.plan.settings import text

if TYPE_CHECKING:
    from tunekit.plan.presets.fits import Fits
    from tunekit.plan.presets.shelf import Preset

app = typer.Typer(help="List, show and copy presets.", no_args_is_help=True)

SMALLEST = """\
smallest GPU at the preset's own micro-batch, which --preset auto lowers on a
smaller one: from where a quarter of the tokens carries loss to where all do;
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
    rows = [_summary(preset) for preset in presets]
    if as_json:
        print_document({"presets": rows, "overlays": [_summary(overlay) for overlay in overlays]})
        return
    lines = [["preset", "micro × accum", "max_length", "smallest GPU, GB", "for"]]
    for preset, row in zip(presets, rows, strict=True):
        lines.append([preset.name, row["batch"], str(row["max_length"]), in_short(preset.fits), preset.title])
    print_table(lines)
    print(f"\n{SMALLEST}\n")
    lines = [["overlay", "what it is for and sets (--with NAME,NAME)"]]
    for overlay in overlays:
        parts = {**overlay.batch, **overlay.train}
        settings = ", ".join(f"{key} {text(setting.value)}" for key, setting in parts.items())
        lines.append([overlay.name, f"{overlay.title}: {settings}"])
    print_table(lines)


@app.command("show")
def show_preset(
    name: Annotated[str, typer.Argument(help="A preset, an overlay or a file.", show_default=False)],
    as_json: Json = False,
) -> None:
    """A preset with all that it inherits: each value, where it comes from, why."""
    preset = _find(name)
    settings = {f"batch.{key}": setting for key, setting in preset.batch.items()} | preset.train
    if as_json:
        rows = {key: {"value": row.value, "source": str(row.source), "why": row.why} for key, row in settings.items()}
        print_document(_summary(preset) | {"settings": rows})
        return
    print(f"{preset.name}: {preset.title}\nfile: {preset.path}\n")
    print_table([[key, text(row.value), str(row.source), row.why] for key, row in settings.items()])
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
    check_copy(file)
    copy = without_fits(preset.path.read_bytes().decode())  # as bytes, so that line ends stay as they are
    file.write_bytes((copy if "\n[train]" in copy else f"{copy.rstrip()}\n{TRAIN}").encode())
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
        "packing": text(train.get("packing", "")),
        "attn_impl": train.get("attn_impl", ""),
        "learning_rate": text(train.get("learning_rate", "")),
        "fits": [asdict(row) for row in preset.fits],
        "file": str(preset.path),
    }


def _needs(row: Fits) -> list[str]:
    liger = "yes" if row.liger else ""
    return [row.model, f"{row.loss_percent:3} %", liger, f"{row.peak_gib:5.1f} GiB", f"{row.gpu_gb} GB", row.by]
