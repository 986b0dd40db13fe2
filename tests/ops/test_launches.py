"""No kernel of csrc is left out: the cases of ``test_backends.py`` launch every one, fast ones among them."""

import ctypes
import re
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from dyhead_lab.ops import emulator, native
from dyhead_lab.ops.bench import measure

from .test_backends import CASES, answers

CSRC = Path(__file__).parents[2] / "csrc"


class Site(NamedTuple):
    """A place that launches a kernel: the folder, and what stands in ``KERNEL(...)``, such as ``forward_simple<T>``."""

    folder: str
    text: str

    @property
    def kernel(self) -> str:
        return self.text.partition("<")[0]

    def launched_as(self, name: str) -> bool:
        """True if a profiler's name of a kernel, with namespace and types, is this one."""
        constant = re.search(r", (\d+)>", self.text)
        of_folder = "" if self.folder == "common" else f"{self.folder}::"
        wanted = rf"{of_folder}{self.kernel}\b" + (rf"<[^()]*\b{constant[1]}>" if constant else "")
        return re.search(wanted, name) is not None


def launch_sites() -> list[Site]:
    sites = []
    for path in sorted(CSRC.glob("*/*.cu")):
        texts = re.findall(r"KERNEL\(((?:[^()]|\([^()]*\))*)\)", path.read_text(encoding="utf-8"))
        sites += [Site(path.parent.name, " ".join(text.split())) for text in texts]
    return sites


def defined_kernels() -> Counter[tuple[str, str]]:
    """Folder and name of every ``__global__`` function."""
    found: Counter[tuple[str, str]] = Counter()
    for path in [*CSRC.glob("*/*.cu"), *CSRC.glob("*/*.cuh")]:
        source = re.sub(r"__launch_bounds__\([^)]*\)", "", path.read_text(encoding="utf-8"))
        found.update((path.parent.name, name) for name in re.findall(r"__global__\s+void\s+(\w+)\(", source))
    return found


def test_every_kernel_has_a_launch_and_a_name_of_its_own():
    sites = launch_sites()
    assert {(site.folder, site.kernel) for site in sites} == set(defined_kernels())
    assert len({site.text for site in sites}) == len(sites)  # the emulator counts by this text


def launch_all(operators):
    """What the tests of backends run, once, the simple kernels, and what stands beside the two operators.

    The emulated GPU has as many multiprocessors as an H100. With one, kernels run that no GPU takes for these maps.
    """
    dtype = torch.float32 if operators.multiplies(torch.float32) else torch.float16
    with nullcontext() if operators.backend == "cuda" else emulator.multiprocessors(132):
        for case in CASES.values():
            answers(case, case.tensors(dtype, operators.device), operators.backend)
        with measure.tf32(True):
            case = CASES["conv, fast kernels"]
            answers(case, case.tensors(dtype, operators.device), operators.backend)
    for kernels, deterministic in (("simple", False), ("auto", True), ("simple", True)):
        torch.use_deterministic_algorithms(deterministic)
        try:
            with native.use_kernels(kernels):
                for name in ("conv", "attention"):
                    answers(CASES[name], CASES[name].tensors(dtype, operators.device), operators.backend)
        finally:
            torch.use_deterministic_algorithms(False)
    operators.l2_read(torch.zeros(8), 1)
    operators.l2_add(torch.zeros(8), 1)
    library = "cuda" if operators.backend == "cuda" else "emulated_debug"
    assert ctypes.CDLL(str(native.FOLDER / f"libdyhead_{library}.so")).dyhead_probe(0) == 0


def test_the_cases_of_backends_launch_every_kernel(operators):
    if operators.backend == "cuda":
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
            launch_all(operators)
        names = [event.key for event in seen.key_averages()]
        missing = [site for site in launch_sites() if not any(map(site.launched_as, names))]
    else:
        before = native.launches()
        launch_all(operators)
        after = native.launches()
        missing = [site for site in launch_sites() if after.get(site.text, 0) == before.get(site.text, 0)]
    in_vain = [] if operators.multiplies(torch.float32) else ["round_to"]  # Turing has no TF32
    assert [site.kernel for site in missing] == in_vain


def test_launches_are_counted_by_name(operators):
    if operators.backend == "cuda":
        return
    before = native.launches()
    case = replace(CASES["conv, fast kernels"], masked=False)
    case.run(case.tensors(torch.float32), "emulated")
    after = native.launches()
    grown = {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)}
    assert grown == {"implicit_product<T, Factors, 64>": 1}


def test_a_profilers_name_is_told_from_its_neighbours():
    [large] = [site for site in launch_sites() if site.text.endswith(", 128>")]
    name = "void dyhead::deform_conv::implicit_product<float, dyhead::Tf32, {}>(dyhead::deform_conv::Geometry)"
    assert large.launched_as(name.format(128)) and not large.launched_as(name.format(64))
    simple = Site("ms_deform_attn", "forward_simple<T, U>")
    assert not simple.launched_as("void dyhead::deform_conv::forward_simple<float>(dyhead::deform_conv::Geometry)")
