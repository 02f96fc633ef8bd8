"""A mixed load for a while, on each technique: every reply is compared, and in the end the server holds no more than before.

    python3 tests/soak.py                                       every technique, in release and under AddressSanitizer
    python3 tests/soak.py --variant asan --stage 5 --seconds 60
    python3 tests/soak.py --seconds 10 --at-once 8              eight techniques at a time, each in its own process

Each client is a thread with a fixed random seed that connects again and again: for one request or many, in lines or HTTP,
pipelined, byte by byte, reading late, half-closing, resetting. It knows its own tasks, and so what each reply must be. After
each of three equal rounds the server must hold no more descriptors, threads and children than before the first, and its
memory must not grow in the third. The last line is `N passed, N failed`.
"""
import argparse
import random
import re
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from harness.checks import expect, expect_match, report, together
from harness.client import request
from harness.clients import client_of_each, reads_all
from harness.server import Program
from harness.stages import STAGES

ROOT = Path(__file__).resolve().parent.parent
CLIENTS = 8
OWN_TASKS = 12
# How many bytes the memory of a process may grow by in the third round: some that an allocator keeps now and then, and next
# to nothing for each request. A leak of 100 bytes a request, or of 1 KiB a connection, is several times as much.
NOISE, PER_REQUEST = 256 * 1024, 10
FIBS = {1: 1, 2: 1, 6: 8, 10: 55, 16: 987, 22: 17711}
WRONG_LINES = "fib x", "add", "frobnicate", "sleep -1", "show zzzz", "ADD milk", "x" * 9000
WRONG_REQUESTS = ((request("GET", "/nothing"), 404), (request("DELETE", "/fib/6"), 405), (request("GET", "/fib/x"), 400),
                  (request("POST", "/api/task", b"{", {"Content-Type": "application/json"}), 400),
                  (request("POST", "/api/task", b"{}"), 415), (request("GET", "/fib/6", host="example.com"), 421))


@dataclass
class Task:
    id: str             # as far as known: the line protocol shows only its beginning
    title: str
    description: str = ""
    done: bool = False

    def line(self):
        return f"[{'x' if self.done else ' '}] {self.id[:8]} {self.title}"


