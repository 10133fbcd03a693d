"""Building the extension, and what is said where it, a package or Python is not as it must be."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys

from support import start

import pytest

import setup_cython
from conftest import ROOT

SCRIPTS = [
    "check_answers",
    "check_grads",
    "handout",
    "hinge_bonus",
    "pytorch_cifar",
    "pytorch_mnist",
    "report",
    "train",
    "train_l2reg",
]
TORCH_SCRIPTS = ["hinge_bonus", "pytorch_cifar", "pytorch_mnist"]
COMPILE = re.escape(start.COMPILE)
PIP = re.escape("python3 -m pip install -r requirements")
# built at once, since the compiler leaves everything out that can be left out
QUICK = {"CFLAGS": "-O0 -g0 -DNO_VECTORS", "NO_OPENMP": "1"}


def copy_project(folder, extension=True):
    """What the scripts need, in another folder."""
    suffixes = {".py", ".pyx", ".h", ".html", *([".so", ".pyd"] if extension else [])}
    folder.mkdir(parents=True)
    for path in ROOT.iterdir():
        if path.suffix in suffixes:
            shutil.copy(path, folder)
    left_out = shutil.ignore_patterns(
        "__pycache__", "*.c", *([] if extension else ["*.so", "*.pyd"])
    )
    for package in ("support", "kernels", "checks"):
        shutil.copytree(ROOT / package, folder / package, ignore=left_out)
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return copy_project(tmp_path_factory.mktemp("project") / "copy")


def one_line(done):
    """The line that a script ended with; fails if there was more, or another status."""
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    return done.stderr


def start_bare(folder, *args, packages=(), **env):
    """Run Python without its site-packages, and with empty packages of the given names instead."""
    stubs = folder / "-".join(["stubs", *packages])
    for name in packages:
        stubs.mkdir(exist_ok=True)
        (stubs / f"{name}.py").touch()
    env = {"PYTHONPATH": str(stubs), "PATH": "", **env}
    python = getattr(sys, "_base_executable", sys.executable)
    return subprocess.run(
        [python, "-S", *map(str, args)], env=env, cwd=folder, capture_output=True, text=True
    )


@pytest.mark.parametrize("script", [*SCRIPTS, "setup_cython", "layers", "nn"])
def test_support_is_imported_before_all_that_may_be_missing(script):
    nodes = ast.parse((ROOT / f"{script}.py").read_text(encoding="utf-8")).body
    imports = [ast.unparse(n) for n in nodes if isinstance(n, ast.Import | ast.ImportFrom)]
    names = [line.split()[1].partition(".")[0] for line in imports]
    assert next(name for name in names if name not in sys.stdlib_module_names) == "support"


@pytest.mark.parametrize("help", [[], ["--help"]])
@pytest.mark.parametrize("script", [*SCRIPTS, "setup_cython"])
def test_a_missing_package_is_named_with_the_command_that_mends_it(project, script, help):
    line = one_line(start_bare(project, f"{script}.py", *help))
    missing = "Cython" if script == "setup_cython" else "numpy"
    assert re.fullmatch(
        f"{script}.py: error: the package {missing} is missing; run: {PIP}-numpy.txt\n", line
    )


@pytest.mark.parametrize("script", TORCH_SCRIPTS)
def test_a_missing_pytorch_is_named_with_the_file_that_holds_it(project, script):
    code = (
        "import runpy, sys; sys.modules['torch'] = None; sys.path.insert(0, ''); "
        f"runpy.run_path('{script}.py', run_name='__main__')"
    )
    env = {**os.environ, "PATH": ""}  # no make
    line = one_line(
        subprocess.run(
            [sys.executable, "-c", code], env=env, cwd=project, capture_output=True, text=True
        )
    )
    assert line.endswith("torch is missing; run: python3 -m pip install -r requirements.txt\n")


@pytest.mark.parametrize("is_handout", [True, False])
def test_outside_of_any_environment_make_is_advised_but_not_in_a_handout(tmp_path, is_handout):
    project = copy_project(tmp_path / "copy", extension=False)
    (project / ("other" if is_handout else "Makefile")).touch()
    make = tmp_path / "make"
    make.touch(mode=0o755)
    line = one_line(start_bare(project, project / "train.py", PATH=str(tmp_path)))
    command = "python3 -m pip install -r requirements-numpy.txt"
    command = command if is_handout else "make install && source .venv/bin/activate"
    assert line.endswith(f"numpy is missing; run: {command}\n")


@pytest.mark.skipif(os.name == "nt", reason="the environment of this test is one of Unix")
def test_an_environment_that_has_the_package_is_to_be_activated(tmp_path):
    project = copy_project(tmp_path / "an environment")
    (project / ".venv/lib/python3.11/site-packages/numpy").mkdir(parents=True)
    line = one_line(start_bare(project, "train.py"))
    assert line.endswith("first activate the environment: source .venv/bin/activate\n")
    elsewhere = "import os, sys; sys.path.insert(0, os.getcwd()); os.chdir('/'); import train"
    done = start_bare(project, "-c", elsewhere)
    assert one_line(done).endswith(f"source '{project}/.venv/bin/activate'\n")


def test_a_broken_package_is_named_with_the_cause(tmp_path):
    project = copy_project(tmp_path / "copy")
    (project / "stubs/numpy").mkdir(parents=True)
    (project / "stubs/numpy/__init__.py").write_text(
        "try:\n    raise ImportError('libopenblas.so.0: cannot open shared object file')\n"
        "except ImportError as error:\n    raise ImportError('many\\nlines of advice') from error\n"
    )
    assert re.search(
        "numpy cannot be loaded: libopenblas.so.0: cannot open shared object file; "
        "run: python3 -m pip install --force-reinstall -r requirements-numpy.txt",
        one_line(start_bare(project, "train.py")),
    )


@pytest.mark.parametrize(
    "code",
    ["from numpy import nothing", "import a_module_of_mine", "import numpy.nothing", "1 / 0"],
)
def test_errors_of_a_students_own_code_keep_their_traceback(project, code):
    done = start_bare(project, "-c", f"import support\n{code}", packages=["numpy"])
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")


def test_an_old_python_is_told_so(monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    monkeypatch.setattr(sys, "version_info", (3, 10, 2))
    with pytest.raises(start.NotReadyError, match=r"3.11 or newer is needed, this is 3.10.2"):
        start.install()


@pytest.mark.parametrize("name", ["__init__.py", "start.py"])
def test_an_old_python_can_read_what_tells_it(name):
    ast.parse((ROOT / "support" / name).read_text(), feature_version=(3, 7))


def test_the_packages_of_the_requirements_are_known():
    imported = {"scikit-image": "skimage", "cython": "Cython", "markdown-it-py": "markdown_it"}
    for file, known in [
        ("requirements-numpy.txt", start.NUMPY_HALF),
        ("requirements.txt", start.TORCH_HALF),
    ]:
        names = re.findall(r"^[\w-]+(?=>)", (ROOT / file).read_text(), re.M)
        assert names
        assert {imported.get(name, name) for name in names} == set(known)


# --- the extension ------------------------------------------------------------------------------


def import_layers(folder):
    return subprocess.run(
        [sys.executable, "-c", "import layers"], cwd=folder, capture_output=True, text=True
    )


def extension_in(folder):
    (path,) = folder.glob("im2col_cython.*.so")
    return path


def test_an_extension_is_taken_for_what_it_was_compiled_from_not_for_its_time(tmp_path):
    project = copy_project(tmp_path / "copy")
    os.utime(extension_in(project), (0, 0))
    assert import_layers(project).returncode == 0
    source = project / "im2col_cython.pyx"
    source.write_text(source.read_text() + "\n")
    os.utime(source, (0, 0))
    os.utime(extension_in(project), (2**31, 2**31))
    assert re.search(
        "the extension im2col_cython was compiled from other sources than those that are here; "
        f"(first|run: {COMPILE})",
        one_line(import_layers(project)),
    )
    source.unlink()
    assert import_layers(project).returncode == 0


def test_an_extension_that_is_missing_or_of_another_python_is_named(tmp_path):
    project = copy_project(tmp_path / "copy")
    other = "im2col_cython.cpython-39-x86_64-linux-gnu.so"
    extension_in(project).rename(project / other)
    line = one_line(import_layers(project))
    assert re.search(rf"was built for another Python \({other}\); run: {COMPILE}\n", line)
    (project / other).unlink()
    line = one_line(import_layers(project))
    assert re.search(f"the extension im2col_cython is missing; run: {COMPILE}\n", line)


def test_without_the_kernels_training_goes_on_with_the_plain_layers(tmp_path):
    project = copy_project(tmp_path / "copy")
    for path in project.glob("kernels/machine.*"):
        if path.suffix in (".so", ".pyd"):
            path.unlink()
    done = subprocess.run(
        [sys.executable, "train.py", "--summary"], cwd=project, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "conv2" in done.stdout
    assert re.fullmatch(
        rf"warning: the extension kernels\.machine is missing; .*{COMPILE}; "
        r"going on with layers\.py, which is slower\n",
        done.stderr,
    )


def test_what_the_system_says_of_an_extension_that_it_cannot_load_is_quoted(tmp_path):
    project = copy_project(tmp_path / "copy")
    extension_in(project).write_text(f"no library {start.digest('im2col_cython')}")
    line = one_line(import_layers(project))
    assert re.search(f"im2col_cython cannot be loaded: .*(ELF|mach-o|file).*; run: {COMPILE}", line)


def test_an_extension_that_fails_while_it_is_imported_is_named(monkeypatch):
    code = compile("raise ValueError('numpy.dtype size changed')", "im2col_cython.pyx", "exec")
    monkeypatch.delitem(sys.modules, "im2col_cython", raising=False)
    with pytest.raises(ValueError, match="size changed") as caught:
        exec(code, {"__name__": "im2col_cython"})
    line = start.explanation(caught.value, caught.tb)
    assert re.match(f"the extension im2col_cython cannot be loaded: numpy.dtype .*{COMPILE}", line)


def test_ctrl_c_while_something_is_imported_is_one_line(capsys):
    stopped = ImportError("numpy._core.multiarray failed to import")
    stopped.__cause__ = KeyboardInterrupt()
    for error in (KeyboardInterrupt(), stopped):
        start._say_in_one_line(type(error), error, None)
        assert re.fullmatch(r".*: stopped\n", capsys.readouterr().err)


def test_a_package_that_finds_no_memory_need_not_be_installed_anew():
    code = compile("raise ImportError('x.so: failed to map segment')", "numpy", "exec")
    with pytest.raises(ImportError, match="segment") as caught:
        exec(code, {"__name__": "numpy.not_yet_imported"})
    line = start.explanation(caught.value, caught.tb)
    assert "failed to map segment; end other programs" in line
    assert "pip" not in line


def test_every_extension_names_sources_that_are_there():
    paths = [path.relative_to(ROOT).with_suffix("") for path in ROOT.glob("**/*.pyx")]
    assert set(start.EXTENSIONS) == {".".join(p.parts) for p in paths if ".venv" not in p.parts}
    for sources in start.EXTENSIONS.values():
        assert all((ROOT / source).exists() for source in sources)


def build(folder, *options, **env):
    return subprocess.run(
        [sys.executable, "setup_cython.py", "build_ext", "--inplace", *options],
        env={**os.environ, **env},
        cwd=folder,
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A project without vectors and OpenMP, built beside what an interrupted build left."""
    project = copy_project(tmp_path_factory.mktemp("with spaces") / "č", extension=False)
    (project / "im2col_cython.c").write_text("#error half of the C that Cython wri")
    done = build(project, **QUICK)
    assert done.returncode == 0, done.stderr
    return project


