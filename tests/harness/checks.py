"""Checks, and how a failed one reports what was expected and what came."""
import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 60.0


class NotRun(Exception):
    """The check cannot run here; the text says why."""


class Failure(AssertionError):
    """A broken promise, in words for the reader of the report."""


class Gone(Failure):
    """The connection ended where more was expected. A client that a fault hits may see this."""


def short(value, limit=400):
    """The value as Python writes it. A long one loses its middle."""
    text = value if isinstance(value, (bytes, str)) else repr(value)
    if len(text) <= limit:
        return repr(value)
    return f"{text[:limit // 2]!r} … {text[-limit // 2:]!r} ({len(text)} long)"


def expect(came, expected, about=""):
    if came != expected:
        raise Failure(f"{about}\nexpected: {short(expected)}\n    came: {short(came)}".lstrip("\n"))


def expect_in_three_tries(observe, expected, about):
    """As expect, with up to three tries: a busy machine may hide the effect once or twice."""
    came = [observe()]
    while came[-1] != expected and len(came) < 3:
        came.append(observe())
    expect(came[-1], expected, f"{about}, in the last of {len(came)} tries")


def expect_match(came, pattern, about=""):
    """The whole of `came` must match `pattern`. Returns the match."""
    match = re.fullmatch(pattern, came)
    if not match:
        raise Failure(f"{about}\nexpected something like: {pattern}\n                   came: {short(came)}".lstrip("\n"))
    return match


def expect_each(rows, body):
    """Calls body(*row) for every row and reports all that fail, not only the first."""
    failures = []
    for row in rows:
        try:
            body(*row)
        except Failure as failure:
            failures.append(f"{short(row, 200)}: {failure}")
    if failures:
        raise Failure("\n".join(failures))


def wait_for(condition, what, patience=PATIENCE):
    """Calls condition() until it is true, at growing intervals of up to 50 ms. Returns its value."""
    end, pause = time.monotonic() + patience, 0.001
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failure(f"waited {patience:g} s in vain until {what}")
        time.sleep(pause)
        pause = min(2 * pause, 0.05)


def together(*functions):
    """Runs each function in a thread of its own. Returns their results, or raises the first failure."""
    results, failures = [None] * len(functions), []

    def run(index, function):
        try:
            results[index] = function()
        except BaseException as failure:  # raised again below, whatever it is
            failures.append(failure)

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(functions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return results


@dataclass(frozen=True)
class Fault:
    """What is done to a server, and what its clients see: a row of FAULTS.md, which `run.py --faults` prints."""
    what: str       # as in "a reset in the middle of a sleep"
    concerned: str  # what the client that it hits sees
    others: str     # what the others see meanwhile


@dataclass(frozen=True)
class Check:
    """One promise: a function that takes a running server, or a program that it starts itself."""
    part: str
    function: object
    options: tuple
    starts_itself: bool
    ours: bool          # makes sense for our six programs only: needs their options, their ready line, their process
    only: object        # says for which stages
    alone: bool         # nothing else may run meanwhile
    computes: bool      # keeps a processor busy for a second or so
    row: bool           # one of the few that `run.py --row` runs
    fault: object       # a Fault, if it is about one

    @property
    def name(self):
        return f"{self.part}: {self.function.__name__.replace('_', ' ')}"

    def run(self, program):
        """None if the promise is kept, else the report."""
        try:
            self.function(program if self.starts_itself else program.start(*self.options))
            program.stop_all()
        except NotRun:
            raise
        except Exception as failure:
            return report(failure, program)
        finally:
            program.clean_up()


def report(failure, program):
    """What was expected, what came, what was sent and received before, and the end of each server's log."""
    what = str(failure) if isinstance(failure, Failure) else f"{type(failure).__name__}: {failure}"
    trace = failure.__traceback__
    places = []
    while trace:
        places.append(f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}")
        trace = trace.tb_next
    lines = [what, "at " + " > ".join(places[1:]), *program.notes]
    for server in program.servers:
        ended = server.process.poll()
        lines += server.threads() if ended is None else []
        lines += [f"log of {server.pid}{'' if ended is None else f', which ended with status {ended}'}:",
                  *server.log().splitlines()[-20:]]
    return "\n".join(lines)


CHECKS = []


def check(part, *options, ours=False, only=lambda stage: True, starts_itself=False, alone=False, computes=False,
          row=False, fault=None):
    """Makes the function a check of this part of the contract. It takes a server that runs with these options."""
    def add(function):
        CHECKS.append(Check(part, function, options, starts_itself, ours or starts_itself or bool(options), only, alone,
                            computes, row, fault))
        return function
    return add


def check_program(part, **options):
    """As check, but the function starts the program itself."""
    return check(part, starts_itself=True, **options)


def expect_lasts(seconds, function):
    """The function takes that long at least. (By another clock a timer may end up to 5 ms early.)"""
    start = time.monotonic()
    function()
    expect(time.monotonic() - start > seconds - 0.005, True, f"lasts for {seconds} s")


def expect_like(came, pattern):
    """As expect_match, for bytes; a dot matches a line feed, too."""
    expect(bool(re.fullmatch(pattern, came, re.DOTALL)), True, f"{came} is like {pattern}")
