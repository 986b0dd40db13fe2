"""The page of ``dyhead-lab look``, opened from disk: by mouse and by keyboard, at every panel, in both themes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from dyhead_lab.data.shapes import draw_image
from dyhead_lab.views.look import look
from dyhead_lab.zoo import Trained, get

from .accessibility import problems

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


@pytest.fixture(scope="module")
def image():
    return torch.from_numpy(draw_image(2026, 3)[0]).permute(2, 0, 1) / 255


def opened(new_page, view, path):
    view.page(path)
    page = new_page()
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto(path.as_uri())
    return page


def test_a_dynamic_head_is_asked_object_by_object(new_page, image, tmp_path):
    view = look(image, "quickstart")
    page = opened(new_page, view, tmp_path / "look.html")
    root = page.locator(".dyhead-look")
    assert root.bounding_box()["height"] <= 800, "all of it is seen at once"
    assert problems(root) == []
    objects = page.locator(".lk-object")
    assert objects.count() == len(view.scene["objects"])

    def dots():
        return [dot.get_attribute("cx") for dot in page.locator(".lk-dot").all()]

    before = dots()
    assert len(before) == 9, "nine taps"
    page.get_by_label("Layer").select_option(index=5)
    assert dots() != before
    objects.first.focus()
    first = dots()
    names = [entry["name"] for entry in view.scene["objects"]]
    assert page.locator(".lk-picked").inner_text().startswith(f"Chosen: {names[0]} ")
    page.keyboard.press("ArrowRight")
    words = page.locator(".lk-picked").inner_text()
    x1 = round(view.scene["objects"][1]["box"][0] * 160)
    assert words.startswith(f"Chosen: {names[1]} ") and f"x from {x1} to" in words and "query" not in words
    assert objects.nth(1).get_attribute("aria-checked") == "true" and dots() != first
    told = view.scene["panels"][0]["layers"][5]["looks"][1]["points"]
    assert [float(x) for x in dots()] == pytest.approx([x * 160 for x, *_ in told])
    page.get_by_text("Scale gates").click()
    gates = view.scene["panels"][1]["blocks"][0]
    shown = [float(text) for text in page.locator(".lk-gate span:last-child").all_inner_texts()]
    assert shown == [round(gate, 2) for level in gates for gate in level]
    page.get_by_text("Task-aware lines").click()
    assert page.locator(".lk-curve").count() == page.locator(".lk-at").count() == 6 * len(gates)

    def told():
        return [figure.get_attribute("aria-label") for figure in page.locator(".lk-curves svg").all()]

    of_second = told()
    objects.nth(1).focus()
    page.keyboard.press("ArrowRight")
    assert told() != of_second, "coefficients belong to the object"
    page.emulate_media(color_scheme="dark")
    assert problems(root) == []


def test_the_slider_of_a_sparse_detector_redraws_tokens_and_objects(new_page, image, tmp_path):
    view = look(image, "sparse_detr_tiny", threshold=0.2)
    page = opened(new_page, view, tmp_path / "sparse.html")
    page.get_by_text("Kept tokens").click()
    assert "rho 1:" in page.locator(".lk-numbers").inner_text()
    page.get_by_label("Ratio").focus()
    page.keyboard.press("Home")
    step = view.scene["panels"][-1]["steps"][0]
    assert f"rho {step['rho']}: {step['kept']} of {step['tokens']}" in page.locator(".lk-numbers").inner_text()
    assert page.locator(".lk-object").count() == len(step["boxes"])
    assert page.locator(".lk-cells").count() == len(step["levels"])
    kept = page.locator(".lk-cells").first.get_attribute("href")
    page.get_by_label("Show").select_option(label="decoder attention map")
    assert page.locator(".lk-cells").first.get_attribute("href") != kept


def test_dense_attention_is_drawn_over_the_image(new_page, image, tmp_path):
    view = look(image, "detr_tiny", threshold=0.05)
    page = opened(new_page, view, tmp_path / "dense.html")
    assert page.locator(".lk-cells").count() == 1
    query = view.scene["objects"][0]["query"]
    assert f"found by object query {query}. Its box: x from" in page.locator(".lk-picked").inner_text()
    before = page.locator(".lk-cells").get_attribute("href")
    page.get_by_label("Layer").select_option(label="decoder layer 3")
    assert page.locator(".lk-cells").get_attribute("href") != before
    page.screenshot(path=str(tmp_path / "dense.png"))


class AtEveryEdge(nn.Module):
    """Finds a box in each corner of an image, one in its middle and one that reaches beyond it, all of one class."""

    def forward(self, images):
        (image,) = images
        h, w = image.shape[1:]
        shares = [
            [0, 0, 0.2, 0.2],
            [0.9, 0, 1, 0.1],
            [0, 0.98, 1, 1],
            [0.97, 0.97, 1, 1],
            [0.4, 0.4, 0.6, 0.6],
            [-0.3, -0.3, 2, 2],
        ]
        boxes = torch.tensor(shares) * torch.tensor([w, h, w, h])
        return [{"boxes": boxes, "scores": torch.full((6,), 0.9), "labels": torch.zeros(6, dtype=torch.long)}]


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("white blood cell (basophil)", (480, 640)),
        ("a class " * 50, (480, 640)),
        ("\u732b" * 40, (480, 640)),
        ("MMMMMMMM", (640, 90)),
        ("person", (1, 300)),
        ("person", (300, 1)),
    ],
)
def test_every_label_can_be_read_whole(new_page, tmp_path, name, size):
    trained = Trained(AtEveryEdge(), get("quickstart"), [name], Path("own.pt"))
    page = opened(new_page, look(torch.full((3, *size), 0.5), trained), tmp_path / "edges.html")
    outside = page.evaluate(
        """() => {
          const svg = document.querySelector(".lk-image"), { x, y, width, height } = svg.viewBox.baseVal;
          return [...svg.querySelectorAll(".lk-object text")].map((text) => text.getBBox())
            .map((box) => [x - box.x, y - box.y, box.x + box.width - x - width, box.y + box.height - y - height]);
        }"""
    )
    assert len(outside) == 6
    slack = 0.01 * max(size)  # of an image, below the line that letters stand on
    assert all(beyond <= slack for sides in outside for beyond in sides), outside
    assert page.locator(".lk-object").first.get_attribute("aria-label") == f"{name} 0.90"
    page.close()
