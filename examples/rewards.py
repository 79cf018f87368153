# ruff: noqa: ARG001, INP001
"""Two rewards for GRPO: tunekit grpo … --reward examples/rewards.py:right_number examples/rewards.py:brief.

A reward gets the questions, the responses and the columns of the dataset, each a list as long as the others, and
returns a number for each response; None for one that it does not judge.
"""

from __future__ import annotations

import re
from typing import Any

NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def right_number(prompts: list[str], responses: list[str], solution: list[str], **columns: Any) -> list[float]:
    """1 where the last number of the response is the one in the column solution, 0.1 for any other number."""
    scores = []
    for response, wanted in zip(responses, solution, strict=True):
        numbers = NUMBER.findall(response.replace(",", ""))
        right = bool(numbers) and float(numbers[-1]) == float(wanted)
        scores.append(1.0 if right else 0.1 if numbers else 0.0)
    return scores


def brief(prompts: list[str], responses: list[str], **columns: Any) -> list[float]:
    """1 for up to 50 words, then less and less, and 0 from 250 words on."""
    return [min(1.0, max(0.0, 1.25 - len(response.split()) / 200)) for response in responses]
