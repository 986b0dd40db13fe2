"""Write ``dyhead_lab/listing.tsv``: what ``dyhead-lab zoo`` lists without torch. Run it when a recipe has changed."""

import sys

from dyhead_lab.experiments.catalogue import EXPERIMENTS
from dyhead_lab.recipe_names import LISTING
from dyhead_lab.zoo.registry import RECIPES


def lines() -> list[str]:
    """A line for each recipe and each experiment: kind, name, data, published AP and summary, between tabs."""
    recipes = (
        ("recipe", r.name, r.dataset.__name__, "" if r.published_ap is None else f"{r.published_ap:.3f}", r.summary)
        for r in RECIPES.values()
    )
    experiments = (("experiment", name, "", "", EXPERIMENTS[name].summary) for name in sorted(EXPERIMENTS))
    return ["\t".join(fields) for fields in (*recipes, *experiments)]


def main() -> int:
    LISTING.write_text("\n".join(lines()) + "\n", encoding="utf-8")
    print(f"{LISTING.name}: {len(lines())} lines")
    return 0


if __name__ == "__main__":
    sys.exit(main())
