"""Hand the lab out: our files with the gaps cut, and nothing that fills them.

    python3 handout.py                  # Tasks 1 and 2 into out/handout/ and out/handout.zip
    python3 handout.py --more           # convolution, pooling, Tasks 3, 4 and the bonus, too
    python3 handout.py --keep ReLU,L2Regularizer.forward     # these stay written
    python3 handout.py --start          # for whoever learns alone: my_layers.py and answers, here

The gaps are listed in checks/tasks.py. They are cut by name, with the syntax tree, so that our own
files carry no marks; a method that only gaps call is part of the solution and goes with them.
docs/teaching.md tells how to collect and mark what comes back.
"""

import ast
import io
import re
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import support  # says in one line which package is missing
from support import answers
from support.errors import RunError, one_line_errors
from support.files import write_whole
from support.folders import move_aside
from support.options import folder_option, option, parse
from support.start import ROOT

from checks import expected, tasks

# What is handed out is named; all else, what we shall write tomorrow as well, stays here.
FILES = ("LAB.md", "LICENSE", ".gitignore", "requirements-numpy.txt", "setup_cython.py")
FILES += ("im2col_cython.pyx", "layers.py", "nn.py", "train.py", "train_l2reg.py", "report.py")
FILES += ("check_grads.py", "check_answers.py", "checks/*.py", "docs/lab_*.png")
FILES += ("support/*.py", "support/*.md", "support/page/*.*", "support/page/network/*.*")
RENAMED = {"docs/README_students.md": "README.md", "checks/answers.toml": "answers.toml"}
TORCH_FILES = {"pytorch_mnist.py", "pytorch_cifar.py", "hinge_bonus.py", "requirements.txt"}
TORCH_FILES |= {"support/torch_layers.py", "support/torch_training.py"}
MORE_SECTIONS = ("More of Task 1", "Task 3", "Task 4", "Bonus")  # of LAB.md


@dataclass(kw_only=True)
class Config:
    save_dir: str = folder_option("SAVE_DIR", "out", "folder that gets handout/ and handout.zip")
    more: bool = option(False, "cut Convolution, MaxPooling, Tasks 3, 4 and the bonus, too")
    keep: str = option("", "classes or methods that stay written, with commas between them")
    start: bool = option(
        False, "write my_layers.py, with the gaps, and the files for answers beside ours instead"
    )


def chosen_gaps(more, keep):
    """{file: {method: its task}} of the gaps to be cut, without those in keep.

    Raises: RunError for a name in keep that is no gap.
    """
    table = [("layers.py", *row) for row in tasks.TASKS.items()]
    if more:
        table += [("layers.py", *row) for row in tasks.MORE.items()]
        for task, modules in tasks.TORCH_TASKS.items():
            table += [(f"{module}.py", task, names) for module, names in modules.items()]
    keep, known, gaps = {name.strip() for name in keep.split(",")} - {""}, set(), {}
    for file, task, names in table:
        of_file = gaps.setdefault(file, {})
        for name in names:
            both = {name, name.partition(".")[0]}
            known |= both
            if not both & keep:
                of_file[name] = task
    if unknown := keep - known:
        classes = ", ".join(sorted(name for name in known if "." not in name))
        raise RunError(f"--keep: {', '.join(sorted(unknown))}: no gap; there are {classes}")
    return gaps


def cut(source, gaps):
    """A file's text with gaps for {method: task}: signature and docstring stay, the body goes.

    Raises: ValueError if a method is not there.
    """
    tree, lines = ast.parse(source), source.splitlines(keepends=True)
    functions = named_functions(tree)
    if missing := gaps.keys() - functions.keys():
        raise ValueError(f"expected the methods {', '.join(sorted(missing))}, found none")
    edits = []  # (index of the first line, after the last one, the lines for it)
    for name, task in gaps.items():
        function = functions[name]
        gap = f'{" " * function.body[0].col_offset}raise NotImplementedError("{task}: {name}")\n'
        edits.append((first_line(function, lines), function.end_lineno, [gap]))
    for name in solution_helpers(tree, gaps):
        function = functions[name]
        edits.append((function.lineno - 2, function.end_lineno, []))  # with the empty line above it
    for first, after, new in sorted(edits, key=lambda edit: edit[0], reverse=True):
        lines[first:after] = new
    return "".join(lines)


