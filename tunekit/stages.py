"""The stages of training: all that is known of a stage stands in its row, and no other file names a stage.

A new stage is a row here, its settings in ``presets/stages/`` and its golden file.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

USUAL = "sft"
"""The stage that is meant where none is named, and the first one of the help."""

MODEL, REWARD_MODEL = "model", "reward model"
"""What a stage leaves."""

USER = '{"role": "user", "content": "…"}'
ASSISTANT = '{"role": "assistant", "content": "…"}'
TURNS = f'"messages": [{USER}, {ASSISTANT}]'
"""Pieces of the example rows in error messages."""


@dataclass(frozen=True)
class Shape:
    """What the rows of a stage are like.

    Attributes:
        answered: the conversation must end with the model's turn.
        asked: something stands before the answer: a question, a picture. Only plain text has nothing there.
        pairs: a rejected answer stands beside the chosen one.
        labelled: each row says whether its answer is good.
        classed: each row has the number of its class, or a value, as ``label``.
        near: of these columns of conversations, beside the row's own, one at least must be there.
        learns_all: every answer is learned, so a row that marks one as bad is refused.
        bare_text: what a text without roles is, where a format returns one: ``answer``, ``question`` or nothing.
        example: a row, for error messages.
    """

    answered: bool = True
    asked: bool = True
    pairs: bool = False
    labelled: bool = False
    classed: bool = False
    near: tuple[str, ...] = ()
    learns_all: bool = False
    bare_text: str = ""
    example: str = f"{{{TURNS}}}"


ANSWERED = Shape()
PAIRS = Shape(pairs=True, example=f'{{{TURNS}, "rejected_response": "a worse one"}}')
PROMPTS = Shape(answered=False, bare_text="question", example=f'{{"messages": [{USER}]}}')

CLASSED = Shape(answered=False, asked=False, classed=True, example=f'{{"messages": [{USER}], "label": 0}}')
NEAR = Shape(
    answered=False,
    near=("positive_messages",),
    example=f'{{"messages": [{USER}], "positive_messages": [[{USER}]], "negative_messages": [[{USER}]]}}',
)
RANKED = replace(
    NEAR,
    near=("positive_messages", "negative_messages"),
    example=f'{{"messages": [{USER}], "positive_messages": [[{ASSISTANT}]], "negative_messages": [[{ASSISTANT}]]}}',
)
USUAL_TASK = "causal_lm"
TASKS: dict[str, Shape | None] = {
    "seq_cls": CLASSED,
    "embedding": NEAR,
    "reranker": RANKED,
    "generative_reranker": RANKED,
    **dict.fromkeys(("decision", "prm")),
}
"""What ``--task_type`` takes beside the usual one, and the rows of it; None where they are not judged.

