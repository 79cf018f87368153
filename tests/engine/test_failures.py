"""A failure is named by the exit status and the end of the log. Only memory is worth another try."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.engine.failures import classify, memory_sizes
from tunekit.engine.kinds import PATTERNS, SIGKILLED, TITLES, Kind

OOM = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.32 GiB. GPU 0 has a total capacity of 39.14 GiB "
    "of which 1.10 GiB is free. Including non-PyTorch memory, this process has 38.03 GiB memory in use."
)


def frame(function, file="swift/trainers/mixin.py"):
    return f'  File "/v/lib/python3.11/site-packages/{file}", line 100, in {function}\n    something()\n'


def traceback(*functions, error=OOM, rank=None):
    """What Python prints, each line with the rank in front as torchrun shows it."""
    text = "Traceback (most recent call last):\n" + "".join(map(frame, functions)) + error + "\n"
    if rank is None:
        return text
    return "".join(f"[rank{rank}]: {line}\n" for line in text.splitlines())


TRAINING = ("<module>", "sft_main", "main", "run", "train", "_inner_training_loop", "training_step", "forward")
EVALUATING = (*TRAINING[:6], "_maybe_log_save_evaluate", "evaluate", "evaluation_loop", "prediction_step", "forward")
LOADING = (*TRAINING[:3], "get_model_processor", "from_pretrained", "_load_pretrained_model", "to")

TORCHRUN = (
    "W1101 12:00:00.0 88 torch/distributed/elastic/multiprocessing/api.py:1010] Sending process 90 closing signal\n"
    "E1101 12:00:00.0 88 torch/distributed/elastic/multiprocessing/api.py:984] failed (exitcode: 1) local_rank: 0 "
    "(pid: 89) of binary: /v/bin/python\n"
    + traceback(
        "<module>",
        "main",
        "run",
        "launch_agent",
        error="torch.distributed.elastic.multiprocessing.errors.ChildFailedError: ",
    )
    + "=====\n/v/lib/python3.11/site-packages/swift/cli/sft.py FAILED\n-----\nRoot Cause (first observed failure):\n"
    "[0]:\n  time      : 2026-11-01_12:00:00\n  rank      : 0 (local_rank: 0)\n  exitcode  : 1 (pid: 89)\n"
    "  traceback : To enable traceback see: https://pytorch.org/docs/stable/elastic/errors.html\n=====\n"
)
KILLED_WORKER = (
    "E1101 torch/distributed/elastic/multiprocessing/api.py:984] failed (exitcode: -9) local_rank: 1 (pid: 90) of "
    "binary: /v/bin/python\n"
    + traceback(
        "<module>",
        "main",
        "run",
        "launch_agent",
        error="torch.distributed.elastic.multiprocessing.errors.ChildFailedError: ",
    )
    + "=====\nswift/cli/sft.py FAILED\n-----\nFailures:\n[1]:\n  exitcode  : -15 (pid: 89)\n"
    "  traceback : Signal 15 (SIGTERM) received by PID 89\n-----\nRoot Cause (first observed failure):\n[0]:\n"
    "  exitcode  : -9 (pid: 90)\n  error_file: <N/A>\n  traceback : Signal 9 (SIGKILL) received by PID 90\n=====\n"
)
ENDING = (
    "[INFO:swift] last_model_checkpoint: /runs/x/output/checkpoint-20\n"
    "[INFO:swift] best_model_checkpoint: None\nTrain:  33%|███▎      | 20/60 [00:12<00:24,  1.60it/s]\r"
)
CPU_ALLOCATOR = (
    "RuntimeError: [enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried "
    "to allocate 43889197056 bytes. Error code 12 (Cannot allocate memory)"
)
VLLM_BUDGET = (
    "ValueError: Free memory on device cuda:0 (19.77/22.05 GiB) on startup is less than desired GPU memory utilization "
    "(0.9, 19.84 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes."
)

# Kind, status, log.
CASES = {
    "a step of Slurm over its memory": (
        Kind.HOST_MEMORY,
        1,
        "slurmstepd: error: Detected 1 oom_kill event in StepId=7.0. Some of the step tasks have been OOM Killed.\n",
    ),
    "a task of Slurm over its memory": (Kind.HOST_MEMORY, 1, "srun: error: n2: task 1: Out Of Memory\n"),
    "the port is taken": (
        Kind.PORT,
        1,
        "torch.distributed.DistNetworkError: The server socket has failed to listen on any local network address. "
        "port: 29500, useIpv6: false, code: -98, name: EADDRINUSE, message: address already in use\n",
    ),
    "a package of flash attention that is there in part": (
        Kind.PACKAGE,
        1,
        traceback(*TRAINING, error="ModuleNotFoundError: No module named 'cutlass.cute'"),
    ),
    "CUDA, training": (Kind.GPU_MEMORY, 1, traceback(*TRAINING)),
    "CUDA, training, and what ms-swift prints afterwards": (Kind.GPU_MEMORY, 1, traceback(*TRAINING) + ENDING),
    "CUDA, old class": (
        Kind.GPU_MEMORY,
        1,
        traceback(*TRAINING, error="torch.cuda.OutOfMemoryError: CUDA out of memory."),
    ),
    "CUDA, training, torchrun": (Kind.GPU_MEMORY, 1, traceback(*TRAINING, rank=0) + TORCHRUN),
    "CUDA, no traceback": (Kind.GPU_MEMORY, 1, f"{OOM}\n"),
    "HIP": (Kind.GPU_MEMORY, 1, traceback(*TRAINING, error="RuntimeError: HIP out of memory. Tried to allocate 1 GiB")),
    "CUDA, asynchronous": (Kind.GPU_MEMORY, 1, traceback(*TRAINING, error="RuntimeError: CUDA error: out of memory")),
    "cuBLAS": (
        Kind.GPU_MEMORY,
        1,
        traceback(*TRAINING, error="RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"),
    ),
    "cuDNN": (Kind.GPU_MEMORY, 1, traceback(*TRAINING, error="RuntimeError: cuDNN error: CUDNN_STATUS_ALLOC_FAILED")),
    "CUDA, evaluation": (Kind.GPU_MEMORY_EVAL, 1, traceback(*EVALUATING)),
    "CUDA, evaluation, and what ms-swift prints afterwards": (Kind.GPU_MEMORY_EVAL, 1, traceback(*EVALUATING) + ENDING),
    "CUDA, evaluation, torchrun": (Kind.GPU_MEMORY_EVAL, 1, traceback(*EVALUATING, rank=0) + TORCHRUN),
    "CUDA, evaluation, then another error on the way out": (
        Kind.GPU_MEMORY_EVAL,
        1,
        traceback(*EVALUATING)
        + "\nDuring handling of the above exception, another exception occurred:\n\n"
        + traceback("<module>", "sft_main", "_save_trainer_state", error="ValueError: not set"),
    ),
    "CUDA, loading": (Kind.GPU_MEMORY_LOAD, 1, traceback(*LOADING)),
    "CUDA, loading, torchrun": (Kind.GPU_MEMORY_LOAD, 1, traceback(*LOADING, rank=1) + TORCHRUN),
    "CUDA, training after an evaluation that was caught": (
        Kind.GPU_MEMORY,
        1,
        traceback(*EVALUATING, error="ValueError: caught") + traceback(*TRAINING),
    ),
    "CPU allocator": (Kind.HOST_MEMORY, 1, traceback(*TRAINING, error=CPU_ALLOCATOR)),
    "CPU allocator, torchrun": (Kind.HOST_MEMORY, 1, traceback(*TRAINING, error=CPU_ALLOCATOR, rank=1) + TORCHRUN),
    "CPU allocator, other wording": (
        Kind.HOST_MEMORY,
        1,
        "RuntimeError: [enforce fail at alloc_cpu.cpp:82] . DefaultCPUAllocator: not enough memory: you tried",
    ),
    "MemoryError": (Kind.HOST_MEMORY, 1, traceback("<module>", error="MemoryError")),
    "MemoryError, torchrun": (Kind.HOST_MEMORY, 1, traceback("<module>", error="MemoryError", rank=0) + TORCHRUN),
    "fork": (Kind.HOST_MEMORY, 1, traceback(*TRAINING, error="OSError: [Errno 12] Cannot allocate memory")),
    "data loader": (
        Kind.HOST_MEMORY,
        1,
        traceback(*TRAINING, error="RuntimeError: DataLoader worker (pid 77) is killed by signal: Killed. "),
    ),
    "shared memory": (
        Kind.SHARED_MEMORY,
        1,
        traceback(*TRAINING, error="RuntimeError: DataLoader worker (pid(s) 7) is killed by signal: Bus error. It is"),
    ),
    "torchrun, worker killed": (Kind.HOST_MEMORY, 1, KILLED_WORKER),
    "swift passes a SIGKILL on": (Kind.HOST_MEMORY, 247, "[INFO:swift] The training\n"),
    "SIGKILL, no text": (Kind.HOST_MEMORY, -9, ""),
    "SIGKILL, a shell between": (Kind.HOST_MEMORY, 137, "Train:   3%|▎         | 2/60 [00:02<00:24,  1.60it/s]\r"),
    "vLLM, cache": (
        Kind.INFERENCE_ENGINE,
        1,
        traceback("grpo", error="ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_"),
    ),
    "vLLM, budget": (Kind.INFERENCE_ENGINE, 1, traceback("init_device", error=VLLM_BUDGET)),
    "vLLM, budget, older wording": (
        Kind.INFERENCE_ENGINE,
        1,
        traceback("init_device", error=VLLM_BUDGET.replace("cuda:0 ", "")),
    ),
    "vLLM, sleep mode": (
        Kind.INFERENCE_ENGINE,
        1,
        "CUDA Error: out of memory at /workspace/csrc/cumem_allocator.cpp:62\n"
        + traceback("wake_up", error="RuntimeError: x"),
    ),
    "vLLM, with PyTorch's own words beside it": (
        Kind.INFERENCE_ENGINE,
        1,
        traceback("load_model", "from_pretrained") + traceback("init_device", error=VLLM_BUDGET),
    ),
    "typo": (Kind.USAGE, 1, traceback("main", error="ValueError: remaining_argv: ['--lora_rnak', '8']")),
    "bad choice": (
        Kind.USAGE,
        2,
        "usage: sft.py [-h] ...\nsft.py: error: argument --torch_dtype: invalid choice: 'bf16' (choose from x)\n",
    ),
    "disk": (Kind.DISK, 1, traceback("save_checkpoint", error="OSError: [Errno 28] No space left on device")),
    "quota": (Kind.DISK, 1, traceback("save_checkpoint", error="OSError: [Errno 122] Disk quota exceeded: 'x'")),
    "NCCL": (
        Kind.NCCL,
        1,
        traceback(
            *TRAINING,
            error="torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:1333, unhandled, "
            "NCCL version 2.21.5\nncclSystemError: System call (e.g. socket, malloc) or external library call failed",
        ),
    ),
    "NCCL, time": (
        Kind.NCCL,
        1,
        "[rank1]:[E1101 ProcessGroupNCCL.cpp:616] [Rank 1] Watchdog caught collective operation timeout: WorkNCCL(x)\n"
        + TORCHRUN,
    ),
    "dataset": (
        Kind.DATA,
        1,
        "[ERROR:swift] Dataset data/nope.jsonl load failed\n" + traceback("load_dataset", error="ValueError: x"),
    ),
    "dataset, broken line": (
        Kind.DATA,
        1,
        traceback(
            "prepare",
            error="datasets.exceptions.DatasetGenerationError: An error occurred while generating the dataset",
        ),
    ),
    "shared memory, a tensor": (
        Kind.SHARED_MEMORY,
        1,
        traceback(
            *TRAINING,
            error="RuntimeError: unable to write to file </torch_88_1_2>: No space left on device (28)",
        ),
    ),
    "shared memory, NCCL": (
        Kind.SHARED_MEMORY,
        1,
        "node:1:2 [0] NCCL WARN Error while creating shared memory segment /dev/shm/nccl-x (size 9)\n"
        + traceback(*TRAINING, error="torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:1"),
    ),
    "shared memory, a worker of torchrun": (
        Kind.SHARED_MEMORY,
        1,
        KILLED_WORKER.replace("exitcode  : -9 ", "exitcode  : -7 ").replace("Signal 9 (SIGKILL)", "Signal 7 (SIGBUS)"),
    ),
    "shared memory, no text": (Kind.SHARED_MEMORY, 249, "[INFO:swift] The training\n"),
    "numpy": (
        Kind.HOST_MEMORY,
        1,
        traceback("prepare", error="numpy._core._exceptions._ArrayMemoryError: Unable to allocate 8 GiB for an array"),
    ),
    "C++": (Kind.HOST_MEMORY, -6, "terminate called after throwing an instance of 'std::bad_alloc'\n"),
    "SIGTERM": (Kind.KILLED, 143, "[INFO:swift] The training\n"),
    "disk, safetensors": (
        Kind.DISK,
        1,
        traceback(
            "save_file",
            error="safetensors_rust.SafetensorError: Error while serializing: I/O error: No space left on device "
            "(os error 28)",
        ),
    ),
    "disk, torch.save": (
        Kind.DISK,
        1,
        traceback(
            "save",
            error="RuntimeError: [enforce fail at inline_container.cc:664] . unexpected pos 704 vs 592",
        ),
    ),
    "hub, offline": (
        Kind.NETWORK,
        1,
        traceback("snapshot_download", error="huggingface_hub.errors.LocalEntryNotFoundError: Cannot find an appropr"),
    ),
    "hub, no name service": (
        Kind.NETWORK,
        1,
        traceback("_request", error="modelscope_hub.errors.NetworkError: [E1020] Connection failed: x"),
    ),
    "hub, too slow": (Kind.NETWORK, 1, traceback("load", error="RuntimeError: [E1001] 下载总时限已耗尽")),
    "hub, as transformers says it": (
        Kind.NETWORK,
        1,
        traceback("cached_file", error="OSError: We couldn't connect to 'https://huggingface.co' to load the files"),
    ),
    "dataset, a file that is gone": (
        Kind.DATA,
        1,
        traceback("load", error="ValueError: The local path does not exist, dataset_id: `/d/x.jsonl`. os.path"),
    ),
    "dataset, of another stage": (Kind.DATA, 1, traceback("init", error="ValueError: Column 'label' doesn't exist.")),
    "dataset, all too long": (
        Kind.DATA,
        1,
        traceback(
            "getitem", error="ValueError: Failed to retrieve the dataset. You can avoid this issue by increasing"
        ),
    ),
    "no row left": (
        Kind.DATA,
        1,
        "[INFO:swift] Dataset filtered, origin length: 40, filtered dataset length: 0\n"
        + traceback("_show_dataset", error="TypeError: 'NoneType' object is not iterable"),
    ),
    "an empty file": (
        Kind.DATA,
        1,
        'Traceback (most recent call last):\n  File "/v/swift/dataset/loader.py", line 171, in load\n    x\n'
        '  File "/v/datasets/packaged_modules/json/json.py", line 91, in _split_generators\n    x\nStopIteration\n',
    ),
    "a bug": (Kind.UNKNOWN, 1, traceback(*TRAINING, error="KeyError: 'labels'")),
    "a crash": (Kind.UNKNOWN, -11, "[INFO:swift] Setting args.lazy_tokenize\n"),
    "nothing": (Kind.UNKNOWN, 1, ""),
}
MEMORY = {Kind.GPU_MEMORY, Kind.GPU_MEMORY_EVAL, Kind.GPU_MEMORY_LOAD, Kind.HOST_MEMORY}


@pytest.mark.parametrize("case", CASES)
def test_kind(case):
    kind, status, log = CASES[case]
    failure = classify(status, log)
    assert failure.kind is kind
    assert failure.status == status
    assert failure.evidence
    assert "\n" not in failure.evidence


def test_every_kind_has_a_case_and_a_title():
    assert {kind for kind, _, _ in CASES.values()} == set(Kind) == TITLES.keys()
    assert len({kind.value for kind in Kind}) == len(Kind)
    assert all(kind.title for kind in Kind)


def test_every_pattern_has_a_case():
    used = {
        pattern.text.pattern
        for pattern in PATTERNS
        for _, _, log in CASES.values()
        if any(pattern.text.search(line.strip()) for line in log.splitlines())
    }
    assert used == {pattern.text.pattern for pattern in PATTERNS}


def test_only_memory_is_worth_another_try():
    assert {kind for kind in Kind if kind.is_memory} == MEMORY
    for kind in ("vLLM, cache", "vLLM, budget", "vLLM, sleep mode"):
        assert not classify(*CASES[kind][1:]).kind.is_memory


@pytest.mark.parametrize(
    ("case", "evidence"),
    [
        ("CUDA, training", "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.32 GiB."),
        ("CUDA, evaluation", "torch.OutOfMemoryError: CUDA out of memory."),
        ("CPU allocator", "RuntimeError: [enforce fail at alloc_cpu.cpp:127]"),
        ("torchrun, worker killed", "exitcode  : -9 (pid: 90)"),
        ("vLLM, budget", "ValueError: Free memory on device cuda:0"),
        ("typo", "ValueError: remaining_argv: ['--lora_rnak', '8']"),
        ("dataset", "[ERROR:swift] Dataset data/nope.jsonl load failed"),
        ("disk", "OSError: [Errno 28] No space left on device"),
        ("a bug", "KeyError: 'labels'"),
        ("a crash", "[INFO:swift] Setting args.lazy_tokenize"),
        ("nothing", "it printed nothing"),
    ],
)
def test_evidence_is_the_line_that_shows_it(case, evidence):
    assert classify(*CASES[case][1:]).evidence.startswith(evidence)


@pytest.mark.parametrize(
    "error",
    [
        "KeyError: 'labels'",
        "StopIteration",
        "ZeroDivisionError: integer division or modulo by zero",
        "TypeError: 'NoneType' object is not iterable",
        "KeyError: 'CUDA out of memory. Tried to allocate'",
        "ValueError: a row says No space left on device, MemoryError, out of memory",
    ],
)
@pytest.mark.parametrize("rank", [None, 0])
def test_unknown_keeps_the_last_error_line(error, rank):
    """Of the training: torchrun's own error, which says nothing, comes behind it."""
    log = "[INFO:swift] start\n" + traceback(*TRAINING, error=error, rank=rank) + ENDING
    failure = classify(1, log + (TORCHRUN if rank is not None else ""))
    assert failure.kind is Kind.UNKNOWN
    assert failure.evidence.removeprefix("[rank0]: ") == error


