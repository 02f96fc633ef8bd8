"""How fast the servers are: measures them beside two references and, where they are installed, their peers.

`make bench` runs this, and writes RESULTS.md beside it. Throughput is told as a ratio to a reference that makes the same
system calls and understands nothing (reference.cpp): server and load generator share one core, windows of the reference and
of the candidates alternate, and a ratio is that of a window to the windows of the reference before and after it. So what
comes and goes on a shared machine, such as the price of a wake-up from one core to another, is in both and cancels out.
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
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PEERS = HERE.parent / "peers"
sys.path.insert(0, str(HERE.parent))
from harness import Program, go_on, place_of, stand_still, stat_fields, together, wait_for    # noqa: E402: a path of its own
from stages import STAGES, Stage, plain     # noqa: E402

BUILD = ROOT / "build" / "release" / "bench"
CORE = max(os.sched_getaffinity(0))     # the one that candidates and load share
CORES = sorted(os.sched_getaffinity(0))


def say(text):
    print(text, file=sys.stderr, flush=True)


# ---- Servers ------------------------------------------------------------------------------------------------------------

def program_for(stage, foreign=None):
    return Program(stage, lambda stage: str(ROOT / stage.name / stage.name), foreign)


class Candidate:
    """One that is measured: a stage's technique, a peer, or a reference."""

    def __init__(self, title, stage=None, foreign=None, speaks="", line=("fib 1\n", "fib: 1")):
        self.title, self.stage, self.foreign, self.speaks = title, stage, foreign, speaks
        self.line = line        # that it is asked where it speaks lines, and its answer
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
        return self.server.pids()

    def rest(self):
        """Between its windows one that never rests would take the others' time."""
        if self.stage and not self.stage.rests:
            stand_still(self.pids)

    def wake(self):
        if self.stage and not self.stage.rests:
            go_on(self.pids)

    def end(self):
        if self.program:
            self.program.clean_up()


def ours(stage):
    return Candidate(stage.title, stage=stage, speaks="lines http tasks writes")


def references():
    return {kind: Candidate(f"reference, {kind}", foreign=f"exec {BUILD}/reference {kind} {{port}}", speaks=kind)
            for kind in ("lines", "http")}


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
    """Those that are installed."""
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
    """One and another in turn, else SQLite would see that nothing changes."""
    target = f"/api/tasks/{candidate.tasks[0]}"
    return [(http_request("PUT", target, body), candidate.ask("PUT", target, body))
            for body in ('{"done": true}', '{"done": false}')]


class Workload:
    def __init__(self, name, needs, questions, *options, close=False):
        self.name, self.needs, self.questions, self.options, self.close = name, needs, questions, options, close
        self.kind = "lines" if needs == "lines" else "http"

    def can(self, candidate, connections):
        """Whether this candidate can be asked this over so many connections."""
        if self.needs not in candidate.speaks:
            return False
        stage = candidate.stage
        if stage is None or self.close:
            return True
        if stage.child_per_client and connections > 250:
            return False        # its limit unless told otherwise
        return stage.serves(connections) and (stage.keeps_http_open or self.kind == "lines")

    def load(self, candidate):
        """What the load generator is told."""
        # A reference answers the same to anything.
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


