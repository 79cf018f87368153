"""Presets and overlays: TOML files that users read, copy and change."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from tunekit.errors import TunekitError, did_you_mean
from tunekit.files import line_of, path_of, read_toml, shortened
from tunekit.plan import secrets
from tunekit.plan.presets.fits import KEYS as FITS_KEYS
from tunekit.plan.presets.fits import Fits, problem
from tunekit.plan.settings import TUNEKIT, Setting, Source, Value, text

if TYPE_CHECKING:
    from pathlib import Path

    from tunekit.plan.flags import FlagTable

PRESET_KEYS = ("title", "extends", "stages", "batch", "train", "why", "auto", "fits")
BATCH_KEYS = ("micro", "effective")
AUTO_KEYS = {"params_b": (int, float), "gpu_gib": (int, float), "moe": (bool,)}
DEEPEST = 20
"""Presets that may extend one another in a row."""
NOT_IN_TRAIN = {
    "per_device_train_batch_size": "write micro = … under [batch]",
    "gradient_accumulation_steps": "it is solved from [batch] effective and the number of GPUs",
}


@dataclass(frozen=True)
class AutoRow:
    """When ``--preset auto`` takes a preset: up to `params_b` billion parameters on `gpu_gib` GiB or more."""

    params_b: float
    gpu_gib: float
    moe: bool = False


@dataclass(frozen=True)
class Preset:
    """A preset or an overlay, with all that it inherits.

    Attributes:
        batch: ``micro`` and ``effective``; an overlay may have neither.
        train: ms-swift's flags.
        auto: when `auto` picks it; not inherited.
        fits: what it takes of a GPU; not inherited, since it holds for these values alone.
        staged: whether a stage changes it; not inherited.
    """

    name: str
    title: str
    path: Path
    chain: tuple[str, ...]
    batch: dict[str, Setting] = field(default_factory=dict)
    train: dict[str, Setting] = field(default_factory=dict)
    auto: tuple[AutoRow, ...] = ()
    fits: tuple[Fits, ...] = ()
    staged: bool = True


class Library:
    """Where presets are found: the user's folder first, which need not exist, then those that tunekit ships.

    Overlays stand in a folder's ``overlays/``, what stages change in its ``stages/``.
    """

    def __init__(self, shipped: Path, user: Path | None, flags: FlagTable) -> None:
        self.flags = flags
        self._shipped = shipped
        self._folders = [folder for folder in (user, shipped) if folder and folder.is_dir()]
        self._read: dict[tuple[Path, str], Preset] = {}

    def names(self) -> list[str]:
        """The presets that can be named, ``base`` left out."""
        return [name for name in _stems(self._folders) if name != "base"]

    def sound(self) -> tuple[list[Preset], list[TunekitError]]:
        """Every preset that can be named, and why the others cannot be read: a broken one must not stop the rest."""
        presets, broken = [], []
        for name in self.names():
            try:
                presets.append(self.load(name))
            except TunekitError as error:
                broken.append(error)
        return presets, broken

    def overlay_names(self) -> list[str]:
        """The overlays that ``--with`` takes."""
        return _stems([folder / "overlays" for folder in self._folders])

    def load(self, name: str) -> Preset:
        """The preset of that name or path. Raises TunekitError without one, or with what line of its file is bad."""
        return self.read(self._find(name, "", self.names(), "preset"), "preset")

    def load_overlay(self, name: str) -> Preset:
        """The overlay of that name or path. Raises TunekitError as `load` does."""
        return self.read(self._find(name, "overlays", self.overlay_names(), "overlay"), "overlay")

    def own_settings(self, preset: Preset) -> dict[str, Setting]:
        """What a user's preset sets in its own file: a stage changes what is shipped, not that."""
        if preset.path.is_relative_to(self._shipped):
            return {}
        own = Source("preset", preset.name)
        return {flag: setting for flag, setting in preset.train.items() if setting.source == own}

    def load_stage(self, name: str) -> Preset:
        """What a stage of training changes in every preset, if anything. Raises TunekitError as `load` does."""
        files = [folder / "stages" / f"{name}.toml" for folder in self._folders]
        path = next((path for path in files if path.is_file()), None)
        return self.read(path, "stage") if path else Preset(name, "", files[-1], ())

    def read(self, path: Path, kind: str, seen: tuple[Path, ...] = ()) -> Preset:
        """The preset in a file, which is read once. Raises TunekitError as `load` does."""
        if (path, kind) not in self._read:
            self._read[path, kind] = _load(path, kind, self, seen)
        return self._read[path, kind]

    def parent(self, name: str, folder: Path) -> Path:
        """The file that ``extends = name`` means in a preset of that folder: a preset, or a path from there."""
        if name.endswith(".toml") and (folder / path_of(name)).is_file():
            return folder / path_of(name)
        return self._find(name, "", [*self.names(), "base"], "preset")

    def _find(self, name: str, below: str, known: list[str], kind: str) -> Path:
        if name.endswith(".toml") or "/" in name:
            path = path_of(name)
            if path.is_file():
                return path
            raise TunekitError(f"{kind} file {name} does not exist")
        for folder in self._folders:
            path = folder / below / path_of(f"{name}.toml")
            if path.is_file():
                return path
        if kind == "preset" and name in self.overlay_names():
            raise TunekitError(f"{name} is an overlay, not a preset", f"lay it over one: --with {name}")
        raise TunekitError(f"there is no {kind} {name}", did_you_mean(name, known) or f"there are: {', '.join(known)}")