@pytest.mark.parametrize("status", SIGKILLED)
def test_a_kill_without_words(status):
    assert classify(status, "").evidence == "killed by SIGKILL, as the kernel does when host memory runs out"
    assert classify(status, "", oom_kills=1).evidence == "the kernel's out-of-memory killer ended it"


@pytest.mark.parametrize("status", SIGKILLED)
def test_a_kill_that_the_kernel_did_not_do_lowers_nothing(status):
    failure = classify(status, "Train: 3%", oom_kills=0)
    assert failure.kind is Kind.KILLED
    assert not failure.kind.is_memory
    assert failure.evidence == "killed by SIGKILL, while the kernel's out-of-memory killer ended nothing"
    assert "nothing is lowered" in failure.kind.remedy


@pytest.mark.parametrize(("kills", "kind"), [(None, Kind.HOST_MEMORY), (1, Kind.HOST_MEMORY), (0, Kind.KILLED)])
@pytest.mark.parametrize(
    "log",
    [
        KILLED_WORKER,
        traceback(*TRAINING, error="RuntimeError: DataLoader worker (pid 77) is killed by signal: Killed. "),
    ],
)
def test_who_killed_a_worker_only_the_kernel_can_say(log, kills, kind):
    assert classify(1, log, oom_kills=kills).kind is kind


