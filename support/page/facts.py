"""What every section says of its runs: state, data, machine, time, command."""

from support.page.formats import command, number


def facts(records):
    """A value that several of the runs share comes once."""
    there = [record for record in records if record.exists]

    def distinct(form):
        return list(dict.fromkeys(form(record.results) for record in there if record.results))

    return {
        "runs": there,
        "states": list(dict.fromkeys(record.state for record in there)) or ["missing"],
        "official": all(record.results.get("provenance") == "official" for record in there),
        "data": distinct(_data),
        "seeds": distinct(lambda results: str(results.get("seed"))),
        "machines": distinct(_machine),
        "software": distinct(_versions),
        "commands": distinct(lambda results: command(str(results.get("command", "unknown")))),
        "num_epochs": sum(record.num_epochs for record in there),
        "seconds": sum(record.seconds for record in there),
        "steps_a_second": _steps_a_second(there),
        "problems": [problem for record in there for problem in record.problems],
    }


def _data(results):
    name, provenance = (results.get(key, "unknown") for key in ("dataset", "provenance"))
    is_copy = provenance == "unverified copy"
    text = f"{name}, {provenance}{' (not the official files: another checksum)' if is_copy else ''}"
    text += f", {number(results.get('num_train'))} training images"
    return text + (", those for validation among them" if results.get("trains_with_valid") else "")


def _steps_a_second(records):
    """Of all runs together; None where a run does not say how many it did."""
    steps = [record.num_steps for record in records if record.num_epochs]
    seconds = sum(record.seconds for record in records)
    return sum(steps) / seconds if steps and None not in steps and seconds > 0 else None


def _machine(results):
    """Processor, device and threads."""
    known = (results.get(key, "unknown") for key in ("processor", "device", "threads"))
    processor, device, threads = known
    return f"{processor}, {device}, {threads} thread{'s' if threads != 1 else ''}"


def _versions(results):
    versions = results.get("versions")
    if not isinstance(versions, dict):
        return ""
    return ", ".join(f"{name} {version}" for name, version in versions.items())
