"""Proofs that the suite can be trusted: it passes a correct server, and finds each flaw of a broken one."""
import ast
import base64
import hashlib
import json
import re
import subprocess
import sys
import time
from pathlib import Path

from harness.checks import CHECKS, Failure, expect, expect_match, together, wait_for
from harness.fault_table import fault_page
from harness.server import Program
from harness.stages import THEIRS, plain
from harness.system import processor_ticks

HERE = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(HERE / part) for part in ("bench", "compare", "trace", "tutorial")]
import bench    # noqa: E402: a path of its own
import compare_proofs   # noqa: E402
import lies     # noqa: E402
import trace_proofs     # noqa: E402

PARTS = "fib", "sleep", "count", "lines", "lesson", "disappear"     # what fib_server.py speaks

# Each flaw of fib_server.py, and the check that must find it.
FLAWS = {
    "counts fib from zero": "fib: counts from one",
    "does not sleep": "sleep: takes the time it says",
    "answers out of order": "sleep: requests behind a sleep are answered after it",
    "holds all clients while one sleeps": "lesson: a short sleep waits only while all servers sleep",
    "counts itself": "count: counts what was answered but not itself",
    "counts each client alone": "count: includes others where memory is shared",
    "counts without a lock": "count: is exact after a burst from eight clients",
    "takes a chunk for a line": "lines: answers each of many lines in one segment",
    "drops an unterminated last line": "lines: a half close ends the last line",
    "closes after an error": "lines: an error keeps the connection open",
    "hangs up on a long line": "lines: a longer line is one error and is skipped",
    "hangs up on bytes that are not text": "lines: refuses bytes that are not utf 8",
    "dies of a reset": "disappear: between two requests",
}


def fib_server(flaw=None):
    return f"exec {sys.executable} {HERE / 'harness' / 'fib_server.py'} {{port}}" + (f" --broken '{flaw}'" if flaw else "")


def passes_what_is_right(one):
    """The check passes on the server without a flaw."""
    return one.run(Program(THEIRS, foreign=fib_server()))


def finds(flaw):
    """The check for this flaw fails on the server that has it."""
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


def judges_a_foreign_server():
    """End to end: `run.py --server` prints a verdict for each part, and its status and last line agree."""
    def run(command, *options):
        finished = subprocess.run([sys.executable, str(HERE / "run.py"), *options, "--server", command], check=False,
                                  stdout=subprocess.PIPE, text=True, timeout=120)
        return finished.returncode, finished.stdout.splitlines()

    try:
        status, lines = run(fib_server(), "--parts", "fib,http")
        expect(status, 1)
        expect_match("\n".join(lines[-3:]),
                     r"http: not kept \(0 of \d+\): .+\nfib: kept \((\d+) of \1\)\n\1 passed, \d+ failed")
        status, lines = run(fib_server(), "--parts", "fib")
        expect((status, lines[-1]), (0, "4 passed, 0 failed"))
        status, lines = run(fib_server("counts fib from zero"), "--parts", "fib")
        expect(status, 1)
        expect_match(lines[-2], r"fib: not kept \(\d of 4\): .+")
        status, lines = run(fib_server(), "--only", "no such check")
        expect((status, lines[-1]), (1, "0 passed, 0 failed"))
    except Failure as failure:
        return str(failure)


def the_page_of_faults_tells_which_are_tried():
    if f"{fault_page()}\n" != (HERE / "FAULTS.md").read_text():
        return "it does not; to update it: python3 tests/run.py --faults >tests/FAULTS.md"


def the_lessons_clients_are_a_page_each():
    """Each has at most 60 lines, which Python 3.9 can read."""
    for path in (HERE / "clients").glob("*.py"):
        text = path.read_text()
        try:
            ast.parse(text, feature_version=(3, 9))
        except SyntaxError as error:
            return f"{path.name}: {error}"
        if text.count("\n") > 60:
            return f"{path.name} is longer than 60 lines"


ROOMS = "base", "tasks", "protocol", "sockets", "process"      # of common/, from the lowest to the highest


def each_room_of_common_knows_those_below_it_alone():
    for level, room in enumerate(ROOMS):
        for path in (HERE.parent / "common" / room).glob("*.?pp"):
            for included in re.findall(r'^#include "(\w+)/', path.read_text(), re.MULTILINE):
                if included not in ROOMS[:level + 1]:
                    return f"{path.name} is in {room}, and includes something of {included}"


# ---- The page -----------------------------------------------------------------------------------------------------------

