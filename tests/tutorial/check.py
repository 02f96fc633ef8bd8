"""Checks that the pages are true: `make tutorial-check`.

Each page is checked by itself. Its consoles are replayed (play.py). Its C++ listings and diffs must be those of the source,
and its figures those of the experiments (figures.py). Its links and its targets of `make` must exist. A chapter begins with
its naive server, names a real report of each flaw, and the checks of its exercises are proved. The last line is
`N passed, N failed`.
"""
import argparse
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import figures
from pages import blocks, commands, headings, links, prose, section

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
AT_ONCE = 2


def pages():
    found = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [Path(page) for page in found.splitlines()]


def is_chapter(page):
    return page.parts[0].startswith("stage")


# Each check yields what is wrong with this text of a page, a line for each fault.

def wrong_listings(page, text):
    """A C++ listing begins with a comment that names its source, a diff with its two sources. `// …` marks an omission."""
    for block in blocks(text):
        if block.language in ("cpp", "c++"):
            source = re.fullmatch(r"// ([\w./]+)", block.lines[0]) if block.lines else None
            if not source or not (ROOT / source[1]).is_file():
                yield f"line {block.line}: the listing does not begin with its source, as in: // common/sockets/serve.hpp"
            elif not stands_in("\n".join(block.lines[1:]), (ROOT / source[1]).read_text()):
                yield f"line {block.line}: this is not in {source[1]} word for word"
        elif block.language == "diff":
            sources = re.match(r"--- (\S+)\n\+\+\+ (\S+)\n", "\n".join(block.lines))
            if not sources or not all((ROOT / source).is_file() for source in sources.groups()):
                yield f"line {block.line}: the diff does not begin with its sources, as in: --- stage1_sync/naive.cpp"
            elif not stands_in("\n".join([*block.lines, END]), difference(*sources.groups())):
                yield f"line {block.line}: this is not what diff -U1 says of {' and '.join(sources.groups())}"


END = "the end of the diff"     # so that leaving it out without `// …` is a fault


def difference(old, new):
    """The diff(1) of two files, with one line of context. Trailing blanks are removed, because pages don't have them."""
    done = subprocess.run(["diff", "-U1", "--label", old, "--label", new, old, new], cwd=ROOT, check=False, capture_output=True,
                          text=True)
    return "\n".join([*map(str.rstrip, done.stdout.splitlines()), END])


def stands_in(listing, source):
    """Whether the source has the pieces of the listing, as whole lines and in the same order."""
    at = 0
    for piece in re.split(r"^ *// …\n?", listing, flags=re.MULTILINE):
        at = f"\n{source}\n".find("\n" + piece.strip("\n") + "\n", at)
        if at < 0:
            return False
    return bool(listing.strip())


def technique_not_shown(page, text):
    """A chapter begins with its naive server, whole, and with what has changed since the chapter before."""
    if not is_chapter(page):
        return
    shown = ["\n".join(block.lines) for block in blocks(section(text, "## The technique"))]
    naive = page.parent / "naive.cpp"
    if f"// {naive}\n{(ROOT / naive).read_text()}".rstrip() not in shown:
        yield f"its technique does not show the whole of {naive}"
    before = next(ROOT.glob(f"stage{int(page.parts[0][5]) - 1}_*/naive.cpp"), None)
    if before and not any(each.startswith(f"--- {before.relative_to(ROOT)}\n+++ {naive}\n") for each in shown):
        yield f"its technique does not show the difference between {before.relative_to(ROOT)} and {naive}"


IN_THE_WILD = re.compile(r"^\*\*In the wild:\*\* \[([\w.-]+/[\w.-]+)#(\d+)\]"
                         r"\(https://github\.com/\1/(?:issues|pull)/\2\): \S", re.MULTILINE)


def flaws_without_a_report(page, text):
    """Each flaw under "Break it" comes with one real report, by repository and number."""
    if not is_chapter(page):
        return
    _, *flaws = re.split(r"^### ", section(text, "## Break it"), flags=re.MULTILINE)
    if not flaws:
        yield "it breaks nothing"
    for flaw in flaws:
        if len(IN_THE_WILD.findall(flaw)) != 1:
            yield (f"{flaw.splitlines()[0]!r} has not exactly one report, as in: "
                   "**In the wild:** [owner/name#1](https://github.com/owner/name/issues/1): what happened")


