"""Proofs that the suite can be trusted: it passes a server that is right, and finds each flaw of one that is not."""
import ast
import base64
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

from fault_table import fault_table
from harness import CHECKS, Failure, Program, expect, expect_match, together
from stages import THEIRS, plain

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / part) for part in ("bench", "compare", "trace", "tutorial")]
import bench    # noqa: E402: a path of its own
import compare_proofs   # noqa: E402
import lies     # noqa: E402
import trace_proofs     # noqa: E402

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


def the_lessons_clients_are_a_page_each():
    """And every Python from 3.9 on can read them."""
    for path in (HERE / "clients").glob("*.py"):
        text = path.read_text()
        try:
            ast.parse(text, feature_version=(3, 9))
        except SyntaxError as error:
            return f"{path.name}: {error}"
        if text.count("\n") > 60:
            return f"{path.name} is longer than 60 lines"


# ---- The page -----------------------------------------------------------------------------------------------------------

def the_page_needs_nothing_but_itself():
    """Its policy names the hashes of its own style and script, and it refers to no other place."""
    page = (HERE.parent / "common" / "page.html").read_text()
    hashes = []
    for element in "style", "script":
        text = re.search(rf"<{element}[^>]*>(.*)</{element}>", page, re.DOTALL)[1]
        hashes.append(f"{element}-src 'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}';")
    if not all(right in page for right in hashes):
        return "\n".join(["common/page.html must say:", *hashes])
    elsewhere = re.findall(r".*(?:\w+://|[\"'`(]//|\bsrc=|\burl\(|@import|\bimport\b).*", page)
    if elsewhere:
        return f"common/page.html refers to another place: {elsewhere}"


# ---- The benchmark ------------------------------------------------------------------------------------------------------

def the_readme_quotes_the_benchmark():
    readme, results = [path.read_text() for path in (HERE.parent / "README.md", HERE / "bench" / "RESULTS.md")]
    if bench.headline_in(readme) != bench.headline_in(results):
        return "its table is not that of tests/bench/RESULTS.md"


def the_load_generator_checks_every_reply():
    def load(kind, *options):
        return subprocess.run([bench.BUILD / "load", str(references[kind].server.port), "--ms", "20", *options], check=False,
                              capture_output=True, text=True, timeout=60)

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
    except Failure as failure:
        return str(failure)
    finally:
        for reference in references.values():
            reference.end()


def the_benchmark_compares():
    references, five = bench.references(), bench.ours(plain(5))
    everybody = [*references.values(), five]
    try:
        for one in everybody:
            one.start()
        for workload in bench.WORKLOADS:
            measured = bench.side_by_side(workload, [five], 2, references[workload.kind], ms=10, rounds=2)[five]
            expect((len(measured.ratios), measured.requests > 0), (2, True), workload.name)
    except (Failure, RuntimeError) as failure:
        return str(failure)
    finally:
        for one in everybody:
            one.end()


def proofs():
    """All proofs, as names and functions that return None or what is wrong."""
    found = [(f"passes what is right, {one.name}", lambda one=one: passes_what_is_right(one))
             for one in CHECKS if one.part in PARTS and not one.ours and one.only(THEIRS)]
    found += [(f"finds a server that {flaw}", lambda flaw=flaw: finds(flaw)) for flaw in FLAWS]
    found += compare_proofs.proofs() + lies.proofs() + trace_proofs.proofs()
    return found + [("notices a failure in a helper thread", notices_a_failure_in_a_helper_thread),
                    ("the readme tells which faults are tried", the_readme_tells_which_faults_are_tried),
                    ("the lesson's clients are a page each", the_lessons_clients_are_a_page_each),
                    ("the page needs nothing but itself", the_page_needs_nothing_but_itself),
                    ("the readme quotes the benchmark", the_readme_quotes_the_benchmark),
                    ("the load generator checks every reply", the_load_generator_checks_every_reply),
                    ("the benchmark compares", the_benchmark_compares),
                    ("judges a stranger", judges_a_stranger)]
