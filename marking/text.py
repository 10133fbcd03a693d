"""Text from strangers, made harmless: names, messages, what a program printed."""

MAX_NAME, MAX_TEXT = 80, 2_000


def plain(text, longest=MAX_NAME):
    """One line without control characters, and none that turns the direction of writing."""
    text = " ".join(str(text).split())
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def plain_lines(text, longest=MAX_TEXT, widest=300):
    """The same for several lines, of which the last are kept. widest: characters of a line."""
    lines = [plain(line, widest) if line.split() else "" for line in str(text).splitlines()]
    return "\n".join(lines).strip()[-longest:]


def cell(value):
    """A cell of a .csv file that no spreadsheet takes for a formula."""
    text = str(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