class Visitor:
    """One client. Each of its requests is a pair: the bytes, and a function that reads the reply and compares it."""

    def __init__(self, server, number):
        self.server, self.name, self.random = server, f"c{number}", random.Random(number)
        self.tasks = []         # its own, in the order of creation
        self.asked = set()      # the ids of tasks that a request in progress is about
        self.count = Counter()

    def own(self, title):
        return title.split()[0] == self.name

    def a_task(self, whole_id=False):
        free = [task for task in self.tasks if task.id not in self.asked and (len(task.id) > 8 or not whole_id)]
        if not free:
            return None
        task = self.random.choice(free)
        self.asked.add(task.id)
        return task

    def by_line(self):
        kind = self.random.choice("fib sleep wrong list show edit describe done undo delete add".split())
        text = f"{self.name} {self.random.randrange(10 ** 6)}" + " é" * self.random.randrange(60)
        if kind == "sleep":
            return self.saying("sleep 0.003", "slept: 0.003")
        if kind == "wrong":
            return self.line(self.random.choice(WRONG_LINES), lambda client: expect_match(client.line(), "error: .+"))
        if kind == "list":
            return self.line("list", self.read_list)
        if kind == "add" and len(self.tasks) < OWN_TASKS:
            return self.line(f"add {text}", lambda client: self.read_added(client, text))
        task = self.a_task() if kind not in ("fib", "add") else None
        if not task:
            n = self.random.choice(list(FIBS))
            return self.saying(self.random.choice([f"fib {n}", f"  {n}\r"]), f"fib: {FIBS[n]}")
        if kind == "show":
            return self.line(f"show {task.id[:8]}", lambda client: self.read_shown(client, task))
        word, argument, change, told = {
            "edit": ("edited", f" {text}", {"title": text}, text), "undo": ("undone", "", {"done": False}, task.title),
            "describe": ("described", f" {text}", {"description": text}, text),
            "done": ("done", "", {"done": True}, task.title), "delete": ("deleted", "", None, task.title)}[kind]
        return self.line(f"{kind} {task.id[:8]}{argument}", lambda client: self.read_changed(
            client, f"{word}: {task.id[:8]} {told}", task, change))

    def line(self, text, read):
        return text.encode() + b"\n", read

    def saying(self, text, reply):
        return self.line(text, lambda client: expect(client.line(), reply))

    def was_locked(self, reply):
        """Whether another process, denied processor time, held the lock for over a second. Nothing has changed then. Each
        write during the next second is told the same."""
        locked = "database is locked" in reply
        self.count["locked"] += locked
        return locked

    def read_added(self, client, text):
        reply = client.line()
        if not self.was_locked(reply):
            self.tasks.append(Task(expect_match(reply, rf"added: (\w{{8}}) {text}")[1], text))

    def read_changed(self, client, wanted, task, change):
        reply = client.line()
        if not self.was_locked(reply):
            expect(reply, wanted)
            self.change(task, change)

    def change(self, task, members):
        if members is None:
            self.tasks.remove(task)
        for name, value in (members or {}).items():
            setattr(task, name, value)

    def read_list(self, client):
        lines = client.lines(int(expect_match(client.line(), r"tasks: (\d+)")[1]))
        expect([line for line in lines if self.own(line[13:])], [task.line() for task in self.tasks], "its own tasks")

    def compare_list(self, json):
        mine = [Task(**one) for one in json if self.own(one["title"])]
        expect([(one.line(), one.description) for one in mine], [(task.line(), task.description) for task in self.tasks])

    def read_shown(self, client, task):
        first, *lines = client.lines(5)
        description = task.description.replace("\n", r"\n")
        expect((first, lines[1:]), ("task: 4", [f"title: {task.title}", f"description: {description}",
                                               f"done: {str(task.done).lower()}"]))
        task.id = expect_match(lines[0], rf"id: ({task.id[:8]}.*)")[1]

    def by_http(self):
        kind = self.random.choice("fib sleep wrong list GET PUT DELETE POST".split())
        body = {"title": f"{self.name} {self.random.randrange(10 ** 6)}", "done": self.random.random() < 0.5,
                "description": "zwei\nLiter " * self.random.randrange(80)}
        if kind == "sleep":
            return self.http("GET", "/sleep/0.002", 200, lambda json: expect(json, {"slept": 0.002}))
        if kind == "wrong":
            data, status = self.random.choice(WRONG_REQUESTS)
            return data, lambda client: expect(client.response().status, status)
        if kind == "list":
            return self.http("GET", "/api/tasks", 200, self.compare_list)
        if kind == "POST" and len(self.tasks) < OWN_TASKS:
            return self.http("POST", "/api/task", 201, lambda json: (
                expect(json, {"id": json["id"], **body}), self.tasks.append(Task(**json))), body)
        task = self.a_task(whole_id=True) if kind in ("GET", "PUT", "DELETE") else None
        if not task:
            n = self.random.choice(list(FIBS))
            return self.http("GET", f"/fib/{n}", 200, lambda json: expect(json, {"n": n, "fib": FIBS[n]}))
        place = f"/api/tasks/{task.id}"
        if kind == "GET":
            return self.http("GET", place, 200, lambda json: expect(Task(**json), task))
        if kind == "PUT":
            return self.http("PUT", place, 200, lambda json: (self.change(task, body), expect(Task(**json), task)), body)
        return self.http("DELETE", place, 204, lambda _: self.change(task, None))

    def http(self, method, target, status, compare, body=None):
        def read(client):
            response = client.response(method)
            if response.status == 503 and self.was_locked(response.body.decode()):
                return
            expect(response.status, status, f"the status of {method} {target}, with {response.body[:200]}")
            compare(response.json if response.body else None)

        return request(method, target, body), read

    def visit_until(self, end):
        """One connection after the other."""
        ways = (self.talks, self.speaks_http, self.dribbles, self.half_closes, self.vanishes, self.floods) * 5
        while time.monotonic() < end:
            way = self.random.choice((self.reads_late, *ways))
            with self.server.connect(reads_late=way == self.reads_late) as client:
                way(client)
            self.count["connections"] += 1

    def exchange(self, client, wishes, send=None):
        """Sends all of these requests at once, and compares the replies."""
        (send or client.send)(b"".join(data for data, _ in wishes))
        for _, read in wishes:
            read(client)
        self.asked.clear()
        self.count["requests"] += len(wishes)

    def talks(self, client):
        for _ in range(self.random.choice([1, 10])):
            self.exchange(client, [self.by_line() for _ in range(self.random.choice([1, 1, 20]))])

    def speaks_http(self, client):
        keeps_open = self.server.stage.keeps_http_open
        for _ in range(5 if keeps_open else 1):
            self.exchange(client, [self.by_http() for _ in range(self.random.choice([1, 6]) if keeps_open else 1)])

    def dribbles(self, client):
        def bytewise(data):
            for place in range(min(len(data), 60)):
                client.send(data[place:place + 1])
            client.send(data[60:])

        self.exchange(client, [self.by_line(), self.by_line()], bytewise)

    def reads_late(self, client):
        """Its replies fill the buffers on the way, so its last requests arrive while the server can send no more."""
        first = client.ask("help")
        text = "\n".join([first, *client.lines(int(first.split()[1]))]).encode() + b"\n"
        some_help = b"help\n" * 20, lambda client: expect(client.exactly(len(text) * 20) == text * 20, True, "the help")
        wishes = []
        while not wishes or reads_all(client):
            more = [self.by_line(), *[some_help] * 38, self.saying("fib 22", f"fib: {FIBS[22]}")]
            client.send(b"".join(data for data, _ in more))
            wishes += more
        self.exchange(client, wishes, lambda _: client.send("6\n"))
        expect(client.line(), "fib: 8")

    def half_closes(self, client):
        self.exchange(client, [self.by_line() for _ in range(3)], lambda data: (client.send(data[:-1]), client.half_close()))
        expect(client.rest(), b"")

    def vanishes(self, client):
        """Nothing here may change a task, because how far it gets is not known."""
        client.send(self.random.choice([b"sleep 0.01\n6\n" * 5, b"list\n" * 20, b"add never", b"GET /fib/6 HT", b"",
                                        request("POST", "/api/task", {"title": "never"})[:-1], b"help\n" * 500]))
        self.random.choice([client.reset, client.close])()

    def floods(self, client):
        lines = [(f"{n}\n", f"fib: {FIBS[n]}\n") for n in self.random.choices([1, 2, 6, 10], k=1000)]
        client.send("".join(line for line, _ in lines))
        replies = "".join(reply for _, reply in lines).encode()
        expect(client.exactly(len(replies)), replies)
        self.count["requests"] += len(lines)


