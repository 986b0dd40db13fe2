"""The ablation switchboard: scale, spatial and task attention on and off.

The board knows no model. It asks a function for the picture of a setting and shows it.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Callable
from typing import Any

import ipywidgets

from .explorer import beside_picture
from .figures import Picture

SWITCHES = ("scale", "spatial", "task")

#: ``picture(scale=..., spatial=..., task=...)`` -> what the head does with these attentions on.
Show = Callable[..., Picture]


class Switchboard(ipywidgets.VBox):
    """Three buttons and a picture. Tab moves between the buttons, Space or Enter presses one.

    A setting is computed once, when it is first chosen. Without a kernel the last picture stays.

    Args:
        picture: gives the picture of a setting, ``picture(scale=True, spatial=False, task=True)``.
    """

    def __init__(self, picture: Show):
        self._picture = picture
        self._made: dict[tuple[bool, ...], Picture] = {}
        self.buttons = {name: ipywidgets.ToggleButton(value=True) for name in SWITCHES}
        self._shown = ipywidgets.HTML()
        for button in self.buttons.values():
            button.observe(self._follow, names="value")
        self._follow()
        super().__init__([ipywidgets.HBox(list(self.buttons.values())), self._shown])
        self.add_class("dyhead-switchboard")

    @property
    def setting(self) -> dict[str, bool]:
        """Which attentions are on."""
        return {name: button.value for name, button in self.buttons.items()}

    def picture(self) -> Picture:
        """The picture of the setting that is chosen now."""
        key = tuple(self.setting.values())
        if key not in self._made:
            self._made[key] = self._picture(**self.setting)
        return self._made[key]

    def _follow(self, _change: Any = None) -> None:
        for name, button in self.buttons.items():
            button.description = f"{name}: {'on' if button.value else 'off'}"
            button.tooltip = f"switch {name}-aware attention {'off' if button.value else 'on'}"
        picture = self.picture()
        data = base64.b64encode(picture.png).decode()
        self._shown.value = f'<img alt="{html.escape(picture.alt)}" src="data:image/png;base64,{data}">'

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The live board, and its picture for places that do not run it: a fresh clone, GitHub, a PDF."""
        return beside_picture(super()._repr_mimebundle_(**kwargs), self.picture())
