"""Measures how fast the servers are, beside two references and those of their peers that are installed.

`make bench` runs this and writes RESULTS.md beside it. A reference makes the same system calls as our servers, but
understands nothing (reference.cpp). Server and load generator share one core. Windows of the reference alternate with
windows of the others, and each window is compared to the reference's windows before and after it. A slow hour of a shared
machine is therefore in both, and cancels out.

The first figure is the server's processor time for a request: user and system time of all its processes, divided by the
requests that they answered. It is given as reference ÷ server, and leaves out the load generator's time. Requests per second
are given beside it, as server ÷ reference. They include the load generator's time.

If other programs use a tenth of the processors or more during a measurement, it is repeated, at most twice. The page says
how often that happened.
"""
import argparse
import contextlib
import datetime
import http.client
import json
import os
import platform
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PEERS = HERE.parent / "peers"
sys.path.insert(0, str(HERE.parent))
from harness.checks import NotRun, together, wait_for    # noqa: E402: after sys.path
from harness.naive import start_copy    # noqa: E402: after sys.path
from harness.server import Program    # noqa: E402: after sys.path
from harness.stages import STAGES, Stage, plain    # noqa: E402: after sys.path
from harness.system import go_on, place_of, stand_still    # noqa: E402: after sys.path
from processors import CORE, CORES, Watch, processor_time    # noqa: E402

BUILD = ROOT / "build" / "release" / "bench"


def say(text):
    print(text, file=sys.stderr, flush=True)


# ---- Servers ------------------------------------------------------------------------------------------------------------

def program_for(stage, foreign=None):
    return Program(stage, lambda stage: str(ROOT / stage.name / stage.name), foreign)


