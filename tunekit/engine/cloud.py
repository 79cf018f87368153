"""Jobs for SkyPilot and for Kubeflow Trainer, as YAML.

Their machines do not share this one's files, so each of them plans the run anew by its own GPUs, at the same effective
batch: ``tunekit sft … --resume auto``, which is also what goes on after a preemption.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.errors import TunekitError
from tunekit.files import path_of

if TYPE_CHECKING:
    from tunekit.engine.cluster import ClusterJob

RUNS_THERE = "/runs"
"""Where the storage that outlives a machine is mounted."""

SKYPILOT_KEYS = frozenset(("storage", "store", "image", "infra", "spot", "disk", "accelerators", "cpus", "memory"))
KUBEFLOW_KEYS = frozenset(("storage", "image", "runtime", "namespace", "cpus", "memory", "secret"))

GROUP = "trainer.kubeflow.org"
RUNTIME = "torch-distributed"
"""The runtime that Kubeflow Trainer brings."""

SHARED_MEMORY = {"name": "shm", "emptyDir": {"medium": "Memory"}}
"""Pods have 64 MiB of /dev/shm otherwise, which data loaders and NCCL fill at once."""


def render_skypilot(job: ClusterJob) -> str:
    """A task for ``sky launch`` and ``sky jobs launch``. Raises TunekitError where a preemption would lose the run."""
    options = job.options
    if "spot" in options and "storage" not in options:
        hint = "--cloud storage=BUCKET keeps the run where a new machine finds it"
        raise TunekitError("--cloud spot: a preempted machine takes the run with it", hint)
    resources: dict[str, Any] = {
        "infra": options.get("infra"),
        "accelerators": options.get("accelerators") or _accelerators(job),
        "use_spot": True if "spot" in options else None,
        "cpus": options.get("cpus"),
        "memory": options.get("memory"),
        "disk_size": _whole("disk", options["disk"]) if "disk" in options else None,
        "image_id": f"docker:{options['image']}" if "image" in options else None,
    }
    mounts: dict[str, Any] = {path: path for path in _outside(job)}
    if "storage" in options:
        kept = {"name": options["storage"], "store": options.get("store"), "mode": "MOUNT"}
        mounts[RUNS_THERE] = {key: value for key, value in kept.items() if value}
    place = f"{RUNS_THERE if 'storage' in options else 'runs'}/{job.name}"
    task: dict[str, Any] = {
        "name": label_of(job.name),
        "num_nodes": job.nodes,
        "workdir": ".",
        "resources": {key: value for key, value in resources.items() if value is not None},
        "file_mounts": mounts,
        "secrets": dict.fromkeys(job.plan.secrets),
        "setup": 'pip install "tunekit[train]"\n',
        "run": f'master=$(echo "$SKYPILOT_NODE_IPS" | head -n1)\n'
        f"{job.trains_anew(place, '$SKYPILOT_NODE_RANK', '$master')}\n",
    }
    return _with_head(job, {key: value for key, value in task.items() if value not in ({}, None)})


def render_kubeflow(job: ClusterJob) -> str:
    """A TrainJob for ``kubectl create -f``. Raises TunekitError where there is no image to run."""
    options = job.options
    if "image" not in options:
        raise TunekitError(
            "--launch kubeflow needs --cloud image=IMAGE", "one with ms-swift, tunekit and its GPU's torch"
        )
    place = f"{RUNS_THERE if 'storage' in options else '/tmp/runs'}/{job.name}"  # noqa: S108 - a path in the pod
    gpus = {"nvidia.com/gpu": str(len(job.plan.hardware.gpus))} if job.plan.hardware.gpus else {}
    limits = gpus | ({"memory": options["memory"]} if "memory" in options else {})
    requests = {"cpu": options["cpus"]} if "cpus" in options else {}
    trainer = {
        "image": options["image"],
        "command": ["bash", "-c"],
        "args": [f"exec {job.trains_anew(place, '$PET_NODE_RANK', '$PET_MASTER_ADDR:$PET_MASTER_PORT')}\n"],
        "numNodes": job.nodes,
        "numProcPerNode": job.plan.hardware.local_world,
        "resourcesPerNode": {key: value for key, value in (("limits", limits), ("requests", requests)) if value},
        "env": [_secret(name, options.get("secret", "tunekit")) for name in job.plan.secrets],
    }
    document = {
        "apiVersion": f"{GROUP}/v1alpha1",
        "kind": "TrainJob",
        "metadata": {
            "name": label_of(job.name),
            **({"namespace": options["namespace"]} if "namespace" in options else {}),
        },
        "spec": {
            "runtimeRef": {
                "apiGroup": GROUP,
                "kind": "ClusterTrainingRuntime",
                "name": options.get("runtime", RUNTIME),
            },
            "trainer": {key: value for key, value in trainer.items() if value not in ({}, [])},
            "runtimePatches": [_volumes(options.get("storage", ""))],
        },
    }
    return _with_head(job, document)


def label_of(name: str) -> str:
    """A run's name as clusters take it: lower case, digits and dashes, at most 63, a letter first (RFC 1123)."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    plain = plain if plain[:1].isalpha() else f"run-{plain}"
    return plain[:63].rstrip("-")


