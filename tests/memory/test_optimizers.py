"""States of optimizers: every name of transformers' has a count or a reason; counts are those of the optimizers."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.memory.estimate import estimate
from tunekit.memory.geometry import Geometry
from tunekit.memory.optimizers import OPTIMIZERS, UNCOUNTED_OPTIMIZERS, state_bytes, step_bytes_of
from tunekit.memory.spec import Spec, Unknown

HIDDEN, LAYERS, INNER, VOCABULARY = 64, 2, 128, 512
CONFIG = {
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "intermediate_size": INNER,
    "vocab_size": VOCABULARY,
    "tie_word_embeddings": False,
}
FULL = Spec(config=CONFIG, tuner="full")
GEOMETRY = Geometry.from_config(CONFIG)
LINEARS = [*[(HIDDEN, HIDDEN)] * 4, *[(INNER, HIDDEN)] * 2, (HIDDEN, INNER)] * LAYERS
"""Rows and columns of q, k, v, o, gate, up and down."""


@pytest.mark.engine
def test_every_name_of_transformers_is_known():
    names = pytest.importorskip("transformers").training_args.OptimizerNames
    assert {*OPTIMIZERS, *UNCOUNTED_OPTIMIZERS} == {name.value for name in names}
    assert not {*OPTIMIZERS} & {*UNCOUNTED_OPTIMIZERS}


@pytest.mark.parametrize("name", UNCOUNTED_OPTIMIZERS)
def test_what_has_no_count_is_refused_by_name(name):
    with pytest.raises(Unknown, match=f"optimizer {name} are not known to the estimate: "):
        estimate(replace(FULL, optimizer=name))


PLAIN = {"adamw_torch": "AdamW", "adamw_torch_fused": "AdamW", "sgd": "SGD", "adagrad": "Adagrad", "rmsprop": "RMSprop"}


@pytest.mark.engine
@pytest.mark.parametrize("name", PLAIN)
def test_states_of_pytorchs_own(name):
    torch = pytest.importorskip("torch")
    weight = torch.nn.Parameter(torch.ones(HIDDEN, INNER, dtype=torch.bfloat16))
    weight.grad = torch.ones_like(weight)
    optimizer = getattr(torch.optim, PLAIN[name])([weight], lr=0.1)
    optimizer.step()
    held = sum(item.nbytes for item in optimizer.state[weight].values() if torch.is_tensor(item) and item.numel() > 1)
    assert held == OPTIMIZERS[name].own * weight.nbytes


BITSANDBYTES = {
    "adamw_bnb_8bit": ("AdamW", 8),
    "paged_adamw_32bit": ("AdamW", 32),
    "ademamix": ("AdEMAMix", 32),
    "ademamix_8bit": ("AdEMAMix", 8),
    "lion_32bit": ("Lion", 32),
    "lion_8bit": ("Lion", 8),
    "rmsprop_bnb": ("RMSprop", 32),
    "rmsprop_bnb_8bit": ("RMSprop", 8),
}


@pytest.mark.engine
@pytest.mark.parametrize("name", BITSANDBYTES)
@pytest.mark.parametrize("numbers", [1024, 65_536])
def test_states_of_bitsandbytes(name, numbers):
    torch, optim = pytest.importorskip("torch"), pytest.importorskip("bitsandbytes").optim
    kind, bits = BITSANDBYTES[name]
    weight = torch.nn.Parameter(torch.ones(numbers, dtype=torch.bfloat16))
    optimizer = getattr(optim, kind)([weight], optim_bits=bits)
    optimizer.init_state(optimizer.param_groups[0], weight, 0, 0)
    state = {key: value for key, value in optimizer.state[weight].items() if not key.startswith("qmap")}
    row = OPTIMIZERS[name]
    each = row.small if row.small and numbers < 4096 else row.fixed
    assert sum(item.nbytes for item in state.values() if torch.is_tensor(item)) == each * numbers


def galore_hand(rank):
    """Adam's two states on the smaller gradient and its projection, and on all else as it is; 2 bytes a number."""
    low = sum(2 * min(rank, rows, columns) * max(rows, columns) for rows, columns in LINEARS)
    projections = sum(min(rank, rows, columns) * min(rows, columns) for rows, columns in LINEARS)
    rest = GEOMETRY.parameters - GEOMETRY.linear_parameters
    return 2 * (low + projections + 2 * rest)


@pytest.mark.parametrize("rank", [1, 16, 64, 500])
def test_galore_keeps_states_of_small_gradients(rank):
    spec = replace(FULL, use_galore=True, galore_rank=rank)
    assert state_bytes(spec, GEOMETRY) == galore_hand(rank)


def test_galore_takes_the_modules_that_are_named():
    spec = replace(FULL, use_galore=True, galore_rank=4)
    some = replace(spec, galore_target_modules=("q_proj",))
    embedding = replace(spec, galore_with_embedding=True)
    assert state_bytes(embedding, GEOMETRY) < state_bytes(spec, GEOMETRY) < state_bytes(some, GEOMETRY)
    assert state_bytes(some, GEOMETRY) < state_bytes(FULL, GEOMETRY)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"galore_quantization": True}, "Q-GaLore"),
        ({"optimizer": "sgd"}, "GaLore does not take the optimizer sgd"),
        ({"sharding": "zero2", "gpus": 2}, "GaLore and Muon beside DeepSpeed"),
    ],
)
def test_galore_is_refused(said, why):
    with pytest.raises(Unknown, match=why):
        estimate(replace(FULL, use_galore=True, **said))


@pytest.mark.engine
@pytest.mark.parametrize("kind", ["std", "reverse_std", "right", "left", "full"])
def test_galore_projects_as_ms_swift_does(kind):
    torch = pytest.importorskip("torch")
    galore = pytest.importorskip("swift.optimizers.galore.galore_projector", exc_type=ImportError)
    held = 0
    for rows, columns in LINEARS:
        projector = galore.GaLoreProjector(8, proj_type=kind)
        low = projector.project(torch.rand(rows, columns), 0)
        matrices = projector.ortho_matrix if isinstance(projector.ortho_matrix, list) else [projector.ortho_matrix]
        held += 2 * (2 * low.numel() + sum(item.numel() for item in matrices))
    rest = GEOMETRY.parameters - GEOMETRY.linear_parameters
    spec = replace(FULL, use_galore=True, galore_rank=8, galore_proj_type=kind)
    assert state_bytes(spec, GEOMETRY) == held + 2 * 2 * rest


def test_muon_has_one_state_of_a_matrix():
    matrices, rest = GEOMETRY.linear_parameters, GEOMETRY.parameters - GEOMETRY.linear_parameters
    muon, clip = (replace(FULL, optimizer_plugin=name) for name in ("muon", "muonclip"))
    assert state_bytes(muon, GEOMETRY) == 2 * (matrices + 2 * rest)
    assert state_bytes(clip, GEOMETRY) == 2 * GEOMETRY.parameters
    assert step_bytes_of(muon, GEOMETRY) == 6 * (HIDDEN * INNER + HIDDEN**2)


@given(st.integers(1, 300), st.integers(0, 300), st.sampled_from(["lora", "full"]))
def test_more_rank_of_galore_needs_no_less(rank, more, tuner):
    small, large = (
        estimate(Spec(config=CONFIG, tuner=tuner, use_galore=True, galore_rank=value)) for value in (rank, rank + more)
    )
    assert large.breakdown["optimizer"] >= small.breakdown["optimizer"]
