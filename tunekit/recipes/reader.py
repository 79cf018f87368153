"""Read a recipe's file, and check it key by key."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from tunekit.errors import TunekitError, did_you_mean
from tunekit.recipes.schema import BASE, Option, Part, Recipe, Takes
from tunekit.runs.checkpoints import is_adapter
from tunekit.stages import STAGES, Stage
from tunekit.toml import line_of, read_toml

if TYPE_CHECKING:
    from collections.abc import Mapping

KEYS = ("title", "defaults", "stage")
OWN = ("name", "type", "from", "merge")
"""What a ``[[stage]]`` says beside options."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,60}")
TAKEN = ("before",)
"""Folders of a recipe's run that are no stage's."""

OTHER_WORDS = {"pretrain": "pt", "pre-train": "pt", "finetune": "sft", "reward": "rm", "reward_model": "rm"}
"""What other tools call a type."""

SAME = {
    "num_train_epochs": "epochs",
    "per_device_train_batch_size": "micro_batch",
    "vit_lr": "learning_rate_vit",
    "aligner_lr": "learning_rate_aligner",
}
"""Flags of ms-swift for which tunekit has an option: a default and a stage may use either."""

FOR_ONE_TYPE = {"reward": "grpo", "reward_funcs": "grpo", "reward_weights": "grpo", "reward_model": "ppo"}
"""Options that as defaults are for the stages of one type only."""

STARTS = ("model", "adapters", "ref_adapters", "ref_model")
"""What the recipe decides where a stage starts from another."""


def read(path: Path, takes: Takes, overrides: Mapping[str, list[str]] | None = None) -> Recipe:
    """The recipe in a file.

    Args:
        path: the file.
        takes: what stages may say.
        overrides: options from the command line; ``dpo.beta`` is one of the stage dpo, ``beta`` of all that take it.

    Raises:
        TunekitError: something in it is wrong, with file, line and key.
    """
    return _Document(path, takes, overrides or {}).recipe()


