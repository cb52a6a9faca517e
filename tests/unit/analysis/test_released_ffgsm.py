"""The table that was released in 2023: docs/linsley2023.md converts it, and `compare --table` reads the result."""

import json
import re
import shutil

import numpy as np
import pytest
from scipy.stats import spearmanr

from advalign.analysis.table import read_table
from advalign.analysis.zoo import zoo_statistics
from advalign.errors import InputError
from tests.conftest import REFERENCE, REPOSITORY
from tests.pipeline.conftest import typed

CONVERSION = re.search(r"```python\n(.*?)```", (REPOSITORY / "docs" / "linsley2023.md").read_text(), re.DOTALL)
RELEASED = REFERENCE / "linsley2023"
NORMS, ALIGNMENT = [0.94, 0.86, 75.766, 18.2, 3.71], [0.0069, -0.0024, 0.0421, -0.0139, 0.0054]
TOP1 = [69.02, 69.75, 87.716, 83.1, 57.89]
MODELS = ["vgg11", "resnet18", "swin_large_patch4_window7_224", "vit_base_patch16_224", "mobilenetv3_small_050"]


def write_released(folder, models=MODELS, accuracies=TOP1):
    """The two files as they were released, the second in another order."""
    lines = [
        f"{model},{300 + n},0.0028,{norm},0.0028,0.0,{rho}"
        for n, (model, norm, rho) in enumerate(zip(MODELS, NORMS, ALIGNMENT, strict=True))
    ]
    header = "model,num_correct,avg_eps,avg_l2,avg_linf,avg_lpips,avg_spearman"
    (folder / "FFGSM.csv").write_text("\n".join([header, *lines]) + "\n")
    pairs = sorted(zip(models, accuracies, strict=True), key=lambda pair: -pair[1])
    (folder / "imagenet_acc.csv").write_text("model,top1\n" + "".join(f"{m},{top1}\n" for m, top1 in pairs))


def convert(folder, patch):
    """Run the page's own lines in a folder."""
    assert CONVERSION is not None
    patch.chdir(folder)
    exec(CONVERSION[1], {})
    return folder / "ffgsm.csv"


def rhos(statistics):
    return {(one["x"], one["y"]): (one["n"], one["rho"]) for one in statistics["correlations"]}


def test_the_converted_table_gives_the_correlations_of_its_columns(tmp_path, monkeypatch):
    write_released(tmp_path)
    path = convert(tmp_path, monkeypatch)
    printed = typed(tmp_path, "compare", "--table", str(path), "--json")
    assert printed.returncode == 0, printed.stderr
    found = json.loads(printed.stdout)
    for name, values in (("pt", NORMS), ("aa", ALIGNMENT)):
        n, rho = rhos(found)["multilabel_accuracy", name]
        assert (n, rho) == (5, pytest.approx(spearmanr(TOP1, values).statistic))
    assert {one["t"] for one in found["contrasts"]} == {None}  # nobody said which models are transformers
    table = read_table(path).set_index("model")
    assert table.loc["swin_large_patch4_window7_224", ["pt", "aa", "multilabel_accuracy"]].tolist() == [
        75.766, 0.0421, 87.716,
    ]  # fmt: skip
    assert table["num_correct"].tolist() == ["300", "301", "302", "303", "304"]


def test_a_model_without_an_accuracy_is_kept_and_counted(tmp_path, monkeypatch):
    write_released(tmp_path, MODELS[:4], TOP1[:4])
    statistics = zoo_statistics(read_table(convert(tmp_path, monkeypatch)))
    assert {pair: n for pair, (n, _) in rhos(statistics).items()} == {
        ("multilabel_accuracy", "pt"): 4, ("multilabel_accuracy", "aa"): 4, ("pt", "aa"): 5,
    }  # fmt: skip
    assert "1 of 5 models lack" in statistics["correlations"][0]["note"]


def test_the_files_as_released_and_values_that_cannot_be_are_refused(tmp_path, monkeypatch):
    write_released(tmp_path)
    with pytest.raises(
        InputError, match=r"FFGSM.csv: header lacks pt, aa, group, big_data \(found: model, num_correct"
    ):
        read_table(tmp_path / "FFGSM.csv")
    path = convert(tmp_path, monkeypatch)
    whole = path.read_text()
    for cell, wrong, says in (
        ("75.766", "-75.766", r"row 4 \(swin_.*\): pt is -75.766; it must be between 0 and 1e\+06"),
        ("0.0421", "4.21", r"row 4 \(swin_.*\): aa is 4.21; it must be between -2 and 2"),
        ("87.716", "0.87716", "while other rows are in percent"),
        ("87.716", "877.16", "multilabel_accuracy is 877.16; it must be between 0 and 100"),
    ):
        path.write_text(whole.replace(cell, wrong))
        with pytest.raises(InputError, match=says):
            read_table(path)


@pytest.mark.skipif(not RELEASED.is_dir(), reason="needs ../shared/reference/linsley2023: the released table")
def test_the_released_table_gives_the_rho_that_the_page_tells(tmp_path, monkeypatch):
    for name in ("FFGSM.csv", "imagenet_acc.csv"):
        shutil.copyfile(RELEASED / name, tmp_path / name)
    found = rhos(zoo_statistics(read_table(convert(tmp_path, monkeypatch))))
    assert {n for n, _ in found.values()} == {245}
    told = [found["multilabel_accuracy", name][1] for name in ("pt", "aa")]
    assert np.round(told, 3).tolist() == [0.879, -0.029]
