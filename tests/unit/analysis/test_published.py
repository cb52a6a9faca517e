"""Published values beside measured ones: the printed figures, the names, values by hand, refusals in one line."""

import json
import shutil
import sys

import pandas as pd
import pytest
from typer.testing import CliRunner

from advalign import seals
from advalign.analysis import published
from advalign.analysis.evaluated import Evaluated
from advalign.analysis.published import RELEASED, beside_published, contract_name, read_published, released_results
from advalign.cli.main import app, run
from advalign.errors import InputError
from advalign.files import Project, sha256
from advalign.recipes._pgd import BallSettings
from advalign.settings import EvaluateSettings
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.filterwarnings("error")

FENG = REPOSITORY / "registry" / "published" / "feng2025.yaml"
CSV = REPOSITORY.parent / "shared/reference/feng2025_released_results.csv"
HEADER = "model,pt,aa,pt_sem,aa_sem\n"
YAML = "source: here\nprotocol: feng2025-released\nmodels:\n"
GOOD = "{pt: 1, pt_sem: 0.1, aa: 0.2, aa_sem: 0.01}"


def write(tmp_path, text, name="published.yaml"):
    path = tmp_path / name
    path.write_bytes(text.encode())
    return path


def publication(tmp_path):
    """Four models whose SEMs make the combined ones 0.5 for PT and 0.05 for AA."""
    rows = ["a,1,0.1,0.3,0.03", "b,2,0.2,0.3,0.03", "c,3,0.3,0.3,0.03", "d,4,0.4,0.3,0.03"]
    return read_published(write(tmp_path, HEADER + "\n".join(rows), "published.csv"))


def measured(pt, protocol=RELEASED, **columns):
    """A table of models whose AA is a tenth of their PT."""
    rows = [{"model": model, "pt": value, "aa": None if value is None else value / 10} for model, value in pt.items()]
    return pd.DataFrame(rows).assign(pt_sem=0.4, aa_sem=0.04, protocol=protocol, **columns)


def test_a_spreadsheets_empty_columns_at_the_right_are_no_columns(tmp_path):
    plain = read_published(write(tmp_path, "model,pt,aa,pt_sem,aa_sem\na,1,0,0,0\n", "published.csv"))
    text = "\ufeff model,pt,aa,pt_sem,aa_sem,,\na,1,0,0,0,,\n"
    assert read_published(write(tmp_path, text, "published.csv")).models == plain.models


def test_the_printed_figures():
    feng = read_published(FENG)
    assert (feng.protocol, feng.human_ceiling) == (RELEASED, 0.65753)
    robust = {name: values for name, values in feng.models.items() if not name.endswith(".harmonized")}
    assert (len(feng.models), len(robust)) == (42, 33)
    assert sum(values.pt for values in robust.values()) / 33 == pytest.approx(112.4019 / 33)
    assert sum(values.aa for values in robust.values()) / 33 == pytest.approx(8.9341 / 33)
    for name, pt, pt_sem, aa, aa_sem in (
        ("resnet18_l2_eps0.01", 1.4511, 0.026775, 0.2612, 0.0126),
        ("wide_resnet50_2_linf_eps8_255", 4.2206, 0.149968, 0.2046, 0.0086),
        ("resnet152.harmonized", 1.9059, 0.0365, 0.3729, 0.0140),
    ):
        one = feng.models[name]
        assert (one.pt, one.pt_sem, one.aa, one.aa_sem) == (pt, pt_sem, aa, aa_sem)


def test_names_are_those_that_our_training_gives():
    radii = {"l2": (0.01, 0.03, 0.05, 0.1, 0.25, 0.5), "linf": tuple(eps / 255 for eps in (0.5, 1, 2, 4, 8))}
    balls = [BallSettings(constraint=norm, eps=eps) for norm, all_eps in radii.items() for eps in all_eps]
    names = {f"{net}_{ball.suffix()}" for net in ("resnet18", "resnet50", "wide_resnet50_2") for ball in balls}
    assert {name for name in read_published(FENG).models if "_eps" in name} == names
    for name, values in read_published(FENG).models.items():
        assert contract_name(name) == name
        assert contract_name(values.as_published or name) in (name, "mobilenetv3_small_050.lamb_in1k.harmonized")


