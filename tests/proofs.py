"""Proofs that the suite can be trusted: it passes a server that is right, and finds each flaw of one that is not."""
import subprocess
import sys
from pathlib import Path

from fault_table import fault_table
from harness import CHECKS, Failure, Program, expect, expect_match, together
from stages import THEIRS

HERE = Path(__file__).resolve().parent
PARTS = "fib", "sleep", "count", "lines", "lesson", "disappear"     # what fib_server.py speaks

# Each flaw, and the check that is there to find it.
FLAWS = {
    "counts fib from zero": "fib: counts from one",
    "computes whatever is asked": "fib: refuses numbers out of range",
    "does not sleep": "sleep: takes the time it says",
    "writes its own number": "sleep: takes the time it says",
    "answers out of order": "sleep: what one client asks after a sleep is answered after it",
    "holds all clients while one sleeps":
        "lesson: a short sleep waits for others long ones only where they are as many as the servers",
    "counts itself": "count: counts what was answered but not itself",
    "counts each client alone": "count: includes others where memory is shared",
    "counts without a lock": "count: is exact after a storm from eight clients",
    "takes a chunk for a line": "lines: answers each of many lines in one segment",
    "drops an unterminated last line": "lines: what is left at half close is a last line",
    "forgets CR": "lines: takes cr lf as well and answers with lf",
    "forgets the newline": "lines: answers each of many lines in one segment",
    "keeps blanks": "lines: ignores blanks at both ends",
    "answers empty lines": "lines: ignores empty lines",
    "closes after an error": "lines: an error keeps the connection open",
    "does not know upper from lower case": "lines: commands are lower case",
    "does not quit": "lines: quit says bye and closes",
    "hangs up on a long line": "lines: a longer line is one error and is skipped",
    "hangs up on bytes that are not text": "lines: refuses bytes that are not utf 8",
    "dies of a reset": "disappear: between two requests",
}


def fib_server(flaw=None):
    return f"exec {sys.executable} {HERE / 'fib_server.py'} {{port}}" + (f" --broken '{flaw}'" if flaw else "")


def passes_what_is_right(one):
    """The check passes on the server without a flaw."""
    return one.run(Program(THEIRS, foreign=fib_server()))


def finds(flaw):
    """The check that is meant for the flaw fails on the server that has it."""
    meant = [one for one in CHECKS if one.name == FLAWS[flaw]]
    if len(meant) != 1:
        return f"there is no check {FLAWS[flaw]!r}"
    program = Program(THEIRS, foreign=fib_server(flaw), patience=3)
    if not meant[0].run(program):
        return f"{FLAWS[flaw]!r} passes"


def notices_a_failure_in_a_helper_thread():
    try:
        together(lambda: None, lambda: expect(1, 2))
    except Failure:
        return None
    return "the failure was lost"


def judges_a_stranger():
    """The whole way: `run.py --server` prints a verdict for each part, and its status and last line say the same."""
    def run(command, *options):
        finished = subprocess.run([sys.executable, str(HERE / "run.py"), *options, "--server", command], check=False,
                                  stdout=subprocess.PIPE, text=True, timeout=120)
        return finished.returncode, finished.stdout.splitlines()

    try:
        status, lines = run(fib_server(), "--parts", "fib,http")
        expect(status, 1)
        expect_match("\n".join(lines[-3:]),
                     r"fib: kept \((\d+) of \1\)\nhttp: not kept \(0 of \d+\): .+\n\1 passed, \d+ failed")
        status, lines = run(fib_server(), "--parts", "fib")
        expect((status, lines[-1]), (0, "4 passed, 0 failed"))
        status, lines = run(fib_server("counts fib from zero"), "--parts", "fib")
        expect(status, 1)
        expect_match(lines[-2], r"fib: not kept \(\d of 4\): .+")
        status, lines = run(fib_server(), "--only", "no such check")
        expect((status, lines[-1]), (1, "0 passed, 0 failed"))
    except Failure as failure:
        return str(failure)


def the_readme_tells_which_faults_are_tried():
    if fault_table() not in (HERE.parent / "README.md").read_text():
        return "its table is not what this prints: python3 tests/run.py --faults"


def proofs():
    """All proofs, as names and functions that return None or what is wrong."""
    found = [(f"passes what is right, {one.name}", lambda one=one: passes_what_is_right(one))
             for one in CHECKS if one.part in PARTS and not one.ours and one.only(THEIRS)]
    found += [(f"finds a server that {flaw}", lambda flaw=flaw: finds(flaw)) for flaw in FLAWS]
    return found + [("notices a failure in a helper thread", notices_a_failure_in_a_helper_thread),
                    ("the readme tells which faults are tried", the_readme_tells_which_faults_are_tried),
                    ("judges a stranger", judges_a_stranger)]
