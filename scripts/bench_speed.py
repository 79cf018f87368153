"""Compare the predicted speed with measured rows, and write the tables of docs/time.md.

    python scripts/bench_speed.py [FILE.csv …]

The rows of benchmarks/speed.csv are published ones, each with its source; the constants of tunekit/speed were fitted to
the first table's. Rows that are no supervised training as ms-swift runs it, or whose stack is in doubt, stand apart.
benchmarks/gpu-*.csv are runs of ms-swift itself that scripts/measure-memory took; nothing was fitted to them.
"""

from __future__ import annotations

import csv
import statistics
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from measure.table import read, spec_of  # noqa: E402

from tunekit.runs.forecast import pace_of  # noqa: E402
from tunekit.speed.cards import rates_of  # noqa: E402
from tunekit.speed.duration import ROUGHLY  # noqa: E402
from tunekit.speed.estimate import step_time  # noqa: E402
from tunekit.speed.work import DecoderShape, LoraLayers, Work, adapters_of  # noqa: E402

TABLE = ROOT / "benchmarks/speed.csv"
PAGE = ROOT / "docs/time.md"
MARKS = ("<!-- tables: written by scripts/bench-speed -->", "<!-- end of tables -->")

APART = ("t4-kbit-fp32", "ult-qlora-suspect", "prime-rl", "vendor-claim")
"""Classes of rows that are not what ms-swift computes, or are in doubt."""
ATTENTION = {"sdpa": "flash", "sdpa-eff": "efficient", "flash4": "flash3"}
KERNELS = {"unsloth": "rewritten"}
SHARDING = {"single": "none", "ddp": "none", "ds": "zero3", "ds2": "none", "tp2+fsdp": "fsdp"}
"""What rows call it, and what it is called in `Work`. The rows of ``ds2`` share nothing that their times show."""
LINKS = {"pcie-slow": 4.0, "pcie4": 12.0}
"""GB/s one way: two cards behind one slow slot, PCIe 4."""
NODES = {"A100-40": 150.0, "A100-80": 150.0, "H100-SXM": 320.0}
"""GB/s one way between machines that eight network cards join."""


def apart(row: dict[str, str]) -> bool:
    """Whether a row is reported apart."""
    gptq = row["quant"] == "gptq4" and row["class"] != "fms"
    return row["class"] in APART or gptq or "baseline" in row["notes"]


def whole(row: dict[str, str], name: str) -> int:
    """A number of a row."""
    return int(float(row[name]))


def shape_in(row: dict[str, str]) -> DecoderShape:
    """The model of a row; a width below 0 stands for an MLP without a gate."""
    width, head = whole(row, "ffn"), whole(row, "head_dim")
    return DecoderShape(
        layers=whole(row, "layers"),
        hidden=whole(row, "hidden"),
        width=abs(width),
        query=whole(row, "heads") * head,
        keys=whole(row, "kv_heads") * head,
        heads=whole(row, "heads"),
        vocab=whole(row, "vocab"),
        tied=row["tied"] == "1",
        matrices=3 if width > 0 else 2,
    )


def adapters_in(row: dict[str, str], shape: DecoderShape) -> LoraLayers | None:
    """What a row trains beside the model; its rank is hardly ever said and takes no time that could be seen."""
    if row["method"] == "full":
        return None
    named = row["lora_targets"]
    if named == "qv":
        return LoraLayers(2 * shape.hidden, shape.query + shape.keys, 2)
    every = named.startswith("all")
    return adapters_of(shape, attention=every or "attn" in named, mlp=every or "mlp" in named)


