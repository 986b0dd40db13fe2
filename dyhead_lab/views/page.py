"""An explorer as one HTML file: it opens from disk, without Python and without a network."""

from __future__ import annotations

import html
import json
from pathlib import Path

import anywidget

from ..training.checkpoint import write_whole
from .explorer import Explorer

#: What the JavaScript of an explorer finds in the place of Jupyter's model: values that only the page changes.
MODEL = """
const values = JSON.parse(document.getElementById("values").textContent);
const listeners = [];
const model = {
  get: (name) => values[name],
  set: (name, value) => { values[name] = value; },
  save_changes: () => listeners.forEach((listener) => listener()),
  on: (event, listener) => listeners.push(listener),
  off: (event, listener) => listeners.splice(listeners.indexOf(listener), 1),
};
"""
#: Colours where no JupyterLab gives them.
THEME = """
body { margin: 0; padding: 16px; background: #fff; font-family: system-ui, sans-serif; }
@media (prefers-color-scheme: dark) {
  body { background: #111; --jp-content-font-color1: #eee; --jp-content-font-color2: #aaa; --jp-border-color2: #444;
    --jp-layout-color1: #1b1b1b; --jp-layout-color2: #262626; --jp-brand-color1: #64b5f6; }
}
"""


def page_of(explorer: Explorer, title: str) -> str:
    """The text of the page.

    Args:
        explorer: one that needs nothing from Python once it is made: it names no ``asks``.
        title: of the page.

    Raises:
        ValueError: Python computes what the explorer draws.
    """
    if explorer.asks:
        raise ValueError(f"{type(explorer).__name__} asks Python for {', '.join(explorer.asks)}: no page can answer")
    shared = {"answer", *anywidget.AnyWidget.class_trait_names(sync=True)}
    names = [name for name in explorer.trait_names(sync=True) if name[0] != "_" and name not in shared]
    own = {name: getattr(explorer, name) for name in names}
    values = json.dumps(own).replace("<", "\\u003c")  # a class may be called </script>, or <!--<script>
    code = str(explorer._esm).replace("export default", "const view =")
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{html.escape(title)}</title>
<style>{THEME}{explorer._css}</style>
<main id="view"></main>
<script type="application/json" id="values">{values}</script>
<script type="module">
{code}
{MODEL}
view.render({{ model, el: document.getElementById("view") }});
</script>
</html>
"""


def write_page(explorer: Explorer, path: Path, title: str) -> None:
    """Write :func:`page_of` to a file.

    Raises:
        UserError: it cannot be written.
    """
    write_whole(path, page_of(explorer, title).encode())
