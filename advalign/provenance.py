"""Where a result comes from: the commit, who works here, the data version."""

import getpass
import os
import subprocess
from pathlib import Path

from advalign.errors import InputError
from advalign.strict_files import read_yaml


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
    done = subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True)
    return done.stdout.decode(errors="replace").strip()


def data_md5(root: Path) -> str | None:
    """DVC's digest of data/, from data.dvc; None when the data is not tracked."""
    try:
        return str(read_yaml(root / "data.dvc")["outs"][0]["md5"])
    except (OSError, InputError, KeyError, IndexError, TypeError):
        return None
