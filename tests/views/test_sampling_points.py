"""The sampling-point explorer: what it shows is what the layer did."""

import csv
import io

import numpy as np
import pytest
import torch
import traitlets
from PIL import Image
from torch import nn

from dyhead_lab.attention import DyHead
from dyhead_lab.detectors.detr.configured import deformable_detr, sparse_detr
from dyhead_lab.detectors.official import load_deformable_detr
from dyhead_lab.trace import trace
from dyhead_lab.views.sampling_layers import readable, sampling_layers
from dyhead_lab.views.sampling_points import SamplingPoints
from dyhead_lab.zoo import load_trained
from tests.detectors.detr_cases import OracleCase, padding_mask

#: Float32 sums of at most a few thousand terms in another order differ by about 1e-6 of the norm.
TOLERANCE = 1e-5

IMAGE = torch.rand(3, 96, 128, generator=torch.Generator().manual_seed(0))


def traced(model, *inputs):
    with torch.no_grad(), trace(model) as seen:
        model(*inputs)
    return seen


def moved_heads(model):
    """The model with offsets and weights that differ from place to place, as after training."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if any(part in name for part in ("offset", "attention_weights")):
            nn.init.normal_(parameter, std=0.05, generator=generator)
    return model.eval()


def tiny(builder, **options):
    torch.manual_seed(0)
    sizes = {"channels": 32, "heads": 4, "feedforward": 64, "encoder_layers": 2, "decoder_layers": 2, "queries": 9}
    return moved_heads(builder(classes=3, backbone="narrow", **sizes, **options))


@pytest.fixture(scope="module")
def quickstart():
    return traced(load_trained("quickstart").model, [IMAGE])


@pytest.fixture
def explorer(quickstart):
    return SamplingPoints(quickstart, IMAGE)


def relative(found, expected):
    return float((found - expected).norm() / expected.norm())


def assert_shown_points_reproduce_every_layer(seen):
    explorer = SamplingPoints(seen, IMAGE)
    for number, layer in enumerate(sampling_layers(seen)):
        explorer.layer = number
        for place in {0, len(layer.places) // 2, len(layer.places) - 1}:
            explorer.place = place
            assert relative(explorer.output(), layer.output[place]) < TOLERANCE, f"{layer.name}, place {place}"
    return explorer


def test_the_points_shown_reproduce_a_trained_dynamic_head(quickstart):
    explorer = assert_shown_points_reproduce_every_layer(quickstart)
    assert [l["name"] for l in explorer.layers][3] == "block 1, same level: 20 x 28"


@pytest.mark.parametrize("depthwise", [False, True])
def test_the_points_shown_reproduce_the_paper_form(depthwise):
    torch.manual_seed(0)
    head = moved_heads(DyHead(16, blocks=1, form="paper", num_levels=3, depthwise=depthwise))
    seen = traced(head, [torch.randn(1, 16, size, size) for size in (12, 6, 3)])
    assert_shown_points_reproduce_every_layer(seen)


@pytest.mark.parametrize(("builder", "options"), [(deformable_detr, {}), (sparse_detr, {"rho": 0.3, "refine": True})])
def test_the_points_shown_reproduce_encoder_and_decoder(builder, options):
    explorer = assert_shown_points_reproduce_every_layer(traced(tiny(builder, **options), [IMAGE]))
    names = [layer["name"] for layer in explorer.layers]
    assert names == ["encoder layer 1", "encoder layer 2", "decoder layer 1", "decoder layer 2"]
    assert explorer.layers[2]["places"] == 9 and explorer.layers[2]["grid"] == []


def test_the_points_shown_reproduce_imported_official_weights():
    case = OracleCase("deformable_detr")
    model = load_deformable_detr(case.state_dict()).eval()
    with torch.no_grad(), trace(model) as seen:
        model.forward_features(case.features(), padding_mask())
    assert_shown_points_reproduce_every_layer(seen)


def test_a_sparse_encoder_has_the_kept_tokens_as_places():
    model = tiny(sparse_detr, rho=0.3)
    seen = traced(model, [IMAGE])
    encoder = sampling_layers(seen)[0]
    [(_, kept)] = seen.find("kept_tokens")
    assert len(encoder.places) == int((kept[0] >= 0).sum()) < sum(x[0, 0].numel() for x in encoder.maps)


def test_a_click_chooses_the_nearest_place(explorer):
    explorer.layer = 3  # 20 x 28
    explorer.click = [0.999, 0.001]
    assert explorer.place == 27
    assert explorer.here == pytest.approx([27.5 / 28, 0.5 / 20])
    explorer.layer = 4  # 10 x 14: the same corner of the image
    assert explorer.place == 13


def test_the_four_pixels_share_the_position(explorer):
    rows = torch.tensor([pixel[2] for pixel in explorer.corners["pixels"]])
    assert rows.sum() == pytest.approx(1, abs=1e-5) and (rows >= 0).all()
    x, y = explorer.points[explorer.chosen][:2]
    H, W = explorer.corners["size"]
    at = sum(torch.tensor(pixel[:2], dtype=torch.float) * pixel[2] for pixel in explorer.corners["pixels"])
    assert at.tolist() == pytest.approx([y * H - 0.5, x * W - 0.5], abs=1e-4)  # float32 positions of up to 20 cells


def test_dragging_a_point_changes_the_output_and_putting_it_back_restores_it(explorer):
    before = explorer.output()
    x, y = explorer.points[explorer.chosen][:2]
    explorer.moved = [x + 0.1, y]
    moved = explorer.output()
    assert explorer.bars["change"] == pytest.approx(relative(moved, before), rel=1e-3)
    assert relative(moved, before) > 1e-3
    explorer.moved = []
    assert torch.equal(explorer.output(), before) and explorer.bars["change"] == 0


@pytest.fixture
def queries():
    """The explorer on a model whose layers have four heads."""
    return SamplingPoints(traced(tiny(deformable_detr), [IMAGE]), IMAGE)


def heaviest(explorer, head):
    """The point of the largest weight of a head."""
    return max((i for i, p in enumerate(explorer.points) if p[5] == head), key=lambda i: explorer.points[i][4])


def test_the_chosen_point_is_always_one_of_the_chosen_head(queries):
    for layer in range(4):
        queries.layer = layer
        for head in range(4):
            queries.head = head
            assert queries.chosen == heaviest(queries, head)
            queries.place = 1 + head
            assert queries.chosen == heaviest(queries, head), "another place keeps the head"
            now = {"layer": layer, "place": 1 + head, "head": head, "chosen": queries.chosen, "moved": []}
            assert queries.answer == now
    other = next(i for i, p in enumerate(queries.points) if p[5] == 3 and i != queries.chosen)
    queries.chosen = other
    queries.head = 3  # it is already
    assert queries.chosen == other
    with pytest.raises(traitlets.TraitError, match="expected a point of head 3, which is drawn"):
        queries.chosen = heaviest(queries, 1)
    queries.moved = [0.5, 0.5]
    queries.head = 2
    assert queries.chosen == heaviest(queries, 2) and queries.moved == [], "a moved point of another head goes back"


def test_the_picture_shows_the_points_of_the_chosen_head_and_files_hold_all(queries):
    everything = len(queries.points)
    queries.head = 1
    assert f"{everything // 4} sampling points of head 2 of encoder layer 1" in queries.picture().alt
    drawn = queries.figure().axes[0].collections
    assert sum(len(points.get_offsets()) for points in drawn) == everything // 4
    assert len(queries.table()) == everything
    assert relative(queries.output(), queries.current.output[queries.place]) < TOLERANCE, "all heads make the output"


class Both(nn.Module):
    """A model whose layers have different numbers of heads: 1 in the Dynamic Head, 4 in the transformer."""

    def __init__(self):
        super().__init__()
        self.first, self.second = load_trained("quickstart").model, tiny(deformable_detr)

    def forward(self, images):
        return self.first(images), self.second(images)


def test_a_layer_with_fewer_points_and_heads_forgets_the_head_and_the_moved_point():
    explorer = SamplingPoints(traced(Both(), [IMAGE]), IMAGE)
    explorer.layer = len(explorer.layers) - 1
    explorer.head = 3
    assert explorer.chosen >= 9
    explorer.moved = [0.5, 0.5]
    explorer.layer = 0
    assert (explorer.heads, explorer.head, explorer.moved, len(explorer.points)) == (1, -1, [], 9)
    assert explorer.chosen == heaviest(explorer, 0) and explorer.answer["layer"] == 0


def test_tables_arrays_and_graphics_are_written(explorer, tmp_path):
    explorer.to_csv(tmp_path / "points.csv")
    rows = list(csv.DictReader((tmp_path / "points.csv").open(encoding="utf-8")))
    assert len(rows) == 9 and float(rows[3]["weight"]) == pytest.approx(explorer.points[3][4])
    explorer.to_npz(tmp_path / "points.npz")
    arrays = np.load(tmp_path / "points.npz")
    assert arrays["positions"].shape == (9, 2) and arrays["read"].shape[0] == 9
    explorer.to_svg(tmp_path / "points.svg")
    assert "<svg" in (tmp_path / "points.svg").read_text(encoding="utf-8")


def test_a_button_gets_the_file_that_the_method_writes(explorer, monkeypatch, tmp_path):
    sent = []
    monkeypatch.setattr(explorer, "send", lambda content, buffers: sent.append((content, buffers)))
    for kind in ("csv", "npz", "svg"):
        explorer._handle_custom_msg({"export": kind, "view": "7"}, [])  # what a click sends
        content, [buffer] = sent[-1]
        place = f"layer{explorer.layer}_place{explorer.place}"
        assert content == {"view": "7", "name": f"sampling_points_{place}.{kind}"}
        getattr(explorer, f"to_{kind}")(tmp_path / kind)
        assert buffer == (tmp_path / kind).read_bytes() or kind == "npz"  # a zip file holds the time
    assert np.load(tmp_path / "npz")["weights"].shape == (len(explorer.points),)
    with pytest.raises(ValueError, match="kind: got 'pdf', expected one of csv, npz, svg"):
        explorer.exported("pdf")


def test_what_is_not_there_is_refused(explorer, quickstart):
    for name, value in (("layer", 10), ("place", -1), ("head", 1), ("chosen", 9)):
        with pytest.raises(traitlets.TraitError, match=f"{name}: got {value}"):
            setattr(explorer, name, value)
    with pytest.raises(ValueError, match=r"image: got torch.uint8 \(3, 96, 128\)"):
        SamplingPoints(quickstart, (IMAGE * 255).byte())
    with trace(nn.Identity()) as nothing:
        pass
    with pytest.raises(ValueError, match="nothing in it samples"):
        SamplingPoints(nothing, IMAGE)


def test_paths_become_words():
    assert readable("backbone.neck.blocks.0.spatial.coarser") == "block 1, coarser neighbour"
    assert readable("transformer.decoder.layers.5.cross_attn") == "decoder layer 6"
    assert readable("backbone.body.stages.3.1.conv2") == "backbone.body.stages.3.1.conv2"


def test_the_state_is_small_and_a_picture_stands_beside_the_widget(explorer):
    own = {name: value for name, value in explorer.get_state().items() if name not in ("_esm", "_css", "source")}
    assert len(str(own)) < 10_000
    data, metadata = explorer._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert "9 sampling points of block 1" in metadata["image/png"]["alt"]
    assert Image.open(io.BytesIO(explorer.picture().png)).format == "PNG"


def test_a_place_is_named_by_its_cell_or_by_what_its_query_found():
    model = tiny(deformable_detr)
    with torch.no_grad(), trace(model) as seen:
        [found] = model([IMAGE])
    explorer = SamplingPoints(seen, IMAGE, found=found, categories=["cat", "dog", "cup"])
    H, W = explorer.layers[0]["grid"][0]
    explorer.place = W + 2
    assert explorer.where == f"The place: row 2, column 3 of a map of {H} x {W}."
    explorer.layer = next(i for i, layer in enumerate(explorer.layers) if "decoder" in layer["name"])
    query, label, score, box = (found[key][0] for key in ("queries", "labels", "scores", "boxes"))
    explorer.place = int(query)
    name = ["cat", "dog", "cup"][label]
    x1, y1, x2, y2 = (f"{end:.0f}" for end in box.tolist())
    told = f"{name} {float(score):.2f}, x from {x1} to {x2}, y from {y1} to {y2} pixels"
    assert explorer.where == f"The place: object query {int(query)}, which found: {told}."
    with pytest.raises(ValueError, match="result of a detector with object queries, got boxes"):
        SamplingPoints(seen, IMAGE, found={"boxes": found["boxes"]})
