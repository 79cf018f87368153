"""The models that stand beside the one that is trained: reference, value and reward models, a teacher."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tunekit.memory.geometry import Geometry
from tunekit.memory.sharding import among, sharding_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from tunekit.memory.spec import Spec

REFERENCE, VALUE, REWARD, TEACHER = "reference", "value model", "reward model", "teacher"


@dataclass(frozen=True)
class Companion:
    """A model beside the trained one.

    Attributes:
        role: one of the words above.
        spec: as if it were computed alone; it has adapters where it learns.
        scores: its head has one number.
        learns: gets gradients.
        stays: on the GPU all the time; else it comes only to answer.
        shares: GPUs that hold it together.
    """

    role: str
    spec: Spec
    geometry: Geometry
    scores: bool = False
    learns: bool = False
    stays: bool = True
    shares: int = 1


def companions(spec: Spec) -> tuple[Companion, ...]:
    """All models beside the trained one (ms-swift's pipelines/train/rlhf.py). Raises Unknown for a shape without one.

    They are loaded in the type and bits of the trained one. PPO's value model starts from its reward model; where no
    config is given both are taken to be as large as the policy. Under LoRA the reference is the model without adapter.
    """
    return tuple(_companions(spec))


def _companions(spec: Spec) -> Iterator[Companion]:
    stage, shares = spec.kind, among(spec) if sharding_of(spec).weights else 1
    if stage.reference and spec.tuner == "full" and not (spec.beta == 0 and stage.generates and not stage.value_model):
        yield Companion(REFERENCE, _frozen(spec, spec.config), Geometry.from_config(spec.config), shares=shares)
    scorers = spec.rewards or ((spec.config,) if stage.scored_by == "model" else ())
    scores = bool(spec.rewards)  # a stand-in has the head of words that its model has
    if stage.value_model:
        learner, shape = replace(spec, config=scorers[0]), Geometry.from_config(scorers[0])
        yield Companion(VALUE, learner, shape, scores=scores, learns=True, shares=shares)
    for config in scorers if stage.scored_by else ():
        yield Companion(REWARD, _frozen(spec, config), Geometry.from_config(config), scores=scores, shares=shares)
    if spec.teacher is not None and stage.generates:
        own = spec.zero_stage if spec.teacher_zero_stage is None else spec.teacher_zero_stage
        yield Companion(
            TEACHER,
            _frozen(spec, spec.teacher),
            Geometry.from_config(spec.teacher),
            stays=not spec.teacher_offload,
            shares=spec.gpus if own == 3 else 1,
        )


def _frozen(spec: Spec, config: Mapping[str, Any]) -> Spec:
    return replace(spec, config=config, tuner="full", quant_bits=spec.bits)
