"""The five experiments. Each runs round by round: a round adds one value to each of the experiment's figures.

In a round the servers take turns, so that a busy hour of a shared machine affects all of them alike. A ratio compares values
of the same round. Servers whose clients only sleep are measured side by side.
"""
import contextlib
import json
import os
import resource
import selectors
import socket
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "bench"))
import bench    # noqa: E402: after sys.path
from bench import CORE, CORES, LINES, PEERS, Candidate, Workload     # noqa: E402
from harness.checks import expect    # noqa: E402: after sys.path
from harness.stages import STAGES, plain    # noqa: E402: after sys.path

TALK, THREADS = "the talk's server, in Python", "stage3_threads"
ON_ALL_CORES = ", on all cores"     # added to the names of those that run there


@dataclass(frozen=True)
class Plan:
    """How much is measured."""
    stages: tuple = STAGES
    rounds: int = 5                     # at most
    seconds: int = 570                  # an experiment that would exceed them is not repeated
    clients: tuple = (1, 2, 4, 8, 16)   # that ask at the same moment
    drawn: int = 8                      # the number of clients in the charts
    sleep: str = "1"
    fib: int = 42
    others: tuple = (1, 2, 4)           # clients that compute meanwhile
    long_fib: int = 38
    talk_fib: int = 28                  # takes Python about as long
    connections: tuple = (10_000, 1_000, 100, 10, 1)    # the most first: clients that left may still count
    crowd: int = 1_000                  # idle clients, whose memory is measured
    idle: int = 100                     # idle clients, with which processor time at rest is measured
    ms: int = 200                       # a window of load
    at_rest: float = 1.0                # seconds
    frameworks: object = None           # a function that returns them; None: those that are installed


QUICK = Plan(stages=tuple(stage for stage in STAGES if not stage.options), rounds=3, seconds=110, clients=(1, 4), drawn=4,
             connections=(1_000, 100, 1), ms=150)


class Figures:
    """What was measured, by experiment, who, what and how: a value for each round."""

    def __init__(self):
        self.values, self.units = {}, {}
        self.cannot = {}        # why a value is missing, by experiment, who and how
        self.failed = {}        # why a server failed, by experiment and who

    def add(self, experiment, who, what, parameters, unit, value):
        self.values.setdefault((experiment, who, what, parameters), []).append(value)
        self.units[what] = unit

    def fail(self, experiment, who, why):
        """Drops all values of a server that failed: it may have been at fault before."""
        self.failed.setdefault((experiment, who), why)
        for key in [key for key in self.values if key[:2] == (experiment, who)]:
            del self.values[key]

    def rows(self):
        """Experiment, who, what, parameters, unit, median, lowest, highest, number of values, remark."""
        for key, values in self.values.items():
            yield (*key, self.units[key[2]], *(f"{value:.6g}" for value in summary(values)), len(values), "")
        for (experiment, who, parameters), why in self.cannot.items():
            yield (experiment, who, "", parameters, "", "", "", "", 0, why)
        for (experiment, who), why in self.failed.items():
            yield (experiment, who, "", "", "", "", "", "", 0, f"failed: {why}")

    def rounds(self, experiment):
        """How many rounds of this experiment there were."""
        return max((len(values) for key, values in self.values.items() if key[0] == experiment), default=0)


def summary(values):
    """The median, the lowest and the highest."""
    return statistics.median(values), min(values), max(values)