@pytest.mark.parametrize(
    ("spelt", "name"),
    [
        ("resnet18_linf_eps0.5", "resnet18_linf_eps0.5_255"),
        ("resnet18_linf_eps1.0_255", "resnet18_linf_eps1_255"),
        ("resnet18_l2_eps0.25", "resnet18_l2_eps0.25"),
        ("resnet18_l2_eps1.0", "resnet18_l2_eps1"),
        ("resnet18_l2_eps0.5_255", "resnet18_l2_eps0.5_255"),  # another radius, whoever writes it
        ("resnet18_linf_eps1.0.combined", "resnet18_linf_eps1.0.combined"),  # never published
        ("convnext_tiny.fb_in1k", "convnext_tiny.fb_in1k"),
    ],
)
def test_contract_name(spelt, name):
    assert contract_name(spelt) == name


@pytest.mark.skipif(not CSV.is_file(), reason="needs ../shared/reference: the released table")
def test_paper_and_released_table_agree_to_the_printed_digits():
    paper, released = read_published(FENG).models, read_published(CSV).models
    assert len(released) == 351
    common = paper.keys() & released.keys()
    assert len(common) == 33  # all robust ones; the table has no harmonized ones
    for name in common:
        assert released[name].pt == pytest.approx(paper[name].pt, abs=0.5001e-4)
        assert released[name].pt_sem == pytest.approx(paper[name].pt_sem, abs=0.5001e-6)
        assert released[name].aa == pytest.approx(paper[name].aa, abs=0.5001e-4)
        assert released[name].aa_sem == pytest.approx(paper[name].aa_sem, abs=0.5001e-4)


def test_differences_and_rho_by_hand(tmp_path):
    found = beside_published(publication(tmp_path), measured({"d": 3.0, "a": 1.5, "b": 2.0, "c": 4.0, "other": 9.0}))
    assert [row["model"] for row in found["rows"]] == ["a", "b", "c", "d"]
    # combined SEM of PT: sqrt(0.3^2 + 0.4^2) = 0.5
    assert [row["pt_difference"] for row in found["rows"]] == pytest.approx([1.0, 0.0, 2.0, -2.0])
    assert [row["aa_difference"] for row in found["rows"]] == pytest.approx([1.0, 0.0, 2.0, -2.0])
    tolerance, alignment = found["correlations"]
    assert tolerance["rho"] == alignment["rho"] == pytest.approx(0.8)  # ranks 1 2 4 3: 1 - 6 * 2 / 60
    assert list(found["counts"]) == ["measured", "published", "common", "compared", "only_measured", "only_published"]
    assert list(found["counts"].values()) == [5, 4, 4, 4, 1, 0]
    assert found["notes"][-1] == "Differences are in units of the combined SEM."
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_minimum_norms_stand_beside_and_never_enter_a_statistic(tmp_path):
    found = beside_published(publication(tmp_path), measured({"a": 0.1, "b": 0.2, "c": 0.3}, "fmn"))
    assert found["rows"][0] == {
        **{"model": "a", "pt": 0.1, "pt_sem": 0.4, "aa": pytest.approx(0.01), "aa_sem": 0.04},
        **{"pt_published": 1.0, "pt_sem_published": 0.3, "aa_published": 0.1, "aa_sem_published": 0.03},
        **dict.fromkeys(("pt_released", "pt_sem_released", "aa_released", "aa_sem_released")),
        **{"pt_difference": None, "aa_difference": None},
    }
    assert [(entry["n"], entry["rho"]) for entry in found["correlations"]] == [(0, None), (0, None)]
    assert "measured under fmn only, while published tolerances" in found["notes"][-1]


def test_released_measurements_are_compared_and_the_headline_stands_beside(tmp_path):
    headline = measured({"a": 0.1, "b": 0.2, "c": 0.3}, "fmn-fast")
    found = beside_published(publication(tmp_path), headline, measured({"a": 1.5, "b": 2.5, "d": 4.0}))
    rows = {row["model"]: row for row in found["rows"]}
    assert [rows[model]["pt"] for model in "abcd"] == [0.1, 0.2, 0.3, None]
    assert [rows[model]["pt_released"] for model in "abcd"] == [1.5, 2.5, None, 4.0]
    assert [rows[model]["pt_difference"] for model in "abd"] == pytest.approx([1.0, 1.0, 0.0])
    assert found["correlations"][0]["n"] == 3
    assert found["correlations"][0]["rho"] == pytest.approx(1.0)
    assert (found["counts"]["common"], found["counts"]["compared"]) == (4, 3)
    assert any(note.startswith("1 without difference and rho") for note in found["notes"])


