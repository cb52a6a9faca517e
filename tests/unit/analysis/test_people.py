"""The people behind the maps, in report and pictures: what is read, what is shown, and nothing without participants."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from advalign.analysis import people
from advalign.analysis.comparison_files import write_comparison
from advalign.analysis.people import People, read_people
from advalign.analysis.people_gallery import people_figure
from advalign.analysis.report import Material, render_report
from advalign.analysis.zoo import zoo_statistics
from advalign.data.human_maps.make import MEND
from advalign.data.results import write_table
from advalign.data.sample import generate
from advalign.data.sample.generate import SampleSettings
from advalign.data.sets.stimuli import load_stimuli
from advalign.errors import DataError
from advalign.seals import Damaged
from advalign.settings import load_settings
from tests.conftest import with_stimuli
from tests.unit.analysis.made_up import small
from tests.unit.analysis.people_made_up import agreement, cleaning, curve, summary, write_maps


@pytest.fixture
def there(sample_root, tmp_path):
    """A project with stimuli and results of stage `maps`."""
    project = with_stimuli(sample_root, tmp_path / "project")
    return project, write_maps(project)


def read(project):
    return read_people(project, load_settings(project.root), load_stimuli(project))


def made_up(**changes):
    table = agreement()
    return People(
        **({"summary": summary(table), "cleaning": cleaning(), "curve": curve(), "agreement": table} | changes)
    )


def report(of):
    table = small()
    return render_report(Material(table, zoo_statistics(table), people=of))


def test_pictures_are_the_first_stimuli_with_their_maps_and_numbers(there):
    project, table = there
    stimuli, gallery = load_stimuli(project), read(project).gallery
    assert gallery.names == stimuli.manifest["category"].iloc[:6].tolist()
    assert np.array_equal(gallery.images, stimuli.images[:6].numpy())
    scenes = list(generate._singles(SampleSettings(scale=0.01), SampleSettings(scale=0.01).split("test")))
    for place, sha256 in enumerate(stimuli.manifest["sha256"].iloc[:6]):
        (number,) = np.flatnonzero(table["sha256"] == sha256)
        row, found = table.iloc[number], gallery.maps[place]
        assert found / found.max() == pytest.approx(scenes[number].heatmap, abs=1e-5)
        assert gallery.told[place].splitlines() == [
            f"ceiling {row.spearman_ceiling:.2f}",
            f"corrected {row.spearman_corrected:.2f}",
            f"floor {row.spearman_floor:.2f}",
            "10 participants",
        ]


def test_single_participants_are_honest_ones_with_six_clicks_each(there):
    project, _ = there
    gallery = read(project).gallery
    assert [single.shape for single in gallery.singles] == [(5, 64, 64)] * 6
    assert np.concatenate(gallery.singles).sum((1, 2)) == pytest.approx(np.full(30, 6.0), abs=1e-3)


def test_stimuli_without_trials_are_passed_over(there):
    project, table = there
    stimuli = load_stimuli(project)
    first = table["sha256"].isin(stimuli.manifest["sha256"].iloc[:3])
    write_table(project.human_maps / "agreement.parquet", table[~first], "0" * 64)
    assert read(project).gallery.names == stimuli.manifest["category"].iloc[3:9].tolist()
    write_table(project.human_maps / "agreement.parquet", table.iloc[:0], "0" * 64)
    assert read(project).gallery is None


def test_without_participants_or_before_the_stage_there_are_no_people(there):
    project, _ = there
    shutil.move(project.human_maps / "summary.json", project.root)
    assert read(project) is None
    shutil.move(project.root / "summary.json", project.human_maps)
    assert read(project) is not None
    shutil.rmtree(project.participants)
    assert read(project) is None


def test_results_of_other_trials_are_refused(there):
    project, table = there
    write_table(project.human_maps / "agreement.parquet", table.assign(image="x_" + table["image"]), "0" * 64)
    with pytest.raises(DataError, match=r"outputs/maps knows x_SAMPLE_test_\d+.JPEG, and data/participants does not"):
        read(project)


@pytest.mark.parametrize("name", ["agreement.parquet", "cleaning.json", "curve.json", "summary.json"])
def test_damaged_results_are_refused(there, name):
    project, _ = there
    path = project.human_maps / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(Damaged, match=f"{name} is damaged.*{MEND}"):
        read(project)


def test_report_has_cleaning_measures_and_figures_of_people():
    shown = report(made_up())
    assert '<h2 id="people">People</h2>' in shown
    assert "40 participants, 400 trials on 40 images after cleaning." in shown
    assert "<td>catch</td><td>1600</td><td>12</td><td>1588</td>" in shown
    assert (
        '<td>clicks-anywhere-2</td><td>48</td><td>0.070</td><td>-39.2</td>\n<td class="left">no: only listed</td>'
        in shown
    )
    mean = summary(agreement())["measures"]["nss"]["ceiling"]["mean"]
    assert f"<tr><td>NSS</td><td>{mean:.3f}<br>" in shown
    assert 'id="plot-people_ceilings"' in shown
    assert 'id="plot-people_curve"' in shown
    plots = json.loads(shown.split("const PLOTS = ", 1)[1].split(";\n", 1)[0])
    assert {"people_ceilings", "people_curve", "pt_aa_plane"} <= set(plots)
    assert "38 of 40 images have a ceiling" in shown


def test_names_of_participants_are_text_in_the_report():
    told = cleaning()
    told["steps"][0]["participants"] = ["<script>alert(1)</script>"]
    assert "<script>alert(1)" not in report(made_up(cleaning=told))


def test_report_without_people_says_nothing_of_them():
    shown = report(None)
    assert "People</h2>" not in shown
    assert "people_" not in shown


def test_report_of_people_of_whom_no_image_is_left():
    table = agreement(0)
    nothing = {"images": 0, "participants": 0, "trials": 0, "human_ceiling": None, "above_floor": 0, "measures": {}}
    shown = report(made_up(agreement=table, summary=nothing, curve={}))
    assert "0 trials on 0 images after cleaning." in shown
    assert "none is left after cleaning" in shown
    assert "<h3>Agreement</h3>" not in shown


def test_files_of_a_comparison_with_people(there, tmp_path):
    project, _ = there
    table = small()
    write_comparison(tmp_path / "with", table, Material(table, zoo_statistics(table), people=read(project)))
    write_comparison(tmp_path / "without", table, Material(table, zoo_statistics(table)))
    names = {kind: {path.name for path in (tmp_path / kind / "figures").iterdir()} for kind in ("with", "without")}
    assert names["with"] - names["without"] == {
        "people_ceilings.png", "people_ceilings.svg", "people_curve.png", "people_curve.svg", "people_gallery.png",
    }  # fmt: skip
    told = json.loads((tmp_path / "with" / "statistics.json").read_text())["files"]
    assert "figures/people_gallery.png" in told


def test_maps_lie_where_their_crop_lies_in_the_picture(there):
    project, _ = there
    gallery = read(project).gallery
    figure = people_figure(replace(gallery, image_crop=0.5, map_crop=1.0))
    axes = np.array(figure.axes).reshape(7, 6)
    assert axes[0, 0].images[0].get_extent() == [-0.25, 0.25, -0.25, 0.25]
    assert axes[-1, 0].images[0].get_extent() == [-0.5, 0.5, -0.5, 0.5]
    assert {(*axis.get_xlim(), *axis.get_ylim()) for axis in axes.flat} == {(-0.25, 0.25, -0.25, 0.25)}
    assert np.array_equal(axes[-1, 2].images[0].get_array(), gallery.maps[2])
    assert axes[-1, 2].images[0].get_clim() == (0, gallery.maps[2].max())
    assert axes[-1, 0].get_xlabel() == gallery.told[0]


def test_people_are_read_only_where_they_are_pictured(there, monkeypatch):
    """A large set of trials is not read as a whole."""
    project, _ = there
    asked = []
    real = people.read_trials_of
    monkeypatch.setattr(people, "read_trials_of", lambda project, names: asked.append(names) or real(project, names))
    read(project)
    assert [len(names) for names in asked] == [6]
    trials = real(project, asked[0])
    assert set(trials["image"]) == set(asked[0])
    assert pd.concat([trials]).shape[0] >= 60
