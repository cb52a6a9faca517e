"""data/participants -> outputs/maps: cleaning, agreement of every image, their summary, the curve.

```
outputs/maps/cleaning.json      what each step dropped, and participants who agree with nobody
outputs/maps/agreement.parquet  one row per image: ceilings, floors and bounds by every measure
outputs/maps/summary.json       their means over the images
outputs/maps/curve.json         ceilings against the number of participants
```

All are sealed. Without data/participants they are written with nothing in them, so that one pipeline serves all
experiments.
"""

import math
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from advalign import seals
from advalign.data.cleaning import CleaningTable, clean_image, suspicious
from advalign.data.human_maps.block_work import BlockResult, Task, agreements, compare_with_mean, measure_block
from advalign.data.human_maps.blocks import ImageTrials, in_blocks, of_cleaned, save_block
from advalign.data.human_maps.curve import curves
from advalign.data.human_maps.sides import MEASURES
from advalign.data.human_maps.summary import as_table, settings_digest, summary
from advalign.data.imports._pool import each
from advalign.data.participants import IMAGE, has_participants, read_images, read_trials, say_if_changed, trials_digest
from advalign.data.results import write_table
from advalign.errors import DataError
from advalign.files import Project
from advalign.progress import Advance, progress
from advalign.settings import HumanMapSettings

AGREEMENT, CLEANING, SUMMARY, CURVE = "agreement.parquet", "cleaning.json", "summary.json", "curve.json"
FILES = (SUMMARY, CLEANING, CURVE, AGREEMENT)
MEND = "make it again with `dvc repro -f maps`"  # where one of them is damaged
WORTH_A_PROCESS = 32  # blocks of quick work
Suspects = list[dict[str, Any]]


