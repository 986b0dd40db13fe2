import pytest
import torch

from dyhead_book.figures.object_queries import look
from dyhead_lab.detectors.detr.configured import deformable_detr
from dyhead_lab.detectors.detr.deformable_detr import DeformableDETR, DeformableDETRConfig

IMAGE = torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    small = {"channels": 32, "heads": 2, "feedforward": 32, "encoder_layers": 1, "decoder_layers": 2, "queries": 5}
    model = deformable_detr(3, backbone="narrow", levels=3, refine=True, min_size=32, max_size=64, **small)
    for parameter in model.parameters():  # heads that start at zero would not tell queries apart
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def test_queries_are_those_of_the_detector(model):
    view = look(model, IMAGE)
    assert view.image.shape == (3, 32, 48), "the detector's own size"
    assert view.sizes == ((4, 6), (2, 3), (1, 2))
    q = view.best(1)[0]
    with torch.no_grad():
        detected = model([view.image])[0]
    assert float(view.scores_Q[q]) == pytest.approx(float(detected["scores"][0]))
    torch.testing.assert_close(view.boxes_in_pixels()[q], detected["boxes"][0])
    label = ["a", "b", "c"][int(detected["labels"][0])]
    assert view.title(q, ["a", "b", "c"]) == f"{q}: {label} {float(detected['scores'][0]):.2f}"


def test_every_layer_starts_from_the_boxes_of_the_one_before(model):
    view = look(model, IMAGE)
    assert view.references[0].shape == (5, 2) and view.boxes_IQ4.shape == (2, 5, 4)
    torch.testing.assert_close(view.references[1], view.boxes_IQ4[0])
    points = view.points(3)
    assert points.locations_MLP2.shape == (2, 3, 4, 2)
    assert float(points.weights_MLP[0].sum()) == pytest.approx(1, abs=1e-5)  # a softmax in float32
    torch.testing.assert_close(points.reference, view.boxes_IQ4[0, 3])


def test_the_best_are_sorted_and_cut_at_the_threshold(model):
    view = look(model, IMAGE)
    order = view.best()
    assert len(order) == 5 and view.scores_Q[order].diff().le(0).all()
    assert view.best(threshold=float(view.scores_Q[order[1]])) == order[:2]
    assert view.best(count=3) == order[:3]


def test_a_detector_without_a_backbone_is_refused():
    with pytest.raises(ValueError, match="without a backbone"):
        look(DeformableDETR(DeformableDETRConfig(classes=1, channels=32)), IMAGE)
