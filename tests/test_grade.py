import csv
import html
import json
import os
import re
import stat
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path
from types import SimpleNamespace

from support.errors import RunError

import numpy as np
import pytest

import grade
import made_submissions
from checks import tasks
from checks.expected import expected
from conftest import ROOT
from marking import answers, bundles, formats, limited, outputs, rooms, scheme, submissions
from marking.mark import Marked, Marker, Part
from marking.text import plain
from marking.train_inside import build_net
from marking.training import ShortTraining

ON_LINUX = sys.platform == "linux"
FEW = {"FC.forward": 2, "ReLU.forward": 1}
SEED = 3


@pytest.fixture(scope="module")
def right():
    return expected(SEED)


@pytest.fixture
def marked(right, tmp_path):
    """Marks source code, or what lies at a path, for these methods and within these limits."""

    def marked(code, methods=FEW, **limits):
        path = code
        if isinstance(code, str):
            path = tmp_path / "layers.py"
            path.write_text(code, encoding="utf-8")
        plan = scheme.Scheme(methods, limits=scheme.Limits(**limits))
        return Marker(plan, SEED, right).mark(submissions.Submission("Someone", path))

    return marked


# --- submissions that are what they should be ---------------------------------------------------


def test_a_right_submission_has_all_points(marked):
    all_methods = dict.fromkeys(tasks.NINE, 1)
    result = marked(made_submissions.RIGHT, all_methods)
    assert (result.points, result.out_of, result.stopped) == (9, 9, None)
    assert [part.task for part in result.parts] == ["Task 1"] * 7 + ["Task 2"] * 2


def test_a_gap_is_to_do_and_a_mistake_fails_that_method_alone(marked):
    code = made_submissions.GOOD["Ben To-do"].replace("np.maximum(self.x, 0)", "self.x")
    result = marked(code, {**FEW, "FC.backward_inputs": 5})
    assert [part.status for part in result.parts] == ["FAIL", "FAIL", "FAIL"] or [
        part.status for part in result.parts
    ] == ["to do", "FAIL", "FAIL"]
    assert result.points == 0


# --- hostile ones -------------------------------------------------------------------------------

# what is said of each; the limits are small where one is meant to be met, and large elsewhere
REASONS = {
    "syntax error": "SyntaxError",
    "missing import": "tensorflow",
    "memory eater": "1000 MB of memory|perhaps for its memory",
    "gigabyte written": "more than 20 kB of printed text",
    "big file": "more than 2 MB of written files",
    "os._exit": "it ended before the checks did, with status 0",
    "reads input": "EOFError",
    "looks for solutions": "cannot import name 'reference'",
}
POSIX_REASONS = {
    "crash": "crashed: SIGABRT",
    "linked result": "it left seen.npz, which cannot be read",
    "piped result": "it left seen.npz, which is not a file",
    "open files": "Too many open files.*the limit is 32 open files",
    "many files": "more than 2000 written files",
}
SMALL = {"written_mb": 2, "printed_kb": 20, "memory_mb": 1000, "open_files": 32}


@pytest.mark.parametrize("name", [*REASONS, *POSIX_REASONS])
def test_a_hostile_submission_is_one_line(marked, name):
    if name in POSIX_REASONS and os.name != "posix":
        pytest.skip("no such limit on Windows")
    result = marked(made_submissions.HOSTILE[name], {"ReLU.forward": 1}, **SMALL)
    assert [part.points for part in result.parts] == [0]
    assert re.search({**REASONS, **POSIX_REASONS}[name], result.stopped)
    assert "\n" not in result.stopped


def test_a_submission_that_does_not_end_is_ended(marked):
    code = made_submissions.at_the_top("import time; time.sleep(1000)")
    result = marked(code, {"ReLU.forward": 1}, seconds=1)
    assert re.fullmatch("stopped: more than 1 s of the (clock|processor)", result.stopped)
    assert result.parts[0].message == f"not checked: {result.stopped}"


