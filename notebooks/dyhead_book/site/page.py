"""One notebook as a page."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter
from nbformat import NotebookNode

from ..hosted import is_first_cell
from .markdown import to_html

WIDGET = "application/vnd.jupyter.widget-view+json"


@dataclass(frozen=True)
class Page:
    """A chapter of the site.

    Attributes:
        name: of its file, without suffix, such as ``03_deformable_convolution``.
        title: its first heading.
        body: HTML.
        parts: (anchor, text) of its second-level headings.
    """

    name: str
    title: str
    body: str
    parts: list[tuple[str, str]]

    @property
    def number(self) -> str:
        """ "03" of ``03_deformable_convolution``; "" for a page without number."""
        found = re.match(r"\d+", self.name)
        return found[0] if found else ""

    def sections(self) -> list[Section]:
        """The page's text without markup, formulas and pictures, heading by heading."""
        found = []
        for piece in re.split(r"(?=<h2 id=)", self.body):
            heading = re.match(r'<h2 id="([^"]+)">(.*?)</h2>', piece, re.DOTALL)
            words = re.sub(r"<(math|svg|style|script)\b.*?</\1>|<[^>]+>", " ", piece, flags=re.DOTALL)
            text = re.sub(r"\s+", " ", html.unescape(words)).strip()
            found.append(Section(heading[1], _text(heading[2]), text) if heading else Section("", "", text))
        return found


@dataclass(frozen=True)
class Section:
    """Words of a page between two headings; without anchor and title before the first."""

    anchor: str
    title: str
    text: str


def read_page(notebook: Path) -> Page:
    """An executed notebook as a page.

    Raises:
        ValueError: it is no notebook, has no title, or a formula cannot be drawn.
    """
    content = _opened(notebook)
    title = _title(content, notebook)
    exporter = HTMLExporter(template_name="basic", filters={"markdown2html": _chapter_html})
    body, _ = exporter.from_notebook_node(_folded(_without_widgets(content)))
    headings = re.findall(r'<h2 id="([^"]+)">(.*?)</h2>', body, re.DOTALL)
    return Page(notebook.stem, title, body, [(anchor, _text(heading)) for anchor, heading in headings])


def read_title(notebook: Path) -> str:
    """The first heading of a notebook.

    Raises:
        ValueError: it is no notebook, or has none.
    """
    return _title(_opened(notebook), notebook)


def _opened(notebook: Path) -> NotebookNode:
    try:
        content = nbformat.read(notebook, as_version=4)
        nbformat.validate(content)
    except (nbformat.ValidationError, AttributeError) as error:  # nbformat asks any JSON for its fields
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{notebook}: is JSON, but no notebook: {reason}") from error
    return content


def _title(content: NotebookNode, notebook: Path) -> str:
    title = next((line[2:] for cell in content.cells for line in cell.source.splitlines() if line[:2] == "# "), None)
    if title is None:
        raise ValueError(f"{notebook}: has no title, expected a markdown cell with a line '# Title'")
    return title


def _text(heading: str) -> str:
    """A heading without its markup."""
    return re.sub("<[^>]+>", "", heading)


def _chapter_html(source: str) -> str:
    return with_anchors(to_html(source))


def _without_widgets(content: NotebookNode) -> NotebookNode:
    """Leave the pictures that stand beside widgets: a page has no kernel to run them."""
    for cell in content.cells:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(WIDGET, None)
    content.metadata.pop("widgets", None)
    return content


def _folded(content: NotebookNode) -> NotebookNode:
    """Cells whose input is collapsed in JupyterLab show it as a fold, and their outputs as ever."""
    cells = []
    for cell in content.cells:
        if is_first_cell(cell):
            continue  # nothing for readers of a page
        if cell.get("metadata", {}).get("jupyter", {}).get("source_hidden"):
            fold = f"<details><summary>Code</summary>\n\n```python\n{cell.source}\n```\n\n</details>"
            cells.append(nbformat.v4.new_markdown_cell(fold))
            cell.metadata.transient = {"remove_source": True}
        cells.append(cell)
    content.cells = cells
    return content


def with_anchors(body: str) -> str:
    """Give second-level headings an id made of their words, so that the table of contents can lead to them."""

    def anchored(found: re.Match[str]) -> str:
        words = re.sub(r"<[^>]+>|[^\w\s-]", "", html.unescape(found[1])).lower().split()
        return f'<h2 id="{"-".join(words)}">{found[1]}</h2>'

    return re.sub(r"<h2>(.*?)</h2>", anchored, body, flags=re.DOTALL)
