"""The poster: the four cases of next() in stages 1, 5 and 6 under each other, as in the source. Words that differ from stage 1
are bold.

    python3 tests/tutorial/poster.py >build/poster.svg && mv build/poster.svg tests/tutorial/
"""
import difflib
import re
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SESSION = "common/protocol/session.hpp"
STAGES = {("Stage 1", "waits"): "common/sockets/serve.hpp",
          ("Stage 5", "epoll"): "stage5_epoll/epoll_loop.cpp",
          ("Stage 6", "co_await"): "stage6_coroutines/stackless.cpp"}
CASES = "read", "write", "work", "close"
WIDTH, EDGE, CODE = 900, 16, 104        # pixels: the poster, its margins, where the code begins
LINE, BETWEEN = 16, 8                   # pixels: a line's height, the gap between two stages
LETTER = 7.5                            # pixels: the greatest width of a letter of 12 pixels in a monospaced font
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328; white-space: pre } text.head { font-size: 20px; font-weight: bold }
text.stage { font-weight: bold } text.case { font: bold 14px ui-monospace, monospace }
text.code { font: 12px ui-monospace, monospace }
tspan { font-weight: bold; fill: #0a5a9c } .paper { fill: #ffffff } .band { fill: #eef1f4 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } tspan { fill: #79c0ff } .paper { fill: #0d1117 } .band { fill: #21262d }
}
"""


def cases(path):
    """The lines of each case, without comments and without their common indentation."""
    text = (ROOT / path).read_text()
    switch = re.search(r"\n( *)switch \([\w.]*session\.next\(\)\) \{\n(.*?)\n\1\}", text, re.DOTALL)[2]
    found = {}
    for line in switch.splitlines():
        case = re.match(r" *case Next::(\w+):", line)
        if case:
            lines = found[case[1]] = []
        if not line.lstrip().startswith("//"):
            lines.append(re.sub(r" *// .*", "", line))
    return {case: without_indentation(inner(lines)) for case, lines in found.items()}


def inner(lines):
    """Without what all cases have: `case`, braces around the rest, and a `break` at its end."""
    first, *rest = lines
    if first.endswith("{"):
        rest.pop()
    return rest[:-1] if rest[-1].strip() == "break;" else rest


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
    stages = {title: cases(path) for title, path in STAGES.items()}
    first = next(iter(stages.values()))
    parts, y = [], 62
    for case in CASES:
        said = re.search(rf"^    {case},? +///< (.*)", (ROOT / SESSION).read_text(), re.MULTILINE)[1]
        parts.append(f'<rect y="{y}" width="{WIDTH}" height="26" class="band"/>'
                     f'<text x="{EDGE}" y="{y + 18}" class="case">{case}</text>'
                     f'<text x="{CODE}" y="{y + 18}">{escape(said)}</text>')
        y += 46
        for (stage, how), found in stages.items():
            parts.append(f'<text x="{EDGE}" y="{y}" class="stage">{stage}</text><text x="{EDGE}" y="{y + LINE}">{how}</text>')
            if LETTER * max(map(len, found[case])) > WIDTH - EDGE - CODE:
                raise ValueError(f"a line of {stage}, {case}, is too long for the poster")
            for number, line in enumerate(marked(found[case], first[case])):
                spans = "".join(f"<tspan>{escape(text)}</tspan>" if new else escape(text) for text, new in line)
                spans = re.sub("</tspan>( *)<tspan>", r"\1", spans)
                parts.append(f'<text x="{CODE}" y="{y + LINE * number}" class="code">{spans}</text>')
            y += LINE * max(len(found[case]), 2) + BETWEEN
    head = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" role="img"'
            ' aria-label="The four cases in stages 1, 5 and 6" xml:space="preserve">',
            f'<style>{STYLE}</style><rect width="{WIDTH}" height="{y}" class="paper"/>',
            f'<text x="{EDGE}" y="28" class="head">What does the conversation need next?</text>',
            f'<text x="{WIDTH - EDGE}" y="28" text-anchor="end"><tspan>bold</tspan>: what differs from stage 1</text>',
            f'<text x="{EDGE}" y="49">Four cases, three ways to wait: stage 1 waits in the call, stage 5 remembers and lets '
            'epoll say when, stage 6 says co_await.</text>']
    return "\n".join([*head, *parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    print(poster(), end="")