def test_an_endless_method_costs_itself_alone_and_the_training(marked):
    result = marked(made_submissions.HOSTILE["endless loop"])
    assert {part.name: part.points for part in result.parts} == {"FC.forward": 0, "ReLU.forward": 1}
    assert result.stopped == "FC.forward does not end"


def test_what_cannot_be_interrupted_costs_its_class_alone(marked, monkeypatch):
    """The whole is stopped, then FC; ReLU has time enough on any machine."""
    run = limited.run

    def run_shortly(room, module, arguments, limits, seconds):
        return run(room, module, arguments, limits, 60 if "ReLU" in arguments else 1)

    monkeypatch.setattr(limited, "run", run_shortly)
    result = marked(made_submissions.HOSTILE["uninterrupted loop"])
    assert {part.name: part.points for part in result.parts} == {"FC.forward": 0, "ReLU.forward": 1}
    assert result.parts[0].message.startswith("not checked: stopped: more than 1 s")


@pytest.mark.parametrize("name", ["objects", "patched numpy", "memory in a method"])
def test_what_a_method_returns_counts_and_nothing_else(marked, name):
    result = marked(made_submissions.HOSTILE[name], **SMALL)
    assert {part.name: part.points for part in result.parts} == {"FC.forward": 0, "ReLU.forward": 1}
    assert result.stopped is None


def test_what_is_printed_goes_nowhere(marked):
    result = marked(made_submissions.HOSTILE["gigabyte print"], **SMALL)
    assert (result.points, result.stopped, result.output) == (3, None, "")


@pytest.mark.parametrize("name", ["forged result", "pickled result"])
def test_a_forged_result_is_worth_nothing(marked, name):
    result = marked(made_submissions.HOSTILE[name], dict.fromkeys(tasks.NINE, 1))
    assert result.points == 0


def processes_with(word):
    commands = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            commands.append(path.read_bytes().decode(errors="replace"))
        except OSError:
            continue
    return [command for command in commands if word in command]


@pytest.mark.skipif(not ON_LINUX, reason="elsewhere whoever leaves the session stays")
@pytest.mark.parametrize("name", ["fork bomb", "daemon"])
def test_no_process_is_left(marked, name, monkeypatch, tmp_path):
    monkeypatch.setattr(rooms.tempfile, "mkdtemp", lambda **_: str(made(tmp_path / "a-room")))
    most = 8 if name == "fork bomb" else 500  # those of other tests count, too
    result = marked(made_submissions.HOSTILE[name], processes=most)
    assert processes_with(str(tmp_path)) == []
    if name == "fork bomb":  # refused by the system, or seen; a daemon does no harm to its marks
        assert re.search("processes|temporarily unavailable", f"{result.stopped}{result.parts}")
    else:
        assert result.points == 3


def made(folder):
    folder.mkdir()
    return folder


@pytest.mark.skipif(not ON_LINUX, reason="only Linux can do that")
@pytest.mark.parametrize("is_ready", [True, False])
def test_a_submission_ends_with_its_marker(tmp_path, is_ready):
    """Whoever kills grade.py leaves no process behind."""
    (tmp_path / "layers.py").write_text(
        "import time\n"
        "open('ready', 'w').close()\n"
        "while True:\n"
        "    try:\n"
        "        time.sleep(1000)\n"
        "    except BaseException:\n"  # the clock of checks/calls.py
        "        pass\n"
    )
    code = (
        "import sys; from pathlib import Path; from marking import limited, scheme, rooms\n"
        "rooms.tempfile.tempdir = sys.argv[1]\n"
        "with rooms.room({'layers.py': Path(sys.argv[1], 'layers.py').read_bytes()}) as room:\n"
        "    limited.run(room, 'checks.worker', ['layers.py', 'out'], scheme.Limits(), 1000)\n"
    )
    command = [sys.executable, "-c", code, tmp_path]

    def has_begun():
        ready = tmp_path.glob("grade-*/**/ready")
        return any(ready) if is_ready else processes_with(f"{tmp_path}/grade-")

    with subprocess.Popen(command, cwd=ROOT) as process:
        while not has_begun():
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    deadline = time.monotonic() + 60  # the system takes a moment
    while left := processes_with(f"{tmp_path}/grade-"):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def test_a_room_holds_no_solution_and_is_removed():
    with rooms.room({"layers.py": b""}) as room:
        names = {path.name for path in room.folder.rglob("*")}
        assert not names & {"reference.py", "expected.py", "expected.npz", "fast_layers.py"}
        assert not any(name.startswith("mistakes") for name in names)
        assert names >= {"worker.py", "probes.py"}
        assert [path.name for path in room.scratch.iterdir()] == ["layers.py"]
    assert not room.folder.exists()