From ms-swift 4.6 template/base.py: _seq_cls_encode, _embedding_encode, _reranker_encode.
"""

TASK_OF_FAMILY = {
    **dict.fromkeys(("bge_reranker", "modern_bert_gte_reranker", "jina_reranker_m0"), "reranker"),
    **dict.fromkeys(("jev", "clef", "omnijev", "generic_decision"), "decision"),
    "qwen2_5_prm": "prm",
    "monkeyocrv2": "embedding",
}
"""Model types of ms-swift 4.6 that are of a task by themselves (``task_type`` in model/models/)."""


METRICS: Mapping[str, str] = {
    "loss": "loss",
    "token_acc": "token accuracy",
    "rewards/margins": "margin",
    "rewards/accuracies": "accuracy",
    "reward": "reward",
    "reward_std": "spread",
    "kl": "KL",
    "completions/mean_length": "length",
    "objective/scores": "reward",
    "objective/kl": "KL",
    "objective/entropy": "entropy",
    "loss/policy_avg": "policy loss",
    "loss/value_avg": "value loss",
}
"""What a stage can show, by ms-swift's names in ``logging.jsonl`` (its rlhf_trainers, and trl's PPO), with a word for
people."""

SUPERVISED = ("loss", "token_acc")
PREFERENCE = ("loss", "rewards/margins", "rewards/accuracies")
"""Columns that several stages share."""


@dataclass(frozen=True)
class Stage:
    """One kind of training.

    Attributes:
        name: what ``tunekit NAME`` and recipes call it; also the name of its overlay in ``presets/stages/``.
        command: of ms-swift.
        learns: what the model learns, and from what, in a line.
        memory: what it holds beside the model that is trained, for people.
        aliases: what other tools call it.
        suggested: its place among the stages that are named where rows suit another one, the most demanding first;
            0 where it is not named.

        reference: the model of before is compared with, so it must be the right one
            (ms-swift's pipelines/train/rlhf.py, _prepare_model_tokenizer).
        ref_adapters: ms-swift can take an adapter as that model.
        gives: what comes out: `MODEL` or `REWARD_MODEL`.
        scored_by: what scores the answers: ``functions`` (or a reward model), ``model`` (a reward model), or nothing.
        teacher: a teacher model answers beside it.
        value_model: a second model as large learns to predict the reward.
        generates: it trains on answers that it makes as it goes, so rows say nothing of their length.
        generations: answers to one prompt in a batch, where nothing else is said (trl GRPOConfig); 1 counts rows.
        packs: ms-swift can pack its rows (rlhf_args.py, _check_padding_free).
        padding_free: where rows cannot be packed, no padding is computed all the same (the same function).
        batch_decides: its loss averages within a micro-batch: another micro-batch is another loss, by a little.
        epochs_only: ms-swift ignores ``--max_steps``.
        rates: the strategies' learning rates and the guides' ranges are made for it: supervised or continued training.
        own_flags: flags of ms-swift that mean something to this stage alone.
        stand_ins: words of flags that it cannot be planned without, where only its memory is asked for.

        loss_share: share of the tokens that carry loss where the data was not looked at, 0 to 1. Prompts are masked,
            and in instruction data they are most of the text: an assumption, named wherever it is used.
        drops_out: the adapter's dropout is on (``disable_dropout`` of trl's configurations and ms-swift's
            RLHFTrainerMixin switch it off).
        fused_loss: Liger makes no logits; the other stages ask the model for them (ms-swift's rlhf_trainers).
        liger: `tunekit` switches Liger on by itself.
        logit_bytes: of one logit, alive while the loss goes backward; `eval_logit_bytes` in an evaluation. Read off
            traces of the functions of ms-swift and trl that make the loss (docs/memory.md).
        all_logits: the prompts' tokens get logits, too.
        checkpoints: gradient checkpointing can be on: ms-swift's PPO leaves it off (rlhf_trainers/ppo_trainer.py).
        traced: the trace follows it.
        rough: the estimate was not compared with a trace.
        encoding: what ms-swift's arguments set before its template is made (pretrain_args.py and rlhf_args.py).
        template_mode: of ms-swift's template (pipelines/train/rlhf.py).

        shows: the numbers by which its progress is told, keys of `METRICS`, the one that counts first. Where that is
            not the loss, the loss says nothing: the one of GRPO is about 0 all the time.
        spread: the number that is 0 where no answer was better than another, so that nothing can be learned.
    """

    name: str
    command: str
    learns: str
    memory: str = "nothing"
    rows: Shape = ANSWERED
    aliases: tuple[str, ...] = ()
    suggested: int = 0

    reference: bool = False
    ref_adapters: bool = False
    gives: str = MODEL
    scored_by: str = ""
    teacher: bool = False
    value_model: bool = False
    generates: bool = False
    generations: int = 1
    packs: bool = False
    padding_free: bool = False
    batch_decides: bool = False
    epochs_only: bool = False
    rates: bool = False
    own_flags: tuple[str, ...] = ()
    stand_ins: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    loss_share: float = 0.25
    drops_out: bool = False
    fused_loss: bool = False
    liger: bool = False
    logit_bytes: float = 12
    eval_logit_bytes: float = 10
    all_logits: bool = False
    checkpoints: bool = True
    traced: bool = False
    rough: bool = True
    encoding: Mapping[str, Any] = field(default_factory=dict)
    template_mode: str = "rlhf"

    shows: tuple[str, ...] = PREFERENCE
    spread: str = ""

    @property
    def rlhf_type(self) -> str:
        """What ``--rlhf_type`` gets; empty for the commands of ms-swift that are a stage themselves."""
        return self.name if self.command == "rlhf" else ""

    def rows_for(self, task: str) -> Shape | None:
        """What its rows are like with a ``--task_type``; None where nothing is known of them."""
        return self.rows if self.rlhf_type or task in ("", USUAL_TASK) else TASKS.get(task)


PAIR = "rows count double: the chosen and the rejected answer"
COPY = "full training holds a frozen copy of the model; LoRA switches its adapter off instead"
LAST_ROUND = {"loss_scale": "last_round"}
LOG_PROBABILITIES: dict[str, Any] = {"logit_bytes": 16, "eval_logit_bytes": 6}
WITH_LIKELIHOOD: dict[str, Any] = {"logit_bytes": 18, "eval_logit_bytes": 8, "all_logits": True, "traced": True}
"""Losses of log-probabilities; with the likelihood of the chosen answers beside them, of all tokens."""

# fmt: off
_ROWS = (
    Stage(
        "pt", "pt", "Continued pre-training: the language of plain text.",
        rows=Shape(asked=False, bare_text="answer", example=f'{{"messages": [{ASSISTANT}]}} or {{"text": "…"}}'),
        aliases=("pretrain", "pre-train"), suggested=5, packs=True, rates=True,
        loss_share=1.0, drops_out=True, fused_loss=True, liger=True, traced=True, rough=False,
        encoding={"use_chat_template": False, "loss_scale": "all"}, template_mode="train", shows=SUPERVISED,
    ),
    Stage(
        "sft", "sft", "Supervised fine-tuning: to answer as in conversations or instructions.",
        rows=Shape(learns_all=True, bare_text="answer"), aliases=("finetune",), suggested=3, packs=True, rates=True,
        drops_out=True, fused_loss=True, liger=True, traced=True, rough=False, template_mode="train", shows=SUPERVISED,
    ),
    Stage(
        "rm", "rlhf", "A reward model: to score answers, from pairs. PPO uses it.", PAIR,
        rows=PAIRS, aliases=("reward", "reward_model"), gives=REWARD_MODEL, encoding=LAST_ROUND,
    ),
    Stage(
        "dpo", "rlhf", "Direct preference optimisation: to prefer the chosen answer of a pair.", f"{PAIR}; {COPY}",
        rows=PAIRS, suggested=1, reference=True, ref_adapters=True, packs=True,
        traced=True, rough=False, encoding=LAST_ROUND, **LOG_PROBABILITIES,
    ),
    Stage(
        "kto", "rlhf", "Kahneman-Tversky optimisation: from answers marked good or bad, without pairs.",
        f"a second, mismatched answer a row; {COPY}",
        rows=Shape(labelled=True, example=f'{{{TURNS}, "label": true}}'), suggested=2,
        reference=True, ref_adapters=True, packs=True, batch_decides=True, encoding=LAST_ROUND, template_mode="kto",
        shows=("loss", "rewards/margins", "kl"), **LOG_PROBABILITIES,
    ),
    Stage(
        "orpo", "rlhf", "Odds-ratio optimisation: answers and preferences at once, from pairs.", PAIR,
        rows=PAIRS, batch_decides=True, rough=False, encoding={"loss_scale": "default"}, **WITH_LIKELIHOOD,
    ),
    Stage(
        "simpo", "rlhf", "Simple preference optimisation: pairs, without a reference model.", PAIR,
        rows=PAIRS, rough=False, encoding=LAST_ROUND, **WITH_LIKELIHOOD,
    ),
    Stage(
        "cpo", "rlhf", "Contrastive preference optimisation: pairs, without a reference model.", PAIR,
        rows=PAIRS, rough=False, encoding=LAST_ROUND, **WITH_LIKELIHOOD,
    ),
    Stage(
        "ppo", "rlhf", "Proximal policy optimisation: its own answers, scored by a reward model.",
        f"the reward model and a value model as large; {COPY}",
        rows=PROMPTS, reference=True, scored_by="model", value_model=True, generates=True, epochs_only=True,
        own_flags=("reward_model",), stand_ins={"reward_model": ("-",)}, logit_bytes=20, eval_logit_bytes=0,
        all_logits=True, checkpoints=False,
        shows=("objective/scores", "objective/kl", "objective/entropy"),
    ),
    Stage(
        "grpo", "rlhf", "Group relative policy optimisation: several own answers a prompt, scored by reward functions.",
        f"the cache of the answers that are written, or vLLM's share; {COPY}",
        rows=PROMPTS, suggested=4, reference=True, ref_adapters=True, scored_by="functions",
        generates=True, generations=8, padding_free=True, own_flags=("reward_funcs", "reward_weights"),
        stand_ins={"reward_funcs": ("accuracy",)}, drops_out=True, fused_loss=True,
        **LOG_PROBABILITIES,
        shows=("reward", "reward_std", "kl", "completions/mean_length"), spread="reward_std",
    ),
    Stage(
        "gkd", "rlhf", "Knowledge distillation: to answer as a larger teacher would.",
        "the teacher model, and the logits of both",
        teacher=True, generates=True, padding_free=True, fused_loss=True, logit_bytes=52, eval_logit_bytes=24,
        shows=("loss",),
    ),
)
# fmt: on

STAGES: dict[str, Stage] = {stage.name: stage for stage in _ROWS}
"""Every stage by name, in the order in which they are usually done."""
