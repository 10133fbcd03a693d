"""A page to hand in: answers in words, name and course, the check list, the hashes."""

import hashlib
import json
import re

from support import answers, files, tables
from support.errors import RunError
from support.page import checklist, hashes, markdown
from support.read_runs import Record

import pytest

import report
from conftest import ROOT
from test_report import Page, page, png, write_all, write_answers, write_run, written

ALL = tuple(answers.SCRIPTS)


# --- answers.md ---------------------------------------------------------------------------------


def test_every_question_is_one_of_the_lab():
    lab = squeezed((ROOT / "LAB.md").read_text(encoding="utf-8"))
    questions = answers.questions(ALL)
    assert [question.number for question in questions] == [
        "1.1", "1.4", "1.5", "2.1", "2.2", "3.1", "4.1", "4.2", "4.3", "4.4", "B.1",
    ]  # fmt: skip
    for question in questions:
        assert squeezed(question.text.rpartition(": ")[2]) in lab


def squeezed(text):
    return re.sub(r"\W+", " ", text).strip().lower()


def test_a_template_has_the_questions_of_its_parts_and_no_answer():
    text = answers.template(("1", "2"))
    assert re.findall(r"(?m)^## (\S+)", text) == ["1.1", "1.4", "1.5", "2.1", "2.2"]
    assert answers.split(text) == {}
    assert [question.part for question in answers.questions(("2", "B"))] == ["2", "2", "B"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("## 1.4 Where?\n\nHere.\n\n## 1.5 Why?\n\nSo.\n", {"1.4": "Here.", "1.5": "So."}),
        ("before\n### 1.4: other words\r\nHere.\r\n", {"1.4": "Here."}),
        ("## b.1\nhinge\n## B.1 once more\ngains", {"B.1": "hinge\ngains"}),
        ("## 1.4\n### In detail\nx\n## 9.9 no question\ny\n# 1.5 times\nz",
         {"1.4": "### In detail\nx\n## 9.9 no question\ny\n# 1.5 times\nz"}),
        ("## 1.4\n```\nopen\n## 1.5\nSo.", {"1.4": "```\nopen", "1.5": "So."}),
        ("## 1.4\n\n?\n## 1.5\n   \n", {}),
        ("", {}),
    ],
)  # fmt: skip
def test_what_stands_below_a_heading_is_the_answer(text, expected):
    assert answers.split(text) == expected


def test_words_of_an_earlier_answers_toml_count_where_answers_md_has_none():
    tables = {"words": {"im2col": "\nold\n", "regularization": "old", "other": "x", "a": 1}}
    assert answers.written("## 2.1\nnew", tables) == {"1.4": "old", "2.1": "new"}
    for odd in ({}, {"words": 3}, {"words": {"im2col": ["a"]}}, {"words": {"im2col": " "}}):
        assert answers.written("", odd) == {}


# --- Markdown -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("*a* and `b<c`", "<p><em>a</em> and <code>b&lt;c</code></p>\n"),
        ("# Title", "<h5>Title</h5>\n"),
        ("<script>alert(1)</script>", "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>\n"),
        ("a <b onclick=x>b</b>", "<p>a &lt;b onclick=x&gt;b&lt;/b&gt;</p>\n"),
        ("[x](javascript:alert(1))", "<p>x</p>\n"),
        ("[x](JavaScript&colon;alert(1)) [y](data:text/html,z)", "<p>x y</p>\n"),
        ("[x](../secret) [y](file:///etc/passwd)", "<p>x y</p>\n"),
        ("[x][1]\n\n[1]: vbscript:a", "<p>x</p>\n"),
        ("[*x*](https://a.b/?q=\"c)", '<p><a href="https://a.b/?q=%22c" rel="noreferrer">'
         "<em>x</em></a></p>\n"),
        ("<mailto:a@b.c>", '<p><a href="mailto:a@b.c" rel="noreferrer">mailto:a@b.c</a></p>\n'),
    ],
)  # fmt: skip
def test_markdown_is_shown_and_brings_nothing_dangerous(tmp_path, text, expected):
    assert markdown.markup(text, Record(tmp_path)) == expected


def test_only_pictures_that_lie_beside_the_answers_are_shown(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "my net.png").write_bytes(png(7, 5))
    (folder / "cut.png").write_bytes(png()[:-3])
    (tmp_path / "other.png").write_bytes(png())
    record = Record(folder)
    shown = markdown.markup("![a<b](<my net.png>)", record)
    assert re.fullmatch(
        r'<p><img src="data:image/png;base64,[^"]+" width="7" height="5" alt="a&lt;b"></p>\n', shown
    )
    for address in ("https://a.b/c.png", "../other.png", "cut.png", "none.png", "%00", "/a.png"):
        shown = markdown.markup(f"![net]({address})", record)
        assert shown == "<p>[net: only PNG files beside the answers are shown]</p>\n"
    assert "mine/cut.png cannot be read" in record.problems[0]


# --- the page -----------------------------------------------------------------------------------


