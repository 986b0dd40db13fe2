# %% [markdown]
# # Formulas
#
# | | |
# | --- | --- |
# | Time | to look things up; under 1 minute to run on 2 CPU cores (a GPU changes nothing) |
# | Memory | under 1 GB, none on a GPU |
# | Needs | nothing |
#
# Every formula of the book stands here once, with its letters and the line of code that computes it. The number
# behind each one is measured when this page runs: the library and the formula, written as plain loops, compute a
# small random case in float64, and the norm of their difference is divided by the norm of the result.
#
# Letters that all chapters share: $B$ batch, $L$ level, $H$ and $W$ height and width, $S = H W$, $C$ channel,
# $K$ kernel tap, $Q$ query, $M$ head, $P$ point, $D = C / M$ channels per head, $N$ tokens.

# %%
from IPython.display import Markdown, display

from dyhead_book.c18_formulas.formula_table import by_paper, markdown, read_formulas

for paper, formulas in by_paper(read_formulas()):
    display(Markdown(f"## {paper}"))
    for formula in formulas:
        display(Markdown(markdown(formula)))
