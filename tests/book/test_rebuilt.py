"""A shipped detector runs on the reader's classes: strictly loaded, equal boxes, and put back afterwards."""

import pytest
import torch
from torch import nn
from torchvision.ops import FeaturePyramidNetwork

from dyhead_book.practice.drawn_shapes import shapes_ap
from dyhead_book.practice.rebuilt import check_same_ap, rebuilt
from dyhead_book.practice.so_far import so_far
from dyhead_lab.attention import ScaleAwareAttention, dyhead
from dyhead_lab.attention import scale as library
from dyhead_lab.data.shapes import draw_image
from dyhead_lab.errors import UserError
from dyhead_lab.zoo import load_trained


class Mine(nn.Module):
    """The released form as a reader might write it, with the library's names."""

    def __init__(self, channels):
        super().__init__()
        self.gate = nn.Linear(channels, 1)
        self.calls = 0

    def gates(self, branches):
        return torch.cat([(self.gate(x.mean((2, 3))).relu() + 3).clamp(0, 6) / 6 for x in branches], 1)

    def forward(self, branches):
        self.calls += 1
        gates = self.gates(branches)
        return sum(gates[:, i, None, None, None] * x for i, x in enumerate(branches)) / len(branches)


@pytest.fixture(scope="module")
def picture():
    return torch.from_numpy(draw_image(2026, 1)[0]).permute(2, 0, 1) / 255


def keys(module):
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def test_the_example_has_the_librarys_names():
    assert keys(Mine(64)) == keys(ScaleAwareAttention(64))


def test_the_detector_finds_the_same_boxes_on_the_readers_class(picture):
    shipped = load_trained("quickstart").model
    with torch.no_grad(), rebuilt("quickstart", ScaleAwareAttention=Mine) as model:
        own = [part for part in model.modules() if isinstance(part, Mine)]
        (mine,), (theirs,) = model([picture]), shipped([picture])
        assert own and all(part.calls for part in own)
    torch.testing.assert_close(mine["boxes"], theirs["boxes"], atol=1e-3, rtol=0)  # pixels; float32, another order
    torch.testing.assert_close(mine["scores"], theirs["scores"], atol=1e-5, rtol=0)
    assert torch.equal(mine["labels"], theirs["labels"])


def test_the_library_is_itself_again_afterwards_even_after_an_error():
    with pytest.raises(ZeroDivisionError), rebuilt("quickstart", ScaleAwareAttention=Mine):
        assert dyhead.ScaleAwareAttention is Mine
        raise ZeroDivisionError
    assert dyhead.ScaleAwareAttention is library.ScaleAwareAttention is ScaleAwareAttention


def test_functions_are_replaced_while_the_block_runs(picture):
    seen = []

    def mean_of_branches(branches, weights=None):
        seen.append(len(branches))
        return library_function(branches) if weights is None else library_function(branches, weights)

    library_function = library.mean_of_branches
    with torch.no_grad(), rebuilt("quickstart", mean_of_branches=mean_of_branches) as model:
        model([picture])
    assert seen and library.mean_of_branches is library_function


class Wider(Mine):
    def __init__(self, channels):
        super().__init__(channels + 16)


@pytest.mark.parametrize(
    ("replacements", "error", "message"),
    [
        ({"ScaleAwareAttention": Wider}, UserError, "size mismatch"),
        ({"NoSuchThing": Mine}, ValueError, "no class or function of that name"),
        ({"DeformableEncoderLayer": Mine}, ValueError, "not made of it"),
    ],
)
def test_what_proves_nothing_is_refused(replacements, error, message):
    import dyhead_lab.detectors.detr.deformable_transformer  # noqa: F401  # a name that quickstart does not use

    with pytest.raises(error, match=message), rebuilt("quickstart", **replacements):
        pass


def test_the_detector_has_the_same_ap_on_the_readers_class_and_another_one_on_a_wrong_class():
    class Wrong(Mine):
        def gates(self, branches):
            return super().gates(branches).flip(1)

    verdict = check_same_ap("quickstart", 10, ScaleAwareAttention=Mine)
    assert verdict and "on the library's" in verdict.message
    verdict = check_same_ap("quickstart", 10, ScaleAwareAttention=Wrong)
    assert not verdict and "The weights fit, but on ScaleAwareAttention AP is" in verdict.message
    assert "do not fit" in check_same_ap("quickstart", 1, TaskAwareAttention=Mine).message


def test_a_class_of_another_package_that_the_library_uses_can_be_the_readers():
    class Pyramid(FeaturePyramidNetwork):
        pass

    assert check_same_ap("quickstart", 2, FeaturePyramidNetwork=Pyramid)


def test_so_far_counts_each_parameter_once_and_measures_ap():
    class Head(dyhead.DyHead):
        pass

    found = so_far("quickstart", 10, ScaleAwareAttention=Mine, DyHead=Head)
    scale, head = found.parts
    assert (scale.name, scale.times, scale.parameters) == ("ScaleAwareAttention", 1, 65)
    assert found.built == head.parameters > 65, "the gate is a part of the head"
    assert 0.2 < found.ap < 0.7 and found.ap == pytest.approx(shapes_ap(load_trained("quickstart").model, 10))
    assert "Your detector so far" in repr(found) and "AP 0." in found._repr_html_()
