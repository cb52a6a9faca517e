"""The report in a real browser: opens without errors or network, sorts, filters, hovers, shows a model's gallery."""

import shutil

import numpy as np
import pandas as pd
import pytest

from advalign.analysis.comparison import compare_table
from advalign.analysis.gallery import Gallery
from advalign.analysis.plots import Axis, Cells, Panel, Plot, Points
from advalign.analysis.report import Material, Provenance, Tracking, render_report
from advalign.analysis.report import page as rendered
from advalign.analysis.table import check_table
from advalign.analysis.zoo import zoo_statistics

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("browser"),
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (apt-get install chromium)"),
]
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"]
GROUPS = ["cnn"] * 125 + ["vit"] * 78 + ["hybrid"] * 52 + ["ssl"] * 54 + ["robust"] * 33 + ["harmonized"] * 9


def zoo(models: int = 351) -> pd.DataFrame:
    """A made-up zoo of the published size and groups."""
    rng = np.random.default_rng(0)
    pt = rng.uniform(0.2, 3.0, models)
    return check_table(
        pd.DataFrame(
            {
                "model": [f"net{number:03d}" for number in range(models)],
                "group": GROUPS[:models],
                "big_data": 0,
                "pt": pt,
                "pt_sem": 0.02,
                "aa": 0.6 - 0.1 * pt + rng.normal(0, 0.05, models),
                "aa_sem": 0.01,
                "multilabel_accuracy": rng.uniform(0.6, 0.95, models),
            }
        ),
        "made up",
    )


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def large_report(tmp_path_factory):
    """Report on 351 models with galleries of six stimuli."""
    folder = tmp_path_factory.mktemp("report")
    table = zoo()
    rng = np.random.default_rng(1)
    pictures = rng.uniform(0, 1, (6, 3, 32, 32)).astype(np.float32)
    deltas = {name: list(rng.normal(0, 1, (6, 3, 32, 32)).astype(np.float32)) for name in table["model"]}
    gallery = Gallery([f"stimulus {k}" for k in range(6)], pictures, pictures[:, 0], deltas)
    details = {name: {"recipe": "baseline", "weights (SHA-256)": "ab" * 32} for name in table["model"]}
    made = Material(
        table, zoo_statistics(table), gallery=gallery, details=details,
        provenance=Provenance({"data (DVC)": "0123.dir"}, Tracking(experiment_id="2")),
    )  # fmt: skip
    path = folder / "report.html"
    path.write_text(render_report(made))
    return path


