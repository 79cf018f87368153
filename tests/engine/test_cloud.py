"""What SkyPilot and Kubeflow Trainer are given."""

from dataclasses import replace
from pathlib import Path

import pytest
from running import a_plan

from tunekit.engine.cloud import label_of, render_kubeflow, render_skypilot, yaml_text
from tunekit.engine.cluster import ClusterJob
from tunekit.errors import TunekitError
from tunekit.hardware import choose_hardware

yaml = pytest.importorskip("yaml")

TRAINS = "tunekit sft --model m --output-dir /runs/My_run --resume auto"


def job(gpus="8xH100", nodes=2, **options):
    hardware = replace(choose_hardware(gpus), nodes=nodes)
    plan = replace(a_plan(gpus=8), hardware=hardware, secrets=("HF_TOKEN",))
    return ClusterJob(plan, "My_run", Path("/x"), "python", ("--model", "m"), options)


def test_a_task_for_skypilot():
    text = render_skypilot(job(storage="bucket", store="s3", spot="", image="a/b:1", disk="512"))
    task = yaml.safe_load(text)
    assert task["name"] == "my-run"
    assert task["num_nodes"] == 2
    assert task["resources"] == {
        "accelerators": "H100:8",
        "use_spot": True,
        "disk_size": 512,
        "image_id": "docker:a/b:1",
    }
    assert task["file_mounts"] == {"/runs": {"name": "bucket", "store": "s3", "mode": "MOUNT"}}
    assert task["secrets"] == {"HF_TOKEN": None}
    assert f'{TRAINS} --launch nodes --nodes 2 --node-rank "$SKYPILOT_NODE_RANK" --master "$master"' in task["run"]
    assert "Out of memory on several machines is not retried" in text


def test_one_machine_retries_by_itself():
    task = yaml.safe_load(render_skypilot(job(nodes=1, storage="b")))
    assert task["run"].endswith(f"{TRAINS}\n")


def test_a_preemption_must_not_lose_the_run():
    with pytest.raises(TunekitError, match="a preempted machine takes the run with it"):
        render_skypilot(job(spot=""))
    with pytest.raises(TunekitError, match="no cloud sells a 80 GB GPU"):
        render_skypilot(job("8x80GB"))
    assert yaml.safe_load(render_skypilot(job("8x80GB", accelerators="H100:8")))["resources"] == {
        "accelerators": "H100:8"
    }


@pytest.mark.parametrize("nodes", [1, 2])
def test_a_train_job_for_kubeflow(nodes):
    document = yaml.safe_load(
        render_kubeflow(job(nodes=nodes, image="a/b:1", storage="claim", memory="512Gi", cpus="32"))
    )
    trainer = document["spec"]["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"]) == (nodes, 8)
    assert trainer["resourcesPerNode"] == {
        "limits": {"nvidia.com/gpu": "8", "memory": "512Gi"},
        "requests": {"cpu": "32"},
    }
    assert trainer["env"] == [
        {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "tunekit", "key": "HF_TOKEN"}}}
    ]
    assert TRAINS in trainer["args"][0]
    mounts = document["spec"]["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    volumes = mounts[0]["template"]["spec"]["template"]["spec"]["volumes"]
    assert [volume["name"] for volume in volumes] == ["shm", "runs"]
    with pytest.raises(TunekitError, match="needs --cloud image=IMAGE"):
        render_kubeflow(job())


def test_kubeflows_own_model_keeps_all_of_it():
    """It drops what it does not know, without a word."""
    models = pytest.importorskip("kubeflow_trainer_api.models")
    document = yaml.safe_load(render_kubeflow(job(image="a/b:1", storage="claim", namespace="n", memory="1Gi")))
    assert models.TrainerV1alpha1TrainJob.from_dict(document).to_dict() == document


def test_skypilots_own_task_takes_it(tmp_path, monkeypatch):
    sky = pytest.importorskip("sky")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "task.yaml").write_text(render_skypilot(job(nodes=2)))
    assert sky.Task.from_yaml(str(tmp_path / "task.yaml")).num_nodes == 2


@pytest.mark.parametrize(
    ("name", "label"),
    [("Qwen2.5-7B_sft", "qwen2-5-7b-sft"), ("7b", "run-7b"), ("-a-", "a"), ("x" * 80, "x" * 63), ("é", "run")],
)
def test_names_of_clusters(name, label):
    assert label_of(name).rstrip("-") == label


@pytest.mark.parametrize(
    "value",
    [
        {"a": {"b": [1, 2, {"c": "x: y", "on": None}], "d": []}, "yes": "no", "e": True, "f": 1.5, "g": "0123"},
        {"text": "one\n  two # three\n\nfour: 'five'\n", "list": [["a"], ["b", ["c"]]], "word": 'a\tb "q" ü'},
        [{"x": "line\n", "y": 1}, "plain"],
        {"text": "with ü\nand more\n", "empty": "", "leading": "  spaces\nlater\n"},
    ],
)
def test_yaml_reads_what_was_written(value):
    assert yaml.safe_load(yaml_text(value)) == value
