"""Runs every stage and technique through the same five experiments: `make compare`.

It writes results.csv (a row for each figure), results.md, the plots, and report.html, which has everything in one file.
experiments.py and the report itself explain the experiments.
"""
import argparse
import contextlib
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import plots
import publish
from experiments import EXPERIMENTS, QUICK, Figures, Plan    # sets the path for the imports below
from harness.system import children


class Bar:
    """Reports progress on standard error: on a terminal in one line that is redrawn, or else in a line for each step."""

    def __init__(self, seconds, out=sys.stderr):
        self.began, self.seconds, self.out, self.now = time.monotonic(), seconds, out, ""

    def elapsed(self):
        return time.monotonic() - self.began

    def step(self, text):
        self.now = text
        if self.out.isatty():
            self.detail("")
        else:
            self.say(text)

    def detail(self, text):
        if self.out.isatty():
            share = min(self.elapsed() / self.seconds, 1)
            left = max(self.seconds - self.elapsed(), 0)
            line = f"[{'#' * int(20 * share):20}] {left:3.0f} s left at most, {self.now}" + (f": {text}" if text else "")
            print(f"\r\033[K{line[:shutil.get_terminal_size().columns - 1]}", end="", file=self.out, flush=True)

    def say(self, text):
        print(("\r\033[K" if self.out.isatty() else "") + text, file=self.out, flush=True)


def measure(plan, bar):
    """Runs all experiments round after round, each as often as there is time for; returns the figures."""
    figures, took = Figures(), {}
    experiments = [kind(plan, figures, bar) for kind in EXPERIMENTS]
    for number in range(1, plan.rounds + 1):
        for experiment in experiments:
            began = bar.elapsed()
            if took.get(experiment, 0) < plan.seconds - began or number == 1:
                bar.step(f"round {number}: {experiment.name}")
                experiment.round()
                took[experiment] = bar.elapsed() - began
    return figures


def compare(plan, to, bar, quick=False):
    """Measures, and writes the results; returns whether no server failed."""
    plots.want_gnuplot()
    to.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryDirectory(dir=to).cleanup()       # if it can't be written, fails now and not after the measurement
    figures = measure(plan, bar)
    publish.write(to, plan, figures, bar.elapsed(), quick)
    for (experiment, who), why in figures.failed.items():
        bar.say(f"{experiment}: {who} failed: {why}")
    bar.say(f"{to / 'report.html'} is written, after {bar.elapsed() / 60:.1f} minutes")
    return not figures.failed


SIGNALS = [signal.SIGINT, signal.SIGTERM]
if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:   # nohup(1) ignores it, and so do we then
    SIGNALS.append(signal.SIGHUP)


def interrupt(*_):
    """Works once: a second signal must not interrupt the end of what has been started."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def end_children():
    """Kills all children, also those that were just being started at the interruption."""
    for pid in children(os.getpid()):
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if os.getpgid(pid) == pid else os.kill)(pid, signal.SIGKILL)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two minutes: only the stages without options, fewer clients")
    parser.add_argument("--to", metavar="DIRECTORY", type=Path, required=True, help="where the results go")
    options = parser.parse_args()
    for number in SIGNALS:
        signal.signal(number, interrupt)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    plan = QUICK if options.quick else Plan()
    bar = Bar(plan.seconds)
    with tempfile.TemporaryDirectory(prefix="compare-") as tempfile.tempdir:    # for whatever the servers write
        try:
            return 0 if compare(plan, options.to, bar, options.quick) else 1
        except KeyboardInterrupt:
            bar.say("interrupted: no results")
        except (plots.Missing, OSError) as problem:
            bar.say(f"compare: {problem}")
        finally:
            end_children()
    return 1


if __name__ == "__main__":
    sys.exit(main())
