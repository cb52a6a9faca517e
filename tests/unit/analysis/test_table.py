"""Reading and checking a table of models: what is refused is told in one line with file, row and mend."""

import math

import pytest

from advalign.analysis.table import family, read_table
from advalign.errors import InputError

pytestmark = pytest.mark.filterwarnings("error")

HEADER = "model,pt,aa,multilabel_accuracy,group,big_data\n"


def write(tmp_path, text):
    path = tmp_path / "zoo.csv"
    path.write_bytes(text.encode())
    return path


def test_table_is_read_with_types_and_extra_columns(tmp_path):
    text = "\ufeffmodel , pt,aa,group,big_data,licence\r\na,1.5,0.2, cnn ,0,MIT\r\n\r\nb,,-0.1,vit,1,\r\n"
    table = read_table(write(tmp_path, text))
    assert table["model"].tolist() == ["a", "b"]
    assert table["group"].tolist() == ["cnn", "vit"]
    assert table["big_data"].tolist() == [0, 1]
    assert table["pt"].iloc[0] == 1.5
    assert math.isnan(table["pt"].iloc[1])
    assert table["multilabel_accuracy"].isna().all()
    assert table["licence"].iloc[0] == "MIT"
    assert table.index.tolist() == [2, 4]


def test_a_spreadsheets_empty_columns_at_the_right_are_no_columns(tmp_path):
    text = '"model",pt,aa,group,big_data,,\r\na,1.5,0.2,cnn,0,,\r\nb,1.6,0.3,cnn,0,, \r\n'
    table = read_table(write(tmp_path, text))
    assert list(table.columns) == ["model", "pt", "aa", "group", "big_data", "multilabel_accuracy"]
    assert table["pt"].tolist() == [1.5, 1.6]
    with pytest.raises(InputError, match="header has  more than once"):  # a value without a name is no margin
        read_table(write(tmp_path, text.replace(",, \r", ",,note\r")))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is empty"),
        ("<!DOCTYPE html>\n", "looks like a web page"),
        (HEADER, "has a header but no rows"),
        ("model,pt,group\na,1,cnn\n", "header lacks aa, big_data (found: model, pt, group)"),
        ("model,pt,pt,aa,group,big_data\na,1,1,0,cnn,0\n", "header has pt more than once"),
        (HEADER + "a,1,0.1,0.9,cnn,0\nb,1,0.1,0.9,vitt,0\n", "row 3 (b): unknown group 'vitt'; did you mean 'vit'"),
        (HEADER + "a,1,0.1,0.9,cnn,0\nb,1,0.1,0.9,,0\n", "row 3 (b): group is missing"),
        (HEADER + "a,1,0.1,0.9,standard,0\n", "row 2 (a): unknown group 'standard'"),
        (HEADER + "a,1,0.1,0.9,noisy,0\n", "row 2 (a): unknown group 'noisy'"),
        (HEADER + "a,1,0.1,0.9,cnn,0\n,1,0.1,0.9,cnn,0\n", "row 3: the model has no name"),
        (HEADER + "a,1,0.1,0.9,cnn,0\nb,1,0,0.9,cnn,0\na,2,0,0.9,vit,0\n", "row 4: 'a' is already in row 2"),
        (HEADER + "a,high,0.1,0.9,cnn,0\n", "row 2 (a): pt is 'high'; write a finite number"),
        (HEADER + 'a,"1,5",0.1,0.9,cnn,0\n', "row 2 (a): pt is '1,5'"),
        (HEADER + "a,inf,0.1,0.9,cnn,0\n", "row 2 (a): pt is 'inf'"),
        (HEADER + "a,-1,0.1,0.9,cnn,0\n", "row 2 (a): pt is -1.0; it must be between 0 and 1e+06"),
        (HEADER + "a,1,0.1,120,cnn,0\n", "multilabel_accuracy is 120.0; it must be between 0 and 100"),
        (HEADER + "a,1e308,0.1,0.9,cnn,0\n", "row 2 (a): pt is 1e+308; it must be between 0 and 1e+06"),
        (HEADER + "a,1e-320,0.1,0.9,cnn,0\n", "row 2 (a): pt is 1e-320; write 0, or the number that is meant"),
        (HEADER + "a,1_5,0.1,0.9,cnn,0\n", "row 2 (a): pt is '1_5'; write a finite number"),
        (HEADER + "a,\uff11,0.1,0.9,cnn,0\n", "row 2 (a): pt is '\\uff11'; write a finite number"),
        (HEADER + "a,1,41,0.9,cnn,0\n", "row 2 (a): aa is 41.0; it must be between -2 and 2, a share: 41 % is 0.41"),
        (HEADER + "a,1,0.1,0.9,cnn,0\nb,1,-999,0.9,cnn,0\n", "row 3 (b): aa is -999.0; it must be between -2 and 2"),
        (
            HEADER + "a,1,0.1,76.2,cnn,0\nb,1,0.2,0.74,cnn,0\n",
            "row 3 (b): multilabel_accuracy is 0.74; while other rows are in percent; write all of them as shares",
        ),
        (
            "model,pt,aa,aa_sem,group,big_data\na,1,0.1,41,cnn,0\n",
            "row 2 (a): aa_sem is 41.0; it must be between 0",
        ),
        (HEADER + "a,1,0.1,0.9,cnn,maybe\n", "row 2 (a): big_data is 'maybe'; write 1"),
        (HEADER + "a,1,0.1,0.9,cnn,\n", "row 2 (a): big_data is ''"),
        (HEADER + "a,1,0.1,0.9,cnn\n", "line 2: 5 cells, the header has 6: fix that line"),
        (HEADER + "a,1,0.1,0.9,cnn,0\nb\0,1,0.1,0.9,cnn,0\n", "line 3: a NUL character"),
        (HEADER + "a,1,0.1,0.9,cnn,0\n\n" + "b" * 140_000 + ",1,0.1,0.9,cnn,0\n", "line 4 is no row of a CSV table"),
        (HEADER + 'a,1,0.1,0.9,"cnn,0\n', "line 2 is no row of a CSV table (unexpected end of data)"),
        (HEADER + "a,1,0.1,0.9,cnn,0,7,8\n", "line 2: 8 cells, the header has 6: fix that line"),
    ],
)
def test_bad_tables_are_refused_in_one_line_that_names_file_row_and_mend(tmp_path, text, told):
    path = write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        read_table(path)
    message = str(caught.value)
    assert told in message
    assert message.startswith(str(path))
    assert "\n" not in message


