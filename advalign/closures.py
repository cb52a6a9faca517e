"""The code that computes a result: all that its definitions reach through names and imports.

A closure begins with the definitions that compute a result (a function, the class of a probe) and follows every name
that they use, across the files of the package, down to imports from other packages. It is computed from the source, not
listed by hand: a new file changes no closure, and a changed helper changes the closures that reach it.

Two rules keep a closure as small as the result:

- Comments, docstrings, layout, error messages and descriptions of settings do not count.
- A method counts where reached code uses its name (`.measure`). Methods that Python or a library may call always count:
  special methods, decorated ones, and all methods of a class that derives from a library's class.

The source does not show what is loaded by name (`catalog.load`): such an entry must be a root itself.
"""

import ast
import hashlib
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from advalign.syntax import Method, Module, imported, with_annotations, without_prose

PACKAGES = ("advalign", "pipelines")
PLAIN = {"property", "cached_property", "staticmethod", "classmethod", "abstractmethod", "contextmanager", "no_grad"}
"""Decorators of methods that count only where reached code uses their names."""
BARE = {"ABC", "Protocol", "object", "Generic"}
"""Base classes of libraries that call no methods of derived classes."""
NO_PART = (
    "advalign.catalog",
    "advalign.errors",
    "advalign.inputs",
    "advalign.evaluation.tally",
    "advalign.memory",
    "advalign.progress",
    "advalign.seals",
    "advalign.tracking",
)
"""Modules that compute no part of a result: they find entries, report errors and progress, check files, log
results. How many images fit into memory at once is in the rows."""


@dataclass(frozen=True)
class Closure:
    """All code that some roots reach.

    Attributes:
        files: files of the reached definitions.
        parts: "module:name" -> the syntax tree of its code that counts, as text.
    """

    files: frozenset[Path]
    parts: dict[str, str]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the code."""
        content = hashlib.sha256()
        for name, text in sorted(self.parts.items()):
            content.update(f"{name}\n{text}\n".encode())
        return content.hexdigest()


class Source:
    """The source of some packages, parsed as it is reached.

    Args:
        root: the folder that the packages lie in.
        stop: modules (with their submodules) that are not followed: they compute no part of a result.
        packages: names of the packages that are followed.
    """

    def __init__(self, root: Path, stop: tuple[str, ...] = (), packages: tuple[str, ...] = PACKAGES) -> None:
        self.root, self.stop, self.packages = root, stop, packages
        self._modules: dict[str, Module | None] = {}

    def module(self, name: str) -> Module | None:
        """A module of the packages by its dotted name; None for any other."""
        if name not in self._modules:
            self._modules[name] = self._parse(name)
        return self._modules[name]

    def _parse(self, name: str) -> Module | None:
        if name.split(".")[0] not in self.packages or any(f"{name}.".startswith(f"{one}.") for one in self.stop):
            return None
        folder = self.root.joinpath(*name.split("."))
        path = next((one for one in (folder.with_suffix(".py"), folder / "__init__.py") if one.is_file()), None)
        if path is None:
            return None
        module = Module(path)
        module.take(without_prose(ast.parse(path.read_text(encoding="utf-8"))).body)
        return module

    def closure(self, *roots: str) -> Closure:
        """Follow everything that the roots use.

        Args:
            roots: "package.module:name", or "package.module" for all its definitions.

        Raises:
            LookupError: a root does not exist; this is a defect of the caller.
        """
        walk = _Walk(self)
        for root in roots:
            module, _, name = root.partition(":")
            found = self.module(module)
            if found is None or (name and name not in found.definitions):
                raise LookupError(f"there is no {root} in {self.root}")
            for each in [name] if name else found.definitions:
                walk.reach(module, each)
        return walk.finish()


class _Walk:
    """One walk: the code reached so far, and the names still to follow."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.parts: dict[str, str] = {}
        self.files: set[Path] = set()
        self.attributes: set[str] = set()
        self._classes: list[tuple[str, ast.ClassDef]] = []
        self._waiting: list[tuple[str, str]] = []
        self._seen: set[tuple[str, str]] = set()

    def reach(self, module: str, name: str) -> None:
        """Add a name of a module to those to follow, once."""
        if (module, name) not in self._seen:
            self._seen.add((module, name))
            self._waiting.append((module, name))

    def finish(self) -> Closure:
        """Follow all names; a method is followed once reached code uses its name."""
        while self._waiting or self._take_methods():
            while self._waiting:
                self._follow(*self._waiting.pop())
        return Closure(frozenset(self.files), self.parts)

    def _follow(self, module: str, name: str) -> None:
        found = self.source.module(module)
        if found is None:
            if module.split(".")[0] not in self.source.packages:
                self.parts[f"{module}:{name}"] = "imported"
            return
        self.files.add(found.path)
        for number, effect in enumerate(found.effects):
            self._use(module, f"effect {number}", effect)
        if name in found.imports:
            self._import(*found.imports[name])
        for number, statement in enumerate(found.definitions.get(name, ())):
            if isinstance(statement, ast.ClassDef):
                self._classes.append((module, statement))
                statement = _shell(statement, found.imports, self.source)
            self._use(module, f"{name}{number or ''}", statement)

    def _import(self, module: str, name: str) -> None:
        submodule = f"{module}.{name}"
        if name and self.source.module(submodule) is None:
            self.reach(module, name)
        elif not name and self.source.module(module) is None:
            self.reach(module, "")

    def _take_methods(self) -> bool:
        """Add the methods whose names are used by now; return whether any was new."""
        taken = False
        for module, kind in self._classes:
            methods = [part for part in kind.body if isinstance(part, Method) and part.name in self.attributes]
            for number, method in enumerate(methods):
                same = sum(other.name == method.name for other in methods[:number])  # a property and its setter
                taken |= self._use(module, f"{kind.name}.{method.name}{same or ''}", method)
        return taken

    def _use(self, module: str, name: str, node: ast.stmt) -> bool:
        """Keep a piece of code and follow what it uses; return whether it was new."""
        key = f"{module}:{name}"
        if key in self.parts:
            return False
        self.parts[key] = ast.dump(node)
        found = self.source.module(module)
        imports: dict[str, tuple[str, str]] = found.imports if found is not None else {}
        for part in with_annotations(node):
            if isinstance(part, ast.Name):
                self._name(module, part.id, imports)
            elif isinstance(part, ast.Attribute):
                self.attributes.add(part.attr)
                if isinstance(part.value, ast.Name) and part.value.id in imports:
                    target, inside = imports[part.value.id]
                    self._attribute(f"{target}.{inside}" if inside else target, part.attr)
            elif isinstance(part, ast.Import | ast.ImportFrom):
                for origin in imported(part).values():
                    self._import(*origin)
        return True

    def _name(self, module: str, name: str, imports: dict[str, tuple[str, str]]) -> None:
        found = self.source.module(module)
        if name in imports or (found is not None and name in found.definitions):
            self.reach(module, name)

    def _attribute(self, module: str, attribute: str) -> None:
        """Follow `catalog.load`, where `catalog` is a module of the packages."""
        if self.source.module(module) is not None:
            self.reach(module, attribute)


