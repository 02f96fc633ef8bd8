"""The six stages under the same load in one picture, for the project's first page. To measure and draw it anew:

    python3 tests/trace/six.py >build/six.svg && mv build/six.svg tests/trace/

The picture carries the moments that it shows, so that a proof can draw it again and compare.
"""
import json
import re
import subprocess
from xml.sax.saxutils import escape, quoteattr

import chart
from record import APART, ROOT, Trouble, carry_out, record, say
from harness.gantt import ticks
from harness.stages import plain
from timeline import ASKING, COMPUTING

LOAD = "sleep 1, sleep 1, fib 45, fib 1"
TITLES = ("One client at a time", "A process for each client", "A thread for each client",
          "One thread asks all in turn", "One thread that epoll wakes", "Coroutines, and threads that compute")
WAITS, SLEEPS, COMPUTES = "waits", "sleeps", "computes"
LEGEND = {WAITS: "waits: the server is busy", SLEEPS: "sleeps, as it asked", COMPUTES: "computes its fib"}
PIXEL = 12_000      # microseconds: what is shorter is not drawn

# ---- Measuring ----------------------------------------------------------------------------------------------------------


def served(one, timeline):
    """What the server did for this client after it had read the request: begin, end, word and thread, in their order."""
    (reader, _), (_, read, answered) = one.moments[0], one.phases()[1]
    sleep = re.fullmatch(r"sleep ([\d.]+)", one.text)
    if sleep:
        return [(read, min(read + round(float(sleep[1]) * 1e6), answered), SLEEPS, reader)]
    # A pool's thread accepts and reads from no client. What it computes is for one that does not sleep and is owed an answer.
    known = {number for client in timeline.connections
             for number in (client.opened.thread, *(thread.number for thread, _ in client.moments))}
    found = [(max(piece.begin, read), min(piece.end, answered), COMPUTES, thread)
             for process in timeline.processes for thread in process.threads for piece in thread.slices
             if piece.kind == COMPUTING and (piece.about is one or piece.about is None and thread.number not in known)]
    return sorted((piece for piece in found if piece[0] < piece[1]), key=lambda piece: piece[:2])


