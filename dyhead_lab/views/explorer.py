"""What every explorer shares: its look, its JavaScript helpers, and a still picture beside the live widget."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import anywidget
import torch
import traitlets
from PIL import Image

from .figures import Picture

STATIC = Path(__file__).parent / "static"


class Explorer(anywidget.AnyWidget):
    """A widget whose mime bundle also carries a picture, for places that do not run it: GitHub, a PDF, a fresh clone.

    A subclass names its files in its class statement, ``class Name(Explorer, static="name")``. They are joined to
    the shared ones, so that no widget fetches anything: ``static/explorer.js`` and ``name.js``, the same for CSS.

    Where Python computes what is drawn, the class names the choices that it depends on in ``asks`` and calls
    :meth:`_answered` at the end. Until then the page shows that it waits: what it draws belongs to an earlier choice.
    """

    asks: tuple[str, ...] = ()
    answer: Any = traitlets.Dict(help="the choices that what is drawn belongs to").tag(sync=True)

    def __init_subclass__(cls, static: str | None = None, **kwargs: Any) -> None:
        if static is not None:
            cls._esm, cls._css = (
                "\n".join((STATIC / f"{name}.{kind}").read_text(encoding="utf-8") for name in ("explorer", static))
                for kind in ("js", "css")
            )
        super().__init_subclass__(**kwargs)

    def _answered(self) -> None:
        """What is drawn belongs to the choices of this moment."""
        self.answer = {name: getattr(self, name) for name in self.asks}

    def picture(self) -> Picture:
        """What the explorer shows, as a still picture."""
        raise NotImplementedError

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        return beside_picture(super()._repr_mimebundle_(**kwargs), self.picture())


def beside_picture(bundle: Any, picture: Picture) -> tuple[dict[str, Any], dict[str, Any]]:
    """The mime bundle of a widget, as widgets of either kind give it, with a still picture beside the live view."""
    data, metadata = bundle if isinstance(bundle, tuple) else (bundle or {}, {})
    still, still_metadata = picture._repr_mimebundle_()
    return {**data, **still}, {**metadata, **still_metadata}


def image_url(image: torch.Tensor, largest: int, quality: int = 80) -> str:
    """An image (3, H, W) in [0, 1] as a JPEG of at most ``largest`` pixels a side, in a data URL."""
    pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy(force=True)
    small = Image.fromarray(pixels)
    small.thumbnail((largest, largest))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