def work_in(row: dict[str, str]) -> Work:
    """What one GPU of a row computes."""
    shape, way = shape_in(row), row["parallel"]
    return Work(
        shape=shape,
        adapters=adapters_in(row, shape),
        head_trained="emb" in row["lora_targets"],
        bits=4 if row["quant"] else None,
        micro=whole(row, "micro"),
        length=whole(row, "seq"),
        accumulation=whole(row, "accum"),
        checkpointing=row["ckpt"] == "1",
        attention=ATTENTION.get(row["attn"], row["attn"]),
        kernels=KERNELS.get(row["kernels"], row["kernels"]),
        sharding=SHARDING.get(way, way),
        hooks=way in ("zero3", "ds"),
        gpus=whole(row, "n_gpu"),
        link=NODES.get(row["gpu"], 100.0) if row["link"] == "nvlink+ib" else LINKS.get(row["link"], 0.0),
    )


def ratio(row: dict[str, str]) -> float:
    """Predicted ÷ measured tokens a second of one GPU: above 1, the real run was slower than said."""
    return step_time(work_in(row), rates_of(row["gpu"])).tokens_per_second / float(row["tok_s_gpu"])


HEAD = ("| rows | n | median | p90 | worst | within × 1.5 | in the range |", "| --- " * 7 + "|")


def line_of(name: str, ratios: list[float]) -> str:
    """The errors of some rows as a line of a table."""
    errors = sorted(abs(found - 1) for found in ratios)
    within = sum(1 / 1.5 <= found <= 1.5 for found in ratios) / len(ratios)
    low, high = ROUGHLY
    said = sum(low <= found <= high for found in ratios) / len(ratios)
    numbers = (statistics.median(errors), errors[min(len(errors) - 1, int(0.9 * len(errors)))], errors[-1])
    shares = " | ".join(f"{share:.0%}" for share in (within, said))
    return f"| {name} | {len(ratios)} | " + " | ".join(f"{number:.1%}" for number in numbers) + f" | {shares} |"


def tables(rows: list[dict[str, str]]) -> list[str]:
    """Errors of all rows, by class, by card and by method; then of those that stand apart."""
    usable = [row for row in rows if not apart(row)]
    odd = [row for row in rows if apart(row)]
    lines: list[str] = [*HEAD]
    for title, some in (("all", usable), ("apart", odd)):
        if not some:
            continue
        lines.append(line_of(f"**{title}**", [ratio(row) for row in some]))
        for key in ("class", "gpu", "method") if some is usable else ("class",):
            groups = defaultdict(list)
            for row in some:
                groups[row[key]].append(ratio(row))
            lines += [line_of(f"{key} {name}", groups[name]) for name in sorted(groups)]
    return lines


def own_tables() -> list[str]:
    """What ms-swift did on our cards, row by row, and the errors of all."""
    lines, ratios = ["| row | card | tokens/s | said | range |", "| --- " * 5 + "|"], []
    for path in sorted(TABLE.parent.glob("gpu-*.csv")):
        for row in read(path):
            if not row["tokens_per_second"] or row["image_side"]:
                continue
            told = pace_of(spec_of(row), row["card"])
            measured = float(row["tokens_per_second"])
            ratios.append(told["tokens_per_second"] / measured)
            inside = "in" if told["low"] <= measured <= told["high"] else "out"
            lines.append(f"| {row['id']} | {row['card']} | {measured:,.0f} | {ratios[-1] - 1:+.0%} | {inside} |")
    return [*HEAD, line_of("**ms-swift, measured here**", ratios), "", *lines] if ratios else []


def rows_in(path: Path) -> list[dict[str, str]]:
    """The rows of a table."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def main(paths: list[str]) -> None:
    """Print the tables; those of the repository's own rows also go to the page."""
    for path in [Path(word) for word in paths] or [TABLE]:
        lines = tables(rows_in(path))
        if path == TABLE:
            lines = [*own_tables(), "", *lines]
        print(f"{path.name}\n" + "\n".join(lines))
        if path == TABLE and PAGE.is_file():
            before, _, rest = PAGE.read_text(encoding="utf-8").partition(MARKS[0])
            after = rest.partition(MARKS[1])[2]
            text = "\n".join([f"{before}{MARKS[0]}\n", *lines, f"\n{MARKS[1]}{after}"])
            PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
