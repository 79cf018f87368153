"""``tunekit fit --plot``: what is in the picture, and that it is written whole or not at all."""

import itertools
import json
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from tunekit.cli.show import picture as plot
from tunekit.cli.show.picture import PARTS, check_picture, draw_prediction, draw_what_if
from tunekit.errors import TunekitError
from tunekit.memory.estimate import estimate
from tunekit.memory.search import NOT, levers, verdict
from tunekit.memory.spec import Prediction, Spec
from tunekit.plan.models.config import config_of
from tunekit.plan.models.find import resolve

CONFIG = config_of(resolve("Qwen2.5-7B"))
SPEC = Spec(CONFIG, micro_batch=8, seq_len=3072, packing=True, attn="flash", loss_share=0.25, expandable_segments=True)
CARD = 23.6
FIT = ("fit", "--model", "Qwen2.5-7B", "--preset", "7b", "--gpus", "24GB")
BEGINS = {"png": b"\x89PNG\r\n", "svg": b"<?xml", "pdf": b"%PDF"}


def bars(card=CARD):
    """Of `SPEC`, and of what would take less."""
    ways = {"as asked": SPEC, **{lever.name: lever.spec for lever in reversed(levers(SPEC))}}
    return [(name, estimate(spec), verdict(estimate(spec), card)) for name, spec in ways.items()]


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were drawn, in place of the files."""
    figures = []
    monkeypatch.setattr(plot, "_save", lambda figure, _path: figures.append(figure))
    return figures


def texts(figure):
    from matplotlib.text import Text

    return [item.get_text() for item in figure.findobj(Text) if item.get_text() and item.get_visible()]


@pytest.mark.parametrize("kind", BEGINS)
@pytest.mark.parametrize("more", [(), ("--what-if",)], ids=["bars", "table"])
def test_a_picture_of_each_kind(tunekit, tmp_path, kind, more):
    ended = tunekit(*FIT, *more, "--plot", f"fit.{kind}")
    assert ended.code == (0 if more else 3), ended.err
    picture = (tmp_path / f"fit.{kind}").read_bytes()
    assert picture.startswith(BEGINS[kind])
    assert ended.out == tunekit(*FIT, *more).out, "a picture changes nothing that is printed"
    tunekit(*FIT, *more, "--plot", f"again.{kind}")
    assert (tmp_path / f"again.{kind}").read_bytes() == picture, "the same picture is the same file"
    assert sorted(file.name for file in tmp_path.iterdir() if file.is_file()) == [f"again.{kind}", f"fit.{kind}"]


def test_json_and_a_picture(tunekit, tmp_path):
    assert tunekit(*FIT, "--json", "--plot", "FIT.SVG").json["verdict"] == "does not fit"
    ET.parse(tmp_path / "FIT.SVG")  # noqa: S314 - written by this test


def test_the_bars_are_what_was_asked_and_what_helps(drawn, tmp_path):
    draw_prediction(tmp_path / "x.png", "title", "subtitle", bars(), CARD)
    (figure,) = drawn
    said = texts(figure)
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == [name for name, *_ in bars()]
    for _, prediction, judged in bars():
        assert f"{prediction.process_gib:5.1f} GiB  {judged}" in said
    assert {
        "title",
        "subtitle",
        "this card: 23.6 GiB",
        "memory of one GPU, GiB",
        "the model",
        "word scores and loss",
    } <= set(said)
    rows = {}
    for segment in figure.axes[0].containers:
        (bar,) = segment
        row = round(bar.get_y() + bar.get_height() / 2)
        assert bar.get_x() == pytest.approx(rows.get(row, 0))
        rows[row] = bar.get_x() + bar.get_width()
    assert list(rows.values()) == pytest.approx([prediction.process_gib for _, prediction, _ in bars()])
    assert list(rows.values()) == sorted(rows.values(), reverse=True)


def test_a_prediction_is_drawn_with_what_it_is_of(drawn, tunekit):
    document = tunekit(*FIT, "--json", "--plot", "x.png").json
    said = texts(drawn[0])
    assert {"as asked", "Qwen/Qwen2.5-7B on one GPU", *(lever["name"] for lever in document["levers"])} <= set(said)
    about = "lora r8 · micro-batch 8 × 3072 packed · preset 7b · 25% of the tokens carry loss · estimate"
    assert about in said


@given(
    st.dictionaries(
        st.sampled_from(["weights", "layer", "logits", "other", "optimizer"]), st.floats(0, 60), min_size=1
    ),
    st.floats(0, 9),
    st.floats(0, 0.6),
)
def test_the_parts_add_up(parts, fragmentation, context):
    allocated = sum(parts.values())
    reserved = allocated + fragmentation
    prediction = Prediction(allocated, reserved, reserved + context, parts, "estimate")
    stack = plot._stack(prediction, 0.3)
    assert sum(stack.values()) == pytest.approx(prediction.process_gib)
    assert all(gib >= 0.3 for gib in stack.values()) or len(stack) == 1


CLIP = {"model_type": "clip_vision_model", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
CLIP |= {"num_attention_heads": 4, "image_size": 336, "patch_size": 14}


def test_every_part_of_a_prediction_has_a_look():
    seen = {**SPEC.config, "model_type": "llava", "text_config": SPEC.config, "vision_config": CLIP}
    found = {*estimate(SPEC).breakdown, *estimate(replace(SPEC, config=seen)).breakdown}
    written = replace(SPEC, stage="grpo", seq_len=64, completion_len=8192, micro_batch=1, generations=64)
    found |= {*estimate(written).breakdown}
    assert found | {"fragmentation", "context"} == set(PARTS)


def test_neighbours_can_be_told_apart_without_colour():
    def grey(look):
        return sum(share * part for share, part in zip((0.299, 0.587, 0.114), to_rgb(look.color), strict=True))

    for one, other in itertools.combinations(PARTS.values(), 2):
        assert abs(grey(one) - grey(other)) > 0.05 or one.hatch != other.hatch, (one.label, other.label)


def test_nothing_is_drawn_over_something_else(drawn, tmp_path):
    """Whatever stands beside the bars: names, verdicts, headings, the card's label, the legend."""
    for card in (15.8, 23.6, 78.8):
        draw_prediction(tmp_path / "x.png", "A title", "and a subtitle", bars(card), card)
        figure = drawn.pop()
        figure.canvas.draw()
        axes = figure.axes[0]
        around = [*axes.get_yticklabels(), *axes.texts[-1:], axes._left_title, *figure.legends]
        around += [text for text in axes.texts if "GiB  " in text.get_text() or "subtitle" in text.get_text()]
        boxes = [item.get_window_extent() for item in around]
        for one, other in itertools.combinations(range(len(boxes)), 2):
            assert around[one] is around[other] or not boxes[one].overlaps(boxes[other]), (around[one], around[other])