class Experiment:
    name = ""

    def __init__(self, plan, figures, bar):
        self.plan, self.figures, self.bar = plan, figures, bar

    def add(self, one, what, parameters, unit, value):
        self.figures.add(self.name, one.title, what, parameters, unit, value)

    def cannot(self, one, parameters, why):
        self.figures.cannot[self.name, one.title, parameters] = why

    def is_well(self, one):
        return (self.name, one.title) not in self.figures.failed

    def well(self, candidates):
        """One after the other, except those that have failed by then."""
        return (one for one in candidates if self.is_well(one))

    @contextlib.contextmanager
    def trying(self, one):
        """An exception in here goes into the report, and ends the server's part in this experiment."""
        try:
            yield
        except Exception as failure:
            self.failed(one, failure)

    def failed(self, one, failure):
        self.figures.fail(self.name, one.title, str(failure).partition("\n")[0] or type(failure).__name__)
        one.end()

    @contextlib.contextmanager
    def running(self, candidates, cores=(CORE,)):
        """While this lasts, the candidates run, on the same cores as the load."""
        os.sched_setaffinity(0, cores)      # inherited by everything that is started from here on
        candidates = list(self.well(candidates))
        try:
            for one in candidates:
                with self.trying(one):
                    one.start()
            yield candidates
            for one in self.well(candidates):
                with self.trying(one):
                    expect(one.server.process.poll(), None, "its exit status, before it was told to end")
        finally:
            for one in candidates:
                one.end()
            os.sched_setaffinity(0, CORES)

    @contextlib.contextmanager
    def turn(self, one):
        """A server's turn to be measured: wakes it before, and lets it rest after."""
        with self.trying(one):
            one.wake()
            yield
            one.rest()

    def servers(self):
        return [Candidate(stage.title, stage=stage, speaks="lines") for stage in self.plan.stages]

    def ratios_to_stage_5(self, what, parameters, values):
        """Adds the ratios of one round; `values` are by candidate."""
        five = next((value for one, value in values.items() if one.title == "stage5_epoll"), None)
        for one, value in values.items():
            if five and self.is_well(one):
                self.add(one, f"{what}, as a ratio to stage 5", parameters, "times", value / five)


# ---- Clients that ask at the same moment --------------------------------------------------------------------------------

@dataclass(frozen=True)
class Question:
    kind: str
    asked: bytes
    begins: bytes       # how the right answer begins
    ends: bytes = b""   # and how it ends, without trailing blanks


class Visit:
    """Clients that ask one server at the same moment, each on its own connection, and leave when they are answered."""

    def __init__(self, one, parameters, questions):
        self.one, self.parameters, self.questions = one, parameters, questions
        self.answered = {}      # seconds until the answer, by the client's number
        self.open, self.received, self.begun = {}, {}, None
        self.cores = self.cores_wanted()

    def cores_wanted(self):
        """On how many cores the server may compute."""
        stage, computing = self.one.stage, [question.kind for question in self.questions].count("fib")
        if stage and not stage.rests:
            return 1
        return min(computing, 1 if stage and stage.fib_holds_others else len(CORES))

    def begin(self, selector):
        self.one.wake()
        for number in range(len(self.questions)):       # the server accepts them in this order
            self.open[number] = socket.create_connection(("127.0.0.1", self.one.server.port))
            self.received[number] = b""
        self.begun = time.monotonic()       # one moment for all, because the first may be served before the second has asked
        for number, question in enumerate(self.questions):
            self.open[number].sendall(question.asked)
            selector.register(self.open[number], selectors.EVENT_READ, (self, number))

    def receive(self, selector, number):
        data = self.open[number].recv(4096)
        now = time.monotonic()
        self.received[number] += data
        question, received = self.questions[number], self.received[number]
        if not data or received[:len(question.begins)] != question.begins[:len(received)]:
            raise RuntimeError(f"{question.asked!r} was answered {received!r}")
        if len(received) >= len(question.begins) and received.rstrip().endswith(question.ends):
            self.answered[number] = now - self.begun
            self.leave(selector, number)

    def leave(self, selector, number):
        connection = self.open.pop(number)
        with contextlib.suppress(KeyError):     # it has not asked yet
            selector.unregister(connection)
        connection.close()

    def end(self, selector):
        for number in list(self.open):
            self.leave(selector, number)

    def is_over(self):
        return len(self.answered) == len(self.questions)

    def uses_cores(self):
        if self.one.stage and not self.one.stage.rests:
            return not self.is_over()
        return any(question.kind == "fib" and number not in self.answered for number, question in enumerate(self.questions))