def test_a_build_leaves_the_extension_and_nothing_else(plain):
    before = {path.name for path in ROOT.iterdir()} | {"im2col_cython.c"}
    assert {p.name for p in plain.iterdir()} - {"__pycache__"} <= before


def test_only_other_sources_or_settings_are_built_again(plain):
    os.utime(extension_in(plain), (0, 0))
    for env in (QUICK, dict.fromkeys(QUICK, "")):
        assert build(plain, **env).stdout == "setup_cython.py: up to date\n"
    line = build(plain, CFLAGS="-DOTHER", CC="no-such-compiler").stderr.splitlines()[-1]
    assert re.match(r"setup_cython.py: error: there is no C compiler that works, or Python's", line)


def test_without_openmp_there_is_one_thread_in_print_and_in_results(plain, tmp_path):
    code = """if True:
        import dataclasses, sys, train
        from support import data, standins
        images, labels = standins.draw_digits(5_060, seed=1)
        arrays = images[:5_050], labels[:5_050], images[5_050:], labels[5_050:]
        digits = data._mnist_dataset(arrays, "generated", None)
        few = dict(valid_x=digits.valid_x[:40], valid_y=digits.valid_y[:40])
        config = train.Config(save_dir=sys.argv[1], epochs=1, threads=2)
        train.run(config, dataclasses.replace(digits, **few))
    """
    command = [sys.executable, "-c", code, tmp_path]
    done = subprocess.run(command, cwd=plain, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "1 thread(s), instruction set none" in done.stdout
    results = json.loads((tmp_path / "train/results.json").read_text())
    assert (results["threads"], results["instruction_set"]) == (1, "none")


def test_without_vectors_the_layers_have_the_right_gradients(plain, tmp_path):
    done = subprocess.run(
        [sys.executable, "check_grads.py", "--save-dir", tmp_path], cwd=plain, capture_output=True
    )
    assert done.returncode == 0, done.stdout


def test_libomp_of_homebrew_is_found_out_of_the_compilers_sight(tmp_path, monkeypatch):
    monkeypatch.delenv("NO_OPENMP", raising=False)
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(setup_cython, "LIBOMP_FOLDERS", (str(tmp_path), str(tmp_path / "absent")))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    *_, (compile_flags, link_flags) = setup_cython.openmp_flags(is_msvc=False)
    assert compile_flags == ["-Xpreprocessor", "-fopenmp", f"-I{tmp_path}/include"]
    assert link_flags == [f"-L{tmp_path}/lib", "-lomp"]
    monkeypatch.setenv("NO_OPENMP", "1")
    assert setup_cython.openmp_flags(is_msvc=False) == []
