"""`advalign data import responses ...`: brain responses that others or you recorded, verified, into data/responses/."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from advalign.cli._output import JSON, print_json

if TYPE_CHECKING:
    from advalign.data.imports.responses._place import Order
    from advalign.data.imports.responses._plan import Plan

app = typer.Typer(help="Import brain responses to images, in the layout that you have.", no_args_is_help=True)

Name = Annotated[str, typer.Option(help="data/responses/NAME.h5.")]
Provenance = Annotated[
    Literal["measured", "simulated", "predicted"], typer.Option(help="Printed wherever a number from it is.")
]
Stimuli = Annotated[
    Path | None,
    typer.Option(help="Folder of the image files, to find the images of models by their bytes.", show_default=False),
]
Images = Annotated[Path | None, typer.Option(help="CSV: id, and any of file, sha256, label.", show_default=False)]
Replace = Annotated[bool, typer.Option("--replace", help="Replace a store of other content.")]
Force = Annotated[bool, typer.Option("--force", help="Import although repeats of an image agree in no area.")]
LeaveOutSilent = Annotated[
    bool, typer.Option("--leave-out-silent", help="Leave out units without responses (NaN, or always the same).")
]
Description = Annotated[str, typer.Option(help="What it is, in a sentence.")]
NEXT = "next: `advalign data reliability {}`, then `dvc add data` (updates data.dvc)"


@app.command()
def arrays(
    source: Annotated[Path, typer.Argument(metavar="FILE", help=".npy, or .parquet with a column per unit.")],
    images: Annotated[Path, typer.Option(help="CSV: id, and any of file, sha256, label, split.")],
    units: Annotated[Path, typer.Option(help="CSV: roi, and any of subject, noise_ceiling.")],
    name: Name,
    provenance: Provenance,
    trials: Annotated[
        Path | None, typer.Option(help="CSV, if rows are trials: image, and any of session, split.", show_default=False)
    ] = None,
    axes: Annotated[
        Literal["trials-units", "units-images", "units-images-repeats", "images-units-repeats"],
        typer.Option(help="Of the array; NaN: no such repeat."),
    ] = "trials-units",
    normalisation: Annotated[str, typer.Option(help="What was done to the responses, in words.")] = "none",
    description: Description = "",
    stimuli: Stimuli = None,
    replace: Replace = False,
    force: Force = False,
    leave_out_silent: LeaveOutSilent = False,
    as_json: bool = JSON,
) -> None:
    """Import an array of responses with a list of images and a table of units."""
    from advalign.data.imports.responses.arrays import ArrayTables, plan_arrays

    plan = plan_arrays(source, ArrayTables(images, units, trials), axes, normalisation, description)
    order = _order(name, provenance, stimuli, images if stimuli else None, replace, force, leave_out_silent)
    _place(order, plan, as_json)


@app.command()
def rdms(
    sources: Annotated[list[str], typer.Argument(metavar="AREA=FILE...", help=".npz, .npy or .mat, one per area.")],
    images: Annotated[Path, typer.Option(help="CSV: id, and any of file, sha256, label, in the matrices' order.")],
    name: Name,
    provenance: Provenance,
    variable: Annotated[str | None, typer.Option(help="Name of the array in the files.", show_default=False)] = None,
    description: Description = "",
    stimuli: Stimuli = None,
    replace: Replace = False,
    as_json: bool = JSON,
) -> None:
    """Import matrices of dissimilarity between images, of several subjects."""
    from advalign.data.imports.responses.rdms import named_sources, plan_rdms

    plan = plan_rdms(named_sources(sources), images, variable, description)
    _place(_order(name, provenance, stimuli, images if stimuli else None, replace), plan, as_json)


@app.command()
def brainio(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="The assembly, a .nc file.")],
    name: Name,
    time_bin: Annotated[
        str | None, typer.Option(help="START-END in ms, where the file has several.", show_default=False)
    ] = None,
    split: Annotated[Literal["train", "validation", "test"], typer.Option(help="Of all presentations.")] = "train",
    provenance: Provenance = "measured",
    images: Images = None,
    stimuli: Stimuli = None,
    replace: Replace = False,
    force: Force = False,
    leave_out_silent: LeaveOutSilent = False,
    as_json: bool = JSON,
) -> None:
    """Import an assembly of BrainIO or Brain-Score (NetCDF-4)."""
    from advalign.data.imports.responses.brainio import plan_brainio, read_time_bin

    plan = plan_brainio(source, None if time_bin is None else read_time_bin(time_bin), split)
    _place(_order(name, provenance, stimuli, images, replace, force, leave_out_silent), plan, as_json)


@app.command()
def tvsd(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="THINGS_normMUA.mat.")],
    things: Annotated[Path, typer.Option(help="things_imgs.mat of the same monkey.")],
    monkey: Annotated[Literal["F", "N"], typer.Option(help="Whose electrodes.")],
    name: Name,
    provenance: Provenance = "measured",
    images: Images = None,
    stimuli: Stimuli = None,
    replace: Replace = False,
    force: Force = False,
    leave_out_silent: LeaveOutSilent = False,
    as_json: bool = JSON,
) -> None:
    """Import the responses of one macaque of TVSD."""
    from advalign.data.imports.responses.tvsd import plan_tvsd

    order = _order(name, provenance, stimuli, images, replace, force, leave_out_silent)
    _place(order, plan_tvsd(source, things, monkey), as_json)


@app.command()
def algonauts(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Of a subject: subj01, with training_split and roi_masks.")
    ],
    name: Name,
    roi_sets: Annotated[
        str, typer.Option(help="Sets of areas; the first that has a vertex names it.")
    ] = "prf-visualrois,streams",
    provenance: Provenance = "measured",
    images: Images = None,
    stimuli: Stimuli = None,
    replace: Replace = False,
    leave_out_silent: LeaveOutSilent = False,
    as_json: bool = JSON,
) -> None:
    """Import the responses of one subject of the Algonauts 2023 challenge."""
    from advalign.data.imports.responses.algonauts import plan_algonauts

    order = _order(name, provenance, stimuli, images, replace, leave_out_silent=leave_out_silent)
    _place(order, plan_algonauts(folder, roi_sets.split(",")), as_json)


@app.command("things-fmri")
def things_fmri(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="betas_csv, with the three files of each subject.")],
    subject: Annotated[str, typer.Option(help="Such as sub-01.")],
    name: Name,
    areas: Annotated[
        str, typer.Option(help="Columns of the voxels' table; the first that claims it.")
    ] = "V1,V2,V3,hV4,LOC,IT",
    provenance: Provenance = "measured",
    images: Images = None,
    stimuli: Stimuli = None,
    replace: Replace = False,
    force: Force = False,
    leave_out_silent: LeaveOutSilent = False,
    as_json: bool = JSON,
) -> None:
    """Import the responses of one subject of THINGS-fMRI."""
    from advalign.data.imports.responses.things_fmri import plan_things_fmri

    order = _order(name, provenance, stimuli, images, replace, force, leave_out_silent)
    _place(order, plan_things_fmri(folder, subject, areas.split(",")), as_json)


@app.command()
def nsd(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="betas_session01.hdf5 (or NIfTI, or MGH) of one subject.")
    ],
    design: Annotated[Path, typer.Option(help="nsd_expdesign.mat.")],
    labels: Annotated[
        list[Path],
        typer.Option(
            "--labels", help="prf-visualrois, streams or Kastner2015 (again for more; the first that has a voxel)."
        ),
    ],
    subject: Annotated[int, typer.Option(help="1 to 8.")],
    name: Name,
    sessions: Annotated[int | None, typer.Option(min=1, help="How many; default: all.", show_default=False)] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Do not z-score within session.")] = False,
    provenance: Provenance = "measured",
    images: Images = None,
    stimuli: Stimuli = None,
    replace: Replace = False,
    force: Force = False,
    leave_out_silent: LeaveOutSilent = False,
    as_json: bool = JSON,
) -> None:
    """Import the responses of one subject of NSD, session by session; run again after an interruption, it resumes."""
    from advalign.data.imports.responses.nsd import NsdFiles, plan_nsd

    order = _order(name, provenance, stimuli, images, replace, force, leave_out_silent)
    _place(order, plan_nsd(NsdFiles(folder, design, labels), subject, sessions, normalise=not raw), as_json)


def _order(
    name: str,
    provenance: str,
    stimuli: Path | None,
    images: Path | None,
    replace: bool,
    force: bool = False,
    leave_out_silent: bool = False,
) -> "Order":
    from advalign.data.imports.responses._images import ImageFacts
    from advalign.data.imports.responses._place import Order

    return Order(name, provenance, ImageFacts(stimuli, images), replace, force, leave_out_silent)


def _place(order: "Order", plan: "Plan", as_json: bool) -> None:
    """Import, and print what was imported and the next step."""
    from advalign.data.imports.responses._place import place
    from advalign.files import Project
    from advalign.progress import progress, say

    with progress("importing") as advance:
        done = place(Project.find(), order, plan, advance)
    for sentence in done.told:
        say(sentence)
    if done.unreliable:
        say(f"reliability is not above zero in {', '.join(done.unreliable)}: no target for training")
    if as_json:
        print_json(done.as_json())
        return
    typer.echo("\n".join(_lines(done.as_json())))


def _lines(done: dict[str, Any]) -> list[str]:
    """What was imported, for people."""
    held = f"{done['trials']} trials in {done['sessions']} sessions"
    if done["matrices"]:
        held = f"{done['matrices']} matrices"
    again = f" ({done['resumed']} sessions were read before)" if done["resumed"] else ""
    again = " (already imported)" if done["skipped"] else again
    areas = ", ".join(f"{area} {count}" for area, count in done["areas"].items())
    left_out = f"; {done['left_out']} silent units left out" if done["left_out"] else ""
    return [
        f"{done['provenance']}: {held} of {done['images']} images in data/responses/{done['name']}.h5{again}",
        f"areas: {areas}{left_out}",
        f"normalisation: {done['normalisation']}; SHA-256 of {done['known_files']} image files known",
        *([NEXT.format(done["name"])] if done["trials"] else []),
    ]
