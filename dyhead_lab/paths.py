"""Where the project keeps its data: beside the package, in the repository."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
DATA = REPOSITORY / "data"
WEIGHTS = DATA / "weights"  # shipped with the project
