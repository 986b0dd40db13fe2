import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from PIL import Image

from dyhead_lab.evaluation.error_analysis import Mistake
from dyhead_lab.views.curves import comparison_figure
from dyhead_lab.views.error_images import errors_picture
from dyhead_lab.views.figures import INK, PALETTE, Picture, detections_figure, draw_boxes, ink_on

NAMES = ["disc", "star"]
FOUND = {
    "boxes": torch.tensor([[10.0, 20.0, 50.0, 70.0], [60.0, 5.0, 90.0, 35.0]]),
    "labels": torch.tensor([0, 1]),
    "scores": torch.tensor([0.9, 0.2]),
}


def pixels(picture: Picture) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture.png)).convert("RGBA"))


def rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])


def near(image: np.ndarray, colour: str) -> np.ndarray:
    """Where an image (H, W, 4) has a colour, up to anti-aliasing."""
    return np.abs(image[..., :3].astype(int) - rgb(colour)).max(-1) < 12


def test_boxes_lie_where_they_should_and_the_threshold_holds():
    grey = torch.full((3, 100, 100), 0.5)
    image = pixels(Picture(detections_figure([grey], [FOUND], NAMES, threshold=0.3, height=400), "a test"))
    assert image.shape[:2] == (400, 400)
    rows, columns = np.nonzero(near(image, PALETTE[0])[100:])  # below the label
    assert abs(columns.min() - 40) <= 5 and abs(columns.max() - 200) <= 5 and abs(rows.max() + 100 - 280) <= 5
    assert not near(image, PALETTE[1]).any(), "a box below the threshold was drawn"


@pytest.mark.parametrize("name", ["$5_$", "x_$ and $y", r"\frac"])
def test_names_are_drawn_as_they_are(name):
    """matplotlib takes what stands between dollars for a formula, and fails where it is none."""
    grey = torch.full((3, 100, 100), 0.5)
    found = {key: values[:1] for key, values in FOUND.items()}
    Picture(detections_figure([grey], [found], [name]), "a class")
    mistake = Mistake("background", 1, {"bbox": [10, 20, 40, 50], "category_id": 1, "image_id": 1, "score": 0.9}, None)
    errors_picture(grey, 1, SimpleNamespace(mistakes=[mistake], names={1: name}))
    log = [{"iteration": i, "loss": 1.0, "lr": 0.1} for i in (20, 40)]
    Picture(comparison_figure({name: log, "b": log}), "two runs")


def test_a_text_that_names_a_file_of_other_bytes_is_written():
    picture = Picture(Figure(figsize=(1, 1)), "caf\udce9.png: 1 disc")
    assert picture.alt == "caf?.png: 1 disc"
    with Image.open(io.BytesIO(picture.png)) as image:
        assert image.info["Description"] == picture.alt


def test_ground_truth_has_no_scores_and_is_drawn_whole():
    truth = {name: FOUND[name] for name in ("boxes", "labels")}
    image = pixels(Picture(detections_figure([torch.zeros(3, 100, 100)], [truth], NAMES, height=400), "a test"))
    assert near(image, PALETTE[0]).any() and near(image, PALETTE[1]).any()


def test_images_of_any_size_stand_in_a_row_and_nothing_found_is_fine():
    none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long), "scores": torch.zeros(0)}
    images = [torch.ones(3, 50, 100), torch.ones(3, 80, 40)]
    image = pixels(Picture(detections_figure(images, [none, none], NAMES, height=100), "a test"))
    assert image.shape[:2] == (100, 262)
    assert (image[:, 202:210, 3] == 0).all(), "the gap between images must stay transparent"


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"boxes": torch.zeros(2, 5)}, "boxes"),
        ({"labels": torch.tensor([0])}, "labels"),
        ({"labels": torch.tensor([0, 2])}, "labels"),
        ({"scores": torch.tensor([0.5])}, "scores"),
    ],
)
def test_arguments_that_do_not_fit_are_named(changed, named):
    with pytest.raises(ValueError, match=f"^{named}: got"):
        draw_boxes(Figure().add_subplot(), **{**FOUND, **changed}, names=NAMES)


