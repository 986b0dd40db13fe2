"""pyproject.toml, constraints.txt and environment.yml name the same versions."""

import importlib
import re
import sys
import tomllib
from importlib.metadata import requires, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import dyhead_lab
from dyhead_lab import remedies

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
write_constraints = importlib.import_module("write_constraints")
sys.path.pop(0)

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))


def direct_requirements() -> list[Requirement]:
    groups = [
        PYPROJECT["build-system"]["requires"],
        PROJECT["dependencies"],
        *PROJECT["optional-dependencies"].values(),
    ]
    return [Requirement(text) for group in groups for text in group]


def parse_pins(lines: list[str]) -> dict[str, str]:
    """name -> version; every line must be an exact pin and nothing more (no address, no option)."""
    pins = {}
    for line in lines:
        found = re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.]+)", line)
        assert found, f"not an exact pin: {line!r}"
        name = canonicalize_name(found[1])
        assert name not in pins, f"{name} is pinned twice"
        pins[name] = found[2]
    return pins


def constraints(name: str = "constraints.txt") -> dict[str, str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return parse_pins([line for line in lines if line and not line.startswith("#")])


def conda_pip_section() -> list[str]:
    (section,) = (entry["pip"] for entry in ENVIRONMENT["dependencies"] if isinstance(entry, dict))
    return section


@pytest.mark.parametrize("requirement", direct_requirements(), ids=str)
def test_constraints_pin_every_direct_requirement_inside_its_range(requirement):
    pinned = constraints()
    name = canonicalize_name(requirement.name)
    assert name in pinned, f"{name} stands in pyproject.toml but not in constraints.txt: run make constraints"
    assert requirement.specifier.contains(pinned[name])


def test_numba_is_bounded_as_long_as_private_parts_of_it_are_used():
    ops = ROOT / "dyhead_lab" / "ops"
    private = ("_source_stamp", "numba.core", "llvmlite")
    users = [p.name for p in ops.rglob("*.py") if any(word in p.read_text(encoding="utf-8") for word in private)]
    (numba,) = (requirement for requirement in direct_requirements() if requirement.name == "numba")
    major, minor = constraints()["numba"].split(".")[:2]
    assert not users or not numba.specifier.contains(f"{major}.{int(minor) + 1}.0"), users


def test_conda_environment_has_the_direct_requirements_at_the_pinned_versions():
    first, second, *lines = conda_pip_section()
    assert (first, second) == ("--constraint constraints.txt", "--constraint constraints-cuda.txt")
    names = {canonicalize_name(requirement.name) for requirement in direct_requirements()}
    pinned = constraints()
    assert parse_pins(lines) == {name: pinned[name] for name in names}


def test_what_only_cuda_needs_stands_apart():
    """So that a small environment, of builds for the CPU, is held by constraints.txt alone."""
    cuda = constraints("constraints-cuda.txt")
    assert {"triton", "nvidia-cublas"} <= set(cuda) and all(map(write_constraints.only_cuda_needs, cuda))
    assert not any(map(write_constraints.only_cuda_needs, constraints()))
    assert not {canonicalize_name(requirement.name) for requirement in direct_requirements()} & set(cuda)


def test_conda_python_is_one_that_the_project_accepts():
    (python,) = (
        entry.removeprefix("python=")
        for entry in ENVIRONMENT["dependencies"]
        if isinstance(entry, str) and entry.startswith("python=")
    )
    assert python in Requirement(f"python{PROJECT['requires-python']}").specifier


def test_torch_and_torchvision_are_the_pair_that_belongs_together():
    # The metadata of torchvision names the one torch that it was compiled for.
    pinned = constraints()
    assert version("torchvision") == pinned["torchvision"]
    (torch,) = (r for r in map(Requirement, requires("torchvision") or []) if r.name == "torch")
    assert torch.specifier == SpecifierSet(f"=={pinned['torch']}")


def test_the_remedy_that_builds_anew_asks_for_the_setuptools_of_the_build():
    assert remedies.SETUPTOOLS in PYPROJECT["build-system"]["requires"]


def test_package_version_is_the_projects_version():
    assert dyhead_lab.__version__ == PROJECT["version"] == version("dyhead-lab")


@pytest.mark.parametrize(
    "line",
    ["torch>=2.11", "--index-url somewhere", "torch @ file:///wheels/torch.whl", "torch==2.11.0 # newest"],
)
def test_a_line_that_is_not_an_exact_pin_is_refused(line):
    with pytest.raises(AssertionError, match="not an exact pin"):
        parse_pins([line])