def test_a_table_that_does_not_say_its_protocol_is_not_compared(tmp_path):
    found = beside_published(publication(tmp_path), measured({"a": 1.0, "b": 2.0}).drop(columns="protocol"))
    assert found["rows"][0]["pt_difference"] is None
    assert "does not say its protocol" in found["notes"][-1]


def test_what_is_missing_is_said(tmp_path):
    feng = publication(tmp_path)
    without = beside_published(feng, measured({"a": 1.0, "b": 2.0, "c": None}).drop(columns=["pt_sem", "aa_sem"]))
    assert [row["pt_difference"] for row in without["rows"]] == [None, None, None]
    assert without["correlations"][0]["n"] == 2
    assert "at least 3 are needed" in without["correlations"][0]["note"]
    assert any(note.startswith("2 without difference: no standard error") for note in without["notes"])
    feng = read_published(write(tmp_path, HEADER + "a,1,0,0,0\n", "exact.csv"))
    (row,) = beside_published(feng, measured({"a": 1.5}).assign(pt_sem=0.0))["rows"]
    assert (row["pt_difference"], row["aa_difference"]) == (None, pytest.approx(0.15 / 0.04))


def test_nothing_in_common_is_one_line(tmp_path):
    nothing = beside_published(publication(tmp_path), measured({"x": 1.0, "y": 2.0}))
    assert nothing["rows"] == []
    assert nothing["notes"] == ["No model is both measured and published: 2 measured, 4 published."]


def test_another_ceiling_is_said():
    feng, table = read_published(FENG), measured({"resnet18_l2_eps0.01": 1.5})
    assert any("0.80000 here" in note for note in beside_published(feng, table, human_ceiling=0.8)["notes"])
    assert not any("ceiling" in note for note in beside_published(feng, table, human_ceiling=0.65753)["notes"])


