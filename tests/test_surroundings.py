"""Scripts in surroundings that are not those of a plain terminal on a machine of one's own."""

import dataclasses
import errno
import importlib
import io
import json
import math
import os
import subprocess
import sys

from support import framework, start, surroundings
from support.errors import RunError, one_line_errors
from support.facts import hint_at_other_programs
from support.folders import claim
from support.options import CommonConfig, parse
from support.run import Run

import numpy as np
import pytest

import fast_layers
import nn
import train
from conftest import ROOT

NUMPY_SCRIPTS = ("check_grads", "train", "train_l2reg", "report")
TORCH_SCRIPTS = ("pytorch_mnist", "pytorch_cifar", "hinge_bonus")
SMALL = ("--dataset", "synthetic", "--train-size", "100", "--epochs", "1", "--threads", "1")

needs_posix = pytest.mark.skipif(os.name != "posix", reason="a POSIX shell and its names")


@pytest.fixture(params=[*NUMPY_SCRIPTS, *TORCH_SCRIPTS])
def module(request):
    if request.param in TORCH_SCRIPTS:
        pytest.importorskip("torch")
    return importlib.import_module(request.param)


# --- the console --------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp437", "utf-8"])
def test_no_character_is_too_much_for_the_console(encoding, monkeypatch):
    console = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr(sys, "stdout", console)
    surroundings.make_text_harmless()
    print("λ × σ č \udcff")
    console.flush()
    text = console.buffer.getvalue().decode(encoding)
    assert text.encode().decode("unicode_escape") or text
    assert ("\\u03bb" in text) == (encoding in ("ascii", "cp1252", "cp437"))
    assert "\\udcff" in text


def test_a_console_that_is_closed_or_of_another_kind(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)  # as Python has it after >&-
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    surroundings.make_text_harmless()
    print("λ \udcff")
    assert not sys.stdout.isatty()
    sys.stdout.close()


def test_help_of_every_script_on_a_console_that_knows_ascii_only(module, monkeypatch):
    console = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", console)
    monkeypatch.setenv("SAVE_DIR", "/a folder of 100% %s")
    with pytest.raises(SystemExit) as stop:
        module.main(["--help"])
    assert stop.value.code == 0
    console.flush()
    text = console.buffer.getvalue().decode("ascii")
    assert "100% %s" in " ".join(text.split())