# ---- One technique ------------------------------------------------------------------------------------------------------

def own_memory(server):
    """The private memory of the server and its workers, in KiB (RssAnon, proc(5))."""
    statuses = [Path(f"/proc/{pid}/status").read_text() for pid in server.lasting_pids()]
    return sum(int(re.search(r"RssAnon:\s*(\d+)", status)[1]) for status in statuses)


def settle(server):
    """Has each worker answer, so that it opens what it keeps open. Returns what the server holds without clients."""
    clients = client_of_each(server, server.stage.workers) if server.stage.workers else [server.connect()]
    for client in clients:
        expect_match(client.ask("list"), r"tasks: 0")
        task = expect_match(client.ask("add something"), r"added: (\w+) something")[1]
        expect(client.ask(f"delete {task}"), f"deleted: {task} something")
    for client in clients:
        client.close()
        client.wait_until_let_go()
    return server.holds()


def soak(program, seconds):
    """Returns the figures, or fails."""
    server = program.start()
    visitors = [Visitor(server, number) for number in range(CLIENTS)]
    start = settle(server)

    asked, memory = [], []
    for _ in range(3):
        end = time.monotonic() + seconds / 3
        together(*[lambda visitor=visitor: visitor.visit_until(end) for visitor in visitors])
        program.clients.clear()
        server.wait_until_it_holds_no_more_than(start)
        memory.append(own_memory(server))
        asked.append(sum(visitor.count["requests"] for visitor in visitors))
    requests, growth = asked[2] - asked[1], (memory[2] - max(memory[:2])) * 1024
    connections, locked = (sum(visitor.count[what] for visitor in visitors) for what in ("connections", "locked"))
    expect(locked * 20 < asked[2], True, f"hardly any write finds the database locked: {locked} in {asked[2]} requests")
    figures = (f"{asked[2]} requests on {connections} connections; descriptors, threads, children {start} before and after; "
               f"memory {', '.join(map(str, memory))} KiB after each round")
    # A sanitizer keeps back more and more for a while. What is lost for good it tells by itself at the end.
    if not program.is_built_with(b"__asan_init", b"__tsan_init"):
        most = NOISE * max(server.stage.workers, 1) + PER_REQUEST * requests
        expect(growth < most, True, f"memory does not grow with the requests: {figures}")
    expect(server.stop(), 0, "the exit status")
    serious = re.compile(r"\[(ERROR|CRITICAL)\] (?!.*database is locked)")
    errors = [line for line in server.log().splitlines() if serious.search(line)]
    expect(errors, [], "errors in the log")
    return figures


def run(stage, variant, seconds):
    """Prints one line about one technique. Returns whether it passed."""
    base = ROOT if variant == "release" else ROOT / "build" / variant
    program = Program(stage, path_of=lambda stage: str(base / stage.name / stage.name), patience=20)
    # By default AddressSanitizer keeps 256 MiB of freed memory, which would hide any growth.
    program.environment["ASAN_OPTIONS"] = "quarantine_size_mb=1"
    try:
        print(f"{stage.title} ({variant}): {soak(program, seconds)}\n", end="", flush=True)
        return True
    except Exception as failure:
        lines = f"\nFAILED {stage.title} ({variant}):", *report(failure, program).splitlines()
        print("\n    ".join(lines) + "\n", end="", flush=True)
        return False
    finally:
        program.clean_up()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", nargs="+", default=["release", "asan"], choices=["release", "debug", "asan", "tsan"])
    parser.add_argument("--stage", type=int, nargs="+", choices=range(1, 7), default=range(1, 7), metavar="N")
    parser.add_argument("--technique", default="", metavar="TEXT", help="only the techniques that have this in their name")
    parser.add_argument("--seconds", type=float, default=3, help="for each technique and variant (3)")
    parser.add_argument("--at-once", type=int, default=1, metavar="N", help="how many techniques at the same time (1)")
    options = parser.parse_args()
    chosen = [stage for stage in STAGES if stage.number in options.stage and options.technique in stage.title]
    with ProcessPoolExecutor(options.at_once) as processes:
        runs = [processes.submit(run, stage, variant, options.seconds) for variant in options.variant for stage in chosen]
    passed = [one.result() for one in runs]
    print(f"{passed.count(True)} passed, {passed.count(False)} failed")
    return 0 if passed and all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
