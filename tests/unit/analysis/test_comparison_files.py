"""The files of a comparison are read as they were written."""

import pandas as pd

from advalign.analysis.comparison import compare_table
from advalign.analysis.comparison_files import read_comparison
from advalign.analysis.table import check_table


def test_a_model_may_have_a_name_that_pandas_takes_for_a_missing_value(tmp_path):
    """Of NA, null and None pandas makes nothing unless it is told otherwise."""
    names = ["NA", "null", "None", "resnet18"]
    rows = [{"model": name, "pt": 1.0, "aa": 0.3, "multilabel_accuracy": 0.7} for name in names]
    table = pd.DataFrame(rows).assign(group="cnn", big_data=0)
    compare_table(check_table(table, "made up"), tmp_path, "made up")
    found, _ = read_comparison(tmp_path)
    assert found["model"].tolist() == names
    assert found["pt"].tolist() == [1.0] * 4
