"""Which GPUs a run may use: as nvidia-smi shows them, as the environment limits them, or as described."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.errors import TunekitError
from tunekit.hardware import CARDS, GIB_PER_GB, Gpu, Hardware, choose_hardware, detect, parse_nvidia_smi, visible

UUIDS = [f"GPU-{digit * 8}-aaaa-bbbb-cccc-123456789abc" for digit in "01ab"]
CSV = "".join(
    f"{index}, {uuid}, NVIDIA A100-SXM4-40GB, 40960, {40000 - index * 1024}, 8.0\n" for index, uuid in enumerate(UUIDS)
)
FOUR = parse_nvidia_smi(CSV)


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Put a program `nvidia-smi` on the PATH that prints what it is given."""

    def install(output, status=0):
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        (tmp_path / "csv").write_text(output, encoding="utf-8")
        program = folder / "nvidia-smi"
        program.write_text(
            f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/asked\ncat {tmp_path}/csv\nexit {status}\n', encoding="utf-8"
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    return install


@pytest.fixture
def no_driver(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))


def test_parse():
    assert len(FOUR) == 4
    uuid, gpu = FOUR[1]
    assert uuid == UUIDS[1]
    assert gpu == Gpu("NVIDIA A100-SXM4-40GB", 40.0, pytest.approx(38.06, abs=0.01), (8, 0), "1")


@pytest.mark.parametrize(
    "line",
    [
        "",
        "No devices were found",
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.",
        "0, GPU-1, NVIDIA GB10, [N/A], [N/A], 12.1",
        "0, GPU-1, Broken",
    ],
)
def test_lines_without_a_memory_size_are_left_out(line):
    assert parse_nvidia_smi(f"{line}\n") == []


def test_what_an_old_driver_does_not_say_is_unknown():
    ((_, gpu),) = parse_nvidia_smi("0, GPU-1, Tesla T4, 15360, [N/A], [N/A]\n")
    assert (gpu.total_gib, gpu.free_gib, gpu.capability) == (15.0, None, None)


@pytest.mark.parametrize(
    ("setting", "indices"),
    [
        (None, [0, 1, 2, 3]),
        ("0,1,2,3", [0, 1, 2, 3]),
        ("2", [2]),
        ("3,1", [3, 1]),
        (" 1 , 2 ", [1, 2]),
        ("", []),
        ("-1", []),
        ("none", []),
        ("1,-1,2", [1]),
        ("0,7,1", [0]),
        ("0,,1", [0]),
        (UUIDS[3], [3]),
        (f"{UUIDS[2]},{UUIDS[0]}", [2, 0]),
        ("GPU-aaaa", [2]),
        ("GPU-", []),
        ("GPU-ffff,0", []),
    ],
)
def test_cuda_visible_devices(setting, indices):
    shown = visible(FOUR, setting)
    assert [gpu.free_gib for gpu in shown] == [FOUR[index][1].free_gib for index in indices]
    if setting is not None:
        names = [name.strip() for name in setting.split(",")][: len(shown)]
        assert [gpu.device for gpu in shown] == names, "a run names them as the user does"


@given(st.text(max_size=30))
def test_no_setting_of_cuda_visible_devices_breaks(setting):
    shown = visible(FOUR, setting)
    assert len(shown) <= setting.count(",") + 1


