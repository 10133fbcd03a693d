"""The marks in the formats of other systems; marks is the path of the marks.toml that was used.

A number of points is a whole number everywhere, as Classroom 50 wants it.
"""

import os
import re
import time
import xml.etree.ElementTree as ET

from support import files

from marking import bundles

NO_COMMIT = "0000000"


def write_gradescope(folder, marked, seed, marks):
    """results.json for each submission, and autograder.zip, to be uploaded, which makes them.

    Source: https://gradescope-autograders.readthedocs.io/en/latest/specs/
    """
    for number, m in enumerate(marked, 1):
        _write(folder, "gradescope", number, m, "results.json", gradescope(m, seed))
    bundles.write_gradescope(folder / "gradescope" / "autograder.zip", marks)


def gradescope(marked, seed):
    tests = [
        {
            "name": part.name,
            "score": part.points,
            "max_score": part.out_of,
            "status": "passed" if part.status == "pass" else "failed",
            "output": part.message or part.status,
        }
        for part in marked.parts
    ]
    stopped = f"{marked.stopped}\n" if marked.stopped else ""
    return {
        "output": f"{stopped}{marked.points} of {marked.out_of} points",
        "output_format": "text",
        "test_output_format": "text",
        "test_name_format": "text",
        "execution_time": round(marked.seconds),
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "extra_data": {"seed": seed},
        "tests": tests,
    }


def write_classroom50(folder, marked, seed, marks):
    """result.json for each submission, and autograder.zip, whose files make it in Classroom 50.

    Who and what was submitted is in the environment that Classroom 50's runner provides; outside of
    it, the folder's name is the owner, and links stand for what there is none of.
    Source: https://github.com/foundation50/classroom50, wiki page Advanced-Autograding, and
    schemas/result-v1.schema.json, as of August 2026.
    """
    for number, m in enumerate(marked, 1):
        _write(folder, "classroom50", number, m, "result.json", classroom50(m, seed, os.environ))
    bundles.write_classroom50(folder / "classroom50" / "autograder.zip", marks)


def classroom50(marked, seed, environment):
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    commit = environment.get("COMMIT_URL") or "none"
    tag = f"submit/{now.replace(':', '-')}-{NO_COMMIT}"
    tests = [
        {
            "test-name": part.name,
            "passed": part.status == "pass",
            "score": part.points,
            "max-score": part.out_of,
            "message": part.message or part.status,
        }
        for part in marked.parts
    ]
    return {
        "schema": "classroom50/result/v1",
        "classroom": environment.get("CLASSROOM") or "none",
        "assignment": environment.get("ASSIGNMENT") or "none",
        "assignment_type": environment.get("ASSIGNMENT_TYPE") or "individual",
        "owner": environment.get("OWNER") or environment.get("USERNAME") or marked.name,
        "submission": environment.get("SUBMISSION_TAG") or tag,
        "commit": commit,
        "release": environment.get("RELEASE_URL") or "none",
        "review": environment.get("REVIEW_URL") or commit,
        "datetime": now,
        "graded_at": now,
        "score": marked.points,
        "max-score": marked.out_of,
        "tests": tests,
    }


def write_junit(folder, marked, seed, marks):
    """junit.xml: a test suite for each submission.

    Source: the schema that Jenkins reads, jenkins-junit.xsd in github.com/junit-team/junit5.
    """
    suites = ET.Element("testsuites", name=f"marks, seed {seed}")
    for m in marked:
        failed = [part for part in m.parts if part.status != "pass"]
        stopped = bool(m.stopped)
        counts = {"tests": len(m.parts), "failures": 0 if stopped else len(failed)}
        counts |= {"errors": len(failed) if stopped else 0, "time": f"{m.seconds:.3f}"}
        suite = ET.SubElement(
            suites, "testsuite", name=_xml(m.name), **{k: str(v) for k, v in counts.items()}
        )
        for part in m.parts:
            case = ET.SubElement(suite, "testcase", name=part.name, classname=_xml(m.name))
            if part.status != "pass":
                kind, text = ("error", m.stopped) if stopped else ("failure", part.status)
                problem = ET.SubElement(case, kind, message=_xml(part.message or text))
                problem.text = _xml(part.message or text)
        if m.output:
            ET.SubElement(suite, "system-out").text = _xml(m.output)
    ET.indent(suites)
    files.write_whole(
        folder / "junit.xml", ET.tostring(suites, encoding="utf-8", xml_declaration=True)
    )


def _write(folder, kind, number, marked, name, values):
    slug = re.sub(r"[^A-Za-z0-9]+", "-", marked.name).strip("-")[:40] or "submission"
    place = folder / kind / f"{number:03}-{slug}"
    place.mkdir(parents=True)
    files.write_json(place / name, values)


def _xml(text):
    """Without the characters that no XML may hold."""
    return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "?", str(text))


WRITERS = {
    "gradescope": write_gradescope,
    "classroom50": write_classroom50,
    "junit": write_junit,
}
