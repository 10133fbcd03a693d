"""The rules of the layout: who imports whom, what a script has, how the extension is compiled."""

import ast
import dataclasses
import importlib
import re
import subprocess
import sys

import pytest
from Cython.Compiler import Options

from conftest import ROOT

MODULES = sorted(path.stem for path in ROOT.glob("*.py"))
SUPPORT = sorted(f"support.{path.stem}" for path in ROOT.glob("support/[!_]*.py"))
EXTENSIONS = sorted(path.stem for path in ROOT.glob("*.pyx"))
FRAMEWORK = {"layers", "nn", *EXTENSIONS}
SCRIPTS = [m for m in MODULES if "\ndef run(" in (ROOT / f"{m}.py").read_text()]

ALLOWED = {
    "layers": set(EXTENSIONS),
    "metrics": set(),
    "runs": set(),
    "plots": set(),
    "nn": {"metrics", "runs"},
    "check_grads": {"layers", "nn", "runs"},
    "gallery": {"metrics", "plots", "runs"},
    "train": {"gallery", "layers", "nn", "runs", "support"},
    "train_l2reg": {"layers", "plots", "runs", "support", "train"},
    "report": {"metrics", "plots", "runs"},
    "setup_cython": set(),
    "ranks": {"runs"},
    "torch_training": {"metrics", "ranks", "runs"},
    "muon": set(),
    "hard_images": {"ranks"},
    "strong_model": {"hard_images", "muon", "runs", "torch_training"},
    "pytorch_mnist": {"gallery", "plots", "runs", "support", "torch_training"},
    "distillation": {"runs", "strong_model", "torch_training"},
    "pytorch_cifar": {
        "distillation",
        "gallery",
        "hard_images",
        "metrics",
        "ranks",
        "runs",
        "strong_model",
        "support",
        "torch_training",
    },
    "hinge_bonus": {"plots", "pytorch_cifar", "runs", "support", "torch_training"},
}


def imports(module):
    """The names of all modules that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_it_may(module):
    ours = imports(module) & {*MODULES, *EXTENSIONS, "support"}
    assert ours <= ALLOWED[module]


@pytest.mark.parametrize("module", SUPPORT)
def test_support_knows_nothing_of_the_lesson(module):
    assert not imports(module) & {*MODULES, *EXTENSIONS}
    assert len((ROOT / f"{module.replace('.', '/')}.py").read_text().splitlines()) <= 300


@pytest.mark.parametrize("module", ["train", "train_l2reg", "check_grads"])
def test_the_hand_written_half_never_imports_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize("module", [m for m in MODULES + SUPPORT if m != "setup_cython"])
def test_importing_a_module_runs_nothing(module, tmp_path):
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import {module}"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("module", SCRIPTS)
def test_a_script_has_its_parts(module):
    script = importlib.import_module(module)
    assert dataclasses.is_dataclass(script.Config)
    assert script.run.__code__.co_varnames[0] == "config"
    assert script.main.__defaults__ == (None,)
    source = (ROOT / f"{module}.py").read_text()
    assert source.endswith('\n\nif __name__ == "__main__":\n    main()\n')


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_cython_knows_every_directive(extension):
    """Cython accepts a misspelt directive in silence."""
    directives = re.findall(r"^# cython: (.*)$", (ROOT / f"{extension}.pyx").read_text(), re.M)
    names = [pair.partition("=")[0].strip() for line in directives for pair in line.split(",")]
    assert names
    assert set(names) <= set(Options.get_directive_defaults())
