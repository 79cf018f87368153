"""Read a recipe's file, and check it key by key."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NoReturn

from tunekit.errors import TunekitError, did_you_mean
from tunekit.files import line_of, path_of, read_toml
from tunekit.plan.options import OPTIONS, RECIPE, TRAIN, canonical
from tunekit.plan.renamed import renamed_hint
from tunekit.plan.said import Said, words_of_value
from tunekit.plan.secrets import is_secret, redact
from tunekit.plan.settings import text
from tunekit.plan.variables import CARRIED, PLANNED
from tunekit.recipes.schema import BASE, Part, Recipe
from tunekit.runs.checkpoints import is_adapter
from tunekit.stages import MODEL, REWARD_MODEL, STAGES, Stage

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tunekit.plan.flags import FlagTable

KEYS = ("title", "defaults", "env", "stage")
OWN = ("name", "type", "from", "merge")
"""What a ``[[stage]]`` says beside options."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,60}")
TAKEN = ("before",)
"""Folders of a recipe's run that are no stage's."""

DECIDED = {
    "CUDA_VISIBLE_DEVICES": "--gpus, or the shell's own,",
    "NPROC_PER_NODE": "--gpus",
    **dict.fromkeys(("NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT"), "the shell of each machine"),
    "USE_HF": "use_hf = true under [defaults]",
}
"""Variables that are not a recipe's to set, and where what they say is said."""

VARIABLE_HINT = (
    "those of W&B, SwanLab, NCCL and the hubs, OMP_NUM_THREADS and the like; none that would load code, since recipes "
    "come from elsewhere"
)

STARTS = ("model", "adapters", "ref_adapters", "ref_model")
"""What the recipe decides where a stage starts from another."""


def read_recipe(path: Path, flags: FlagTable, overrides: Mapping[str, list[str]] | None = None) -> Recipe:
    """The recipe in a file.

    `overrides` are options from the command line: ``dpo.beta`` is one of the stage dpo, ``beta`` of all that take it.
    Raises TunekitError, with file, line and key, where something in it is wrong.
    """
    return _Document(path, flags, overrides or {}).recipe()


