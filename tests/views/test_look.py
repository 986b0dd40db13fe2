"""``look``: what is shown for an object is what the network did for it, in a notebook and on a page without Python."""

import base64
import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
import torch
from PIL import Image

from dyhead_lab.cli import main
from dyhead_lab.data.shapes import draw_image
from dyhead_lab.errors import UserError
from dyhead_lab.trace import trace
from dyhead_lab.views.look import MOST, Look, _read, look
from dyhead_lab.views.look_upload import look_upload
from dyhead_lab.views.page import page_of
from dyhead_lab.views.sampling_layers import sampling_layers, valid_part
from dyhead_lab.views.sampling_points import SamplingPoints
from dyhead_lab.zoo import load_trained


@pytest.fixture(scope="module")
def image():
    return torch.from_numpy(draw_image(2026, 3)[0]).permute(2, 0, 1) / 255


def panel(view, kind):
    [found] = [panel for panel in view.scene["panels"] if panel["kind"] == kind]
    return found


def kinds(view):
    return [panel["kind"] for panel in view.scene["panels"]]


def test_objects_are_those_of_the_detector_best_first(image):
    trained = load_trained("quickstart")
    view = look(image, trained, threshold=0.3)
    with torch.no_grad():
        (found,) = trained.model([image])
    confident = found["scores"] >= 0.3
    assert len(view.scene["objects"]) == min(int(confident.sum()), MOST) > 0
    best = view.scene["objects"][0]
    top = int(found["scores"].argmax())
    assert best["name"] == trained.categories[int(found["labels"][top])]
    np.testing.assert_allclose(best["box"], (found["boxes"][top] / 160).tolist(), atol=1e-4)  # rounded to four places
    assert "query" not in best, "this detector has none"


def test_where_nothing_is_sure_the_best_three_are_shown(image):
    view = look(image, "quickstart", threshold=1.0)
    assert len(view.scene["objects"]) == 3 and view.scene["threshold"] == 1.0


def test_taps_are_those_of_the_cell_in_the_middle_of_the_box(image):
    trained = load_trained("quickstart")
    view = look(image, trained)
    with torch.no_grad(), trace(trained.model) as seen:
        trained.model([image])
    x1, y1, x2, y2 = view.scene["objects"][0]["box"]
    layers = panel(view, "points")["layers"]
    assert kinds(view) == ["points", "gates", "lines"] and len(layers) == len(sampling_layers(seen))
    for told, layer in zip(layers, sampling_layers(seen), strict=True):
        points = layer.points(layer.nearest((x1 + x2) / 2, (y1 + y2) / 2))
        order = points.weights.argsort(descending=True)
        rows = [row[:3] for row in told["looks"][0]["points"]]
        expected = torch.cat([points.positions, points.weights[:, None]], 1)[order]
        np.testing.assert_allclose(rows, expected.tolist(), atol=1e-4)
        assert told["name"] == layer.name


@pytest.mark.parametrize("weights", ["deformable_detr_tiny", "sparse_detr_tiny"])
def test_points_of_a_decoder_belong_to_the_query_that_found_the_object(weights, image):
    trained = load_trained(weights)
    view = look(image, trained, threshold=0.1)
    with torch.no_grad(), trace(trained.model) as seen:
        (found,) = trained.model([image])
    order = found["scores"].argsort(descending=True)
    layers = sampling_layers(seen)
    told = panel(view, "points")["layers"][-1]
    assert told["name"] == layers[-1].name and "decoder" in told["name"]
    for number, look_ in enumerate(told["looks"]):
        query = int(found["queries"][order[number]])
        assert view.scene["objects"][number]["query"] == query
        np.testing.assert_allclose(look_["here"], layers[-1].places[query].tolist(), atol=1e-4)