class _Document:
    """One recipe's file."""

    def __init__(self, path: Path, takes: Takes, overrides: Mapping[str, list[str]]) -> None:
        self._path = path
        self._takes = takes
        self._overrides = overrides
        self._table, self._text = read_toml(path)
        self._known = {name for flags in takes.flags.by_command.values() for name in flags}

    def recipe(self) -> Recipe:
        for key in self._table:
            if key not in KEYS:
                self._fail(key, "is not a key of a recipe", hint=did_you_mean(key, KEYS) or "settings: [defaults]")
        title = self._table.get("title", "")
        if not isinstance(title, str):
            self._fail("title", "must be text in quotes")
        sections = self._table.get("stage", [])
        if not isinstance(sections, list) or not all(isinstance(section, dict) for section in sections):
            self._fail("stage", "must be written [[stage]], once for each stage")
        if not sections:
            raise TunekitError(f"{self._path}: there is no [[stage]] in it", 'at least one: [[stage]] type = "sft"')
        defaults = self._defaults()
        names: list[str] = [str(section.get("name", section.get("type", ""))) for section in sections]
        parts: list[Part] = []
        for number, section in enumerate(sections, start=1):
            parts.append(self._part(number, section, names, parts, defaults))
        self._overrides_meant(parts)
        return Recipe(self._path.stem, self._path, title, self._text, tuple(parts))

    def _defaults(self) -> dict[str, Option]:
        section = self._table.get("defaults", {})
        if not isinstance(section, dict):
            self._fail("defaults", "must be a table: [defaults]")
        for key in OWN:
            if key in section:
                self._fail(key, "is said for each stage, not for all", "defaults", "write it under [[stage]]")
        found = dict(self._option(key, value, "defaults") for key, value in section.items())
        if "model" in self._overrides:
            found["model"] = Option(tuple(self._overrides["model"]), "--model")
        return found

    def _part(
        self, number: int, section: dict[str, Any], names: list[str], before: list[Part], defaults: dict[str, Option]
    ) -> Part:
        stage = self._stage(number, section)
        name = self._name(number, section, names)
        own = self._own(number, section, name, stage)
        start = self._start(number, section, name, names, before)
        for key in STARTS:
            if key in own and start != BASE and not (key == "model" and is_adapter(start)):
                raise TunekitError(
                    f"{own[key].where}: stage {name} starts from {start}, so {key} is not its to set",
                    f'from = "{BASE}" starts it from a model of its own',
                )
        merge = section.get("merge")
        if merge is not None and not isinstance(merge, bool):
            self._fail("merge", f"must be true or false, not {merge!r}", "stage", nth=number)
        options = {key: option for key, option in defaults.items() if self._meant(key, stage)} | own
        earlier = next((part for part in before if part.name == start), None)
        if earlier:
            options["model"] = earlier.options["model"]
        elif start != BASE and not is_adapter(start):
            options["model"] = Option((start,), self._where(number))
        if "model" not in options:
            raise TunekitError(
                f"{self._where(number)}: stage {name} has no model", "model = … under [defaults], or --model"
            )
        reward = self._reward(stage, options, before)
        if reward:
            options.pop("reward_model", None)
        return Part(name, stage, start, reward, merge, options, self._where(number))

    def _own(self, number: int, section: dict[str, Any], name: str, stage: Stage) -> dict[str, Option]:
        """The options of a stage's own section, and what the command line says for it."""
        own: dict[str, Option] = {}
        for key, value in section.items():
            if key in OWN:
                continue
            known, option = self._option(key, value, "stage", number)
            if known in own:
                self._fail(key, f"is given twice: it is the same as {SAME.get(key, known)}", "stage", nth=number)
            self._check_taken(known, stage, option)
            own[known] = option
        return own | self._overridden(name, stage)

    def _stage(self, number: int, section: dict[str, Any]) -> Stage:
        word = section.get("type")
        if word is None:
            raise TunekitError(f"{self._where(number)}: a stage needs type = …", f"one of {', '.join(STAGES)}")
        if not isinstance(word, str) or word not in STAGES:
            meant = OTHER_WORDS.get(str(word))
            hint = f"did you mean {meant}?" if meant else did_you_mean(str(word), STAGES)
            self._fail("type", f"{word} is no stage", "stage", hint or f"there are: {', '.join(STAGES)}", number)
        return STAGES[word]

    def _name(self, number: int, section: dict[str, Any], names: list[str]) -> str:
        name = names[number - 1]
        if not isinstance(section.get("name", ""), str) or not NAME.fullmatch(name) or name in (*TAKEN, BASE):
            hint = f"letters, digits, - and _; not {BASE} or {' or '.join(TAKEN)}"
            self._fail("name", f"{section['name']!r} cannot be a stage's name", "stage", hint, number)
        if name in names[: number - 1]:
            first = self._where(names.index(name) + 1)
            hint = f"the other one: {first}; name = … tells them apart"
            raise TunekitError(f"{self._where(number)}: a second stage is called {name}", hint)
        return name

    def _start(self, number: int, section: dict[str, Any], name: str, names: list[str], before: list[Part]) -> str:
        """What a stage starts from: the last one before it that left a model to go on with, unless it says."""
        models = [part.name for part in before if part.stage.gives == "model"]
        if "from" not in section:
            return models[-1] if models else BASE
        word = section["from"]
        if not isinstance(word, str) or not word:
            self._fail("from", f'must be the name of a stage, a folder or "{BASE}"', "stage", nth=number)
        if word == BASE or word in models:
            return word
        if word == name:
            self._fail("from", f"{word} is this stage itself", "stage", nth=number)
        if word in [part.name for part in before]:
            hint = "PPO scores with it: reward_model; a stage starts from a model that answers"
            self._fail("from", f"{word} leaves a reward model, which gives scores, not answers", "stage", hint, number)
        if word in names[number:]:
            hint = "stages run from top to bottom: move it up"
            self._fail("from", f"{word} comes after this stage", "stage", hint, number)
        if Path(word).expanduser().is_dir():
            return word
        hint = did_you_mean(word, [*models, BASE]) or f"stages before it: {', '.join(models) or 'none'}"
        return self._fail("from", f"{word} is neither a stage of this recipe nor a folder", "stage", hint, number)

    def _reward(self, stage: Stage, options: dict[str, Option], before: list[Part]) -> str:
        """The stage whose reward model scores: the one that is named, and for PPO else the last one."""
        models = [part.name for part in before if part.stage.gives == "reward model"]
        named = options.get("reward_model")
        if named is not None:
            (word, *more) = named.words or ("",)
            return word if word in models and not more else ""
        return models[-1] if models and stage.name == "ppo" else ""

    def _option(self, key: str, value: Any, table: str, number: int = 1) -> tuple[str, Option]:
        """An option by its one name, and its words. Raises TunekitError where there is none of that name."""
        name = self._check_known(key.replace("-", "_"), f"{self._path} line {line_of(self._text, key, table, number)}")
        where = f"{self._path} line {line_of(self._text, key, table, number)}"
        items = value if isinstance(value, list) else [value]
        if not all(isinstance(item, (str, int, float, bool)) for item in items):
            raise TunekitError(f"{where}: {key} must be a text, number, true/false or a list")
        words = tuple(str(item).lower() if isinstance(item, bool) else str(item) for item in items)
        if any(word.startswith("--") for word in words) and isinstance(value, list):
            raise TunekitError(f"{where}: {key} holds a flag, not a value", "every option has a line of its own")
        return name, Option(words, where)

    def _check_known(self, name: str, where: str) -> str:
        """The one name of an option or flag."""
        name = SAME.get(name, name)
        if name in self._takes.refused:
            raise TunekitError(f"{where}: {name} has no place in a recipe", self._takes.refused[name])
        if name in self._takes.options or name in self._known:
            return name
        try:
            self._takes.flags.find(name, "rlhf")
        except TunekitError as error:
            hint = did_you_mean(name, [*self._takes.options, *self._known, *OWN])
            renamed = error.hint if error.hint and not error.hint.startswith("did you mean") else hint
            problem = f"{name} is neither an option of tunekit nor a flag of ms-swift"
            raise TunekitError(f"{where}: {problem}", renamed) from None
        return name  # pragma: no cover - a flag that is found is known

    def _check_taken(self, name: str, stage: Stage, option: Option) -> None:
        if name in self._takes.options or name in self._takes.flags.by_command[stage.command]:
            return
        takers = [other.name for other in STAGES.values() if name in self._takes.flags.by_command[other.command]]
        raise TunekitError(f"{option.where}: {stage.name} takes no {name}", f"it is for {', '.join(takers)}")

    def _meant(self, name: str, stage: Stage) -> bool:
        """Whether a default is for stages of that type."""
        if FOR_ONE_TYPE.get(name, stage.name) != stage.name:
            return False
        return name in self._takes.options or name in self._takes.flags.by_command[stage.command]

    def _overridden(self, name: str, stage: Stage) -> dict[str, Option]:
        """What the command line says for a stage: for all that take it, and stronger, for this one."""
        shared: dict[str, Option] = {}
        own: dict[str, Option] = {}
        for word, words in self._overrides.items():
            head, dot, key = word.rpartition(".")
            option = Option(tuple(words) or ("true",), f"--{word}")
            if not dot:
                known = self._check_known(key, option.where)
                if known == "model":  # it has replaced that of [defaults]
                    continue
                if known in STARTS:
                    raise TunekitError(
                        f"{option.where} is not for a whole recipe", f"--{name}.{known} is for one stage"
                    )
                if self._meant(known, stage):
                    shared[known] = option
            elif head == name.replace("-", "_"):
                known = self._check_known(key, option.where)
                self._check_taken(known, stage, option)
                own[known] = option
        return shared | own

    def _overrides_meant(self, parts: list[Part]) -> None:
        """Refuse ``--dop.beta`` where no stage is called so."""
        names = [part.name.replace("-", "_") for part in parts]
        for word in self._overrides:
            head, dot, key = word.rpartition(".")
            if dot and head not in names:
                raise TunekitError(f"--{word}: the recipe has no stage {head}", did_you_mean(head, names, "--"))
            if not dot and key != "model" and not any(SAME.get(key, key) in part.options for part in parts):
                raise TunekitError(f"--{word} is for none of the recipe's stages")

    def _where(self, number: int) -> str:
        """File and line of the head of a stage."""
        heads = [
            line
            for line, words in enumerate(self._text.splitlines(), start=1)
            if words.replace(" ", "").startswith("[[stage]]")
        ]
        return f"{self._path} line {heads[number - 1] if number <= len(heads) else 1}"

    def _fail(
        self, key: str, problem: str, table: str | None = None, hint: str | None = None, nth: int = 1
    ) -> NoReturn:
        line = line_of(self._text, key, table, nth)
        raise TunekitError(f"{self._path} line {line}: {key} {problem}", hint)
