"""Every selector of every explorer, one choice after the other: what is shown is what is chosen, here and in Python."""

from __future__ import annotations

import functools
import time
from itertools import product

import pytest

from .conftest import Explored
from .explorers import ASK, shown, state
from .lab import keep_screenshot

pytestmark = [pytest.mark.browser, pytest.mark.notebook, pytest.mark.xdist_group("browser")]

SET = "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input')); }"
PATIENCE = 20  # seconds until what is shown has to be what is chosen


#: Explorer -> what is chosen in it, in the order in which one choice depends on another.
CHOICES = {
    "points": ("layer", "place", "head", "chosen"),
    "queries": ("layer", "place", "head", "chosen"),
    "pieces": ("block", "level", "order", "rank"),
    "tokens": ("chosen", "visited"),
    "bars": ("measured", "block", "level", "chosen"),
    "weights": ("block", "level", "branch", "image"),
    "steps": ("step",),
}


@pytest.fixture(scope="module", autouse=True)
def left_as_they_were(explored: Explored):
    """Other tests use the same page, and begin where the explorers began."""
    before = {name: state(explored.page, name, *traits) for name, traits in CHOICES.items()}
    yield
    lines = [f"{name}.{trait} = {value!r}" for name, traits in before.items() for trait, value in traits.items()]
    explored.page.evaluate(ASK, "\n".join(lines))
    assert {name: state(explored.page, name, *traits) for name, traits in CHOICES.items()} == before


def eventually(check):
    """Try a check again while it fails: JupyterLab hands choices to a thread of the kernel, beside the one we ask."""

    @functools.wraps(check)
    def patient(*arguments, **expected):
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return check(*arguments, **expected)
            except AssertionError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)

    return patient


def assert_python_holds(expected: dict, now: dict) -> None:
    assert {name: now[name] for name in expected} == expected


def options(widget, label: str) -> list[str]:
    """Values of a select."""
    return [option.get_attribute("value") for option in widget.get_by_label(label, exact=True).locator("option").all()]


def choose(widget, label: str, value: str) -> None:
    widget.get_by_label(label, exact=True).select_option(value)


def chosen(widget, label: str) -> str:
    return widget.get_by_label(label, exact=True).input_value()