def test_the_environment_of_the_teacher_stays_with_the_teacher(monkeypatch, tmp_path):
    monkeypatch.setenv("SECRET_TOKEN", "s3cret")
    assert "SECRET_TOKEN" not in limited._environment(tmp_path)


# --- reading ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    if os.name != "posix":
        pytest.skip("such names and links cannot be made on Windows")
    folder = tmp_path_factory.mktemp("odd")
    made_submissions.write_odd_files(folder)
    return {s.name: s for s in submissions.find(folder)}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("empty", "there is no layers.py in it"),
        ("linked code", "its layers.py is a link, which is not followed"),
        ("linked folder", "it is a link, which is not followed"),
        ("pipe", "there is no layers.py in it"),
        ("zip slip", r"names a file outside its folder: \.\./\.\./slipped.py"),
        ("zip absolute", "names a file outside its folder: /tmp/slipped.py"),
        ("zip bomb", "would unpack from .* to 30"),
        ("zip with link", "its layers.py is a link, which is not followed"),
    ],
)
def test_what_cannot_be_read_says_why(odd, name, reason):
    with pytest.raises(submissions.SubmissionError, match=reason):
        submissions.read(odd[name].path)


@pytest.mark.parametrize("name", ["Nina Single", "Paula Zip", "Quentin Moodle_123_file"])
def test_files_zips_and_what_moodle_leaves_are_read(odd, name):
    assert submissions.read(odd[name].path)["layers.py"].decode() == made_submissions.RIGHT


def test_a_damaged_zip_and_a_large_file_cost_one_line(odd, marked, tmp_path, monkeypatch):
    result = marked(odd["damaged"].path)
    assert result.stopped == "it cannot be read: BadZipFile: File is not a zip file"
    assert [part.message for part in result.parts] == [result.stopped] * 2
    monkeypatch.setattr(submissions, "MAX_FILE", 10)
    with pytest.raises(submissions.SubmissionError, match=r"layers\.py is larger than"):
        submissions.read(odd["Paula Zip"].path)


def test_what_is_not_read_of_a_zip_counts_for_nothing(tmp_path, monkeypatch):
    files = {f".venv/{number}": "x" for number in range(9)} | {".venv/large": "0" * 10**6}
    files |= {r"notes\a.txt": "as PowerShell writes it", "10:30 plot.txt": "", "layers.py": "#"}
    made_submissions.write_zip(tmp_path / "a.zip", files)
    monkeypatch.setattr(submissions, "MAX_ENTRIES", 5)
    assert submissions.read(tmp_path / "a.zip") == {"layers.py": b"#"}


def test_a_zip_that_lies_about_a_size_is_not_believed(tmp_path, monkeypatch):
    made_submissions.write_zip(tmp_path / "a.zip", {"layers.py": "#" * 1000})
    content = (tmp_path / "a.zip").read_bytes()
    size = (1000).to_bytes(4, "little")
    (tmp_path / "a.zip").write_bytes(content.replace(size, (5).to_bytes(4, "little")))
    with pytest.raises((submissions.SubmissionError, zipfile.BadZipFile)):
        submissions.read(tmp_path / "a.zip")


