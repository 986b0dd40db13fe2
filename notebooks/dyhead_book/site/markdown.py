"""Markdown cells as HTML. Formulas become MathML, which browsers draw by themselves, without a script."""

from __future__ import annotations

import re

from latex2mathml.converter import convert
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

#: A link to another chapter of the book. Those to the workbook offer its file.
NOTEBOOK_LINK = re.compile(r"^(?![a-z]+:|workbook/)(?P<path>[^#]*)\.ipynb(?P<anchor>#.*)?$")


def to_mathml(latex: str, display: bool) -> str:
    """A formula as MathML.

    Args:
        latex: without dollar signs.
        display: on a line of its own.

    Raises:
        ValueError: it cannot be translated; the message holds the formula.
    """
    try:
        mathml = convert(latex.strip(), display="block" if display else "inline")
    except Exception as error:  # the converter has many exceptions of its own
        raise ValueError(f"formula {latex.strip()!r} cannot be drawn: {error!r}") from error
    unknown = re.search(r"<m[ion]>(\\[a-zA-Z]+)</m[ion]>", mathml)
    if unknown:
        raise ValueError(f"formula {latex.strip()!r} uses {unknown[1]}, which cannot be drawn")
    return mathml


def to_html(markdown: str) -> str:
    """A markdown cell as HTML; links to other notebooks lead to their pages.

    Raises:
        ValueError: a formula cannot be drawn.
    """
    renderer = PageRenderer(escape=False, exclude_anchor_links=True)
    return MarkdownWithMath(renderer=renderer).render(markdown)


def page_link(url: str) -> str:
    """``03_name.ipynb#part`` -> ``03_name.html#part``; other links as they are."""
    found = NOTEBOOK_LINK.match(url)
    return f"{found['path']}.html{found['anchor'] or ''}" if found else url


class PageRenderer(IPythonRenderer):
    """nbconvert's renderer with formulas drawn here and links between pages."""

    def block_math(self, body: str) -> str:
        return to_mathml(body, display=True)

    def inline_math(self, body: str) -> str:
        return to_mathml(body, display=False)

    def latex_environment(self, name: str, body: str) -> str:
        return to_mathml(rf"\begin{{{name}}}{body}\end{{{name}}}", display=True)

    def link(self, text: str, url: str, title: str | None = None) -> str:
        return super().link(text, page_link(url), title)
