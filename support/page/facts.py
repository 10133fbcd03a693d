"""What every section says of its runs: state, data, machine, time, command."""

from support.page.formats import number


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
        "commands": distinct(lambda results: str(results.get("command", "unknown"))),
        "num_epochs": sum(record.num_epochs for record in there),
        "seconds": sum(record.seconds for record in there),
        "problems": [problem for record in there for problem in record.problems],
    }


def _data(results):
    name, provenance = (results.get(key, "unknown") for key in ("dataset", "provenance"))
    text = f"{name}, {provenance}, {number(results.get('num_train'))} training images"
    return text + (", those for validation among them" if results.get("trains_with_valid") else "")


def _machine(results):
    keys = ("processor", "device", "threads")
    return "{}, device {}, threads: {}".format(*(results.get(key, "unknown") for key in keys))


def _versions(results):
    versions = results.get("versions")
    if not isinstance(versions, dict):
        return ""
    return ", ".join(f"{name} {version}" for name, version in versions.items())
