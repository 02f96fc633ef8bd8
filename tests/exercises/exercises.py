"""What the exercises' modules share: a decorator for the check of an exercise, and how to build the reader's code."""
import importlib
import inspect
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[1:1] = [str(HERE.parent), str(HERE.parent / "tutorial")]     # for the harness, and for play.py

from harness.checks import Failure    # noqa: E402: after sys.path

EXERCISES = {}      # by name


@dataclass(frozen=True)
class Exercise:
    check: object       # gets the chapter's program, and raises Failure if the exercise is not solved
    hint: str
    explanation: str    # answers what the chapter asks; shown when the exercise is solved
    solution: str       # a patch, as text

    def given_away(self, text, question):
        """What `text` tells of the answer to the chapter's `question`: code of the solution, or words or a figure that only
        the explanation has."""
        code = {line[1:].strip() for line in self.solution.splitlines() if re.match(r"\+ *[^+ ].{11}", line)}
        words = self.explanation.split()
        runs = {" ".join(words[at:at + 6]) for at in range(len(words) - 5)}
        figures = set(re.findall(FIGURE, self.explanation)) - set(re.findall(FIGURE, question))
        plain = " ".join(text.split())
        return [*(each for each in sorted(code | runs) if each in plain), *sorted(figures & set(re.findall(FIGURE, text)))]


FIGURE = r"\d[\d.,]*\d|\d"


def exercise(name, hint):
    """Makes the function the check of this exercise, such as "3-2". Its docstring is the explanation."""
    def add(function):
        solution = (HERE / "solutions" / f"{name}.patch").read_text()
        EXERCISES[name] = Exercise(function, hint, inspect.getdoc(function) or "", solution)
        return function
    return add


def exercise_of(name):
    importlib.import_module(f"stage{name[0]}")      # adds its exercises to EXERCISES
    return EXERCISES[name]


def build(*targets):
    """Builds these targets of make, such as stage3. Raises Failure with the compiler's words if that fails."""
    done = subprocess.run(["make", "--silent", "INSIDE=1", *targets], cwd=ROOT, check=False, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise Failure(f"make {' '.join(targets)} fails:\n{done.stdout}")