def test_the_page_has_name_course_and_day(tmp_path):
    write_run(tmp_path / "train")
    assert 'class="owner"' not in written(tmp_path)
    text = page(tmp_path, author="Ada <b>", course="Nets & more").text
    assert re.search(r"lab report Ada <b> Nets & more \d{4}-\d\d-\d\d ", text)
    html = written(tmp_path, author="\udcff</p><script>alert(1)</script>")
    assert "<script>alert" not in html


def test_answers_stand_beside_their_questions_and_missing_ones_are_marked(tmp_path):
    write_run(tmp_path / "train")
    (tmp_path / answers.NAME).write_text("## 1.4\n\nIn *Convolution*.\n## 2.1\nLess.", "utf-8")
    html = written(tmp_path)
    assert 'used, and what for?</h4>\n<div class="answer"><p>In <em>Convolution</em>' in html
    assert html.index('id="task-2"') < html.index("Less.") < html.index('id="task-3"')
    assert html.count("No answer yet") == 9
    text = Page(html).text
    assert "questions answered in words missing 1 of 3, not 1.1, 1.5" in text
    assert "2 of 22 done, 2 of them not on the official data ." in text
    assert "--questions" not in html


def test_without_a_file_the_page_says_how_to_get_one(tmp_path):
    write_run(tmp_path / "train")
    html = written(tmp_path)
    assert "python3 report.py --questions" in html
    assert html.count("No answer yet") == 11


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("answers.md", "## 1.4\nfür alle".encode("cp1252"), "it is not UTF-8; save it as that"),
        ("answers.toml", "a = 1".encode("utf-16"), "it is not UTF-8; save it as that"),
        ("answers.md", b"## 1.4\n" + b"a" * 100_000, "100,007 bytes, expected at most 100,000"),
        ("answers.toml", b"= 1", "Invalid statement"),
        ("answers.toml", b"a = " + b"[" * 20_000, "nested too deep"),
    ],
)
def test_answers_that_cannot_be_read_are_a_sentence(tmp_path, name, content, reason):
    write_run(tmp_path / "train", epochs=0)
    (tmp_path / name).write_bytes(content)
    text = page(tmp_path).text
    assert f"{tmp_path.name}/{name} cannot be read: " in text
    assert reason in text
    assert "87.50 %" in text


def test_the_questions_are_written_once(tmp_path, capsys):
    path = tmp_path / "mine.md"
    config = report.Config(save_dir=str(tmp_path), questions=True, answers=str(path))
    assert report.run(config) == 0
    assert path.read_text(encoding="utf-8") == answers.template(ALL)
    with pytest.raises(RunError, match=r"mine\.md is already there, and left as it is"):
        report.run(config)


@pytest.mark.parametrize("name", ["typo", "other"])
def test_without_a_run_there_is_no_page_and_no_folder(tmp_path, name):
    (tmp_path / "other").mkdir()
    with pytest.raises(SystemExit, match=f"no run is in .*{name}; python3 train.py makes one"):
        report.main(["--save-dir", str(tmp_path / name)])
    assert [path.name for path in tmp_path.rglob("*")] == ["other"]


# --- the check list -----------------------------------------------------------------------------


def listed(save_dir):
    """{(part, what is asked for): its Item}."""
    words = {part: {"1": True, "2": False} for part in ALL}
    items = checklist.items(save_dir, ALL, {"sizes: conv1": True}, words)
    return {(item.part, item.what): item for item in items}


def test_nothing_is_done_in_an_empty_folder(tmp_path):
    items = listed(tmp_path)
    assert {item.state for item in items.values() if "answers.toml" not in item.what} == {"missing"}
    assert items["1", "numbers in answers.toml"].state == "done"
    assert items["4", "questions answered in words"][2:4] == ("missing", "1 of 2, not 2")


def test_what_is_done_is_listed_with_its_data(tmp_path):
    write_all(tmp_path)
    official = tmp_path / "train_l2reg/lambda_0.001/results.json"
    files.write_json(official, json.loads(official.read_text()) | {"provenance": "official"})
    items = listed(tmp_path)
    assert items["1", "gradients checked"][2:4] == ("done", "1 of 1 tensors")
    assert items["1", "network trained"][2:] == ("done", "", (("cifar10", "generated"),))
    assert items["1", "filters drawn, before and after"].state == "done"
    of_2 = items["2", "a network for each λ trained"]
    assert of_2[2:4] == ("missing", "missing: λ = 0.1")
    assert sorted(of_2.data) == [("cifar10", "generated"), ("cifar10", "official")]
    write_run(tmp_path / "train_l2reg/lambda_0.1")
    write_run(tmp_path / "train_l2reg/lambda_0.03", status="interrupted")  # of which nobody asked
    assert listed(tmp_path)["2", "a network for each λ trained"][2:4] == ("done", "3 runs")
    official.unlink()
    of_2 = listed(tmp_path)["2", "a network for each λ trained"]
    assert (of_2.state, of_2.data[0]) == ("damaged", ("unknown", "unknown"))
    assert items["B", "networks trained with both losses"][2:4] == ("done", "2 runs")
    assert items["B", "the losses compared"].state == "done"
    assert items["4", "20 worst mistakes drawn"].state == "missing"


