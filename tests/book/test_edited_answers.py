"""Answers as readers write them: one edit of the book's gets the name of its mistake, another style is right.

The tests of the checks hand back what each ``Mistake`` imitates; here the code itself is wrong, as a reader's would be.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module

import pytest

from dyhead_book import build, editions
from dyhead_book.practice.reader_checks import Verdict

from .definitions import definitions

INSIDE = "if 0 <= row < H and 0 <= column < W:"
WRAPS = "if row < H and column < W:"
GATES = "gates_Bn = (self.gate(means_BnC).squeeze(-1).relu() + 3).clamp(0, 6) / 6"
AREA = "return float(np.append(best_from_here, 0)[position].mean())"
COSINE = "0.5 * (1 + math.cos(math.pi * (step - warmup) / (iterations - warmup)))"
FIRST_GROUP = "all channels take the offsets and masks of the first offset group"
ELSEWHERE = "a row or column below zero is counted from the other end"
CENTRE_AND_SIZE = "the boxes are read as centre x, centre y, width, height"
TRAPEZOID, STEPS = "the area is taken by the trapezoidal rule", "the exact area below the curve is taken"

#: Chapter, exercise, what stands in its answer and what is written instead, and the name of the mistake.
EDITS = [
    ("01", "iou", ["low = ", "a_n4, b_m4 = (np.c_[x[:, :2] - x[:, 2:] / 2, x[:, :2] + x[:, 2:] / 2] "
                   "for x in (a_n4, b_m4))\n    low = "], CENTRE_AND_SIZE),
    ("01", "assign", ["x1, y1, x2, y2 = boxes_M4.T", "x1, y1, x2, y2 = np.c_[boxes_M4[:, :2] - boxes_M4[:, 2:] / 2, "
                      "boxes_M4[:, :2] + boxes_M4[:, 2:] / 2].T"], CENTRE_AND_SIZE),
    ("01", "ap", [AREA, "return np.trapezoid(precision, recall)"], TRAPEZOID),
    ("01", "ap", [AREA, "return np.trapezoid(best_from_here, recall)"], TRAPEZOID),
    ("01", "ap", [AREA, "return np.trapezoid(np.r_[1, precision], np.r_[0, recall])"], TRAPEZOID),
    ("01", "ap", [AREA, "return (np.diff(recall, prepend=0) * best_from_here).sum()"], STEPS),
    ("01", "ap", [AREA, "return (np.diff(recall, prepend=0) * precision).sum()"],
     "each precision counts as much as the recall that it adds"),
    ("01", "ap", ["0, 1, 101", "0, 1, 11"], "the precision is read at 11 recalls"),
    ("02", "module", [GATES, "gates_Bn = self.gate(means_BnC).squeeze(-1).sigmoid()"],
     "the plain sigmoid stands in the place of both functions"),
    ("02", "module", [GATES, f"{GATES}\n        gates_Bn = gates_Bn / gates_Bn.sum(1, keepdim=True)"],
     "the gates are divided by their sum"),
    ("02", "module", ["X.mean((2, 3))", "X.mean((1, 2, 3))"], "the mean runs over the channels as well"),
    ("03", "bilinear", [INSIDE, "if True:", "image_HW[row, column]", "image_HW[np.clip(row, 0, H - 1), "
                        "np.clip(column, 0, W - 1)]"], "a position outside reads the border instead of zero"),
    ("03", "bilinear", [INSIDE, WRAPS], ELSEWHERE),
    ("03", "loops", ["g = c // (C // G)", "g = 0"], FIRST_GROUP),
    ("03", "loops", ["first = o // (Co * C_group // C) * C_group", "first = 0"],
     "every group of the convolution reads the first channels of the input"),
    ("03", "loops", ["18 * g + 2 * k, i", "18 * g + k, i", "18 * g + 2 * k + 1", "18 * g + 9 + k"],
     "the offsets are read as all dy first, then all dx"),
    ("03", "kernel", ["offset, b, g,", "offset, b, 0,", "mask[b, 9 * g + k", "mask[b, k"], FIRST_GROUP),
    ("03", "kernel", ["first = c // C_group * Co_group", "first = 0"],
     "every channel feeds the outputs of the first group of the convolution"),
    ("03", "kernel", ["range(first, first + Co_group)", "range(Co)"],
     "every channel feeds all outputs, whatever its group of the convolution"),
    ("03", "kernel", [INSIDE, WRAPS], ELSEWHERE),
    ("03", "backward", ["d_input[b, c, row, column] +=", "d_input[b, c, row, column] ="],
     "the gradient of the input is assigned, not added to"),
    ("03", "backward", ["k // 3, k % 3] +=", "k // 3, k % 3] ="],
     "the gradient of the weight is assigned, not added to"),
    ("03", "backward", ["9 * g + k, i, j] +=", "9 * g + k, i, j] ="],
     "the gradient of the masks is assigned, not added to"),
    ("03", "backward", ["d_offset[b, dy, i, j] +=", "d_offset[b, dy, i, j] =",
                        "d_offset[b, dy + 1, i, j] +=", "d_offset[b, dy + 1, i, j] ="],
     "the gradient of the offsets is assigned, not added to"),
    ("03", "backward", [INSIDE, WRAPS], ELSEWHERE),
    ("05", "where", ["y[:, :18], ", "y[:, :18].unflatten(1, (2, 9)).transpose(1, 2).flatten(1, 2), "],
     "all dy come before all dx"),
    ("08", "focal_loss", ["targets * alpha + (1 - targets) * (1 - alpha)",
                          "targets * (1 - alpha) + (1 - targets) * alpha"], "alpha is exchanged"),
    ("08", "giou_loss", [" + (hull - union) / (hull + tiny)", ""], "IoU stands for GIoU"),
    ("10", "loops", ["level_start_index[l] + ", ""], "every level is read from the first token on"),
    ("10", "loops", ["out[b, q, m] +=", "out[b, q, m] ="], "only the last cell of the last point is kept"),
    ("10", "backward", ["level_start_index[l] + ", ""], "every level is read from the first token on"),
    ("10", "backward", ["grad_value[b, token, m] +=", "grad_value[b, token, m] ="],
     "the last sample that reads a cell overwrites the others"),
    ("10", "backward", ["grad_locations[b, q, m, l, p] +=", "grad_locations[b, q, m, l, p] ="],
     "the gradient of the locations is assigned, not added to"),
    ("10", "backward", ["grad_weights[b, q, m, l, p] +=", "grad_weights[b, q, m, l, p] ="],
     "the gradient of the weights is assigned, not added to"),
    ("10", "operator", ["start : start + H * W", ": H * W"], "every level is read from the first token on"),
    ("11", "assign", ["query[object.argsort()]", "query"], "SciPy's rows are returned as they come"),
    ("11", "cost", ["cxcywh_to_xyxy(boxes_Q4)", "boxes_Q4", "cxcywh_to_xyxy(objects_G4)", "objects_G4"],
     "GIoU reads (cx, cy, w, h) as two corners"),
    ("11", "cost", ["0.25 *", "alpha *", "0.75 *", "0.25 *", "alpha *", "0.75 *"], "alpha is exchanged"),
    ("11", "loss", ["alpha=0.25", "alpha=0.75"], "alpha is exchanged"),
    ("12", "map", ["starts_L[l] + ", ""], "all levels start at token 0"),
    ("12", "map", ["dam_N[token] +=", "dam_N[token] ="], "every point overwrites what was there"),
    ("12", "map", [INSIDE, WRAPS], "a row or column below zero is looked up all the same"),
    ("12", "keep", ["(valid_B * rho).long() + 1", "(valid_B * rho).ceil().long()"], "the budget is ceil(rho N)"),
    ("13", "cosine_factor", [COSINE, "0.1 ** ((3 * step >= 2 * iterations) + (9 * step >= 8 * iterations))"],
     "the rate falls in the steps of the official recipes"),
    ("13", "cosine_factor", [COSINE, "0.1 if 5 * step >= 4 * iterations else 1.0"],
     "the rate falls in one step, as in the official recipes of DETR's family"),
    ("14", "taps", ["offset_18HW[0::2]", "offset_18HW[:9]", "offset_18HW[1::2]", "offset_18HW[9:]"],
     "all dy are expected before all dx"),
    ("14", "heat", [INSIDE, WRAPS], ELSEWHERE),
    ("14", "heat", ["heat_HW[row, column] +=", "heat_HW[row, column] ="], "a later point replaces an earlier one"),
]  # fmt: skip
#: The same on arrays of indices, in which a place may stand more than once.
VECTORISED = [
    ("12", "map", "a token that several points read gets the weight of one of them", """