class Visits(Experiment):
    """An experiment of visits. The visits of one chain come one after the other; chains run side by side. A visit that
    computes begins only when enough cores are free for it, and holds them until its last fib is answered."""

    def make(self, chains):
        self.waiting, self.under_way, self.free = list(chains), [], len(CORES)
        with selectors.DefaultSelector() as selector:
            try:
                while self.waiting or self.under_way:
                    self.begin(selector)
                    self.take_answers(selector)
                    self.end_those_over(selector)
            finally:
                for chain in self.under_way:
                    chain[0].end(selector)

    def begin(self, selector):
        for chain in list(self.waiting):
            visit = chain[0]
            if self.bar.elapsed() > self.plan.seconds:
                self.waiting.remove(chain)
                for late in chain:
                    self.cannot(late.one, late.parameters, "there was no time left")
            elif not self.is_well(visit.one):
                self.waiting.remove(chain)
            elif visit.cores <= self.free:
                self.waiting.remove(chain)
                self.under_way.append(chain)
                self.free -= visit.cores
                self.bar.detail(f"{visit.parameters}, {visit.one.title}")
                with self.trying(visit.one):
                    visit.begin(selector)

    def take_answers(self, selector):
        if not selector.get_map():
            return
        events = selector.select(60)
        for visit, number in [key.data for key, _ in events]:
            with self.trying(visit.one):
                visit.receive(selector, number)
        for chain in [] if events else self.under_way:
            with self.trying(chain[0].one):
                raise RuntimeError("no answer for a minute")

    def end_those_over(self, selector):
        for chain in list(self.under_way):
            visit, well = chain[0], self.is_well(chain[0].one)
            if not (well and visit.uses_cores()):
                self.free, visit.cores = self.free + visit.cores, 0
            if visit.is_over() or not well:
                self.under_way.remove(chain)
                visit.end(selector)
                if not well:
                    visit.one.end()
                    continue
                visit.one.rest()
                self.note(visit)
                self.waiting += [chain[1:]] if chain[1:] else []

    def note(self, visit):
        for number, seconds in sorted(visit.answered.items()):
            self.add(visit.one, "answered", f"{visit.parameters}, client {number + 1}", "s after asking", seconds)
        self.add(visit.one, "last answered", visit.parameters, "s after asking", max(visit.answered.values()))


class WhoWaits(Visits):
    name = "who waits"

    def kinds(self):
        """What the clients ask, in turn."""
        sleep = Question("sleep", f"sleep {self.plan.sleep}\n".encode(), f"slept: {self.plan.sleep}\n".encode())
        fib = Question("fib", f"fib {self.plan.fib}\n".encode(), f"fib: {fib_of(self.plan.fib)}\n".encode())
        return {f"sleep {self.plan.sleep}": [sleep], f"fib {self.plan.fib}": [fib], "mixed": [sleep, fib]}

    def round(self):
        servers = {kind: self.servers() for kind in self.kinds()}
        with self.running([one for of_kind in servers.values() for one in of_kind], CORES) as there:
            self.make([self.chain(one, kind) for kind, of_kind in servers.items() for one in of_kind if one in there])

    def chain(self, one, kind):
        questions = self.kinds()[kind]
        return [Visit(one, f"{kind}, {number} client{'s' if number > 1 else ''}",
                      [questions[client % len(questions)] for client in range(number)]) for number in self.plan.clients]

    def note(self, visit):
        super().note(visit)
        kind, number = visit.parameters.split(", ")
        alone = self.figures.values[self.name, visit.one.title, "last answered", f"{kind}, 1 client"][-1]
        self.add(visit.one, "last answered, as a ratio to one client alone", f"{kind}, {number}", "times",
                 max(visit.answered.values()) / alone)


def fib_of(n):
    before, this = 0, 1
    for _ in range(n - 1):
        before, this = this, before + this
    return this


# ---- The talk's experiment ----------------------------------------------------------------------------------------------

class Talk(Experiment):
    name = "the talk's experiment"

    def round(self):
        for server in self.well([*self.servers(), self.talks(TALK)]):
            self.on(server, (CORE,))
        for server in self.well([self.talks(TALK + ON_ALL_CORES),
                                 Candidate(THREADS + ON_ALL_CORES, stage=plain(3), speaks="lines")]):
            self.on(server, CORES)

    def talks(self, title):
        return Candidate(title, foreign=f"exec {sys.executable} {PEERS}/talk.py {{port}}", speaks="lines", line=("1", "1"))

    def on(self, server, cores):
        with self.running([server], cores) as there:
            for one in self.well(there):
                self.bar.detail(one.title)
                with self.turn(one):
                    self.measure(one, cores)

    def measure(self, one, cores):
        n = self.plan.long_fib if one.stage else self.plan.talk_fib
        question, reply = (f"fib {n}\n", f"fib: {fib_of(n)}\n") if one.stage else (str(n), f"{fib_of(n)}\n")
        self.add(one, "a computation", "alone", "s", seconds_for(one, question, reply))
        alone = self.per_second(one, 0, cores)
        self.add(one, "fib 1", "alone", "per second", alone)
        for others in self.plan.others:
            with bench.computing(one, others, question):
                rate = self.per_second(one, others, cores)
            self.add(one, "fib 1", f"beside {others}", "per second", rate)
            self.add(one, "fib 1, as a ratio to the same alone", f"beside {others}", "times", rate / alone)

    def per_second(self, one, others, cores):
        """If the server has no place for one more client, there is no answer. That is a result as well."""
        told = LINES.load(one) + (["--may-starve"] if one.stage and not one.stage.serves(others + 1) else [])
        return bench.rate(bench.run_load(one, told, 1, self.plan.ms, cores))


