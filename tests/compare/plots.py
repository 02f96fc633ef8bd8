"""Plots as SVG, drawn by gnuplot: lines and horizontal bars, each figure with its lowest and highest value."""
import html
import re
import shutil
import subprocess
from dataclasses import dataclass

# Colours that the colour-blind can tell apart (Okabe and Ito). A stage has the same one everywhere.
COLOURS = {1: "#000000", 2: "#e69f00", 3: "#56b4e9", 4: "#009e73", 5: "#0072b2", 6: "#d55e00"}
TALKS, OTHERS = "#cc79a7", "#999999"
DASHES = "1", "(8,4)", "(2,3)", "(8,3,2,3)"
POINTS = 7, 5, 9, 13


class Missing(Exception):
    """The plots need something that is not installed, or that fails."""


def want_gnuplot():
    if not shutil.which("gnuplot"):
        raise Missing("gnuplot, which draws the plots, is not installed (make deps-all installs it)")


def quoted(text):
    return "'" + str(text).replace("'", "''") + "'"


def gnuplot(title, height, commands, data):
    """An SVG, 960 pixels wide and `height` high; `data` are the rows of $d0, $d1 and so on."""
    blocks = [f"$d{number} << EOD\n" + "".join(" ".join(map(str, row)) + "\n" for row in rows) + "EOD"
              for number, rows in enumerate(data)]
    script = "\n".join([f"set terminal svg noenhanced size 960,{height} font 'sans-serif,12' background '#ffffff'", *blocks,
                        *commands])
    drawn = subprocess.run(["gnuplot"], input=script, check=False, capture_output=True, encoding="utf-8")
    if drawn.returncode:
        raise Missing(f"gnuplot can't draw {title}: {drawn.stderr.strip()}")
    svg = re.sub(r"^<\?xml.*?\?>\s*", "", drawn.stdout)
    return svg.replace("<title>Gnuplot</title>", f"<title>{html.escape(title)}</title>")


@dataclass(frozen=True)
class Line:
    label: str
    colour: str
    points: list        # pairs of x and a summary
    number: int = 0     # among the variants of its stage


def lines_of_stages(stages, points_of):
    """A line for each; the variants of one stage differ in their dashes."""
    seen, found = {}, []
    for stage in stages:
        seen[stage.number] = seen.get(stage.number, -1) + 1
        found.append(Line(stage.title, COLOURS[stage.number], points_of(stage.title), seen[stage.number]))
    return found


def plot_lines(title, panels, settings):
    """Lines with error bars from the lowest to the highest, in panels side by side; a panel is a title and its lines."""
    panels = [(name, [line for line in lines if line.points]) for name, lines in panels if any(line.points for line in lines)]
    names = 15 * max((len(lines) for _, lines in panels), default=0)     # height of the key, below the panels
    height = 395 + names
    commands, data = [*settings, "set grid lc '#dddddd'", "set border 3", "set tics nomirror out",
                      "set key at graph 0, graph -0.24 left top Left reverse samplen 3 maxcols 1 font ',10'",
                      f"set multiplot layout 1,{max(len(panels), 1)} "
                      f"margins 0.09,0.98,{(75 + names) / height:.3f},{1 - 34 / height:.3f} spacing 0.09"], []
    for name, lines in panels:
        parts = []
        for line in lines:
            parts.append(f"$d{len(data)} using 1:2:3:4 with yerrorlines lc rgb '{line.colour}' dt {DASHES[line.number]} lw 1.5 "
                         f"pt {POINTS[line.number]} ps 0.6 title {quoted(line.label)}")
            data.append([(x, *spread) for x, spread in line.points])
        commands += [f"set title {quoted(name)}", "plot " + ", ".join(parts)]
    return gnuplot(title, height, commands, data)


def plot_bars(title, labels, panels):
    """Horizontal bars, a row for each label (with its colour); a panel is a title, settings, and the summaries by label."""
    panels = [(name, settings, summaries) for name, settings, summaries in panels if any(summaries.values())]
    height = 80 + 22 * len(labels)
    left = 30 + 6.6 * max(len(label) for label, _ in labels)
    commands, data = ["unset key", "set border 3", "set tics nomirror out", "set grid x lc '#dddddd'", "set style fill solid",
                      f"set yrange [{len(labels) - 0.4}:-0.6]",
                      f"set multiplot layout 1,{max(len(panels), 1)} "
                      f"margins {left / 960:.3f},0.975,{44 / height:.3f},{1 - 34 / height:.3f} spacing 0.03"], []
    ticks = "set ytics (" + ", ".join(f"{quoted(label)} {row}" for row, (label, _) in enumerate(labels)) + ")"
    for number, (name, settings, summaries) in enumerate(panels):
        begin = min(spread[1] for spread in summaries.values() if spread) / 2 if "set logscale x" in settings else 0
        rows = [(row, *summaries[label], int(colour[1:], 16)) for row, (label, colour) in enumerate(labels) if summaries[label]]
        commands += [f"set title {quoted(name)} font ',11'", ticks if number == 0 else "unset ytics", "unset logscale",
                     f"set xrange [{begin}:*]", *settings,
                     f"plot $d{number} using 2:1:({begin}):2:($1-0.35):($1+0.35):5 with boxxyerror lc rgb variable, "
                     f"$d{number} using 2:1:3:4 with xerrorbars pt 0 lc rgb '#444444'"]
        data.append(rows)
    return gnuplot(title, height, commands, data)
