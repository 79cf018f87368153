"""Copies of pictures: what changes, what stays, and which rows get none."""

import json

import pytest

from tunekit.data.augment import Copies, augment_dataset, reasons
from tunekit.errors import TunekitError

Image = pytest.importorskip("PIL.Image")

LEFT_RED = [(255, 0, 0), (0, 0, 255)]
FLIP = Copies(flip=True)


@pytest.fixture
def dataset(tmp_path):
    """A dataset of one picture, red on the left and blue on the right, and of these questions."""

    def dataset(*questions, answer="A cat.", **more):
        picture = tmp_path / "cat.png"
        image = Image.new("RGB", (20, 10), LEFT_RED[0])
        image.paste(LEFT_RED[1], (10, 0, 20, 10))
        image.save(picture)
        rows = [
            {
                "messages": [
                    {"role": "user", "content": f"<image>{question}"},
                    {"role": "assistant", "content": answer},
                ],
                "images": [str(picture)],
            }
            | more
            for question in questions
        ]
        data = tmp_path / "data.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return data

    return dataset


def written(folder):
    return [json.loads(line) for line in (folder / "data.jsonl").read_text(encoding="utf-8").splitlines()]


def sides(path):
    """The colours in the middle of the left and of the right edge."""
    with Image.open(path) as image:
        return [image.getpixel((0, image.height // 2)), image.getpixel((image.width - 1, image.height // 2))]


def test_a_mirrored_copy_stands_behind_its_row(dataset, tmp_path):
    data, out = dataset("What is this?", "Which animal?"), tmp_path / "out"
    done = augment_dataset(data, out, FLIP)
    rows = written(out)
    assert (done.rows, done.added, done.left, len(rows)) == (2, 2, {}, 4)
    original = [json.loads(line) for line in data.read_text().splitlines()]
    assert rows[::2] == original
    assert [row["messages"] for row in rows[1::2]] == [row["messages"] for row in original]
    assert sides(rows[0]["images"][0]) == LEFT_RED
    assert sides(rows[1]["images"][0]) == LEFT_RED[::-1]
    assert rows[1]["images"] == [str(out / "images/000001-0.png")]


def test_a_photograph_stays_one_and_is_turned_upright(dataset, tmp_path):
    image = Image.new("RGB", (20, 10))
    exif = image.getexif()
    exif[0x0112] = 6  # the camera was held upright
    image.save(tmp_path / "photo.bin", "JPEG", exif=exif)
    augment_dataset(dataset("What is this?", images=[str(tmp_path / "photo.bin")]), tmp_path / "out", FLIP)
    (name,) = written(tmp_path / "out")[1]["images"]
    with Image.open(name) as copy:
        assert (copy.format, copy.size, name.endswith("000001-0.jpg")) == ("JPEG", (10, 20), True)


def test_one_picture_by_another_column(dataset, tmp_path):
    data = dataset("What is this?", images=[], image=str(tmp_path / "cat.png"))
    augment_dataset(data, tmp_path / "out", FLIP)
    assert written(tmp_path / "out")[1]["image"] == str(tmp_path / "out/images/000001-0.png")


def test_a_crop_keeps_its_share(dataset, tmp_path):
    augment_dataset(dataset(*["What is this?"] * 8), tmp_path / "out", Copies(crop=0.8))
    sizes = {Image.open(row["images"][0]).size for row in written(tmp_path / "out")[1::2]}
    assert sizes == {(16, 8)}


def test_half_are_mirrored_where_both_are_asked_for(dataset, tmp_path):
    augment_dataset(dataset(*["What is this?"] * 40), tmp_path / "out", Copies(flip=True, crop=0.9))
    mirrored = [sides(row["images"][0]) == LEFT_RED[::-1] for row in written(tmp_path / "out")[1::2]]
    assert 10 < sum(mirrored) < 30


def test_a_seed_makes_the_same_copies(dataset, tmp_path):
    data = dataset(*["What is this?"] * 6)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        augment_dataset(data, tmp_path / name, Copies(flip=True, crop=0.6, seed=seed))
    made = {name: [file.read_bytes() for file in sorted((tmp_path / name / "images").iterdir())] for name in "abc"}
    assert made["a"] == made["b"] != made["c"]


@pytest.mark.parametrize(
    ("question", "more", "why"),
    [
        ("Read the sign.", {}, "about what is written"),
        ("OCR", {}, "about what is written"),
        ("Summarise this chart.", {}, "about what is written"),
        ("图片里的文字是什么？", {}, "about what is written"),
        ("Who stands on the left?", {}, "about left and right"),
        ("Where is the cat? <bbox>", {}, "with coordinates"),
        ("Where is the cat?", {"objects": {"bbox": [[1, 2, 3, 4]]}}, "with coordinates"),
        ("What is this?", {"images": []}, "without a picture"),
    ],
)
def test_rows_that_a_copy_would_spoil_are_kept_alone(question, more, why, dataset, tmp_path):
    with pytest.raises(TunekitError, match="no row can be copied") as refused:
        augment_dataset(dataset(question, **more), tmp_path / "out", FLIP)
    assert why in refused.value.message
    assert list(tmp_path.glob("out*")) == []
    good = json.loads(dataset("What is this?").read_text())
    data = dataset(question, **more)
    with data.open("a") as file:
        file.write(json.dumps(good) + "\n")
    done = augment_dataset(data, tmp_path / "out", FLIP)
    assert (done.rows, done.added, len(written(tmp_path / "out"))) == (2, 1, 3)
    assert reasons(done).endswith("(line 1)")


def test_text_can_be_copied_all_the_same_and_sides_need_no_crop(dataset, tmp_path):
    assert augment_dataset(dataset("Read the sign."), tmp_path / "a", Copies(flip=True, with_text=True)).added == 1
    assert augment_dataset(dataset("Who stands on the left?"), tmp_path / "b", Copies(crop=0.9)).added == 1


@pytest.mark.parametrize(
    ("copies", "says"),
    [
        (Copies(), "nothing was asked for"),
        (Copies(crop=1.0), "from 0.5 to below 1, not 1"),
        (Copies(crop=0.2), "not 0.2"),
    ],
)
def test_what_makes_no_sense(copies, says, dataset, tmp_path):
    with pytest.raises(TunekitError, match=says):
        augment_dataset(dataset("What is this?"), tmp_path / "out", copies)


def test_pictures_that_are_not_there_or_none(dataset, tmp_path):
    with pytest.raises(TunekitError, match=r"line 1: there is no image gone\.png"):
        augment_dataset(dataset("What is this?", images=["gone.png"]), tmp_path / "out", FLIP)
    (tmp_path / "bad.png").write_text("not a picture")
    with pytest.raises(TunekitError, match="cannot be read as an image"):
        augment_dataset(dataset("What is this?", images=[str(tmp_path / "bad.png")]), tmp_path / "out", FLIP)
    (tmp_path / "data.csv").write_text("a,b\n")
    with pytest.raises(TunekitError, match="it holds none"):
        augment_dataset(tmp_path / "data.csv", tmp_path / "out", FLIP)
    (tmp_path / "out").mkdir()
    with pytest.raises(TunekitError, match="exists already"):
        augment_dataset(dataset("What is this?"), tmp_path / "out", FLIP)


def test_the_command(dataset, tmp_path, tunekit):
    data = dataset("What is this?", "Read the sign.")
    ended = tunekit("augment", str(data), "--flip", "--crop", "0.9", "--out", str(tmp_path / "more"))
    assert ended.code == 0
    assert "2 rows and 1 copy\n" in ended.err
    assert "not copied: 1 about what is written in the picture (line 2)" in ended.err
    assert tunekit("augment", str(data), "--out", str(tmp_path / "none")).code == 2
