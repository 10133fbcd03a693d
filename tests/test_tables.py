from support import tables

import pytest


def test_a_text_table_by_hand():
    columns = [("class", "<"), ("loss", ".2f"), ("seen", ","), ("", "<")]
    rows = [["cat", 1.0, 1234, "pass"], ["a horse", 12.345, 5, ""], ["total", "–", 1239, ""]]
    assert tables.text_table(columns, rows).split("\n") == [
        "class     loss   seen",
        "cat       1.00  1,234  pass",
        "a horse  12.35      5",
        "total        –  1,239",
    ]


def test_a_text_table_without_rows_is_its_titles():
    assert tables.text_table([("λ", "g"), ("loss", ".2f")], []) == "λ  loss"


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="zip"):
        tables.text_table([("λ", "g")], [[1, 2]])


def test_a_table_is_read_back_as_texts(tmp_path):
    path = tmp_path / "table.csv"
    rows = [{"name": 'č, "x"\n', "loss": 0.5, "more": 1}, {"name": "", "loss": None, "more": 2}]
    tables.write_table(path, ["name", "loss"], rows)
    assert tables.read_table(path, ("loss",)) == [
        {"name": 'č, "x"\n', "loss": "0.5"},
        {"name": "", "loss": ""},
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected the columns epoch, lr"),
        ("epoch\n1\n", "expected the columns epoch, lr"),
        ("epoch,lr\n1\n", "longer or shorter"),
        ("epoch,lr\n1,2,3\n", "longer or shorter"),
        ('epoch,lr\n1,"2\n', "unexpected end of data"),
    ],
)
def test_a_damaged_table_is_a_value_error(tmp_path, content, message):
    path = tmp_path / "table.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        tables.read_table(path, ("epoch", "lr"))
