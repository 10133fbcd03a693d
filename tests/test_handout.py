"""Hand-outs: the gaps are cut, nothing in them fills a gap, and they work."""

import ast
import io
import re
import shutil
import subprocess
import sys
import tokenize
import zipfile

from support import start
from support.errors import RunError

import pytest

import handout
from checks import tasks
from conftest import ROOT

# part of a gap, but only bookkeeping: other methods say the same
HOUSEKEEPING = {
    "weights,bias=params()",
    "weights,_=params()",
    "grad_out=checked_grad(grad_out)",
    "[[weights,grad_weights],[bias,grad_bias],name]",
    "return[[weights,grad_weights],[bias,grad_bias],name]",
    "k=kernel_size",
    "out_shape=out.shape",
    "out_shape=x.shape",
    "x_shape=x.shape",
    "size,stride=pool_size,stride",
    "checked_grad(grad_out)",
    "params()",
}


@pytest.fixture(scope="module", params=[False, True], ids=["nine", "more"])
def made(request, tmp_path_factory):
    """(more, folder, files in the zip by name) of a hand-out as it is written."""
    save_dir = tmp_path_factory.mktemp("made")
    handout.run(handout.Config(save_dir=str(save_dir), more=request.param))
    with zipfile.ZipFile(save_dir / "handout.zip") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    return request.param, save_dir / "handout", files


def squeezed(text):
    """A text without what does not count: spaces, zero bytes, "self.", a last comma."""
    return re.sub(r"\s|\0|self\.|,(?=\s*[)\]])", "", text).replace("'", '"')


def parts(source, function):
    """The statements of a function and what they compute, squeezed."""
    for node in ast.walk(function):
        if isinstance(node, ast.stmt) and node is not function:
            value = getattr(node, "value", None)
            is_docstring = isinstance(node, ast.Expr) and isinstance(value, ast.Constant)
            is_trivial = isinstance(node, ast.Return) and isinstance(value, ast.Name)
            if not (is_docstring or is_trivial or hasattr(node, "body")):
                yield squeezed(ast.get_source_segment(source, node))
                if isinstance(value, ast.BinOp | ast.Call | ast.UnaryOp | ast.List):
                    yield squeezed(ast.get_source_segment(source, value))


