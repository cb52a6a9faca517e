"""`advalign data import ...`: the user's own copies of real data, verified, in the layout of data/."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import typer

from advalign.cli import data_import_responses
from advalign.cli._output import JSON, print_json, print_table

app = typer.Typer(help="Verify your own copies of real data and import them into data/.", no_args_is_help=True)
app.add_typer(data_import_responses.app, name="responses")

WORKERS = typer.Option(None, min=1, help="Processes; default: one per core.", show_default=False)
REPLACE = typer.Option(False, "--replace", help="Replace existing files of other content.")
LINK = typer.Option(
    False,
    "--link",
    help="Hard-link instead of copying: takes no space until `dvc add`; an edit of the source edits data/.",
)
LINKED = (
    "`dvc add` replaces the links by copies. With DVC's cache.type hardlink it would make the files that you imported "
    "read-only: import without --link then (docs/real-data.md)"
)
NEXT = "next: `dvc add data` (updates data.dvc), then `dvc push` to a remote of your own (`dvc remote add -d NAME URL`)"


@app.command()
def classes(
    file: Path | None = typer.Argument(
        None, help="A table in the format of classes.yaml; default: registry/imagenet.yaml.", show_default=False
    ),
    replace: bool = REPLACE,
    as_json: bool = JSON,
) -> None:
    """Import the table of classes, which every other import needs."""
    from advalign.data.imports.classes import import_classes
    from advalign.files import Project

    table = import_classes(Project.find(), file, replace)
    superclasses = {entry.superclass for entry in table.entries} - {None}
    done = {"classes": len(table), "superclasses": len(superclasses)}
    _report(done, f"{len(table)} classes, {len(superclasses)} superclasses in data/classes.yaml", as_json)


@app.command()
def clickme(
    sources: list[Path] = typer.Argument(..., metavar="SOURCE...", help="TFRecord shards, .pth samples, or folders."),
    split: Literal["train", "val", "test"] | None = typer.Option(
        None, help="Default: the word in the file name.", show_default=False
    ),
    workers: int | None = WORKERS,
    replace: bool = REPLACE,
    link: bool = LINK,
    as_json: bool = JSON,
) -> None:
    """Verify ClickMe shards record by record and import them; run again after an interruption, it resumes."""
    from advalign.data.imports.clickme import import_clickme
    from advalign.files import Project
    from advalign.progress import progress

    project = Project.find()
    with progress("importing") as advance:
        done = import_clickme(project, sources, split, workers, replace, link, advance)
    skipped = sum(shard.skipped for shard in done.shards)
    line = (
        f"{len(done.shards)} shards in data/clickme ({skipped} already imported): {done.records} records of "
        f"{len(done.classes)} classes, {done.repeated} with an image that the shard already had"
    )
    if done.ceiling_written:
        line += "\nceiling.yaml written: ClickMe's published human ceiling, 0.65753"
    if done.ceiling_given:
        line += "\nceiling.yaml written: the human ceiling that came with the shards"
    _report(done.as_json(), line, as_json, done.superclasses, link)


@app.command()
def imagenet(
    folder: Path = typer.Argument(..., metavar="DIR", help="Images, flat or in one folder per wnid."),
    labels: Path | None = typer.Option(
        None, help="image,wnid CSV, LOC_val_solution.csv, or a Caffe list.", show_default=False
    ),
    split: Literal["val", "train"] = typer.Option("val", help="Target folder: data/imagenet/val or train."),
    convert: bool = typer.Option(False, "--convert", help="Encode CMYK, PNG and 16-bit images as RGB JPEG."),
    workers: int | None = WORKERS,
    replace: bool = REPLACE,
    link: bool = LINK,
    as_json: bool = JSON,
) -> None:
    """Decode ImageNet images and import them with their labels; run again after an interruption, it resumes."""
    from advalign.data.imports.imagenet import import_imagenet
    from advalign.files import Project
    from advalign.progress import progress

    project = Project.find()
    with progress("importing") as advance:
        done = import_imagenet(project, folder, labels, split, convert, workers, replace, link, advance)
    line = (
        f"{done.images} images of {len(done.classes)} classes in data/imagenet/{split} "
        f"({done.skipped} already imported, {done.converted} converted)"
    )
    _report(done.as_json(), line, as_json, done.superclasses, link)


@app.command()
def cifar(
    sources: list[Path] = typer.Argument(
        ..., metavar="SOURCE...", help="Folder of CIFAR's batches, PNG sheets, or a folder with one folder per class."
    ),
    split: Literal["train", "test"] | None = typer.Option(
        None, help="The only one to import; needed where the source does not say.", show_default=False
    ),
    labels: Path | None = typer.Option(
        None, help="Of sheets: a JSON list of class indices, or one per line.", show_default=False
    ),
    masks: Path | None = typer.Option(
        None, help="Folder of object masks INDEX.png, 255 on the object, 0 elsewhere.", show_default=False
    ),
    mask_source: Literal["user", "own-cam"] = typer.Option(
        "user", help="own-cam: made from a model's own saliency; no metric uses such masks."
    ),
    replace: bool = REPLACE,
    as_json: bool = JSON,
) -> None:
    """Verify CIFAR-10, or other 32x32 images, and import them without loss, with their labels and masks."""
    from advalign.data.imports.cifar import LOSS, Masks, import_cifar
    from advalign.files import Project
    from advalign.progress import progress, say

    given = Masks(masks, mask_source) if masks is not None else None
    with progress("importing") as advance:
        done = import_cifar(Project.find(), sources, split, labels, given, replace, advance)
    if done.lossy:
        say(LOSS.format(done.lossy))
    line = "\n".join(
        f"{one.images} images of {len(one.classes)} classes, {one.masks} masks in data/cifar/{one.split}.parquet"
        f"{' (already imported)' if one.skipped else ''}"
        for one in done.splits
    )
    _report(done.as_json(), line, as_json)


@app.command("cifar-c")
def cifar_c(
    folder: Path = typer.Argument(..., metavar="DIR", help="With the 19 arrays of CIFAR-10-C and labels.npy."),
    replace: bool = REPLACE,
    link: bool = LINK,
    as_json: bool = JSON,
) -> None:
    """Verify the official CIFAR-10-C and import it; data/cifar must hold the test images."""
    from advalign.data.imports.cifar_c import import_cifar_c
    from advalign.files import Project
    from advalign.progress import progress

    with progress("importing") as advance:
        done = import_cifar_c(Project.find(), folder, replace, link, advance)
    line = f"{done.arrays} arrays of {done.images} images at 5 severities in data/cifar/corruptions"
    if done.skipped:
        line += f" ({done.skipped} files already imported)"
    _report(done.as_json(), line, as_json, link=link)


@app.command()
def multilabel(
    file: Path = typer.Argument(..., help="The original JSON, the 2024 CSV export, or ReaL's real.json."),
    replace: bool = REPLACE,
    as_json: bool = JSON,
) -> None:
    """Import the multi-label sets of the images in data/imagenet/val."""
    from advalign.data.imports.multilabel import import_multilabel
    from advalign.files import Project

    done = import_multilabel(Project.find(), file, replace)
    line = (
        f"{done.images} of {done.judged} judged images in data/imagenet/multilabel.json ({done.without_file} have no "
        f"file): {done.problematic} flagged, {done.without_correct} without a correct label; {done.unjudged} of "
        f"data/imagenet/val are not judged; {done.contradictory} have a class that is correct and also something else"
    )
    _report(done.as_json(), line, as_json)


@app.command()
def clicks(
    file: Path = typer.Argument(..., help="A CSV with a header, a parquet file, or a NumPy archive (.npz)."),
    images: Path = typer.Option(..., metavar="DIR", help="Folder that the images of the trials are in, or below."),
    swap: bool = typer.Option(False, "--swap", help="The source's x is the row of a pixel, and its y the column."),
    workers: int | None = WORKERS,
    replace: bool = REPLACE,
    as_json: bool = JSON,
) -> None:
    """Verify the clicks of participants, trial by trial, and import them into data/participants."""
    from advalign.data.imports.clicks import import_clicks
    from advalign.files import Project
    from advalign.progress import progress

    with progress("importing") as advance:
        done = import_clicks(Project.find(), file, images, swap, workers, replace, advance)
    line = (
        f"{done.trials} trials of {done.participants} participants on {done.images} images in data/participants"
        f"{' (already imported)' if done.skipped else ''}: {done.clicks} clicks, {done.outside} of them outside their "
        f"image; {done.empty} trials without clicks"
    )
    if done.missing_trials:
        more = ", ..." if done.missing_images > len(done.missing) else ""
        line += (
            f"\n{done.missing_trials} trials left out: {done.missing_images} of their images are not in {images} or "
            f"below: {', '.join(done.missing)}{more}"
        )
    if done.unknown_class:
        line += f"\n{done.unknown_class} images have no known class" + (
            ": data/classes.yaml is missing: run `advalign data import classes` first if the maps are to become shards"
            if done.classes_missing
            else ": no wnid of data/classes.yaml is in the name of their folder or file"
        )
    _report(done.as_json(), line, as_json)


@app.command()
def maps(
    folder: Path = typer.Argument(..., metavar="DIR", help="PNG, NPY, NPZ or HDF5 maps, called like their images."),
    images: Path = typer.Option(..., metavar="DIR", help="Folder that the images are in, or below."),
    split: Literal["train", "val", "test"] = typer.Option(..., help="Of data/clickme that they become."),
    labels: Path | None = typer.Option(
        None,
        metavar="FILE",
        help="Table of image and wnid; default: the wnid in the names of images or folders.",
        show_default=False,
    ),
    ceiling: float | None = typer.Option(
        None, help="Human ceiling of these maps; default: that of ceiling.yaml stays.", show_default=False
    ),
    workers: int | None = WORKERS,
    replace: bool = REPLACE,
    as_json: bool = JSON,
) -> None:
    """Verify finished human maps and import them with their images as shards of data/clickme."""
    from advalign.data.imports.maps import import_maps
    from advalign.files import Project
    from advalign.progress import progress

    with progress("importing") as advance:
        done = import_maps(Project.find(), folder, images, split, labels, ceiling, workers, replace, advance)
    line = (
        f"{done.records} maps of {len(done.classes)} classes in {done.shards} shards "
        f"data/clickme/{split}-maps-*{' (already imported)' if done.skipped else ''}: {done.converted} images were "
        f"encoded as JPEG, {done.stretched} maps were stretched to the shape of their image"
    )
    if done.missing_images:
        more = ", ..." if done.missing_images > len(done.missing) else ""
        line += f"\n{done.missing_images} maps left out, no image has their name: {', '.join(done.missing)}{more}"
    if done.ceiling is None:
        line += (
            "\ndata/clickme/ceiling.yaml is missing: give --ceiling, the mean rank correlation of the maps of two "
            "halves of the participants, or write `human_ceiling: 0.66` into it"
        )
    elif ceiling is None:
        line += f"\nceiling.yaml stays: human ceiling {done.ceiling:g}"
    _report(done.as_json(), line, as_json)


def _report(
    done: Mapping[str, Any],
    line: str,
    as_json: bool,
    superclasses: Mapping[str, int] | None = None,
    link: bool = False,
) -> None:
    """Print what was imported and the next step; with --json the values only."""
    if as_json:
        print_json(done)
        return
    typer.echo(line)
    if superclasses:
        rows = [{"superclass": name, "images": count} for name, count in superclasses.items()]
        print_table(rows, ["superclass", "images"])
    typer.echo(NEXT)
    if link:
        typer.echo(LINKED)
