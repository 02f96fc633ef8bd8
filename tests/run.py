"""Runs the tests: the unit tests, the suite against each stage, and the proofs about the suite itself.

    python3 tests/run.py                                     all six stages, each with all its techniques
    python3 tests/run.py --stage 3 --only 'lines'            the checks that have this in their name, against one stage
    python3 tests/run.py --technique '--workers'             the techniques that have this in their name
    python3 tests/run.py --server 'python3 theirs.py {port}' anybody's server; {db}, if given, becomes a fresh file's name

The last line is `N passed, N failed`; the status is 1 if anything failed, or if nothing ran.
"""
import argparse
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from harness.checks import CHECKS, NotRun
from harness.fault_table import fault_page
from harness.proofs import proofs
from harness.server import RUNNING, Program
from harness.stages import STAGES, THEIRS

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
for suite in sorted(HERE.glob("suites/*.py")):
    importlib.import_module(f"suites.{suite.stem}")     # adds its checks to CHECKS
PARTS = list(dict.fromkeys(one.part for one in CHECKS))
AT_ONCE = 12        # most checks wait most of the time,
BUSY_AT_ONCE = 2    # but some keep a processor busy, as all those of a server that never rests do
# Parts about what is answered, and not about who waits.
BYTES_ALONE = ("fib", "hello", "tasks", "lines", "recv", "http", "limits", "storage", "security", "start", "log", "pid file",
               "terminal")
# Parts about who waits for whom, which a sanitizer does not change.
WAITING_ALONE = "lesson", "lesson clients", "traces", "turns", "naive", "naive_uring"


@dataclass
class Job:
    """Something to run: `function` returns None, or a report of what failed."""
    whose: str
    name: str
    function: object
    alone: bool = False
    busy: bool = False
    failure: str = None
    not_run: bool = False


def check_job(one, **of_program):
    stage = of_program["stage"]
    return Job(stage.title, one.name, lambda: one.run(Program(**of_program)), one.alone, one.computes or not stage.rests)


def wanted(name, options):
    return options.only in name


def in_selection(one, stage, options):
    """Whether the check is one of those to be run against this row of the table."""
    if not options.row and not options.wide:
        return True
    spared = WAITING_ALONE + (BYTES_ALONE if stage.options else ())
    like_one_without_master = stage.workers and one.part != "workers"
    in_full = options.wide and one.part not in spared and not like_one_without_master
    if options.variant == "tsan":
        in_full = in_full and stage.has_threads
    return in_full or one.row


def jobs_for_stages(options):
    def path_of(stage):
        base = ROOT if options.variant == "release" else ROOT / "build" / options.variant
        return str(base / stage.name / stage.name)

    stages = [stage for stage in STAGES if stage.number in options.stage and options.technique in stage.title]
    missing = [stage for stage in stages if not os.path.exists(path_of(stage))]
    if missing:
        return [Job(stage.title, "is built", lambda stage=stage: f"there is no {path_of(stage)}") for stage in missing]
    # Check by check rather than stage by stage, so that waiting and busy checks are spread evenly.
    return [check_job(one, stage=stage, path_of=path_of) for one in sorted(CHECKS, key=lambda one: one.part != "stop")
            for stage in stages if one.only(stage) and in_selection(one, stage, options) and wanted(one.name, options)]


def jobs_for_theirs(options):
    parts = options.parts.split(",") if options.parts else PARTS
    return [check_job(one, stage=THEIRS, foreign=options.server, patience=10)
            for one in CHECKS if one.part in parts and not one.ours and one.only(THEIRS) and wanted(one.name, options)]


def jobs_for_proofs(options):
    return [Job("the suite itself", name, function) for name, function in proofs() if wanted(name, options)]