def test_a_script_that_speaks_of_lambda_on_such_a_console(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    import pytorch_mnist

    console = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", console)
    config = parse(pytorch_mnist.Config, ["--save-dir", str(tmp_path)], "words")
    pytorch_mnist.compare(config, None, None, "")
    console.flush()
    assert b"with the same \\u03bb to compare with" in console.buffer.getvalue()


@needs_posix
def test_a_closed_stream_and_a_folder_whose_name_is_not_unicode(data_dir, tmp_path):
    folder = os.fsencode(tmp_path) + b"/b\xff d"
    command = [sys.executable, "-W", "error", ROOT / "train.py", *SMALL, "--data-dir", data_dir]
    done = subprocess.run(
        ["sh", "-c", '"$@" 2>&-', "sh", *command, "--save-dir", folder],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
    assert b"\\udcff d" in done.stdout
    for name, key in (("config.json", "save_dir"), ("results.json", "command")):
        path = os.path.join(folder, b"train", name.encode())  # noqa: PTH118 -- bytes
        with open(path, encoding="utf-8") as file:  # noqa: PTH123
            assert os.fsdecode(folder) in json.load(file)[key]


def test_a_run_says_first_which_data_and_how_many_images(digits, capsys):
    digits.introduce()
    out = capsys.readouterr().out
    assert out.splitlines() == [
        "mnist: generated, 500 / 5,000 / 200 images for training, validation and test",
        "mnist: generated stand-in, not the real data",
    ]


# --- folders ------------------------------------------------------------------------------------


def test_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("SAVE_DIR", "~/saved")
    monkeypatch.setenv("DATA_DIR", "~/data")
    config = parse(CommonConfig, [], "words")
    assert config.save_dir == str(tmp_path / "saved")
    assert config.data_dir == str(tmp_path / "data")
    config = parse(CommonConfig, ["--save-dir=~/runs", "--data-dir", "~"], "words")
    assert config.save_dir == str(tmp_path / "runs")
    assert config.data_dir == str(tmp_path)


def test_a_home_folder_that_nobody_knows(capsys):
    for argv in (["--save-dir", "~no-such-user/x"], ["--resume", "--save-dir=~no-such-user/x"]):
        with pytest.raises(SystemExit) as stop:
            parse(CommonConfig, argv, "words", "train")
        assert stop.value.code == 2
        err = capsys.readouterr().err
        assert "--save-dir: the home folder in ~no-such-user/x is not known" in err
        assert err.count("\n") == 1


def test_without_home(monkeypatch):
    for name in ("HOME", "USERPROFILE", "SAVE_DIR", "DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    assert parse(CommonConfig, [], "words").save_dir == str(ROOT / "out")


def test_a_relative_folder_is_that_of_the_current_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    config = parse(CommonConfig, ["--data-dir", "here"], "words")
    assert config.data_dir == str(tmp_path / "here")


@needs_posix
def test_a_current_folder_that_was_deleted(monkeypatch, tmp_path, capsys):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(SystemExit) as stop:
        parse(CommonConfig, [], "words")
    assert stop.value.code == 2
    assert "the current folder was deleted: cd to another one" in capsys.readouterr().err


@needs_posix
def test_a_checkout_that_is_reached_through_a_link(tmp_path):
    (tmp_path / "link").symlink_to(ROOT)
    env = {name: value for name, value in os.environ.items() if name != "SAVE_DIR"}
    done = subprocess.run(
        [sys.executable, "train.py", "--help"],
        cwd=tmp_path / "link",
        env={**env, "PWD": str(tmp_path / "link"), "COLUMNS": "500"},
        capture_output=True,
        text=True,
    )
    assert f"[{ROOT / 'out'}]" in done.stdout, done.stderr


@pytest.mark.parametrize("below", [False, True])
@pytest.mark.parametrize("resume", [False, True])
def test_a_file_where_the_run_should_be(tmp_path, below, resume):
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "train" if below else tmp_path / "file"
    with pytest.raises(RunError, match=r"cannot write to .*file"):
        Run.start(folder, resume=resume)
    with pytest.raises(RunError, match=r"cannot write to .*file"):
        claim(folder, {}, resume)


@pytest.mark.parametrize("reason", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_folder_that_may_only_be_read(tmp_path, monkeypatch, reason):
    def read_only(path, flags, *_args):
        raise OSError(reason, os.strerror(reason), str(path))

    monkeypatch.setattr(os, "open", read_only)
    monkeypatch.setattr(os, "access", lambda *_args: False)
    with pytest.raises(RunError, match=f"cannot write to .*: {os.strerror(reason)}"):
        Run.start(tmp_path)


# --- numbers ------------------------------------------------------------------------------------


def test_every_number_of_every_script_has_bounds_that_hold(module):
    classes = [getattr(module, name) for name in dir(module) if name.endswith("Config")]
    assert classes
    for config_class in classes:
        for f in dataclasses.fields(config_class):
            default = f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
            values = default if isinstance(default, list) else [default]
            if not all(type(value) in (int, float) for value in values):
                continue
            low, high = f.metadata["minimum"], f.metadata["maximum"]
            assert low <= min(values) <= max(values) <= high, f.name
            for value in (low - 1, high + 1, float("inf"), float("nan")):
                wrong = [value] if isinstance(default, list) else value
                with pytest.raises(RunError, match=f"--{f.name.replace('_', '-')}: expected"):
                    config_class(**{f.name: wrong})


def test_a_rate_of_zero_trains_nothing_and_ends_well(digits, tmp_path):
    config = train.Config(
        save_dir=tmp_path, train_size=100, lr_scale=0.0, epochs=2, batch_size=100, threads=1
    )
    few = dataclasses.replace(digits, valid_x=digits.test_x, valid_y=digits.test_y)
    results = train.run(config, few)
    assert results["status"] == "finished"
    initial = train.build_net(fast_layers, 1, np.random.default_rng(config.seed))
    with np.load(tmp_path / "train" / "model.npz") as model:
        for name, array in nn.parameters(initial).items():
            assert np.array_equal(model[name], array)


# --- room and other programs --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ENOSPC", "MB are free in"),
        ("EFBIG", "a limit on the size of files was met"),
        ("EDQUOT", "your quota on this disk is used up"),
        ("EACCES", None),
    ],
)
def test_why_there_is_no_room(name, words, tmp_path):
    number = getattr(errno, name, None)
    if number is None:
        pytest.skip(f"no {name} here")
    text = surroundings.no_room(OSError(number, os.strerror(number), str(tmp_path / "file")))
    assert text == "" if words is None else words in text
    assert ("MB" in text) == (name == "ENOSPC")


def test_no_room_for_more_files_and_on_a_disk_that_is_not_known(tmp_path, monkeypatch):
    error = OSError(errno.ENOSPC, "No space left on device")
    assert surroundings.no_room(error).startswith("; make room")
    assert surroundings.no_room(ValueError()) == ""
    assert surroundings.no_room(error, resumes=False) == "; make room"
    error.filename = str(tmp_path / "gone" / "file")
    assert surroundings.no_room(error, resumes=False) == "; make room"
    if hasattr(os, "statvfs"):
        real = os.statvfs(tmp_path)
        values = [*real[:5], 1000, 0, 0, *real[8:]]
        monkeypatch.setattr(os, "statvfs", lambda _path: os.statvfs_result(values))
        error.filename = str(tmp_path / "file")
        assert "has room for no more files" in surroundings.no_room(error)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no disk that is always full")  # noqa: PTH110
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_behind_standard_output(unbuffered, tmp_path):
    (tmp_path / "train").mkdir()
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            [sys.executable, ROOT / "report.py", "--save-dir", tmp_path],
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    said = "" if unbuffered else "standard output: "
    line = f"report.py: error: {said}[Errno 28] No space left on device; make room\n"
    assert (done.returncode, done.stderr) == (1, line)


@pytest.mark.parametrize(
    ("error", "is_of_memory"),
    [
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB"), True),
        (RuntimeError("can't start new thread"), True),
        (MemoryError(), True),
        (RuntimeError("another"), False),
    ],
)
def test_too_little_memory_is_said_in_one_line(error, is_of_memory):
    with pytest.raises(SystemExit if is_of_memory else RuntimeError) as stop, one_line_errors():
        raise error
    if is_of_memory:
        said = f": {error}" if str(error) else ""
        line = f"error: not enough memory{said}; a smaller --batch-size needs less"
        assert stop.value.code.endswith(line)
        with pytest.raises(SystemExit) as stop, one_line_errors(resumes=False):
            raise error
        assert "--batch-size" not in stop.value.code


@pytest.mark.parametrize(
    ("load", "cores", "threads", "advice"),
    [
        (0.3, 2, 2, None),
        (1.1, 2, 2, "--threads 1 "),
        (5.0, 2, 2, "--threads 1 "),
        (5.0, 2, 1, None),
        (2.0, 8, 4, None),
        (5.0, 8, 4, "--threads 3 "),
    ],
)
def test_a_hint_while_other_programs_take_the_cores(load, cores, threads, advice, monkeypatch):
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setattr(surroundings, "running_now", lambda: math.inf)
    hint = surroundings.busy_hint(threads)
    assert hint is None if advice is None else advice in hint
    monkeypatch.setattr(surroundings, "running_now", lambda: 0)  # what took the cores is done
    assert surroundings.busy_hint(threads) is None


def test_no_hint_where_the_load_is_not_known(monkeypatch):
    def unknown():
        raise OSError

    monkeypatch.setattr(os, "getloadavg", unknown, raising=False)
    assert surroundings.busy_hint(2) is None
    monkeypatch.delattr(os, "getloadavg")
    assert surroundings.busy_hint(2) is None


def test_the_hint_is_given_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(surroundings, "busy_hint", lambda threads: f"hint for {threads}")
    hint_at_other_programs.cache_clear()
    for name in ("a", "b"):
        Run.start(tmp_path / name, {"threads": 2})
    assert capsys.readouterr().out.count("hint for 2") == 1
    hint_at_other_programs.cache_clear()


@pytest.mark.parametrize("name", ["my_layers.pyx", "layers.txt", "no_such_layers"])
def test_layers_that_are_not_there_are_refused_in_one_line(name):
    with pytest.raises(RunError, match=r"no such module; a file is named with its \.py"):
        framework.load_layers(name)


@pytest.mark.parametrize(
    ("script", "argv", "message"),
    [
        ("report", ["--networks", "bogus"], "--networks: expected one of default, all, none, got"),
        ("check_grads", ["--task", "5"], "--task: expected one of 3, 4, bonus, got '5'"),
    ],
)
def test_words_that_are_no_choice_are_refused(script, argv, message, capsys):
    with pytest.raises(SystemExit) as stop:
        importlib.import_module(script).main(argv)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_an_operator_that_a_device_lacks_is_no_gap():
    with pytest.raises(NotImplementedError, match="aten"), one_line_errors():
        raise NotImplementedError("The operator 'aten::x' is not implemented for the MPS device")


def test_words_are_quoted_as_the_systems_shell_has_them(monkeypatch):
    assert start.shell_line(["cd", "a b"]) == "cd 'a b'"
    monkeypatch.setattr(os, "name", "nt")
    assert start.shell_line(["cd", r"C:\a b"]) == r'cd "C:\a b"'
    assert start.shell_line([r".venv\Scripts\activate"]) == r".venv\Scripts\activate"
