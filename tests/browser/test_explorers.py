"""Every explorer in JupyterLab by mouse and keyboard, in both themes, with names and contrast."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from .accessibility import problems
from .explorers import EXPLORERS, shown, wait_for_change
from .lab import keep_screenshot, set_theme

pytestmark = [pytest.mark.browser, pytest.mark.notebook, pytest.mark.xdist_group("browser")]


def test_sampling_points_answer_mouse_and_keyboard(page):
    widget = shown(page, "points")
    says = widget.locator(".sp-says").first
    before = says.inner_text()
    box = widget.locator(".sp-view image").bounding_box()
    page.mouse.click(box["x"] + 0.2 * box["width"], box["y"] + 0.8 * box["height"])
    clicked = wait_for_change(page, widget, ".sp-says >> nth=0", before)
    here = widget.locator(".sp-here")
    place = here.get_attribute("d")
    widget.locator(".sp-view").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("d => document.querySelector('.sp-here').getAttribute('d') !== d", arg=place)
    assert "weight" in clicked
    widget.locator(".sp-corners").focus()
    for _ in range(4):
        page.keyboard.press("ArrowDown")
    page.wait_for_function("() => document.querySelector('.sp-right').textContent.includes('Moving this one point')")
    reset = widget.get_by_role("button", name="Put the point back")
    reset.click()
    page.wait_for_function("() => document.querySelector('.sp-right button').disabled")


def test_a_point_can_be_dragged(page):
    widget = shown(page, "points")
    chosen, image = widget.locator(".sp-point.chosen"), widget.locator(".sp-view image")
    box, cx = chosen.bounding_box(), float(chosen.get_attribute("cx"))
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 40, y + 10, steps=4)
    page.mouse.up()
    page.wait_for_function("() => document.querySelector('.sp-right').textContent.includes('Moving this one point')")
    pixels_each = image.bounding_box()["width"] / float(image.get_attribute("width"))
    assert (float(chosen.get_attribute("cx")) - cx) * pixels_each == pytest.approx(40, abs=2)
    widget.get_by_role("button", name="Put the point back").click()
    page.wait_for_function("() => document.querySelector('.sp-right button').disabled")


@pytest.mark.parametrize(("kind", "by"), [("CSV", "mouse"), ("npz", "keyboard"), ("SVG", "mouse")])
def test_a_button_saves_the_points_as_a_file(page, kind, by):
    widget = shown(page, "points")
    button = widget.get_by_role("button", name=f"Save as {kind}")
    with page.expect_download() as arrived:
        if by == "mouse":
            button.click()
        else:
            button.focus()
            page.keyboard.press("Enter")
    name, content = arrived.value.suggested_filename, arrived.value.path().read_bytes()
    drawn = widget.locator(".sp-point").count()
    assert name.startswith("sampling_points_layer3_place") and name.endswith(f".{kind.lower()}")
    assert f"Saved as {name}." in widget.inner_text()
    if kind == "CSV":
        rows = list(csv.DictReader(io.StringIO(content.decode())))
        says = widget.locator(".sp-says").first.inner_text()  # of one of the points
        assert len(rows) == drawn and any(f"weight {float(row['weight']):.3f}" in says for row in rows)
    elif kind == "npz":
        arrays = np.load(io.BytesIO(content))
        assert len(arrays["weights"]) == drawn == len(arrays["read"])
    else:
        assert content.startswith(b"<?xml") and b"</svg>" in content


def test_task_pieces_answer_mouse_and_keyboard(page):
    widget = shown(page, "pieces")
    before = widget.locator(".tp-says").inner_text()
    widget.locator("input[type=range]").focus()
    page.keyboard.press("ArrowRight")
    second = wait_for_change(page, widget, ".tp-says", before)
    widget.get_by_label("Level").select_option("P6")
    third = wait_for_change(page, widget, ".tp-says", second)
    widget.locator(".tp-dot").nth(20).dispatch_event("click")
    wait_for_change(page, widget, ".tp-says", third)


def test_fewer_tokens_are_outlined_when_rho_falls(page):
    widget = shown(page, "tokens")
    before = widget.locator(".st-says").inner_text()
    kept = widget.locator(".st-cell.kept").count()
    widget.locator("input[type=range]").focus()
    page.keyboard.press("ArrowLeft")
    after = wait_for_change(page, widget, ".st-says", before)
    assert 0 < widget.locator(".st-cell.kept").count() < kept
    assert "53 of 525 tokens" in after
    assert widget.locator(".st-dot.corr").count() == 2, "the chart keeps both ratios"
    slider = widget.locator("input[type=range]").bounding_box()
    page.mouse.click(slider["x"] + slider["width"] - 3, slider["y"] + slider["height"] / 2)
    assert "525 of 525 tokens" in wait_for_change(page, widget, ".st-says", after)


def test_a_bar_of_the_scale_explorer_opens_its_images_by_mouse_and_keyboard(page):
    widget = shown(page, "bars")
    bars, images = widget.locator(".se-bar"), widget.locator(".se-gallery img")
    widget.locator(".se-cell").last.click()  # P6
    widget.get_by_text("The chosen images stand where").wait_for()
    for by in ("mouse", "keyboard"):
        if by == "mouse":
            bars.last.click()
        else:
            page.keyboard.press("ArrowLeft")  # the focus stands on the bar that was chosen
        chosen = widget.locator(".se-bar[aria-checked=true]")
        chosen.wait_for()
        name = chosen.get_attribute("aria-label")
        count = int(name.split(": ")[1].split()[0])
        widget.get_by_text(f"Chosen: {count} of 12 images").wait_for()
        assert images.count() == count
        assert name.split(":")[0] in widget.locator(".se-says").inner_text()
    kept = [image.get_attribute("alt") for image in images.all()]
    widget.get_by_label("What is measured").select_option("gate of the finer branch")
    widget.locator(".se-cell").first.click()
    widget.get_by_text("Block 1, P3 has no such branch.").wait_for()
    assert [image.get_attribute("alt") for image in images.all()] == kept, "the images stay chosen"


def test_a_thread_of_the_kernel_is_stepped_by_keyboard_and_mouse(page):
    widget = shown(page, "steps")
    says = widget.locator(".ms-says")
    assert says.inner_text().startswith("Thread 14 reads weight[0]")
    assert widget.locator(".ms-cell.read").count() == 0
    slider = widget.locator("input[type=range]")
    slider.focus()
    for _ in range(6):  # two offsets, then the four pixels
        page.keyboard.press("ArrowRight")
    assert "reads input[" in says.inner_text()
    assert widget.locator(".ms-cell.read").count() == 4
    box = slider.bounding_box()
    page.mouse.click(box["x"] + box["width"] - 3, box["y"] + box["height"] / 2)
    assert "writes output[" in says.inner_text()


def test_buttons_of_the_switchboard_answer_keyboard_and_mouse(page):
    widget = shown(page, "board")
    scale, spatial = (widget.get_by_role("button", name=f"{name}: on") for name in ("scale", "spatial"))
    assert widget.get_by_alt_text("switched off: nothing").bounding_box()["width"] == 400
    scale.focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "spatial: on"
    page.keyboard.press("Space")
    widget.get_by_alt_text("switched off: spatial").wait_for()
    assert spatial.count() == 0, "the button says its state"
    scale.click()
    widget.get_by_alt_text("switched off: scale, spatial").wait_for()


def test_a_recorded_training_plays_by_keyboard_and_mouse(page):
    widget = shown(page, "curves")
    slider = widget.get_by_role("slider", name="Iteration")
    slider.focus()
    page.keyboard.press("Home")
    loss = widget.locator(".live-picture").first
    assert loss.get_attribute("aria-label").startswith("Loss up to iteration 0: sum none yet")
    page.keyboard.press("End")
    end = slider.get_attribute("max")
    assert f"up to iteration {end}" in loss.get_attribute("aria-label")
    widget.get_by_role("button", name="Play").click()  # from the start, as it stands at the end
    widget.get_by_role("button", name="Pause").click()
    assert f"up to iteration {end}" not in loss.get_attribute("aria-label")


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_everything_has_a_name_and_can_be_read(page, theme):
    set_theme(page, theme)
    for name in EXPLORERS:
        widget = shown(page, name)
        keep_screenshot(page, f"{name}-{theme.lower()}")
        assert problems(widget) == [], name


#: What JupyterLab leaves of a window of 800 pixels' height for the notebook: its menu, tabs and toolbar take the rest.
ROOM = 660


@pytest.mark.parametrize("name", [name for name in EXPLORERS if name not in ("board", "curves")])
def test_an_explorer_opens_with_what_to_look_for_and_fits_a_window(page, name):
    widget = shown(page, name)
    opening = widget.locator(".explorer-opening")
    assert opening.locator("h3").inner_text() and len(opening.locator("p").inner_text().split()) > 10
    assert widget.locator(".explorer-legend li").count() >= 2
    assert widget.bounding_box()["height"] <= ROOM
