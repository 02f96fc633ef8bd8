"""Writes the results: results.csv, results.md, the plots, and report.html with everything in one file.

Tables and plots are made from the figures in results.csv alone, so that every quoted figure can be checked against it.
"""
import csv
import datetime
import html
import io
import os
import re
import tempfile
from pathlib import Path

from experiments import bench
from sections import SECTIONS, Picture, Table, words

TITLE = "Six servers in the same experiments"
HEAD = "experiment", "who", "what", "parameters", "unit", "median", "low", "high", "repetitions", "remark"


def write(to, plan, figures, seconds, quick):
    """Writes all files aside first. Each is complete when it is moved into place, the report last."""
    sections = [section(plan, figures) for section in SECTIONS]
    made = f"`make compare{' QUICK=1' if quick else ''}` on {datetime.date.today()}, in {seconds / 60:.1f} minutes"
    head = [f"Made by {made}, on: {bench.machine()}.",
            words("""Everything was measured in rounds, in which the servers took turns. A figure is the median of its
                rounds, with the lowest and the highest in brackets if they differ. A ratio compares values of the same
                round. Absolute figures hold for this machine and this run only.""")]
    if figures.failed:
        head.append("**Failed, and not counted:** " + "; ".join(
            f"{who} ({experiment}): {why}" for (experiment, who), why in figures.failed.items()) + ".")
    with tempfile.TemporaryDirectory(dir=to, prefix=".") as staged:
        for section in sections:
            for picture in section.pictures():
                Path(staged, picture.file).write_text(picture.svg, encoding="utf-8")
        Path(staged, "results.csv").write_text(as_csv(figures), encoding="utf-8")
        Path(staged, "results.md").write_text(as_markdown(head, sections), encoding="utf-8")
        Path(staged, "report.html").write_text(as_html(head, sections), encoding="utf-8")
        for file in sorted(os.listdir(staged), key=lambda file: file == "report.html"):
            os.replace(Path(staged, file), to / file)


# ---- The formats ------------------------------------------------------------------------------------

def as_csv(figures):
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(HEAD)
    writer.writerows(figures.rows())
    return file.getvalue()


def as_markdown(head, sections):
    def block_of(block):
        if isinstance(block, Picture):
            return f"![{block.caption}]({block.file})\n"
        if isinstance(block, Table):
            remarks = f"\n{block.remarks}\n" if block.remarks else ""
            return f"{block.caption}\n\n{bench.table(block.head, block.rows)}{remarks}"
        return f"{block}\n"

    parts = [f"# {TITLE}\n", *[f"{text}\n" for text in head]]
    for section in sections:
        parts += [f"## {section.heading}\n", *map(block_of, section.blocks)]
    return "\n".join(parts)


STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 3rem; border-top: 1px solid #ccc; padding-top: 1.5rem; }
figure { margin: 1.5rem 0; } svg { max-width: 100%; height: auto; } figcaption, .caption { color: #555; }
.caption { margin: 1.5rem 0 .3rem; } .wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .8rem; white-space: nowrap; }
th, td { padding: .15rem .6rem; text-align: right; border-bottom: 1px solid #e5e5e5; }
th { white-space: normal; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; } .remarks { font-size: .8rem; color: #555; }
code { background: #f3f3f3; padding: 0 .2em; } summary { cursor: pointer; color: #0072b2; }
"""


def as_html(head, sections):
    parts = ["<!DOCTYPE html>", '<html lang="en">', "<head>", '<meta charset="utf-8">',
             '<meta name="viewport" content="width=device-width">', f"<title>{TITLE}</title>", f"<style>{STYLE}</style>",
             "</head>", "<body>", f"<h1>{TITLE}</h1>", *[f"<p>{inline(text)}</p>" for text in head]]
    for section in sections:
        parts += [f"<h2>{inline(section.heading)}</h2>", *[as_html_block(block) for block in section.blocks]]
    return "\n".join([*parts, "</body>", "</html>"]) + "\n"


def as_html_block(block):
    if isinstance(block, Picture):
        figure = f"<figure>{own_ids(block)}<figcaption>{inline(block.caption)}</figcaption></figure>"
        return f"<details><summary>{inline(block.caption)}</summary>{figure}</details>" if block.folded else figure
    if isinstance(block, Table):
        def row(cells, tag):
            return "<tr>" + "".join(f"<{tag}>{inline(cell)}</{tag}>" for cell in cells) + "</tr>"

        return (f'<p class="caption">{inline(block.caption)}</p><div class="wide"><table>{row(block.head, "th")}'
                + "".join(row(cells, "td") for cells in block.rows) + "</table></div>"
                + (f'<p class="remarks">{inline(block.remarks)}</p>' if block.remarks else ""))
    return f"<p>{inline(block)}</p>"


def inline(text):
    """Markdown's code and strong text in HTML."""
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))
    return re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", text)


def own_ids(picture):
    """The SVG with ids of its own in the page: gnuplot gives the same ids to every SVG."""
    stem = picture.file.partition(".")[0]
    return re.sub(r"""(\bid=["']|href=["']#|url\(#)""", rf"\g<1>{stem}_", picture.svg)
