"""The rules of the layout: who imports whom, what a script has, how the extension is compiled."""

import ast
import dataclasses
import importlib
import re
import subprocess
import sys

import pytest
from Cython.Compiler import Options

from checks import tasks
from conftest import ROOT, imported, needs_torch

MODULES = sorted({path.stem for path in ROOT.glob("*.py")} - {"my_layers"})  # a learner's own
STRONG = sorted(f"strong.{path.stem}" for path in ROOT.glob("strong/[!_]*.py"))
SUPPORT = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in ROOT.glob("support/**/[!_]*.py")
)
MARKING = sorted(f"marking.{path.stem}" for path in ROOT.glob("marking/[!_]*.py"))
CHECKS = sorted(f"checks.{path.stem}" for path in ROOT.glob("checks/[!_]*.py"))
KERNELS = sorted(f"kernels.{path.stem}" for path in ROOT.glob("kernels/*.pyx"))
EXTENSIONS = ["im2col_cython", *KERNELS]
SCRIPTS = [m for m in MODULES if "\ndef run(" in (ROOT / f"{m}.py").read_text(encoding="utf-8")]

# of our modules; support/ besides
ALLOWED = {
    "layers": {"im2col_cython"},
    "fast_layers": {"kernels", "layers"},
    "nn": set(),
    "check_grads": {"checks", "nn"},
    "train": {"nn"},
    "train_l2reg": {"train"},
    "check_answers": {"checks", "nn", "train"},
    "handout": {"checks"},
    "grade": {"checks", "marking"},
    "report": set(),
    "setup_cython": set(),
    "pytorch_mnist": set(),
    "pytorch_cifar": {"strong"},
    "hinge_bonus": {"pytorch_cifar"},
}


def imports(module):
    """The names of all modules that a file imports, anywhere in it."""
    names = set()
    path = ROOT / f"{module.replace('.', '/')}.py"
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module.partition(".")[0])
    return names


def is_a_solution(module):
    path = ROOT / f"{module.replace('.', '/')}.py"
    return any(path.match(pattern) for pattern in tasks.SOLUTIONS)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_it_may(module):
    folders = {"kernels", "strong", "checks", "marking"}
    ours = imports(module) & {*MODULES, "im2col_cython", *folders}
    assert ours <= ALLOWED[module]


@pytest.mark.parametrize("module", SUPPORT)
def test_support_knows_nothing_of_the_lesson(module):
    others = {"im2col_cython", "kernels", "strong", "checks", "marking"}
    assert not imports(module) & {*MODULES, *others}
    assert len((ROOT / f"{module.replace('.', '/')}.py").read_text().splitlines()) <= 300


@pytest.mark.parametrize("module", STRONG)
def test_strong_knows_no_script(module):
    assert not imports(module) & {*MODULES, "checks", "im2col_cython", "kernels"}
    assert len((ROOT / f"{module.replace('.', '/')}.py").read_text().splitlines()) <= 300


@pytest.mark.parametrize("module", MARKING)
def test_marking_knows_no_script_and_layers_by_name_alone(module):
    assert imports(module) & {*MODULES, "im2col_cython", "kernels", "strong"} <= {"nn"}
    assert len((ROOT / f"{module.replace('.', '/')}.py").read_text().splitlines()) <= 300


@pytest.mark.parametrize("module", CHECKS)
def test_checks_know_no_script_and_no_layers(module):
    assert not imports(module) & {*MODULES, "im2col_cython", "kernels", "strong"}
    assert len((ROOT / f"{module.replace('.', '/')}.py").read_text().splitlines()) <= 300


@pytest.mark.parametrize("module", CHECKS)
def test_only_solutions_import_solutions(module):
    """What a hand-out leaves out, nothing in it asks for, but where the numbers are not there."""
    asked = imported(ROOT / f"{module.replace('.', '/')}.py")
    assert is_a_solution(module) or not any(map(is_a_solution, asked & set(CHECKS)))


def test_strong_is_imported_only_where_it_is_asked_for():
    assert not any(name.startswith("strong") for name in imported(ROOT / "pytorch_cifar.py"))


@pytest.mark.parametrize("module", ["train", "train_l2reg", "check_grads"])
def test_the_hand_written_half_never_imports_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


IMPORT_ALL = """
import contextlib, importlib, io, os, sys
sys.path.insert(0, sys.argv[1])
for name in sys.argv[2:]:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        importlib.import_module(name)
    if said.getvalue() or os.listdir():
        print(name, said.getvalue(), os.listdir())
"""


@pytest.mark.parametrize("of_torch", [False, True])
def test_importing_a_module_runs_nothing(of_torch, tmp_path):
    """All of one half in one process, PyTorch takes seconds."""
    if of_torch:
        pytest.importorskip("torch")
    modules = {*MODULES, *SUPPORT, *STRONG, *CHECKS} - {"setup_cython"}
    modules = [m for m in modules if needs_torch(ROOT / f"{m.replace('.', '/')}.py") == of_torch]
    modules.sort(key=lambda m: len(ALLOWED.get(m, ())))  # what others import first
    assert modules
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORT_ALL, ROOT, *modules],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("module", SCRIPTS)
def test_a_script_has_its_parts(module):
    if needs_torch(ROOT / f"{module}.py"):
        pytest.importorskip("torch")
    script = importlib.import_module(module)
    assert dataclasses.is_dataclass(script.Config)
    assert script.run.__code__.co_varnames[0] == "config"
    assert script.main.__defaults__ == (None,)
    source = (ROOT / f"{module}.py").read_text(encoding="utf-8")
    call = "sys.exit(main())" if module == "check_grads" else "main()"  # it has an exit status
    assert source.endswith(f'\n\nif __name__ == "__main__":\n    {call}\n')


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_cython_knows_every_directive(extension):
    """Cython accepts a misspelt directive in silence."""
    source = (ROOT / f"{extension.replace('.', '/')}.pyx").read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 300
    directives = re.findall(r"^# cython: (.*)$", source, re.M)
    names = [pair.partition("=")[0].strip() for line in directives for pair in line.split(",")]
    assert names
    assert set(names) <= set(Options.get_directive_defaults())
