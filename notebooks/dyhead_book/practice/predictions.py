"""Predictions: the reader commits to a guess before a chapter measures, and sees both side by side at its end.

In a chapter::

    finer = Question("02 finer or coarser", "Which neighbour does a level listen to?", a="the finer", b="the coarser")
    finer.guess(None)  # put "a" or "b" here
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

    def guess(self, choice: str | None) -> Card:
        """Keep the reader's guess and show the question. None only asks.

        Raises:
            ValueError: ``choice`` is not one of the letters.
        """
        lines = [self.text, *(f"{letter}: {meaning}" for letter, meaning in self.choices.items())]
        if choice is None:
            earlier = self.earlier()
            letters = ", ".join(f'"{letter}"' for letter in self.choices)
            lines.append(f"Your guess so far: {earlier}." if earlier else f"Put your guess here: {letters}.")
            return Card(tuple(lines))
        self._check(choice)
        problem = _keep(self.key, choice)
        until = "the end of the chapter" if problem is None else f"the kernel stops: {problem}"
        return Card((*lines, f"Your guess: {choice}. It is kept until {until}."))

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
