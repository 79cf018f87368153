"""The words of the page of a run, in English and Chinese: one table, so that none is missing in either."""

from __future__ import annotations

from collections.abc import Mapping

LANGUAGES = ("en", "zh")

WORDS: Mapping[str, tuple[str, str]] = {
    "curves": ("Curves", "曲线"),
    "why": ("Why", "为什么"),
    "everything": ("Everything", "全部细节"),
    "sections": ("Sections", "目录"),
    "time": ("Time", "用时"),
    "rows": ("Rows used", "使用的样本"),
    "memory": ("GPU memory", "显存"),
    "attempts": ("Attempts", "尝试"),
    "attempt": ("Attempt {0}", "第 {0} 次尝试"),
    "in attempts": ("attempts: {0}", "尝试次数：{0}"),
    "at the end": ("at the end", "结束时"),
    "so far": ("so far", "目前"),
    "at step": ("{0} at step {1}", "{0}，第 {1} 步"),
    "from": ("from {0}", "从 {0} 继续"),
    "said": ("said {0}", "预计 {0}"),
    "of": ("of {0}", "共 {0}"),
    "step": ("step", "步"),
    "values": ("All values as a table", "以表格查看全部数值"),
    "thinned": (
        "20 of {0} logged steps; all of them: output/logging.jsonl",
        "共 {0} 个记录点，此处列出 20 个；全部见 output/logging.jsonl",
    ),
    "smooth": (
        "Thin: as logged. Thick: mean of the neighbours without the highest and the lowest.",
        "细线：记录值；粗线：相邻各点去掉最高与最低后的均值。",
    ),
    "dashed": ("Dashed: evaluation, not smoothed.", "虚线：评估（未平滑）。"),
    "banded": ("Band: the spread of the rewards.", "色带：奖励的离散程度。"),
    "greyed": ("Grey: steps that were trained twice.", "灰色：重复训练的步。"),
    "few drawn": (
        "Of {0} logged steps the lowest and the highest of every few are drawn.",
        "共 {0} 个记录点，图中每几步只画最低与最高的点。",
    ),
    "no curve together": ("These runs have logged no number in common.", "这些运行没有共同记录的数值。"),
    "no curve": ("No step was logged, so there is no curve.", "没有记录任何一步，因此没有曲线。"),
    "curve": ("{0} by step, from {1} to {2}", "各步的{0}：从 {1} 到 {2}"),
    "not a number": (
        "{0} was not a number at {1} steps, first at step {2}.",
        "{0}在 {1} 步上不是数值，首次出现在第 {2} 步。",
    ),
    "setting": ("setting", "参数"),
    "value": ("value", "取值"),
    "source": ("from, and why", "来源与理由"),
    "settings": ("All settings", "全部参数"),
    "decided": ("What was decided for you", "替你决定的参数"),
    "changed": ("What was changed on the way", "途中的改动"),
    "data": ("Data", "数据"),
    "environment": ("Environment", "环境"),
    "reproduce": ("The command", "完整命令"),
    "commands": ("What can be done with it", "下一步"),
    "chat": ("Chat", "对话"),
    "merge": ("Merge", "合并"),
    "export": ("Export", "导出"),
    "serve": ("Serve", "部署"),
    "resume": ("Go on", "继续"),
    "follow": ("Follow the log", "跟踪日志"),
    "stop": ("Stop", "停止"),
    "copy": ("Copy", "复制"),
    "copied": ("Copied", "已复制"),
    "weights": ("weights", "权重"),
    "trained": ("adapter, gradients, optimizer", "适配器、梯度、优化器"),
    "kept": ("checkpoints for the way back", "反向所需的检查点"),
    "computed": ("being computed: a layer, the loss", "计算中：一层或损失"),
    "allocator": ("allocator and CUDA", "分配器与 CUDA"),
    "together": ("together", "合计"),
    "predicted": ("GPU memory as predicted", "预计显存"),
    "fits": ("Fits: {0} of {1} GiB.", "放得下：{0} / {1} GiB。"),
    "tight": ("Tight: {0} of {1} GiB.", "偏紧：{0} / {1} GiB。"),
    "does not fit": ("Does not fit: {0} GiB, the card gives {1}.", "放不下：需要 {0} GiB，显卡只有 {1}。"),
    "ended done": ("done", "完成"),
    "ended interrupted": ("stopped", "已停止"),
    "ended lost": ("broken off", "中断"),
    "ended gpu-memory": ("out of GPU memory", "显存不足"),
    "ended gpu-memory-in-evaluation": ("out of GPU memory in evaluation", "评估时显存不足"),
    "ended gpu-memory-at-load": ("out of GPU memory while loading", "加载时显存不足"),
    "ended host-memory": ("out of the machine's memory", "内存不足"),
    "ended data": ("data error", "数据错误"),
    "ended usage": ("refused", "参数被拒绝"),
    "ended disk": ("disk full", "磁盘已满"),
    "ended network": ("network error", "网络错误"),
    "ended unknown": ("failed", "失败"),
    "learned": ("{0} learned from {1}: {2}, on {3}.", "{0}，数据 {1}；{2}，在 {3} 上训练。"),
    "done": ("Done in {0}.", "用时 {0}，已完成。"),
    "running": ("Running for {0}.", "已运行 {0}。"),
    "stopped": ("Stopped after {0}.", "{0} 后停止。"),
    "failed": ("Failed after {0}.", "{0} 后失败。"),
    "died": ("Broken off after {0}.", "{0} 后中断。"),
    "result": ("{0}: {1}.", "{0}：{1}。"),
    "oom": ("Attempt {0} ran out of memory at step {1}: {2}.", "第 {0} 次尝试在第 {1} 步显存不足：{2}。"),
    "no evaluation": (
        "No rows were set aside for evaluation, so nothing here says how well it does on rows it has not seen.",
        "没有留出评估数据，因此无法得知它在未见过的数据上表现如何。",
    ),
    "preset": ("preset", "预设"),
    "model": ("model", "模型"),
    "device": ("device", "硬件"),
    "batch": ("batch", "批次"),
    "written": ("Written by tunekit {0} for ms-swift {1}.", "由 tunekit {0} 为 ms-swift {1} 生成。"),
    "train": ("train", "训练"),
    "eval": ("evaluation", "评估"),
    "eval loss": ("Loss in evaluation", "评估损失"),
    "scores": ("Reward by function", "各函数的奖励"),
    "chosen": ("chosen", "偏好"),
    "rejected": ("rejected", "拒绝"),
    "loss": ("Loss", "损失"),
    "eval_loss": ("Lowest loss in evaluation", "最低评估损失"),
    "eval_rewards/accuracies": ("Best accuracy in evaluation", "最高评估准确率"),
    "token_acc": ("Token accuracy", "词元准确率"),
    "learning_rate": ("Learning rate", "学习率"),
    "grad_norm": ("Gradient norm", "梯度范数"),
    "train_speed(s/it)": ("Seconds a step, mean so far", "每步秒数（累计均值）"),
    "memory(GiB)": ("GPU memory, GiB", "显存，GiB"),
    "rewards/margins": ("Reward margin", "奖励差"),
    "rewards/accuracies": ("Accuracy", "准确率"),
    "rewards/chosen": ("Rewards of both answers", "两种回答的奖励"),
    "reward": ("Reward", "奖励"),
    "reward_std": ("Spread of the rewards", "奖励的离散程度"),
    "kl": ("KL from the start", "与起点的 KL 散度"),
    "completions/mean_length": ("Answer length, tokens", "回答长度（词元）"),
    "completions/clipped_ratio": ("Cut at the limit", "达到长度上限的比例"),
    "frac_reward_zero_std": ("Groups of equal rewards", "奖励全同的组"),
    "objective/scores": ("Reward", "奖励"),
    "objective/kl": ("KL from the start", "与起点的 KL 散度"),
    "objective/entropy": ("Entropy", "熵"),
    "loss/policy_avg": ("Policy loss", "策略损失"),
    "loss/value_avg": ("Value loss", "价值损失"),
}
"""By key; those of curves are ms-swift's names. Flags, sources and reasons stay as they are."""


def word_of(language: str, key: str, *values: object) -> str:
    """A word or sentence in a language, `values` put in. Raises KeyError for a key that is not in the table."""
    return WORDS[key][LANGUAGES.index(language)].format(*values)


UNITS = (("min", "分"), ("h", "小时"), ("s", "秒"), ("days", "天"))


def time_in_language(language: str, told: str) -> str:
    """A time as `tunekit` says it, ``1 h 48 min``, in a language."""
    if language == LANGUAGES[0]:
        return told
    chinese = dict(UNITS)
    return " ".join(chinese.get(word, word) for word in told.split(" "))
