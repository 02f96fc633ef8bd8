"""Holds the book to its word: `make tutorial-check`.

Each page is looked at by itself: its consoles are played (play.py), its C++ listings stand in the source word for word, its
figures are those of the experiments (figures.py), its links lead somewhere, what it says of `make` is there, and the checks of
its exercises are proved. The last line is `N passed, N failed`.
"""
import argparse
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import figures
from pages import blocks, commands, headings, links, prose

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
AT_ONCE = 2


def pages():
    found = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [Path(page) for page in found.splitlines()]


# Each check returns what is wrong with a page, a line each.

def wrong_listings(page):
    """A C++ listing begins with a comment that names its source; `// …` in it stands for what it leaves out."""
    for block in blocks((ROOT / page).read_text()):
        if block.language in ("cpp", "c++"):
            source = re.fullmatch(r"// ([\w./]+)", block.lines[0]) if block.lines else None
            if not source or not (ROOT / source[1]).is_file():
                yield f"line {block.line}: the listing does not begin with its source, as in: // common/serve.hpp"
            elif not stands_in("\n".join(block.lines[1:]), (ROOT / source[1]).read_text()):
                yield f"line {block.line}: this does not stand in {source[1]} word for word"


def stands_in(listing, source):
    """Whether the pieces of the listing stand in the source, as whole lines and in their order."""
    at = 0
    for piece in re.split(r"^ *// …\n?", listing, flags=re.MULTILINE):
        at = f"\n{source}\n".find("\n" + piece.strip("\n") + "\n", at)
        if at < 0:
            return False
    return bool(listing.strip())


def unmeasured_figures(page):
    """The figures in a chapter's tables are those of the experiments."""
    if page == Path("README.md") or page.parts[0] == "tests":      # these have tables of other things
        return
    text = (ROOT / page).read_text()
    renewed, unknown = figures.renewed(text)
    yield from (f"nobody has measured {row}" for row in unknown)
    if renewed != text:
        yield "other figures were measured: python3 tests/tutorial/figures.py"


def dead_links(page):
    for link in links((ROOT / page).read_text()):
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


def unknown_targets(page):
    text = (ROOT / page).read_text()
    typed = [line[2:] for block in blocks(text) for line in block.lines if line.startswith("$ ")]
    for command in [*commands(text), *typed]:
        made = re.match(r"make(?: [A-Z]+=\S+)* ([a-z][\w-]*)", command)
        if made and made[1] not in targets():
            yield f"make has no target {made[1]}"


@lru_cache
def targets():
    database = subprocess.run(["make", "-pRrq", "--no-print-directory"], cwd=ROOT, check=False, capture_output=True, text=True)
    return set(re.findall(r"^([\w-]+)::?(?: |$)", database.stdout, re.MULTILINE))


def false_transcripts(page, patience=300):
    text = (ROOT / page).read_text()
    there = len(re.findall(r"^\$ ", text, re.MULTILINE))
    consoles = [block for block in blocks(text) if block.language == "console"]
    for terminal in {block.terminal for block in consoles if block.terminal}:
        if not re.search(rf"\b{terminal}\b", prose(text)):
            yield f"the page nowhere speaks of terminal {terminal}"
    if consoles or there:
        done = subprocess.run([sys.executable, HERE / "play.py", page, str(patience)], cwd=ROOT, check=False,
                              capture_output=True, text=True)
        last = (done.stdout.splitlines() or [""])[-1]
        if done.returncode:
            yield done.stderr.strip()
        elif last != f"{there} commands played":
            yield f"the page has {there} commands, but: {last}"
    elif page.parts[0].startswith("stage") or page == Path("README.md"):
        yield "nothing on it can be played"


def unproved_exercises(page):
    """A chapter names each of its exercises once, in their order, and the check of each is proved with the solution."""
    chapter = re.match(r"stage(\d)_", page.parts[0])
    if not chapter:
        return
    named = re.findall(r"`make exercise-([\d-]+)`", (ROOT / page).read_text())
    solutions = sorted(file.stem for file in ROOT.glob(f"tests/exercises/solutions/{chapter[1]}-*.patch"))
    if named != solutions or not 3 <= len(named) <= 5:
        yield f"it has the exercises {named}, and there are solutions of {solutions}"
    for name in named:
        done = subprocess.run([sys.executable, ROOT / "tests/exercises/check.py", "--prove", name], cwd=ROOT, check=False,
                              capture_output=True, text=True)
        if done.returncode:
            yield done.stderr.strip()


ABOUT_THE_TEXT = wrong_listings, unmeasured_figures, dead_links, unknown_targets


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", type=Path, metavar="PAGE", help="only these; else all that git knows")
    chosen = parser.parse_args().pages or pages()
    jobs = [(page, check) for page in chosen for check in (*ABOUT_THE_TEXT, unproved_exercises, false_transcripts)]
    failed = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for (page, check), wrong in zip(jobs, pool.map(lambda job: list(job[1](job[0])), jobs)):
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
