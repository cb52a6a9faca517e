"""What a result was made from: the code that computes it, the commit, the data version."""

import ast
import getpass
import hashlib
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

import yaml

PACKAGE = Path(__file__).parent


def code_digest(parts: Iterable[str]) -> str:
    """SHA-256 of the code in some folders or files of the package, blind to comments, docstrings and layout.

    A result whose code has changed is not reused; one whose code was only described better is.

    >>> code_digest(["errors.py"]) == code_digest(["errors.py"])
    True
    """
    content = hashlib.sha256()
    for part in sorted(parts):
        path = PACKAGE / part
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            tree = ast.parse(file.read_text())
            for node in ast.walk(tree):
                body = getattr(node, "body", None)
                if isinstance(body, list) and body and _is_docstring(body[0]):
                    body[:] = body[1:] or [ast.Pass()]
            content.update(f"{file.relative_to(PACKAGE).as_posix()}\n{ast.dump(tree)}".encode())
    return content.hexdigest()


def _is_docstring(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def git_state(root: Path) -> tuple[str | None, bool | None]:
    """The commit that is checked out and whether tracked files differ from it; (None, None) outside git."""
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return commit, bool(_git(root, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        return None, None


def git_user(root: Path) -> str:
    """Who works here: git's user, or else the system's, by name or number."""
    try:
        return f"{_git(root, 'config', 'user.name')} <{_git(root, 'config', 'user.email')}>"
    except (OSError, subprocess.CalledProcessError):
        pass  # outside git, or git knows nobody
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a number without a name, as in a container
        return str(os.getuid())


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def data_md5(root: Path) -> str | None:
    """DVC's digest of data/, from data.dvc; None when the data is not tracked."""
    try:
        return str(yaml.safe_load((root / "data.dvc").read_text())["outs"][0]["md5"])
    except (OSError, KeyError, IndexError, TypeError, yaml.YAMLError):
        return None