def _shell(kind: ast.ClassDef, imports: dict[str, tuple[str, str]], source: Source) -> ast.ClassDef:
    """A class without the methods that count only where reached code uses their names."""
    names = [base.id if isinstance(base, ast.Name) else getattr(base, "attr", "") for base in kind.bases]
    foreign = any(_is_foreign(base, name, imports, source) for base, name in zip(kind.bases, names, strict=True))
    kept = [
        part
        for part in kind.body
        if not isinstance(part, Method)
        or foreign
        or (part.name.startswith("__") and part.name.endswith("__"))
        or not {_last(decorator) for decorator in part.decorator_list} <= PLAIN
    ]
    return ast.ClassDef(kind.name, kind.bases, kind.keywords, kept or [ast.Pass()], kind.decorator_list)


def _is_foreign(base: ast.expr, name: str, imports: dict[str, tuple[str, str]], source: Source) -> bool:
    if name in BARE or isinstance(base, ast.Subscript):
        return False
    if isinstance(base, ast.Attribute):
        return True  # nn.Module
    module, _ = imports.get(name, ("", ""))
    return bool(module) and source.module(module) is None


def _last(decorator: ast.expr) -> str:
    """The last name of a decorator: `functools.cached_property` -> cached_property."""
    target = decorator.func if isinstance(decorator, ast.Call) else decorator
    return target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")


@lru_cache(maxsize=1)
def _own() -> Source:
    return Source(Path(__file__).parents[1], stop=NO_PART)


@lru_cache(maxsize=256)
def closure(*roots: str) -> Closure:
    """The closure of definitions of the installed package; see `Source.closure`.

    >>> "advalign.tensors.norms:l2_norm" in closure("advalign.tensors.norms:unit_l2").parts
    True
    """
    return _own().closure(*roots)
