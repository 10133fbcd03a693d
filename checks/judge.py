"""Right or wrong, and which mistake: what was observed, compared with what is expected.

A mistake is named only if it gives the numbers that were seen in every situation, up to rounding,
and no other known mistake does. Nothing is guessed: else one index is shown with both numbers.
"""

from dataclasses import dataclass

from checks import facts, tasks
from checks.comparison import is_same

PASS, TO_DO, FAIL = "pass", "to do", "FAIL"


@dataclass
class MethodResult:
    """What is known of one method; mistake: the id of a known one, or None; left_out: texts."""

    task: str
    name: str
    status: str
    message: str = ""
    mistake: str | None = None
    left_out: tuple = ()


def judge(observations, expected, methods=tasks.NINE):
    """A MethodResult for each method, in their order.

    observations: of probes.observe; expected: an expectations.Expected of the same seed.
    """
    return [_judge_method(observations, expected, name) for name in methods]


def _judge_method(observations, expected, name):
    result = MethodResult(tasks.task_of(name), name, PASS)
    if text := observations.get("module"):  # it could not be imported
        result.status, result.message = FAIL, str(text)
        return result
    right = {k: v for k, v in expected.right.items() if k.partition("/")[0] == name}
    seen = {key: observations.get(key, "missing") for key in right}
    left_out = {k: v for k, v in seen.items() if facts.kind(v) == "not offered"}
    result.left_out = tuple(facts.left_out(k, v) for k, v in left_out.items())
    values = {k: v for k, v in seen.items() if k not in left_out and not facts.is_fact(k)}
    if values and all(facts.kind(value) == TO_DO for value in values.values()):
        result.status = TO_DO
        return result
    single = observations.get(f"{name}/parameters") == "float32"
    sentences = []
    for part in facts.PARTS:
        of_part = {k: v for k, v in values.items() if facts.part_of(k) == part}
        wrong = [k for k, v in of_part.items() if not is_same(k, v, right[k], single)]
        if not wrong or (part == facts.LAST_PART and sentences):
            continue
        if part == facts.LAST_PART:  # what gives these numbers gives the right ones elsewhere
            of_part = values
        found = _mistake(of_part, right, expected.mistakes, name, single)
        if found is None and facts.is_float32_in_between(of_part, right):
            found = facts.FLOAT32
        if found is not None:
            sentences.append(f"{found.sentence}: {found.formula}")
            result.mistake = result.mistake or found.id
        else:
            sentences.append(facts.describe(wrong, of_part, right, single, observations))
    if not sentences and not single and facts.are_all_float32(values):
        sentences.append(f"{facts.FLOAT32.sentence}: {facts.FLOAT32.formula}")
        result.mistake = facts.FLOAT32.id
    for key in (k for k in seen if facts.is_fact(k) and seen[k] != "ok"):
        sentences.append(str(seen[key]).removeprefix("problem: "))
        result.mistake = result.mistake or facts.FACTS[key.partition("/")[2]]
    if sentences:
        result.status, result.message = FAIL, "; ".join(dict.fromkeys(sentences))
    return result


def _mistake(seen, right, mistakes, method, single):
    """The one mistake that gives all that was seen of a part of a method, or None."""
    found = []
    for mistake in mistakes:
        for variant in mistake.variants:
            if mistake.method == method and variant.keys() & seen.keys():
                targets = {k: [variant[k]] if k in variant else right[k] for k in seen}
                if all(is_same(k, v, targets[k], single) for k, v in seen.items()):
                    found.append(mistake)
                    break
    return found[0] if len(found) == 1 else None


def report(results):
    """The results as text: a line a method, a line a task, and last how many are done."""
    width = max(len(result.name) for result in results)
    lines = []
    for result in results:
        first, *more = (result.message or "").splitlines() or [""]
        lines.append(f"{result.name:{width}}  {result.status:5}  {first}".rstrip())
        lines += [f"{'':{width}}         {line.strip()}" for line in more]
    left_out = dict.fromkeys(text for result in results for text in result.left_out)
    if left_out:
        lines += ["", "left out, this file does not offer it:", *(f"  {text}" for text in left_out)]
    lines.append("")
    for task in dict.fromkeys(result.task for result in results):
        of_task = [result for result in results if result.task == task]
        open_ = [result.name for result in of_task if result.status != PASS]
        following = f"; next: {open_[0]}" if open_ else ""
        lines.append(f"{task}: {len(of_task) - len(open_)} of {len(of_task)} done{following}")
    done = sum(result.status == PASS for result in results)
    lines.append(f"{done} of {len(results)} done")
    return "\n".join(lines)
