"""``look`` at a photograph of the reader's, chosen by a button in a notebook."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ipywidgets

from ..errors import UserError
from ..zoo import Trained, load_trained
from .look import look


class Upload(ipywidgets.VBox):
    """A button and what comes below it. Where no kernel runs, a sentence stands in their place."""

    def __repr__(self) -> str:
        return "Here is a button to choose a photograph of your own: run the cell."


def look_upload(weights: str | Path | Trained = "everyday", threshold: float = 0.3) -> Upload:
    """A button that takes an image file, and below it :func:`.look.look` at the last one that it took.

    Args:
        weights, threshold: as in :func:`.look.look`. The weights are loaded once.

    Raises:
        UserError: the weights cannot be read.
    """
    trained = weights if isinstance(weights, Trained) else load_trained(weights)
    button = ipywidgets.FileUpload(accept="image/*", multiple=False, description="Choose a photograph")
    below: Any = ipywidgets.VBox([])

    def taken(change: dict[str, Any]) -> None:
        if not change["new"]:
            return
        below.children = (ipywidgets.Label("looking ..."),)
        below.children = (_seen(trained, change["new"][0], threshold),)

    button.observe(taken, names="value")
    return Upload([button, below])


def _seen(trained: Trained, file: dict[str, Any], threshold: float) -> ipywidgets.DOMWidget:
    """The view of one uploaded file, or what is wrong with it."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / Path(file["name"]).name
        path.write_bytes(bytes(file["content"]))
        try:
            return look(path, trained, threshold)
        except UserError as error:
            return ipywidgets.Label(str(error).replace(f"{folder}/", ""))
