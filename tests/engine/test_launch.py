"""The table of launchers, what each takes, and the variables by which machines find each other."""

from dataclasses import replace
from pathlib import Path

import pytest
from running import a_plan

from tunekit.engine.cluster import ClusterJob
from tunekit.engine.launch import LAUNCHERS, launcher_options, node_variables, plan_of_node, render_nodes
from tunekit.errors import TunekitError
from tunekit.plan import options
from tunekit.plan.batch import Batch


def two_machines(gpus=8):
    plan = a_plan(Batch(2, 1, 2 * gpus), gpus=gpus)
    return replace(plan, hardware=replace(plan.hardware, nodes=2))


def test_the_table_has_a_row_for_each_word():
    assert tuple(LAUNCHERS) == options.LAUNCHERS
    assert {launcher.option for launcher in LAUNCHERS.values()} - {""} <= options.OPTIONS.keys()


def test_what_is_said_to_another_launcher_is_refused():
    with pytest.raises(TunekitError, match="--slurm is for --launch slurm"):
        launcher_options("kubeflow", {"slurm": ("time=1",)})
    with pytest.raises(TunekitError, match="--cloud has no imagee") as refused:
        launcher_options("kubeflow", {"cloud": ("imagee=x",)})
    assert "image" in refused.value.hint
    assert launcher_options("slurm", {"slurm": ("time=1", "exclusive")}) == {"time": "1", "exclusive": ""}
    assert launcher_options("local", {}) == {}


@pytest.mark.parametrize(
    ("master", "address", "port"),
    [("10.0.0.1", "10.0.0.1", "29500"), ("head:1234", "head", "1234"), ("fe80::1%eth0", "fe80::1%eth0", "29500")],
)
def test_each_machine_is_told_its_place(master, address, port):
    env = plan_of_node(two_machines(), 1, master).env
    assert env["NPROC_PER_NODE"] == "8"
    assert (env["NNODES"], env["NODE_RANK"], env["MASTER_ADDR"], env["MASTER_PORT"]) == ("2", "1", address, port)


def test_a_machine_that_is_none_of_them():
    with pytest.raises(TunekitError, match="of 2 machines the last is 1"):
        node_variables(2, 2, "a")
    with pytest.raises(TunekitError, match="needs --master"):
        node_variables(2, 0, "")


def test_the_command_of_every_machine():
    text = render_nodes(ClusterJob(two_machines(), "try", Path("/runs/try"), "python", master="head"))
    assert [line for line in text.splitlines() if "NODE_RANK" in line] == ["NODE_RANK=0 \\", "NODE_RANK=1 \\"]
    assert text.count("--output_dir /runs/try/output") == 2