def comments(source, first, last):
    """The comments on those lines."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return [
        squeezed(token.string)
        for token in tokens
        if token.type == tokenize.COMMENT and first <= token.start[0] <= last
    ]


def test_no_statement_of_a_gap_stands_anywhere_in_the_zip(made):
    more, _, files = made
    texts = {name: squeezed(content.decode(errors="ignore")) for name, content in files.items()}
    machinery, num_parts = set(), 0
    for file in ("support/torch_training.py", "nn.py"):
        text = handout.text(file)
        own = handout.named_functions(ast.parse(text))["evaluate"]
        machinery |= {*parts(text, own)}
    for file, gaps in handout.chosen_gaps(more, "").items():
        source = handout.text(file)
        tree = ast.parse(source)
        functions = handout.named_functions(tree)
        for name in [*gaps, *handout.solution_helpers(tree, gaps)]:
            function = functions[name]
            wanted = {*parts(source, function)} - HOUSEKEEPING
            if name == "evaluate":  # docs/teaching.md says that the machinery has one of its own
                wanted -= machinery
            wanted |= {*comments(source, function.lineno, function.end_lineno)}
            num_parts += len(wanted)
            for text, part in ((text, part) for text in texts for part in wanted):
                assert part not in texts[text], f"{name}: {part} is in {text}"
    assert num_parts > (40 if more else 20)


def test_a_planted_statement_would_be_found(made):
    """The test above can fail: it finds the body of a method that is not a gap."""
    _, _, files = made
    source = handout.text("layers.py")
    flatten = handout.named_functions(ast.parse(source))["Flatten.forward"]
    squeezed_layers = squeezed(files["handout/layers.py"].decode())
    assert all(part in squeezed_layers for part in parts(source, flatten))


def test_a_handout_holds_what_is_named_and_no_more(made):
    more, folder, files = made
    names = {name.removeprefix("handout/") for name in files}
    assert names == {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert all(name.startswith("handout/") for name in files)
    for name in ("LAB.md", "README.md", "answers.toml", "layers.py", "checks/expected.npz"):
        assert name in names
    tops = {name.partition("/")[0] for name in names}
    assert not tops & {"fast_layers.py", "kernels", "tests", "strong", "benchmarks", "RESULTS.md"}
    assert not tops & {"handout.py", "grade.py", "marking", ".git", ".github", "Makefile"}
    assert not [name for name in names if re.search(r"\.(so|pyd|c|pyc)$|__pycache__", name)]
    assert not [n for n in names if re.search("expected.py|reference|mistakes|teaching|draw_", n)]
    torch_scripts = {"pytorch_mnist.py", "pytorch_cifar.py", "hinge_bonus.py"}
    assert names & torch_scripts == (torch_scripts if more else set())


def test_every_gap_says_what_it_is(made):
    more, folder, _ = made
    for file, gaps in handout.chosen_gaps(more, "").items():
        functions = handout.named_functions(ast.parse((folder / file).read_text(encoding="utf-8")))
        for name, task in gaps.items():
            body = ast.unparse(functions[name].body[-1])
            assert body == f"raise NotImplementedError('{task}: {name}')"
    nine = set(handout.chosen_gaps(False, "")["layers.py"])
    assert nine == set(tasks.NINE)


def test_docstrings_say_what_goes_in_and_not_what_the_gradient_is(made):
    _, folder, _ = made
    layers = (folder / "layers.py").read_text(encoding="utf-8")
    assert "out[n, j] = bias[j] + sum over i of weights[j, i] * x[n, i]" in layers
    assert "\n    dL/d" not in layers


def test_no_softmax_is_written_out_elsewhere(made):
    _, folder, _ = made
    for path in folder.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not ("np.exp(" in text and re.search(r"- \w+(\[-1\])?\.max\(", text)), path.name


def test_the_texts_name_only_what_is_there(made):
    more, folder, _ = made
    for text in ("LAB.md", "README.md"):
        content = (folder / text).read_text(encoding="utf-8")
        links = [link for link in re.findall(r"\]\(([^)]+)\)", content) if ":" not in link]
        anchors = {
            re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
            for title in re.findall(r"(?m)^#+ (.*)$", content)
        }
        for link in links:
            assert link[1:] in anchors if link.startswith("#") else (folder / link).exists(), link
        scripts = re.findall(r"python3 (\w+\.py)", content)
        assert scripts
        assert not [script for script in scripts if not (folder / script).exists()]
        assert ("## Task 4" in content) == (more and text == "LAB.md")
        assert content.count("<details>") == content.count("</details>")


def test_a_handout_asks_in_words_for_what_it_has(made):
    more, _, files = made
    numbers = re.findall(r"(?m)^## (\S+)", files["handout/answers.md"].decode())
    assert numbers[:5] == ["1.1", "1.4", "1.5", "2.1", "2.2"]
    assert ("B.1" in numbers) == more
    assert len(numbers) == (11 if more else 5)


def test_git_keeps_the_answers_of_a_student(made):
    _, folder, _ = made
    ignored = (folder / ".gitignore").read_text().split()
    assert not {"/answers.toml", "/answers.md"} & set(ignored)
    assert "/out/" in ignored


@pytest.fixture(scope="module")
def compiled(made, tmp_path_factory):
    """A copy of the hand-out with nine gaps, with our compiled extension."""
    more, folder, _ = made
    if more:
        pytest.skip("one of them is enough")
    copy = shutil.copytree(folder, tmp_path_factory.mktemp("student") / "handout")
    for path in [*ROOT.glob("im2col_cython*.so"), *ROOT.glob("im2col_cython*.pyd")]:
        shutil.copy(path, copy)
    return copy


def run_in(folder, *words):
    return subprocess.run(
        [sys.executable, "-W", "error", *words], cwd=folder, capture_output=True, encoding="utf-8"
    )


def test_the_checks_of_a_handout_begin_with_nothing_and_end_with_all(compiled):
    done = run_in(compiled, "check_grads.py")
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    assert [line.split()[1:] for line in lines[:9]] == [["to", "do"]] * 9
    assert "0 of 9 done" in lines
    shutil.copy(ROOT / "layers.py", compiled)
    done = run_in(compiled, "check_grads.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert "9 of 9 done" in done.stdout.splitlines()
    done = run_in(compiled, "train.py", "--summary")  # without fast_layers.py, and without a word
    assert (done.returncode, done.stderr) == (0, "")


def test_a_handout_says_that_it_has_no_larger_networks(tmp_path, monkeypatch):
    monkeypatch.setattr(start, "ROOT", tmp_path)
    error = ModuleNotFoundError("No module named 'strong'", name="strong")
    assert start.explanation(error, None) == (
        "a hand-out has no strong/, the folder of the larger networks"
    )


def test_a_written_handout_is_moved_aside_not_overwritten(tmp_path, capsys):
    for content in (b"a student's", b"new"):
        folder = handout.write(tmp_path, {"some/layers.py": content})
    assert (folder / "some/layers.py").read_bytes() == b"new"
    assert (tmp_path / "handout.1/some/layers.py").read_bytes() == b"a student's"
    assert "handout.1" in capsys.readouterr().out


# --- what is cut --------------------------------------------------------------------------------

SOURCE = '''"""A module."""


class Layer:
    """Doubles."""

    def forward(
        self,
        x,
    ):
        """Twice x."""
        # by adding
        if x is None:
            return None
        return self.twice(x)

    def backward(self, grad_out):
        # a hint that is none of yours
        return self.shared(2 * grad_out)

    def twice(self, x):
        return self.shared(x + x)

    def shared(self, x):
        return x

    def other(self, x):
        return self.shared(x)


def loss(x):
    return x**2


def mean(x):
    return x
'''
CUT = '''"""A module."""


class Layer:
    """Doubles."""

    def forward(
        self,
        x,
    ):
        """Twice x."""
        raise NotImplementedError("Task 9: Layer.forward")

    def backward(self, grad_out):
        raise NotImplementedError("Task 9: Layer.backward")

    def shared(self, x):
        return x

    def other(self, x):
        return self.shared(x)


def loss(x):
    raise NotImplementedError("Task 8: loss")


def mean(x):
    return x
'''


def test_a_cut_leaves_signature_docstring_and_what_others_use():
    gaps = {"Layer.forward": "Task 9", "Layer.backward": "Task 9", "loss": "Task 8"}
    assert handout.cut(SOURCE, gaps) == CUT


def test_a_method_that_a_kept_one_calls_stays():
    cut = handout.cut(SOURCE, {"Layer.backward": "Task 9"})
    assert "def twice" in cut
    assert "self.twice(x)" in cut


def test_a_gap_that_is_not_there_is_an_error():
    with pytest.raises(ValueError, match=r"expected the methods Layer\.sideways, found none"):
        handout.cut(SOURCE, {"Layer.sideways": "Task 9"})


def test_classes_and_methods_can_be_kept():
    gaps = handout.chosen_gaps(False, "ReLU, L2Regularizer.forward")["layers.py"]
    assert set(tasks.NINE) - set(gaps) == {
        "ReLU.forward",
        "ReLU.backward_inputs",
        "L2Regularizer.forward",
    }
    with pytest.raises(RunError, match=r"--keep: Relu: no gap; there are FC, .*ReLU"):
        handout.chosen_gaps(False, "Relu")
    with pytest.raises(RunError, match="--keep: Convolution: no gap"):
        handout.chosen_gaps(False, "Convolution")  # is no gap without --more
    assert "Convolution.forward" not in handout.chosen_gaps(True, "Convolution")["layers.py"]


def test_a_learner_starts_once(tmp_path, capsys):
    gaps = handout.chosen_gaps(False, "")["layers.py"]
    handout.start(gaps, tmp_path)
    mine = tmp_path / "my_layers.py"
    assert mine.read_text(encoding="utf-8").count("raise NotImplementedError") == 9
    assert "conv1 = " in (tmp_path / "answers.toml").read_text(encoding="utf-8")
    assert "## B.1 " in (tmp_path / "answers.md").read_text(encoding="utf-8")
    assert "--layers my_layers.py" in capsys.readouterr().out
    mine.write_text("hours of work")
    (tmp_path / "answers.toml").unlink()
    handout.start(gaps, tmp_path)  # what is missing
    kept = "my_layers.py and answers.md: already there, and left as it is"
    assert kept in capsys.readouterr().out
    assert "conv1 = " in (tmp_path / "answers.toml").read_text(encoding="utf-8")
    with pytest.raises(RunError, match=r"answers\.md: already there, and left as it is"):
        handout.start(gaps, tmp_path)
    assert mine.read_text() == "hours of work"