def test_protocols_never_mix(tmp_path):
    header = "model,pt,aa,group,big_data,protocol\n"
    with pytest.raises(InputError, match=r"2 protocols \(fmn, fmn-fast\)"):
        read_table(write(tmp_path, header + "a,1,0,cnn,0,fmn\nb,1,0,cnn,0,fmn-fast\n"))
    with pytest.raises(InputError, match=r"\(none\), fmn"):
        read_table(write(tmp_path, header + "a,1,0,cnn,0,fmn\nb,1,0,cnn,0,\n"))


def test_files_that_are_no_text_or_not_there(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_table(tmp_path / "absent.csv")
    with pytest.raises(InputError, match="is a folder, expected a regular file"):
        read_table(tmp_path)
    path = tmp_path / "latin.csv"
    path.write_bytes((HEADER + "caf\xe9,1,0,0.9,cnn,0\n").encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8"):
        read_table(path)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("resnet18.baseline", "resnet"),
        ("resnetv2_50.a1h_in1k", "resnetv2"),
        ("legacy_seresnet18.in1k", "seresnet"),
        ("tf_mobilenetv3_large_075.in1k", "mobilenetv3"),
        ("wide_resnet50_2_linf_eps0.5", "wide_resnet"),
        ("eva02_large_patch14_448.mim_in22k_ft_in1k", "eva"),
        ("test_vit.baseline", "vit"),
        ("vgg11_bn.tv_in1k", "vgg"),
        ("test", "test"),
    ],
)
def test_family(model, expected):
    assert family(model) == expected
