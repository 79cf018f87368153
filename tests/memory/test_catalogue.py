"""Nearly every text model that ms-swift lists has a shape that is counted, or one that the trace can follow."""

from collections import Counter
from dataclasses import asdict

import pytest

from tunekit.memory.estimate import estimate
from tunekit.memory.families import FAMILIES
from tunekit.memory.spec import Spec, Unknown
from tunekit.plan.models.catalogue import read_catalogue

OWN_CODE = {
    "BaiChuanForCausalLM": "baichuan",
    "BaichuanForCausalLM": "baichuan",
    "BaichuanM1ForCausalLM": "baichuan_m1",
    "BailingMoeForCausalLM": "bailing_moe",
    "BailingMoeV2ForCausalLM": "bailing_moe",
    "BlueLMForCausalLM": "bluelm",
    "ChatGLMModel": "chatglm",
    "DeepseekForCausalLM": "deepseek",
    "Ernie4_5_ForCausalLM": "ernie4_5",
    "IQuestCoderForCausalLM": "iquestcoder",
    "InternLM2ForCausalLM": "internlm2",
    "InternLM2ForRewardModel": "internlm2",
    "InternLM3ForCausalLM": "internlm3",
    "InternLMForCausalLM": "internlm",
    "MiMoForCausalLM": "mimo",
    "MiniCPMForCausalLM": "minicpm",
    "OrionForCausalLM": "orion",
    "PhiMoEForCausalLM": "phimoe",
    "QWenLMHeadModel": "qwen",
    "SkyworkForCausalLM": "skywork",
    "TeleChat2ForCausalLM": "telechat",
    "TeleChatForCausalLM": "telechat",
    "XverseForCausalLM": "xverse",
    "YuanForCausalLM": "yuan",
    # heads of one number on models that are known
    "Gemma2ForSequenceClassification": "gemma2",
    "Gemma3TextModel": "gemma3_text",
    "LlamaForSequenceClassification": "llama",
    "Qwen2ForProcessRewardModel": "qwen2",
    "Qwen2ForRewardModel": "qwen2",
}
"""The ``model_type`` of architectures that transformers does not list as causal language models."""

TRACED = {"qwen3_next"}
"""Model types without a formula that the trace follows."""

ENCODERS = {"bert", "bge_reranker", "modern_bert", "modern_bert_gte", "modern_bert_gte_reranker"}
"""Models that write no text: no stage trains them."""


def kinds_of_architectures():
    auto = pytest.importorskip("transformers.models.auto.modeling_auto", exc_type=ImportError)
    named = auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items()
    return {(names if isinstance(names, str) else names[0]): kind for kind, names in named} | OWN_CODE


def test_nearly_all_text_models_are_counted_or_traced():
    catalogue, kinds = read_catalogue(), kinds_of_architectures()
    built: dict[str, set[str]] = {}
    for architecture, types in catalogue["architectures"].items():
        for kind in types:
            built.setdefault(kind, set()).add(kinds.get(architecture, architecture))
    seeing = {kind for kind, said in catalogue["types"].items() if said["multimodal"]}
    texts = Counter(row[2] for row in catalogue["models"] if row[2] not in seeing | ENCODERS)
    missing = {kind: count for kind, count in texts.items() if not built.get(kind, set()) & (FAMILIES.keys() | TRACED)}
    share = 1 - sum(missing.values()) / sum(texts.values())
    assert share >= 0.95, f"{share:.1%}; without: {sorted(missing.items(), key=lambda item: -item[1])}"


def test_what_has_no_formula_is_traced():
    worker = pytest.importorskip("tunekit.memory.trace.worker", exc_type=ImportError)
    small = {"hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    moe = {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 64,
        "shared_expert_intermediate_size": 64,
    }
    for kind in TRACED:
        config = {"model_type": kind, "vocab_size": 1000, "head_dim": 64, "intermediate_size": 512, **small, **moe}
        config["layer_types"] = ["linear_attention", "full_attention"]
        spec = Spec(config=config, tuner="full", seq_len=64)
        with pytest.raises(Unknown):
            estimate(spec)
        assert worker.answer_trace({"spec": asdict(spec)})["allocated"] > 0
