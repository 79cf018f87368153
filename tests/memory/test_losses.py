"""Bytes of a logit: what the functions of ms-swift and trl that make the losses hold, followed on fake tensors."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from shapes import CONFIGS

from tunekit.memory.geometry import Geometry
from tunekit.memory.losses import BETWEEN, CHUNK, DIVERGENCES, eval_loss_bytes, loss_bytes, scored_bytes
from tunekit.memory.spec import Spec
from tunekit.stages import STAGES

QWEN = CONFIGS["Qwen/Qwen2.5-7B"]
SHAPE = Geometry.from_config(QWEN)
ROWS, TOKENS, WORDS = 4, 512, 4096


def logit_bytes(made, rows=ROWS):
    """The most that is alive while a loss is made and goes backward, in bytes of one logit."""
    torch = pytest.importorskip("torch")
    from accelerate.utils import convert_outputs_to_fp32
    from torch._subclasses.fake_tensor import FakeTensorMode

    from tunekit.memory.trace.follow import Follower

    with FakeTensorMode(allow_non_fake_inputs=True):
        head = torch.zeros(WORDS, 8, dtype=torch.bfloat16)
        hidden = torch.zeros(rows, TOKENS, 8, dtype=torch.bfloat16, requires_grad=True)
        labels = torch.zeros(rows, TOKENS, dtype=torch.long)
        answered = convert_outputs_to_fp32(lambda: hidden @ head.t())
        follower = Follower(WORDS, 0)
        with follower:
            loss = made(torch, answered, labels)
            if loss is not None:
                loss.backward()
    alive = most = 0
    for name, size in follower.events:
        alive += size or -follower.known[name].size
        most = max(most, alive)
    return most / (rows * TOKENS * WORDS)


def scores(torch, logits, labels):
    from swift.rlhf_trainers.rlhf_mixin import RLHFTrainerMixin

    asker = SimpleNamespace(template=SimpleNamespace(sequence_parallel_size=1))
    found, mean, _ = RLHFTrainerMixin.get_per_token_logps(asker, logits, torch.roll(labels, -1, 1))
    return found.sum(), mean.detach().mean()


def preferred(torch, answered, labels):
    found, mean = scores(torch, answered(), labels)
    with torch.no_grad():
        reference, _ = scores(torch, answered(), labels)
    return found - reference + 0 * mean


def written(torch, answered, labels):
    from trl.trainer.utils import selective_log_softmax

    logits = answered()[:, :-1, :]
    logits.div_(0.9)
    found = selective_log_softmax(logits, labels[:, 1:])
    del logits
    return -torch.exp(found - found.detach()).mean()


def with_likelihood(torch, answered, labels):
    from trl.trainer.utils import selective_log_softmax

    logits = answered()
    half = logits[: len(logits) // 2, :-1].contiguous()
    likely = torch.nn.CrossEntropyLoss()(half.view(-1, WORDS), labels[: len(labels) // 2, 1:].reshape(-1))
    del half
    return likely + selective_log_softmax(logits[:, :-1, :], labels[:, 1:]).sum()


def without_gradients(torch, answered, labels):
    with torch.no_grad():
        scores(torch, answered(), labels)


@pytest.mark.engine
@pytest.mark.parametrize(
    ("stage", "made"), [("dpo", preferred), ("kto", preferred), ("grpo", written), ("orpo", with_likelihood)]
)
def test_the_bytes_of_a_stage_are_those_of_its_loss(stage, made):
    pytest.importorskip("swift")
    assert logit_bytes(made) == pytest.approx(STAGES[stage].logit_bytes, rel=0.02)


@pytest.mark.engine
def test_without_gradients_a_logit_and_its_copy_stay():
    pytest.importorskip("swift")
    assert logit_bytes(without_gradients) == pytest.approx(STAGES["dpo"].eval_logit_bytes, rel=0.02)


@pytest.mark.engine
@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_a_teacher_is_followed_in_chunks(beta):
    pytest.importorskip("swift")

    def distilled(torch, answered, _labels):
        from swift.rlhf_trainers.gkd_loss import jsd_loss

        student = answered()
        with torch.no_grad():
            teacher = answered()
        at = torch.zeros(ROWS * TOKENS, dtype=torch.long)
        picked, taught = (logits.flatten(0, 1).index_select(0, at) for logits in (student, teacher))
        return jsd_loss(picked / 0.9, taught / 0.9, beta) + 0 * student.sum() * 0

    found = DIVERGENCES.get(beta, BETWEEN)
    asked = found.whole + found.chunk * CHUNK / (ROWS * TOKENS)
    assert logit_bytes(distilled) == pytest.approx(asked, rel=0.05)


def test_one_row_needs_more_than_several():
    assert scored_bytes(1) == 8
    assert scored_bytes(2) == scored_bytes(64) == 6


def test_a_loss_by_its_stage():
    spec = Spec(config=QWEN, seq_len=1000, loss_share=0.5)
    logits = {
        name: loss_bytes(Spec(config=QWEN, seq_len=1000, loss_share=0.5, stage=name), SHAPE, 2) for name in STAGES
    }
    each = SHAPE.vocab * 2000
    assert logits["orpo"] == logits["cpo"] == pytest.approx(18 * each, rel=0.01), "all tokens get logits"
    assert logits["ppo"] == pytest.approx(20 * each, rel=0.01)
    assert logits["dpo"] < logits["orpo"] * 2 / 3
    assert logits["rm"] == 4 * SHAPE.hidden * 2000, "a head of one number"
    assert eval_loss_bytes(spec, SHAPE, 2) == pytest.approx(loss_bytes(spec, SHAPE, 2) * 10 / 12, rel=0.01)


def test_liger_of_a_teacher_takes_all_tokens_at_once():
    spec = Spec(config=QWEN, seq_len=1000, loss_share=0.1, stage="gkd", liger=True)
    each = SHAPE.vocab * 1000
    beside = 2 * SHAPE.vocab * SHAPE.hidden + 4 * SHAPE.hidden * 1000  # a gradient of the head, and the last states
    assert loss_bytes(spec, SHAPE, 1) == 46 * each + beside
    assert loss_bytes(replace(spec, beta=0), SHAPE, 1) == 28 * each + beside
    top = replace(spec, liger=False, loss_share=1, gkd_logits_topk=20)
    assert loss_bytes(top, SHAPE, 1) == 12 * each + 4 * SHAPE.hidden * 1000