class Candidate:
    """A server to be measured: a stage's technique, a peer, or a reference."""

    def __init__(self, title, stage=None, foreign=None, speaks="", line=("fib 1\n", "fib: 1")):
        self.title, self.stage, self.foreign, self.speaks = title, stage, foreign, speaks
        self.line = line        # if it speaks lines: the request, and its answer
        self.program = self.server = None
        self.tasks = []         # ids

    def start(self, *options, under=()):
        self.program = program_for(self.stage or Stage(0, "peer"), self.foreign)
        self.server = self.program.start(*options, under=under) if self.stage else self.program.start()
        if "tasks" in self.speaks:
            self.tasks = self.make_tasks() if self.stage else [f"00000000-0000-4000-8000-00000000000{n}" for n in range(10)]
        self.rest()
        return self

    def make_tasks(self):
        ids = []
        for number in range(10):
            body = json.dumps({"title": f"task {number}", "description": "two litres"})
            ids.append(json.loads(self.ask("POST", "/api/tasks", body))["id"])
        return ids

    def ask(self, method, target, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        connection.request(method, target, body, {"Content-Type": "application/json"} if body else {})
        answer = connection.getresponse().read().decode()
        connection.close()
        return answer

    @property
    def pids(self):
        """Looks for children only where there may be some: the search takes time, in which other processes go on."""
        alone = self.stage and not (self.stage.workers or self.stage.child_per_client)
        return [self.server.pid] if alone else self.server.pids()

    def rest(self):
        """Stops a server that never rests, or else it would take the others' time between its windows."""
        if self.stage and not self.stage.rests:
            stand_still(self.pids)

    def wake(self):
        if self.stage and not self.stage.rests:
            go_on(self.pids)

    def end(self):
        if self.program:
            self.program.clean_up()


class Naive(Candidate):
    """A naive server, such as stage5_epoll/naive, which answers a number with a number. Its accept queue is made longer: the
    load's connections would overflow a queue of five, and the kernel tries again only after a second."""

    def __init__(self, stage, name="naive"):
        super().__init__(f"{stage.name}/{name}", stage=stage, speaks="lines", line=("1\n", "1"))

    def start(self, *_, under=()):
        longer = "listen(listener, 5);", "listen(listener, SOMAXCONN);"
        self.program = program_for(self.stage)
        self.server = start_copy(self.program, self.title, longer, under=under)
        self.rest()
        return self


def ours(stage):
    return Candidate(stage.title, stage=stage, speaks="lines http tasks writes")


def references():
    return {kind: Candidate(f"reference, {kind}", foreign=f"exec {BUILD}/reference {kind} {{port}}", speaks=kind)
            for kind in ("lines", "http")}


def two_references():
    """Two processes that listen on the same port."""
    command = f"{BUILD}/reference lines {{port}}"
    return Candidate("two references", foreign=f"{command} & exec {command}", speaks="lines")


def is_there(*command):
    with contextlib.suppress(FileNotFoundError):
        return subprocess.run(command, check=False, capture_output=True).returncode == 0
    return False


def gunicorn(worker, *options):
    return Candidate(f"gunicorn {worker}, Flask (from a dict)", speaks="http tasks",
                     foreign=f"exec gunicorn --chdir {PEERS} -k {worker} {' '.join(options)} --keep-alive 600 "
                             "--worker-connections 20000 --log-level error -b 127.0.0.1:{port} flask_app:app")


def has_gunicorn():
    return is_there("gunicorn", "--version") and is_there("/usr/bin/python3", "-c", "import flask")


def peers():
    """The peers that are installed."""
    found = []
    if is_there("redis-server", "--version"):
        found.append(Candidate("redis (PING)", speaks="lines", line=("PING\n", "+PONG\r"),
                               foreign="exec redis-server --port {port} --save '' --maxclients 20000 --bind 127.0.0.1"))
    nginx = place_of("nginx")
    if nginx:
        found.append(Candidate("nginx (a constant)", speaks="http",
                               foreign=f"cd $(dirname {{db}}) && sed s/PORT/{{port}}/ {PEERS}/nginx.conf >nginx.conf && "
                                       f"exec {nginx} -p . -c nginx.conf"))
    if is_there("node", "--version"):
        found.append(Candidate("Node (from a map)", speaks="http tasks", foreign=f"exec node {PEERS}/node.js {{port}}"))
    if is_there("node", "-e", "require('koa')"):
        found.append(Candidate("Koa (from a map)", speaks="http tasks", foreign=f"exec node {PEERS}/koa.js {{port}}"))
    if has_gunicorn():
        found.append(gunicorn("gthread", "--threads 4"))
    return found


# ---- Workloads ----------------------------------------------------------------------------------------------------------

def http_request(method, target, body=""):
    fields = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
    return f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n{body}"


def a_line(candidate):
    return [candidate.line]


def one_fib(candidate):
    return [(http_request("GET", "/fib/1"), '{"n":1,"fib":1}' if candidate.stage else candidate.ask("GET", "/fib/1"))]


def one_task(candidate):
    target = f"/api/tasks/{candidate.tasks[0]}"
    return [(http_request("GET", target), candidate.ask("GET", target))]


def ten_tasks(candidate):
    return [(http_request("GET", "/api/tasks"), candidate.ask("GET", "/api/tasks"))]


def a_change(candidate):
    """Two values in turn, or else SQLite would see that nothing changes."""
    target = f"/api/tasks/{candidate.tasks[0]}"
    return [(http_request("PUT", target, body), candidate.ask("PUT", target, body))
            for body in ('{"done": true}', '{"done": false}')]


class Workload:
    def __init__(self, name, needs, questions, *options, close=False):
        self.name, self.needs, self.questions, self.options, self.close = name, needs, questions, options, close
        self.kind = "lines" if needs == "lines" else "http"

    def can(self, candidate, connections):
        """Whether this candidate can serve this workload over so many connections."""
        if self.needs not in candidate.speaks:
            return False
        stage = candidate.stage
        if stage is None or self.close:
            return True
        if stage.child_per_client and connections > 250:
            return False        # its default limit is 256
        return stage.serves(connections) and (stage.keeps_http_open or self.kind == "lines")

    def load(self, candidate):
        """The load generator's arguments."""
        # A reference gives the same answer to every request.
        pairs = self.questions(candidate) if self.needs in candidate.speaks else one_fib(candidate)
        return [word for question, reply in pairs for word in ("--request", question, "--reply", reply)] + [
            *(["--http"] if self.kind == "http" else []), *(["--close"] if self.close else []), *self.options]


LINES = Workload("`fib 1`", "lines", a_line)
DEPTH_16 = Workload("`fib 1`, 16 at once", "lines", a_line, "--depth", "16")
FIB = Workload("GET /fib/1", "http", one_fib)
TASK = Workload("GET a task", "tasks", one_task)
TEN_TASKS = Workload("GET 10 tasks", "tasks", ten_tasks)
PUT = Workload("PUT", "writes", a_change)
CLOSE = Workload("connect, GET /fib/1, close", "http", one_fib, close=True)
WORKLOADS = LINES, DEPTH_16, FIB, TASK, TEN_TASKS, PUT, CLOSE


def start_load(candidate, arguments, connections, ms, cores):
    options = "--connections", str(connections), "--ms", str(ms), *arguments
    return subprocess.Popen([BUILD / "load", str(candidate.server.port), *options], text=True, stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            preexec_fn=lambda: os.sched_setaffinity(0, cores))


def run_load(candidate, arguments, connections, ms, cores=(CORE,)):
    with start_load(candidate, arguments, connections, ms, cores) as load:
        result, error = load.communicate()
    if load.returncode:
        raise RuntimeError(f"{candidate.title}: {error.strip()}")
    return json.loads(result)


def rate(result):
    return result["requests"] / result["seconds"]


@dataclass(frozen=True)
class Window:
    """What the load generator and the server's clocks reported."""
    requests: int       # all that were answered between two readings of the clocks
    rate: float         # requests per second
    used: float         # processor time between the two readings, in seconds

    @property
    def cost(self):
        return self.used / self.requests


def window(one, arguments, connections, ms, cores=(CORE,)):
    """Runs the load once. The clocks are read while no request is pending. Connections that are kept are open by then, and
    have their processes."""
    one.wake()
    with start_load(one, [*arguments, "--pauses"], connections, ms, cores) as load:
        load.stdout.readline()
        before = processor_time(one)
        with contextlib.suppress(BrokenPipeError):
            load.stdin.write("\n")
            load.stdin.flush()
        result = load.stdout.readline()
        after = processor_time(one)
        _, error = load.communicate()
    one.server.wait_until_all_have_left()
    one.rest()
    if load.returncode:
        raise RuntimeError(f"{one.title}: {error.strip()}")
    result = json.loads(result)
    return Window(result["in_all"], rate(result), after - before)


class Measured:
    """A candidate's windows, each paired with those of the reference before and after it."""

    def __init__(self):
        self.windows, self.costs, self.rates = [], [], []

    def add(self, mine, before, after):
        self.windows.append(mine)
        self.costs.append((before.cost + after.cost) / 2 / mine.cost)
        self.rates.append(mine.rate / ((before.rate + after.rate) / 2))

    def microseconds(self):
        """Processor time for a request."""
        return sum(one.used for one in self.windows) / sum(one.requests for one in self.windows) * 1e6


def spread(values, form="{:.2f}"):
    """The median, and the middle half of all values."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{form.format(middle)} ({form.format(low)}–{form.format(high)})"


def time_ratio(measured):
    return spread(measured.costs)


def rate_ratio(measured):
    return spread(measured.rates)


# ---- Tables ---------------------------------------------------------------------------------------------------------------

def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "|".join("---" if i == 0 else "--:" for i in range(len(head))) + "|"]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]) + "\n"


def grid(found, candidates, cell):
    """A row for each candidate that was measured, a column for each workload; `found` is by workload, then by candidate."""
    rows = [[one.title, *[cell(of_all[one]) if one in of_all else "–" for of_all in found.values()]]
            for one in candidates if any(one in of_all for of_all in found.values())]
    return table(["", *[workload.name for workload in found]], rows)


def section(heading, about, head, rows):
    """A section of the page; empty if it has no rows, because none of its stages is measured."""
    for row in rows:
        say(f"{heading}: " + " | ".join(row))
    return f"\n## {heading}\n\n{about}\n\n" + table(head, rows) if rows else ""


# tests/README.md quotes the table that follows this mark.
HEADLINE = "<!-- the headline -->\n"
DASH = ("A dash: not measured, because the server serves fewer clients at once, closes HTTP connections, or does not answer "
        "such requests.")


@dataclass(frozen=True)
class Plan:
    """How long, how often, and with how many."""
    ms: int = 200               # length of a window
    rounds: int = 7
    headline: int = 15          # rounds of the headline
    connections: tuple = (64, 1, 512)
    variants: bool = True       # all techniques of a stage, or only the one without options
    repeats: int = 2            # of a measurement that other programs disturbed
    counted: tuple = (LINES, FIB, TASK, PUT)    # workloads whose instructions and system calls are counted,
    counted_ms: tuple = (200, 2000)             # as the difference of two runs of these lengths
    clients: int = 10_000       # idle connections, at most
    beside: tuple = (500, 1_000, 2_000)         # idle connections in stage 4
    settled: float = 1.0        # seconds until the memory that is kept is read
    latency_ms: int = 2_000
    fib: int = 45               # computed meanwhile for other clients
    starts: int = 15
    build: tuple = ("make",)


QUICK = replace(Plan(), ms=100, rounds=5, headline=9, connections=(64,), variants=False, beside=(2_000,), latency_ms=700,
                starts=5, build=())
# Tries whether all of it works. The figures mean nothing.
MOMENT = Plan(ms=10, rounds=2, headline=2, connections=(4,), variants=False, repeats=0, counted=(LINES,),
              counted_ms=(20, 200), clients=20, beside=(20,), settled=0.0, latency_ms=20, fib=20, starts=2,
              build=("make", "--dry-run"))


class Bench:
    def __init__(self, plan, numbers=None):
        """Given the numbers of some stages, measures only these, and no peers."""
        self.plan = plan
        self.watch = Watch(plan.repeats)
        self.chosen, self.numbers = numbers, numbers or range(1, 7)
        self.references = references()
        self.peers = [] if numbers else peers()
        self.stages = [ours(stage) for stage in STAGES
                       if stage.number in self.numbers and (plan.variants or not stage.options)]

    def plain(self, *numbers):
        """Those of the given stages that are measured."""
        return [plain(number) for number in numbers if number in self.numbers]

    def run(self, part):
        """The results of this part, by their headings."""
        text = getattr(self, part)()
        os.sched_setaffinity(0, CORES)
        return by_heading(text)

    def disturbances(self):
        watch = self.watch
        if len(watch.shares) < 2:
            return "None of these figures depends on what other programs do."
        return (f"Other programs used {spread(watch.shares, '{:.0%}')} of the processors during {len(watch.shares):,} "
                f"measurements. If it was {watch.MUCH:.0%} or more, the measurement was repeated, {watch.repeated:,} times "
                f"in all. {watch.disturbed:,} results stayed disturbed.")

    # -- windows

    @contextlib.contextmanager
    def running(self, candidates):
        """While this lasts, the candidates and the references run, all on the one core."""
        os.sched_setaffinity(0, {CORE})     # inherited by everything that is started from here on
        everybody = [*candidates, *self.references.values()]
        try:
            for one in everybody:
                one.start()
            yield
        finally:
            for one in everybody:
                one.end()

    def side_by_side(self, workload, candidates, connections, rounds, cores=(CORE,), reference=None):
        """Runs windows of the candidates and of the reference in turn, with the load on these cores. Returns what was
        measured, by candidate."""
        reference = reference or self.references[workload.kind]
        candidates = [one for one in candidates if workload.can(one, connections)]
        told = {}
        for one in (*candidates, reference):
            one.wake()
            told[one] = workload.load(one)
            one.rest()

        def windows(*of_whom):
            return [window(one, told[one], connections, self.plan.ms, cores) for one in of_whom]

        for one in candidates:
            if not one.stage:       # some peers compile their code while it runs
                run_load(one, told[one], connections, 5 * self.plan.ms)
        measured, looked = {one: Measured() for one in candidates}, len(self.watch.shares)
        [before] = windows(reference)
        for _ in range(rounds):
            for one in candidates:
                pair = one, reference
                mine, after = self.watch.quietly(lambda pair=pair: windows(*pair), pair, {CORE, *cores})
                measured[one].add(mine, before, after)
                before = after
        if measured:
            say(f"{workload.name}, {connections} connections, processor time: "
                + ", ".join(f"{one.title} {time_ratio(mine)}" for one, mine in measured.items())
                + f"; others used {max(self.watch.shares[looked:]):.0%} of the processors at most")
        return measured

    def headline(self):
        candidates = [*map(ours, self.plain(*(self.chosen or (3, 5, 6)))), *self.peers]
        with self.running(candidates):
            one_core, two_cores = [
                {workload: self.side_by_side(workload, candidates, self.plan.connections[0], rounds, {core})
                 for workload in (LINES, DEPTH_16, FIB, TASK, CLOSE)}
                for core, rounds in ((CORE, self.plan.headline), (min(CORES), self.plan.rounds))]
        return (f"\n## The headline\n\nThe server's processor time for a request at {self.plan.connections[0]} connections, "
                "as reference ÷ server: 1 is the reference, less is slower. The median, and the middle half of "
                f"{self.plan.headline} paired windows. {DASH}\n\n" + HEADLINE + grid(one_core, candidates, time_ratio)
                + "\nRequests per second in the same windows, as server ÷ reference. The load shares the server's core, so "
                "this figure includes its time.\n\n" + grid(one_core, candidates, rate_ratio)
                + "\nRequests per second with the load on another core. This figure swings with the machine, because it "
                "includes how long one core takes to wake another.\n\n" + grid(two_cores, candidates, rate_ratio))

    def everybody(self):
        candidates, text, times = [*self.stages, *self.peers], "", ""
        with self.running(candidates):
            for connections in self.plan.connections:
                first = connections == self.plan.connections[0]
                asked = [one for one in candidates if first or not (one.stage and one.stage.options)]
                found = {workload: self.side_by_side(workload, asked, connections, self.plan.rounds if first else 5)
                         for workload in WORKLOADS if first or workload is not CLOSE}
                text += (f"\n## Everybody, at {connections} connection{'s' if connections > 1 else ''}\n\nThe server's "
                         f"processor time for a request, as reference ÷ server. {DASH}\n\n"
                         + grid(found, candidates, time_ratio))
                times = times or self.times(found, candidates)
        return text + times

    def times(self, found, candidates):
        dearer = [f"{found[PUT][one].microseconds() / found[TASK][one].microseconds():.1f} times as much as a GET of the "
                  f"task in {one.title}" for one in candidates if one.stage in self.plain(5, 6)]
        return (f"\n## Processor time for a request, µs (user and system), at {self.plan.connections[0]} connections\n\n"
                + grid(found, candidates, lambda measured: f"{measured.microseconds():.1f}")
                + (f"\nA PUT costs {', '.join(dearer)}.\n" if dearer else ""))

    # -- costs without a clock

    def costs(self):
        """Instructions in user space and system calls."""
        missing = [tool[0] for tool in TOOLS.values() if not shutil.which(tool[0])]
        rows = []
        for one in map(ours, self.plain(*range(1, 7))):
            row = [one.title]
            for workload in self.plan.counted:
                # One connection, because writers may wait for each other, and a child's count includes what it inherited.
                alone = workload is PUT or one.stage.child_per_client or not workload.can(one, 64)
                connections = 1 if alone else 64
                if not one.stage.rests or not workload.can(one, connections):
                    row.append("–")
                    continue
                cells = []
                for what, tool in TOOLS.items():
                    count = "–" if tool[0] in missing else self.per_request(what, one, workload, connections)
                    cells.append(count if count == "–" else f"{count:,.{0 if what == 'instructions' else 1}f}")
                row.append(" / ".join(cells))
            rows.append(row)
        return section("What a request costs without a clock", "Instructions in user space (callgrind) / system calls "
                       "(`strace -c`), at 64 connections. `PUT`, stage 1 and stage 2: at one."
                       + (f" Not installed here: {', '.join(missing)}." if missing else ""),
                       ["", *[workload.name for workload in self.plan.counted]], rows)

    def per_request(self, what, candidate, workload, connections):
        """How many of them a request costs: the difference between a short run and a longer one. Both include the start."""
        counts = []
        for ms in self.plan.counted_ms:
            candidate.start(under=TOOLS[what])
            try:
                answered = run_load(candidate, workload.load(candidate), connections, ms, CORES)["in_all"]
                candidate.server.stop()
                counts.append((answered, counted(what, candidate.program.directory)))
            finally:
                candidate.end()
        (few, less), (many, more) = counts
        return (more - less) / (many - few)

    # -- memory

    def memory(self):
        rows = []
        for one in [*self.stages, *self.peers]:
            crowd = min(one.stage.crowd if one.stage else 0 if "Flask" in one.title else 9_000, self.plan.clients)
            if not crowd:
                continue
            one.start()
            try:
                each, before = memory_taken(one, crowd)
                one.server.wait_until_all_have_left()
                time.sleep(self.plan.settled)
                kept = max(one.server.memory() - before, 0) / crowd
            finally:
                one.end()
            rows.append([one.title, f"{crowd:,}", f"{each:,.0f}", f"{kept:,.0f}"])
        return section("Memory for an idle connection, after one request (bytes, user space)", "All the server's processes "
                       "together (Pss, proc(5)), and how much of it they keep a second after all clients have left.",
                       ["", "connections", "each", "kept"], rows)

    # -- many idle connections

    def idle_crowd(self):
        os.sched_setaffinity(0, {CORE})
        rows = []
        sweeps = [stage for stage in STAGES if stage.number == 4 and 4 in self.numbers and stage.option("--wait") != "select"]
        for stage, idle in [*[(stage, idle) for stage in sweeps for idle in self.plan.beside],
                            *[(stage, self.plan.clients) for stage in self.plain(5, 6)]]:
            one = ours(stage).start()
            one.wake()
            lines = LINES.load(one)
            try:
                found = Measured()
                for _ in range(self.plan.rounds):
                    before, mine, after = self.watch.quietly(lambda one=one, lines=lines, idle=idle: [
                        window(one, [*lines, *beside], 64, self.plan.ms)
                        for beside in ((), ("--idle", str(idle)), ())], [one])
                    found.add(mine, before, after)
            finally:
                one.end()
            rows.append([one.title, f"{idle:,}", rate_ratio(found)])
        return section("Idle connections beside 64 busy ones", "Requests per second (`fib 1`), as a ratio to the same "
                       "without the idle connections.", ["", "idle", "ratio"], rows)

    # -- latency

    def latency(self):
        rows = []
        for title, number, options, computing_on in (
                ("stage 6, whose pool has another core", 6, ("--pool", "2"), set(CORES) - {CORE}),
                ("stage 6, whose pool has every core", 6, ("--pool", "2"), CORES), ("stage 5", 5, (), {CORE})):
            for stage in self.plain(number):
                one = ours(stage.with_options(*options)).start()
                for thread in os.listdir(f"/proc/{one.server.pid}/task"):
                    os.sched_setaffinity(int(thread), {CORE} if int(thread) == one.server.pid else computing_on or {CORE})
                try:
                    pairs = [self.watch.quietly(lambda one=one: self.without_and_with(one), [one], CORES)
                             for _ in range(self.plan.rounds)]
                finally:
                    one.end()
                rows.append([title, *[spread(values, "{:.0f}") for values in zip(*pairs)],
                             spread([busy / quiet for quiet, busy in pairs], "{:.1f}")])
        text = section(f"Latency of `fib 1` while two clients compute `fib {self.plan.fib}` again and again", "The 99th "
                       "percentile, µs, of one client that asks again and again, on the same core as the loop.",
                       ["", "without", "with", "times"], rows)
        return text + "".join(map(self.beside_writes, self.plain(6)))

    def without_and_with(self, one):
        def p99():
            return run_load(one, [*LINES.load(one), "--latency"], 1, self.plan.latency_ms)["p99"]

        quiet = p99()
        with computing(one, 2, f"fib {self.plan.fib}\n"):
            return quiet, p99()

    def beside_writes(self, stage):
        one = ours(stage).start()
        try:
            seconds = 4 * self.plan.latency_ms / 1000
            written, others = together(
                lambda: run_load(one, PUT.load(one), 4, 4 * self.plan.latency_ms, CORES),
                lambda: run_load(one, [*LINES.load(one), "--latency"], 1, 4 * self.plan.latency_ms, CORES))
        finally:
            one.end()
        return (f"\nWhile four clients write in {one.title} ({written['in_all']:,} `PUT` in {seconds:.0f} s, a checkpoint "
                f"after each 1,000 pages or so), `fib 1` takes {others['p50']:.0f} µs (median), {others['p99']:.0f} µs (99th "
                f"percentile), {others['worst'] / 1000:.1f} ms at most.\n")

    # -- workers

    def workers(self):
        if len(CORES) < 2:
            return "\n## Two workers\n\nThis machine has only one core.\n"
        rows = []
        for title, alone, pair in (
                ("the reference, and run twice", references()["lines"], two_references()),
                *[(f"stage {stage.number}, and `{' '.join(two.options)}`", ours(stage), ours(two))
                  for stage in self.plain(5, 6) for two in STAGES if two.number == stage.number and two.listens_alone]):
            try:
                alone.start()
                pair.start()
                if pair.stage and pair.stage.workers:
                    pair.server.wait_for_workers()
                elif not pair.stage:
                    wait_for(lambda pair=pair: pair.server.log().count("listening on") == 2, "both references listened")
                scale = [self.watch.quietly(lambda alone=alone, pair=pair: self.on_two_cores(pair) / self.on_one_core(alone),
                                            [alone, pair], CORES[:2]) for _ in range(self.plan.rounds)]
            finally:
                alone.end()
                pair.end()
            rows.append([title, spread(scale)])
        return section("Two workers on two cores", "Requests per second (`fib 1`; a load generator per core, each with 64 "
                       "connections), as a ratio to one server with its load on one core.", ["", "ratio"], rows)

    def on_one_core(self, alone):
        os.sched_setaffinity(alone.server.pid, CORES[:1])
        return rate(run_load(alone, LINES.load(alone), 64, self.plan.ms, CORES[:1]))

    def on_two_cores(self, pair):
        """A loop and a load generator on each core. The kernel spreads the connections of both over both loops."""
        loops = pair.pids       # a master comes first
        if pair.stage and not pair.stage.workers:
            loops = sorted(map(int, os.listdir(f"/proc/{pair.server.pid}/task")))
        for loop, core in zip(loops[-2:], CORES):
            os.sched_setaffinity(loop, {core})
        told = LINES.load(pair)
        return sum(map(rate, together(*[lambda core=core: run_load(pair, told, 64, self.plan.ms, [core])
                                        for core in CORES[:2]])))

    # -- a count

    def count(self):
        """How often threads count that do nothing else."""
        if len(CORES) < 2:
            return "\n## A count for two threads\n\nThis machine has only one core.\n"

        def a_second(way, threads):
            done = subprocess.run(["taskset", "-c", ",".join(map(str, CORES[:threads])), BUILD / "count", way, str(threads),
                                   str(self.plan.ms)], check=True, capture_output=True, text=True)
            return int(done.stdout) / self.plan.ms * 1000

        ways = {"lock": "a mutex", "atomic": "one atomic number", "each": "a number for each thread"}
        found = {way: [(a_second(way, 1), a_second(way, 2)) for _ in range(self.plan.rounds)] for way in ways}
        return section("A count for two threads", "Threads that do nothing but count: nanoseconds for each, with one thread and "
                       "with two on two cores, and how many times as often two count in all.",
                       ["", "one thread (ns)", "two threads (ns)", "two, as a ratio to one"],
                       [[words, spread([1e9 / one for one, _ in found[way]], "{:.1f}"),
                         spread([2e9 / two for _, two in found[way]], "{:.1f}"),
                         spread([two / one for one, two in found[way]])] for way, words in ways.items()])

    # -- start and build

    def start_and_build(self):
        stages = self.plain(*range(1, 7))
        row = []
        for stage in stages:
            times = []
            for _ in range(self.plan.starts):
                program = program_for(stage)
                began = time.monotonic()
                program.start()
                times.append((time.monotonic() - began) * 1000)
                program.clean_up()
            row.append(spread(times, "{:.0f}"))
        text = section("Ready after (ms)", "From fork(2) to the ready line, in a directory without a database.",
                       [f"stage {stage.number}" for stage in stages], [row])
        return text + (self.build() if self.plan.build else "")

    def build(self):
        with tempfile.TemporaryDirectory() as directory:
            (Path(directory) / "tests").mkdir()
            stages = [stage for stage in os.listdir(ROOT) if stage.startswith("stage")]
            for part in ("Makefile", "tests/tools.mk", ".ci", "common", *stages):
                source, target = ROOT / part, Path(directory) / part
                if source.is_dir():
                    shutil.copytree(source, target, ignore=lambda _, names: [name for name in names if name in STAGE_NAMES])
                else:
                    shutil.copy2(source, target)
            environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
            began = time.monotonic()
            subprocess.run(self.plan.build, cwd=directory, check=True, capture_output=True, env=environment)
            seconds = time.monotonic() - began
        say(f"make: {seconds:.0f} s")
        return f"\n`make` from clean takes {seconds:.0f} s on {len(CORES)} cores.\n"

    # -- the naive servers

    def naive(self):
        """Compares rates. Stage 2's server reaps no child, so the kernel does not report the children's processor time."""
        servers, missing = [Naive(stage) for stage in self.plain(*range(1, 7))], ""
        for stage in self.plain(6):
            uring = Naive(stage, "naive_uring")
            try:
                uring.start()
                servers.append(uring)
            except NotRun as reason:
                missing = f" Not run here: {uring.title} ({reason})."
            finally:
                uring.end()
        connections = self.plan.connections[0], 1
        with self.running(servers):
            found = [self.side_by_side(LINES, servers, number, self.plan.rounds) for number in connections]
        rows = [[one.title, *[rate_ratio(measured[one]) if one in measured else "–" for measured in found]]
                for one in servers]
        text = section("The naive servers", "Requests per second, as a ratio to the reference. The servers are asked `1`, "
                       "and answer `1`. Stage 6's starts a thread even for that. A dash: it serves fewer clients at once."
                       + missing,
                       ["", *[f"{number} connection{'s' if number > 1 else ''}" for number in connections]], rows)
        by_title = {one.title: one for one in servers}
        pair = [by_title.get(title) for title in ("stage5_epoll/naive", "stage6_coroutines/naive_uring")]
        return text + (self.completion(*pair) if all(pair) else "")

    def completion(self, epoll, uring):
        """Compares io_uring to epoll: the kernel makes the calls itself, and takes many of them at once."""
        with self.running([epoll, uring]):
            same, other = [self.side_by_side(LINES, [uring], 64, self.plan.rounds, {core}, epoll)[uring]
                           for core in (CORE, min(CORES))]
        calls = ["–", "–"]
        if shutil.which("strace"):
            calls = [f"{self.per_request('system calls', one, LINES, 64):.2f}" for one in (epoll, uring)]
        return ("\nThe server with io_uring beside the one with epoll, at 64 connections: processor time for a request, as "
                "epoll ÷ io_uring; requests per second, as io_uring ÷ epoll, with the load on the same core and on another; "
                "and system calls for a request (`strace -c`).\n\n"
                + table(["", "processor time", "the same core", "another core", "system calls"],
                        [[epoll.title, "1", "1", "1", calls[0]],
                         [uring.title, time_ratio(same), rate_ratio(same), rate_ratio(other), calls[1]]]))


STAGE_NAMES = {stage.name for stage in STAGES}


@contextlib.contextmanager
def idle_clients(candidate, number):
    """While this lasts, so many connections stay open, each of which was answered once."""
    question, reply = (LINES if "lines" in candidate.speaks else FIB).questions(candidate)[0]
    with contextlib.ExitStack() as kept:
        for _ in range(number):
            connection = kept.enter_context(socket.create_connection(("127.0.0.1", candidate.server.port)))
            connection.sendall(question.encode())
            came = b""
            while reply.encode() not in came:
                piece = connection.recv(4096)
                if not piece:
                    raise RuntimeError(f"{candidate.title} has closed one of {number} connections")
                came += piece
        yield


def memory_taken(candidate, crowd):
    """How many bytes each of so many idle connections takes, and how many the server had before they came."""
    with idle_clients(candidate, 5):        # the first connections allocate what all of them share
        before = candidate.server.memory()
        with idle_clients(candidate, crowd):
            return (candidate.server.memory() - before) / crowd, before


@contextlib.contextmanager
def computing(candidate, clients, question="fib 45\n"):
    """While this lasts, so many clients ask for this computation again and again."""
    over = threading.Event()

    def ask():
        address = "127.0.0.1", candidate.server.port
        with contextlib.suppress(ConnectionError), socket.create_connection(address) as connection:
            while not over.is_set():
                connection.sendall(question.encode())
                if not connection.recv(100):
                    return

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


TOOLS = {"instructions": ["valgrind", "--tool=callgrind", "--callgrind-out-file=callgrind.%p"],
         "system calls": ["strace", "-DDD", "-f", "-c", "-o", "strace"]}


def counted(what, directory):
    """The count that the tool has written for a server and its children."""
    if what == "instructions":
        totals = [re.search(r"^(?:totals|summary): (\d+)", file.read_text(), re.MULTILINE)
                  for file in directory.glob("callgrind.*")]
        return sum(int(total[1]) for total in totals if total)
    report = directory / "strace"
    wait_for(lambda: report.exists() and "total" in report.read_text(), "strace had written its report")
    return int(re.search(r"^100\.00\s+\S+\s+\S+\s+(\d+).* total$", report.read_text(), re.MULTILINE)[1])


def machine():
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    compiler = subprocess.run(["g++", "--version"], check=True, capture_output=True, text=True).stdout.splitlines()[0]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (f"{cpu[1] if cpu else platform.machine()}, {len(CORES)} cores, {memory:.0f} GiB, Linux {platform.release()}, "
            f"{compiler}")


PARTS = "headline", "everybody", "costs", "memory", "idle_crowd", "latency", "workers", "count", "start_and_build", "naive"


def by_heading(text):
    """The sections of a page, in their order."""
    return dict(part.split("\n", 1) for part in f"\n{text.strip()}\n".split("\n## ")[1:])


def headline_in(text):
    """The table that follows the mark HEADLINE."""
    return text.split(HEADLINE)[1].split("\n\n")[0].strip() + "\n"


def quote(results):
    """Puts the headline of these results into tests/README.md."""
    readme = ROOT / "tests" / "README.md"
    text = readme.read_text()
    readme.write_text(text.replace(headline_in(text), headline_in(results)))


def page(bench, sections, newest):
    return (f"# How fast the servers are\n\nMade by `make bench` on {datetime.date.today()}{newest}, on: {machine()}.\n\n"
            f"{bench.disturbances()}\n\nThe beginning of [bench.py](bench.py) says what is measured, and how.\n"
            + "".join(f"\n## {heading}\n{body.rstrip()}\n" for heading, body in sections.items()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", dest="plan", action="store_const", const=QUICK, default=Plan(),
                        help="shorter windows, the stages without options, 64 connections")
    parser.add_argument("--moment", dest="plan", action="store_const", const=MOMENT,
                        help="tries whether each part works; the figures mean nothing")
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", default=PARTS,
                        help=f"only these parts, and the rest of the file stays as it is: {', '.join(PARTS)}")
    parser.add_argument("--stage", nargs="+", type=int, choices=range(1, 7), metavar="N",
                        help="only these stages, and no peers")
    parser.add_argument("--output", metavar="FILE", help="write to this file instead of standard output")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    signal.signal(signal.SIGTERM, signal.default_int_handler)       # so that what it has started is ended
    old = Path(options.output) if options.output else None
    part_of_it = options.only != PARTS
    sections = by_heading(old.read_text()) if part_of_it and old and old.exists() else {}
    bench = Bench(options.plan, options.stage)
    newest = f" (last: {', '.join(options.only)})" if part_of_it else ""
    for part in options.only:
        sections.update(bench.run(part))
        text = page(bench, sections, newest)
        if options.output:      # after each part, so that one that fails costs only itself
            Path(options.output).write_text(text)
            quote(text)
    say(bench.disturbances())
    if not options.output:
        print(text)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted")
