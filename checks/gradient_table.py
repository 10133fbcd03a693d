"""The table of check_grads.py, printed and as files, and what its numeric gradients cost."""

from support import files, tables

from checks import timing

COLUMNS = [("tensor", "<"), ("rel. error", ".1e"), ("worst index", "<"), ("analytic", ".5e")]
COLUMNS += [("numeric", ".5e"), ("", "<")]


def show(results, passed, left_out, tolerance, with_passed=True):
    """Print a line a tensor; left_out: texts on what a file does not offer.

    with_passed: or those alone that failed, so that what is to do is not pushed off the screen.
    """
    rows = [
        [result.name, result.error, str(result.index), result.analytic, result.numeric,
         "pass" if is_right else "FAIL"]
        for result, is_right in zip(results, passed, strict=True)
        if with_passed or not is_right
    ]  # fmt: skip
    if rows:
        print(f"\n{tables.text_table(COLUMNS, rows)}")
    if results:
        start = "" if rows else "\ngradients of what is complete: "
        print(f"{start}{sum(passed)} of {len(results)} below {tolerance:g}")
    if left_out:
        print("\nleft out, the file does not offer it:", *left_out, sep="\n  ")


def save(folder, results, passed, methods, cost, tolerance):
    """Write gradients.csv and results.json. Raises: OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = ["name", "error", "index", "analytic", "numeric", "passed"]
    rows = [
        {**result._asdict(), "passed": is_right}
        for result, is_right in zip(results, passed, strict=True)
    ]
    tables.write_table(folder / "gradients.csv", columns, rows)
    of_methods = {method.name: method.status for method in methods}
    values = {"tolerance": tolerance, "methods": of_methods, **rounded(cost)}
    files.write_json(folder / "results.json", values)


def rounded(cost):
    """The cost with seconds of one digit."""
    return {k: timing.one_digit(v) if k.endswith("_seconds") else v for k, v in cost.items()}


def why_analytic(cost, lab_parameters, lab_steps):
    """Print what numeric gradients would cost in the lab's network."""
    count, ratio = cost["num_params"], cost["numeric_seconds"] / cost["analytic_seconds"]
    lab_ratio = ratio / count * lab_parameters
    years = lab_ratio * lab_steps * 0.01 / (365 * 24 * 3600)
    ratio, lab_ratio, years = map(timing.one_digit, (ratio, lab_ratio, years))
    seconds = rounded(cost)
    numeric, analytic = seconds["numeric_seconds"], seconds["analytic_seconds"]
    print(
        f"\nWhy analytic gradients: for the {count} parameters of the small network the numeric "
        f"gradient takes about {numeric:g} s\nand the analytic one {1000 * analytic:g} ms, about "
        f"{ratio:,.0f} times less: two forward passes a parameter against one pass\nforward and "
        f"one back. For the {lab_parameters:,} parameters of the lab's network it would be about "
        f"{lab_ratio:,.0f} times; its\n{lab_steps:,} training steps, at 10 ms each with analytic "
        f"gradients {lab_steps * 0.01:.0f} s, would take about {years:g} years."
    )