def say(*lines):
    """Prints the lines in one piece, even if other threads print, too."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def run(jobs):
    """Runs all jobs and prints each failure as it comes. Jobs that must be alone come last, one by one."""
    def run_one(job):
        try:
            job.failure = job.function()
        except NotRun as reason:
            job.not_run = True
            say(f"{job.whose}: {job.name}: not run: {reason}")
        except Exception as error:      # the test itself is broken, which is no success
            job.failure = f"{type(error).__name__}: {error}"
        if job.failure:
            say("", f"FAILED {job.whose}: {job.name}", *[f"    {line}" for line in job.failure.splitlines()])

    together = [job for job in jobs if not job.alone]
    with ThreadPoolExecutor(AT_ONCE) as pool, ThreadPoolExecutor(BUSY_AT_ONCE) as busy_pool:
        try:
            wait([(busy_pool if job.busy else pool).submit(run_one, job) for job in together])
        except KeyboardInterrupt:       # without its server, a running check fails at once and cleans up
            for one_pool in pool, busy_pool:
                one_pool.shutdown(wait=False, cancel_futures=True)
            for server in list(RUNNING):
                server.kill()
            raise
    for job in jobs:
        if job.alone:
            run_one(job)


def run_unit_tests(binary):
    """Runs a GoogleTest binary; returns how many of its tests passed and failed."""
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.json"
        finished = subprocess.run([os.path.abspath(binary), "--gtest_brief=1", f"--gtest_output=json:{report}"], check=False,
                                  cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        counts = json.loads(report.read_text()) if report.exists() else {"tests": 0, "failures": 0, "disabled": 0}
    failed = counts["failures"] or int(finished.returncode != 0)
    if failed:
        print(finished.stdout, f"{binary}: status {finished.returncode}", sep="\n", flush=True)
    return max(counts["tests"] - counts["disabled"] - failed, 0), failed


def verdicts(jobs):
    """For each part of the contract, whether it is kept."""
    for part in dict.fromkeys(job.name.partition(":")[0] for job in jobs):
        of_part = [job for job in jobs if job.name.startswith(part + ":")]
        broken = [job for job in of_part if job.failure]
        kept = f"({len(of_part) - len(broken)} of {len(of_part)})"
        if broken:
            print(f"{part}: not kept {kept}: {broken[0].name}: {broken[0].failure.splitlines()[0]}")
        else:
            print(f"{part}: kept {kept}")


def summary(jobs):
    """One line for each row of the table."""
    for whose in dict.fromkeys(job.whose for job in jobs):
        passed = Counter(job.name.partition(":")[0].partition(",")[0] for job in jobs if job.whose == whose and not job.failure)
        failed = sum(1 for job in jobs if job.whose == whose and job.failure)
        what = ", ".join(f"{part} {number}" for part, number in passed.items()) if whose.startswith("stage") else ""
        print(f"{whose}: {sum(passed.values())} passed, {failed} failed" + (f" ({what})" if what else ""))


def command_line():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", default="release", choices=["release", "debug", "asan", "tsan"])
    parser.add_argument("--stage", type=int, nargs="+", choices=range(1, 7), default=range(1, 7), metavar="N")
    parser.add_argument("--technique", default="", metavar="TEXT",
                        help="only the techniques that have this in their name, such as 'stage2_fork --workers 4'")
    parser.add_argument("--only", default="", metavar="TEXT", help="only what has this text in its name")
    parser.add_argument("--row", action="store_true", help="only a few representative checks, no unit tests and no proofs")
    parser.add_argument("--wide", action="store_true",
                        help=f"for the sanitizers: as --row for {', '.join(WAITING_ALONE)}; for techniques with options "
                             f"also for {', '.join(BYTES_ALONE)}; with workers for all but the part workers; under tsan "
                             "for all where one thread does everything")
    parser.add_argument("--unit", metavar="BINARY", help="a GoogleTest binary to run first")
    parser.add_argument("--faults", action="store_true", help="only print the page of the faults that are tried")
    parser.add_argument("--server", metavar="COMMAND", help="test the server that this command starts on {port}")
    parser.add_argument("--parts", help=f"with --server: only these parts, separated by commas, of {','.join(PARTS)}")
    return parser.parse_args()


def main():
    options = command_line()
    if options.faults:
        print(fault_page())
        return 0
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))    # each of many clients needs a descriptor
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # nohup, or a shell's &, may have us ignore these signals, and the servers would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for one in signal.SIGHUP, signal.SIGQUIT:
        signal.signal(one, signal.SIG_DFL)
    lost = []
    threading.excepthook = lost.append      # a failure in a thread that nobody waits for counts, too

    passed, failed = run_unit_tests(options.unit) if options.unit and not options.row else (0, 0)
    if options.server:
        jobs = jobs_for_theirs(options)
    else:
        # The suite itself is the same for every variant.
        proofs_too = options.variant == "release" and not options.row
        jobs = jobs_for_stages(options) + (jobs_for_proofs(options) if proofs_too else [])
    run(jobs)
    jobs = [job for job in jobs if not job.not_run]

    print()
    if options.unit and not options.row:
        print(f"unit tests: {passed} passed, {failed} failed")
    (verdicts if options.server else summary)(jobs)
    for failure in lost:
        print(f"a thread failed: {failure.exc_type.__name__}: {failure.exc_value}")
    failed += len(lost) + sum(1 for job in jobs if job.failure)
    passed += sum(1 for job in jobs if not job.failure)
    print(f"{passed} passed, {failed} failed")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted")