def the_page_needs_nothing_but_itself():
    """Its policy names the hashes of its own style and script, and it refers to no other place."""
    page = (HERE.parent / "common" / "protocol" / "page.html").read_text()
    hashes = []
    for element in "style", "script":
        text = re.search(rf"<{element}[^>]*>(.*)</{element}>", page, re.DOTALL)[1]
        hashes.append(f"{element}-src 'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}';")
    if not all(right in page for right in hashes):
        return "\n".join(["common/protocol/page.html must say:", *hashes])
    elsewhere = re.findall(r".*(?:\w+://|[\"'`(]//|\bsrc=|\burl\(|@import|\bimport\b).*", page)
    if elsewhere:
        return f"common/protocol/page.html refers to another place: {elsewhere}"


# ---- The benchmark ------------------------------------------------------------------------------------------------------

def the_tests_readme_quotes_the_benchmark():
    readme, results = [path.read_text() for path in (HERE / "README.md", HERE / "bench" / "RESULTS.md")]
    if bench.headline_in(readme) != bench.headline_in(results):
        return "its table is not that of tests/bench/RESULTS.md"


def the_load_generator_checks_every_reply():
    def load(kind, *options):
        return subprocess.run([bench.BUILD / "load", str(references[kind].server.port), "--ms", "20", *options], check=False,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)

    line, answer = ["--request", "fib 1\n"], ["--reply", "fib: 1"]
    get = ["--http", "--request", bench.http_request("GET", "/fib/1")]
    references = bench.references()
    try:
        for reference in references.values():
            reference.start()
        for kind, right in (("lines", [*line, *answer]), ("lines", [*line, *answer, "--depth", "16", "--connections", "5"]),
                            ("lines", [*line, *line, *answer, *answer, "--idle", "3", "--latency"]),
                            ("http", [*get, "--reply", '{"n":1,"fib":1}', "--close", "--connections", "2"])):
            finished = load(kind, *right)
            expect((finished.returncode, finished.stderr), (0, ""), f"the status for {right}")
            expect(json.loads(finished.stdout)["requests"] > 0, True, finished.stdout)
        for kind, wrong in (("lines", [*line, "--reply", "fib: 2"]), ("lines", [*line, "--reply", "fib: "]),
                            ("lines", [*line, "--reply", "fib: 1, and more"]),
                            ("lines", [*line, *line, *answer, "--reply", "fib: 2"]),
                            ("lines", ["--request", "fib 1\nfib 1\n", *answer]),
                            ("http", [*get, "--reply", '{"n":1,"fib":2}']), ("http", [*get, "--reply", "{}"])):
            finished = load(kind, *wrong)
            expect(finished.returncode, 1, f"the status for {wrong}")
            expect_match(finished.stderr.splitlines()[0], "load: this is not the reply: .+")
        expect(load("lines", *line, *answer, *answer).returncode, 2, "the status where a request is missing")
        # It pauses when told to, and counts what was answered in between.
        said = load("lines", *line, *answer, "--pauses", "--connections", "3", "--depth", "4").stdout
        between = json.loads(expect_match(said, r"warm\n(.*)\n")[1])
        expect((between["in_all"] % 4, between["in_all"] >= between["requests"] > 0), (0, True), said)
    except Failure as failure:
        return str(failure)
    finally:
        for reference in references.values():
            reference.end()


def each_part_of_the_benchmark_works():
    """Each part runs for a moment. Its figures must be there; they are not judged."""
    def results(*options):
        # timeout(1) ends it by SIGTERM, and it ends its servers.
        finished = subprocess.run(["timeout", "300", sys.executable, bench.__file__, "--moment", *options], check=False,
                                  capture_output=True, text=True)
        expect(finished.returncode, 0, f"the status of the benchmark with {options}, which said {finished.stderr[-2000:]}")
        return bench.by_heading(finished.stdout)

    def first_cells(text):
        return re.findall(r"^\| (.+?) \|", re.sub(r"\|.*\n\|-.*\n", "", text), re.MULTILINE)

    # Counting instructions and compiling naive servers take long, so these two parts run for two stages only.
    slow = "costs", "naive"
    one, two, three, four, five, six = names = [plain(number).name for number in range(1, 7)]
    uring = f"{six}/naive_uring"
    rows = {"The headline": 3 * names, "Everybody, at 4 connections": names,
            "Processor time for a request, µs (user and system), at 4 connections": names,
            "What a request costs without a clock": [five, six],
            "Memory for an idle connection, after one request (bytes, user space)": [two, three, five, six],
            "Idle connections beside 64 busy ones": [four, f"{four} --wait poll", five, six],
            "Latency of `fib 1` while two clients compute `fib 20` again and again":
                ["stage 6, whose pool has another core", "stage 6, whose pool has every core", "stage 5"],
            "Two workers on two cores":
                ["the reference, and run twice", "stage 5, and `--threads 2`", "stage 5, and `--workers 2`",
                 "stage 6, and `--workers 2`"],
            "The naive servers": [f"{five}/naive", f"{six}/naive", uring, f"{five}/naive", uring]}
    phrases = (r"A PUT costs [\d.]+ times .* in stage5_epoll, [\d.]+ times .* in stage6_coroutines\.",
               r"While four clients write in stage6_coroutines \([\d,]+ `PUT` in .*\), `fib 1` takes .*\.",
               r"\| stage 1 \| .* \| stage 6 \|\n.*\n\| [^|]+ \| .* \|", r"`make` from clean takes .*\.")
    try:
        found = {}
        for some in together(
                lambda: results("--only", *[part for part in bench.PARTS if part not in slow], "--stage", *"123456"),
                lambda: results("--only", *slow, "--stage", "5", "6")):
            found.update(some)
        text = "\n".join(found.values())
        if len(bench.CORES) < 2:
            rows["Two workers on two cores"] = []
        if "Not run here: stage6_coroutines/naive_uring" in text:
            rows["The naive servers"] = [f"{five}/naive", f"{six}/naive"]
        for heading, expected in rows.items():
            expect(first_cells(found.get(heading, "")), expected, f"the rows of {heading!r}")
        dashes = [line for line in found["The headline"].splitlines() if "| – |" in line and one not in line]
        expect(dashes, [], "the rows of the headline that lack a figure")
        for phrase in phrases:
            expect(bool(re.search(phrase, text)), True, f"whether the results have {phrase!r}")
    except Failure as failure:
        return str(failure)