def make_human_maps(
    project: Project, settings: HumanMapSettings, seed: int, workers: int | None = None, device: str = "cpu"
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Clean the trials, measure how well people agree, and write outputs/maps.

    Memory is bounded by one block of images per process. The result depends on neither the number of processes nor
    the order in which they finish.

    Args:
        project: with data/participants, or without.
        settings: of the maps.
        seed: of splits, resamples and floors.
        workers: processes, at most; None: one per core.
        device: that maps are compared on; with another one than the CPU, give one worker.

    Returns:
        What cleaning.json and summary.json hold.

    Raises:
        DataError: data/participants is damaged, or nothing of it is left after cleaning.
    """
    digest = settings_digest(settings, seed)
    if not has_participants(project):
        return _write(project, {"steps": [], "suspicious": []}, as_table([]), (0, 0), {}, digest, seed)
    say_if_changed(project)
    folder = project.human_maps / ".blocks"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    threads = torch.get_num_threads()
    try:
        with progress("human maps") as advance:
            steps, tasks, suspects = _cleaned(project, settings, seed, folder, workers, device)
            results = _in_order(measure_block, tasks, workers, advance)
            table, curve = _joined(results, tasks, workers, seed)
    finally:
        torch.set_num_threads(threads)
        shutil.rmtree(folder, ignore_errors=True)
    names = [name for result in results for name in result.agreements[0]]
    if suspects is None:
        suspects = suspicious(names, [value for result in results for value in result.agreements[1]], settings)
    people = (len(set(names)), len(names))
    return _write(project, {"steps": steps, "suspicious": suspects}, table, people, curve, digest, seed)


def _cleaned(
    project: Project, settings: HumanMapSettings, seed: int, folder: Path, workers: int | None, device: str
) -> tuple[list[dict[str, Any]], list[Task], Suspects | None]:
    """Clean all trials into blocks on disk; twice where participants are dropped whose maps agree with nobody's.

    Returns:
        Steps of cleaning.json, the blocks, and the suspicious participants where they are known already.
    """
    table, tasks = _spooled(project, settings, seed, folder, frozenset(), device)
    if not settings.drop_outliers:
        return table.steps(), tasks, None
    found = _in_order(agreements, tasks, _few(workers, tasks))
    suspects = suspicious(
        [name for part in found for name in part[0]], [v for part in found for v in part[1]], settings
    )
    dropped = frozenset(str(one["participant"]) for one in suspects)
    if dropped:
        for task in tasks:
            task.path.unlink()
        table, tasks = _spooled(project, settings, seed, folder, dropped, device)
    return table.steps(), tasks, suspects


def _spooled(
    project: Project, settings: HumanMapSettings, seed: int, folder: Path, dropped: frozenset[str], device: str
) -> tuple[CleaningTable, list[Task]]:
    """Clean every image's trials and write what is kept to blocks.

    Raises:
        DataError: nothing is kept.
    """
    table = CleaningTable()
    tasks = []
    for number, block in enumerate(in_blocks(cleaned_images(project, settings, dropped, table))):
        tasks.append(Task(folder / f"{number:06d}.npz", settings, seed, device))
        save_block(tasks[-1].path, block)
    if not tasks:
        last = "; ".join(f"{step['step']}: {step['dropped']}" for step in table.steps())
        raise DataError(
            f"no image has {settings.min_subjects} participants after cleaning (trials dropped by step: {last}): "
            "lower what params.yaml demands (human_maps), or import more trials"
        )
    return table, tasks


def cleaned_images(
    project: Project, settings: HumanMapSettings, dropped: frozenset[str], table: CleaningTable
) -> Iterator[ImageTrials]:
    """The cleaned trials of every image that has enough participants, in order of their names.

    Args:
        project: with data/participants.
        settings: of the cleaning.
        dropped: participants that are dropped, where the settings say so.
        table: to which every image's steps are added.

    Raises:
        DataError: data/participants is damaged.
    """
    images = {str(row[IMAGE]): row for row in read_images(project).to_dict("records")}
    for trials in read_trials(project):
        name = str(trials[IMAGE].iloc[0])
        if name not in images:
            raise DataError(f"{project.participants}: trials on {name!r}, which images.parquet lacks: import again")
        image = images[name]
        cleaned = clean_image(trials, image["width"], image["height"], settings, dropped)
        table.add(cleaned.image, cleaned.steps)
        if len(cleaned.trials):
            yield of_cleaned(cleaned, image)


def _in_order(work: Any, tasks: list[Task], workers: int | None, advance: Advance | None = None) -> list[Any]:
    """Results of all tasks in their order, whichever process finished first."""
    found: dict[int, Any] = {}
    for place, result in each(partial(_numbered, work), list(enumerate(tasks)), workers):
        found[place] = result
        if advance:
            advance(len(found), len(tasks))
    return [found[place] for place in range(len(tasks))]


def _few(workers: int | None, tasks: list[Task]) -> int | None:
    """How many processes quick work is worth: to start one takes as long as some blocks."""
    return 1 if len(tasks) < WORTH_A_PROCESS else workers


def _numbered(work: Any, numbered: tuple[int, Task]) -> tuple[int, Any]:
    return numbered[0], work(numbered[1])


def _joined(
    results: list[BlockResult], tasks: list[Task], workers: int | None, seed: int
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """agreement.parquet and curve.json of all blocks."""
    rows = [row for result in results for row in result.rows]
    total = np.sum([result.total for result in results], axis=0)
    compared = _in_order(partial(compare_with_mean, total=total, count=len(rows)), tasks, _few(workers, tasks))
    table = as_table([row | mean for row, mean in zip(rows, (one for part in compared for one in part), strict=True)])
    found = {measure: np.concatenate([result.curves[measure] for result in results]) for measure in MEASURES}
    return table, curves(found, table["participants"].to_numpy(), seed)


def _write(
    project: Project,
    cleaning: dict[str, Any],
    table: pd.DataFrame,
    people: tuple[int, int],
    curve: dict[str, Any],
    digest: str,
    seed: int,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write the four files, the table last: with it, all of them are there."""
    told = summary(table, *people, digest, seed) | {"trials_sha256": trials_digest(project)}
    for name, values in ((CLEANING, cleaning), (SUMMARY, told), (CURVE, curve)):
        seals.write_json(project.human_maps / name, plain(values))
    write_table(project.human_maps / AGREEMENT, table, digest)
    return cleaning, told


def need_maps(project: Project) -> Path:
    """Return outputs/maps, whose files are there and whole.

    Raises:
        DataError: one is missing or damaged.
    """
    for name in FILES:
        if not (project.human_maps / name).is_file():
            raise DataError(f"{project.human_maps / name} is missing: {MEND}")
        seals.need_whole(project.human_maps / name, MEND)
    return project.human_maps


def plain(values: Any) -> Any:
    """Values as JSON has them: null in place of a number that is not finite."""
    if isinstance(values, dict):
        return {name: plain(value) for name, value in values.items()}
    if isinstance(values, list):
        return [plain(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values
