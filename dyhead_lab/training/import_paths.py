"""Classes and functions in files: written as import paths, and found again without running what a file says.

A run and its weights name the detector, and every class or function among its options, by where it is defined:
``package.module:Name``. Among plain values such a path stands as ``{"import": path}``, with ``"keywords"`` beside it
for a ``functools.partial``::

    {"dyhead": {"extra": JointAttention}}
    {"dyhead": {"extra": {"import": "dyhead_lab.attention.joint:JointAttention"}}}

Weights come from strangers, so a path chooses among what this process knows already and brings nothing in. It is
resolved only

- in the rooms of this library that hold attentions, detectors and data sets (not in ``official``, which writes files);
- in a module that the caller names (:class:`Modules`, ``--import mine.py``);
- in a module of the caller's own that is imported already, a notebook's cells included;
- for classes of ``nn.Module``, in any module that is imported already, such as ``torch.nn.modules.activation``.

Every part of the name is public, and what it names is a class or a function defined in that very module: not what the
module has imported, so that ``mine:os.system`` is nothing.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from torch import nn

from ..errors import UserError
from .python_file import import_file, is_python_file

IMPORT, KEYWORDS = "import", "keywords"
PLAIN = (bool, int, float, str, type(None))
#: Where in the library the parts of a model lie, and where the data sets: all of the library that a file may name.
PARTS, DATA_SETS = ("dyhead_lab.attention", "dyhead_lab.detectors"), ("dyhead_lab.zoo",)
#: Below the rooms of :data:`PARTS`, but no part of a model: published checkpoints in and out, to and from files.
NO_PARTS = "dyhead_lab.detectors.official"
#: Modules of the library that files may still name -> where they lie now. A module that moves gets a line here.
FORMER_MODULES = {"dyhead_lab.detectors.detr.build": "dyhead_lab.detectors.detr.configured"}
LIBRARY = "dyhead_lab"
#: What a notebook, a prompt or a script calls itself.
MAIN = "__main__"

#: A module to take classes from: a Python file, the dotted name of a module, or the module itself.
Import = str | Path | ModuleType


def import_path(value: Callable[..., Any], setting: str) -> str:
    """``package.module:Name`` of a class or function.

    Args:
        setting: what it is the value of, for the message.

    Raises:
        UserError: it could not be found again by a name: it has none, as a lambda; its name is private; or it stands
            in a program that is no file.
    """
    if not isinstance(value, type | FunctionType):
        raise UserError(f"{setting}: expected a class or a function that a file defines, got {value!r}")
    module, name = _home(value.__module__), value.__qualname__
    remedy = "put it into a file, as a class or function with a public name, and import it from there"
    if not all(part.isidentifier() for part in module.split(".")):
        raise UserError(f"{setting}: {name} lies in {module}.py, a name that cannot be imported; rename the file")
    if not _is_public(name):
        raise UserError(f"{setting}: {name} cannot be found again by its name; {remedy}")
    if module == MAIN and not _is_interactive():
        raise UserError(f"{setting}: {name} belongs to a program that is no file; {remedy}")
    if _attribute(_loaded(module), name) is not value:
        raise UserError(f"{setting}: {module}:{name} is something else by now; {remedy}")
    return f"{module}:{name}"


def current_path(path: str) -> str:
    """An import path as it is now; see :data:`FORMER_MODULES`."""
    module, colon, name = path.partition(":")
    return FORMER_MODULES.get(module, module) + colon + name


def to_plain(value: Any, setting: str) -> Any:
    """A setting as numbers, text, lists, tuples and dicts, which every file can hold.

    Raises:
        UserError: it contains something else than these, classes and functions.
    """
    if type(value) in PLAIN:
        return value
    if type(value) in (list, tuple):
        return type(value)(to_plain(part, setting) for part in value)
    if isinstance(value, Mapping):
        if IMPORT in value or not all(isinstance(key, str) for key in value):
            raise UserError(f"{setting}: expected names other than {IMPORT!r}, got {', '.join(map(repr, value))}")
        return {key: to_plain(part, f"{setting}.{key}") for key, part in value.items()}
    if isinstance(value, partial):
        if value.args:
            raise UserError(f"{setting}: expected a partial with keywords only, got arguments {value.args!r}")
        return {IMPORT: import_path(value.func, setting), KEYWORDS: to_plain(value.keywords, setting)}
    if isinstance(value, type | FunctionType):
        return {IMPORT: import_path(value, setting)}
    raise UserError(
        f"{setting}: expected numbers, text, lists, dicts, classes or functions, got {type(value).__name__} {value!r}"
    )


class Modules:
    """The modules that import paths are resolved in.

    Args:
        imports: named by the caller, who trusts them: Python files and modules are imported here.

    Raises:
        UserError: one of them cannot be imported.
    """

    def __init__(self, imports: Iterable[Import] = ()):
        self.named = {_imported(source).__name__ for source in imports}

    def from_plain(self, value: Any) -> Any:
        """What :func:`to_plain` made plain.

        Raises:
            UserError: as :meth:`resolve`.
        """
        if isinstance(value, list | tuple):
            return type(value)(map(self.from_plain, value))
        if not isinstance(value, Mapping):
            return value
        if IMPORT not in value:
            return {key: self.from_plain(part) for key, part in value.items()}
        found = self.resolve(value[IMPORT])
        return partial(found, **self.from_plain(value[KEYWORDS])) if KEYWORDS in value else found

    def resolve(self, path: str, rooms: Iterable[str] = PARTS) -> Callable[..., Any]:
        """The class or function of an import path.

        Args:
            rooms: where in the library it may lie.

        Raises:
            UserError: it names nothing, or something that a file may not name.
        """
        module_name, _, name = current_path(str(path)).partition(":")
        if not _is_public(name):
            raise UserError(f"{path!r}: expected package.module:Name with public names")
        is_ours = any(_lies_in(module_name, room) for room in rooms) and not _lies_in(module_name, NO_PARTS)
        module = _library_module(module_name) if is_ours else _loaded(module_name)
        if _lies_in(module_name, LIBRARY) and not (is_ours or module_name in self.named):
            raise UserError(f"{path}: expected something of {' or '.join(rooms)}")
        if module is None:
            raise UserError(f"{path}: {_remedy(module_name)}")
        found = _attribute(module, name)
        if not isinstance(found, type | FunctionType) or not _is_defined_as(found, module_name, name):
            reason = _remedy(MAIN) if module_name == MAIN else f"{module_name} defines no class or function {name}"
            raise UserError(f"{path}: {reason}")
        is_trusted = is_ours or module_name in self.named or _is_own(module)
        if not is_trusted and not (isinstance(found, type) and issubclass(found, nn.Module)):
            raise UserError(f"{path}: {_refusal(module_name)}")
        return found


def _lies_in(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def _library_module(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError:
        raise UserError(f"{name}: this version of dyhead_lab has no such module") from None


def _is_defined_as(found: type | FunctionType, module: str, name: str) -> bool:
    """Whether this is where it was defined, and not a module that has imported it."""
    return (_home(found.__module__), found.__qualname__) == (module, name)


def _remedy(module: str) -> str:
    if module == MAIN:
        return "it was defined in a notebook: run the cell that defines it here too, or put it into a file"
    file = module if "." in module else f"{module}.py"
    return f"{module} is not imported here; name what defines it: --import {file}, or imports=[{file!r}] in Python"


def _refusal(module: str) -> str:
    """Why a module is not trusted. Nobody is invited to trust Python's own: no detector is made of them."""
    if module.partition(".")[0] in sys.stdlib_module_names:
        return "belongs to Python itself and is no part of a detector; such a file may mean harm"
    return f"belongs to an installed package; if that is right: --import {module}"