SAMPLE = (
    "[INFO:swift] [INPUT_IDS] [1, 2]\n[INFO:swift] [INPUT] <|im_start|>user\n{row}<|im_end|>\n"
    "[INFO:swift] [LABELS_IDS] [-100, 2]\n[INFO:swift] [LABELS] [-100 * 1]{row}<|im_end|>\n[INFO:swift] The training\n"
)
DECEIT = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate",
    "OSError: [Errno 28] No space left on device",
    "MemoryError",
    "No space left on device",
    "CUDA out of memory. And so on",
    "ValueError: No available memory for the cache blocks",
    "[ERROR:swift] Dataset x load failed",
    "  exitcode  : -9 (pid: 90)",
    "terminate called after throwing an instance of 'std::bad_alloc'",
    traceback(*TRAINING),
)


@pytest.mark.parametrize("row", DECEIT)
def test_what_the_rows_say_decides_nothing(row):
    """ms-swift prints the first row, and the rows that it drops."""
    dropped = f"[INFO:swift] Traceback (most recent call last):\n  x\n{row}\n[WARNING:swift] There are errors in the\n"
    for log in (SAMPLE.format(row=row), dropped):
        failure = classify(1, log + traceback(*TRAINING, error="KeyError: 'labels'"))
        assert (failure.kind, failure.evidence) == (Kind.UNKNOWN, "KeyError: 'labels'")
        assert classify(-9, log + "Train: 3%\n", oom_kills=0).kind is Kind.KILLED
        assert classify(1, log + traceback(*EVALUATING)).kind is Kind.GPU_MEMORY_EVAL