def positions(slider) -> list[int]:
    """About a dozen positions of a slider, both ends among them."""
    first, last = (int(slider.get_attribute(end)) for end in ("min", "max"))
    return sorted({*range(first, last + 1, max(1, (last - first) // 10)), last})


def chosen_radio(group) -> int:
    """Which element of a group of radios is marked, alone."""
    marked = [radio.get_attribute("aria-checked") == "true" for radio in group.all()]
    assert sum(marked) == 1
    return marked.index(True)


@eventually
def check_sampling_points(page, name: str, widget, **expected) -> dict:
    """The text, the slider, the circle that is marked and the choices of a sampling-point explorer."""
    now = state(page, name, "layer", "head", "chosen", "points", "corners", "moved")
    assert_python_holds(expected, now)
    drawn = [i for i, point in enumerate(now["points"]) if now["head"] in (-1, point[5])]
    assert now["chosen"] in drawn
    x, _, dx, dy, weight, head, _, index = now["points"][now["chosen"]]
    height, width = now["corners"]["size"]
    across, down = (f"{'−' if d < 0 else '+'}{abs(d):.2f}" for d in (dx, dy))
    says = f"Head {head + 1}, map {height} x {width}, point {index + 1}: weight {weight:.3f}, "
    assert widget.locator(".sp-says").first.inner_text() == f"{says}offset {across} across, {down} down (cells)."
    assert (chosen(widget, "Layer"), chosen(widget, "Head")) == (str(now["layer"]), str(now["head"]))
    assert widget.locator(".sp-point").count() == len(drawn)
    [marked] = widget.locator(".sp-point.chosen").all()
    pixels = float(widget.locator(".sp-view image").get_attribute("width"))
    assert float(marked.get_attribute("cx")) == pytest.approx((now["moved"] or [x])[0] * pixels)
    by_weight = sorted(drawn, key=lambda i: -now["points"][i][4])
    slider = widget.get_by_label("Point, by weight")
    assert by_weight[int(slider.input_value())] == now["chosen"]
    assert int(slider.get_attribute("max")) == len(drawn) - 1
    return now


@pytest.mark.parametrize("name", ["points", "queries"])
def test_sampling_points_show_the_layer_the_head_and_the_point_that_are_chosen(page, name):
    widget = shown(page, name)
    for layer in options(widget, "Layer"):
        choose(widget, "Layer", layer)
        check_sampling_points(page, name, widget, layer=int(layer))
        for head in options(widget, "Head"):
            choose(widget, "Head", head)
            check_sampling_points(page, name, widget, layer=int(layer), head=int(head))
    slider = widget.get_by_label("Point, by weight")
    for position in positions(slider):
        slider.evaluate(SET, position)
        assert slider.input_value() == str(position)
        check_sampling_points(page, name, widget)
    keep_screenshot(page, f"selectors-{name}")


def test_a_point_of_the_chosen_head_can_be_dragged_and_put_back(page):
    widget = shown(page, "queries")
    layer = options(widget, "Layer")[-1]
    choose(widget, "Layer", layer)
    check_sampling_points(page, "queries", widget, layer=int(layer))
    for head in options(widget, "Head")[1:]:
        choose(widget, "Head", head)
        check_sampling_points(page, "queries", widget, head=int(head), moved=[])
        box = widget.locator(".sp-point.chosen").bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + 25, y + 10, steps=3)
        page.mouse.up()
        widget.get_by_text("Moving this one point").wait_for()
        now = check_sampling_points(page, "queries", widget)
        assert now["moved"] and now["points"][now["chosen"]][5] == int(head)
        widget.get_by_role("button", name="Put the point back").click()
        widget.locator(".sp-right button:disabled").wait_for()
        check_sampling_points(page, "queries", widget, head=int(head), moved=[])


TASK_SELECTS = {"Block": "block", "Level": "level", "Order of the channels": "order"}


@eventually
def check_task_pieces(page, widget, **expected) -> None:
    now = state(page, "pieces", *TASK_SELECTS.values(), "rank", "channels", "piece")
    assert_python_holds(expected, now)
    assert all(chosen(widget, label) == str(now[trait]) for label, trait in TASK_SELECTS.items())
    channel, (slope, shift, *_) = now["channels"][now["rank"]][0], now["piece"]["lines"]
    line = f"{slope:.2f} x {'−' if shift < 0 else '+'} {abs(shift):.2f}"
    assert widget.locator(".tp-says").inner_text().startswith(f"Channel {channel}: the larger of {line} and ")
    assert widget.locator(".tp-shown").inner_text() == str(channel)
    assert widget.locator("input[type=range]").input_value() == str(now["rank"])
    dots = widget.locator(".tp-dot").count()
    assert dots in (0, len(now["channels"])) and widget.locator(".tp-dot.chosen").count() == bool(dots)


def test_task_pieces_show_the_block_level_order_and_channel_that_are_chosen(page):
    widget = shown(page, "pieces")
    for label, trait in TASK_SELECTS.items():
        for value in options(widget, label):
            choose(widget, label, value)
            check_task_pieces(page, widget, **{trait: int(value)})
    slider = widget.locator("input[type=range]")
    for position in positions(slider):
        slider.evaluate(SET, position)
        check_task_pieces(page, widget, rank=position)


@eventually
def check_sparse_tokens(page, widget, position: int) -> None:
    now = state(page, "tokens", "chosen", "rhos", "numbers")
    rho, numbers = now["rhos"][position], now["numbers"]
    assert now["chosen"] == position and numbers["rho"] == rho
    assert widget.locator(".st-shown").inner_text() == f"{100 * rho:.0f} % of the tokens"
    assert widget.locator(".st-says").inner_text().startswith(f"{numbers['kept']} of {numbers['tokens']} tokens")
    assert widget.locator(".st-cell.kept").count() == numbers["kept"]


def test_sparse_tokens_show_the_share_that_is_chosen(page):
    widget = shown(page, "tokens")
    slider = widget.locator("input[type=range]")
    for position in positions(slider):
        slider.evaluate(SET, position)
        check_sparse_tokens(page, widget, position)


@eventually
def check_scale_explorer(page, widget, **expected) -> None:
    now = state(page, "bars", "measured", "block", "level", "levels", "chosen")
    assert_python_holds(expected, now)
    assert chosen(widget, "What is measured") == now["measured"]
    assert chosen_radio(widget.locator(".se-cell")) == now["block"] * len(now["levels"]) + now["level"]
    name = f"Block {now['block'] + 1}, {now['levels'][now['level']]}"
    assert widget.locator(".se-says").inner_text().startswith(name)
    images = [image.get_attribute("alt") for image in widget.locator(".se-gallery img").all()]
    assert images == [f"image {i + 1}" for i in now["chosen"]]
    assert widget.get_by_text("Chosen: ").inner_text() == f"Chosen: {len(images)} of 12 images"


def test_the_scale_explorer_shows_the_measure_the_level_and_the_bar_that_are_chosen(page):
    widget = shown(page, "bars")
    cells, bars = widget.locator(".se-cell"), widget.locator(".se-bar")
    for measured, cell in product(options(widget, "What is measured"), range(cells.count())):
        choose(widget, "What is measured", measured)
        cells.nth(cell).click()
        assert chosen_radio(cells) == cell
        check_scale_explorer(page, widget, measured=measured)
        if bars.count():  # a level at an end has no finer or no coarser branch
            bars.last.click()
            assert chosen_radio(bars) == bars.count() - 1
            assert bars.last.get_attribute("aria-label").endswith(
                f": {widget.locator('.se-gallery img').count()} of 12 images"
            )
            assert f": {measured} " in widget.locator(".se-says").inner_text()
            check_scale_explorer(page, widget, measured=measured)


@eventually
def check_scale_weights(page, widget, **expected) -> None:
    now = state(page, "weights", "block", "level", "image", "levels", "gates", "reading")
    assert_python_holds(expected, now)
    rows = now["gates"][now["block"]][now["level"]]
    rows = rows if now["image"] < 0 else [rows[now["image"]]]
    who = "mean of 12 images" if now["image"] < 0 else f"image {now['image'] + 1}"
    ratio = sum(row[0] / row[-1] for row in rows) / len(rows)
    place = f"Block {now['block'] + 1}, {now['levels'][now['level']]}, {who}"
    assert widget.locator(".sw-says").inner_text() == f"{place}: scale ratio {ratio:.2f}."
    assert chosen_radio(widget.locator(".sw-cell")) == now["block"] * len(now["levels"]) + now["level"]
    bars = widget.locator(".sw-bar")
    bar = bars.nth(chosen_radio(bars)).get_attribute("aria-label")
    assert bar.startswith(f"{now['reading']['branch']}: gate ")
    assert float(bar.split()[-1]) == pytest.approx(now["reading"]["gate"], abs=6e-4)  # three figures of four
    assert widget.locator("input[type=range]").input_value() == str(now["image"])


def test_scale_weights_show_the_level_the_branch_and_the_image_that_are_chosen(page):
    widget = shown(page, "weights")
    cells, bars = widget.locator(".sw-cell"), widget.locator(".sw-bar")
    for cell in range(cells.count()):
        cells.nth(cell).click()
        assert chosen_radio(cells) == cell
        for bar in range(bars.count()):
            bars.nth(bar).click()
            assert chosen_radio(bars) == bar
            check_scale_weights(page, widget)
    slider = widget.locator("input[type=range]")
    for position in positions(slider):
        slider.evaluate(SET, position)
        check_scale_weights(page, widget, image=position)


@eventually
def check_memory_steps(page, widget, position: int) -> None:
    now = state(page, "steps", "step", "steps")
    thread, _, buffer, index, *_ = now["steps"][position]
    assert now["step"] == position
    assert widget.locator(".ms-counter").inner_text() == f"step {position + 1} of {len(now['steps'])}"
    says = widget.locator(".ms-says").inner_text()
    assert says.startswith(f"Thread {thread} ") and f"{buffer}[{index}]" in says


def test_the_steps_of_a_thread_show_the_access_that_is_chosen(page):
    widget = shown(page, "steps")
    slider = widget.locator("input[type=range]")
    for position in positions(slider):
        slider.evaluate(SET, position)
        check_memory_steps(page, widget, position)


@eventually
def check_switchboard(page, widget, setting: dict[str, bool]) -> None:
    assert state(page, "board", "setting")["setting"] == setting
    for name, on in setting.items():
        assert widget.get_by_role("button", name=f"{name}: {'on' if on else 'off'}").count() == 1
    off = ", ".join(name for name, on in setting.items() if not on) or "nothing"
    assert widget.locator("img").get_attribute("alt") == f"switched off: {off}"


def test_the_switchboard_shows_the_setting_of_its_buttons(page):
    widget = shown(page, "board")
    setting = state(page, "board", "setting")["setting"]
    for name in ("scale", "spatial", "scale", "task", "scale", "spatial", "scale", "task"):  # all eight settings
        widget.locator("button", has_text=f"{name}: ").click()
        setting[name] = not setting[name]
        check_switchboard(page, widget, setting)


def test_a_replayed_training_shows_the_iteration_that_is_chosen(page):
    widget = shown(page, "curves")
    slider = widget.get_by_role("slider", name="Iteration")
    for position in positions(slider):
        slider.evaluate(SET, position)
        labels = [picture.get_attribute("aria-label") for picture in widget.locator(".live-picture").all()]
        assert labels and all(f" up to iteration {position}:" in label for label in labels)
        assert widget.locator(".live-status").inner_text().startswith(f"iteration {position} of ")