def test_detect_asks_nvidia_smi(nvidia_smi, tmp_path, monkeypatch):
    nvidia_smi(CSV)
    assert [gpu.device for gpu in detect()] == ["0", "1", "2", "3"]
    assert "--query-gpu=index,uuid,name,memory.total,memory.free,compute_cap" in (tmp_path / "asked").read_text()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,0")
    assert [gpu.device for gpu in detect()] == ["2", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert detect() == []


def test_a_driver_that_fails_shows_no_gpu(nvidia_smi):
    nvidia_smi(CSV, status=9)
    assert detect() == []


def test_no_driver(no_driver):
    assert detect() == []
    assert choose_hardware(None) == Hardware()
    assert choose_hardware(None).summary() == "none: CPU"


def test_choose_takes_all_or_as_many_as_asked(nvidia_smi, monkeypatch):
    nvidia_smi(CSV)
    everything = choose_hardware(None)
    assert (everything.world, everything.described, everything.capability) == (4, False, (8, 0))
    assert [gpu.device for gpu in choose_hardware("2").gpus] == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1,0")
    assert [gpu.device for gpu in choose_hardware("2").gpus] == ["3", "1"]


@pytest.mark.parametrize("spec", ["5", "0", "99"])
def test_more_gpus_than_there_are(nvidia_smi, spec):
    nvidia_smi(CSV)
    with pytest.raises(TunekitError, match=f"--gpus {spec}: this machine shows 4 GPUs") as refused:
        choose_hardware(spec)
    assert "--gpus 2x24GB" in refused.value.hint


def test_a_number_of_gpus_where_there_is_none(no_driver):
    with pytest.raises(TunekitError, match="--gpus 1: this machine shows 0 GPUs"):
        choose_hardware("1")


def test_nproc_per_node_is_a_number_of_gpus(nvidia_smi, monkeypatch):
    nvidia_smi(CSV)
    monkeypatch.setenv("NPROC_PER_NODE", "2")
    assert choose_hardware(None).world == 2
    assert choose_hardware("3").world == 3, "what was typed is stronger"
    monkeypatch.setenv("NPROC_PER_NODE", "16")
    assert choose_hardware(None).world == 4


def test_nproc_per_node_is_a_number_of_processes_on_a_cpu(no_driver, monkeypatch):
    monkeypatch.setenv("NPROC_PER_NODE", "2")
    for spec in (None, "cpu"):
        found = choose_hardware(spec)
        assert (found.gpus, found.processes, found.world) == ((), 2, 2)
    assert found.summary() == "none: CPU, 2 processes"


def test_nnodes_multiplies(nvidia_smi, monkeypatch):
    nvidia_smi(CSV)
    monkeypatch.setenv("NNODES", "3")
    found = choose_hardware(None)
    assert (found.local_world, found.world) == (4, 12)
    assert found.summary().endswith("on each of 3 machines")
    assert choose_hardware("2x80GB").world == 6
    assert choose_hardware("cpu").world == 3


@pytest.mark.parametrize("variable", ["NPROC_PER_NODE", "NNODES"])
@pytest.mark.parametrize("word", ["two", "0", "-1", "1.5", "auto"])
def test_numbers_of_processes_that_are_none(no_driver, monkeypatch, variable, word):
    monkeypatch.setenv(variable, word)
    with pytest.raises(TunekitError, match=f"{variable} must be a number above 0, not {word}"):
        choose_hardware(None)


def test_an_empty_variable_is_not_set(no_driver, monkeypatch):
    monkeypatch.setenv("NPROC_PER_NODE", "")
    assert choose_hardware(None).world == 1


@pytest.mark.parametrize(
    ("spec", "count", "gigabytes", "name"),
    [
        ("24GB", 1, 24, "24 GB GPU"),
        ("1x24GB", 1, 24, "24 GB GPU"),
        ("2x24GB", 2, 24, "24 GB GPU"),
        ("2X24gb", 2, 24, "24 GB GPU"),
        ("2×24GB", 2, 24, "24 GB GPU"),
        ("2*24G", 2, 24, "24 GB GPU"),
        ("2 x 24 GiB", 2, 24, "24 GB GPU"),
        ("8x47.5GB", 8, 47.5, "47.5 GB GPU"),
        ("H100", 1, 80, "H100"),
        ("8xh100", 8, 80, "H100"),
        ("2x4090", 2, 24, "RTX 4090"),
        ("RTX4090", 1, 24, "RTX 4090"),
        ("4x RTX 3090", 4, 24, "RTX 3090"),
        ("a100", 1, 80, "A100-80GB"),
        ("A100-40GB", 1, 40, "A100-40GB"),
        ("t4", 1, 16, "Tesla T4"),
        ("RTX A6000", 1, 48, "RTX A6000"),
        ("4090D", 1, 24, "RTX 4090 D"),
        ("8xA100-80G", 8, 80, "A100-80GB"),
        ("24", 1, 24, "24 GB GPU"),
        ("2x24", 2, 24, "24 GB GPU"),
        ("2x24G", 2, 24, "24 GB GPU"),
        ("NVIDIA A100-SXM4-80GB", 1, 80, "A100-80GB"),
        ("H100 80GB HBM3", 1, 80, "H100"),
        ("RTX 4090 24G", 1, 24, "RTX 4090"),
        ("4x RTX 6000 Ada", 4, 48, "RTX 6000 Ada"),
        ("V100-32G", 1, 32, "V100"),
        ("2x3090Ti", 2, 24, "RTX 3090 Ti"),
    ],
)
def test_described_gpus(spec, count, gigabytes, name):
    found = choose_hardware(spec)
    assert found.described
    assert found.world == count
    assert {gpu.name for gpu in found.gpus} == {name}
    assert found.gpu_gib == pytest.approx(gigabytes * GIB_PER_GB)
    assert [gpu.device for gpu in found.gpus] == [str(index) for index in range(count)]
    assert "as described" in found.summary()


@pytest.mark.parametrize("card", CARDS)
def test_every_card_of_the_table_can_be_named(card):
    found = choose_hardware(f"1x{card}")
    name, gigabytes, capability = CARDS[card]
    assert (found.gpus[0].name, found.capability) == (name, capability)
    assert found.gpu_gib == pytest.approx(gigabytes * GIB_PER_GB)


def test_cpu():
    assert choose_hardware("cpu") == choose_hardware("CPU") == Hardware()
    assert Hardware().device == "CPU"
    assert (Hardware().gpu_gib, Hardware().capability) == (0, None)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("H1000", "h100"),
        ("2x24TB", "write 2x24GB"),
        ("0x24GB", "--gpus cpu"),
        ("0GB", "write 2x24GB"),
        ("x24GB", "write 2x24GB"),
        ("-1", "write 2x24GB"),
        ("2x", "write 2x24GB"),
        ("all", ""),
        ("24 TB", ""),
        ("2x24GB,1x80GB", ""),
        ("²", "write 2x24GB"),
        ("2x²", "write 2x24GB"),
        ("٢x24GB", "write 2x24GB"),
        ("99999GB", "1,024 GB"),
        ("1025xH100", ""),
        ("99999999xH100", ""),
        ("17xH100", "--gpus 4x8xH100"),
    ],
)
def test_descriptions_that_cannot_be_read(no_driver, spec, says):
    with pytest.raises(TunekitError, match=r"^--gpus ") as refused:
        choose_hardware(spec)
    assert spec in refused.value.message
    assert says in f"{refused.value.message} {refused.value.hint or ''}"