@pytest.mark.parametrize("row", DECEIT[:4])
def test_what_an_error_quotes_decides_nothing(row):
    assert classify(1, traceback(*TRAINING, error=f"ValueError: this row is wrong:\n{row}")).kind is Kind.UNKNOWN


def test_one_rank_out_of_memory_takes_the_others_with_it():
    other = traceback(*TRAINING, error="RuntimeError: connection closed by peer", rank=1)
    lines = [
        line for pair in zip(traceback(*TRAINING, rank=0).split("\n"), other.split("\n"), strict=False) for line in pair
    ]
    assert classify(1, "\n".join(lines) + other + TORCHRUN).kind is Kind.GPU_MEMORY


@pytest.mark.parametrize("before", ["Exception ignored in: <function x>", "Exception in thread Thread-3 (send):"])
def test_what_fails_on_the_way_out_is_not_the_failure(before):
    late = traceback("send", error="requests.exceptions.ConnectionError: offline")
    assert classify(1, f"{traceback(*TRAINING, error='KeyError: 1')}{before}\n{late}").evidence == "KeyError: 1"


def test_no_row_left_is_told_in_the_words_of_ms_swift():
    reason = "AssertionError: message: {'role': 'assistent', 'content': 'y\x1b[2J'}"
    log = (
        f"[INFO:swift] Traceback (most recent call last):\n  File x\n{reason}\n\n[WARNING:swift] 👆👆👆There are "
        "errors in the dataset, the data will be deleted\n"
        "[INFO:swift] Dataset filtered, origin length: 40, filtered dataset length: 0\n"
        + traceback("_show_dataset", error="TypeError: 'NoneType' object is not iterable")
    )
    shown = reason.replace("\x1b", "\N{REPLACEMENT CHARACTER}")
    assert classify(1, log).evidence == f"40 of 40 rows were not used: {shown}"


