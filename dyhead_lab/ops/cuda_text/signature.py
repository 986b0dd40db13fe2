"""What a kernel's text says about its parameters, and the arguments that fit them."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import torch

from .errors import KernelError, at_line


@dataclass(frozen=True)
class _Type:
    """A type of C++: a tensor's dtype where it is pointed to (None: never), struct's letter for a number."""

    dtype: torch.dtype | None
    letter: str


TYPES = {
    "float": _Type(torch.float32, "f"),
    "double": _Type(torch.float64, "d"),
    "int": _Type(torch.int32, "i"),
    "int32_t": _Type(torch.int32, "i"),
    "int64_t": _Type(torch.int64, "q"),
    "long long": _Type(torch.int64, "q"),
    "uint8_t": _Type(torch.uint8, "B"),
    "unsigned char": _Type(torch.uint8, "B"),
    "unsigned": _Type(None, "I"),
    "unsigned int": _Type(None, "I"),
    "bool": _Type(None, "?"),
}


@dataclass(frozen=True)
class Parameter:
    """One parameter: ``type_name`` is a key of ``TYPES``; ``is_constant`` for pointers to what is only read."""

    name: str
    type_name: str
    is_pointer: bool
    is_constant: bool

    @property
    def dtype(self) -> torch.dtype | None:
        return TYPES[self.type_name].dtype

    @property
    def element_bytes(self) -> int:
        return struct.calcsize(TYPES[self.type_name].letter)

    @property
    def declaration(self) -> str:
        return f"{'const ' if self.is_constant else ''}{self.type_name}{'*' if self.is_pointer else ''}"

    def packed(self, number: Any) -> bytes:
        """A number as the kernel takes it.

        Raises:
            KernelError: it is no number, or none of this type.
        """
        letter = TYPES[self.type_name].letter
        kind: type = Real if letter in "fd" else Integral
        if not isinstance(number, kind):
            expected = "a number" if kind is Real else "a whole number"
            raise KernelError("arguments", f"{self.name}: got {number!r}, expected {expected} ({self.type_name})")
        try:
            return struct.pack(letter, number)
        except (struct.error, OverflowError):
            raise KernelError("arguments", f"{self.name}: {number} does not fit {self.type_name}") from None


@dataclass(frozen=True)
class Signature:
    """A kernel's name and parameters."""

    name: str
    parameters: tuple[Parameter, ...]

    def check(self, arguments: Sequence[Any]) -> torch.device:
        """Hold arguments against the parameters; return the device of the tensors.

        Raises:
            KernelError: one does not fit; the message names it.
        """
        expected = ", ".join(f"{p.declaration} {p.name}" for p in self.parameters)
        if len(arguments) != len(self.parameters):
            count = len(self.parameters)
            raise KernelError("arguments", f"{self.name}({expected}) takes {count} arguments, got {len(arguments)}")
        devices = set()
        for parameter, argument in zip(self.parameters, arguments, strict=True):
            if parameter.is_pointer:
                _check_tensor(parameter, argument)
                devices.add(argument.device)
            elif isinstance(argument, torch.Tensor):
                raise KernelError("arguments", f"{parameter.name}: got a tensor, expected {parameter.type_name}")
            else:
                parameter.packed(argument)
        if len(devices) > 1:
            raise KernelError(
                "arguments", f"the tensors lie on {', '.join(sorted(map(str, devices)))}: move them to one"
            )
        return devices.pop() if devices else torch.device("cpu")


def _check_tensor(parameter: Parameter, tensor: Any) -> None:
    if not isinstance(tensor, torch.Tensor):
        raise KernelError("arguments", f"{parameter.name}: got a {type(tensor).__name__}, expected a tensor")
    if tensor.dtype != parameter.dtype:
        wanted = f"{parameter.dtype} ({parameter.declaration})"
        raise KernelError("arguments", f"{parameter.name}: got {tensor.dtype}, expected {wanted}")
    if not tensor.is_contiguous():
        shape = tuple(tensor.shape)
        raise KernelError("arguments", f"{parameter.name}: {shape} is not contiguous: call .contiguous()")
    if tensor.requires_grad:
        raise KernelError("arguments", f"{parameter.name} requires a gradient, a kernel gives none: call .detach()")


def read_signature(text: str, name: str | None = None) -> Signature:
    """The kernel in a text.

    Args:
        name: which one, if there are several.
    Raises:
        KernelError: there is none, several, or a parameter of a type that is not in ``TYPES``.
    """
    bare = _without_comments(text)
    found = list(re.finditer(r"__global__\s+void\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?(\w+)\s*\(([^)]*)\)", bare))
    names = [match[1] for match in found]
    if not found:
        raise KernelError("text", "the text has no kernel: it begins with `__global__ void name(`")
    if name is None and len(found) > 1:
        raise KernelError("text", f"the text has {len(found)} kernels ({', '.join(names)}): say which by name=")
    if name is not None and name not in names:
        raise KernelError("text", f"the text has no kernel {name!r}, but {', '.join(names)}")
    match = found[names.index(name) if name else 0]
    line = bare[: match.start()].count("\n") + 1
    parameters = [_parameter(word, text, line) for word in match[2].split(",") if word.strip()]
    return Signature(match[1], tuple(parameters))


def shared_name(text: str) -> str:
    """What the text calls its shared memory, if that is one array; else just that."""
    names = re.findall(r"__shared__\s+(?:__align__\s*\(\d+\)\s*)?[\w ]+?\s+(\w+)\s*[\[;=]", _without_comments(text))
    return names[0] if len(names) == 1 else "shared memory"


def _without_comments(text: str) -> str:
    """The text with blanks for comments; lines stay where they are."""
    return re.sub(r"//[^\n]*|/\*.*?\*/", lambda found: re.sub(r"[^\n]", " ", found[0]), text, flags=re.DOTALL)


def _parameter(declared: str, text: str, line: int) -> Parameter:
    words = re.findall(r"\w+|\*|\S", declared)
    is_constant = "const" in words
    words = [word for word in words if word not in ("const", "__restrict__", "__restrict", "restrict")]
    pointers, name = words.count("*"), words[-1]
    type_name = " ".join(word for word in words[:-1] if word != "*")
    known = TYPES.get(type_name)
    if known is None or pointers > 1 or (pointers and known.dtype is None) or not name.isidentifier():
        kinds = ", ".join(TYPES)
        message = f"`{declared.strip()}`: a parameter is a number or a pointer of one of these types: {kinds}"
        raise KernelError("text", at_line(text, line, message), line)
    return Parameter(name, type_name, bool(pointers), is_constant)
