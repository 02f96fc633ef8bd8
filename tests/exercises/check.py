"""Whether an exercise is solved: `make exercise-3-2`.

    python3 tests/exercises/check.py 3-2            builds the chapter's program, and looks what it does
    python3 tests/exercises/check.py --prove 3-2    proves the check: it fails on the code as it is, and passes on a solution

The status is 0 if it is solved, or proved; the last line says so, or what was seen instead.
"""
import argparse
import importlib
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from exercises import CHECKS, HERE, ROOT, build
from harness import Failure, Program, report
from play import copy_of_the_sources, network_of_its_own
from stages import plain

# Seconds for whatever is expected. Where an exercise is not solved it may never come; where it is, the machine may be slow.
PATIENCE, OF_A_PROOF = 20, 120


def seen_instead(name, patience):
    """None if it is solved."""
    importlib.import_module(f"stage{name[0]}")      # adds its checks to CHECKS
    program = Program(plain(int(name[0])), lambda stage: str(ROOT / stage.name / stage.name), patience=patience)
    try:
        build(f"stage{name[0]}")
        CHECKS[name](program)
        return None
    except Exception as failure:
        return report(failure, program)
    finally:
        program.clean_up()


def tell(name, patience):
    network_of_its_own()        # a server of the reader's may have port 9999
    instead = seen_instead(name, patience)
    if instead:
        sys.exit(f"exercise {name}: not yet: {instead}")
    print(f"exercise {name}: solved", *filter(None, [CHECKS[name].__doc__]), sep="\n")     # some have a word on what was seen


def prove(name):
    """Raises Failure unless the check tells the code as it is from a solution."""
    with tempfile.TemporaryDirectory() as directory:
        def expect_line(line, about, *command):
            done = subprocess.run(command, cwd=directory, check=False, stdin=subprocess.DEVNULL, text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            if f"exercise {name}: {line}" not in done.stdout:
                raise Failure(f"{about}\n{done.stdout}")

        copy_of_the_sources(Path(directory))
        expect_line("not yet", "the code as it is should not be a solution:", "make", f"exercise-{name}")
        subprocess.run(["git", "apply", HERE / "solutions" / f"{name}.patch"], cwd=directory, check=True)
        expect_line("solved\n", "the solution should be one:",
                    sys.executable, "tests/exercises/check.py", "--patience", str(OF_A_PROOF), name)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", metavar="N-M")
    parser.add_argument("--prove", action="store_true")
    parser.add_argument("--patience", type=float, default=PATIENCE, metavar="SECONDS")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)       # what it has started is ended in any case
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
