import errno
import os
import subprocess
import sys
from pathlib import Path

from support import locks
from support.errors import RunError
from support.folders import begin
from support.locks import is_in_use, lock, unlock
from support.start import ROOT

import pytest

# begins a run in a folder when a line comes, says how that went, and goes on until another comes
BEGIN = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from support.folders import begin
sys.stdin.readline()
try:
    begin(Path(sys.argv[2]), {}, False, (), {})
    print("begun", flush=True)
except Exception as error:
    print(error, flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def beginners():
    """A function that starts a process which runs BEGIN for a folder."""
    processes = []

    def start(folder):
        command = [sys.executable, "-c", BEGIN, ROOT, folder]
        pipe = subprocess.PIPE
        processes.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def go(process):
    process.stdin.write("\n")
    process.stdin.flush()


def test_a_second_run_in_the_folder_is_refused_until_the_first_is_dead(tmp_path, beginners):
    folder = tmp_path / "run"
    first = beginners(folder)
    assert not is_in_use(folder)
    go(first)
    assert first.stdout.readline() == "begun\n"
    assert is_in_use(folder)
    for resume in (False, True):
        with pytest.raises(RunError, match=f"is in use by process {first.pid}; wait for it"):
            begin(folder, {}, resume, (), {})
    first.kill()
    first.communicate()
    assert not is_in_use(folder)
    begin(folder, {}, False, (), {})
    assert (tmp_path / "run.1").is_dir()
    unlock(folder)


def test_of_those_that_begin_at_once_one_does_and_the_others_name_it(tmp_path, beginners):
    begin(tmp_path / "run", {}, False, (), {})
    unlock(tmp_path / "run")
    racers = [beginners(tmp_path / "run") for _ in range(4)]
    for process in racers:
        go(process)
    said = {process: process.stdout.readline() for process in racers}
    [winner] = [p for p, line in said.items() if line.startswith(("begun", "the earlier run"))]
    for process, line in said.items():
        assert process is winner or f"is in use by process {winner.pid};" in line
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [".run.lock", "run", "run.1"]


def test_the_lock_is_held_while_the_earlier_run_is_moved_aside(tmp_path, monkeypatch):
    rename, seen = Path.rename, []

    def watched(path, target):
        seen.append(is_in_use(path))
        return rename(path, target)

    begin(tmp_path / "run", {}, False, (), {})
    unlock(tmp_path / "run")
    monkeypatch.setattr(Path, "rename", watched)
    begin(tmp_path / "run", {}, False, (), {})
    assert seen == [True]
    assert is_in_use(tmp_path / "run")
    assert not is_in_use(tmp_path / "run.1")
    unlock(tmp_path / "run")


def test_who_looks_takes_nothing_and_a_lock_stays_as_a_file(tmp_path, monkeypatch):
    lock(tmp_path / "run")
    unlock(tmp_path / "run")
    monkeypatch.setattr(locks, "_take", lambda _descriptor: pytest.fail("taken"))
    assert not is_in_use(tmp_path / "run")
    assert not is_in_use(tmp_path / "another")
    assert [path.name for path in tmp_path.iterdir()] == [".run.lock"]


def test_a_link_has_the_lock_of_the_folder_and_stays_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    link = tmp_path / "run"
    try:
        link.symlink_to(tmp_path / "disk" / "large")
    except OSError as error:
        pytest.skip(f"no links here: {error}")
    for _ in range(2):
        begin(link, {}, False, (), {})
        assert is_in_use(tmp_path / "disk" / "large")
        unlock(link)
    assert link.is_symlink()
    assert (tmp_path / "disk" / "large.1" / "config.json").exists()


def test_a_run_that_cannot_begin_lets_go(tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(RunError, match="cannot write to"):
        begin(tmp_path / "run", {}, False, (), {})
    assert not is_in_use(tmp_path / "run")


@pytest.mark.parametrize("reason", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.EIO])
def test_where_there_are_no_locks_a_run_warns_once_and_goes_on(
    reason, tmp_path, monkeypatch, capsys
):
    def no_locks(_descriptor):
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(locks, "_take", no_locks)
    monkeypatch.setattr(locks, "_owner", no_locks)
    locks._warn_of_no_locks.cache_clear()
    for name in ("a", "b"):
        begin(tmp_path / name, {}, False, (), {})
    err = capsys.readouterr().err
    assert f"warning: no locks in {tmp_path} ({os.strerror(reason)})" in err
    assert err.count("\n") == 1
    unlock(tmp_path / "a")
    assert is_in_use(tmp_path / "a")  # for all that is known
    unlock(tmp_path / "b")


def test_where_no_lock_can_be_written_a_folder_that_is_there_is_used(tmp_path, monkeypatch, capsys):
    def refuse(*_args):
        raise PermissionError(errno.EACCES, "Permission denied")

    (tmp_path / "run").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        with pytest.raises(PermissionError):
            lock(tmp_path / "another")
        locks._warn_of_no_locks.cache_clear()
        lock(tmp_path / "run")
    assert "no locks in" in capsys.readouterr().err
    assert is_in_use(tmp_path / "run")
    unlock(tmp_path / "run")


@pytest.mark.parametrize("reason", [errno.EWOULDBLOCK, errno.EACCES])
def test_only_would_block_means_in_use(reason, tmp_path, monkeypatch):
    def held(_descriptor):
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(locks, "_take", held)
    monkeypatch.setattr(locks, "_owner", lambda _descriptor: 123)
    with pytest.raises(RunError, match="is in use by process 123; wait for it"):
        lock(tmp_path / "run")