def test_a_picture_needs_a_text_for_those_who_cannot_see_it():
    with pytest.raises(ValueError, match="alt"):
        Picture(Figure(), " ")
    data, metadata = Picture(Figure(), "Nothing yet.")._repr_mimebundle_()
    assert data["text/plain"] == metadata["image/png"]["alt"] == "Nothing yet."


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2."""
    channels = rgb(colour) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def contrast(a: str, b: str) -> float:
    dark, light = sorted((luminance(a), luminance(b)))
    return (light + 0.05) / (dark + 0.05)


def test_ink_reads_on_light_and_dark_pages_and_labels_on_their_colours():
    assert contrast(INK, "#ffffff") > 4 and contrast(INK, "#111111") > 4
    for colour in PALETTE:
        assert contrast(ink_on(colour), colour) > 4.5


def test_a_palette_saves_bytes_and_keeps_transparency_and_description():
    torch.manual_seed(0)
    figure = detections_figure([torch.rand(3, 80, 80)], [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0)}], NAMES)
    full, small = Picture(figure, "noise"), Picture(figure, "noise", colours=64)
    assert len(small.png) < len(full.png) / 2 and len({tuple(p) for p in pixels(small).reshape(-1, 4)}) <= 64
    with Image.open(io.BytesIO(small.png)) as image:
        assert image.text["Description"] == "noise"
    assert abs(pixels(small).astype(float) - pixels(full)).mean() < 40  # of 255, on noise: 64 colours are 4 a channel
    empty = Picture(Figure(figsize=(1, 1)), "nothing", colours=8)
    assert (pixels(empty)[..., 3] == 0).all()


CORNERS = [
    [0.0, 0, 0.2, 0.2],
    [0.9, 0, 1, 0.1],
    [0, 0.98, 1, 1],
    [0.97, 0.97, 1, 1],
    [0.4, 0.4, 0.6, 0.6],
    [-1, -1, 2, 2],
]


def of_an_image(h: int, w: int, name: str) -> list[Picture]:
    """Pictures of an image with boxes at all of its edges: of what was found, twice, and of mistakes."""
    boxes = torch.tensor(CORNERS) * torch.tensor([w, h, w, h])
    found = {"boxes": boxes, "labels": torch.zeros(6, dtype=torch.long), "scores": torch.full((6,), 0.9)}
    image = torch.full((3, h, w), 0.5)
    records = [{"bbox": [x, y, x2 - x, y2 - y], "category_id": 1, "score": 0.9} for x, y, x2, y2 in boxes.tolist()]
    mistakes = [Mistake("background", 1, record, None) for record in records]
    mistakes += [Mistake("missed", 1, None, record) for record in records]
    return [
        Picture(detections_figure([image, image], [found, found], [name], height=max(h, 480)), "a test"),
        errors_picture(image, 1, SimpleNamespace(mistakes=mistakes, names={1: name})),
    ]


@pytest.mark.parametrize("name", ["cat", "white blood cell (basophil)", "a class " * 40, "two\nlines"])
@pytest.mark.parametrize("size", [(300, 400), (400, 90), (30, 500)])
def test_labels_lie_within_their_image_and_scores_are_never_cut(name, size, monkeypatch):
    drawn = []
    draw = Annotation.draw

    def seen(label, renderer):
        drawn.append((label.get_text(), label.get_window_extent(renderer), label.axes.get_window_extent(renderer)))
        draw(label, renderer)

    monkeypatch.setattr(Annotation, "draw", seen)
    of_an_image(*size, name)
    assert len(drawn) == 6 + 6 + 12
    for text, label, image in drawn:
        assert image.x0 <= label.x0 and label.x1 <= image.x1 and image.y0 <= label.y0 and label.y1 <= image.y1, text
        assert text[0] == name[0] and "\n" not in text
    assert sum(text.endswith(" 0.90") for text, *_ in drawn) == 18, "all but of missed objects"


def test_a_label_is_where_it_was_when_it_is_drawn_again():
    found = {**FOUND, "boxes": FOUND["boxes"] + 30}
    figure = detections_figure([torch.full((3, 100, 120), 0.5)], [found], ["a name that is too long", "star"], 0)
    assert Picture(figure, "a test").png == Picture(figure, "a test").png


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (3, 40)])
def test_stripes_get_pictures_of_a_size_that_can_be_looked_at(size):
    for picture in of_an_image(*size, "person"):
        height, width = pixels(picture).shape[:2]
        assert min(height, width) >= 48 and max(height, width) <= 50_000 and height * width <= 10_000_000
