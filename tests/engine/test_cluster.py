"""``KEY=VALUE``, and the command by which a machine plans the run anew."""

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from running import a_plan

from tunekit.engine.cluster import ClusterJob, keys_and_values
from tunekit.errors import TunekitError


def test_keys_and_values():
    words = ["partition=gpu", "--mail_type=END,FAIL", "comment=two words", "exclusive", "export=ALL,A=b"]
    assert keys_and_values("--slurm", words) == {
        "partition": "gpu",
        "mail-type": "END,FAIL",
        "comment": "two words",
        "exclusive": "",
        "export": "ALL,A=b",
    }


@pytest.mark.parametrize("word", ["=x", "1x=2", "a b=c", "time=$(id)", 'a="b"', "a=`id`", "a=b\nc", "a=\\", "a;b=c"])
def test_what_a_shell_would_read_is_refused(word):
    with pytest.raises(TunekitError, match="--slurm"):
        keys_and_values("--slurm", [word])


def test_a_key_is_said_once():
    with pytest.raises(TunekitError, match="given twice"):
        keys_and_values("--slurm", ["mem-per-cpu=1", "mem_per_cpu=2"])


def test_a_machine_trains_anew_with_the_words_of_the_user():
    words = ("--model", "a b", "--system", "say $HOME 'now'")
    job = ClusterJob(a_plan(), "try", Path("/x"), "python", words)
    assert shlex.split(job.trains_anew("/runs/try")) == [
        *("tunekit", "sft", *words, "--output-dir", "/runs/try", "--resume", "auto")
    ]
    plan = replace(a_plan(), hardware=replace(a_plan().hardware, nodes=2))
    text = replace(job, plan=plan).trains_anew("/runs/try", "$RANK", "$HEAD")
    assert text.endswith('--launch nodes --nodes 2 --node-rank "$RANK" --master "$HEAD"')
