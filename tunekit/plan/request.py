"""Words → Request: what the user asked for, read from every place in which it may stand by one table of options.

The places are the command line or the ``[[stage]]`` of a recipe, ``config.toml`` and ``TUNEKIT_*``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tunekit.errors import TunekitError, Wrong
from tunekit.plan import secrets
from tunekit.plan.options import ACCUMULATION, MICRO, OPTIONS, RESERVED, WHOLE
from tunekit.plan.said import whole_taken, words_taken
from tunekit.plan.settings import UNSET, Setting, Source
from tunekit.plan.strategies import Tuning
from tunekit.stages import STAGES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tunekit.plan.flags import FlagTable
    from tunekit.plan.said import Said, Words
    from tunekit.stages import Stage

DEFAULT_ATTEMPTS = 5

RLHF_TYPE = "rlhf_type"

OF_TRACKERS = ("project", "group", "entity")
"""Options that say where trackers keep a run."""


@dataclass(frozen=True)
class Request:
    """One run, asked for and not yet decided.

    Attributes:
        typed: what was said for this run, by ms-swift's names.
        layers: what the user's configuration and ``TUNEKIT_*`` say, weakest first.
        preset: a name, a path, or ``auto``.
        effective_batch: rows an optimizer step; None leaves it to the preset.
        accumulated: rows that one copy of the model is to see a step, by the accumulation that was given and the
            micro-batch beside it (1, ms-swift's own, where none is); 0 where no accumulation was given.
        rewards: what scores answers, as typed: functions of the user's, and ms-swift's by name.
        row_format: the function that makes rows of ms-swift out of the dataset's, as typed.
        registry: the table of datasets by name, as typed; empty for the one that is found.
        image_root: where relative paths of pictures begin; empty for the current folder.
        gpus: the hardware, as typed; empty for that of this machine.
        nodes: machines that train together, as typed; None where nothing was.
        launch: one of `tunekit.plan.options.LAUNCHERS`; `launch_options` what is said to one of them, by option.
        node_rank: which of the machines this one is; `master` is the address of the first.
        name: of the run; empty where tunekit is to name it.
        output_dir: the run's folder; empty for ``runs/NAME``.
        oom_retry: one of `RETRY_POLICIES`; `max_attempts` counts starts.
        notes: what was made of the words before they were read, for people.
        env: variables that were set beside them.
        prices: of a GPU and hour by card, in any currency; empty where none was said.
        tracked: ``project``, ``group`` and ``entity`` of the run in its trackers, where they were said.
    """

    stage: Stage
    model: str
    typed: Mapping[str, Setting] = field(default_factory=dict)
    layers: tuple[Mapping[str, Setting], ...] = ()
    preset: str = "auto"
    overlays: tuple[str, ...] = ()
    effective_batch: Setting | None = None
    accumulated: int = 0
    rewards: tuple[str, ...] = ()
    row_format: str = ""
    registry: str = ""
    image_root: str = ""
    tuning: Tuning = field(default_factory=Tuning)
    gpus: str = ""
    nodes: int | None = None
    launch: str = "local"
    launch_options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    node_rank: int | None = None
    master: str = ""
    name: str = ""
    output_dir: str = ""
    oom_retry: str = "neutral"
    max_attempts: int = DEFAULT_ATTEMPTS
    notes: tuple[str, ...] = ()
    prices: Mapping[str, float] = field(default_factory=dict)
    tracked: Mapping[str, Setting] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)


def stage_named(command: str, words: Words, flags: FlagTable) -> Stage:
    """The stage of a command: its own, or what ``--rlhf-type`` names. Raises TunekitError for both, or for neither."""
    said = words.said.get(RLHF_TYPE)
    if command in STAGES:
        if said:
            asked = " ".join(said.words)
            other = f"tunekit {asked} trains that" if asked in STAGES else "drop --rlhf_type"
            raise TunekitError(f"tunekit {command} is a stage of its own: it takes no --rlhf_type", other)
        return STAGES[command]
    if said is None:
        types = [stage.name for stage in STAGES.values() if stage.rlhf_type]
        raise TunekitError(f"tunekit {command} needs --rlhf-type", f"one of {', '.join(types)}")
    return STAGES[str(flags.parse(RLHF_TYPE, said.words, command))]


def read_request(stage: Stage, words: Words, others: Sequence[Words], flags: FlagTable) -> Request:
    """The request that `words` mean, said for this run, with `others`, said for all runs, weakest first.

    Raises TunekitError where a word does not fit, or a flag is unknown or tunekit's own to set: of all such words.
    """
    typed, layers = _read_flags(stage, words, others, flags)
    strongest = {name: (place.source, said) for place in (*others, words) for name, said in place.said.items()}

    def text(name: str, default: str = "") -> str:
        return " ".join(words_taken(strongest[name][1])) if name in strongest else default

    def whole(name: str) -> int | None:
        return whole_taken(strongest[name][1]) if name in strongest else None

    effective = strongest.get("effective_batch")
    rate = words.said.get("learning_rate")
    return Request(
        stage=stage,
        model=text("model"),
        typed=typed,
        layers=layers,
        preset=text("preset", "auto"),
        overlays=tuple(text("with").replace(",", " ").split()),
        effective_batch=Setting(whole_taken(effective[1]), effective[0]) if effective else None,
        accumulated=_accumulated(words, whole(MICRO)),
        rewards=words.said["reward"].words if "reward" in words.said else (),
        row_format=text("format"),
        registry=text("registry"),
        image_root=text("image_root"),
        tuning=Tuning(
            text("tuning_strategy"),
            whole("llm_frozen_layers"),
            whole("trainable_layers"),
            llm_rate=rate is not None and rate.name == "learning_rate_llm",
        ),
        gpus=text("gpus"),
        nodes=whole("nodes"),
        launch=text("launch", "local"),
        launch_options={name: words.said[name].words for name in ("slurm", "cloud") if name in words.said},
        node_rank=whole("node_rank"),
        master=text("master"),
        name=text("name"),
        output_dir=text("output_dir"),
        oom_retry=text("oom_retry", "neutral"),
        max_attempts=attempts_taken(whole("max_attempts")),
        prices=_prices(strongest["price"][1]) if "price" in strongest else {},
        notes=words.notes,
        env=words.env,
        tracked={name: Setting(text(name), strongest[name][0]) for name in OF_TRACKERS if text(name)},
    )


def _read_flags(
    stage: Stage, words: Words, others: Sequence[Words], flags: FlagTable
) -> tuple[dict[str, Setting], tuple[dict[str, Setting], ...]]:
    """The flags that were typed, and those of weaker places. Raises TunekitError for all that is wrong, at once."""
    wrong = Wrong()
    layers = tuple(_settings(place, stage, flags, wrong) for place in others)
    typed = _settings(words, stage, flags, wrong)
    with wrong.noted():
        _check_rewards(stage, words)
    with wrong.noted():
        if not any("model" in place.said for place in (*others, words)):
            hint = "a short name (Qwen2.5-7B), a hub id or a folder"
            raise TunekitError(f"tunekit {stage.name} needs --model", hint)
    wrong.tell()
    if stage.rlhf_type:
        typed[RLHF_TYPE] = Setting(stage.rlhf_type, words.source)
    return typed, layers


def _accumulated(words: Words, micro: int | None) -> int:
    """Rows that one copy of the model is to see a step, where an accumulation was given; else 0."""
    said = words.said.get(ACCUMULATION)
    if said is None or said.words == (UNSET,):
        return 0
    other = words.said.get("effective_batch")
    if other and said.source and not other.source:
        return 0  # the file has one, and the command line the other
    if other and other.source == said.source:
        problem = f"--effective-batch and {said.label} exclude each other"
        raise TunekitError(problem, "drop one of them: both say how many rows a step sees")
    steps = whole_taken(said)
    if steps < 1:
        raise TunekitError(f"{said.label} must be 1 or more, not {steps}")
    return steps * max(1 if micro is None else micro, 1)


def attempts_taken(number: int | None) -> int:
    """How often a run may start; 5 where nothing is said. Raises TunekitError below 1."""
    if number is not None and number < 1:
        raise TunekitError(f"--max-attempts must be 1 or more, not {number}")
    return DEFAULT_ATTEMPTS if number is None else number


def _prices(said: Said) -> dict[str, float]:
    from tunekit.speed.price import read_prices  # by the few runs that name one

    return read_prices(" ".join(said.words), said.label)


def _settings(words: Words, stage: Stage, flags: FlagTable, wrong: Wrong) -> dict[str, Setting]:
    """The flags of ms-swift that a place sets, with typed values; what is set for all runs may be for other stages."""
    found: dict[str, Setting] = {}
    for key, said in words.said.items():
        with wrong.noted():
            found |= _setting(key, said, words, stage, flags)
    return found


def _setting(key: str, said: Said, words: Words, stage: Stage, flags: FlagTable) -> dict[str, Setting]:
    """What one option or flag sets; nothing where it is not ms-swift's, or not a setting of its own."""
    option, source = OPTIONS.get(said.name), said.source or words.source
    if option and option.means is not None:
        meant = option.means[words_taken(said)[0]]
        return {flag: Setting(flags.parse(flag, word, stage.command), source) for flag, word in meant.items()}
    if option and option.kind == WHOLE:
        whole_taken(said)
    elif option:
        words_taken(said)
    if (option and not option.flag) or _for_another(key, words, stage, flags):
        return {}
    value = _parsed(key, said, words.source, stage, flags)
    return {} if key == ACCUMULATION else {key: Setting(value, source)}


def _for_another(flag: str, words: Words, stage: Stage, flags: FlagTable) -> bool:
    if words.source.explicit:
        return flag == RLHF_TYPE and bool(stage.rlhf_type)  # it has named the stage
    return flag not in RESERVED and flag in flags.by_command["rlhf"] and flag not in flags.by_command[stage.command]


def _parsed(flag: str, said: Said, source: Source, stage: Stage, flags: FlagTable) -> Any:
    """The value of a flag. Where it stands in a file, or is set for all runs, the error says where that is."""
    if flag in RESERVED:
        reason, hint = RESERVED[flag]
        kept = f"{said.label} is tunekit's to set" if source.explicit else f"{said.label} cannot be set"
        raise TunekitError(f"{kept}: {reason}", hint)
    try:
        secrets.refuse_secret(flag)
        return flags.parse(flag, said.words, stage.command)
    except TunekitError as error:
        where = "" if source.explicit and said.source is None else f"{said.where}: "
        raise TunekitError(f"{where}{error.message}", error.hint) from error


def _check_rewards(stage: Stage, words: Words) -> None:
    """Raise TunekitError where a stage is not scored by functions and some are named, or they are named twice."""
    if "reward" not in words.said:
        return
    if stage.scored_by != OPTIONS["reward"].scored_by:
        takers = [other.name.upper() for other in STAGES.values() if other.scored_by == OPTIONS["reward"].scored_by]
        functions = next(other.name for other in STAGES.values() if other.scored_by == OPTIONS["reward"].scored_by)
        by_model = f"{stage.name.upper()} learns from a model, --reward_model FOLDER; " if stage.scored_by else ""
        hint = f"{by_model}functions score in tunekit {functions} --reward …"
        raise TunekitError(f"--reward is for {' and '.join(takers)}, not for {stage.name}", hint)
    if "reward_funcs" in words.said:
        raise TunekitError("--reward and --reward_funcs are the same", "give one of them")
