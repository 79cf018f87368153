"""What ``swift infer`` is to the stand-in: it says the last question back. ``FAKE_SWIFT`` says how it behaves.

say: [...]      lines to print on stderr; show: names of variables to print the values of
fail: "..."     the message of the exception it ends with; wait: true  it never answers
tell: true      print the names of the columns of the last row
score: 0.5      it is a reward model, and gives that
fail_on: ["x"]  questions at which it fails, once those before it (of its batch: all before it) are answered
drop: [0, 2]    rows that it leaves out, as ms-swift does with those that it cannot read
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from swift.cli.trainer import TOLD, read_flags


def answer(flags: dict[str, str], question: str) -> str:
    return f"{Path(flags.get('adapters') or flags['model']).name} heard: {question}"


def answered(flags: dict[str, str], row: dict[str, Any]) -> dict[str, Any]:
    """A row as ``swift infer`` writes it, with all its columns and with others that are empty."""
    messages = row["messages"]
    if "score" in TOLD:
        scored = [*messages, {"role": "assistant", "content": TOLD["score"]}]
        return {"response": TOLD["score"], "labels": None, "logprobs": None, **row, "messages": scored}
    labels = messages.pop()["content"] if messages[-1]["role"] == "assistant" else None
    response = answer(flags, messages[-1]["content"])
    messages.append({"role": "assistant", "content": response})
    return {"response": response, "labels": labels, "logprobs": None, **row, "messages": messages, "images": None}


def dataset(flags: dict[str, str]) -> None:
    if TOLD.get("wait"):
        time.sleep(600)
    print("[INFO:swift] Start time of running main: now", file=sys.stderr, flush=True)
    lines = [line for name in flags["val_dataset"].split() for line in Path(name).read_text("utf-8").splitlines()]
    if TOLD.get("tell"):
        print("columns:", *json.loads(lines[-1]), flush=True)
    with Path(flags["result_path"]).open("w", encoding="utf-8") as file:
        for number, line in enumerate(lines):
            if json.loads(line)["messages"][0]["content"] in TOLD.get("fail_on", []):
                raise ValueError("the image of this row cannot be opened")
            if number not in TOLD.get("drop", []):
                file.write(json.dumps(answered(flags, json.loads(line))) + "\n")
    print("the answers are written", flush=True)


def talk(flags: dict[str, str]) -> None:
    while (query := input("<<< ")) not in ("exit", "quit"):
        if query == "wait":
            time.sleep(600)
        print(answer(flags, query), flush=True)
        print("-" * 50)


def main() -> None:
    flags = read_flags(sys.argv[1:])
    for line in TOLD.get("say", []):
        print(line, file=sys.stderr, flush=True)
    for name in TOLD.get("show", []):
        print(f"the value of {name} is {os.environ.get(name)}", file=sys.stderr, flush=True)
    if "fail" in TOLD:
        raise ValueError(TOLD["fail"])
    if "val_dataset" in flags:
        dataset(flags)
    else:
        talk(flags)


if __name__ == "__main__":
    main()
