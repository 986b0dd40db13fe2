import io

import numpy as np
import pytest
import traitlets
from PIL import Image

from dyhead_lab.ops.native import Access
from dyhead_lab.views.figures import Picture
from dyhead_lab.views.kernel_memory import MemorySteps, atomics_figure, instructions, lines_touched, warp_figure


def access(thread, operation, buffer, index, count=1):
    return Access(thread, operation, buffer, index, count, value=0.5, launch=0)


WARP = [access(lane, "read", "input", 64 * n + lane) for lane in range(32) for n in range(2)]


def test_instructions_are_what_all_threads_do_at_once():
    assert instructions(WARP, "input").tolist() == [list(range(32)), list(range(64, 96))]


def test_threads_that_do_not_run_together_have_no_instructions():
    with pytest.raises(ValueError, match=r"threads make \[1, 2\] accesses \(read\) to 'input'"):
        instructions(WARP[1:], "input")
    with pytest.raises(ValueError, match="threads make no accesses"):
        instructions(WARP, "weight")


@pytest.mark.parametrize(
    ("addresses", "element_bytes", "lines"),
    [
        (np.arange(32), 4, 1),
        (np.arange(32) + 16, 4, 2),
        (np.arange(32), 8, 2),
        (np.arange(32) * 32, 4, 32),
        (np.zeros(32, int), 4, 1),
    ],
)
def test_lines_of_128_bytes_are_counted(addresses, element_bytes, lines):
    assert lines_touched(addresses[None], element_bytes).tolist() == [lines]


def test_the_figures_are_drawn_and_say_their_numbers():
    figure = warp_figure({"a warp": instructions(WARP, "input")}, instruction=1)
    assert figure.axes[0].get_title() == "a warp: 1 lines of 128 bytes"
    additions = [access(thread, "atomic_add", "grad_input", index) for thread, index in ((0, 0), (1, 0), (2, 5))]
    figure = atomics_figure([*additions, access(0, "read", "grad_input", 1)], "grad_input", (2, 3))
    assert [text.get_text() for text in figure.axes[0].texts] == ["2", "0", "0", "0", "0", "1"]


def test_steps_stay_in_range_and_a_picture_stands_beside_the_widget():
    steps = MemorySteps([access(0, "read", "input", 2), access(0, "write", "output", 0)], {"input": (2, 3)})
    steps.step = 1
    with pytest.raises(traitlets.TraitError, match="step: got 2"):
        steps.step = 2
    data, metadata = steps._repr_mimebundle_()
    assert "image/png" in data and "application/vnd.jupyter.widget-view+json" in data
    assert "2 accesses of 1 thread" in metadata["image/png"]["alt"]
    with pytest.raises(ValueError, match="accesses: got none"):
        MemorySteps([], {})


def test_sampling_figures_draw():
    import torch

    from dyhead_book.c03_deformable_convolution.sampling_figures import four_pixels_figure, taps_figure

    image = np.random.default_rng(0).uniform(size=(4, 5))
    weights = [text.get_text() for text in four_pixels_figure(image, 1.25, 2.5).axes[0].texts]
    assert sorted(weights) == ["0.12", "0.12", "0.38", "0.38"]
    with pytest.raises(ValueError, match="expected a position inside"):
        four_pixels_figure(image, 3.5, 0)
    offset = torch.zeros(18, 6, 6)
    offset[8] = 1.0  # dy of the centre tap, in cells of 8 pixels
    figure = taps_figure(torch.rand(3, 48, 48), offset, torch.ones(9, 6, 6), stride=8, cells=[(2, 3), (0, 0)])
    centre = figure.axes[0].collections[0].get_offsets()[4]
    assert centre.tolist() == [3.5 * 8, 3.5 * 8]
    assert Image.open(io.BytesIO(Picture(figure, "taps").png)).size == (640, 320)