def test_dense_attention_is_shown_on_one_scale(image):
    trained = load_trained("detr_tiny")
    view = look(image, trained, threshold=0.0)
    maps = panel(view, "maps")
    with torch.no_grad(), trace(trained.model) as seen:
        (found,) = trained.model([image])
    cross = [m[0].mean(0) for path, m in seen.find("attention_maps") if path.endswith("multihead_attn")]
    encoder = [m[0].mean(0) for path, m in seen.find("attention_maps") if ".encoder." in path]
    assert len(maps["layers"]) == len(cross) + len(encoder)
    query = int(found["queries"][found["scores"].argmax()])
    last = maps["layers"][-1]
    values = np.frombuffer(base64.b64decode(last["looks"][0]), np.uint8) / 255 * maps["brightest"]
    assert last["size"] == [10, 10]
    np.testing.assert_allclose(values, cross[-1][query].numpy(), atol=maps["brightest"] / 255)  # one byte a cell
    assert maps["brightest"] >= float(cross[-1][query].max())


def test_a_sparse_detector_ran_at_every_ratio_and_keeps_its_own(image):
    trained = load_trained("sparse_detr_tiny")
    before = trained.model.rho
    view = look(image, trained)
    assert trained.model.rho == before
    steps = panel(view, "tokens")["steps"]
    assert [step["rho"] for step in steps] == sorted({0.05, 0.1, 0.2, 0.3, 0.5, 1.0, before})
    kept = [step["kept"] for step in steps]
    assert kept == sorted(kept) and kept[-1] == steps[-1]["tokens"] and steps[-1]["corr"] == 1.0
    for step in steps:
        masks = [np.frombuffer(base64.b64decode(level["kept"]), np.uint8) for level in step["levels"]]
        assert sum(int((mask == 255).sum()) for mask in masks) == step["kept"]


def test_positions_do_not_count_the_padding():
    image = torch.rand(3, 100, 150, generator=torch.Generator().manual_seed(0))
    trained = load_trained("quickstart")
    view = look(image, trained)
    with torch.no_grad(), trace(trained.model) as seen:
        trained.model([image])
    valid = valid_part(seen, 0)
    assert float(valid.min()) < 1 and view.scene["valid"] == [round(v, 4) for v in valid.tolist()]
    layer, told = sampling_layers(seen)[0], panel(view, "points")["layers"][0]
    x1, y1, x2, y2 = view.scene["objects"][0]["box"]
    centre = torch.tensor([(x1 + x2) / 2, (y1 + y2) / 2]) * valid
    place = layer.places[layer.nearest(*centre.tolist())] / valid
    np.testing.assert_allclose(told["looks"][0]["here"], place.tolist(), atol=1e-4)


def test_the_page_holds_all_that_the_widget_holds_and_fetches_nothing(image, tmp_path):
    view = look(image, "quickstart")
    view.page(tmp_path / "new" / "look.html")
    text = (tmp_path / "new" / "look.html").read_text(encoding="utf-8")
    values = json.loads(re.search(r'id="values">(.*?)</script>', text, re.DOTALL)[1])
    assert values == {"scene": view.scene, "chosen": 0}
    assert not re.search(r'(src|href)="http|import .* from|@import', text)
    with pytest.raises(UserError, match="cannot write"):
        view.page(tmp_path / "new")


@pytest.mark.parametrize("name", ["</script><b>", "<!--<script>"])
def test_no_name_of_a_class_ends_the_page(image, name):
    """After ``<!--<script>`` a browser takes the next end of a script for one inside it, and the rest for text."""
    trained = load_trained("quickstart")
    view = look(image, replace(trained, categories=[name] * len(trained.categories)))
    text = page_of(view, name)
    inside = re.search(r'id="values">(.*?)</script>', text, re.DOTALL)[1]
    assert "<" not in inside and json.loads(inside)["scene"] == view.scene


def test_a_page_is_refused_for_what_python_draws(image):
    trained = load_trained("quickstart")
    with torch.no_grad(), trace(trained.model) as seen:
        trained.model([image])
    with pytest.raises(ValueError, match="SamplingPoints asks Python for layer"):
        page_of(SamplingPoints(seen, image), "points")


