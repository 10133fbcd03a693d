"""What makes the page one to hand in: name, course, answers, a check list, and hashes."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from support import answers
from support.page import checklist, hashes, markdown
from support.read_runs import Record
from support.start import ROOT

from markupsafe import Markup

MAX_BYTES = 100_000  # of a file with answers
SHOWN = 16  # hexadecimal digits of a hash
SECTIONS = {"1": "task-1", "2": "task-2", "3": "task-3", "4": "task-4", "B": "bonus"}


@dataclass(kw_only=True)
class HandIn:
    """Whose page it is. answers: path of answers.md; answers.toml and the code lie beside it."""

    author: str = ""
    course: str = ""
    answers: Path = ROOT / answers.NAME


class Answered(NamedTuple):
    """A question and its answer, both as HTML; answer: None where it is missing."""

    number: str
    question: Markup
    answer: Markup | None


def contents(hand_in, save_dir, parts):
    """What the page's template shows of it. parts: of the lab, 1 to 4, and B."""
    folder = hand_in.answers.parent
    record = Record(folder)  # of which only the answers and their pictures are read
    record.problems = []
    numbers = record.read(hand_in.answers.with_suffix(".toml").name, _toml, {}, MAX_BYTES)
    prose = record.read(hand_in.answers.name, _text, None, MAX_BYTES)
    given = answers.written(prose or "", numbers)
    asked = {part: [] for part in parts}
    for part, number, text in answers.questions(parts):
        answer = markdown.markup(given[number], record) if number in given else None
        asked[part].append(Answered(number, markdown.inline(text, record), answer))
    words = {
        part: {question.number: question.answer is not None for question in of_part}
        for part, of_part in asked.items()
    }
    items = checklist.items(save_dir, parts, _filled_in(numbers), words)
    done = [item for item in items if item.state == checklist.DONE]
    found = hashes.hashes(hand_in.answers, save_dir)
    return {
        "author": hand_in.author,
        "course": hand_in.course,
        "has_answers": prose is not None or bool(given) or bool(record.problems),
        "asked": {SECTIONS[part]: of_part for part, of_part in asked.items()},
        "problems": record.problems,
        "items": {SECTIONS[part]: [i for i in items if i.part == part] for part in parts},
        "num_done": len(done),
        "num_unofficial": sum(any(kind != "official" for _, kind in item.data) for item in done),
        "num_asked": len(items),
        "hashes": found,
        "shown": {name: value[:SHOWN] for name, value in found.items()},
    }


def _text(path):
    try:
        return answers.read(path)
    except UnicodeDecodeError as error:  # as editors on Windows may save it
        raise ValueError("it is not UTF-8; save it as that") from error


def _toml(path):
    try:
        return tomllib.loads(_text(path))
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def _filled_in(tables):
    """{name of a number in answers.toml: whether it is there}."""
    return {
        f"{section}: {name}": value not in ("?", "", [])
        for section, table in tables.items()
        if section != "words" and isinstance(table, dict)
        for name, value in table.items()
    }
