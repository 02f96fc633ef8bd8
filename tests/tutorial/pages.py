"""The parts of a page: its fenced blocks, headings, links and commands, and what its consoles have you type."""
import re
from dataclasses import dataclass, field

FENCE = re.compile(r"^```(.*)$")
# A server's reply begins like this. Any other line of a conversation was typed.
REPLY = re.compile(r"[a-z]+: |bye:|\[[ x]\] |HTTP/|[A-Z][\w-]+: |…|\{|$")
CONVERSES = re.compile(r"(nc|telnet)( [^|<>;&]*)?")     # a command that reads what is typed


@dataclass
class Block:
    """The lines between two fences."""
    info: str           # after the first fence: the language, and for a console the name of its terminal
    line: int           # of that fence
    lines: list = field(default_factory=list)

    @property
    def language(self):
        return self.info.partition(" ")[0]

    @property
    def terminal(self):
        return self.info.partition(" ")[2]


@dataclass
class Step:
    """Something that is typed, and what is shown then."""
    line: int
    typed: str = None           # None: an earlier block typed what leads to the output
    to_shell: bool = False
    shown: list = field(default_factory=list)


def blocks(text):
    """The fenced blocks of a page."""
    found, inside = [], False
    for number, line in enumerate(text.splitlines(), 1):
        fence = FENCE.match(line)
        if fence:
            if not inside:
                found.append(Block(fence[1].strip(), number))
            inside = not inside
        elif inside:
            found[-1].lines.append(line)
    return found


def prose(text):
    """The page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def section(text, title):
    """The part of a page that has this title, up to the next one of its rank. Empty if there is none."""
    rank = title.partition(" ")[0]
    found, inside, fenced = [], False, False
    for line in text.splitlines(keepends=True):
        fenced ^= line.startswith("```")
        if re.match(rf"#{{1,{len(rank)}}} ", line) and not fenced:
            inside = line.rstrip() == title
        if inside:
            found.append(line)
    return "".join(found)


def headings(text):
    """The anchors of a page's headings, which links name."""
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
            for title in re.findall(r"^#+ (.*)$", prose(text), re.MULTILINE)}


def links(text):
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", prose(text)))


def commands(text):
    """The texts between backticks in the prose, among them its commands."""
    return re.findall(r"`([^`]+)`", prose(text))


def steps(block, converses):
    """The steps of a console block, and `converses` after it: whether its terminal runs a program that reads lines."""
    found = [Step(block.line)]
    for number, line in enumerate(block.lines, block.line + 1):
        last = found[-1]
        # The naive server answers a number with a number.
        number_for_number = line.isdigit() and (last.typed or "").isdigit() and not last.shown
        if line.startswith("$ "):
            found.append(Step(number, line[2:], to_shell=True))
            converses = bool(CONVERSES.fullmatch(line[2:]))
        elif line in ("^C", "^D"):
            found.append(Step(number, line))
        elif converses and not REPLY.match(line) and not number_for_number:
            found.append(Step(number, line))
        else:
            last.shown.append(line)
    return (found if found[0].shown else found[1:]), converses
