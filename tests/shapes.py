"""The shapes of models that tests of the memory take: the shipped ones, and one that is as large as 20B."""

import json
from pathlib import Path

CONFIGS = json.loads((Path(__file__).parents[1] / "tunekit/plan/models/configs.json").read_text())
CONFIGS["dense-20b"] = {
    "model_type": "llama",
    "hidden_size": 6144,
    "intermediate_size": 16384,
    "num_hidden_layers": 44,
    "num_attention_heads": 48,
    "num_key_value_heads": 8,
    "vocab_size": 100352,
    "tie_word_embeddings": False,
    "head_dim": 128,
}
