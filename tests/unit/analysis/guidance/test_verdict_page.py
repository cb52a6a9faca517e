"""The files of a study: each says where the responses are from, and holds what was computed."""

import json

import numpy as np
import pandas as pd
import pytest

from advalign.analysis.guidance.figures import guidance_plots
from advalign.analysis.guidance.measured import Results
from advalign.analysis.guidance.page import write_guidance
from advalign.analysis.plots import Band, Points
from tests.unit.analysis.guidance.guidance_made_up import GOOD, study


@pytest.fixture(scope="module")
def results() -> Results:
    made = study(GOOD)
    models = made.models.assign(capacity=np.linspace(0, 1, len(made.models)), explained=0.5, rsa=0.25)
    return Results(models, made.norms, made.areas, "predicted")


@pytest.fixture(scope="module")
def folder(results, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    write_guidance(folder, results, resamples=200, seed=0, facts={"models": "8"}, notes=["A note of <the> study."])
    return folder


def test_the_page_says_where_the_responses_are_from(folder) -> None:
    page = (folder / "verdict.html").read_text()
    for title in (
        "<title>advalign: guidance by brain responses (predicted)</title>",
        "<h1>Guidance by brain responses (predicted)</h1>",
        "<dt>provenance of the responses</dt><dd>predicted</dd>",
        "Verdict, predicted responses (tolerance: mean l2 norm)",
        "Verdict, predicted responses (tolerance: mean linf norm, 1/255)",
        "guided by an area: IT, predicted",
        "Tolerance by area: predicted responses",
        "A note of &lt;the&gt; study.",
    ):
        assert title in page


def test_every_sentence_is_on_the_page_and_in_the_file(folder) -> None:
    told = json.loads((folder / "verdict.json").read_text())
    page = (folder / "verdict.html").read_text().replace("&lt;", "<").replace("&#39;", "'")
    for norm in ("l2", "linf"):
        sentences = told["norms"][norm]["sentences"]
        assert len(sentences) == 3 + 2 + 1 + 1  # areas, trends, shuffles, capacity
        assert all(sentence in page for sentence in sentences)
    assert told["provenance"] == "predicted"
    assert told["norms"]["l2"]["verdicts"] == {"V1": "helps", "V4": "helps", "IT": "helps"}
    assert told["norms"]["l2"]["trends"]["area"]["p"] == pytest.approx(6.0**-5)


def test_the_tables_are_kept(folder, results) -> None:
    assert len(pd.read_csv(folder / "models.csv")) == len(results.models)
    assert pd.read_parquet(folder / "norms.parquet").equals(results.norms)
    assert (folder / "figures" / "tolerance.png").is_file()
    assert (folder / "figures" / "geometry_linf.svg").is_file()


def test_the_same_results_give_the_same_files(results, folder, tmp_path) -> None:
    write_guidance(tmp_path, results, resamples=200, seed=0, facts={"models": "8"}, notes=["A note of <the> study."])
    for name in ("verdict.json", "verdict.html", "models.csv", "figures/plane.png"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name


def test_the_figure_of_areas_has_the_means_and_the_bands_of_the_controls(results) -> None:
    (panel,) = guidance_plots(results)["tolerance"].panels
    assert list(panel.y.ticks) == ["V1", "V4", "IT"]
    bands = {mark.label.partition(",")[0]: mark for mark in panel.marks if isinstance(mark, Band)}
    assert (bands["class code"].low + bands["class code"].high) / 2 == pytest.approx(1.2, abs=0.02)
    own = next(mark for mark in panel.marks if isinstance(mark, Points) and mark.label == "guided by an area")
    assert own.x == pytest.approx([1.3, 1.5, 1.7], abs=0.03)
    assert list(own.y) == [0, 1, 2]


def test_fit_has_a_panel_per_measure_and_the_band_of_unguided_models(results, folder) -> None:
    panels = guidance_plots(results)["fit"].panels
    assert [panel.x.title for panel in panels] == ["explained variance over ceiling (share)", "RSA (Spearman's ρ)"]
    for panel, value in zip(panels, (0.5, 0.25), strict=True):
        own = next(mark for mark in panel.marks if isinstance(mark, Points) and mark.label == "guided by an area")
        assert own.x == pytest.approx([value] * 3)
        (band,) = [mark for mark in panel.marks if isinstance(mark, Band)]
        assert band.label == "unguided, mean ± SEM over areas and seeds"
    page = (folder / "verdict.html").read_text()
    assert "<th>explained / ceiling</th><th>RSA</th>" in page
    assert "0.250 ± 0.000" in page


def test_what_is_not_measured_is_a_sentence() -> None:
    made = study(GOOD)
    plots = guidance_plots(made)
    assert plots["fit"].detail == "No model's fit to the responses was measured."
    assert plots["geometry"].detail == "The geometry of no two models was measured."
    lone = study({"none": 1.0}, areas=("V1",))
    assert guidance_plots(lone)["tolerance"].detail == "No model that an area guides has a tolerance."
    assert guidance_plots(lone)["plane"].detail == "Fewer than two models have accuracy and tolerance."