def named_functions(tree):
    """{"Class.method" or "function": its node} of all functions in a module."""
    functions = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            functions[node.name] = node
        elif isinstance(node, ast.ClassDef):
            methods = [part for part in node.body if isinstance(part, ast.FunctionDef)]
            functions |= {f"{node.name}.{method.name}": method for method in methods}
    return functions


def first_line(function, lines):
    """The index of the first line of a function's body, after its docstring."""
    if ast.get_docstring(function) is not None:
        return function.body[0].end_lineno
    first = function.body[0].lineno - 1
    while lines[first - 1].strip().startswith("#"):
        first -= 1
    return first


def solution_helpers(tree, gaps):
    """The methods that the bodies of gaps refer to and nothing else does."""
    functions = named_functions(tree)
    inside = [node for name in gaps for node in ast.walk(functions[name])]
    of_gaps = set(map(id, inside))
    outside = [node for node in ast.walk(tree) if id(node) not in of_gaps]
    only_inside = attributes(inside) - attributes(outside)
    methods = [name for name in functions if "." in name and name not in gaps]
    return [name for name in methods if name.partition(".")[2] in only_inside]


def attributes(nodes):
    return {node.attr for node in nodes if isinstance(node, ast.Attribute)}


def contents(more=False, keep=""):
    """{name: bytes} of every file of a hand-out."""
    gaps = chosen_gaps(more, keep)
    paths = {path for pattern in FILES for path in ROOT.glob(pattern) if path.is_file()}
    paths |= {ROOT / name for name in TORCH_FILES}
    paths -= {path for name in tasks.SOLUTIONS for path in ROOT.glob(f"checks/{name}")}
    names = {path.relative_to(ROOT).as_posix() for path in paths}
    names -= set() if more else TORCH_FILES
    files = {name: (ROOT / name).read_bytes() for name in names}
    files |= {new: (ROOT / old).read_bytes() for old, new in RENAMED.items()}
    for name, of_file in gaps.items():
        files[name] = cut(text(name), of_file).encode()
    files["LAB.md"] = lab_text(more).encode()
    parts = [part for part, script in answers.SCRIPTS.items() if script in names]
    files[answers.NAME] = answers.template(parts).encode()
    files[".gitignore"] = "".join(
        line for line in text(".gitignore").splitlines(True) if line.strip(" /\n") not in files
    ).encode()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "expected.npz")
        expected.save(path, seed=0)
        files["checks/expected.npz"] = path.read_bytes()
    return dict(sorted(files.items()))


def text(name):
    return (ROOT / name).read_text(encoding="utf-8")


def lab_text(more):
    """LAB.md, without the sections that belong to --more where that is not wanted."""
    sections = re.split(r"(?m)^(?=## )", text("LAB.md"))
    unwanted = () if more else tuple(f"## {title}" for title in MORE_SECTIONS)
    return "".join(section for section in sections if not section.startswith(unwanted))


def write(save_dir, files):
    """The files as save_dir/handout/ and save_dir/handout.zip; an earlier folder is moved aside."""
    folder = save_dir / "handout"
    if folder.exists():
        print(f"the earlier hand-out is kept in {move_aside(folder)}")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            archive.write(path, f"handout/{name}")
    write_whole(save_dir / "handout.zip", buffer.getvalue())
    return folder


def start(gaps, folder=ROOT):
    """Write what a learner fills in into a folder, never over what is there.

    Raises: RunError if all of it is there.
    """
    files = {
        "my_layers.py": cut(text("layers.py"), gaps),
        "answers.toml": text("checks/answers.toml"),
        answers.NAME: answers.template(answers.SCRIPTS),
    }
    there = [name for name in files if (folder / name).exists()]
    kept = f"{' and '.join(there)}: already there, and left as it is"
    if len(there) == len(files):
        raise RunError(kept)
    if there:
        print(kept)
    for name in files.keys() - set(there):
        write_whole(folder / name, files[name])
    print("my_layers.py has the gaps, answers.toml and answers.md the questions, LAB.md tells what")
    print("to do; begin:")
    print("python3 check_grads.py --layers my_layers.py")


def run(config):
    """Write the hand-out, or with --start a learner's own files."""
    if config.start:
        start(chosen_gaps(config.more, config.keep)["layers.py"])
        return
    files = contents(config.more, config.keep)
    folder = write(Path(config.save_dir), files)
    print(f"{len(files)} files are in {folder} and in {folder}.zip")


def main(argv=None):
    config = parse(Config, argv, __doc__)
    with one_line_errors(resumes=False):
        run(config)


if __name__ == "__main__":
    main()