def the_benchmark_repeats_what_others_disturb():
    class Told(bench.Watch):
        """It is told how long others have worked, before and after each measurement."""
        def others(self, *_):
            return next(told)

    # Seconds of others' work on this core, and beside it: they work here, then beside, then not at all.
    told, results = iter([(0, 0), (9, 0), (9, 0), (9, 9), (9, 9), (9, 9)]), iter("abc")
    watch = Told(2)
    busy = f"import os\nos.sched_setaffinity(0, {{{bench.CORE}}})\nwhile True: pass"
    try:
        expect(watch.quietly(lambda: next(results), []), "c", "the first result that nobody disturbed")
        expect((watch.repeated, watch.disturbed), (2, 0), "how many were repeated, and stayed disturbed")
        with subprocess.Popen([sys.executable, "-c", busy]) as other:
            try:
                wait_for(lambda: processor_ticks(other.pid) > 20, "somebody else kept the processor busy")
                watch = bench.Watch(2)
                watch.quietly(lambda: time.sleep(0.3), [])
            finally:
                other.kill()
        expect((watch.repeated, watch.disturbed), (2, 1), "how many were repeated, and stayed disturbed, beside another")
    except Failure as failure:
        return str(failure)


def the_benchmark_measures_what_it_is_asked_for():
    """Results of some stages only, or of short windows, do not go into the file."""
    for variables, expected in (
            ([], "--output tests/bench/RESULTS.md"),
            (["ONLY=costs memory"], "--only costs memory --output tests/bench/RESULTS.md"),
            (["QUICK=1"], "--quick"), (["ONLY=headline", "STAGE=5 6", "QUICK=1"], "--only headline --stage 5 6 --quick"),
            (["STAGE=3"], "--stage 3")):
        said = subprocess.run(["make", "--dry-run", "bench", *variables], cwd=HERE.parent, check=True, capture_output=True,
                              text=True).stdout.replace("\\\n", "")
        options = " ".join(re.search(r"tests/bench/bench\.py(.*)", said)[1].split())
        if options != expected:
            return f"make bench {' '.join(variables)}: bench.py {options}, and not {expected}"


def proofs():
    """All proofs, as names and functions that return None or what is wrong."""
    found = [(f"passes what is right, {one.name}", lambda one=one: passes_what_is_right(one))
             for one in CHECKS if one.part in PARTS and not one.ours and one.only(THEIRS)]
    found += [(f"finds a server that {flaw}", lambda flaw=flaw: finds(flaw)) for flaw in FLAWS]
    found += compare_proofs.proofs() + lies.proofs() + trace_proofs.proofs()
    return found + [("notices a failure in a helper thread", notices_a_failure_in_a_helper_thread),
                    ("the page of faults tells which are tried", the_page_of_faults_tells_which_are_tried),
                    ("the lesson's clients are a page each", the_lessons_clients_are_a_page_each),
                    ("each room of common/ knows those below it alone", each_room_of_common_knows_those_below_it_alone),
                    ("the page needs nothing but itself", the_page_needs_nothing_but_itself),
                    ("the tests' readme quotes the benchmark", the_tests_readme_quotes_the_benchmark),
                    ("the load generator checks every reply", the_load_generator_checks_every_reply),
                    ("each part of the benchmark works", each_part_of_the_benchmark_works),
                    ("the benchmark repeats what others disturb", the_benchmark_repeats_what_others_disturb),
                    ("the benchmark measures what it is asked for", the_benchmark_measures_what_it_is_asked_for),
                    ("judges a foreign server", judges_a_foreign_server)]