def _stems(folders: list[Path]) -> list[str]:
    return sorted({path.stem for folder in folders for path in folder.glob("*.toml")})


def _load(path: Path, kind: str, library: Library, seen: tuple[Path, ...]) -> Preset:
    if path in seen:
        raise TunekitError(f"{path}: extends itself, by way of {' → '.join(step.stem for step in seen)}")
    if len(seen) >= DEEPEST:
        raise TunekitError(f"{path}: it is the end of {len(seen)} presets that extend one another")
    document = _Document(path, library.flags)
    name = path.stem
    parent_name = document.table.get("extends")
    batch: dict[str, Setting] = {}
    train: dict[str, Setting] = {}
    chain: tuple[str, ...] = ()
    if parent_name is not None:
        if not isinstance(parent_name, str):
            document.fail("extends", "must be the name of a preset, in quotes")
        try:
            parent_path = library.parent(parent_name, path.parent)
        except TunekitError as error:
            document.fail("extends", f"{parent_name}: {error.message}", hint=error.hint)
        parent = library.read(parent_path, kind, (*seen, path))
        chain = parent.chain
        batch, train = (
            {
                key: Setting(old.value, Source(kind, name, old.source.origin or old.source.name), old.why)
                for key, old in part.items()
            }
            for part in (parent.batch, parent.train)
        )
    whys = document.whys()
    source = Source(kind, name)
    for key, number in document.batch().items():
        batch[key] = Setting(number, source, whys.pop(key, batch[key].why if key in batch else ""))
    for key, value in document.train().items():
        train[key] = Setting(value, source, whys.pop(key, ""))
    for key in whys:
        known = [*document.batch(), *document.train()]
        document.fail(key, "is explained under [why] but set nowhere in this file", "why", did_you_mean(key, known))
    return Preset(
        name,
        document.title(),
        path,
        (*chain, name),
        batch,
        train,
        document.auto(),
        document.fits(),
        document.staged(),
    )


def _plain(value: Any) -> Value:
    """A value as a flag may have one: a list holds words."""
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, (str, int, float, bool)) for item in items):
        kind = "a list with something else in it" if isinstance(value, list) else type(value).__name__
        raise TunekitError(f"it must be a text, number, true/false or a list of them, not {kind}")
    return [text(item) for item in items] if isinstance(value, list) else value