def test_every_spelling_finds_its_model_and_two_of_one_are_refused():
    feng = read_published(FENG)
    spelt = ["mobilenetv3_small_050.lamb_in1k.harmonized", "resnet18_linf_eps2.0", "resnet50_linf_eps4.0_255"]
    found = beside_published(feng, measured(dict.fromkeys(spelt, 1.0)))
    assert [row["model"] for row in found["rows"]] == spelt
    assert [row["pt_published"] for row in found["rows"]] == [1.5694, 4.3452, 4.0304]
    with pytest.raises(InputError, match=r"resnet18_linf_eps2\.0 and resnet18_linf_eps2_255 are one"):
        beside_published(feng, measured({"resnet18_linf_eps2.0": 1.0, "resnet18_linf_eps2_255": 1.0}))


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("p.yaml", "", "expected a mapping with source, protocol and models"),
        ("p.yaml", "a: [1\n", "is not valid YAML"),
        ("p.yaml", "source: 2025-13-45\n", "is not valid YAML"),
        ("p.yml", "a: !!python/name:os.system\n", "is not valid YAML"),
        ("p.yaml", "source: here\nprotocol: feng2025-released\n", "models: field required"),
        ("p.yaml", YAML.replace("models", "modles: 1\nmodels") + f"  a: {GOOD}\n", "unknown key 'modles'"),
        ("p.yaml", YAML.replace("feng2025-released", "fmn") + f"  a: {GOOD}\n", "protocol: input should be 'feng2025"),
        ("p.yaml", YAML + "  {}\n", "models: dictionary should have at least 1 item"),
        ("p.yaml", YAML + f"  a: {GOOD[:-1]}, aa_sme: 0}}\n", "unknown key 'aa_sme'; did you mean 'aa_sem'"),
        ("p.yaml", YAML + "  a: {pt: 1, pt_sem: 0.1, aa: 0.2}\n", "models.a.aa_sem: field required"),
        (
            "p.yaml",
            YAML + "  a: {pt: high, pt_sem: 0, aa: 0, aa_sem: 0}\n",
            "models.a.pt: write a finite number",
        ),
        ("p.yaml", YAML + "  a: {pt: .nan, pt_sem: 0, aa: 0, aa_sem: 0}\n", "line 4: .nan is no finite number"),
        ("p.yaml", YAML + "  a: {pt: yes, pt_sem: 0, aa: 0, aa_sem: 0}\n", "models.a.pt: a number is wanted"),
        ("p.yaml", YAML + "  a: {pt: 1, pt_sem: -1, aa: 0, aa_sem: 0}\n", "models.a.pt_sem: input should be greater"),
        ("p.yaml", YAML + "  a: {pt: 1, pt_sem: 0, aa: 26.1, aa_sem: 0}\n", "26.12 % is 0.2612"),
        ("p.yaml", YAML + f"  a: {GOOD}\n  a: {GOOD}\n", "'a' is given twice, in line 4 and again in line 5"),
        ("p.yaml", YAML + "  a: {pt: 1, pt: 2, pt_sem: 0, aa: 0, aa_sem: 0}\n", "'pt' is given twice in line 4"),
        ("p.yaml", YAML + f"  a_linf_eps1.0: {GOOD}\n  a_linf_eps1_255: {GOOD}\n", "'a_linf_eps1_255' is there twice"),
        ("p.yaml", YAML + f"  a: {GOOD[:-1]}, as_published: b}}\n  b: {GOOD}\n", "a: as_published 'b' names another"),
        ("p.csv", "", "is empty"),
        ("p.csv", HEADER, "models: dictionary should have at least 1 item"),
        ("p.csv", "model,pt,aa\na,1,0\n", "header needs pt_sem, aa_sem once (found: 'model, pt, aa')"),
        ("p.csv", "model,pt,pt,aa,pt_sem,aa_sem\na,1,1,0,0,0\n", "header needs pt once"),
        ("p.csv", HEADER + "a,1,0,0,0,7,8\n", "line 2: 7 cells, the header has 5: fix that line"),
        ("p.csv", HEADER + 'a,"1,5",0,0,0\n', "models.a.pt: write a finite number with a decimal point, got '1,5'"),
        ("p.csv", HEADER + "a,1_5,0,0,0\n", "models.a.pt: write a finite number with a decimal point, got '1_5'"),
        ("p.csv", HEADER + "a,1e308,0,0,0\n", "models.a.pt: input should be less than or equal to 1000000, got 1e+308"),
        ("p.csv", HEADER + "a,1e-320,0,0,0\n", "models.a.pt: write 0, or the number that is meant"),
        ("p.csv", HEADER + "a,1,0,0,41\n", "models.a.aa_sem: input should be less than or equal to 2, got 41"),
        ("p.csv", HEADER + "a,1,0\n", "line 2: 3 cells, the header has 5: fix that line"),
        ("p.csv", HEADER + "a,1,0\0,0,0,0\n", "line 2: a NUL character"),
        ("p.csv", HEADER + "a,1,,0,0\n", "models.a.aa: write a finite number with a decimal point, got ''"),
        ("p.csv", HEADER + "a,1,0,-0.1,0\n", "models.a.pt_sem: input should be greater than or equal to 0"),
        ("p.csv", HEADER + "a,1,0,0,0\n\n,1,0,0,0\n", "row 4: the model has no name"),
        ("p.csv", HEADER + "a,1,0,0,0\na,1,0,0,0\n", "row 3: 'a' is there twice"),
    ],
)
def test_bad_files_are_refused_in_one_line_that_names_file_and_mend(tmp_path, name, text, told):
    path = write(tmp_path, text, name)
    with pytest.raises(InputError) as caught:
        read_published(path)
    message = str(caught.value)
    assert told in message
    assert message.startswith(str(path))
    assert "\n" not in message