def test_what_lies_beside_and_deeper_is_found(tmp_path):
    for place in ("lab/layers.py", "lab/helper.py", "lab/sub/layers.py", "lab/bad name.py"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text(place)
    (tmp_path / "answers.toml").write_text("a = 1")
    (tmp_path / "lab" / "answers.md").write_text("words")
    found = submissions.read(tmp_path)
    assert found == {"layers.py": b"lab/layers.py", "helper.py": b"lab/helper.py",
                     "answers.toml": b"a = 1", "answers.md": b"words"}  # fmt: skip
    (tmp_path / "lab" / "answers.md").write_bytes(bytes(submissions.MAX_FILE + 1))
    assert "answers.md" not in submissions.read(tmp_path)
    (tmp_path / "lab" / "my_layers.py").write_text("mine")  # of whoever learns alone
    assert submissions.read(tmp_path)["layers.py"] == b"mine"
    made(tmp_path / "other")
    (tmp_path / "other" / "my_layers.py").write_text("")
    with pytest.raises(submissions.SubmissionError, match=r"2 folders in it have a my_layers\.py"):
        submissions.read(tmp_path)


def test_submissions_of_one_stem_keep_names_of_their_own(tmp_path):
    for name in ("a.py", "a.zip", "b.py", "notes.txt", ".hidden.py"):
        (tmp_path / name).touch()
    assert [s.name for s in submissions.find(tmp_path)] == ["a.py", "a.zip", "b"]


# --- the short training -------------------------------------------------------------------------

SHORT = scheme.Training(points=5, images=500, epochs=2, accuracy=0.15, moved=0.01)


@pytest.fixture(scope="module")
def training(digits):
    return ShortTraining(digits, SHORT, scheme.Limits(), SEED)


@pytest.mark.parametrize(("name", "passes"), [("Anna Right", True), ("Max Filters", False)])
def test_the_short_training_wants_filters_that_move(training, name, passes):
    trained = training.of({"layers.py": made_submissions.GOOD[name].encode()})
    assert trained.passed == passes
    assert ("moved by 0.0% and 0.0%" in trained.message) != passes


def test_a_loss_may_keep_what_its_gradient_needs(training):
    right = made_submissions.RIGHT
    code = f"""{right}


class SoftmaxCrossEntropyWithLogits(SoftmaxCrossEntropyWithLogits):
    def forward(self, x, y):
        self.grad = super().backward_inputs(x, y)
        return super().forward(x, y)

    def backward_inputs(self, x, y):
        return self.grad
"""
    assert training.of({"layers.py": code.encode()}).passed


def test_a_training_that_fails_says_how(training):
    trained = training.of({"layers.py": made_submissions.GOOD["Ben To-do"].encode()})
    assert not trained.passed
    assert trained.message == "ended without weights: NotImplementedError: Task 1: FC.forward"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv1.weights": np.zeros((16, 24), np.float32)}, r"shape \(16, 24\), expected \(16, 25"),
        ({"conv1.bias": np.full(16, np.nan)}, "conv1.bias is no longer finite"),
        ({"fc3.weights": "text"}, "left no fc3.weights"),
        ({"logits.bias": np.full(10, 1e300)}, "filters moved by 0.0%"),
    ],
)
def test_weights_that_are_none_are_not_believed(training, change, message):
    trained = training._judge(training.first | change, "")
    assert not trained.passed
    assert re.search(message, trained.message)


def test_the_networks_of_task_1_and_of_the_training_are_equal():
    layers = __import__("layers")
    import train

    ours, theirs = build_net(layers, np.float32), train.build_net(layers, 50, np.random)
    assert [(x.name, x.shape) for x in ours] == [(x.name, x.shape) for x in theirs]


# --- points -------------------------------------------------------------------------------------


def test_the_default_marks_are_read():
    plan = scheme.read_scheme(scheme.DEFAULT)
    assert set(plan.methods) == set(tasks.NINE)
    assert sum(plan.methods.values()) + plan.answers.points + plan.training.points == 30


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[methods", "cannot be read"),
        ("[method]", "no section is called 'method'"),
        ('[methods]\n"FC.forwards" = 1', "no method is called 'FC.forwards'"),
        ('[methods]\n"FC.forward" = 1.5', "to be a whole number of at least 0, got 1.5"),
        ('[methods]\n"FC.forward" = true', "to be a whole number of at least 0, got True"),
        ("[limits]\nseconds = 0", "to be a whole number above 0, got 0"),
        ("[training]\npoint = 1", r"no entry of \[training\] is called 'point'"),
        ("methods = 3", "expected a table of every method, got 3"),
        ("", "nothing in it has points"),
    ],
)
def test_marks_that_are_wrong_say_where(tmp_path, text, message):
    (tmp_path / "marks.toml").write_text(text)
    with pytest.raises(RunError, match=message):
        scheme.read_scheme(tmp_path / "marks.toml")


