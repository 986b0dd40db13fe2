"""Predictions: the reader commits to a guess before a chapter measures, and sees both side by side at its end.

In a chapter::

    finer = Question("02 finer or coarser", "Which neighbour does a level listen to?", a="the finer", b="the coarser")
    finer.ask()  # a button for each choice
    ...
    finer.revisit("a" if ratio > 1 else "b", f"mean ratio {ratio:.2f} over 64 images")

Guesses are kept in one small file of the reader, never in the repository. Where it cannot be written they are kept
until the kernel stops, and the card says so.
"""

from __future__ import annotations

import html
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ipywidgets

from dyhead_lab.paths import reader_folder

from .reader_files import read_object, write_object

_unsaved: dict[str, str] = {}  # guesses of this kernel that the file could not take


@dataclass(frozen=True)
class Card:
    """A few paragraphs that show themselves in a notebook."""

    paragraphs: tuple[str, ...]

    def _repr_html_(self) -> str:
        title, *rest = (html.escape(paragraph) for paragraph in self.paragraphs)
        return "\n".join([f"<p><b>{title}</b></p>", *(f"<p>{paragraph}</p>" for paragraph in rest)])

    def __repr__(self) -> str:
        return "\n".join(self.paragraphs)


class Question:
    """A question with choices.

    Args:
        key: the name under which a guess is kept: the chapter's number and a few words. Unique in the book.
        text: the question.
        choices: letter -> what it stands for, at least two.

    Raises:
        ValueError: there are fewer than two choices.
    """

    def __init__(self, key: str, text: str, /, **choices: str):
        if len(choices) < 2:
            raise ValueError(f"choices: got {len(choices)}, expected at least 2, such as a='finer', b='coarser'")
        self.key, self.text, self.choices = key, text, choices

    def ask(self) -> Buttons:
        """The question with a button for each choice. Pressing one keeps it as the reader's guess."""
        return Buttons(self)

    def guess(self, choice: str) -> Buttons:
        """Keep this guess, as its button does, and show the question.

        Raises:
            ValueError: ``choice`` is not one of the letters.
        """
        self._check(choice)
        return Buttons(self, _keep(self.key, choice))

    def earlier(self) -> str | None:
        """The letter that was guessed last, or None."""
        choice = {**_read(), **_unsaved}.get(self.key)
        return choice if choice in self.choices else None  # a later edition may ask otherwise

    def revisit(self, answer: str, measured: str) -> Card:
        """Show the guess beside what was measured.

        Args:
            answer: the letter that the measurement gives.
            measured: the measurement in words, with its number.

        Raises:
            ValueError: ``answer`` is not one of the letters.
        """
        self._check(answer)
        earlier = self.earlier()
        if earlier is None:
            guessed = "You made no guess."
        else:
            guessed = f"You guessed {earlier}: {self.choices[earlier]}. {'Right.' if earlier == answer else 'Not so.'}"
        return Card((self.text, guessed, f"Measured: {answer}, {self.choices[answer]}. {measured}"))

    def _check(self, letter: str) -> None:
        if letter not in self.choices:
            raise ValueError(f"{self.key}: got {letter!r}, expected one of {', '.join(self.choices)}")


STYLE = (
    "<style>.dyhead-question .widget-toggle-buttons > div {flex-flow: column; width: auto}"
    ".dyhead-question button.jupyter-button {width: auto; height: auto; margin: 2px; padding: 4px 10px; "
    "line-height: 1.4; text-align: left; white-space: normal}</style>"
)


class Buttons(ipywidgets.VBox):
    """A question with a button for each choice. Tab moves between the buttons, Space or Enter presses one.

    Where no kernel runs and where widgets are not shown, the question, its choices and the guess are read as text.

    Args:
        question: what is asked.
        problem: why the last guess could not be written, if it could not.
    """

    def __init__(self, question: Question, problem: str | None = None):
        self._question, self._problem = question, problem
        options = [(f"{letter}: {meaning}", letter) for letter, meaning in question.choices.items()]
        self.choice = ipywidgets.ToggleButtons(options=options, value=question.earlier())
        self._said = ipywidgets.HTML()
        title = ipywidgets.HTML(f"{STYLE}<b>{html.escape(question.text)}</b>")
        super().__init__([title, self.choice, self._said])
        self.add_class("dyhead-question")
        self._say()
        self.choice.observe(self._keep, names="value")

    def _keep(self, _change: Any) -> None:
        if self.choice.value is not None:
            self._problem = _keep(self._question.key, self.choice.value)
            self._say()

    def _say(self) -> None:
        self._said.value = f'<span role="status">{html.escape(self._guess)}</span>'

    @property
    def _guess(self) -> str:
        if self.choice.value is None:
            return "Choose one: run the cell and press a button. Your guess is kept until the end of the chapter."
        until = "the end of the chapter" if self._problem is None else f"the kernel stops: {self._problem}"
        return f"Your guess: {self.choice.value}. It is kept until {until}."

    @property
    def _card(self) -> Card:
        choices = (f"{letter}: {meaning}" for letter, meaning in self._question.choices.items())
        return Card((self._question.text, *choices, self._guess))

    def __repr__(self) -> str:
        return repr(self._card)

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        shown = super()._repr_mimebundle_(**kwargs) or {}
        return {**shown, "text/plain": repr(self), "text/html": self._card._repr_html_()}


def predictions_file() -> Path:
    """Where this reader's guesses are kept."""
    return reader_folder() / "predictions.json"


def _read() -> dict[str, str]:
    """All guesses of the file; none, with a warning, if it holds something else."""
    path = predictions_file()
    try:
        return {str(key): str(choice) for key, choice in read_object(path).items()}
    except (OSError, ValueError) as error:
        warnings.warn(f"{path} cannot be read ({error}); earlier guesses are not shown", stacklevel=2)
        return {}


def _keep(key: str, choice: str) -> str | None:
    """Write one guess. Returns None, or why the file could not take it."""
    _unsaved.pop(key, None)
    path = predictions_file()
    try:
        write_object(path, {**_read(), key: choice})
    except OSError as error:
        _unsaved[key] = choice
        return f"{path} cannot be written ({error.strerror})"
    return None
