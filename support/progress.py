"""How far an epoch has come: a bar on a terminal, else a plain line from time to time."""

import time

from tqdm import tqdm

PLAIN_LINE_SECONDS = 10  # between two lines


def shown(position, num_steps, title, has_bar):
    """The numbers of the steps to come, from position.step on, shown as they go by."""
    first = position.step
    started = last_line = time.monotonic()
    bar = tqdm(
        range(first, num_steps),
        title,
        num_steps,
        initial=first,
        leave=False,
        disable=not has_bar,
        unit="step",
    )
    for step in bar:
        yield step
        now = time.monotonic()
        if not bar.disable:
            bar.set_postfix_str(f"loss {position.mean_loss:.4f}", False)
        elif now - last_line >= PLAIN_LINE_SECONDS:
            last_line = now
            milliseconds = 1000 * (now - started) / (step + 1 - first)
            print(
                f"{title}: step {step + 1}/{num_steps}, loss {position.mean_loss:.4f}, "
                f"{milliseconds:.1f} ms a step",
                flush=True,
            )
