"""One submission marked: read, run, judged. Whatever happens to one, the others are marked."""

import io
import time
from dataclasses import dataclass, field

from checks import judge, records, tasks
from marking import answers, limited, submissions
from marking.rooms import room
from marking.text import plain, plain_lines

# situations that a file need not offer; of other methods a stranger's record must not say so
OPTIONAL = ("Convolution", "MaxPooling")
MAX_QUESTION, MAX_ANSWER = 200, 10_000  # characters of an answer in words


@dataclass(frozen=True)
class Part:
    """A line of the results: a method, the answers, or the training; points: None if not run."""

    task: str
    name: str
    status: str  # pass, to do, FAIL
    points: int
    out_of: int
    message: str = ""
    mistake: str | None = None


@dataclass
class Marked:
    """stopped: by which limit, or why nothing could be run; None if all was run.

    words: {question: answer}, for the teacher to read.
    """

    name: str
    parts: list = field(default_factory=list)
    stopped: str | None = None
    output: str = ""
    seconds: float = 0.0
    words: dict = field(default_factory=dict)

    @property
    def points(self):
        return sum(part.points for part in self.parts)

    @property
    def out_of(self):
        return sum(part.out_of for part in self.parts)


@dataclass(frozen=True)
class Marker:
    """scheme: of marks.toml; expected: the right numbers for the seed; judge_answers: function of
    the bytes of an answers.toml; training: a ShortTraining. None where the scheme has no points.
    """

    scheme: object
    seed: int
    expected: object
    judge_answers: object = None
    training: object = None

    def mark(self, submission):
        """The Marked of a submission; raises nothing that a submission can bring about."""
        begun, marked = time.monotonic(), Marked(plain(submission.name))
        steps = [(self._methods, self._method_parts), (self._answers, self._answers_part)]
        steps.append((self._training, self._training_part))
        try:
            files = submissions.read(submission.path)
        except Exception as error:  # of a damaged zip: many kinds
            files, marked.stopped = None, _reason(error)
        for question, answer in answers.words(files or {}).items():
            text = plain_lines(answer, MAX_ANSWER, MAX_ANSWER)
            marked.words[plain(question, MAX_QUESTION)] = text
        for step, failed in steps:
            try:
                if files is None:
                    raise submissions.SubmissionError(marked.stopped)
                marked.parts += step(marked, files)
            except Exception as error:  # the rest and the next one are marked all the same
                marked.parts += failed(_reason(error))
        marked.output = plain_lines(marked.output)
        marked.seconds = time.monotonic() - begun
        return marked

    # --- methods --------------------------------------------------------------------------------

    def _methods(self, marked, files):
        methods = self.scheme.methods
        if not methods:
            return []
        seen, marked.stopped, marked.output = self._observed(files, None)
        if marked.stopped:  # a class by itself is perhaps not
            for name in dict.fromkeys(method.partition(".")[0] for method in methods):
                seen |= self._observed(files, name)[0]
        if marked.stopped and not seen:
            return self._method_parts(f"not checked: {marked.stopped}")
        missing = dict.fromkeys(methods)
        for key in seen:
            missing.pop(key.partition("/")[0], None)
        if "module" in seen:
            marked.stopped = self._with_limit(plain(seen["module"], 300))
            return self._method_parts("not checked: it cannot be imported")
        if endless := next((key for key, value in seen.items() if _is_endless(value)), None):
            marked.stopped = marked.stopped or f"{plain(endless.partition('/')[0])} does not end"
        parts = []
        for result in judge.judge(_believable(seen), self.expected, list(methods)):
            status, message = result.status, self._with_limit(plain_lines(result.message))
            if result.name in missing:
                status, message = judge.FAIL, f"not checked: {marked.stopped or 'nothing came out'}"
            out_of = methods[result.name]
            points = out_of if status == judge.PASS else 0
            parts.append(
                Part(result.task, result.name, status, points, out_of, message, result.mistake)
            )
        return parts

    def _observed(self, files, only):
        """(what was seen, why it was stopped, what it printed); only: a class, None: all."""
        limits = self.scheme.limits
        seconds = limits.seconds if only is None else max(2, limits.seconds // 4)
        arguments = ["layers.py", "seen.npz", "--seed", self.seed]
        arguments += [] if only is None else ["--only", only]
        with room(files) as place:
            ended = limited.run(place, "checks.worker", arguments, limits, seconds)
            if ended.stopped:
                return {}, ended.stopped, ended.output
            try:
                content = place.result("seen.npz")
                seen = None if content is None else records.read(io.BytesIO(content))
            except Exception as error:  # a stranger's file, damaged in whatever way
                return {}, plain(f"its results cannot be used: {error}", 300), ended.output
        if seen is None:
            last = plain(ended.output.rstrip().rpartition("\n")[2], 300)
            why = f"it ended before the checks did, with status {ended.status}"
            return {}, f"{why}: {last}" if last else why, ended.output
        return seen, None, ended.output

    def _with_limit(self, text):
        """A message, and the limit that was met if it is one of an error that a limit raises."""
        limits = self.scheme.limits
        met = {"MemoryError": f"the limit is {limits.memory_mb} MB of memory"}
        met["Too many open files"] = f"the limit is {limits.open_files} open files"
        return "; ".join([text, *(limit for error, limit in met.items() if error in text)])

    def _method_parts(self, message):
        return [
            Part(tasks.task_of(name), name, judge.FAIL, 0, out_of, message)
            for name, out_of in self.scheme.methods.items()
        ]

    # --- answers --------------------------------------------------------------------------------

    def _answers(self, marked, files):
        out_of = self.scheme.answers.points
        if not out_of:
            return []
        if "answers.toml" not in files:
            return self._answers_part("there is no answers.toml")
        verdicts = self.judge_answers(files["answers.toml"])
        right = sum(verdict.status == "right" for verdict in verdicts)
        wrong = [f"{v.section}: {v.name}" for v in verdicts if v.status != "right"]
        message = f"{right} of {len(verdicts)} right" + f"; not {', '.join(wrong)}" * bool(wrong)
        status = judge.PASS if right == len(verdicts) else judge.FAIL
        points = out_of * right // len(verdicts)
        return [Part("Answers", "answers", status, points, out_of, message)]

    def _answers_part(self, message):
        out_of = self.scheme.answers.points
        return [Part("Answers", "answers", judge.FAIL, 0, out_of, message)] if out_of else []

    # --- training -------------------------------------------------------------------------------

    def _training(self, marked, files):
        out_of = self.scheme.training.points
        if not out_of:
            return []
        if marked.stopped:
            return self._training_part("not run, for not all methods could be checked")
        trained = self.training.of(files)
        marked.stopped = trained.stopped and f"training {trained.stopped}"
        marked.output = marked.output or trained.output
        status = judge.PASS if trained.passed else judge.FAIL
        points = out_of if trained.passed else 0
        return [Part("Training", "training", status, points, out_of, plain(trained.message, 400))]

    def _training_part(self, message):
        out_of = self.scheme.training.points
        return [Part("Training", "training", judge.FAIL, 0, out_of, message)] if out_of else []


def _believable(seen):
    """What a stranger's process says it has seen, without what it may not leave out."""
    return {
        key: "error: left out" if _is_left_out(key, value) else value for key, value in seen.items()
    }


def _is_left_out(key, value):
    name, _, situation = key.partition("/")
    may = name.startswith(OPTIONAL) and situation.partition("/")[0] != "batch"
    return isinstance(value, str) and value.startswith("not offered") and not may


def _is_endless(value):
    return isinstance(value, str) and value.startswith("error: TimeoutError")


def _reason(error):
    if isinstance(error, submissions.SubmissionError):
        return plain(error, 300)
    return plain(f"it cannot be read: {type(error).__name__}: {error}", 300)
