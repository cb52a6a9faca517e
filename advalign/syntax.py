"""A source file split into its top-level definitions, which `closures` follows."""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

Method = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class Module:
    """A source file, split at its top level.

    Attributes:
        path: the file.
        definitions: name -> statements that bind the name.
        imports: name -> (module, name in it; "" for the module itself).
        effects: statements that bind nothing.
    """

    path: Path
    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, tuple[str, str]] = field(default_factory=dict)
    effects: list[ast.stmt] = field(default_factory=list)

    def take(self, statements: Iterable[ast.stmt]) -> None:
        """Sort top-level statements; those under `if` and `try` count as top-level too."""
        for statement in statements:
            bound = list(_bound(statement))
            if isinstance(statement, ast.Import | ast.ImportFrom):
                self.imports.update(imported(statement))
            elif isinstance(statement, ast.If | ast.Try | ast.With):
                self.take(child for child in ast.iter_child_nodes(statement) if isinstance(child, ast.stmt))
            elif bound:
                for name in bound:
                    self.definitions.setdefault(name, []).append(statement)
            elif not _is_docstring(statement):
                self.effects.append(statement)


def _bound(statement: ast.stmt) -> Iterator[str]:
    """Names that a statement binds."""
    if isinstance(statement, Method | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Assign):
        yield from (part.id for target in statement.targets for part in ast.walk(target) if isinstance(part, ast.Name))
    elif isinstance(statement, ast.AnnAssign | ast.AugAssign) and isinstance(statement.target, ast.Name):
        yield statement.target.id


def imported(statement: ast.Import | ast.ImportFrom) -> dict[str, tuple[str, str]]:
    """Names that an import binds -> (module, name in it; "" for the module itself)."""
    if isinstance(statement, ast.ImportFrom):
        return {one.asname or one.name: (statement.module or "", one.name) for one in statement.names}
    return {one.asname or one.name.split(".")[0]: (one.name, "") for one in statement.names}


def with_annotations(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below a node; annotations in quotes are parsed as code."""
    for part in ast.walk(node):
        yield part
        for annotation in (getattr(part, "annotation", None), getattr(part, "returns", None)):
            for text in ast.walk(annotation) if isinstance(annotation, ast.AST) else ():
                if isinstance(text, ast.Constant) and isinstance(text.value, str):
                    try:
                        yield from ast.walk(ast.parse(text.value, mode="eval"))
                    except SyntaxError:
                        continue  # text inside Literal or Annotated


def without_prose(tree: ast.Module) -> ast.Module:
    """The tree without docstrings and without the text of errors and descriptions."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            body[:] = [one for one in body if not _is_docstring(one)] or [ast.Pass()]
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            node.exc.args, node.exc.keywords = [], []
        if isinstance(node, ast.Call):
            node.keywords = [one for one in node.keywords if one.arg != "description"]
    return tree


def _is_docstring(statement: ast.AST) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