def seconds_for(one, question, reply):
    with socket.create_connection(("127.0.0.1", one.server.port)) as connection, connection.makefile() as replies:
        began = time.monotonic()
        connection.sendall(question.encode())
        came = replies.readline()
        if came != reply:
            raise RuntimeError(f"{question!r} was answered {came!r}")
        return time.monotonic() - began


# ---- How it grows -------------------------------------------------------------------------------------------------------

class Grows(Experiment):
    name = "how it grows"

    def round(self):
        with self.running(self.servers()) as there:
            for connections in self.plan.connections:
                rates = {}
                for one in self.well(there):
                    parameters = f"{connections} connection{'s' if connections > 1 else ''}"
                    self.bar.detail(f"{parameters}, {one.title}")
                    with self.turn(one):
                        why = self.why_not(one, connections)
                        if why:
                            self.cannot(one, parameters, why)
                            continue
                        window = max(self.plan.ms, connections // 10)   # in which each connection is answered several times
                        result = bench.run_load(one, [*LINES.load(one), "--latency"], connections, window)
                        rates[one] = bench.rate(result)
                        self.add(one, "fib 1", parameters, "per second", rates[one])
                        self.add(one, "latency, median", parameters, "µs", result["p50"])
                        self.add(one, "latency, 99th percentile", parameters, "µs", result["p99"])
                self.ratios_to_stage_5("fib 1", parameters, rates)

    def why_not(self, one, connections):
        """Why the server can't have so many connections, or None."""
        stage = one.stage
        if not stage.serves(connections):
            return f"serves {stage.at_once(connections)} at once, and a kept connection holds one of them"
        if stage.most and connections > stage.most:
            return f"select(2) can't name more than {stage.most} descriptors"
        if connections > resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 100:
            return "there are not so many descriptors here (ulimit -Hn)"
        most = json.loads(one.ask("GET", "/server"))["options"].get("max_clients")
        return f"--max-clients is {most} unless told otherwise" if most and connections > most else None


# ---- What a client costs ------------------------------------------------------------------------------------------------

class Costs(Experiment):
    name = "what a client costs"

    def round(self):
        servers = self.servers()
        for server in self.well(servers):
            self.bar.detail(f"memory, {server.title}")
            with self.running([server]) as there:
                for one in self.well(there):
                    with self.turn(one):
                        self.memory(one)
        with self.running(servers) as there:
            self.time_to_accept(there)
            self.at_rest(there)

    def memory(self, one):
        crowd = min(self.plan.crowd, 250) if one.stage.child_per_client else self.plan.crowd
        if one.stage.serves(crowd):
            self.add(one, "memory", "an idle connection", "bytes", bench.memory_taken(one, crowd)[0])
        else:
            self.cannot(one, "an idle connection", "does not serve so many at once, and the others wait in the kernel's queue")

    def time_to_accept(self, there):
        times = {}
        for one in self.well(there):
            self.bar.detail(f"time to accept, {one.title}")
            with self.turn(one):
                times[one] = bench.run_load(one, [*LINES.load(one), "--close", "--latency"], 1, self.plan.ms)["p50"]
                self.add(one, "time to accept", "from connect(2) to the answer", "µs", times[one])
        self.ratios_to_stage_5("time to accept", "from connect(2) to the answer", times)

    def at_rest(self, there):
        for idle in 0, self.plan.idle:
            parameters = f"{idle} idle connections"
            able = [one for one in self.well(there) if one.stage.serves(idle)]
            for one in there:
                if one not in able and self.is_well(one):
                    self.cannot(one, parameters, "does not serve so many at once")
            with contextlib.ExitStack() as clients:
                for one in able:
                    with self.turn(one):
                        clients.enter_context(bench.idle_clients(one, idle))
                resting = [one for one in self.well(able) if one.stage.rests]
                for group in [resting, *([one] for one in self.well(able) if not one.stage.rests)]:
                    self.rest(group, parameters)

    def rest(self, group, parameters):
        """Lets these servers do nothing for a while, side by side: none takes the others' time."""
        self.bar.detail(f"processor time at rest, {parameters}, {', '.join(one.title for one in group[:1])}")
        for one in group:
            one.wake()
        before = {one: bench.processor_time(one) for one in group}
        time.sleep(self.plan.at_rest)
        for one in group:
            used = bench.processor_time(one) - before[one]
            self.add(one, "processor time at rest", parameters, "% of a core", 100 * used / self.plan.at_rest)
            one.rest()


# ---- Frameworks beside it -----------------------------------------------------------------------------------------------

ASKED_ANEW = tuple(Workload(f"{what}, a connection each", needs, questions, close=True) for what, needs, questions in (
    ("GET /fib/1", "http", bench.one_fib), ("GET a task", "tasks", bench.one_task), ("GET 10 tasks", "tasks", bench.ten_tasks)))
KEPT = Workload("GET a task, connections kept", "tasks", bench.one_task)
# The technique that each framework is built on.
ALIKE = {"gunicorn sync": "stage2_fork --workers 4", "gunicorn gthread": "stage3_threads --threads 4",
         "gunicorn gevent": "stage6_coroutines --flavor stackful", "Tornado": "stage6_coroutines --pool 0",
         "Node": "stage5_epoll", "Koa": "stage5_epoll", "nginx": "stage5_epoll"}


def installed_frameworks():
    found = [one for one in bench.peers() if one.title.startswith(("nginx", "Node", "Koa", "gunicorn gthread"))]
    if bench.has_gunicorn():
        found.append(bench.gunicorn("sync", "-w 4"))
        if bench.is_there("/usr/bin/python3", "-c", "import gevent"):
            found.append(bench.gunicorn("gevent"))
    if bench.is_there("/usr/bin/python3", "-c", "import tornado"):
        found.append(Candidate("Tornado (from a dict)", speaks="http tasks",
                               foreign=f"exec /usr/bin/python3 {PEERS}/tornado_app.py {{port}}"))
    return found


def framework_of(one):
    return next((name for name in ALIKE if one.title.startswith(name)), None)


class Frameworks(Visits):
    name = "frameworks"
    connections = 16

    def __init__(self, *arguments):
        """Each framework stands after the technique that it is built on."""
        super().__init__(*arguments)
        frameworks = (self.plan.frameworks or installed_frameworks)()
        self.candidates = []
        for stage in STAGES:
            alike = [one for one in frameworks if ALIKE.get(framework_of(one)) == stage.title]
            if alike or stage == plain(5):
                self.candidates += [bench.ours(stage), *alike]

    def round(self):
        with self.running(self.candidates) as there:
            for workload in (*ASKED_ANEW, KEPT):
                rates = {}
                for one in self.well(there):
                    self.bar.detail(f"{workload.name}, {one.title}")
                    with self.turn(one):
                        why = self.why_not(one, workload)
                        if why:
                            self.cannot(one, workload.name, why)
                            continue
                        result = bench.run_load(one, workload.load(one), self.connections, self.plan.ms)
                        rates[one] = bench.rate(result)
                        self.add(one, "requests", workload.name, "per second", rates[one])
                self.ratios_to_stage_5("requests", workload.name, rates)
            self.sleepers([one for one in self.well(there) if "tasks" in one.speaks])

    def why_not(self, one, workload):
        if workload.needs not in one.speaks:
            return "answers a constant alone"
        if not workload.close and (framework_of(one) == "gunicorn sync" or not workload.can(one, self.connections)):
            return "closes after each response"
        return None

    def sleepers(self, there):
        question = Question("sleep", bench.http_request("GET", f"/sleep/{self.plan.sleep}").encode(), b"HTTP/1.1 200 ", b"}")
        self.make([[Visit(one, f"GET /sleep/{self.plan.sleep}, {self.plan.drawn} clients", [question] * self.plan.drawn)]
                   for one in there])


# The longest comes last in a round, and ends when the time is up.
EXPERIMENTS = Grows, Costs, Talk, Frameworks, WhoWaits