@pytest.fixture
def page(browser, large_report):
    """The report, opened offline; console errors and requests are kept."""
    context = browser.new_context(offline=True, viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    opened.problems, opened.requests = [], []
    opened.on("console", lambda message: opened.problems.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: opened.problems.append(str(error)))
    opened.on("request", lambda request: opened.requests.append(request.url))
    opened.goto(large_report.as_uri())
    yield opened
    context.close()


def names(page) -> list[str]:
    return page.locator("#models tbody tr").evaluate_all("rows => rows.map(row => row.dataset.model)")


def test_opens_without_errors_and_without_network(page, large_report):
    page.wait_for_selector("#plot-pt_aa_plane .main-svg")
    assert page.problems == []
    assert [url for url in page.requests if url.startswith("http")] == []
    assert page.requests[0] == large_report.as_uri()
    assert page.locator("dd").first.inner_text() == "0123.dir"


def test_draws_351_models(browser, large_report):
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.goto(large_report.as_uri())
    page.wait_for_selector("#models tbody tr:nth-child(351)", state="attached")
    page.wait_for_selector("#plot-pt_aa_plane .main-svg")
    context.close()


def test_sorts_by_every_column(page):
    table = zoo().set_index("model")
    assert names(page) == list(table.sort_values("pt", ascending=False).index)
    page.click("th[data-key=pt]")
    assert names(page) == list(table.sort_values("pt").index)
    page.click("th[data-key=model]")
    assert names(page) == sorted(table.index)
    page.click("th[data-key=aa]")
    assert names(page) == list(table.sort_values("aa", ascending=False).index)


def test_filters_by_name_and_group(page):
    page.fill("#filter", "NET01")
    assert sorted(names(page)) == [f"net01{k}" for k in range(10)]
    assert page.inner_text("#shown") == "10 of 351 models"
    page.fill("#filter", "")
    page.uncheck("input[data-kind=cnn]")
    assert len(names(page)) == 351 - 125
    page.check("input[data-kind=cnn]")
    assert len(names(page)) == 351


def test_hover_names_a_point_and_a_click_opens_its_model(page):
    page.wait_for_selector("#plot-pt_aa_plane .main-svg")
    page.locator("#plot-pt_aa_plane").scroll_into_view_if_needed()
    place = page.evaluate(
        """() => { const plot = document.querySelector('#plot-pt_aa_plane'), point = plot.calcdata[0][0];
        const box = plot.querySelector('.nsewdrag').getBoundingClientRect(), axes = plot._fullLayout;
        return { x: box.left + axes.xaxis.d2p(point.x), y: box.top + axes.yaxis.d2p(point.y) }; }"""
    )
    page.mouse.move(place["x"], place["y"])
    page.wait_for_selector("#plot-pt_aa_plane .hovertext")
    named = page.locator("#plot-pt_aa_plane .hovertext").first.text_content()
    page.mouse.click(place["x"], place["y"])
    page.wait_for_selector("#detail:not([hidden])")
    assert page.inner_text("#detail h3") in named


def test_a_row_opens_gallery_lineage_and_links(page):
    page.click("tr[data-model=net007]")
    assert page.inner_text("#detail h3") == "net007"
    assert page.locator("#detail dd").all_inner_texts() == ["baseline", "ab" * 32]
    assert page.locator("#detail figcaption").all_inner_texts()[0] == "stimulus"
    widths = page.locator("#detail img").evaluate_all("images => images.map(image => image.naturalWidth)")
    assert widths == [6 * 112] * 3
    links = page.locator("#links a").evaluate_all("links => links.map(link => link.href)")
    assert links[0].startswith("http://127.0.0.1:5000/#/experiments/2/runs?searchFilter=")
    assert links[1] == "http://127.0.0.1:5000/#/models/net007"
    assert page.problems == []


def test_names_cannot_smuggle_markup(browser, tmp_path):
    table = zoo(3)
    table["model"] = ["</script><script>window.bad = 1</script>", "<img src=x onerror='window.bad = 1'>", "plain"]
    compare_table(check_table(table, "made up"), tmp_path, "<b>made up</b>")
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    page.wait_for_selector("#models tbody tr:nth-child(3)")
    page.click("#models tbody tr:first-child")
    assert page.evaluate("window.bad") is None
    assert len(names(page)) == 3
    context.close()


@pytest.mark.parametrize("broken", ["one model", "no PT", "no accuracy", "all equal"])
def test_degenerate_tables_give_sentences(browser, tmp_path, broken):
    table = zoo(1 if broken == "one model" else 6)
    if broken == "no PT":
        table[["pt", "aa"]] = np.nan
    if broken == "no accuracy":
        table["multilabel_accuracy"] = np.nan
    if broken == "all equal":
        table[["pt", "aa", "multilabel_accuracy"]] = 0.5
    compare_table(table, tmp_path, "made up")
    context = browser.new_context(offline=True)
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto((tmp_path / "report.html").as_uri())
    page.wait_for_selector("#models tbody tr")
    assert problems == []
    assert "nan" not in page.inner_text("body").lower().split()
    assert "NaN" not in page.inner_text("body")
    context.close()


def test_the_page_of_robustsight_shows_findings_tables_and_every_plot(browser, tmp_path):
    points = Points(np.array([0.9, 0.8]), np.array([0.1, 0.4]), "#0072B2", "circle", "CNN (2)", ["one", "two"])
    cells = Cells(np.array([[0.1, -0.2]]), [["+10", "-20"]], 0.2, 1)
    ticks = Axis("corruption", ticks=["fog"])
    plots = {
        "trade_off": Plot("Accuracy and robustness", "2 models", [Panel(Axis("accuracy"), Axis("robust"), [points])]),
        "corruptions": Plot("Corruptions", "", [Panel(Axis("severity"), ticks, [cells])], notes=["Two severities."]),
        "none": Plot("Certified accuracy", "No model here has certificates."),
    }
    finding = {"question": "Does it help?", "answer": "not seen", "model": "<b>two</b>", "told": "By +0.1."}
    tables = {
        "Table 1": {"headings": ["model", "ece"], "cells": [["one", "0.010"]]},
        "Table 2": {"headings": [], "cells": []},
    }
    html = rendered(
        "robustsight.html.j2", plots, count=2, facts={"test images": "500"}, findings=[finding], tables=tables,
        notes=["Drawn."], gallery=None,
    )  # fmt: skip
    (tmp_path / "report.html").write_text(html)
    context = browser.new_context(offline=True)
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto((tmp_path / "report.html").as_uri())
    for name in ("trade_off", "corruptions"):
        page.locator(f"#plot-{name}").scroll_into_view_if_needed()
        page.wait_for_selector(f"#plot-{name} .main-svg")
    assert problems == []
    assert page.inner_text(".finding b") == "not seen"
    assert page.inner_text(".finding i") == "<b>two</b>"
    assert page.locator("td").all_inner_texts() == ["one", "0.010"]
    assert "No model here has been measured so." in page.inner_text("body")
    assert "No model here has certificates." in page.inner_text("body")
    assert "Two severities." in page.inner_text("body")
    context.close()