def test_files_that_are_no_text_or_not_there(tmp_path):
    for path, why in ((tmp_path / "absent.yaml", "cannot be read"), (tmp_path, "is a folder")):
        with pytest.raises(InputError, match=why):
            read_published(path)
    path = tmp_path / "latin.csv"
    path.write_bytes((HEADER + "caf\xe9,1,0,0,0\n").encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8"):
        read_published(path)


def test_blank_lines_and_more_columns_are_read_past(tmp_path):
    text = "\ufeffaa_sem, model,pt,year,pt_sem,aa\r\n0.01,a,1.5,2025,0.1,-0.2\r\n\r\n"
    ((name, values),) = read_published(write(tmp_path, text, "p.csv")).models.items()
    assert (name, values.pt, values.pt_sem, values.aa, values.aa_sem) == ("a", 1.5, 0.1, -0.2, 0.01)


@pytest.fixture
def compared(tmp_path, monkeypatch):
    """A project whose last comparison was under fmn-fast, with the same two models evaluated as released, too."""
    models = {"resnet18_l2_eps0.01": (0.3, 1.4779), "resnet18_l2_eps0.03": (0.4, 1.7228), "test_resnet": (0.2, 1.1)}
    shutil.copy(REPOSITORY / "params.yaml", tmp_path)
    project = Project(tmp_path)
    project.comparison.mkdir(parents=True)
    zoo = measured({name: pt for name, (pt, _) in models.items()}, "fmn-fast", group="robust", big_data=0)
    zoo.to_csv(project.comparison / "zoo.csv", index=False)
    statistics = {"protocol": "fmn-fast", "reference": {"human_ceiling": 0.65753}}
    files = {"zoo.csv": sha256(project.comparison / "zoo.csv")}
    seals.write_json(
        project.comparison / "statistics.json", {**statistics, "setting": {}, "left_out": [], "files": files}
    )
    summaries = []
    for name, (_, pt) in models.items():
        metrics = {"perturbation_tolerance": pt, "perturbation_tolerance_sem": 0.0, "adversarial_human_alignment": None}
        summaries.append({"model": name, "metrics": metrics})
        seals.write_json(project.evaluations / RELEASED / f"{name}.json", summaries[-1])
    monkeypatch.setattr(published, "evaluated", lambda *_: Evaluated(summaries, []))  # without rows
    monkeypatch.chdir(tmp_path)
    return project


@pytest.mark.filterwarnings("default")
def test_command_in_a_project(compared):
    command = ["compare", "--show", "--published", str(FENG)]
    done = CliRunner().invoke(app, [*command, "--json"], catch_exceptions=False)
    found = json.loads(done.stdout)["published"]
    assert [row["model"] for row in found["rows"]] == ["resnet18_l2_eps0.01", "resnet18_l2_eps0.03"]
    assert [row["pt"] for row in found["rows"]] == [0.3, 0.4]
    assert [row["pt_difference"] for row in found["rows"]] == pytest.approx([0.0268 / 0.026775, 0.0], abs=1e-9)
    printed = CliRunner().invoke(app, command, catch_exceptions=False).stdout
    assert "Models measured and published: 2; only measured: 1; only published: 40." in printed
    assert "pt fmn-fast" in printed
    assert len(released_results(compared, EvaluateSettings(), {})) == 3
    assert released_results(Project(compared.root / "elsewhere"), EvaluateSettings(), {}) is None


@pytest.mark.filterwarnings("default")
def test_command_on_a_table(tmp_path):
    table = tmp_path / "zoo.csv"
    pt = {"resnet18_l2_eps0.01": 1.5, "resnet50_linf_eps1.0": 4.0, "resnet18.harmonized": 1.6}
    measured(pt, group="robust", big_data=0).to_csv(table, index=False)
    command = ["compare", "--table", str(table), "--published", str(FENG)]
    found = json.loads(CliRunner().invoke(app, [*command, "--json"], catch_exceptions=False).stdout)
    assert found["published"]["correlations"][0]["rho"] == pytest.approx(1.0)
    assert {"correlations", "contrasts"} <= found.keys()
    printed = CliRunner().invoke(app, command, catch_exceptions=False).stdout
    assert "pt released" in printed
    assert "pt feng2025-released" not in printed
    example = ["compare", "--table", str(REPOSITORY / "docs/example_zoo.csv"), "--published", str(FENG)]
    done = CliRunner().invoke(app, example)
    assert done.exit_code == 0
    assert done.stdout.endswith("No model is both measured and published: 20 measured, 42 published.\n")


@pytest.mark.filterwarnings("default")
def test_bad_file_ends_the_command_with_code_2_before_anything_is_computed(compared, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["advalign", "compare", "--published", "absent.yaml"])
    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("advalign: error: absent.yaml: cannot be read")
    assert told.count("\n") == 1
