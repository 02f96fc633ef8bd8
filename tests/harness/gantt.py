"""A Gantt chart as SVG: a lane for each thread or client that waits or works, along one time axis.

The chart needs no style sheet, script or font, so it can stand alone, in a page beside others, or in a chapter. All times
are in seconds.
"""
import math
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

WIDTH = 960
ROW, BAR = 20, 14       # the height of a lane, and of a bar in it
LETTER = 6.7            # the greatest width of a letter of 11 pixels in a monospaced font


@dataclass(frozen=True)
class Slice:
    begin: float
    end: float
    kind: str           # a key of the chart's `kinds`
    text: str = ""      # shown if it fits, and as a tooltip in a browser


@dataclass(frozen=True)
class Lane:
    name: str
    slices: tuple = ()      # later ones are drawn over earlier ones; a lane without any is a heading


def ticks(seconds, most=10):
    """Round times from 0 to `seconds`, in at most `most` steps of 1, 2 or 5 times a power of ten."""
    rough = max(seconds, 1e-6) / most
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    return [number * step for number in range(int(seconds / step * 1.001) + 1)]


def chart(title, lanes, kinds, seconds=None):
    """The SVG. `kinds`: a colour and a word for the legend for each kind of slice. `seconds`: where the axis ends."""
    lanes = list(lanes)
    if seconds is None:
        seconds = max((piece.end for lane in lanes for piece in lane.slices), default=1.0)
    seconds = max(seconds, 1e-6)
    left = 16 + LETTER * max((len(lane.name) for lane in lanes), default=0)
    top, scale = 54, (WIDTH - left - 24) / seconds
    bottom = top + ROW * len(lanes)

    def x(moment):
        return left + min(max(moment, 0), seconds) * scale

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 30}" width="{WIDTH}" role="img"'
             f' aria-label={quoteattr(title)} font-family="ui-monospace, monospace" font-size="11">',
             f'<rect width="{WIDTH}" height="{bottom + 30}" fill="#fff"/>',
             f'<text x="8" y="18" font-size="14" font-weight="bold">{escape(title)}</text>']
    at = 8
    for colour, word in kinds.values():
        parts.append(f'<rect x="{at}" y="28" width="11" height="11" fill="{colour}"/>'
                     f'<text x="{at + 16}" y="38">{escape(word)}</text>')
        at += 34 + LETTER * len(word)
    for moment in ticks(seconds):
        parts.append(f'<path d="M{x(moment):.1f} {top}V{bottom + 4}" stroke="#ddd"/>'
                     f'<text x="{x(moment):.1f}" y="{bottom + 18}" text-anchor="middle">{moment:.6g} s</text>')
    for row, lane in enumerate(lanes):
        y = top + ROW * row
        weight = "" if lane.slices else ' font-weight="bold"'
        parts.append(f'<text x="8" y="{y + 14}"{weight}>{escape(lane.name)}</text>')
        for piece in lane.slices:
            wide = max(x(piece.end) - x(piece.begin), 0.6)
            parts.append(f'<rect x="{x(piece.begin):.2f}" y="{y + 3}" width="{wide:.2f}" height="{BAR}"'
                         f' fill="{kinds[piece.kind][0]}"><title>{escape(piece.text)}: {piece.begin:.6f} to {piece.end:.6f} s'
                         '</title></rect>')
            if piece.text and LETTER * len(piece.text) + 6 < wide:
                parts.append(f'<text x="{x(piece.begin) + 4:.2f}" y="{y + 14}" pointer-events="none">'
                             f'{escape(piece.text)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