def attention_map_loops(locations_QMLP2, weights_QMLP, shapes_L2, starts_L):
    dam_N = np.zeros(shapes_L2.prod(1).sum())
    for l, (H, W) in enumerate(shapes_L2):
        corner = np.floor(locations_QMLP2[:, :, l] * (W, H) - 0.5).astype(int)
        part = locations_QMLP2[:, :, l] * (W, H) - 0.5 - corner
        for right, below in ((0, 0), (1, 0), (0, 1), (1, 1)):
            column, row = corner[..., 0] + right, corner[..., 1] + below
            share = abs(1 - right - part[..., 0]) * abs(1 - below - part[..., 1]) * weights_QMLP[:, :, l]
            inside = (row >= 0) & (row < H) & (column >= 0) & (column < W)
            dam_N[(starts_L[l] + row * W + column)[inside]] += share[inside]
    return dam_N
"""),
    ("14", "heat", "a cell that several points read gets the weight of one of them", """
def heat_map(positions_n2, weights_n, H, W):
    heat_HW = np.zeros((H, W))
    corner = np.floor(positions_n2 * (W, H) - 0.5).astype(int)
    part = positions_n2 * (W, H) - 0.5 - corner
    for right, below in ((0, 0), (1, 0), (0, 1), (1, 1)):
        column, row = corner[:, 0] + right, corner[:, 1] + below
        share = abs(1 - right - part[:, 0]) * abs(1 - below - part[:, 1]) * weights_n
        inside = (row >= 0) & (row < H) & (column >= 0) & (column < W)
        heat_HW[row[inside], column[inside]] += share[inside]
    return heat_HW
