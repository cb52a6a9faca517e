"""Multi-label sets of validation images: correct and unclear labels, and the flagged images."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from advalign.errors import DataError, shown
from advalign.names import check_file_name
from advalign.strict_files import read_json


@dataclass(frozen=True)
class LabelSet:
    """Class indices that people judged for one image, and whether the image was flagged problematic."""

    correct: frozenset[int]
    unclear: frozenset[int] = frozenset()
    wrong: frozenset[int] = frozenset()
    problematic: bool = False


def read_multilabel(path: Path, index_of_wnid: Mapping[str, int]) -> dict[str, LabelSet]:
    """Read the original release's JSON: `initial_annots` and `problematic_images` (Shankar et al. 2020).

    Args:
        path: data/imagenet/multilabel.json.
        index_of_wnid: class index by wnid (from classes.yaml).

    Returns:
        file name -> LabelSet.

    Raises:
        DataError: missing, no JSON, not that schema, an image given twice, or an unknown wnid (named).
    """
    try:
        content = read_json(path, DataError)
        annotations, problematic = content["initial_annots"], content["problematic_images"]
        strays = [group for judged in annotations.values() for group in judged.values() if not isinstance(group, list)]
        if strays:
            raise TypeError(f"{shown(strays[0])} is not a list of wnids")
    except OSError:
        raise DataError(f"{path} is missing: get the data with `dvc pull data.dvc`") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: not a multi-label set (initial_annots, problematic_images): {error!r}; fetch it again"
        ) from None
    sets = {}
    for name, judged in annotations.items():
        check_file_name(name, str(path))
        groups = {}
        for group in ("correct", "unclear", "wrong"):
            unknown = [wnid for wnid in judged.get(group, []) if not isinstance(wnid, str) or wnid not in index_of_wnid]
            if unknown:
                found = f"unknown wnid {shown(unknown[0])} in {group!r} (not in classes.yaml)"
                raise DataError(f"{path}: {name}: {found}: fix that entry")
            groups[group] = frozenset(index_of_wnid[wnid] for wnid in judged.get(group, []))
        sets[name] = LabelSet(**groups, problematic=name in problematic)
    return sets