def _accelerators(job: ClusterJob) -> str | None:
    """What SkyPilot calls the GPUs: ``H100:8``, ``A100-80GB:4``, ``RTX4090:1``."""
    hardware = job.plan.hardware
    if not hardware.gpus:
        return None
    name = re.sub(r"\s+|^NVIDIA\s+|^Tesla\s+", "", hardware.gpus[0].name)
    if not hardware.described or name[:1].isdigit():  # 80GB: described by its memory
        raise TunekitError(
            f"--launch skypilot: no cloud sells a {hardware.gpus[0].name}",
            "name the card: --gpus 8xH100, or --cloud accelerators=H100:8",
        )
    return f"{name.removesuffix('-40GB')}:{hardware.local_world}"


def _outside(job: ClusterJob) -> list[str]:
    """Files and folders that the run reads and that are not below the current folder, which travels as a whole."""
    named = [word for flag in ("model", "dataset", "val_dataset", "adapters") for word in job.plan.words(flag)]
    there = [path_of(word.partition("#")[0]) for word in named]
    here = Path.cwd()
    return [str(path) for path in there if path.is_absolute() and path.exists() and not path.is_relative_to(here)]


def _secret(name: str, secret: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": name}}}


def _volumes(claim: str) -> dict[str, Any]:
    """What is mounted in every pod: shared memory, and the storage that outlives it."""
    volumes: list[dict[str, Any]] = [SHARED_MEMORY]
    mounts = [{"name": "shm", "mountPath": "/dev/shm"}]  # noqa: S108 - a path in the pod
    if claim:
        volumes.append({"name": "runs", "persistentVolumeClaim": {"claimName": claim}})
        mounts.append({"name": "runs", "mountPath": RUNS_THERE})
    pod = {"spec": {"volumes": volumes, "containers": [{"name": "node", "volumeMounts": mounts}]}}
    replicated = [{"name": "node", "template": {"spec": {"template": pod}}}]
    return {
        "manager": "tunekit.io/tunekit",
        "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": replicated}}},
    }


def _whole(key: str, word: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", word):
        raise TunekitError(f"--cloud {key} takes a whole number, not {word[:60]}")
    return int(word)


def _with_head(job: ClusterJob, document: dict[str, Any]) -> str:
    notes = [*job.comments()]
    if job.nodes > 1:
        notes.append("Out of memory on several machines is not retried: lower --micro-batch and start it anew.")
    return "".join(f"# {line}\n" for line in notes) + yaml_text(document)


def yaml_text(value: Any, indent: int = 0) -> str:
    """Plain data as YAML: blocks, texts of several lines as they are, all other texts between double quotes."""
    pad = " " * indent
    if isinstance(value, dict) and value:
        return "".join(f"{pad}{_key(key)}:{_below(item, indent)}" for key, item in value.items())
    if isinstance(value, list) and value:
        lines = ("".join(yaml_text(item, indent + 2)) for item in value)
        return "".join(f"{pad}- {line.lstrip(' ')}" for line in lines)
    plain = isinstance(value, str) and value.isascii() and value.replace("\n", "").isprintable()
    if plain and value.endswith("\n") and not value.startswith((" ", "\n")):
        inside = " " * (indent + 2)
        return "|\n" + "".join(f"{inside}{line}\n" for line in value.splitlines())
    return f"{pad}{json.dumps(value, ensure_ascii=False)}\n"


def _below(item: Any, indent: int) -> str:
    if isinstance(item, (dict, list)) and item:
        return f"\n{yaml_text(item, indent + 2)}"
    return f" {yaml_text(item, indent).lstrip(' ')}"


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z_][\w-]*", key) and key.lower() not in YAML_WORDS else json.dumps(key)


YAML_WORDS = frozenset(("y", "n", "yes", "no", "on", "off", "true", "false", "null"))
"""Words that YAML takes for something else than a text."""