class _Document:
    """One preset file, checked key by key."""

    def __init__(self, path: Path, flags: FlagTable) -> None:
        self.path = path
        self._flags = flags
        self.table, self._text = read_toml(path)
        self._known(self.table, PRESET_KEYS)

    def fail(self, key: str, problem: str, table: str | None = None, hint: str | None = None) -> NoReturn:
        line = line_of(self._text, key, table)
        raise TunekitError(f"{self.path} line {line}: {key} {problem}", hint)

    def title(self) -> str:
        title = self.table.get("title", "")
        if not isinstance(title, str):
            self.fail("title", "must be text in quotes")
        return title

    def staged(self) -> bool:
        staged = self.table.get("stages", True)
        if not isinstance(staged, bool):
            self.fail("stages", "must be true or false")
        return staged

    def batch(self) -> dict[str, int]:
        table = self._section("batch")
        self._known(table, BATCH_KEYS, "batch")
        for key, value in table.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                self.fail(key, f"must be a whole number above 0, not {shortened(repr(value))}", "batch")
            if key == "effective" and value < 32:
                self.fail(key, f"must be 32 or more, not {value}", "batch", "smaller batches make the gradient noisy")
        return table

    def train(self) -> dict[str, Value]:
        table = self._section("train")
        for key, value in list(table.items()):
            if key in NOT_IN_TRAIN:
                self.fail(key, "cannot be set under [train]", "train", NOT_IN_TRAIN[key])
            try:
                secrets.refuse_secret(key)
                table[key] = _plain(value)
                # rlhf takes the flags of sft and pt too.
                table[key] = self._flags.parse(key, Setting(table[key], TUNEKIT).render(), "rlhf")
            except TunekitError as error:
                self.fail(key, f"cannot be set: {error.message}", "train", error.hint)
        return table

    def whys(self) -> dict[str, str]:
        table = self._section("why")
        for key, value in table.items():
            if not isinstance(value, str):
                self.fail(key, f"must be text in quotes, not {shortened(repr(value))}", "why")
        return dict(table)

    def auto(self) -> tuple[AutoRow, ...]:
        rows = self.table.get("auto", [])
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            self.fail("auto", "must be written [[auto]], once a row")
        for number, row in enumerate(rows, start=1):
            self._known(row, tuple(AUTO_KEYS), "auto")
            for key, value in row.items():
                if type(value) not in AUTO_KEYS[key]:
                    line = line_of(self._text, key, "auto", number)
                    raise TunekitError(f"{self.path} line {line}: {key} has the wrong type: {shortened(repr(value))}")
            if not {"params_b", "gpu_gib"} <= row.keys():
                self.fail("auto", "needs params_b and gpu_gib")
        return tuple(AutoRow(**row) for row in rows)

    def fits(self) -> tuple[Fits, ...]:
        found = []
        for model, rows in self._section("fits").items():
            if not isinstance(rows, list) or not rows:
                self.fail(model, "must be a list of tables: [{ peak_gib = …, … }]", "fits")
            for number, row in enumerate(rows, start=1):
                if wrong := problem(row):
                    key, what = wrong
                    self.fail(model, f"row {number}: {f'{key} {what}'.strip()}", "fits", did_you_mean(key, FITS_KEYS))
                found.append(Fits(model, **row))
        return tuple(found)

    def _section(self, name: str) -> dict[str, Any]:
        table = self.table.get(name, {})
        if not isinstance(table, dict):
            self.fail(name, f"must be a table: [{name}]")
        return table

    def _known(self, table: dict[str, Any], known: tuple[str, ...], name: str | None = None) -> None:
        for key in table:
            if key not in known:
                where = f"[{name}]" if name else "a preset"
                hint = did_you_mean(key, known) or f"{where} takes {', '.join(known)}"
                self.fail(key, f"is not a key of {where}", name, hint)
