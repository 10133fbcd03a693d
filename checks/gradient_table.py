"""The table of check_grads.py, printed and as files, and what its numeric gradients cost."""

from support import files, tables

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
    values = {"tolerance": tolerance, "methods": of_methods, **cost}
    files.write_json(folder / "results.json", values)


def why_analytic(cost, lab_parameters, lab_steps):
    """Print what numeric gradients would cost in the lab's network."""
    count, numeric = cost["num_params"], cost["numeric_seconds"]
    ratio = numeric / cost["analytic_seconds"]
    lab_ratio = ratio / count * lab_parameters
    years = lab_ratio * lab_steps * 0.01 / (365 * 24 * 3600)
    print(
        f"\nWhy analytic gradients: for the {count} parameters of the small network the numeric "
        f"gradient took {numeric:.2f} s\nand the analytic one "
        f"{1000 * cost['analytic_seconds']:.2f} ms, {ratio:,.0f} times less: two forward passes a "
        f"parameter against one pass\nforward and one back. For the {lab_parameters:,} parameters "
        f"of the lab's network it would be {lab_ratio:,.0f} times; its {lab_steps:,}\ntraining "
        f"steps, at 10 ms each with analytic gradients {lab_steps * 0.01:.0f} s, would take "
        f"{years:.1f} years."
    )
