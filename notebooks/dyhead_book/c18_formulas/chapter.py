# %% [markdown]
# # Formulas
#
# | | |
# | --- | --- |
# | Time | to look things up; under 1 minute to run on 2 CPU cores (a GPU changes nothing) |
# | Memory | under 1 GB, none on a GPU |
# | Needs | nothing |
#
# The formulas of the papers that this book builds stand here, each once: with its letters, the chapter that builds
# it and under which name, the line of the library that computes it, and a number. The number is measured when this
# page runs. The library and the formula, written as plain loops, compute a small random case in float64, and the
# norm of their difference is divided by the norm of the result. Rounding alone leaves about $10^{-16}$; where the
# library rounds a constant to float32, $10^{-8}$ is left.
#
# Letters that all chapters share: $B$ batch, $L$ level, $H$ and $W$ height and width, $S = H W$, $C$ channel,
# $K$ kernel tap, $Q$ query, $M$ head, $P$ point, $D = C / M$ channels per head, $N$ tokens. All others stand below
# their formula, and in the index of symbols of [chapter 19](19_notation_and_glossary.ipynb). Where paper and
# released code disagree, [chapter 21](21_paper_code_book.ipynb) says how.

# %% tags=["hide"]
from IPython.display import Markdown, display

from dyhead_book.c18_formulas.formula_table import (
    by_paper,
    contents,
    heading,
    markdown,
    read_formulas,
)

display(Markdown(contents(read_formulas())))

# %% tags=["hide"]
for paper, formulas in by_paper(read_formulas()):
    display(Markdown(heading(paper)))
    for formula in formulas:
        display(Markdown(markdown(formula)))
