"""A project without anything in it, which the tests of imports fill."""

from advalign.data.classes import Classes, ClassInfo, write_classes
from advalign.files import Project


def bare_project(root, classes=None):
    """An empty params.yaml and data/, with the table of classes where one is given."""
    (root / "data").mkdir(parents=True)
    (root / "params.yaml").touch()
    if classes is not None:
        write_classes(root / "data" / "classes.yaml", classes)
    return Project(root)


def plain_classes(*wnids):
    """Inanimate classes c0, c1, ... without superclass."""
    return Classes(tuple(ClassInfo(index, wnid, f"c{index}", None, False) for index, wnid in enumerate(wnids)))
