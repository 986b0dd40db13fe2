"""Writes the table in csrc/REGISTERS.md: registers and spills of each kernel, as ptxas says, for each architecture.

    python csrc/registers.py [FILE.cu ...]

No GPU is needed, nvcc is. Each file is compiled for each architecture by itself, to machine code that is thrown away;
what was measured for other files stays in the table. It takes minutes, most of them for ms_deform_attn/backward.cu.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import build

TARGET = build.SOURCE / "REGISTERS.md"
BEGIN, END = "<!-- registers -->\n", "<!-- end of registers -->\n"

#: For each kernel what each architecture needs: registers of a thread, and bytes of spilled registers.
Table = dict[str, dict[str, str]]


def measure(source: Path, architecture: str, toolkit: Path) -> dict[str, str]:
    """Compile a file and read what ptxas says."""
    with tempfile.TemporaryDirectory() as folder:
        target = ["-cubin", f"-arch=sm_{architecture}", "-o", str(Path(folder, "kernels.cubin"))]
        flags = ["-std=c++17", "-O3", "--extended-lambda", "-Xptxas", "-v", f"-I{build.SOURCE}", *target]
        command = [str(toolkit / "bin" / "nvcc"), *flags, str(source)]
        done = subprocess.run(command, check=True, text=True, capture_output=True)
    return {f"{source.parent.name}/{kernel}": needs for kernel, needs in read(done.stderr).items()}


def read(told: str) -> dict[str, str]:
    """``{"forward_fast<float>": "62"}``, or ``"128, 96 spilled"``, out of ptxas' verbose output."""
    entry = re.compile(
        r"Compiling entry function '(\w+)'.*?(\d+) bytes spill stores, (\d+) bytes spill loads.*?Used (\d+) registers",
        re.DOTALL,
    )
    found = entry.findall(told)
    names = demangled([name for name, *_ in found])
    return {
        name: registers if stores == "0" else f"{registers}, {stores} spilled"
        for name, (_, stores, _, registers) in zip(names, found, strict=True)
    }


def demangled(names: list[str]) -> list[str]:
    """Kernels with their types, as short as they are told apart."""
    answer = subprocess.run(["c++filt", *names], check=True, text=True, capture_output=True) if names else None
    lines = answer.stdout.splitlines() if answer else []
    return [shortened(line) for line in lines]


def shortened(name: str) -> str:
    """``void dyhead::ms_deform_attn::forward_fast<float, float>(...)`` -> ``forward_fast<float, float>``."""
    plain = re.sub(r"dyhead::(\w+::)?|\(int\)", "", name.removeprefix("void "))
    return plain.partition("(")[0].replace("__nv_bfloat16", "bfloat16").replace("__half", "float16")


def parsed(text: str) -> Table:
    """The table that stands in the TARGET."""
    header, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.strip().splitlines()]
    architectures = [name.removeprefix("sm_") for name in header[1:]]
    return {row[0].strip("`"): dict(zip(architectures, row[1:], strict=True)) for row in rows}


def written(table: Table) -> str:
    architectures = sorted({architecture for row in table.values() for architecture in row}, key=int)
    lines = [
        "| kernel | " + " | ".join(f"sm_{a}" for a in architectures) + " |",
        "| --- " * (len(architectures) + 1) + "|",
    ]
    lines += [
        f"| `{name}` | " + " | ".join(row.get(a, "") for a in architectures) + " |"
        for name, row in sorted(table.items())
    ]
    return "\n".join(lines) + "\n"


def main(files: list[str]) -> None:
    toolkit = build.find_toolkit()
    known = [name.partition("_")[2] for name in build.architecture_names(toolkit) if name.startswith("sm_")]
    for source in [Path(file).resolve() for file in files] or build.KERNELS:
        for architecture in known:
            new = measure(source, architecture, toolkit)
            before, rest = TARGET.read_text(encoding="utf-8").split(BEGIN)
            old, after = rest.split(END)
            table = parsed(old) if old.strip() else {}
            for kernel, needs in new.items():
                table.setdefault(kernel, {})[architecture] = needs
            TARGET.write_text(before + BEGIN + written(table) + END + after, encoding="utf-8")
            print(f"{source.parent.name}/{source.name} sm_{architecture}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
