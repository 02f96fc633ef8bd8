"""The poster: the four cases of next() in stages 1, 5 and 6 side by side, in the words of the source. Where a stage does not
say what stage 1 says, it is bold.

    python3 tests/tutorial/poster.py >tests/tutorial/poster.svg
"""
import difflib
import re
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
STAGES = {"Stage 1 waits in the call": "common/serve.hpp",
          "Stage 5 remembers, and lets epoll say when": "stage5_epoll/epoll_loop.cpp",
          "Stage 6 says co_await": "stage6_coroutines/server.cpp"}
CASES = "read", "write", "work", "close"
LETTER, LINE, GAP = 7.3, 18, 28     # pixels: a letter's width, a line's height, what lies between two columns


def cases(path):
    """The lines of each case, without comments and without what all lines are indented by."""
    text = (ROOT / path).read_text()
    switch = re.search(r"\n( *)switch \([\w.]*session\.next\(\)\) \{\n(.*?)\n\1\}", text, re.DOTALL)[2]
    found = {}
    for line in switch.splitlines():
        case = re.match(r" *case Next::(\w+):", line)
        if case:
            lines = found[case[1]] = []
        if not line.lstrip().startswith("//"):
            lines.append(re.sub(r" *// .*", "", line))
    return {case: without_indentation(lines) for case, lines in found.items()}


def without_indentation(lines):
    least = min(len(line) - len(line.lstrip()) for line in lines)
    return [line[least:] for line in lines]


def words(text):
    return re.findall(r"\s+|\w+|[^\w\s]", text)


def marked(lines, first):
    """Pairs of a piece of text and whether it is new, for each line."""
    mine, theirs = words("\n".join(lines)), [word for word in words("\n".join(first)) if not word.isspace()]
    solid = [word for word in mine if not word.isspace()]
    same = set()
    for block in difflib.SequenceMatcher(None, theirs, solid, autojunk=False).get_matching_blocks():
        same.update(range(block.b, block.b + block.size))
    found, number = [[]], 0
    for word in mine:
        if word.isspace():
            for piece in re.split(r"(\n)", word):
                if piece == "\n":
                    found.append([])
                else:
                    found[-1].append((piece, False))
            continue
        found[-1].append((word, number not in same))
        number += 1
    return found


def poster():
    columns = {title: cases(path) for title, path in STAGES.items()}
    widths = [LETTER * max(len(line) for lines in column.values() for line in lines) + GAP for column in columns.values()]
    heights = [max(len(column[case]) for column in columns.values()) for case in CASES]
    width, height = sum(widths) + GAP, 110 + LINE * (sum(heights) + len(CASES))
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" role="img" aria-label="The four cases"'
             ' font-family="ui-monospace, monospace" font-size="12">',
             f'<rect width="{width:.0f}" height="{height}" fill="#fff"/>',
             f'<text x="{GAP}" y="36" font-size="22" font-weight="bold" font-family="sans-serif">'
             "What does the conversation need next? Four cases, three ways to wait</text>"]
    left, first = GAP, next(iter(columns.values()))
    for (title, column), wide in zip(columns.items(), widths):
        parts.append(f'<text x="{left}" y="72" font-size="15" font-weight="bold" font-family="sans-serif">{escape(title)}</text>')
        top = 100
        for case, high in zip(CASES, heights):
            for number, line in enumerate(marked(column[case], first[case])):
                spans = "".join(f'<tspan font-weight="bold" fill="#b3261e">{escape(text)}</tspan>' if new else escape(text)
                                for text, new in line)
                parts.append(f'<text x="{left:.0f}" y="{top + LINE * number}" xml:space="preserve">{spans}</text>')
            top += LINE * (high + 1)
        left += wide
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    print(poster(), end="")