def run_load(candidate, arguments, connections, ms, cores=(CORE,)):
    command = [str(BUILD / "load"), str(candidate.server.port), "--connections", str(connections), "--ms", str(ms), *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True,
                          preexec_fn=lambda: os.sched_setaffinity(0, cores))
    if done.returncode:
        raise RuntimeError(f"{candidate.title}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def rate(result):
    return result["requests"] / result["seconds"]


def processor_time(candidate):
    """User's and system's, in seconds, that of children who have ended included."""
    fields = [stat_fields(pid) for pid in candidate.pids]
    ticks = os.sysconf("SC_CLK_TCK")
    return tuple(sum(int(each[at]) + int(each[at + 2]) for each in fields if each) / ticks for at in (11, 12))


class Measured:
    """What a workload's windows came to for one candidate."""

    def __init__(self):
        self.ratios, self.requests, self.user, self.system = [], 0, 0.0, 0.0

    def per_request(self):
        """Microseconds of processor time, user's and system's."""
        return self.user / self.requests * 1e6, self.system / self.requests * 1e6


def spread(values, form="{:.2f}"):
    """The median, and the middle half of all values."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{form.format(middle)} ({form.format(low)}–{form.format(high)})"


def side_by_side(workload, candidates, connections, reference, ms, rounds):
    """Alternating windows; returns what was measured, by candidate."""
    candidates = [one for one in candidates if workload.can(one, connections)]
    told = {}
    for one in (*candidates, reference):
        one.wake()
        told[one] = workload.load(one)
        one.rest()
    measured = {one: Measured() for one in candidates}

    def reference_rate():
        return rate(run_load(reference, told[reference], connections, ms))

    before = reference_rate()       # a window of the reference always follows one of somebody else's, but for this
    for _ in range(rounds):
        for one in candidates:
            one.wake()
            user, system = processor_time(one)
            result = run_load(one, told[one], connections, ms)
            user_now, system_now = processor_time(one)
            one.rest()
            after = reference_rate()
            mine = measured[one]
            mine.user += user_now - user
            mine.system += system_now - system
            mine.requests += result["in_all"]
            mine.ratios.append(rate(result) / statistics.mean([before, after]))
            before = after
    return measured


# ---- Tables ---------------------------------------------------------------------------------------------------------------

def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "|".join("---" if i == 0 else "--:" for i in range(len(head))) + "|"]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]) + "\n"


# The README quotes the table that follows it.
HEADLINE = "<!-- the headline -->\n"


class Bench:
    def __init__(self, quick):
        self.quick = quick
        self.ms, self.rounds = (150, 5) if quick else (400, 7)
        self.references = references()
        self.peers = peers()
        self.stages = [ours(stage) for stage in STAGES if not (quick and stage.options)]
        self.five, self.six = (next(one for one in self.stages if one.stage == plain(n)) for n in (5, 6))

    def run(self, parts):
        """The results, by their headings."""
        text = ""
        for part in parts:
            text += getattr(self, part)()
            os.sched_setaffinity(0, CORES)
        return by_heading(text)

    # -- throughput

    def headline(self):
        with self.everybody([self.five, self.six, *self.peers]):
            rows, rounds = [], 3 * self.rounds
            for workload in LINES, DEPTH_16, FIB, TASK, CLOSE:
                reference = self.references[workload.kind]
                two = side_by_side(workload, (self.five, self.six), 64, reference, self.ms, rounds)
                others = side_by_side(workload, self.peers, 64, reference, self.ms, self.rounds)
                rows.append([workload.name, *[spread(mine.ratios) for mine in two.values()],
                             ", ".join(f"{one.title} {statistics.median(mine.ratios):.2f}" for one, mine in others.items())])
                say("headline: " + " | ".join(rows[-1]))
        return ("\n## The headline\n\nRequests per second at 64 connections, as a ratio to the reference: the median, and the "
                f"middle half of {rounds} paired windows (of peers: the median of {self.rounds}).\n\n" + HEADLINE
                + table(["what", "stage 5", "stage 6", "peers"], rows))

    @contextlib.contextmanager
    def everybody(self, candidates):
        """While this lasts, these run on the one core, and the references."""
        os.sched_setaffinity(0, {CORE})     # and so everything that is started from here on
        everybody = [*candidates, *self.references.values()]
        try:
            for one in everybody:
                one.start()
            yield
        finally:
            for one in everybody:
                one.end()

    def throughput(self):
        found = {}
        with self.everybody([*self.stages, *self.peers]):
            for connections in (64,) if self.quick else (64, 1, 512):
                candidates = [*self.stages, *self.peers]
                if connections != 64:
                    candidates = [one for one in candidates if not (one.stage and one.stage.options)]
                for workload in WORKLOADS:
                    if workload is CLOSE and connections != 64:
                        continue
                    rounds = self.rounds if connections == 64 else 5
                    measured = side_by_side(workload, candidates, connections, self.references[workload.kind], self.ms, rounds)
                    say(f"{workload.name}, {connections} connections: " + ", ".join(
                        f"{one.title} {spread(mine.ratios)}" for one, mine in measured.items()))
                    found[workload, connections] = measured
        return "".join(self.ratios(found, connections) for connections in (64, 1, 512)
                       if (LINES, connections) in found) + self.times(found)

    def ratios(self, found, connections):
        workloads = [workload for workload in WORKLOADS if (workload, connections) in found]
        rows = []
        for one in [*self.stages, *self.peers]:
            cells = [found[workload, connections].get(one) for workload in workloads]
            if any(cells):
                rows.append([one.title, *["–" if cell is None else spread(cell.ratios) for cell in cells]])
        return (f"\n## Everybody, at {connections} connection{'s' if connections > 1 else ''}\n\n"
                "The same ratio. A dash: can't be asked that, as one who serves fewer clients at once, or keeps no HTTP "
                "connection open.\n\n" + table(["", *[workload.name for workload in workloads]], rows))

    def times(self, found):
        workloads = [workload for workload in WORKLOADS if workload is not DEPTH_16]
        rows = []
        for one in [*self.stages, *self.peers]:
            cells = [found[workload, 64].get(one) for workload in workloads]
            # Whose processes come and go with the clients takes part of its time along.
            if any(cells) and not (one.stage and one.stage.child_per_client):
                rows.append([one.title, *["–" if cell is None else "{:.1f} + {:.1f}".format(*cell.per_request())
                                          for cell in cells]])
        dearer = [sum(found[PUT, 64][one].per_request()) / sum(found[TASK, 64][one].per_request())
                  for one in (self.five, self.six)]
        return ("\n## Processor time for a request, µs (user + system), at 64 connections\n\n"
                + table(["", *[workload.name for workload in workloads]], rows)
                + "\nA `PUT` costs {:.1f} times as much as to read the task in stage 5, {:.1f} times in stage 6.\n"
                .format(*dearer))

    # -- what needs no clock

    def costs(self):
        """Instructions in user space and system calls: the difference between a short run and a longer one."""
        tools = {"instructions": ["valgrind", "--tool=callgrind", "--callgrind-out-file=callgrind.%p"],
                 "system calls": ["strace", "-DDD", "-f", "-c", "-o", "strace"]}
        workloads = LINES, FIB, TASK, PUT
        text = "\n## What a request costs without a clock\n\n"
        missing = [tool[0] for tool in tools.values() if not shutil.which(tool[0])]
        rows = []
        for number in range(1, 7):
            one = ours(plain(number))
            row = [one.title]
            for workload in workloads:
                # Who writes may wait for others; and what a child is born with counts as its own.
                alone = workload is PUT or one.stage.child_per_client or not workload.can(one, 64)
                connections = 1 if alone else 64
                if not one.stage.rests or not workload.can(one, connections):
                    row.append("–")
                    continue
                cells = []
                for what, tool in tools.items():
                    if tool[0] in missing:
                        cells.append("–")
                        continue
                    counts = []
                    for ms in (200, 4000):      # apart enough for the start not to matter
                        one.start(under=tool)
                        try:
                            answered = run_load(one, workload.load(one), connections, ms, CORES)["in_all"]
                            one.server.stop()
                            counts.append((answered, counted(what, one.program.directory)))
                        finally:
                            one.end()
                    (few, less), (many, more) = counts
                    cells.append(f"{(more - less) / (many - few):,.{0 if what == 'instructions' else 1}f}")
                row.append(" / ".join(cells))
            rows.append(row)
            say("without a clock: " + " | ".join(row))
        return (text + "Instructions in user space (callgrind) / system calls (`strace -c`), at 64 connections, or one: for "
                "`PUT`, and where each has a process.\n"
                + (f"Not installed here: {', '.join(missing)}.\n" if missing else "") + "\n"
                + table(["", *[workload.name for workload in workloads]], rows))

    # -- memory

    def memory(self):
        rows = []
        for one in [*self.stages, *self.peers]:
            crowd = one.stage.crowd if one.stage else 0 if "Flask" in one.title else 9_000
            if not crowd:
                continue
            one.start()
            try:
                each, before = memory_taken(one, crowd)
                time.sleep(1)
                kept = max(one.server.memory() - before, 0) / crowd
            finally:
                one.end()
            rows.append([one.title, f"{crowd:,}", f"{each:,.0f}", f"{kept:,.0f}"])
            say("memory: " + " | ".join(rows[-1]))
        return ("\n## Memory for an idle connection, after one request (bytes, user space)\n\nAll the server's processes "
                "together (Pss, proc(5)), and how much of it is kept a second after all have left.\n\n"
                + table(["", "connections", "each", "kept"], rows))

    # -- many idle ones

    def idle_crowd(self):
        os.sched_setaffinity(0, {CORE})
        rows = []
        sweeps = [stage for stage in STAGES if stage.number == 4 and stage.option("--wait") != "select"]
        for stage, idle in [(stage, idle) for stage in sweeps for idle in ((2_000,) if self.quick else (500, 1_000, 2_000))] + [
                (plain(5), 10_000), (plain(6), 10_000)]:
            one = ours(stage).start()
            one.wake()
            try:
                ratios = []
                for _ in range(self.rounds):
                    without = rate(run_load(one, LINES.load(one), 64, self.ms))
                    beside = rate(run_load(one, [*LINES.load(one), "--idle", str(idle)], 64, self.ms))
                    again = rate(run_load(one, LINES.load(one), 64, self.ms))
                    ratios.append(beside / statistics.mean([without, again]))
            finally:
                one.end()
            rows.append([one.title, f"{idle:,}", spread(ratios)])
            say("idle crowd: " + " | ".join(rows[-1]))
        return ("\n## Idle connections beside 64 busy ones\n\n`fib 1`, as a ratio to the same without the idle ones.\n\n"
                + table(["", "idle", "ratio"], rows))

    # -- latency

    def latency(self):
        rows = []
        for title, stage, computing_on in (
                ("stage 6, whose pool has another core", plain(6).with_options("--pool", "2"), set(CORES) - {CORE}),
                ("stage 6, whose pool has every core", plain(6).with_options("--pool", "2"), CORES),
                ("stage 5", plain(5), {CORE})):
            one = ours(stage).start()
            for thread in os.listdir(f"/proc/{one.server.pid}/task"):
                os.sched_setaffinity(int(thread), {CORE} if int(thread) == one.server.pid else computing_on or {CORE})
            try:
                quiet, busy = [], []
                for _ in range(3 if self.quick else 7):
                    quiet.append(self.p99(one))
                    with computing(one, 2):
                        busy.append(self.p99(one))
                pairs = [with_it / without for with_it, without in zip(busy, quiet)]
            finally:
                one.end()
            rows.append([title, spread(quiet, "{:.0f}"), spread(busy, "{:.0f}"), spread(pairs, "{:.1f}")])
            say("latency: " + " | ".join(rows[-1]))
        text = ("\n## Latency of `fib 1` while two clients compute `fib 45` again and again\n\nThe 99th percentile, µs, of "
                "one client who asks again and again, on the same core as the loop.\n\n"
                + table(["", "without", "with", "times"], rows))
        one = ours(plain(6)).start()
        try:
            writers = subprocess.Popen([str(BUILD / "load"), str(one.server.port), "--connections", "4", "--ms",
                                        str(2_000 if self.quick else 8_000), *PUT.load(one)], stdout=subprocess.PIPE, text=True)
            time.sleep(0.3)
            others = run_load(one, [*LINES.load(one), "--latency"], 1, 1_500 if self.quick else 7_000, CORES)
            written = json.loads(writers.communicate()[0])
        finally:
            one.end()
        say(f"beside writes: {others}, {written}")
        return text + (f"\nWhile four clients write in stage 6 ({written['in_all']:,} `PUT` in {written['seconds']:.0f} s, a "
                       f"checkpoint after each 1,000 pages or so), `fib 1` takes {others['p50']:.0f} µs (median), "
                       f"{others['p99']:.0f} µs (99th percentile), {others['worst'] / 1000:.1f} ms at the most.\n")

    def p99(self, one):
        return run_load(one, [*LINES.load(one), "--latency"], 1, 700 if self.quick else 2_000)["p99"]

    # -- workers

    def workers(self):
        if len(CORES) < 2:
            return "\n## Two workers\n\nThere is one core only.\n"
        rows = []
        for title, number in (("the reference, and run twice", None), ("stage 5, and `--workers 2`", 5),
                              ("stage 6, and `--workers 2`", 6)):
            if number:
                alone, pair = ours(plain(number)).start(), [ours(plain(number).with_options("--workers", "2")).start()]
                pair[0].server.wait_for_workers()
            else:
                alone, pair = references()["lines"].start(), two_references()
            try:
                scale = [self.on_two_cores(pair) / self.on_one_core(alone) for _ in range(self.rounds)]
            finally:
                for one in (alone, *pair):
                    one.end()
            rows.append([title, spread(scale)])
            say("workers: " + " | ".join(rows[-1]))
        return ("\n## Two workers on two cores\n\n`fib 1`, 64 connections for each of one load generator per core, as a ratio "
                "to one server with its load on one core.\n\n" + table(["", "ratio"], rows))

    def on_one_core(self, alone):
        os.sched_setaffinity(alone.server.pid, CORES[:1])
        return rate(run_load(alone, LINES.load(alone), 64, self.ms, CORES[:1]))

    def on_two_cores(self, candidates):
        """A process and a load generator on each; the kernel shares out their connections, wherever they come from."""
        pids = [pid for one in candidates for pid in one.server.workers() or [one.server.pid]]
        for pid, core in zip(pids, CORES):
            os.sched_setaffinity(pid, {core})
        told = LINES.load(candidates[0])
        return sum(map(rate, together(*[lambda core=core: run_load(candidates[0], told, 64, self.ms, [core])
                                        for core in CORES[:2]])))

    # -- start and build

    def start_and_build(self):
        row = []
        for number in range(1, 7):
            times = []
            for _ in range(5 if self.quick else 15):
                program = program_for(plain(number))
                began = time.monotonic()
                program.start()
                times.append((time.monotonic() - began) * 1000)
                program.clean_up()
            row.append(spread(times, "{:.0f}"))
        say("ready: " + " | ".join(row))
        text = "\n## Ready after (ms)\n\nFrom fork(2) to the ready line, in a directory without a database.\n\n" + table(
            [f"stage {number}" for number in range(1, 7)], [row])
        if self.quick:
            return text
        with tempfile.TemporaryDirectory() as directory:
            for part in ("Makefile", ".ci", "common", *[stage for stage in os.listdir(ROOT) if stage.startswith("stage")]):
                source, target = ROOT / part, Path(directory) / part
                if source.is_dir():
                    shutil.copytree(source, target, ignore=lambda _, names: [name for name in names if name in STAGE_NAMES])
                else:
                    shutil.copy2(source, target)
            environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
            began = time.monotonic()
            subprocess.run(["make"], cwd=directory, check=True, capture_output=True, env=environment)
            seconds = time.monotonic() - began
        say(f"make: {seconds:.0f} s")
        return text + f"\n`make` from clean takes {seconds:.0f} s on {len(CORES)} cores.\n"


STAGE_NAMES = {stage.name for stage in STAGES}


def two_references():
    """On one port, which each of them listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    pair = [Candidate("reference, lines", speaks="lines") for _ in range(2)]
    for one in pair:
        one.program = program_for(Stage(0, "peer"))
        one.server = OnPort(one.program, port)
    return pair


class OnPort:
    """A reference on a port that it shares: that somebody accepts there does not tell that it is ready."""

    def __init__(self, program, port):
        self.port = port
        self.process = subprocess.Popen([BUILD / "reference", "lines", str(port)], stdout=subprocess.PIPE)
        self.pid = self.process.pid
        self.process.stdout.readline()
        program.servers.append(self)

    def workers(self):
        return []

    def pids(self):
        return [self.pid]

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@contextlib.contextmanager
def idle_clients(candidate, number):
    """While this lasts, so many connections stay, each of which was answered once."""
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
    """How much memory each of so many idle connections takes, and how much the server had before they came."""
    with idle_clients(candidate, 5):        # the first ones need what all of them share
        before = candidate.server.memory()
        with idle_clients(candidate, crowd):
            return (candidate.server.memory() - before) / crowd, before


@contextlib.contextmanager
def computing(candidate, clients, question="fib 45\n"):
    """While this lasts, so many clients have this computed again and again."""
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


def counted(what, directory):
    """What the tool has written about a server and its children."""
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


PARTS = "headline", "throughput", "costs", "memory", "idle_crowd", "latency", "workers", "start_and_build"


def by_heading(text):
    """The sections of a page, in their order."""
    return dict(part.split("\n", 1) for part in f"\n{text.strip()}\n".split("\n## ")[1:])


def headline_in(text):
    """The table that follows the mark."""
    return text.split(HEADLINE)[1].split("\n\n")[0].strip() + "\n"


def quote(results):
    """Puts the headline of these results into the README."""
    readme = ROOT / "README.md"
    text = readme.read_text()
    readme.write_text(text.replace(headline_in(text), headline_in(results)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="shorter windows, the stages without options, 64 connections")
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART",
                        help=f"measure only these, and leave the rest of the file as it is: {', '.join(PARTS)}")
    parser.add_argument("--output", metavar="FILE", help="write there; else to standard output")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    signal.signal(signal.SIGTERM, signal.default_int_handler)       # what it has started is ended in any case
    old = Path(options.output) if options.output else None
    sections = by_heading(old.read_text()) if options.only and old and old.exists() else {}
    sections.update(Bench(options.quick).run(options.only or PARTS))
    newest = f" (last: {', '.join(options.only)})" if options.only else ""
    text = (f"# How fast the servers are\n\nMade by `make bench{' QUICK=1' if options.quick else ''}`"
            f" on {datetime.date.today()}{newest}, on: {machine()}.\n\n"
            "What is measured, and how, stands at the beginning of [bench.py](bench.py).\n"
            + "".join(f"\n## {heading}\n{body.rstrip()}\n" for heading, body in sections.items()))
    if options.output:
        Path(options.output).write_text(text)
        quote(text)
    else:
        print(text)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted")