def test_a_missing_hub_comes_with_its_remedies():
    remedy = classify(*CASES["hub, offline"][1:]).kind.remedy
    assert all(word in remedy for word in ("--use_hf true", "HF_ENDPOINT", "folder"))
    assert "--shm-size" in Kind.SHARED_MEMORY.remedy


@pytest.mark.parametrize("status", [1, 2, -11])
def test_other_statuses_are_no_kill(status):
    assert classify(status, "", oom_kills=1).kind is Kind.UNKNOWN


def test_a_long_line_is_cut():
    evidence = classify(1, "ValueError: " + "x" * 1000).evidence
    assert len(evidence) == 200
    assert evidence.endswith("…")


def test_progress_bars_hide_nothing():
    log = f"Train:  33%|███| 20/60\rTrain:  35%|███| 21/60\r{OOM}\rTrain:  35%|███| 21/60\r\n"
    assert classify(1, log).kind is Kind.GPU_MEMORY


@given(st.integers(-64, 255), st.text(max_size=300))
def test_any_log_gets_a_name(status, log):
    failure = classify(status, log)
    assert failure.evidence
    assert len(failure.evidence) <= 200


@pytest.mark.parametrize(
    ("evidence", "sizes"),
    [
        (OOM, "tried 2.32 GiB, 1.10 GiB free of 39.14 GiB"),
        ("CUDA out of memory. Tried to allocate 512.00 MiB.", "tried 512.00 MiB"),
        (CPU_ALLOCATOR, "tried 40.88 GiB"),
        ("killed by SIGKILL", ""),
    ],
)
def test_sizes_for_people(evidence, sizes):
    assert memory_sizes(evidence) == sizes


def test_the_sizes_survive_the_cut():
    assert memory_sizes(classify(1, traceback(*TRAINING)).evidence) == "tried 2.32 GiB, 1.10 GiB free of 39.14 GiB"