def answers_marked(content):
    plan = scheme.Scheme({}, scheme.Answers(points=10))
    marker = Marker(plan, SEED, None, answers.judge)
    return marker._answers(Marked("x"), {"answers.toml": content})[0]


def test_answers_have_points_in_proportion():
    blank = answers_marked((ROOT / "checks" / "answers.toml").read_bytes())
    assert (blank.points, blank.out_of, blank.status) == (0, 10, "FAIL")
    assert blank.message.startswith("0 of ")
    verdicts = [SimpleNamespace(status=s, section="a", name=s) for s in ("right", "wrong", "right")]
    marker = Marker(scheme.Scheme({}, scheme.Answers(points=10)), SEED, None, lambda _: verdicts)
    part = marker._answers(Marked("x"), {"answers.toml": b""})[0]
    assert (part.points, part.message) == (6, "2 of 3 right; not a: wrong")


def test_words_are_there_to_read_whatever_the_numbers_are(tmp_path, right):
    (tmp_path / "layers.py").write_text(made_submissions.RIGHT, encoding="utf-8")
    (tmp_path / "answers.toml").write_text('[words]\nim2col = "old"\nregularization = "less"')
    (tmp_path / "answers.md").write_bytes(b"## 1.4\n" + b"long " * 100 + b"\x1b[31m \xff\n## 9.9")
    plan = scheme.Scheme({"ReLU.forward": 1})
    marker = Marker(plan, SEED, right, answers.judge)
    words = marker.mark(submissions.Submission("x", tmp_path)).words
    assert [question[:8] for question in words] == ["1.4 Wher", "2.1 What"]
    first, second = words.values()
    assert first.startswith("long " * 99)
    assert "\x1b" not in first
    assert second == "less"
    (tmp_path / "answers.toml").write_bytes(b"= 1")
    assert len(marker.mark(submissions.Submission("x", tmp_path)).words) == 1


@pytest.mark.parametrize("content", [b"\xff", b"= 1", b"a = " + b"[" * 100_000])
def test_answers_that_are_no_toml_cost_the_answers_alone(tmp_path, right, content):
    (tmp_path / "layers.py").write_text(made_submissions.RIGHT, encoding="utf-8")
    (tmp_path / "answers.toml").write_bytes(content)
    plan = scheme.Scheme({"ReLU.forward": 1}, scheme.Answers(points=3))
    marker = Marker(plan, SEED, right, answers.judge)
    result = marker.mark(submissions.Submission("x", tmp_path))
    assert [part.points for part in result.parts] == [1, 0]


# --- the whole script, and what it writes -------------------------------------------------------

HOSTILE_NAME = "<img src=x onerror=alert(1)>"


def results():
    """Two Marked with everything that may be in one."""
    parts = [
        Part("Task 1", "FC.forward", "pass", 2, 2),
        Part("Task 2", "L2Regularizer.forward", "FAIL", 0, 3, "a < b\nλ is missing", "missing"),
        Part("Answers", "answers", "to do", 0, 1),
    ]
    return [
        Marked(plain("=1+1 \x1b[31m\u202e<b>"), parts, None, "printed <i>", 1.5),
        Marked("b", parts, "more than 1 s of the clock", "\x00 odd", 2.0, {"why": "<u>so</u>"}),
    ]


