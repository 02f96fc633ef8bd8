"""Bars, a line for each client, in plain ASCII, which every terminal and every file can take."""
import shutil
import statistics
import sys
import time

import lesson


def show(clients):
    """Redraws the bars until all clients are answered. Without a terminal it draws them only then."""
    above, live = 0, sys.stdout.isatty()
    time.sleep(0.05)    # so that nothing is drawn if there is no server
    while any(client.is_alive() for client in clients):
        if live:        # only as many bars as lines: the cursor can't go back further
            above = draw(clients, above, shutil.get_terminal_size().lines - 1)
        time.sleep(0.05)
    if not all(client.failure for client in clients):
        draw(clients, above)
        lesson.say(summary(clients))


def draw(clients, above, most=None):
    """Draws the bars in the order of the answers, over so many earlier lines. Returns how many lines there are now."""
    columns, now = shutil.get_terminal_size().columns, time.monotonic()
    start, end = clients[0].began, max(client.ended or now for client in clients)
    seconds = 0.1
    while seconds < end - start:
        seconds *= 2    # bars that get too long are drawn half as long
    scale = max(columns - 16, 1) / seconds
    in_order = sorted(clients, key=lambda client: client.ended or now)[:most]
    lines = [f"{place:4} {bar(client, start, now, scale)}"[:columns - 1] for place, client in enumerate(in_order, 1)]
    if sys.stdout.isatty():
        lines = [f"{line}\033[K" for line in lines]
    lesson.say((f"\033[{above}A" if above else "") + "\n".join(lines))
    return len(lines)


def bar(client, start, now, scale):
    """Blanks until the client began, and marks until it ended."""
    ended = client.ended or now
    mark = "-" if not client.ended else "x" if client.failure else "#"
    words = lesson.reason(client.failure) if client.failure else f"{ended - client.began:.2f} s"
    begin, end = [int((moment - start) * scale) for moment in (client.began, ended)]
    return f"{' ' * begin}{mark * (end - begin + 1)} {words}"


def summary(clients):
    seconds = [client.ended - client.began for client in clients if not client.failure]
    total = max(client.ended for client in clients) - clients[0].began
    return (f"{len(seconds)} of {len(clients)} answered, {len(seconds) / total:.1f} per second; "
            f"shortest {min(seconds):.2f}, median {statistics.median(seconds):.2f}, longest {max(seconds):.2f} s")