@pytest.mark.parametrize(
    ("spec", "vendor"),
    [
        *(
            ("MI300X", "AMD"),
            ("8xMI250", "AMD"),
            ("Radeon RX 7900", "AMD"),
            ("910B", "Huawei"),
            ("Ascend 910B3", "Huawei"),
        ),
        *(("Gaudi2", "Intel"), ("xpu", "Intel"), ("M3 Max", "Apple"), ("mps", "Apple"), ("TPUv4", "Google")),
        *(("v5e-8", "Google"), ("trn1", "Amazon"), ("MTT S4000", "another vendor")),
    ],
)
def test_cards_of_other_vendors_are_told_so(spec, vendor):
    with pytest.raises(TunekitError, match=f"made by {vendor}, and tunekit plans for NVIDIA's") as refused:
        choose_hardware(spec)
    assert "CUDA" in refused.value.hint


@pytest.mark.parametrize(("spec", "each", "machines"), [("24xH100", 8, 3), ("1024xH100", 8, 128), ("20xA100", 5, 4)])
def test_more_gpus_than_a_machine_holds_are_several_machines(spec, each, machines, monkeypatch):
    found = choose_hardware(spec)
    assert (found.local_world, found.nodes, found.world) == (each, machines, each * machines)
    assert found.summary().endswith(f"on each of {machines} machines")
    monkeypatch.setenv("NNODES", "2")
    with pytest.raises(TunekitError, match=r"no machine holds|more than 1,024 GPUs"):
        choose_hardware(spec)


@pytest.mark.parametrize("spec", ["2x8xH100", "2 × 8 × H100", "2*8xH100"])
def test_machines_of_gpus(spec, monkeypatch):
    found = choose_hardware(spec)
    assert (found.local_world, found.nodes) == (8, 2)
    assert choose_hardware("8xH100", 2) == found == choose_hardware(spec, 2)
    monkeypatch.setenv("NNODES", "2")
    assert choose_hardware("8xH100") == found == choose_hardware("8xH100", 2)


def test_two_numbers_of_machines_are_one_too_many(monkeypatch):
    with pytest.raises(TunekitError, match="--nodes says 4 and --gpus says 2"):
        choose_hardware("2x8xH100", 4)
    monkeypatch.setenv("NNODES", "2")
    with pytest.raises(TunekitError, match="--nodes says 4 and NNODES says 2"):
        choose_hardware("cpu", 4)
    monkeypatch.delenv("NNODES")
    with pytest.raises(TunekitError, match="--nodes takes 1 to 1,024 machines, not 0"):
        choose_hardware("cpu", 0)


def test_a_word_without_end_is_not_repeated():
    with pytest.raises(TunekitError) as refused:
        choose_hardware("9" * 5000)
    assert len(refused.value.message) < 200


@pytest.mark.parametrize("variable", ["NPROC_PER_NODE", "NNODES"])
def test_absurd_numbers_of_processes(no_driver, monkeypatch, variable):
    for word in ("100000", "9" * 5000, "²"):
        monkeypatch.setenv(variable, word)
        with pytest.raises(TunekitError, match=variable):
            choose_hardware(None)


def test_the_smallest_gpu_and_the_oldest_decide():
    mixed = Hardware((Gpu("a", 80, 70, (9, 0)), Gpu("b", 24, 20, (7, 5)), Gpu("c", 48, 40, None)))
    assert (mixed.gpu_gib, mixed.capability) == (24, (7, 5))
    assert mixed.summary() == "3 × a, 20.0 of 24.0 GiB free"
