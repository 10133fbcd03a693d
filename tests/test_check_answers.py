"""check_answers.py: right, wrong, missing, and sentences that give nothing away."""

import copy
import re

from support import answers as in_words
from support.errors import RunError

import numpy as np
import pytest

import check_answers
import handout
import layers
import nn
import train
from checks import answers
from conftest import ROOT

NET = train.build_net(layers, 50, np.random.default_rng(0))
ROWS = nn.size_rows(NET)
# worked out by hand
RIGHT = {
    "sizes": {
        "conv1": [16, 28, 28],
        "pool1": [16, 14, 14],
        "relu1": [16, 14, 14],
        "conv2": [32, 14, 14],
        "pool2": [32, 7, 7],
        "relu2": [32, 7, 7],
        "flatten3": [1568],
        "fc3": [512],
        "relu3": 512,
        "logits": [10],
    },
    "parameters": {
        "conv1": 16 * 25 + 16,
        "pool1": 0,
        "conv2": 32 * 16 * 25 + 32,
        "fc3": 1568 * 512 + 512,
        "logits": 512 * 10 + 10,
        "total": 821_706,
    },
    "receptive_field": {"conv1": 5, "pool1": 6, "conv2": [14, 14]},
    "memory": {"bytes": 6_165_200},
}


def judged(section=None, name=None, answer=None):
    """The Verdicts for right answers, or the one for another answer to one question."""
    given = copy.deepcopy(RIGHT)
    if section is None:
        return answers.judge(given, NET, ROWS, 50)
    given[section][name] = answer
    verdicts = answers.judge(given, NET, ROWS, 50)
    others = [v for v in verdicts if (v.section, v.name) != (section, name)]
    assert {v.status for v in others} == {"right"}
    return next(v for v in verdicts if (v.section, v.name) == (section, name))


def as_toml(given):
    sections = [
        f"[{section}]\n" + "".join(f"{name} = {answer!r}\n" for name, answer in of_section.items())
        for section, of_section in given.items()
    ]
    return "\n".join(sections)


def test_sizes_from_shapes_alone_are_those_of_a_forward_pass():
    rows = nn.summary_rows(NET, 50)
    assert [row._replace(kept_bytes=None) for row in rows] == ROWS
    assert all(row.kept_bytes is None for row in ROWS)


def test_right_answers_are_right_and_the_memory_is_named():
    verdicts = judged()
    assert {v.status for v in verdicts} == {"right"}
    assert verdicts[-1].message == "counted: the output of every layer, in float32"


def test_the_template_asks_all_of_it_and_knows_nothing(capsys):
    template = ROOT / "checks" / "answers.toml"
    given = check_answers.read(template)
    assert {s: set(q) for s, q in given.items()} == {
        section: set(questions) for section, questions in RIGHT.items()
    }
    assert check_answers.run(check_answers.Config(answers=str(template))) == 1
    out = capsys.readouterr().out
    assert "0 of 20 right, 0 wrong, 20 missing" in out
    assert "there is no answers.md; python3 report.py --questions writes it" in out
    assert "in words, for your teacher to read: 0 of 11 written; missing: 1.1, 1.4" in out


def test_the_status_is_0_when_all_is_right(tmp_path, capsys):
    path = tmp_path / "answers.toml"
    path.write_text(as_toml(RIGHT) + '\n[words]\nim2col = "both in Convolution"\n')
    with pytest.raises(SystemExit) as stop:
        check_answers.main(["--answers", str(path)])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert "20 of 20 right, 0 wrong, 0 missing" in out
    assert "1 of 11 written; missing: 1.1, 1.5" in out


def test_answers_in_words_are_counted(tmp_path, capsys):
    path = tmp_path / "answers.toml"
    path.write_text(as_toml(RIGHT))
    text = in_words.template(in_words.SCRIPTS).replace("what for?", "what for?\n\nIn Convolution.")
    (tmp_path / "answers.md").write_text(text, encoding="utf-8-sig")
    assert check_answers.run(check_answers.Config(answers=str(path))) == 0
    assert "1 of 11 written; missing: 1.1, 1.5" in capsys.readouterr().out
    (tmp_path / "answers.md").write_bytes(b"\xff\xfe")
    with pytest.raises(RunError, match=r"answers\.md cannot be read: 'utf-8'"):
        check_answers.run(check_answers.Config(answers=str(path)))


def test_layers_with_gaps_will_do(tmp_path, capsys, monkeypatch):
    gaps = handout.chosen_gaps(True, "")["layers.py"]
    (tmp_path / "cut_layers.py").write_text(handout.cut(handout.text("layers.py"), gaps))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(check_answers, "load_layers", lambda _: __import__("cut_layers"))
    path = tmp_path / "answers.toml"
    path.write_text(as_toml(RIGHT))
    assert check_answers.run(check_answers.Config(answers=str(path))) == 0
    assert "20 of 20 right" in capsys.readouterr().out


IMAGE, OUTPUTS, COLUMNS = 784, 30_826, 25 * 784 + 400 * 196


