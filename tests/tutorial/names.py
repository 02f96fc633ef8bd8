"""What differs from run to run: a page shows the process ids, task ids and times of one run, and a replay has others."""
import re

# These vary, but are equal wherever they are equal in the page: ids of tasks, processes and threads.
NAME = re.compile(r"\b(?=[0-9a-f]{0,7}[a-f])(?=[0-9a-f]{0,7}\d)[0-9a-f]{8}\b|(?<=[0-9a-f]{8})(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
                  r"|(?<=pid[ =])\d+|(?<=pid: )\d+|(?<=pid\":)\d+|(?<=thread=)\d+|(?<=\()\d+(?=\))|(?<=\] \[)\d+(?=\])"
                  r"|(?<=^\[\d\] )\d+", re.MULTILINE)
# These vary, and only their shape is checked: times, durations and counts.
SHAPES = (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}", r"\d+\.\d\dms", r"\d+m\d+\.\d+s", r"\d+ requests per second")
GAP = re.compile("|".join(SHAPES) + "|^…\n|…|  +|\t", re.MULTILINE)


class Names:
    """Maps the names in the page to ours."""

    def __init__(self):
        self.ours = {}

    def in_typed(self, line):
        """The line as it is to be typed here: with our names, also where the page has only the beginning of an id."""
        def ours(match):
            if match[0] in self.ours:
                return self.ours[match[0]]
            meant = [name for name in self.ours if len(match[0]) >= 4 and name.startswith(match[0])]
            return self.ours[meant[0]][:len(match[0])] if len(meant) == 1 else match[0]
        return re.sub("|".join([rf"\b{re.escape(name)}\b" for name in self.ours] + [r"\b[0-9a-f]{4,7}\b"]), ours, line)

    def match(self, expected, came):
        """Whether what came is what the page shows. If so, remembers the new names."""
        new = {}        # the page's name: its group
        pattern = ""
        for piece, name, gap in pieces(expected + "\n", self.ours):
            pattern += re.escape(piece)
            if name in self.ours:
                pattern += rf"\b{self.ours[name]}\b"
            elif name in new:
                pattern += f"(?P={new[name]})"
            elif name:
                new[name] = f"name{len(new)}"
                pattern += rf"(?P<{new[name]}>-[-0-9a-f]+|\b\d+\b|\b[0-9a-f]{{8}}\b)"
            pattern += of_gap(gap)
        match = re.fullmatch(pattern, came + "\n")
        if not match:
            return False
        found = {name: match[group] for name, group in new.items()}
        if len({*found.values(), *self.ours.values()}) < len(found) + len(self.ours):
            return False        # the page has two names for what is one here
        self.ours.update(found)
        return True


def pieces(expected, known):
    """Cuts the text into triples: what is the same in each run, then a name or None, and a gap or None."""
    again = "".join(rf"|\b{re.escape(name)}\b" for name in known if name.isdigit())
    token = re.compile(f"(?P<name>{NAME.pattern}{again})|(?P<gap>{GAP.pattern})", re.MULTILINE)
    at = 0
    for match in token.finditer(expected):
        yield expected[at:match.start()], match["name"], match["gap"]
        at = match.end()
    yield expected[at:], None, None


def of_gap(gap):
    """The regular expression for a gap."""
    if gap is None:
        return ""
    if gap.startswith("…"):
        return {"…": ".*", "…\n": "(?:.*\n)*"}[gap]
    shape = next((shape for shape in SHAPES if re.fullmatch(shape, gap)), None)
    return shape or r"[ \t]+"       # columns are as wide as their contents
