"""A timeline as a Gantt chart. The upper lanes show when each client waited to be read, and when for its answer; the lower
lanes show what each process and thread of the server did meanwhile."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from harness import gantt    # noqa: E402: after sys.path
from strace import ACCEPTS      # noqa: E402
from timeline import ASKING, CLIENTS, COMPUTING, OTHER, SHORT, SIGNAL, SLEEPING     # noqa: E402

KINDS = {
    "not read yet": ("#f4a3a3", "client: not read yet"),
    "is answered": ("#a8d5a2", "client: is answered"),
    COMPUTING: ("#e0662b", "server computes"),
    ASKING: ("#f3cf5b", "asks again and again"),
    SLEEPING: ("#9fb4e8", "sleeps"),
    CLIENTS: ("#dfe5ec", "waits for clients"),
    OTHER: ("#c9b8d8", "for a thread or process"),
}
PIXELS = 800        # about the width of the axis


def clients(timeline):
    """The clients that are shown: ours, if there are any."""
    ours = [one for one in timeline.connections if one.request]
    return ours or timeline.connections


def window(timeline):
    """The time from the first client's request to the last one's end, with a margin around it."""
    begins = [one.request.begin if one.request else one.begin for one in clients(timeline)] or [timeline.begin]
    ends = [one.end for one in clients(timeline)] or [timeline.end]
    margin = (max(ends) - min(begins)) // 50
    return min(begins) - margin, max(ends) + margin


def merged(pieces, pixel):
    """Joins equal pieces across gaps that are narrower than a pixel, and drops pieces that are narrower than one."""
    found = []
    for begin, end, kind, text in pieces:
        if found and found[-1][2:] == (kind, text) and begin - found[-1][1] < pixel:
            found[-1] = (found[-1][0], end, kind, text)
        elif not found or end - begin >= pixel:
            found.append((begin, end, kind, text))
    return found


def pieces_of(thread):
    """A thread's slices as the chart shows them. Everything but a wait is work, even in the kernel."""
    for one in thread.slices:
        kind = COMPUTING if one.kind == SHORT else one.kind
        if kind == ASKING:
            yield one.begin, one.end, kind, "asks again and again"
        elif kind != SIGNAL:
            yield one.begin, one.end, kind, f"{one.name}: {one.about.name}" if one.about else one.name


def name_of(thread):
    process = thread.process
    if thread.number != process.number:
        return thread.name
    return f"{'child' if process.parent else process.name} {process.number}"


def is_idle(thread, lane, begin, end):
    """Whether it has only waited, as Node's helper threads do if no request needs a file or a name."""
    return all(piece.kind in (CLIENTS, OTHER) for piece in lane.slices) and not any(
        one.about or one.name in ACCEPTS for one in thread.slices if one.begin < end and one.end > begin)


def svg(timeline, title, seconds=None):
    """The chart. Pass the length of the axis as `seconds` to compare several charts."""
    begin, end = window(timeline)
    seconds = seconds or (end - begin) / 1e6

    def lane(name, pieces):
        seen = [(max(one[0], begin) - begin, min(one[1], end) - begin, *one[2:]) for one in pieces
                if one[0] < end and one[1] > begin]
        return gantt.Lane(name, tuple(gantt.Slice(since / 1e6, till / 1e6, kind, text)
                                      for since, till, kind, text in merged(seen, seconds * 1e6 / PIXELS)))

    waiting = [lane(f"{one.name}: {one.text}"[:32], [(since, till, what, what) for what, since, till in one.phases()])
               for one in clients(timeline)]
    working = [(thread, lane(name_of(thread), pieces_of(thread)))
               for process in timeline.processes for thread in process.threads]
    working = [(thread, one) for thread, one in working if one.slices]
    shown = [one for thread, one in working if thread.number == thread.process.number or not is_idle(thread, one, begin, end)]
    if len(shown) < len(working):
        title += f" (not shown: {len(working) - len(shown)} of its threads, which only waited)"
    lanes = [gantt.Lane("clients"), *waiting, gantt.Lane("server"), *shown]
    there = {piece.kind for one in lanes for piece in one.slices}
    return gantt.chart(title, lanes, {kind: said for kind, said in KINDS.items() if kind in there}, seconds)
