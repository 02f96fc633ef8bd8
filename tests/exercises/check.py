"""Checks whether an exercise is solved: `make exercise-3-2`.

    python3 tests/exercises/check.py 3-2            builds the chapter's program, and tests it
    python3 tests/exercises/check.py --hint 3-2     prints a hint
    python3 tests/exercises/check.py --prove 3-2    proves the check: it fails on the code as it is without giving the answer
                                                    away, and passes on a solution

The status is 0 if the exercise is solved, or its check proved. The first line says so, or what was seen instead.
"""
import argparse
import ast
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

from exercises import HERE, ROOT, build, exercise_of
from harness.checks import Failure
from harness.server import Program
from harness.stages import plain
from play import copy_of_the_sources, network_of_its_own

# Seconds to wait for what is expected. If the exercise is not solved it may never come; in a proof the machine may be slow.
PATIENCE, OF_A_PROOF = 20, 120


def conversation(notes):
    """What the clients did, in a reader's words, such as `client 2 heard: fib: 8`. The harness notes a client by its port and
    bytes as Python writes them."""
    words = {"sent": "sent: ", "came": "heard: ", "half-closes": "sent no more", "resets": "reset its connection"}
    numbers = {}
    for note in notes:
        what = re.fullmatch(r"\[(\d+)\] (\S+) (b'[^']*'|b\"[^\"]*\")", note)
        if what and what[2] in words:
            number = numbers.setdefault(what[1], len(numbers) + 1)
            told = ast.literal_eval(what[3]).decode(errors="replace").splitlines()
            yield f"client {number} {words[what[2]]}{' | '.join(told)}" + "the end" * (what[2] == "came" and not told)
        else:
            yield note


def seen_instead(name, patience):
    """What was seen instead of a solution: the reason in one line, then who said what. None if the exercise is solved."""
    program = Program(plain(int(name[0])), lambda stage: str(ROOT / stage.name / stage.name), patience=patience)
    try:
        build(f"stage{name[0]}")
        exercise_of(name).check(program)
        return None
    except (Failure, OSError) as failure:
        first, *more = str(failure).splitlines()
        if len(more) <= 2:      # as expect() says it: about what, what was expected, what came
            first, more = "; ".join([first, *map(str.strip, more)]), []
        logs = [["the server's log:", *server.log().splitlines()[-10:]] for server in program.servers if server.log()]
        return "\n".join([first, *(f"    {line}" for line in [*more, *conversation(program.notes), *sum(logs, [])])])
    finally:
        program.clean_up()


def tell(name, patience):
    network_of_its_own()        # the reader's own server may have port 9999
    print("Building and trying your server; this may take a minute …", file=sys.stderr, flush=True)
    instead = seen_instead(name, patience)
    if instead:
        sys.exit(f"exercise {name}: not yet: {instead}")
    print(f"exercise {name}: solved", *filter(None, [exercise_of(name).explanation]), sep="\n")


def question(name):
    """What the chapter asks: the text of the exercise, which ends with its command."""
    chapter = next(ROOT.glob(f"stage{name[0]}_*/README.md")).read_text()
    before = chapter.partition(f"`make exercise-{name}`")[0]
    return re.split(r"^\d\. ", before, flags=re.MULTILINE)[-1]


def prove(name):
    """Raises Failure unless the check fails on the code as it is, and passes on the solution, and nothing that is shown
    before it is solved gives the answer away."""
    with tempfile.TemporaryDirectory() as directory:
        def expect_line(line, about, *command):
            done = subprocess.run(command, cwd=directory, check=False, stdin=subprocess.DEVNULL, text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            if f"exercise {name}: {line}" not in done.stdout:
                raise Failure(f"{about}\n{done.stdout}")
            return done.stdout

        exercise = exercise_of(name)
        copy_of_the_sources(Path(directory))
        failed = expect_line("not yet: ", "the code as it is should not be a solution:", "make", f"exercise-{name}")
        reason = next(line for line in failed.splitlines() if line.startswith("exercise "))
        for what, text in ("the failing check", reason), ("the hint", exercise.hint):
            given_away = exercise.given_away(text, question(name))
            if given_away:
                raise Failure(f"{what} gives the answer away: {given_away}\n{text}")
        subprocess.run(["git", "apply", HERE / "solutions" / f"{name}.patch"], cwd=directory, check=True)
        expect_line("solved\n", "the solution should be one:",
                    sys.executable, "tests/exercises/check.py", "--patience", str(OF_A_PROOF), name)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", metavar="N-M")
    parser.add_argument("--prove", action="store_true")
    parser.add_argument("--hint", action="store_true")
    parser.add_argument("--patience", type=float, default=PATIENCE, metavar="SECONDS")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)       # so that what it has started is ended
    if options.hint:
        return print(textwrap.fill(exercise_of(options.name).hint, 100))
    if not options.prove:
        return tell(options.name, options.patience)
    try:
        prove(options.name)
    except (Failure, subprocess.CalledProcessError) as failure:
        sys.exit(f"exercise {options.name}: {failure}")
    print(f"exercise {options.name}: proved")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted")