def test_a_number_does_not_stand_on_the_cards_line():
    for left, width, card in itertools.product((0, 5, 14), (2, 8, 30), (3, 7, 15.8, 23.6)):
        at = plot._number_at(left, width, card, 1.5)
        assert at is None or (left < at < left + width and abs(at - card) > 0.75)


def test_a_dollar_and_a_chinese_name_are_letters(tmp_path):
    path = tmp_path / "x.svg"
    draw_prediction(path, "模型 $x_1$ & <b>", "a $ b", [("$one", estimate(SPEC), NOT)], CARD)
    ET.parse(path)  # noqa: S314 - written by this test


def test_the_table_shows_the_largest_micro_batches(drawn, tunekit):
    printed = tunekit(*FIT, "--what-if", "--plot", "x.png").out
    (figure,) = drawn
    cells = [text.get_text() for text in figure.axes[0].texts if text.get_text() == "–" or text.get_text().isdigit()]
    rows = [line.split()[1:] for line in printed.splitlines() if line[:3].strip().isdigit()]
    assert cells == [cell for row in rows for cell in row]
    assert {"16 GB", "192 GB", "qlora + Liger", "full"} <= set(texts(figure))


def test_a_table_in_which_nothing_fits(drawn, tmp_path):
    draw_what_if(tmp_path / "x.png", "", "", ["lora"], ["16 GB"], [[0]])
    assert "–" in texts(drawn[0])


@pytest.mark.parametrize(
    ("file", "said", "hint"),
    [
        ("fit.jpg", ".jpg is not a kind of picture", ".png, .svg, .pdf"),
        ("fit.pngg", ".pngg is not a kind", ".png, .svg, .pdf"),
        ("fit", "no ending is not a kind", ".png, .svg, .pdf"),
        ("absent/fit.png", "the folder absent does not exist", "mkdir -p absent"),
        ("folder.png", "is a folder", "folder.png/fit.png"),
    ],
)
def test_a_place_where_no_picture_can_be(tunekit, tmp_path, file, said, hint):
    (tmp_path / "folder.png").mkdir()
    ended = tunekit(*FIT, "--plot", file)
    assert (ended.code, ended.out) == (2, "")
    error, help_line = ended.err.splitlines()
    assert said in error
    assert hint in help_line
    assert [item.name for item in tmp_path.iterdir()] == ["folder.png"]


def test_without_matplotlib_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(plot, "find_spec", lambda _name: None)
    with pytest.raises(TunekitError, match="needs matplotlib") as refused:
        check_picture(tmp_path / "fit.png")
    assert refused.value.hint == 'pip install "tunekit[plot]"'


def test_many_configurations_are_not_drawn(tunekit, tmp_path):
    (tmp_path / "specs.jsonl").write_text(json.dumps({"config": dict(CONFIG)}))
    ended = tunekit("fit", "--spec", "specs.jsonl", "--plot", "fit.png")
    assert ended.code == 2
    assert "--spec answers many" in ended.err


def test_a_picture_that_fails_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "fit.png"
    path.write_bytes(b"old")

    def half(_figure, file, **_words):
        file.write(b"half a picture")
        raise MemoryError

    monkeypatch.setattr(Figure, "savefig", half)
    with pytest.raises(MemoryError):
        draw_prediction(path, "", "", bars(), CARD)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_to_is_one_line(tmp_path, monkeypatch):
    def full(_path, _content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(plot, "write_atomically", full)
    with pytest.raises(TunekitError, match=r"fit\.png cannot be written: No space left"):
        draw_prediction(tmp_path / "fit.png", "", "", bars(), CARD)
