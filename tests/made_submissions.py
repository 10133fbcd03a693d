"""Submissions to be marked: right ones, ones with mistakes, and hostile ones.

python3 tests/made_submissions.py FOLDER    # all of them, to look at the page of grade.py
"""

import os
import stat
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RIGHT = (ROOT / "layers.py").read_text(encoding="utf-8")


def changed(*pairs):
    """layers.py with pieces of its text replaced."""
    source = RIGHT
    for old, new in pairs:
        assert old in source, f"layers.py has no {old!r} any more"
        source = source.replace(old, new)
    return source


def in_fc_forward(statement):
    return changed(("        weights, bias = self.params()\n        self.out_shape = (len(x)",
                    f"        {statement}\n        weights, bias = self.params()\n"
                    "        self.out_shape = (len(x)"))  # fmt: skip


def at_the_top(statements):
    return RIGHT.replace("import numpy as np\n", f"import numpy as np\n{statements}\n", 1)


OUTPUTS_TO_DO = 'raise NotImplementedError("Task 1: FC.forward")'
GOOD = {
    "Anna Right": RIGHT,
    "Ben To-do": in_fc_forward(OUTPUTS_TO_DO),
    "Carla Bias": changed(("grad_out.sum(axis=0)", "grad_out.sum(axis=1)")),
    "Dora Transposed": changed(("grad_out.T @ self.x", "self.x.T @ grad_out")),
    "Emil Without N": changed(("(softmax - y) / len(x)", "(softmax - y)")),
    "Fritz Sign": changed(("(softmax - y) / len", "(y - softmax) / len")),
    "Greta Sum": changed(("-np.mean(np.sum(y", "-np.sum(np.sum(y")),
    "Hans Factor": changed(("self.weight_decay / 2 *", "self.weight_decay *")),
    "Ida No Decay": changed(("self.weight_decay * self.weights]", "self.weights]")),
    "Jan All Through": changed(("np.where(self.x > 0, grad_out, 0)", "grad_out.copy()")),
    "Kim In Place": changed(("return np.maximum(self.x, 0)", "x[x < 0] = 0; self.x = x; return x")),
    "Lena Own Way": changed(
        (
            "return self.x @ weights.T + bias",
            'return np.einsum("ni,oi->no", self.x, weights) + bias',
        )
    ),
    "Max Filters": changed(
        ("grad_weights = rows @ self.cols.T", "grad_weights = 0 * self.weights")
    ),
}
HOSTILE = {
    "syntax error": "def forward(self:\n    return 1\n",
    "missing import": "import tensorflow\n" + RIGHT,
    "endless loop": in_fc_forward("while True: pass"),
    "uninterrupted loop": in_fc_forward(
        "import signal; signal.setitimer(signal.ITIMER_REAL, 0); signal.pause()"
    ),
    "endless import": at_the_top("while True: pass"),
    "memory eater": at_the_top(
        "eaten = [np.zeros(10**7) for _ in range(10**6)]"
    ),  # no page is touched
    "memory in a method": in_fc_forward("np.ones((10**6, 10**5))"),
    "gigabyte print": at_the_top("for _ in range(10**6): print('x' * 1000)"),
    "gigabyte written": at_the_top("import os\nfor _ in range(10**6): os.write(1, bytes(1000))"),
    "big file": at_the_top("file = open('big', 'wb')\nwhile True: file.write(bytes(10**5))"),
    "many files": at_the_top("for i in range(10**6): open(f'file{i}', 'w').close()"),
    "open files": at_the_top("held = [open(__file__) for _ in range(10**5)]"),
    "os._exit": at_the_top("import os; os._exit(0)"),
    "crash": at_the_top("import os; os.abort()"),
    "objects": changed(
        (
            "return self.x @ weights.T + bias",
            "return np.array([[self] * len(weights)] * len(x), object)",
        )
    ),
    "patched numpy": at_the_top(
        "np.allclose = np.array_equal = lambda *a, **k: True\n"
        "np.testing.assert_allclose = lambda *a, **k: None\n"
        "np.savez = lambda *a, **k: None"
    ).replace("return self.x @ weights.T + bias", "return 0 * self.x @ weights.T"),
    "fork bomb": at_the_top(
        "import os, time\nfor _ in range(40):\n    if os.fork() == 0:\n        time.sleep(1000)"
    ),
    "daemon": at_the_top(
        "import os, time\n"
        "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
        "        time.sleep(1000)\n    os._exit(0)"
    ),
    "linked result": at_the_top("import os; os.symlink('/etc/passwd', 'seen.npz'); os._exit(0)"),
    "piped result": at_the_top("import os; os.mkfifo('seen.npz'); os._exit(0)"),
    "pickled result": at_the_top(
        "import os\nnp.savez('seen.npz', seen=np.array([print], object))\nos._exit(0)"
    ),
    "forged result": at_the_top(
        "import os\n"
        "from checks import records, tasks\n"
        "seen = {f'{name}/arguments': 'ok' for name in tasks.NINE}\n"
        "for situation in ('batch', 'weights', 'batch/weights', 'weights/weights'):\n"
        "    seen |= {f'{name}/{situation}': 'not offered: me' for name in tasks.NINE}\n"
        "records.write('seen.npz', seen)\n"
        "os._exit(0)"
    ),
    "reads input": at_the_top("input()"),
    "looks for solutions": at_the_top("from checks import reference"),
}


def write(folder):
    """Write all of them, also those that are made of files and names."""
    folder = Path(folder)
    for name, source in {**GOOD, **HOSTILE}.items():
        _put(folder / name / "layers.py", source)
    write_odd_files(folder)


def write_odd_files(folder):
    """Zips, links and names that only a file system can hold."""
    _put(folder / "Nina Single.py", RIGHT)
    _put(folder / "<img src=x onerror=alert(1)>" / "layers.py", in_fc_forward(OUTPUTS_TO_DO))
    _put(folder / '=HYPERLINK("http:|example.com","Olga")' / "layers.py", RIGHT)
    _put(folder / "turned \u202e round \x1b[31mred" / "layers.py", RIGHT)
    (folder / "empty").mkdir()
    (folder / "linked code").mkdir()
    (folder / "linked code" / "layers.py").symlink_to(ROOT / "layers.py")
    (folder / "linked folder").symlink_to(ROOT)
    zips = {
        "Paula Zip": {"handout/layers.py": RIGHT, "__MACOSX/handout/._layers.py": "\0"},
        "zip slip": {"layers.py": RIGHT, "../../slipped.py": "bad"},
        "zip absolute": {"/tmp/slipped.py": "bad", "layers.py": RIGHT},
        "zip bomb": {"layers.py": RIGHT, "zeros": "\0" * 30_000_000},
    }
    for name, members in zips.items():
        write_zip(folder / f"{name}.zip", members)
    (folder / "Quentin Moodle_123_file").mkdir()
    write_zip(folder / "Quentin Moodle_123_file" / "mine.zip", {"layers.py": RIGHT})
    link = zipfile.ZipInfo("layers.py")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(folder / "zip with link.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    (folder / "damaged.zip").write_bytes(b"PK\3\4 and then nothing of use")
    if hasattr(os, "mkfifo"):
        (folder / "pipe").mkdir()
        os.mkfifo(folder / "pipe" / "layers.py")


def write_zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def _put(path, source):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source, encoding="utf-8")


if __name__ == "__main__":
    write(sys.argv[1])