def unmeasured_figures(page, text):
    """The figures in a chapter's tables are those of the experiments."""
    if page == Path("README.md") or page.parts[0] in ("common", "tests"):    # their tables show other things
        return
    renewed, unknown = figures.renewed(text)
    yield from (f"no experiment has measured {row}" for row in unknown)
    if renewed != text:
        yield "the experiments measured other figures; to update the page: python3 tests/tutorial/figures.py"


def dead_links(page, text):
    for link in links(text):
        path, _, anchor = link.partition("#")
        if re.match(r"https?://", link):
            continue
        target = (ROOT / page).parent / path if path else ROOT / page
        if target.is_dir() and anchor:
            target /= "README.md"
        if not target.exists():
            yield f"there is no {path}"
        elif anchor and anchor not in headings(target.read_text()):
            yield f"{path or 'the page'} has no heading #{anchor}"


def unknown_targets(page, text):
    typed = [line[2:] for block in blocks(text) for line in block.lines if line.startswith("$ ")]
    for command in [*commands(text), *typed]:
        made = re.match(r"make(?: [A-Z]+=\S+)* ([a-z][\w-]*)", command)
        if made and made[1] not in targets():
            yield f"make has no target {made[1]}"


@lru_cache
def targets():
    database = subprocess.run(["make", "-pRrq", "--no-print-directory"], cwd=ROOT, check=False, capture_output=True, text=True)
    return set(re.findall(r"^([\w-]+)::?(?: |$)", database.stdout, re.MULTILINE))


def false_transcripts(page, text, patience=300):
    there = len(re.findall(r"^\$ ", text, re.MULTILINE))
    consoles = [block for block in blocks(text) if block.language == "console"]
    for terminal in {block.terminal for block in consoles if block.terminal}:
        if not re.search(rf"\b{terminal}\b", prose(text)):
            yield f"the text never mentions terminal {terminal}"
    if consoles or there:
        done = subprocess.run([sys.executable, HERE / "play.py", page, str(patience)], cwd=ROOT, check=False,
                              capture_output=True, text=True)
        last = (done.stdout.splitlines() or [""])[-1]
        if done.returncode:
            yield done.stderr.strip()
        elif last != f"{there} commands played":
            yield f"the page has {there} commands, but: {last}"
    elif is_chapter(page) or page == Path("README.md"):
        yield "it has no console to play"


def unproved_exercises(page, text):
    """A chapter names each of its exercises once, in their order, and the check of each is proved with the solution."""
    if not is_chapter(page):
        return
    named = re.findall(r"`make exercise-([\d-]+)`", text)
    solutions = sorted(file.stem for file in ROOT.glob(f"tests/exercises/solutions/{page.parts[0][5]}-*.patch"))
    if named != solutions or not 3 <= len(named) <= 5:
        yield f"it names the exercises {named}, and there are solutions of {solutions}; it should have 3 to 5"
    for name in named:
        done = subprocess.run([sys.executable, ROOT / "tests/exercises/check.py", "--prove", name], cwd=ROOT, check=False,
                              capture_output=True, text=True)
        if done.returncode:
            yield done.stderr.strip()


ABOUT_THE_TEXT = (wrong_listings, technique_not_shown, flaws_without_a_report, unmeasured_figures, dead_links,
                  unknown_targets)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", type=Path, metavar="PAGE", help="only these pages (default: all that git knows)")
    chosen = parser.parse_args().pages or pages()
    jobs = [(page, check) for page in chosen for check in (*ABOUT_THE_TEXT, unproved_exercises, false_transcripts)]
    failed = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for (page, check), wrong in zip(jobs, pool.map(lambda job: list(job[1](job[0], (ROOT / job[0]).read_text())), jobs)):
            failed += bool(wrong)
            for what in wrong:
                print(f"{page}: {check.__name__.replace('_', ' ')}: {what}", flush=True)
    print(f"{len(jobs) - failed} passed, {failed} failed")
    return 1 if failed or not jobs else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted")