def test_task_coefficients_are_those_of_the_objects_cell(image):
    trained = load_trained("quickstart")
    view = look(image, trained)
    with torch.no_grad(), trace(trained.model) as seen:
        trained.model([image])
    coefficients = [found for _, found in seen.find("task_coefficients")]
    before, after = ([found for _, found in seen.find(name)] for name in ("after_scale", "after_task"))
    [block] = panel(view, "lines")["blocks"]
    assert len(block) == len(before) and all(len(level) == len(view.scene["objects"]) for level in block)
    for number, entry in enumerate(view.scene["objects"]):
        x1, y1, x2, y2 = entry["box"]
        for level, looks in enumerate(block):
            H, W = before[level].shape[-2:]
            cell = int((y1 + y2) / 2 * H), int((x1 + x2) / 2 * W)
            changes = []
            for told in looks[number]:
                c = told["channel"]
                np.testing.assert_allclose(told["lines"], coefficients[level][0, :, c].tolist(), atol=1e-3)
                expected = [maps[level][0, c, *cell].item() for maps in (before, after)]
                np.testing.assert_allclose(told["at"], expected, atol=1e-3)  # four places, float32 in another order
                changes.append(abs(told["at"][1] - max(told["at"][0], 0)))
            everywhere = (after[level] - before[level].relu())[0, :, *cell].abs()
            assert min(changes) >= float(everywhere.sort().values[-6]) - 1e-3


def test_the_decoder_attention_map_is_shown_at_every_ratio(image):
    trained = load_trained("sparse_detr_tiny")
    view = look(image, trained)
    with torch.no_grad(), trace(trained.model) as seen:
        trained.model([image])
    [(_, dam)] = seen.find("dam")
    step = next(step for step in panel(view, "tokens")["steps"] if step["rho"] == trained.model.rho)
    told = np.concatenate([np.frombuffer(base64.b64decode(level["dam"]), np.uint8) for level in step["levels"]])
    np.testing.assert_allclose(told / 255, (dam[0] / dam.max()).numpy(), atol=1 / 255)  # one byte a token


