"""``dyhead-lab book --notebooks``: a reader gets chapters to work in, and never loses work."""

import pytest

from dyhead_book import build
from dyhead_lab.cli import main
from dyhead_lab.paths import CHAPTERS


def test_notebooks_are_copied_and_the_readers_own_are_kept(tmp_path, capsys):
    notebooks = {
        path.relative_to(CHAPTERS) for path in CHAPTERS.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts
    }
    count = len(notebooks)
    out = tmp_path / "chapters"
    assert main(["book", "--notebooks", "--out", str(out)]) == 0
    assert {path.relative_to(out) for path in out.rglob("*.ipynb")} == notebooks
    assert (out / "diagrams" / "scale_gate.svg").is_file() and len(notebooks) > len(list(CHAPTERS.glob("*.ipynb")))
    mine, gone = out / "00_start_here.ipynb", out / "01_feature_pyramid.ipynb"
    mine.write_text("my work", encoding="utf-8")
    gone.unlink()
    capsys.readouterr()
    assert main(["book", "--notebooks", "--out", str(out)]) == 0
    assert f"1 notebooks in {out}, {count - 1} were there" in capsys.readouterr().out
    assert mine.read_text(encoding="utf-8") == "my work" and gone.exists()


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path, capsys):
    (tmp_path / "taken").touch()
    assert main(["book", "--notebooks", "--out", str(tmp_path / "taken")]) == 1
    assert "taken is a file" in capsys.readouterr().err


def test_chapters_are_not_built_into_an_installed_package(monkeypatch, capsys):
    monkeypatch.setattr(build, "CHECKOUT", None)
    with pytest.raises(SystemExit):
        build.main(["00"])
    assert "built in a checkout; `dyhead-lab book --notebooks` copies" in capsys.readouterr().err
