"""What the exercises' modules need: to say that a function is the check of one, and to build what the reader has written."""
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[1:1] = [str(HERE.parent), str(HERE.parent / "tutorial")]     # for the harness, and what plays the pages

from harness import Failure     # noqa: E402: a path of its own

CHECKS = {}     # of each exercise, by its name


def exercise(name):
    """Makes the function the check of this exercise, as "3-2". It is given the chapter's program, as built, and raises Failure
    as long as the exercise is not solved."""
    def add(function):
        CHECKS[name] = function
        return function
    return add


def build(*targets):
    """Makes them, as `make stage3`; raises Failure with what the compiler says."""
    done = subprocess.run(["make", "--silent", "INSIDE=1", *targets], cwd=ROOT, check=False, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise Failure(f"make {' '.join(targets)} fails:\n{done.stdout}")
