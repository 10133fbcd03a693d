"""The answers in words: answers.md, a heading a question, and below it the answer.

A heading counts by the number it begins with, 1.4 or B.1, so that its words may be changed; what
else stands in the file belongs to the answer before it.
"""

import re
from typing import NamedTuple

from support.start import ROOT

NAME = "answers.md"
SCRIPTS = {  # a hand-out asks for the parts whose scripts it has
    "1": "train.py",
    "2": "train_l2reg.py",
    "3": "pytorch_mnist.py",
    "4": "pytorch_cifar.py",
    "B": "hinge_bonus.py",
}
HEADING = re.compile(r" {0,3}#{2,6}\s+([1-4B]\.[0-9]+)[.:)]*(?:\s+(.*))?", re.IGNORECASE)
EARLIER = {"im2col": "1.4", "analytic_gradients": "1.5", "regularization": "2.1"}  # in [words]
MISSING = ("", "?")


class Question(NamedTuple):
    """part: 1 to 4, or B, the bonus; number: 1.4; text: in Markdown."""

    part: str
    number: str
    text: str


def parts_here(root=ROOT):
    """The parts of the lab whose scripts lie in a folder."""
    return [part for part, script in SCRIPTS.items() if (root / script).exists()]


def read(path):
    """The text of a file. Raises: OSError; ValueError if it is none."""
    # an editor on Windows may have put a mark before it
    return path.read_text(encoding="utf-8-sig")


def template(parts):
    """The text of an answers.md with the questions of these parts."""
    text = (ROOT / "support" / NAME).read_text(encoding="utf-8")
    intro, *sections = re.split(r"(?m)^(?=## )", text)
    return intro + "".join(s for s in sections if s.removeprefix("## ")[0] in parts)


def questions(parts):
    """The questions of these parts."""
    headings = map(HEADING.fullmatch, template(parts).splitlines())
    return [Question(found[1][0], found[1], found[2]) for found in headings if found]


def split(text):
    """{number: answer} of the text of an answers.md; those that are missing are left out."""
    asked = {question.number for question in questions(SCRIPTS)}
    answers, number = {}, None
    for line in text.splitlines():
        heading = HEADING.fullmatch(line)
        if heading and heading[1].upper() in asked:
            number = heading[1].upper()
        elif number:
            answers.setdefault(number, []).append(line)
    answers = {number: "\n".join(lines).strip("\n") for number, lines in answers.items()}
    return {number: text for number, text in answers.items() if text.strip() not in MISSING}


def written(text, tables):
    """The same, and of the table [words] that an answers.toml used to have what it answers alone.

    tables: those of that file.
    """
    words = tables.get("words")
    earlier = {
        EARLIER[name]: answer.strip("\n")
        for name, answer in (words.items() if isinstance(words, dict) else ())
        if name in EARLIER and isinstance(answer, str) and answer.strip() not in MISSING
    }
    return earlier | split(text)
