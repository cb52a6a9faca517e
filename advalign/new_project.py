"""A new project: the files of the repository's root, changed to work without the repository.

`advalign/template` links to the files in the repository's root; the wheel carries copies of them. The links have other
names than their files, so that DVC does not find a second pipeline there.
"""

import re
from importlib.metadata import version
from pathlib import Path

from advalign.errors import InputError
from advalign.files import write_text

TEMPLATE = Path(__file__).parent / "template"
MARK = ".template"
HIDDEN = ("gitignore", "dvcignore")  # files whose names in the template lack the dot
INSTALLED = "requirements.txt"
PAGE = """# {name}

An experiment with advalign: `params.yaml` says what is run, `dvc.yaml` in which order, `registry/zoo.yaml` of which
models.

```sh
advalign data sample    # or bring your own: advalign data import --help
git init && dvc init    # without git: dvc init --no-scm
dvc config core.analytics false    # DVC reports usage otherwise
dvc add data
dvc repro
```

Networks of your own in this folder are named in `registry/zoo.yaml` (architecture: python:MODULE:FUNCTION).
"""


def write_project(folder: Path) -> list[Path]:
    """Write a new project into a folder.

    Args:
        folder: absent or empty; names that begin with a dot (.git) are ignored.

    Returns:
        The files, relative to the folder.

    Raises:
        InputError: the folder is not empty, or is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: name an empty or new folder")
    held = sorted(path.name for path in folder.glob("[!.]*")) if folder.is_dir() else []
    if held:
        raise InputError(f"{folder} is not empty ({', '.join(held[:3])}): name an empty or new folder")
    files = {_name(path): path.read_text(encoding="utf-8") for path in _files(TEMPLATE)}
    files["dvc.yaml"] = without_repository(files["dvc.yaml"])
    files[INSTALLED] = f"advalign=={version('advalign')}\n"
    files["README.md"] = PAGE.format(name=folder.resolve().name)
    for name, text in files.items():
        write_text(folder / name, text)
    return [Path(name) for name in sorted(files)]


def without_repository(pipeline: str) -> str:
    r"""A dvc.yaml whose stages depend on the installed version instead of on files of the repository.

    >>> without_repository("deps: [data, pipelines/stimuli.py, advalign/data, advalign/tensors]")
    'deps: [data, requirements.txt]'
    """
    pipeline = re.sub(r"^ *- advalign/\S+\n", "", pipeline, flags=re.MULTILINE)
    pipeline = re.sub(r", advalign/[^\s,\]]+", "", pipeline)
    return re.sub(r"pipelines/\w+\.py", INSTALLED, pipeline)


def _name(path: Path) -> str:
    """Name in a project of a file of the template."""
    name = path.relative_to(TEMPLATE).as_posix().removesuffix(MARK)
    return f".{name}" if name in HIDDEN else name


def _files(folder: Path) -> list[Path]:
    """Files below a folder; links are followed."""
    found = []
    for path in sorted(folder.iterdir()):
        found += _files(path) if path.is_dir() else [path]
    return found