def test_one_command_marks_a_folder(tmp_path, capsys):
    folder = made(tmp_path / "in")
    names = ["Anna", HOSTILE_NAME if os.name == "posix" else "img", "=1+1"]
    codes = [made_submissions.RIGHT, made_submissions.GOOD["Carla Bias"], "import nothing_there"]
    for name, code in zip(names, codes, strict=True):
        made_submissions._put(folder / name / "layers.py", code)
    marks = tmp_path / "marks.toml"
    marks.write_text('[methods]\n"FC.backward_params" = 2\n"ReLU.forward" = 1\n')
    made_submissions._put(tmp_path / "out" / "grade" / "earlier", "")
    command = [str(folder), "--marks", str(marks), "--save-dir", str(tmp_path / "out")]
    grade.main([*command, "--format", "junit", "--seed", "7"])
    said = capsys.readouterr().out
    assert "3 submissions; --seed 7 repeats these inputs" in said
    assert "3 of 3  Anna" in said
    out = tmp_path / "out" / "grade"
    with (out / "marks.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["submission"]: row for row in csv.DictReader(file)}
    assert rows["Anna"]["points"] == "3"
    assert rows["Anna"]["seed"] == "7"
    assert rows["'=1+1"]["note"].startswith("layers.py cannot be imported")
    page = (out / "marks.html").read_text(encoding="utf-8")
    assert "<img" not in page
    assert html.escape(names[1]) in page
    assert (out / "junit.xml").exists()
    assert (tmp_path / "out" / "grade.1" / "earlier").exists()


def test_nothing_to_mark_is_one_line(tmp_path, capsys):
    for argv, message in (
        ([str(tmp_path)], "holds no submission"),
        ([str(tmp_path / "none")], "No such file"),
        ([], "the following arguments are required: FOLDER|folder"),
        ([str(tmp_path), "--format", "canvas"], "--format: expected one of"),
        ([str(tmp_path), "--seed", "-1"], "--seed: expected a number of at least 0"),
    ):
        with pytest.raises(SystemExit) as stop:
            grade.main(argv)
        assert re.search(message, f"{stop.value.code}{capsys.readouterr().err}")


def test_the_page_shows_everything_and_runs_nothing(tmp_path):
    marker = SimpleNamespace(seed=7)
    outputs.write(tmp_path, results(), marker, 3)
    page = (tmp_path / "marks.html").read_text(encoding="utf-8")
    for text in (
        "--seed 7",
        "2 of 3",
        "more than 1 s of the clock",
        "a &lt; b",
        "printed &lt;i&gt;",
    ):
        assert text in page
    assert not re.search("<(b|i|u|script)>|https?://|\x1b|\u202e", page)
    assert "default-src 'none'" in page
    row = list(csv.reader((tmp_path / "marks.csv").read_text(encoding="utf-8").splitlines()))[1]
    assert row[0].startswith("'=1+1")
    assert "a < b" in row[row.index("2") :][-3]


def test_gradescope_gets_its_format():
    """Keys and values that gradescope-autograders.readthedocs.io/en/latest/specs/ names."""
    for marked in results():
        values = json.loads(json.dumps(formats.gradescope(marked, 7)))
        known = {"score", "execution_time", "output", "output_format", "test_output_format"}
        known |= {"test_name_format", "visibility", "stdout_visibility", "extra_data", "tests"}
        assert values.keys() <= known | {"leaderboard"}
        assert {values["visibility"], values["stdout_visibility"]} <= {"visible", "hidden"}
        assert "score" not in values  # then the tests' are added up
        for test in values["tests"]:
            of_test = {"score", "max_score", "status", "name", "name_format", "number", "output"}
            assert test.keys() <= of_test | {"output_format", "tags", "visibility", "extra_data"}
            assert test["status"] in ("passed", "failed")
            assert 0 <= test["score"] <= test["max_score"]
        assert sum(test["score"] for test in values["tests"]) == marked.points


def test_classroom50_gets_its_format():
    """What schemas/result-v1.schema.json of foundation50/classroom50 asks for."""
    environment = {"CLASSROOM": "cnn", "ASSIGNMENT": "lab", "OWNER": "anna"}
    environment |= {"SUBMISSION_TAG": "submit/2026-01-01T00-00-00Z-abc", "COMMIT_URL": "https://c"}
    for given in ({}, environment):
        values = json.loads(json.dumps(formats.classroom50(results()[0], 7, given)))
        texts = ("classroom", "assignment", "owner", "submission", "commit", "release", "review")
        assert all(isinstance(values[name], str) and values[name] for name in texts)
        assert values["schema"] == "classroom50/result/v1"
        assert values["assignment_type"] in ("individual", "group")
        assert values["submission"].startswith("submit/")
        for name in ("datetime", "graded_at"):
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", values[name])
        required = {"schema", "assignment_type", "datetime", "score", "max-score", "tests"}
        assert values.keys() == {*texts, *required, "graded_at"}
        assert (values["score"], values["max-score"]) == (2, 6)
        for test in values["tests"]:
            assert test["test-name"]
            assert type(test["passed"]) is bool
            assert type(test["score"]) is type(test["max-score"]) is int
    assert (values["classroom"], values["owner"], values["review"]) == ("cnn", "anna", "https://c")


def test_junit_gets_its_format(tmp_path):
    """The order of elements, and the attributes, of jenkins-junit.xsd."""
    formats.write_junit(tmp_path, results(), 7, None)
    suites = ET.parse(tmp_path / "junit.xml").getroot()
    assert suites.tag == "testsuites"
    for suite, failures, errors in zip(suites, ("2", "0"), ("0", "2"), strict=True):
        assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == (
            "3", failures, errors,
        )  # fmt: skip
        assert [child.tag for child in suite] == ["testcase"] * 3 + ["system-out"]
        for case in suite.iter("testcase"):
            assert case.get("name")
            assert {child.tag for child in case} <= {"error", "failure"}
    assert "<b>" in suites[0].get("name")


# --- the bundles --------------------------------------------------------------------------------


def test_the_bundles_hold_what_they_need(tmp_path):
    bundles.write_gradescope(tmp_path / "g.zip", scheme.DEFAULT)
    bundles.write_classroom50(tmp_path / "c.zip", scheme.DEFAULT)
    with zipfile.ZipFile(tmp_path / "g.zip") as archive:
        names = set(archive.namelist())
        for name in ("setup.sh", "run_autograder"):
            assert archive.getinfo(name).external_attr >> 16 & stat.S_IXUSR
            assert archive.read(name).startswith(b"#!/usr/bin/env bash\n")
    assert names >= {"grade.py", "checks/judge.py", "marking/marks.toml", "support/page/page.css"}
    assert not any(name.endswith((".so", ".pyd", ".pyc", ".c")) for name in names)
    with zipfile.ZipFile(tmp_path / "c.zip") as archive:
        assert {*archive.namelist()} == {
            "autograder.py", *(f"lab/{name}" for name in names - {"setup.sh", "run_autograder"}),
        }  # fmt: skip
        assert len(archive.read("lab/im2col_cython.pyx")) > 0


@pytest.mark.skipif(os.name != "posix", reason="Gradescope's machines have a shell")
def test_the_gradescope_bundle_marks(tmp_path, data_dir, monkeypatch):
    """As on Gradescope, but for setup.sh, which installs what is here already."""
    marks = tmp_path / "marks.toml"
    marks.write_text('[methods]\n"ReLU.forward" = 4\n[answers]\npoints = 2\n')
    bundles.write_gradescope(tmp_path / "g.zip", marks)
    source, submission = tmp_path / "source", made(tmp_path / "submission")
    with zipfile.ZipFile(tmp_path / "g.zip") as archive:
        archive.extractall(source)
    for path in ROOT.glob("im2col_cython*.so"):
        (source / path.name).write_bytes(path.read_bytes())
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    python = tmp_path / "venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    made(tmp_path / "results")
    (submission / "layers.py").write_text(made_submissions.RIGHT, encoding="utf-8")
    environment = {**os.environ, "AUTOGRADER": str(tmp_path), "DATA_DIR": str(data_dir)}
    script = ["bash", str(source / "run_autograder")]
    done = subprocess.run(script, env=environment, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    values = json.loads((tmp_path / "results" / "results.json").read_text(encoding="utf-8"))
    assert [test["score"] for test in values["tests"]] == [4, 0]
    assert subprocess.run(["bash", "-n", str(source / "setup.sh")]).returncode == 0