@pytest.mark.parametrize(
    ("number", "convention"),
    [
        (OUTPUTS * 200, "the output of every layer, in float32"),
        (OUTPUTS * 400, "the output of every layer, in float64"),
        ((OUTPUTS - 1568) * 200, "the output of every layer, Flatten's not twice, in float32"),
        ((IMAGE + OUTPUTS) * 200, "the images and the output of every layer, in float32"),
        ((IMAGE + OUTPUTS - 10) * 200, "the input of every layer, in float32"),
        (
            (OUTPUTS + COLUMNS) * 200,
            "the output of every layer, and the columns of im2col, in float32",
        ),
        (1_696_000, "only what backward needs, with a byte a maximum and a ReLU's sign"),
    ],
)
def test_several_ways_to_count_memory_are_right(number, convention):
    verdict = judged("memory", "bytes", number)
    assert (verdict.status, verdict.message) == ("right", f"counted: {convention}")


def test_what_backward_needs_is_what_the_fast_layers_keep():
    fast_layers = pytest.importorskip("fast_layers")
    net = train.build_net(fast_layers, 50, np.random.default_rng(0))
    assert sum(row.kept_bytes for row in nn.summary_rows(net, 50)) == 50 * answers.least_bytes(NET)
    assert sum(row.kept_bytes for row in nn.summary_rows(NET, 50)) == 50 * answers.plain_bytes(NET)


@pytest.mark.parametrize(
    ("section", "name", "answer", "thought"),
    [
        ("sizes", "conv1", [16, 24, 24], "padding='SAME'"),
        ("sizes", "conv1", [1, 28, 28], "every filter makes one channel"),
        ("sizes", "conv1", [28, 28, 16], "another order"),
        ("sizes", "conv1", [50, 16, 28, 28], "leave the batch out"),
        ("sizes", "conv1", ["16", 28, 28], "write whole numbers"),
        ("sizes", "conv1", {"a": 1}, "write whole numbers"),
        ("sizes", "pool1", [16, 28, 28], "how far does the window move"),
        ("sizes", "pool1", [8, 14, 14], "every channel by itself"),
        ("sizes", "relu1", [16, 7, 7], "each number by itself"),
        ("sizes", "flatten3", [32, 49], "image or a vector"),
        ("sizes", "flatten3", 1000, "finds a place in the vector"),
        ("sizes", "fc3", 10, "second argument"),
        ("parameters", "conv1", 400, "anything else to learn"),
        ("parameters", "conv2", 832, "all channels"),
        ("parameters", "conv2", 401, "one filter"),
        ("parameters", "conv2", 12_832 * 196, "image's size does not count"),
        ("parameters", "conv2", 5, "how many numbers has one filter"),
        ("parameters", "pool1", 4, "does training change"),
        ("parameters", "fc3", 512, "how many weights does one output have"),
        ("parameters", "total", 5, "sum over all layers"),
        ("parameters", "total", True, "write a whole number"),
        ("receptive_field", "conv2", 9, "how far apart"),
        ("receptive_field", "conv2", 16, "of another layer"),
        ("receptive_field", "conv2", 196, "not the area"),
        ("receptive_field", "conv2", "14x14", "write a whole number"),
        ("memory", "bytes", OUTPUTS * 4, "that is one image"),
        ("memory", "bytes", OUTPUTS * 50, "numbers, not bytes"),
        ("memory", "bytes", 7_000_000, "add up"),
        ("memory", "bytes", 6_165, "kilobytes or megabytes"),
        ("memory", "bytes", 10**400, "add up"),
        ("parameters", "conv1", "416", "without quotes or a decimal point"),
        ("memory", "bytes", 6.2, "or a decimal point: of bytes"),
        ("memory", "bytes", OUTPUTS * 200 + 821_706 * 4, "do not grow with the batch"),
    ],
)
def test_a_wrong_answer_gets_a_thought_and_not_the_value(section, name, answer, thought):
    verdict = judged(section, name, answer)
    assert verdict.status == "wrong"
    assert thought in verdict.message
    right = RIGHT[section][name]
    values = {str(n) for n in (right if isinstance(right, list) else [right])} - {"1"}
    assert not values & set(re.findall(r"\d+", verdict.message.replace(",", "")))


@pytest.mark.parametrize("answer", ["?", "", []])
def test_what_is_not_answered_is_missing(answer):
    assert judged("sizes", "conv1", answer).status == "missing"


@pytest.mark.parametrize("given", [{}, {"sizes": 3}, {"sizes": {}}, {"other": {"a": 1}}])
def test_a_file_without_a_section_misses_its_answers(given):
    assert {v.status for v in answers.judge(given, NET, ROWS, 50)} == {"missing"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no .*answers.toml; a hand-out brings one"),
        (b"[sizes]\nconv1 = [16, 28", "cannot be read: "),
        (b"[sizes]\nconv1 = \n", "cannot be read: Invalid value"),
        (b"\xff\xfe", "cannot be read: "),
        (b"a = " + b"[" * 10_000, "cannot be read: "),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(tmp_path, content, message):
    path = tmp_path / "answers.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RunError, match=message):
        check_answers.read(path)
