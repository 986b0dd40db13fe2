"""Checks of what a page offers to people who do not use a mouse or do not see well, run inside the page."""

from __future__ import annotations

from typing import Any

#: Smallest contrast of text on its background (WCAG 2.2, success criterion 1.4.3).
LEAST_CONTRAST = 4.5

PROBLEMS = """(root, least) => {
  const channels = (colour) => (colour.match(/[\\d.]+/g) ?? []).map(Number);
  const luminance = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const background = (element) => {
    for (let e = element; e; e = e.parentElement ?? e.getRootNode().host) {
      const colour = channels(getComputedStyle(e).backgroundColor);
      if (colour.length === 3 || colour[3] > 0.99) return colour;
    }
    return [255, 255, 255];
  };
  const name = (e) => e.getAttribute("aria-label") || e.textContent.trim() || e.labels?.[0]?.textContent.trim();
  const problems = [];
  const controls = "button, select, input, [role=radio], [role=application], [role=img], [tabindex]";
  for (const e of root.querySelectorAll(controls)) {
    if (!name(e)) problems.push(`${e.tagName}.${e.getAttribute("class")} has no name`);
    if (Number(e.getAttribute("tabindex")) > 0) problems.push(`${e.tagName} breaks the order of the focus`);
  }
  for (const e of root.querySelectorAll("p, h4, output, figcaption, option:checked, button, text")) {
    if (!e.textContent.trim() || e.closest("[aria-hidden=true]") || e.disabled) continue;
    const style = getComputedStyle(e);
    const drawn = e.tagName === "text";
    if (drawn && style.stroke !== "none") continue; // outlined, on a picture
    const [a, b] = [luminance(channels(drawn ? style.fill : style.color)), luminance(background(e))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < least) problems.push(`"${e.textContent.trim().slice(0, 30)}" has contrast ${contrast.toFixed(1)}`);
  }
  return [...new Set(problems)];
}"""


def problems(widget: Any) -> list[str]:
    """What is wrong with an element: controls without a name, a broken focus order, text of low contrast."""
    return widget.evaluate(f"(root) => ({PROBLEMS})(root, {LEAST_CONTRAST})")