BIG = """
import resource, sys
from dyhead_lab.views.look import look
from dyhead_lab.zoo import load_trained
trained = load_trained(sys.argv[2])
look("workshop", trained)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
view = look(sys.argv[1], trained)
view.page(sys.argv[3])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, *view.scene["size"])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss counts kilobytes on Linux")
@pytest.mark.parametrize("weights", ["quickstart", "detr_tiny"])
def test_a_photograph_of_12_megapixels_fits_into_a_laptop(weights, tmp_path):
    """Pixels as floats take 144 MB; a few copies of them may stand beside each other, but nothing that grows faster."""
    picture = Image.effect_noise((4000, 3000), 60).convert("RGB")
    exif = picture.getexif()
    exif[0x0112] = 6  # a quarter to the right, as phones store pictures that stand
    picture.save(tmp_path / "big.jpg", exif=exif)
    page = tmp_path / "big.html"
    run = [sys.executable, "-c", BIG, str(tmp_path / "big.jpg"), weights, str(page)]
    grown, H, W = map(int, subprocess.run(run, capture_output=True, text=True, check=True).stdout.split())
    assert H / W == pytest.approx(4 / 3, rel=0.01)
    assert grown < 1_000_000, "kilobytes"
    assert page.stat().st_size < 3_000_000


@pytest.mark.parametrize("kind", ["grey", "CMYK", "webp", "16 bit", "palette", "palette with holes", "alpha", "bitmap"])
def test_photographs_of_every_kind_are_looked_at(kind, tmp_path):
    """Pixels in the upper half are bright in every kind, in the lower half dark."""
    pixels = np.zeros((60, 90, 3), np.uint8)
    pixels[:30] = 200
    rgb = Image.fromarray(pixels)
    deep = Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257)
    pictures = {
        "grey": (rgb.convert("L"), "x.jpg", {}),
        "CMYK": (rgb.convert("CMYK"), "x.jpg", {}),
        "webp": (rgb, "x.webp", {"lossless": True}),
        "16 bit": (deep, "x.png", {}),
        "palette": (rgb.quantize(4), "x.gif", {}),
        "palette with holes": (rgb.quantize(4), "x.png", {"transparency": b"\xff\x00"}),
        "alpha": (rgb.convert("RGBA"), "x.png", {}),
        "bitmap": (rgb.convert("1"), "x.png", {}),
    }
    picture, name, options = pictures[kind]
    picture.save(tmp_path / name, **options)
    view = look(tmp_path / name, "quickstart")
    assert view.scene["size"] == [60, 90]
    kept = np.asarray(Image.open(io.BytesIO(base64.b64decode(view.scene["source"].split(",")[1]))))
    assert kept[:25].mean() > 150 and kept[35:].mean() < 60


def test_the_command_takes_photographs_as_cameras_store_them(tmp_path, capsys):
    pixels = np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8)
    turned = Image.fromarray(pixels)
    exif = turned.getexif()
    exif[0x0112] = 6  # a quarter to the right
    for name, picture, options in (
        ("turned.jpg", turned, {"exif": exif}),
        ("cmyk.jpg", turned.convert("CMYK"), {}),
        ("grey.png", turned.convert("L"), {}),
        ("small.webp", turned, {}),
    ):
        picture.save(tmp_path / name, **options)
        page = tmp_path / f"{name}.html"
        assert main(["look", str(tmp_path / name), "--weights", "quickstart", "--out", str(page)]) == 0
        size = json.loads(re.search(r'"size": (\[\d+, \d+\])', page.read_text(encoding="utf-8"))[1])
        assert size == ([90, 60] if name == "turned.jpg" else [60, 90])
    assert "turned.jpg" in capsys.readouterr().out


def test_a_photograph_whose_name_is_not_unicode_has_a_page(image, tmp_path):
    """As ``os.fsdecode`` gives a name that was written in Latin-1. Not every file system takes such a name."""
    path = tmp_path / "caf\udce9.png"
    try:
        Image.fromarray((image * 255).byte().permute(1, 2, 0).numpy()).save(path)
    except (OSError, UnicodeError):
        pytest.skip("this file system has no such names")
    look(path, "quickstart").page(tmp_path / "page.html")
    assert "caf?.png" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_mistakes_are_named(tmp_path, capsys):
    heic = tmp_path / "phone.heic"
    heic.write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    for arguments, words in (
        (["look", "nowhere.jpg", "--weights", "quickstart"], "image not found: nowhere.jpg"),
        (["look", "workshop", "--weights", "nobody"], "no weights at nobody"),
        (["look", "workshop", "--weights", "quickstart", "--out", "page.txt"], "--out: expected a name that ends in"),
        (["look", "workshop", "--weights", "quickstart", "--threshold", "2"], "threshold: got 2.0"),
        (["look", str(heic), "--weights", "quickstart"], "HEIC"),
        (["look", str(tmp_path), "--weights", "quickstart"], f"{tmp_path}: expected an image file"),
        (["look", "", "--weights", "quickstart"], "'': expected an image file"),
    ):
        assert main(arguments) == 1
        assert words in capsys.readouterr().err
    with pytest.raises(UserError, match=r"image: got torch.float32 \(2, 3\)"):
        look(torch.rand(2, 3), "quickstart")


def test_a_folder_called_as_a_photograph_does_not_hide_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cat").mkdir()
    assert _read("cat")[1] == "cat"


def test_the_still_picture_names_the_objects(image):
    view = look(image, "quickstart")
    assert isinstance(view, Look) and view.scene["objects"][0]["name"] in view.picture().alt


def uploaded(name, content):
    when = datetime(2026, 1, 1, tzinfo=UTC)
    return {"name": name, "type": "image/png", "size": len(content), "last_modified": when, "content": content}


def test_a_photograph_is_chosen_by_a_button():
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8)).save(file, "PNG")
    box = look_upload("quickstart")
    assert box._repr_mimebundle_()["text/plain"].endswith("a photograph of your own: run the cell.")  # without a kernel
    button, below = box.children
    assert below.children == ()
    button.value = (uploaded("mine.png", file.getvalue()),)
    [view] = below.children
    assert isinstance(view, Look) and view.scene["title"] == "mine.png" and view.scene["size"] == [60, 90]
    button.value = (uploaded("broken.png", b"no picture"),)
    [words] = below.children
    assert words.value.startswith("cannot read image broken.png")