"""),
]  # fmt: skip


cells_of = cache(definitions)


def verdict_on(number: str, name: str, change) -> Verdict:  # type: ignore[no-untyped-def]
    """What the chapter says of its own answer after ``change``, a function of its text."""
    [source] = [source for source in build.chapters() if build.title(source).startswith(number)]
    [exercise] = [one for one in editions.exercises(build.read_source(source)) if one.name == name]
    cells = dict(cells_of(build.title(source)))
    exec(compile(change(exercise.answer), f"<chapter {number}, {name}>", "exec"), cells)
    return eval(exercise.check, cells)


def edited(edits: list[str]):  # type: ignore[no-untyped-def]
    def change(text: str) -> str:
        for old, new in zip(edits[::2], edits[1::2], strict=True):
            assert old in text, f"the answer has no {old!r}"
            text = text.replace(old, new)
        return text

    return change


@pytest.mark.parametrize(("number", "name", "edits", "mistake"), EDITS)
def test_an_answer_with_one_edit_is_told_its_mistake(number, name, edits, mistake):
    verdict = verdict_on(number, name, edited(edits))
    assert not verdict and f"when {mistake}." in " ".join(verdict.message.split()), verdict.message


@pytest.mark.parametrize(("number", "name", "mistake", "answer"), VECTORISED)
def test_additions_that_meet_in_one_statement_are_told(number, name, mistake, answer):
    verdict = verdict_on(number, name, lambda _: answer)
    assert not verdict and f"when {mistake}." in " ".join(verdict.message.split()), verdict.message


def other_styles() -> list[tuple[str, str, str]]:
    """Chapter, exercise and text of every right answer in another style; the workbooks are run with them, too."""
    found = []
    for source in build.chapters():
        if (source.parent / "other_styles.py").is_file():
            styles = import_module(f"dyhead_book.{source.parent.name}.other_styles").OTHER_STYLES
            found += [(build.title(source)[:2], name, text) for name, text in styles.items()]
    return found


@pytest.mark.parametrize(("number", "name", "answer"), other_styles(), ids=lambda part: part[:20].strip())
def test_a_right_answer_in_another_style_is_right(number, name, answer):
    assert verdict_on(number, name, lambda _: answer)


@pytest.mark.parametrize("source", build.chapters(), ids=build.title)
def test_every_workbook_has_an_answer_in_another_style(source):
    if editions.exercises(build.read_source(source)):
        assert (source.parent / "other_styles.py").is_file()


@pytest.mark.parametrize(("number", "name"), sorted({edit[:2] for edit in EDITS}))
def test_the_answers_without_an_edit_are_right(number, name):
    assert verdict_on(number, name, lambda text: text)
