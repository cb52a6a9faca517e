"""The table of classes -> data/classes.yaml, which every other import needs."""

from pathlib import Path

from advalign.data.classes import Classes, checked_classes
from advalign.data.imports._place import only_import, settled
from advalign.errors import DataError
from advalign.files import Project, replacing
from advalign.regular_files import read_bytes


def import_classes(project: Project, file: Path | None = None, replace: bool = False) -> Classes:
    """Check a table of classes and copy it to data/classes.yaml.

    Args:
        project: where data/ is.
        file: in the format of classes.yaml; None: the project's registry/imagenet.yaml.
        replace: whether another classes.yaml may be replaced.

    Raises:
        DataError: missing or malformed, or data/ holds other classes, to which its labels refer.
    """
    source = file or project.home / "registry" / "imagenet.yaml"
    if not source.exists():
        raise DataError(f"{source} is missing: give the FILE to read the classes from")
    classes = checked_classes(source)
    target = project.data / "classes.yaml"
    with only_import(project):
        try:
            there = settled(source, target, replace)
        except DataError:
            raise DataError(
                f"{target} holds other classes, and the labels in data/ refer to them: move data/ away first, "
                "or give --replace"
            ) from None
        if not there:
            with replacing(target) as temporary:
                temporary.write_bytes(read_bytes(source, DataError))
    return classes