def lane(one, timeline, origin):
    """What a client asked, when, what happened until it was answered, and when that was. Moments are in milliseconds."""
    asked, answered = one.phases()[0][1], one.phases()[1][2]
    pieces, now = [], asked
    for begin, end, word, _ in [*served(one, timeline), (answered, answered, WAITS, None)]:
        begin, end = max(begin, now), max(end, now)
        pieces += [(now, begin, WAITS, ""), (begin, end, word, "")]
        now = end
    shown = [piece for piece in chart.merged(pieces, PIXEL) if piece[1] - piece[0] >= PIXEL]
    return {"text": one.text, "asked": (asked - origin) // 1000, "answered": (answered - origin) // 1000,
            "pieces": [[word, (begin - origin) // 1000, (end - origin) // 1000] for begin, end, word, _ in shown]}


def panel(timeline):
    """Who served our clients, and a lane for each of them."""
    clients = chart.clients(timeline)
    if not all(one.request and one.request.answer for one in clients):
        raise Trouble("not every request was answered")
    threads = [thread for one in clients for *_, thread in served(one, timeline)] + [one.moments[0][0] for one in clients]
    processes = len({thread.process.number for thread in threads})
    number = len({id(thread) for thread in threads})
    by = f"{processes} processes" if processes > 1 else f"{number} thread{'s' * (number > 1)}"
    asks = any(piece.kind == ASKING and piece.call.times > 10 for thread in threads for piece in thread.slices)
    return {"by": by + ", never rests" * asks,
            "lanes": [lane(one, timeline, clients[0].request.begin) for one in clients]}


def measured(number):
    say(TITLES[number - 1])
    stage = plain(number)
    return panel(record([str(ROOT / stage.name / stage.name)], LOAD, ours=True, output=subprocess.DEVNULL))


# ---- Drawing ------------------------------------------------------------------------------------------------------------

WIDTH, EDGE, GAP = 900, 20, 40              # pixels: the picture, its margins, between its columns
TOP, PANEL, LANE, BAR = 118, 150, 22, 17    # pixels: above the panels, the height of a panel, of a lane, of a bar
NAME, SECONDS, LETTER = 64, 52, 6.6         # pixels: for a lane's name, for the seconds at its end, the width of a letter
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 } text.head { font-size: 20px; font-weight: bold }
text.title { font-size: 15px; font-weight: bold } text.small { font-size: 12px }
text.request { font-family: ui-monospace, monospace } text.last { font-weight: bold }
.paper { fill: #ffffff } .answered { fill: #1f2328 } .grid { stroke: #d1d9e0 } .hatch { stroke: #d55e00; stroke-width: 3 }
.waits { fill: url(#hatch); stroke: #d55e00 } .sleeps { fill: #009e73; fill-opacity: .15; stroke: #009e73 }
.computes { fill: #0072b2; stroke: #0072b2 } .computes + text.word { fill: #ffffff; stroke: none }
text.word { font-size: 12px; stroke: #ffffff; stroke-width: 5px; stroke-linejoin: round; paint-order: stroke }
.sleeps + text.word { stroke: none }
@media (prefers-color-scheme: dark) {
text, .answered { fill: #e6edf3 } .paper { fill: #0d1117 } .grid { stroke: #3d444d } .waits + text.word { stroke: #0d1117 }
}
"""


def text(x, y, words, kind, anchor=""):
    where = f' text-anchor="{anchor}"' if anchor else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}"{where}>{escape(words)}</text>'


def bar(x, y, wide, kind, word=""):
    said = text(x + 5, y + 13, word, "word") if word and LETTER * len(word) + 7 < wide else ""
    return f'<rect x="{x:.1f}" y="{y + 0.5:.1f}" width="{wide:.1f}" height="{BAR - 1}" class="{kind}"/>{said}'


def draw_panel(number, shown, left, top, seconds):
    """A panel's parts, from a heading to its time axis."""
    right, first = left + (WIDTH - GAP) / 2 - EDGE, left + NAME
    scale, bottom = (right - SECONDS - first) / seconds, top + 10 + LANE * len(shown["lanes"])
    yield text(left, top, f"{number}  {TITLES[number - 1]}", "title")
    yield text(right, top, shown["by"], "small", "end")
    for moment in ticks(seconds, most=5):
        x = first + moment * scale
        yield f'<path d="M{x:.1f} {top + 8}V{bottom + 3}" class="grid"/>'
        yield text(x, bottom + 16, f"{moment:g} s", "small", "middle")
    for row, one in enumerate(shown["lanes"]):
        y, weight = top + 11 + LANE * row, " last" * (one is shown["lanes"][-1])
        yield text(left, y + 13, one["text"], "request" + weight)
        for word, begin, end in one["pieces"]:
            yield bar(first + begin / 1000 * scale, y, (end - begin) / 1000 * scale, word, word)
        x = first + one["answered"] / 1000 * scale
        yield f'<rect x="{x - 1.5:.1f}" y="{y - 2}" width="3" height="{BAR + 4}" class="answered"/>'
        took = one["answered"] - one["asked"]
        yield text(x + 6, y + 13, f"{took / 1000:.2f} s" if took >= 100 else f"{took} ms", "small" + weight)


def svg(panels):
    seconds = max(one["answered"] for shown in panels for one in shown["lanes"]) / 1000
    height = TOP + PANEL * 3 + 16
    label = "Who waits for whom: the waits of four clients with each of the six techniques"
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" role="img"'
             f' aria-label={quoteattr(label)}>',
             f"<metadata>{escape(json.dumps(panels))}</metadata>", f"<style>{STYLE}</style>",
             '<pattern id="hatch" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
             '<path d="M0 0V7" class="hatch"/></pattern>', f'<rect width="{WIDTH}" height="{height}" class="paper"/>',
             text(EDGE, 32, "Who waits for whom", "head"),
             text(EDGE, 54, f"Four clients, {APART:g} s apart, ask each of six servers. A row is a client. Watch the last: "
                            "fib 1 is computed in almost no time.", "plain")]
    at = EDGE
    for kind, words in LEGEND.items():
        parts.append(bar(at, 66, 24, kind) + text(at + 31, 79, words, "plain"))
        at += 55 + LETTER * len(words)
    parts.append(f'<rect x="{at:.1f}" y="64" width="3" height="{BAR + 4}" class="answered"/>'
                 + text(at + 9, 79, "answered: the time since it asked", "plain"))
    parts.append(text(EDGE, height - 14, "Drawn from the system calls that strace saw in one run of each server. Compare the "
                                         "orders, not the speeds.", "small"))
    for number, shown in enumerate(panels, 1):
        row, column = divmod(number - 1, 2)
        parts += draw_panel(number, shown, (EDGE, (WIDTH + GAP) / 2)[column], TOP + PANEL * row, seconds)
    return "\n".join([*parts, "</svg>"]) + "\n"


def carried(picture):
    """The panels that a picture was drawn from."""
    return json.loads(re.search("<metadata>(.*)</metadata>", picture)[1])


if __name__ == "__main__":
    carry_out(lambda: print(svg([measured(number) for number in range(1, 7)]), end=""))