def _imported(source: Import) -> ModuleType:
    if isinstance(source, ModuleType):
        return source
    if is_python_file(source):
        return import_file(source)
    if str(Path.cwd()) not in sys.path:  # where the reader works, as under python -m; last, so that it hides nothing
        sys.path.append(str(Path.cwd()))
    try:
        return import_module(str(source))
    except ImportError as error:
        raise UserError(f"{source}: cannot be imported ({error}); expected a Python file or a module") from error


def _home(module: str) -> str:
    """The name under which others import a module; a script calls itself ``__main__``."""
    main = sys.modules.get(MAIN)
    if module != MAIN or main is None:
        return module
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if spec is not None:  # python -m package.module
        return spec.name
    return Path(file).stem if file and not _is_interactive() else MAIN


def _loaded(name: str) -> ModuleType | None:
    return sys.modules.get(MAIN if name == _home(MAIN) else name)


def _is_interactive() -> bool:
    """Whether ``__main__`` is a notebook or a prompt, whose cells can be run again."""
    return hasattr(sys, "ps1") or "get_ipython" in vars(sys.modules[MAIN])


def _is_public(name: str) -> bool:
    return all(part.isidentifier() and not part.startswith("_") for part in name.split("."))


def _attribute(module: ModuleType | None, name: str) -> Any:
    """What stands under a dotted name; no attribute is computed, as a property would be."""
    found: Any = module
    for part in name.split("."):
        found = vars(found).get(part) if isinstance(found, type | ModuleType) else None
    return found


def _is_own(module: ModuleType) -> bool:
    """Whether a module is somebody's own code: a cell or a file outside the folders where packages are installed."""
    file = getattr(module, "__file__", None)
    if not file:
        return module is sys.modules[MAIN]  # a notebook or a prompt; what is built into Python has no file either
    path = Path(file).resolve()
    libraries = [Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "platstdlib", "purelib", "platlib")]
    installed = {"site-packages", "dist-packages"} & set(path.parts)
    return not installed and not any(path.is_relative_to(folder) for folder in libraries)