def test_a_run_that_did_not_come_to_its_end_is_not_done(tmp_path):
    write_run(tmp_path / "train", status="interrupted")
    write_run(tmp_path / "pytorch_cifar", status="diverged", epochs=0)
    for loss, status in (("cross_entropy", "finished"), ("hinge", "interrupted")):
        write_run(tmp_path / "hinge_bonus" / loss, status=status)
    items = listed(tmp_path)
    assert items["1", "network trained"].state == "interrupted"
    assert items["4", "network trained"].state == "diverged"
    assert items["4", "filters drawn, before and after"].state == "missing"
    assert items["B", "networks trained with both losses"].state == "interrupted"
    assert "network trained interrupted" in page(tmp_path).text


@pytest.mark.parametrize(
    ("passed", "methods", "state", "note"),
    [
        (["True", "False"], ["pass", "FAIL"], "failing", "1 of 2 tensors, 1 of 2 methods"),
        (["True"], ["pass", "to do"], "missing", "1 of 1 tensors, 1 of 2 methods"),
        (["True"], ["pass", "pass"], "done", "1 of 1 tensors, 2 of 2 methods"),
        ([], ["to do"], "missing", "0 of 1 methods"),
    ],
)
def test_gradients_count_when_all_methods_are_written_and_right(
    tmp_path, passed, methods, state, note
):
    folder = tmp_path / "check_grads"
    folder.mkdir()
    rows = [{"name": "x", "passed": value} for value in passed]
    tables.write_table(folder / "gradients.csv", ["name", "passed"], rows)
    files.write_json(folder / "results.json", {"methods": dict(enumerate(methods))})
    assert listed(tmp_path)["1", "gradients checked"][2:4] == (state, note)


# --- hashes -------------------------------------------------------------------------------------


def test_a_hash_is_that_of_the_list_of_the_files(tmp_path):
    folder = write_run(tmp_path / "out/train")
    lines = [
        f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n"
        for name in ("config.json", "history.csv", "results.json")
    ]
    expected = hashlib.sha256("".join(lines).encode()).hexdigest()
    found = hashes.hashes(tmp_path / answers.NAME, tmp_path / "out")
    all_of_it = hashlib.sha256(f"{expected}  train\n".encode()).hexdigest()
    assert found == {"train": expected, "all": all_of_it}


def test_a_hash_changes_with_every_file_that_counts_and_with_no_other(tmp_path):
    save_dir = write_all(tmp_path / "out")
    for name in ("layers.py", "answers.toml", "pytorch_cifar.py"):
        (tmp_path / name).write_text("x")
    before = hashes.hashes(tmp_path / answers.NAME, save_dir)
    assert {"code", "check_grads", "train_l2reg/lambda_0.01", "hinge_bonus/hinge"} < before.keys()
    for name, of in (
        ("layers.py", "code"), ("answers.md", "code"), ("out/train/model.npz", "train"),
        ("out/train/history.csv", "train"), ("out/hinge_bonus/hinge/model.pt", "hinge_bonus/hinge"),
    ):  # fmt: skip
        path = tmp_path / name
        path.write_bytes((path.read_bytes() if path.exists() else b"") + b"y")
        after = hashes.hashes(tmp_path / answers.NAME, save_dir)
        assert {key for key in after if after[key] != before[key]} == {of, "all"}
        before = after
    for name in ("report.html", "train/training_plot.png", "train.1"):
        (save_dir / name).write_text("x")
    assert hashes.hashes(tmp_path / answers.NAME, save_dir) == before


def test_what_is_no_file_has_no_hash_and_stops_nothing(tmp_path):
    (tmp_path / "train/history.csv").mkdir(parents=True)
    assert hashes.hashes(tmp_path / answers.NAME, tmp_path).keys() == {"train", "all"}


def test_a_teacher_sees_whether_page_and_folder_belong_together(tmp_path, capsys):
    save_dir = write_all(tmp_path / "out" / "demo")
    path = write_answers(tmp_path).rename(tmp_path / "mine.md")
    options = ["--save-dir", str(save_dir), "--answers", str(path)]

    def status():
        with pytest.raises(SystemExit) as stop:
            report.main([*options, "--hash"])
        return stop.value.code

    assert status() == 1
    assert "there is no page to compare with" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        report.main(options)
    assert status() == 0
    out = capsys.readouterr().out
    assert "report.html has the same" in out
    whole = re.search(r"([0-9a-f]{64})  all", out)[1]
    html = (save_dir / "report.html").read_text(encoding="utf-8")
    assert f">{whole[:16]}</code>" in html
    options[1:2] = [str(tmp_path / "out"), "--demo"]
    assert status() == 0
    for name in ("mine.toml", "mine.md"):
        path.with_name(name).write_text("changed")
        assert status() == 1
        assert f"has another one: {whole}" in capsys.readouterr().out
        path.with_name(name).unlink()
