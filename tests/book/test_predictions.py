import json

import pytest

from dyhead_book.practice import predictions
from dyhead_book.practice.predictions import Question, predictions_file


@pytest.fixture(autouse=True)
def reader(tmp_path, monkeypatch):
    """A reader with an empty folder, who has just started a kernel."""
    monkeypatch.setenv("DYHEAD_READER", str(tmp_path / "reader"))
    monkeypatch.setattr(predictions, "_unsaved", {})


def question():
    return Question("02 finer", "Which neighbour counts more?", a="the finer <one>", b="the coarser one")


def test_a_guess_is_kept_and_shown_beside_the_measurement():
    assert "Choose one: run the cell and press a button." in repr(question().ask())
    assert "Your guess: b. It is kept until the end of the chapter." in repr(question().guess("b"))
    assert "Your guess: b." in repr(question().ask())
    card = question().revisit("a", "mean ratio 1.20")
    assert "You guessed b: the coarser one. Not so." in repr(card)
    assert "Measured: a, the finer <one>. mean ratio 1.20" in repr(card)
    assert "the finer &lt;one&gt;" in card._repr_html_()
    assert "Right." in repr(question().revisit("b", "mean ratio 0.90"))


def test_every_choice_has_a_button_that_keeps_it_and_says_so_at_once():
    asked = question().ask()
    assert [label for label, _ in asked.choice.options] == ["a: the finer <one>", "b: the coarser one"]
    assert asked.choice.value is None and not predictions_file().exists(), "nothing is guessed for the reader"
    asked.choice.value = "b"
    assert question().earlier() == "b"
    assert "Your guess: b. It is kept until the end of the chapter." in asked.children[-1].value
    asked.choice.value = "a"
    assert question().ask().choice.value == "a"


def test_without_a_kernel_the_question_can_be_read():
    shown = question().ask()._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in shown
    for text in (shown["text/html"], shown["text/plain"]):
        assert "Which neighbour counts more?" in text and "b: the coarser one" in text
    assert "the finer &lt;one&gt;" in shown["text/html"]


def test_the_state_of_a_question_is_small():
    state = json.dumps([widget.get_state() for widget in all_of(question().ask())], default=str)
    assert len(state) < 10_000, "bytes in each notebook that asks"


def all_of(widget):
    parts = [widget.layout, *([widget.style] if hasattr(widget, "style") else []), *getattr(widget, "children", ())]
    return [widget, *(inner for part in parts for inner in (all_of(part) if hasattr(part, "layout") else [part]))]


def test_without_a_guess_none_is_claimed():
    assert "You made no guess." in repr(question().revisit("a", "ratio 1.2"))
    assert not predictions_file().exists(), "asking and revisiting write nothing"


def test_questions_do_not_disturb_each_other():
    other = Question("05 offsets", "How large?", a="one pixel", b="ten")
    question().guess("a")
    other.guess("b")
    question().guess("b")
    assert (question().earlier(), other.earlier()) == ("b", "b")


def test_a_guess_that_is_no_choice_any_more_does_not_count():
    Question("02 finer", "Old wording", a="1", b="2", c="3").guess("c")
    assert question().earlier() is None


def test_a_folder_that_cannot_be_written_keeps_the_guess_until_the_kernel_stops(monkeypatch, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("", encoding="utf-8")  # a folder cannot be made below a file, even by root
    monkeypatch.setenv("DYHEAD_READER", str(blocked / "reader"))
    with pytest.warns(UserWarning, match="cannot be read"):
        assert "kept until the kernel stops" in repr(question().guess("a"))
        assert "You guessed a" in repr(question().revisit("a", "so it is"))
        asked = question().ask()
        asked.choice.value = "b"
        assert "kept until the kernel stops" in asked.children[-1].value


def test_a_damaged_file_is_reported_and_replaced_by_the_next_guess():
    predictions_file().parent.mkdir(parents=True)
    predictions_file().write_text("[1, 2", encoding="utf-8")
    with pytest.warns(UserWarning, match="earlier guesses are not shown"):
        question().guess("a")
    assert question().earlier() == "a"


def test_wrong_letters_are_refused_by_name():
    with pytest.raises(ValueError, match="02 finer: got 'z', expected one of a, b"):
        question().guess("z")
    with pytest.raises(ValueError, match="02 finer: got 'z'"):
        question().revisit("z", "")
    with pytest.raises(ValueError, match="at least 2"):
        Question("00", "Yes?", a="yes")


def test_the_folder_follows_the_rules_for_user_data(monkeypatch, tmp_path):
    monkeypatch.delenv("DYHEAD_READER")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert predictions_file() == tmp_path / "dyhead_lab" / "predictions.json"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert predictions_file() == tmp_path / ".local" / "share" / "dyhead_lab" / "predictions.json"
