"""The whole site: a page per notebook, a list of chapters on each, search, downloads. Nothing comes from a network."""

from __future__ import annotations

import html
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from pygments.formatters import HtmlFormatter

from dyhead_lab.commands.output_paths import output_folder
from dyhead_lab.errors import UserError
from dyhead_lab.paths import CHAPTERS

from . import reference
from .page import Page, read_page

STYLE, SCRIPT = (Path(__file__).parent / name for name in ("book.css", "book.js"))
TITLE = "Attention in object detection"
#: What pages show or offer besides their text: folder beside the notebooks -> ending of its files.
WORKBOOK = "workbook"
COPIED = {"diagrams": ".svg", WORKBOOK: ".ipynb"}
#: Folder for the notebooks themselves.
BOOK = "book"


def build_site(out: Path, notebooks: Path = CHAPTERS) -> list[Path]:
    """Write the site of all built notebooks. Where ``make docs`` has put the reference into it, pages link to that.

    Args:
        out: folder of the site; made if need be, pages of an earlier build are replaced.
        notebooks: folder of the executed notebooks.

    Returns:
        the pages, in the order of the book; the first one is ``index.html``.

    Raises:
        UserError: there are no notebooks, a page cannot be made (the notebook is named), or the folder not written.
    """
    sources = sorted(notebooks.glob("*.ipynb"))
    if not sources:
        raise UserError(f"no notebooks in {notebooks}: make notebooks builds them")
    pages = []
    for source in sources:
        try:
            pages.append(read_page(source))
        except ValueError as error:
            raise UserError(f"{source.name}: {error}") from error
    output_folder(out)
    (out / "book.css").write_text(f"{STYLE.read_text(encoding='utf-8')}\n{_code_style()}", encoding="utf-8")
    shutil.copyfile(SCRIPT, out / SCRIPT.name)
    (out / "sections.js").write_text(f"window.SECTIONS = {json.dumps(_sections(pages))};\n", encoding="utf-8")
    (out / BOOK).mkdir(exist_ok=True)
    for source in sources:
        shutil.copyfile(source, out / BOOK / source.name)
    for folder, ending in COPIED.items():
        for file in sorted((notebooks / folder).glob(f"*{ending}")):
            (out / folder).mkdir(exist_ok=True)
            shutil.copyfile(file, out / folder / file.name)
    written = []
    for before, page, after in zip([None, *pages], pages, [*pages[1:], None], strict=False):
        path = out / f"{page.name}.html"
        editions = [BOOK, WORKBOOK] if (out / WORKBOOK / f"{page.name}.ipynb").is_file() else [BOOK]
        links = reference.links(notebooks / f"{page.name}.ipynb", out)
        path.write_text(_document(page, pages, before, after, editions, links), encoding="utf-8")
        written.append(path)
    index = out / "index.html"
    index.write_text(
        f'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; {written[0].name}">',
        encoding="utf-8",
    )
    return [index, *written]


def _document(
    page: Page,
    pages: Sequence[Page],
    before: Page | None,
    after: Page | None,
    editions: Sequence[str],
    links: str,
) -> str:
    """A whole page: search, the list of chapters, the chapter, its notebooks, the reference, and the way on."""
    notebooks = ", ".join(f'<a href="{edition}/{page.name}.ipynb" download>{edition}</a>' for edition in editions)
    turn = "".join(
        f'<a rel="{rel}" href="{other.name}.html">{arrow.format(html.escape(other.title))}</a>'
        for other, rel, arrow in ((before, "prev", "← {}"), (after, "next", "{} →"))
        if other is not None
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(page.title)} · {TITLE}</title>
<link rel="stylesheet" href="book.css">
<script src="book.js"></script>
</head>
<body>
<nav aria-label="Chapters"><p class="book">{TITLE}</p>
<input id="search" type="search" placeholder="Search" aria-label="Search the book" hidden><ul id="found"></ul>
<ol>{"".join(_entry(p, p is page) for p in pages)}</ol>
<p class="tools">Download this chapter: {notebooks}<button id="theme" type="button" hidden></button></p></nav>
<main>
{page.body}
{links}
<p class="turn">{turn}</p>
</main>
</body>
</html>
"""


def _entry(page: Page, here: bool) -> str:
    """A line of the list of chapters; the chapter that is open shows its parts."""
    parts = "".join(f'<li><a href="#{anchor}">{text}</a></li>' for anchor, text in page.parts) if here else ""
    current = ' aria-current="page"' if here else ""
    label = f'<span class="number">{page.number}</span> {html.escape(page.title)}'
    return f'<li><a href="{page.name}.html"{current}>{label}</a>{f"<ol>{parts}</ol>" if parts else ""}</li>'


def _sections(pages: Sequence[Page]) -> list[dict[str, str]]:
    """What the search looks through: the parts of all pages, with their titles and words."""
    return [
        {
            "url": f"{page.name}.html{f'#{section.anchor}' if section.anchor else ''}",
            "title": f"{page.number} {page.title}{f': {section.title}' if section.title else ''}".strip(),
            "text": section.text,
        }
        for page in pages
        for section in page.sections()
    ]


def _code_style() -> str:
    """Colours of code on a light and on a dark page, as the system or the reader says."""
    light = HtmlFormatter(style="tango").get_style_defs(".highlight")
    night = HtmlFormatter(style="monokai")
    dark = night.get_style_defs(":root:not([data-theme=light]) .highlight")
    chosen = night.get_style_defs(":root[data-theme=dark] .highlight")
    return f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n{chosen}\n"