class _Document:
    def __init__(self, path: Path, flags: FlagTable, overrides: Mapping[str, list[str]]) -> None:
        self._path, self._flags, self._overrides = path, flags, overrides
        self._table, self._text = read_toml(path)
        self._known = {name for known in flags.by_command.values() for name in known}

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
        names = [str(section.get("name", section.get("type", ""))) for section in sections]
        parts: list[Part] = []
        for number, section in enumerate(sections, start=1):
            parts.append(self._part(number, section, names, parts, defaults))
        self._overrides_meant(parts)
        return Recipe(self._path.stem, self._path, title, self._text, tuple(parts), self._env())

    def _env(self) -> dict[str, str]:
        """The variables of ``[env]``, which are set for all stages."""
        section = self._table.get("env", {})
        if not isinstance(section, dict):
            self._fail("env", "must be a table: [env]")
        for name, value in section.items():
            if is_secret(name) or redact(str(value)) != str(value):
                self._fail(
                    name, "is a secret and cannot stand here", "env", "export it in the shell that starts tunekit"
                )
            if name in DECIDED:
                self._fail(name, "is tunekit's to set", "env", f"{DECIDED[name]} says it")
            if not (CARRIED.fullmatch(name) or PLANNED.fullmatch(name)):
                self._fail(name, "is no variable that a recipe may set", "env", VARIABLE_HINT)
            if not isinstance(value, (str, int, float)) or not text(value).isprintable():
                self._fail(name, "must be a text, a number or true/false", "env")
        return {name: text(value) for name, value in section.items()}

    def _defaults(self) -> dict[str, Said]:
        section = self._table.get("defaults", {})
        if not isinstance(section, dict):
            self._fail("defaults", "must be a table: [defaults]")
        for key in OWN:
            if key in section:
                self._fail(key, "is said for each stage, not for all", "defaults", "write it under [[stage]]")
        found = [self._said(key, value, "defaults") for key, value in section.items()]
        if "model" in self._overrides:
            found = [said for said in found if said.name != "model"]
            found.append(Said("model", tuple(self._overrides["model"]), "--model"))
        return {canonical(said.name): said for said in found}

    def _part(
        self, number: int, section: dict[str, Any], names: list[str], before: list[Part], defaults: dict[str, Said]
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
        options = {key: said for key, said in defaults.items() if self._meant(said, stage)} | own
        earlier = next((part for part in before if part.name == start), None)
        if earlier:
            options["model"] = earlier.said["model"]
        elif start != BASE and not is_adapter(start):
            options["model"] = Said("model", (start,), self._where(number))
        if "model" not in options:
            message = f"{self._where(number)}: stage {name} has no model"
            raise TunekitError(message, "model = … under [defaults], or --model")
        reward = self._reward(stage, options, before)
        if reward:
            options.pop("reward_model", None)
        return Part(name, stage, start, reward, merge, options, self._where(number))

    def _own(self, number: int, section: dict[str, Any], name: str, stage: Stage) -> dict[str, Said]:
        """The options of a stage's own section, and what the command line says for it."""
        own: dict[str, Said] = {}
        for key, value in section.items():
            if key in OWN:
                continue
            said = self._said(key, value, "stage", number)
            known = canonical(said.name)
            if known in own:
                self._fail(key, f"is given twice: it is the same as {own[known].name}", "stage", nth=number)
            self._check_taken(said, stage)
            own[known] = said
        return own | self._overridden(name, stage)

    def _stage(self, number: int, section: dict[str, Any]) -> Stage:
        word = section.get("type")
        if word is None:
            raise TunekitError(f"{self._where(number)}: a stage needs type = …", f"one of {', '.join(STAGES)}")
        if not isinstance(word, str) or word not in STAGES:
            meant = next((stage.name for stage in STAGES.values() if word in stage.aliases), None)
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
        models = [part.name for part in before if part.stage.gives == MODEL]
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
        if path_of(word).is_dir():
            return word
        hint = did_you_mean(word, [*models, BASE]) or f"stages before it: {', '.join(models) or 'none'}"
        return self._fail("from", f"{word} is neither a stage of this recipe nor a folder", "stage", hint, number)

    def _reward(self, stage: Stage, options: dict[str, Said], before: list[Part]) -> str:
        """The stage whose reward model scores: the one that is named, or where a stage needs one the last."""
        models = [part.name for part in before if part.stage.gives == REWARD_MODEL]
        named = options.get("reward_model")
        if named is not None:
            (word, *more) = named.words or ("",)
            return word if word in models and not more else ""
        return models[-1] if models and stage.scored_by == "model" else ""

    def _said(self, key: str, value: Any, table: str, number: int = 1) -> Said:
        """What a line says."""
        where = f"{self._path} line {line_of(self._text, key, table, number)}"
        name = key.replace("-", "_")
        self._check_known(name, where)
        words = words_of_value(value, f"{where}: {key}")
        if any(word.startswith("--") for word in words) and isinstance(value, list):
            raise TunekitError(f"{where}: {key} holds a flag, not a value", "every option has a line of its own")
        return Said(name, words, where)

    def _check_known(self, name: str, where: str) -> None:
        """Raise TunekitError where a stage cannot say that."""
        option = OPTIONS.get(name)
        if option and TRAIN in option.commands:
            if option.reach < RECIPE:
                raise TunekitError(f"{where}: {name} has no place in a recipe", option.elsewhere)
            return
        if name in self._known:
            return
        renamed = renamed_hint(name)
        known = [*(option.name for option in OPTIONS.values() if option.reach >= RECIPE), *self._known, *OWN]
        problem = f"{name} is neither an option of tunekit nor a flag of ms-swift"
        raise TunekitError(f"{where}: {problem}", renamed or did_you_mean(name, known))

    def _check_taken(self, said: Said, stage: Stage) -> None:
        flag = canonical(said.name)
        if said.name in OPTIONS or flag in self._flags.by_command[stage.command]:
            return
        takers = [other.name for other in STAGES.values() if flag in self._flags.by_command[other.command]]
        raise TunekitError(f"{said.where}: {stage.name} takes no {said.name}", f"it is for {', '.join(takers)}")

    def _meant(self, said: Said, stage: Stage) -> bool:
        """Whether a default is for stages of that type."""
        option = OPTIONS.get(said.name)
        if option:
            return option.scored_by in ("", stage.scored_by)
        owners = [other for other in STAGES.values() if said.name in other.own_flags]
        return said.name in self._flags.by_command[stage.command] and (not owners or stage in owners)

    def _overridden(self, name: str, stage: Stage) -> dict[str, Said]:
        """What the command line says for a stage: for all that take it, and stronger, for this one."""
        shared: dict[str, Said] = {}
        own: dict[str, Said] = {}
        for word, words in self._overrides.items():
            head, dot, key = word.rpartition(".")
            said = Said(key, tuple(words) or ("true",), f"--{word}")
            if not dot and key == "model":  # it has replaced that of [defaults]
                continue
            if dot and head != name.replace("-", "_"):
                continue
            self._check_known(key, said.where)
            if dot:
                self._check_taken(said, stage)
                own[canonical(key)] = said
            elif key in STARTS:
                raise TunekitError(f"{said.where} is not for a whole recipe", f"--{name}.{key} is for one stage")
            elif self._meant(said, stage):
                shared[canonical(key)] = said
        return shared | own

    def _overrides_meant(self, parts: list[Part]) -> None:
        """Refuse ``--dop.beta`` where no stage is called so."""
        names = [part.name.replace("-", "_") for part in parts]
        for word in self._overrides:
            head, dot, key = word.rpartition(".")
            if dot and head not in names:
                raise TunekitError(f"--{word}: the recipe has no stage {head}", did_you_mean(head, names, "--"))
            if not dot and key != "model" and not any(canonical(key) in part.said for part in parts):
                raise TunekitError(f"--{word} is for none of the recipe's stages")

    def _where(self, number: int) -> str:
        """File and line of the head of a stage."""
        lines = enumerate(self._text.splitlines(), start=1)
        heads = [line for line, words in lines if words.replace(" ", "").startswith("[[stage]]")]
        return f"{self._path} line {heads[number - 1] if number <= len(heads) else 1}"

    def _fail(
        self, key: str, problem: str, table: str | None = None, hint: str | None = None, nth: int = 1
    ) -> NoReturn:
        line = line_of(self._text, key, table, nth)
        raise TunekitError(f"{self._path} line {line}: {key} {problem}", hint)
