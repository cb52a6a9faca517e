"""What is known of the people behind the human maps, for report and figures: outputs/maps as stage `maps` left it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from advalign.analysis.people_gallery import PICTURED, SINGLE, PeopleGallery
from advalign.analysis.people_plots import MEASURES, people_plots
from advalign.analysis.plots import Plot
from advalign.data.cleaning import clean_image
from advalign.data.human_maps.blocks import of_cleaned
from advalign.data.human_maps.make import AGREEMENT, CLEANING, CURVE, MEND, SUMMARY
from advalign.data.human_maps.maps import participant_maps
from advalign.data.participants import IMAGE, has_participants, read_images, read_trials_of
from advalign.data.sets.stimuli import StimulusSet
from advalign.errors import DataError
from advalign.files import Project
from advalign.seals import need_whole, read_json
from advalign.settings import HumanMapSettings, Settings

COLUMNS = ("ceiling", "corrected", "floor", "lower", "upper", "centre", "mean_map")
"""Of summary.json's measures, in the order of the report's table; `corrected` is Spearman's alone."""


@dataclass(frozen=True)
class People:
    """How the trials were cleaned, and how well people agree.

    Attributes:
        summary, cleaning, curve: outputs/maps/summary.json, cleaning.json and curve.json.
        agreement: outputs/maps/agreement.parquet, a row per image.
        gallery: pictures; None where no stimulus has trials.
    """

    summary: Mapping[str, Any]
    cleaning: Mapping[str, Any]
    curve: Mapping[str, Any]
    agreement: pd.DataFrame
    gallery: PeopleGallery | None = None

    @cached_property
    def plots(self) -> dict[str, Plot]:
        """Every figure by the name of its file."""
        return people_plots(self.agreement, self.curve)

    @property
    def measures(self) -> list[dict[str, Any]]:
        """Rows of the table of measures: its name, and mean with interval under each of `COLUMNS` (None: unknown)."""
        known = self.summary["measures"]
        return [
            {"measure": label, **{column: known[name].get(column) for column in COLUMNS}}
            for name, label in MEASURES.items()
            if name in known
        ]


def read_people(project: Project, settings: Settings, stimuli: StimulusSet) -> People | None:
    """What stage `maps` found of the imported trials; None where there are no trials, or no stage yet has read them.

    Args:
        project: owner of data/participants and outputs/maps.
        settings: params.yaml; trials of the pictured images are cleaned by `human_maps`.
        stimuli: those of the comparison; the first six with trials are pictured.

    Raises:
        DataError: a file is damaged, or is of other trials than data/participants holds.
    """
    folder = project.human_maps
    if not has_participants(project) or not (folder / SUMMARY).exists():
        return None
    summary, cleaning, curve = (read_json(folder / name, MEND) for name in (SUMMARY, CLEANING, CURVE))
    agreement = pd.read_parquet(need_whole(folder / AGREEMENT, MEND))
    gallery = _gallery(project, settings, stimuli, agreement, cleaning)
    return People(summary, cleaning, curve, agreement, gallery)


def _gallery(
    project: Project, settings: Settings, stimuli: StimulusSet, agreement: pd.DataFrame, cleaning: Mapping[str, Any]
) -> PeopleGallery | None:
    """The first stimuli that people clicked on, with single participants as cleaning kept them."""
    people = agreement.drop_duplicates("sha256").set_index("sha256")
    positions = [place for place, sha in enumerate(stimuli.manifest["sha256"]) if sha in people.index][:PICTURED]
    if not positions:
        return None
    shown = people.loc[stimuli.manifest["sha256"].iloc[positions]]
    maps = _maps(project, settings.human_maps, list(shown[IMAGE]), cleaning)
    return PeopleGallery(
        [str(name) for name in stimuli.manifest["category"].iloc[positions]],
        stimuli.images[positions].numpy(),
        [found[:SINGLE].numpy() for found in maps],
        torch.stack([found.mean(0) for found in maps]).numpy(),
        [_told(row) for _, row in shown.iterrows()],
        settings.stimuli.crop,
        settings.human_maps.crop,
    )


def _maps(project: Project, settings: HumanMapSettings, names: list[str], cleaning: Mapping[str, Any]) -> list[Tensor]:
    """Maps of the participants of some images, (N, side, side) each, from their trials as they were cleaned."""
    dropped = {entry["participant"] for entry in cleaning["suspicious"] if entry["dropped"]}
    table = read_images(project)
    images = {str(row[IMAGE]): row for row in table[table[IMAGE].isin(names)].to_dict("records")}
    trials = dict(list(read_trials_of(project, names).groupby(IMAGE)))
    found = []
    for name in names:
        if name not in trials or name not in images:
            raise DataError(f"outputs/maps knows {name}, and data/participants does not: {MEND}")
        image = images[name]
        cleaned = clean_image(trials[name], int(image["width"]), int(image["height"]), settings, dropped)
        if cleaned.trials.empty:
            raise DataError(f"outputs/maps has {name}, which cleaning drops: {MEND}")
        found.append(participant_maps(of_cleaned(cleaned, image), settings))
    return found


def _told(row: pd.Series) -> str:
    """What is written below an image: its ceiling and its floor."""
    lines = [f"{name} {float(row[f'spearman_{name}']):.2f}" for name in ("ceiling", "corrected", "floor")]
    return "\n".join([*lines, f"{row['participants']} participants"])
