"""What is stored: who finds it again, and what becomes of it, and of the service, where the disk, the file or a process fails.

A write that was acknowledged is there afterwards, whatever happens; one that was refused has changed nothing; one that was
neither, because somebody was killed, may be there or not, but not in halves.
"""
import contextlib
import os
import random
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from harness import (Failure, Fault, NotRun, Server, check_program, expect, expect_match, request, short, together,
                     wait_for)
from stages import plain
from suite_http import add_task, expect_error
from suite_limits import serves_several
from suite_lines import SHORT_ID, add, expect_lasts
from suite_workers import client_of_each, has_workers


def another(stage):
    """The stage that takes over this one's file, or shares it: stage 5, and for that one stage 2."""
    return plain(2 if stage.number == 5 else 5)


def titles(server):
    return [line[13:] for line in server.list()]


@contextlib.contextmanager
def database(program, name="tasks.db", **options):
    """The database as another program sees it that opens it now: transactions begin and end by word alone."""
    connection = sqlite3.connect(str(program.directory / name), isolation_level=None, **options)
    try:
        yield connection
    finally:
        connection.close()


def stored(program):
    """The titles in the file, for another program; and the file is sound."""
    with database(program) as connection:
        expect(connection.execute("PRAGMA integrity_check").fetchall(), [("ok",)], "the integrity of the file")
        return [title for title, in connection.execute("SELECT title FROM tasks ORDER BY position")]


def expect_fib(server):
    """Whoever wants no task is served."""
    expect(server.ask("6"), "fib: 8")


def connections(stage):
    """How many connections to the database a server may have at most that outlive a client: a stage may have one to read
    and one to write."""
    return 2 * max(stage.workers, 1)


def post_until(server, status, refusal, most):
    """Posts tasks until one gets this status; all others get the refusal, so many at most. Returns the last title."""
    for number in range(most + 1):
        response = server.http("POST", "/api/task", {"title": f"posted {number}"})
        if response.status == status:
            return f"posted {number}"
        expect_error(response, refusal)
    raise Failure(f"{most + 1} tasks were posted, and each got {refusal}")


# ---- Restarts and sharing -----------------------------------------------------------------------------------------------

@check_program("storage")
def tasks_are_there_after_a_restart(program):
    server = program.start()
    task = add_task(server, title="buy milk", description="two litres")
    expect(server.ask("add pay rent")[:7], "added: ")
    tasks = server.list()
    expect(server.stop(), 0)
    server = program.start()
    expect(server.list(), tasks)
    expect(server.http("GET", f"/api/tasks/{task['id']}").json, task)


@check_program("storage")
def another_stage_finds_the_tasks_of_this_one(program):
    server = program.start()
    with server.connect() as client:
        ids = [add(client, title) for title in ("buy milk", "pay rent")]
    expect(server.stop(), 0)
    expect(program.start(stage=another(program.stage)).list(), [f"[ ] {ids[0]} buy milk", f"[ ] {ids[1]} pay rent"])


@check_program("storage")
def two_servers_may_use_one_file_at_once(program):
    servers = program.start(), program.start(stage=another(program.stage))

    def added(client, title):
        """The id of a new task. Who finds the file locked for over a second, as a slow machine may have it, asks again."""
        said = wait_for(lambda: client.ask(f"add {title}").replace("error: database is locked", ""), f"{title} was added")
        return expect_match(said, f"added: ({SHORT_ID}) {title}").group(1)

    def adds(server):
        with server.connect() as client:
            return [added(client, f"task {number}") for number in range(25)]

    ids = sum(together(*[lambda server=server: adds(server) for server in servers * 2]), [])
    expect(servers[0].list(), servers[1].list(), "what both list")
    expect(sorted(line[4:12] for line in servers[0].list()), sorted(ids))
    expect(servers[0].ask(f"done {ids[0]}"), f"done: {ids[0]} task 0")
    expect(f"[x] {ids[0]} task 0" in servers[1].list(), True, "the other server sees a change")


@check_program("storage")
def two_servers_do_not_both_add_the_thousandth_task(program):
    servers = program.start(), program.start(stage=another(program.stage))
    with database(program) as connection:
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO tasks (id, title, description, done) VALUES (?, ?, '', 0)",
                               [(f"{number:08x}-0000-4000-8000-000000000000", f"task {number}") for number in range(997)])
        connection.execute("COMMIT")
    posts = [lambda server=server: server.http("POST", "/api/task", {"title": "more"}).status for server in servers * 3]
    expect(sorted(together(*posts)), [201] * 3 + [507] * 3)
    expect(len(servers[0].list()), 1000)


@check_program("storage")
def tasks_db_is_where_tasks_are_kept_by_default(program):
    server = program.start(db=None)
    expect(server.ask("add buy milk")[:7], "added: ")
    expect((program.directory / "tasks.db").exists(), True, "there is a file tasks.db")


@check_program("storage")
def memory_keeps_tasks_in_the_process_alone(program):
    server = program.start(db=":memory:")
    with server.connect() as client:
        milk = add(client, "buy milk")
        expect((client.ask("list"), client.line()), ("tasks: 1", f"[ ] {milk} buy milk"))
        keeper = client.served_by()
    for _ in range(5):
        with server.connect() as client:
            came = client.ask("list")
            expect(came, "tasks: 1" if client.served_by() == keeper else "tasks: 0", "what a client finds, by his process")
    expect(server.stop(), 0)
    told = [line for line in server.log().splitlines() if ":memory:" in line]
    several = program.stage.child_per_client or program.stage.workers
    expect(len(told), 1 if several else 0, f"lines of the log that say so: {told}")
    expect(program.start(db=":memory:").list(), [])
    expect([path.name for path in program.directory.iterdir() if "log" not in path.name], [], "files left")


# ---- No room, or no leave to write --------------------------------------------------------------------------------------

class Disk:
    """A small file system of a server's own, in the directory `disk`, which nobody else sees but by way of /proc."""

    def __init__(self, program):
        (program.directory / "disk").mkdir()
        if os.geteuid() or program.shell("unshare -m mount -t tmpfs none disk 2>/dev/null"):
            raise NotRun("who mounts a file system here must be root, and unshare(1) allowed")
        mount = 'mount -t tmpfs -o size=1m none disk && exec "$@"'
        self.server = program.start(db="disk/tasks.db", under=["unshare", "-m", "sh", "-c", mount, "sh"])
        self.program, self.files = program, Path(f"/proc/{self.server.pid}/cwd/disk")

    def command(self, line):
        """Runs a command where the server sees the disk."""
        status = self.program.shell(f"nsenter -t {self.server.pid} -m sh -c 'cd {self.program.directory} && {line}'")
        expect(status, 0, f"the status of {line}")

    def fill(self):
        """Leaves no room at all."""
        with open(self.files / "ballast", "ab", buffering=0) as ballast, contextlib.suppress(OSError):
            while True:
                ballast.write(bytes(4096))


def keep_open(server):
    """Where each client has a process, the last who leaves takes the files beside the database away, and the next one needs
    room for them even to read. So somebody stays."""
    if server.stage.child_per_client:
        expect(server.connect().ask("list"), "tasks: 0")


@check_program("storage", row=True, fault=Fault("the disk is full", "`error: …`, 507; nothing is half-written",
                                                "lists and `fib` go on; writes, too, when there is room again"))
def a_full_disk_is_507_until_there_is_room_again(program):
    disk = Disk(program)
    server = disk.server
    keep_open(server)
    expected = [add_task(server, title=f"before {number}", description="x" * 1000)["title"] for number in range(5)]

    def until_refused(attempt, title):
        """There may be a little room left in a file, and who leaves may make some."""
        for _ in range(100):
            disk.fill()
            if attempt(title):
                return
            expected.append(title)
        raise Failure("a full disk has room for 100 tasks")

    def post(title):
        response = server.http("POST", "/api/task", {"title": title, "description": "y" * 1000})
        return response.status != 201 and expect_error(response, 507)

    for _ in range(2):
        until_refused(post, "posted")
        until_refused(lambda title: expect_match(server.ask(f"add {title}"), rf"(error: .+)|added: \w+ {title}")[1], "z" * 200)
        expect_fib(server)
        expect(titles(server), expected)
        (disk.files / "ballast").unlink()
        again = {"title": "there is room again"}    # the kernel's own count of it may be a moment late
        wait_for(lambda: server.http("POST", "/api/task", again).status == 201, "a task could be added again")
        expected.append(again["title"])
        expect(titles(server), expected)


@check_program("storage", fault=Fault("the file has grown to the limit of the process (`ulimit -f`)",
                                      "`error: …`, 507; no signal ends the server", "lists and `fib` go on"))
def a_limit_to_the_size_of_files_is_507(program):
    server = program.start()

    def limit(size):
        for pid in server.pids():
            with contextlib.suppress(ProcessLookupError):   # a client's, who has left
                _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))

    tasks = [add_task(server, title="before")]
    limit(32768)        # what those who share the file share about it takes as much (sqlite.org/walformat.html)
    for _ in range(100):
        response = server.http("POST", "/api/task", {"title": "more", "description": "x" * 1000})
        if response.status != 201:
            break
        tasks.append(response.json)
    expect_error(response, 507)
    expect_fib(server)
    expect(server.http("GET", "/api/tasks").json, tasks)
    limit(resource.RLIM_INFINITY)
    tasks.append(add_task(server, title="after"))
    expect(server.http("GET", "/api/tasks").json, tasks)
    expect(stored(program), [task["title"] for task in tasks])


@check_program("storage")
def a_start_where_no_file_may_grow_is_status_1(program):
    if program.is_built_with(b"__tsan_init"):
        raise NotRun("the sanitizer does not start there")
    program.shell(f"(ulimit -f 0; {program.path_of(program.stage)} --port 0 --db new.db; echo status $?) 2>&1 | cat > said")
    expect_match((program.directory / "said").read_text(),
                 rf"{program.stage.name}: cannot open the database new.db: .+\nstatus 1\n")


@check_program("storage", fault=Fault("another disk is mounted over that of the database",
                                      "503 until it is gone again; nothing is written elsewhere", "`fib` goes on"))
def another_disk_in_its_place_is_503(program):
    disk = Disk(program)
    server, most = disk.server, connections(program.stage)
    clients = client_of_each(server, program.stage.workers or 1)
    for client in clients:      # so that each worker has opened the right one, to write and to read
        expect_match(client.ask("add before"), "added: .+")
        expect_match(client.ask("list"), r"tasks: \d")
        client.close()
    server.wait_until_all_have_left()   # who leaves last takes files away that are about to be copied
    disk.command("mkdir copy && mount -t tmpfs none copy && cp -a disk/. copy && mount -o remount,ro copy "
                 "&& mount --bind copy disk")
    for _ in range(most + 2):
        expect_error(server.http("POST", "/api/task", {"title": "one more"}), 503)
        expect_match(server.ask("add one more"), "error: .+")
        expect_fib(server)
    disk.command("umount -l disk")      # the server may still have a file of the copy open
    wait_until_listed(server, ["before"] * len(clients) + [post_until(server, 201, 503, most)])


def wait_until_listed(server, expected):
    """Whoever only reads looks but now and then whether the file is still the one at its place."""
    def listed():
        response = server.http("GET", "/api/tasks")
        return response.status != 503 and [task["title"] for task in response.json] == expected

    wait_for(listed, f"the list was {expected}")


@check_program("storage", fault=Fault("at its start the database cannot be written", "one line that says why, status 1", "-"))
def a_database_that_is_read_only_at_the_start_is_status_1(program):
    under = ["unshare", "-m", "sh", "-c", 'mount --bind . . && mount -o remount,bind,ro . && exec "$@"', "sh"]
    if os.geteuid():
        under = []
    elif program.shell("unshare -m true 2>/dev/null"):
        raise NotRun("unshare(1) is not allowed here")

    for end in Server.stop, Server.kill:        # who is killed leaves its log beside the file
        server = program.start()
        add_task(server, title="before")
        end(server)
        program.directory.chmod(0o500)      # this binds whoever is not root
        for file in program.directory.glob("tasks.db*"):
            file.chmod(0o400)
        process = subprocess.Popen([*under, program.path_of(program.stage), *program.stage.options, "--port", "0"],
                                   cwd=program.directory, text=True, start_new_session=True, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            stdout, stderr = process.communicate(timeout=program.patience / 6)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise Failure(f"it runs, and has said {process.communicate()}") from None
        finally:
            for file in program.directory, *program.directory.glob("tasks.db*"):
                file.chmod(0o700)
        expect((process.returncode, stdout), (1, ""), f"status and standard output, after {end.__name__}")
        expect_match(stderr, rf"{program.stage.name}: .*tasks\.db.*\n")


# ---- Locked by somebody else --------------------------------------------------------------------------------------------

@contextlib.contextmanager
def locked(program):
    """While this lasts, somebody else is about to write, and does not."""
    with database(program) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def seconds(function):
    """How long it takes."""
    start = time.monotonic()
    function()
    return time.monotonic() - start


def a_second_in_vain(program, name="tasks.db"):
    """How long it takes on this machine to wait for a locked database for a second, as SQLite counts it."""
    def wait():
        with contextlib.suppress(sqlite3.OperationalError):
            other.execute("BEGIN IMMEDIATE")

    with database(program, name, timeout=1) as other:
        return seconds(wait)


def expect_refused(server):
    expect_error(server.http("POST", "/api/task", {"title": "wait"}), 503)


@check_program("storage", row=True, fault=Fault("another program holds the database locked", "503 after a second",
                                                "lists go on; writes, too, as soon as the lock is released"))
def a_database_that_others_hold_is_503(program):
    server = program.start()
    add_task(server, title="buy milk")
    with locked(program):
        expect_lasts(1, lambda: expect_refused(server))
        expect_match(server.ask("add wait"), "error: .+")
        expect(titles(server), ["buy milk"], "readers need not wait")
    add_task(server, title="pay rent")
    expect(titles(server), ["buy milk", "pay rent"])


def waits_elsewhere(stage):
    """Whether he who waits for the database holds nobody who wants no task."""
    return stage.fib_holds_others is False and serves_several(stage)


@check_program("storage", only=waits_elsewhere,
               fault=Fault("several clients write while another program holds the database", "503 after a second",
                           "`fib` is answered at once"))
def whoever_waits_for_the_database_holds_nobody(program):
    server = program.start()
    number = program.stage.at_once(4) - 1

    def fib_comes_first():
        with locked(program), server.connect() as asking:
            expect(asking.ask("6"), "fib: 8")
            writers = [server.connect() for _ in range(number)]
            for writer in writers:
                writer.send("add wait\n")
                writer.wait_until_read()
            expect(asking.ask("6"), "fib: 8")
            nobody_yet = not any(writer.has_reply() for writer in writers)
            for writer in writers:
                expect_match(writer.line(), "error: .+")
                writer.close()
        return nobody_yet

    tries = 3       # the machine may have other things to do for a second, but not each time
    while not fib_comes_first():
        tries -= 1
        expect(tries > 0, True, "the fib is answered before the first of the writers")
        time.sleep(1)       # after a wait in vain the next second's writers are refused at once


@check_program("storage", row=True, alone=True,
               fault=Fault("five clients write at once while another program holds the database",
                           "503, all of them after a second", "`fib` waits a second at most, in all"))
def waits_for_the_database_do_not_add_up(program):
    server = program.start()
    with locked(program):
        all_at_once = seconds(lambda: together(*[lambda: expect_refused(server)] * 5, lambda: expect_fib(server)))
        a_second = a_second_in_vain(program)
    expect(all_at_once < 3 * a_second, True, f"they take a second and a bit, and not {all_at_once:.1f} s")
    add_task(server, title="it can be written again")


@check_program("storage", fault=Fault("at its start another program holds the database",
                                      "starts, or says so after a second at most, status 1", "-"))
def starts_or_says_why_not_where_others_hold_the_database(program):
    made = program.start()
    expect(made.stop(), 0)
    shutil.copy(program.directory / "tasks.db", program.directory / "whole.db")

    for name, journal, how in (("whole.db", "WAL", "EXCLUSIVE"), ("empty.db", "DELETE", "EXCLUSIVE"),
                               ("no_table.db", "WAL", "IMMEDIATE")):
        with database(program, name) as holder:
            holder.execute(f"PRAGMA journal_mode = {journal}")
            holder.execute(f"BEGIN {how}")
            a_second = a_second_in_vain(program, name)
            began = time.monotonic()
            try:
                server = program.start(db=name)
            except Failure:
                server = program.servers[-1]
                expect(server.process.wait(), 1, f"the exit status with {name}")
                expect_match(server.log(), rf"{program.stage.name}: .*{name}.*\n")
                server.kill()
            else:
                expect_fib(server)
                expect(server.stop(), 0)
            took = time.monotonic() - began
            expect(took < 3 * a_second, True, f"with {name} it takes a second and a bit, not {took:.1f} s")


@check_program("storage", fault=Fault("a stop while another program holds the database", "503, then the end",
                                      "are told goodbye; status 0"))
def a_stop_while_others_hold_the_database_is_a_clean_one(program):
    server = program.start()
    add_task(server, title="before")
    with locked(program):
        client = server.connect()
        client.send("add wait\nadd wait\n6\n")
        client.wait_until_read()
        server.send_signal()
        expect_match(client.rest().decode(), r"error: .+\nerror: .+\nfib: 8\n")
        expect(server.wait(), 0, "the exit status")
    expect(stored(program), ["before"])


# ---- A file that is no database any more, or none -----------------------------------------------------------------------

def spoil(path):
    """Writes garbage over the whole of the file."""
    with open(path, "r+b") as file:
        file.write(random.Random(1).randbytes(path.stat().st_size))


def expect_service_back(server, program, before):
    """After an error for each connection to the database at most, tasks are served, those that were in the file before."""
    posted = post_until(server, 201, 503, connections(program.stage))
    wait_until_listed(server, [*before, posted])
    expect(stored(program), [*before, posted])


@check_program("storage", row=True, fault=Fault("garbage is written over the database",
                                                "503 until it is restored, then service without a restart", "`fib` goes on"))
def a_spoilt_database_is_503_until_it_is_whole(program):
    server = program.start()
    path, copy = program.directory / "tasks.db", program.directory / "copy.db"
    task = add_task(server, title="before")

    def expect_spoilt():
        with database(program) as connection:   # nobody may go by what he remembers of the file
            connection.execute("UPDATE tasks SET done = 1")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copy(path, copy)
        spoil(path)
        for _ in range(2):
            for method, target, body in (("GET", "/api/tasks", None), ("POST", "/api/task", {"title": "one more"}),
                                         ("PUT", f"/api/tasks/{task['id']}", {"done": False}),
                                         ("DELETE", f"/api/tasks/{task['id']}", None)):
                expect_error(server.http(method, target, body), 503)
            for line in "list", "add one more", f"done {task['id'][:8]}":
                expect_match(server.ask(line), "error: .+")
            expect_fib(server)

    for before in ["before"], ["before", "posted 0"]:
        expect_spoilt()
        shutil.copyfile(copy, path)
        expect_service_back(server, program, before)


@check_program("storage", fault=Fault("the file is renamed, replaced by another, or deleted",
                                      "`error: …`, 503, until it is back in its place, or the server is started anew; "
                                      "nothing is written elsewhere", "`fib` goes on"))
def a_file_that_is_not_in_its_place_is_an_error_until_it_is(program):
    server = program.start()
    path, away, other = (program.directory / name for name in ("tasks.db", "away.db", "other.db"))
    if has_workers(program.stage):
        clients = client_of_each(server, program.stage.workers)
    else:       # a process each, or one for all
        clients = [server.connect() for _ in range(2 if program.stage.child_per_client else 1)]
    with database(program, other.name) as connection:
        connection.execute("CREATE TABLE another (one TEXT)")

    def expect_refused_by_all():
        for client in clients:
            for _ in range(2):
                expect_match(client.ask("add refused"), "error: .+")
            wait_for(lambda client=client: listed(client) is None, "who only reads was refused as well")
            expect(client.ask("6"), "fib: 8")

    def listed(client):
        """What he finds; None where he is refused."""
        match = re.fullmatch(r"tasks: (\d+)", client.ask("list"))
        return match and [line[13:] for line in client.lines(int(match[1]))]

    expected = []
    for replacement in None, other:
        for client in clients:
            add(client, f"{len(expected)}")
            expected.append(f"{len(expected)}")
        os.rename(path, away)
        if replacement:
            os.rename(replacement, path)
        expect_refused_by_all()
        expect(path.exists(), bool(replacement), "there is a file in its place")
        os.rename(away, path)
    for client in clients:
        add(client, f"{len(expected)}")
        expected.append(f"{len(expected)}")
        wait_for(lambda client=client: listed(client) == expected, f"the list was {expected}")
    expect(stored(program), expected)
    path.unlink()
    expect_refused_by_all()
    expect(path.exists(), False, "there is a file in its place")
    for client in clients:
        client.close()
    expect(server.stop(), 0)
    server = program.start()
    add_task(server, title="after")
    expect(titles(server), ["after"])


@check_program("storage", fault=Fault("the directory of the database is gone", "503; service when it is back", "`fib` goes on"))
def a_directory_that_vanishes_is_503_until_it_is_back(program):
    place, elsewhere = program.directory / "place", program.directory / "elsewhere"
    place.mkdir()
    server = program.start(db="place/tasks.db")
    add_task(server, title="before")
    os.rename(place, elsewhere)
    for _ in range(2):
        expect_refused(server)
        expect_match(server.ask("add one more"), "error: .+")
        expect_fib(server)
    os.rename(elsewhere, place)
    posted = post_until(server, 201, 503, connections(program.stage))
    wait_until_listed(server, ["before", posted])


# ---- kill -9 in the midst of writes -------------------------------------------------------------------------------------

@dataclass
class Change:
    """Something that a writer asks for."""
    name: str       # of the task: the first word of its title
    task: object    # its id; None while it has none
    data: bytes     # the request
    success: str    # a pattern: the reply to a line, or the status of a response, that acknowledges it
    state: object   # what it leads to: title, description and done; None: the task is not there


class CutOff(Exception):
    """A connection ended before its time."""


class Books:
    """What all writers have asked for, and therefore what may be in the database: a task whose state is certain has one that
    is possible, another has several."""

    def __init__(self):
        self.lock, self.possible = threading.Lock(), {}

    def await_kill(self, after, kill):
        """From now on: after so many answers, kill()."""
        self.left, self.kill, self.killed = after, kill, threading.Event()

    def asked(self, change):
        """Returns which states were possible before."""
        before = self.possible.get(change.name, {None})
        self.possible[change.name] = before | {change.state}
        return before

    def settle(self, change, states):
        """An answer has come, and now these states are possible."""
        self.possible[change.name] = states
        with self.lock:
            self.left -= 1
            if self.left != 0:
                return
        self.killed.set()
        self.kill()

    def compare(self, program):
        """In the file is what the books say."""
        with database(program) as connection:
            expect(connection.execute("PRAGMA integrity_check").fetchall(), [("ok",)], "the integrity of the file")
            rows = connection.execute("SELECT title, description, done FROM tasks").fetchall()
        found = {title.split()[0]: (title, description, bool(done)) for title, description, done in rows}
        expect(len(found), len(rows), "how often each task is there, in all")
        expect(sorted(set(found) - set(self.possible)), [], "tasks that nobody asked for")
        for name, states in self.possible.items():
            if found.get(name) not in states:
                raise Failure(f"possible for {name}: {short(states)}\nin the file: {short(found.get(name))}")


class Writer:
    """A client who comes again and again, and asks for a few changes each time, of tasks of his own."""

    def __init__(self, books, number):
        self.books, self.number, self.random = books, number, random.Random(number)
        self.changes = self.change_by_http if number % 2 else self.change_by_line
        self.tasks, self.names = {}, 0      # the ids of those whose state is certain, by name

    def choose(self):
        """A task to be added (its state is None) or changed, and a new text for it."""
        text = f"v{self.random.randrange(10 ** 6)}"
        if not self.tasks or self.random.random() < 0.4:
            self.names += 1
            return f"{self.number}.{self.names}", None, None, text
        name = self.random.choice(sorted(self.tasks))
        (state,) = self.books.possible[name]
        return name, self.tasks.pop(name), state, text      # nothing more is asked of it before this is settled

    def change_by_line(self):
        name, task, state, text = self.choose()
        if not state:
            title = f"{name} {text}"
            return Change(name, None, f"add {title}\n".encode(), rf"added: (\w+) {title}", (title, "", False))
        verb, argument, reply, new = self.random.choice([
            ("edit", f" {name} {text}", "edited", (f"{name} {text}", *state[1:])), ("delete", "", "deleted", None),
            ("describe", f" {text * 100}", "described", (state[0], text * 100, state[2])),
            ("done", "", "done", (*state[:2], True)), ("undo", "", "undone", (*state[:2], False))])
        told = new[1] if verb == "describe" else (new or state)[0]
        return Change(name, task, f"{verb} {task}{argument}\n".encode(), f"{reply}: ({task}) {told}", new)

    def change_by_http(self):
        name, task, state, text = self.choose()
        new = (f"{name} {text}", text * 100, not state[2] if state else False)
        body = dict(zip(("title", "description", "done"), new))
        if not state:
            return Change(name, None, request("POST", "/api/task", body), "201", new)
        if self.random.random() < 0.3:
            return Change(name, task, request("DELETE", f"/api/tasks/{task}"), "204", None)
        return Change(name, task, request("PUT", f"/api/tasks/{task}", body), "200", new)

    def answer(self, client, change):
        """The task's id if the change was made; None if it was refused, for somebody else was writing for so long."""
        try:
            response = client.response() if change.data.endswith((b"}", b"\r\n\r\n")) else client.line()
        except Failure as failure:
            raise CutOff(str(failure)) from None
        if isinstance(response, str):
            return expect_match(response, rf"{change.success}|error: .*locked.*")[1]
        expect_match(str(response.status), f"{change.success}|503", f"the status of {response.body}, after {change.data}")
        return None if response.status == 503 else change.task or response.json["id"]

    def visit(self, server):
        """One connection, on which the changes are asked for at once, if they are lines."""
        changes = [self.changes() for _ in range(1 if self.number % 2 else 3)]
        before = [self.books.asked(change) for change in changes]
        try:
            client = server.connect()
            client.send(b"".join(change.data for change in changes))
        except (OSError, Failure) as failure:
            raise CutOff(str(failure)) from None
        with client:
            for change, states in zip(changes, before):
                task = self.answer(client, change)
                now = {change.state} if task else states
                if now != {None}:
                    self.tasks[change.name] = task or change.task
                self.books.settle(change, now)

    def write(self, server, more=0, is_killed=True):
        """Visits the server until somebody is killed, and then so many times more. A visit may be cut off by the kill, if it is
        this server that is concerned."""
        while not self.books.killed.is_set() or more > 0:
            more -= self.books.killed.is_set()
            try:
                self.visit(server)
            except CutOff as cut_off:
                if not (is_killed and self.books.killed.is_set()):
                    raise Failure(f"cut off, though nobody was killed: {cut_off}") from None


@check_program("storage", row=True, fault=Fault("`kill -9` of the whole server in the midst of writes by four clients",
                                                "is cut off; after a restart all that was acknowledged is there, and no halves",
                                                "are cut off as well"))
def what_was_acknowledged_survives_kill_9(program):
    books = Books()
    writers = [Writer(books, number) for number in range(4)]
    for after in 1, 20, 45, 70:
        server = program.start()
        books.compare(program)
        books.await_kill(after, lambda: os.killpg(server.pid, signal.SIGKILL))
        together(*[lambda writer=writer: writer.write(server) for writer in writers])
        server.kill()
    server = program.start()
    books.compare(program)
    expect(sorted(titles(server)), sorted(stored(program)), "what the server lists, and what is in the file")


@check_program("storage", only=lambda stage: stage.child_per_client or stage.workers,
               fault=Fault("`kill -9` of a worker, or a child, in the midst of writes by four clients",
                           "is cut off; all that was acknowledged is there, and no halves", "go on"))
def what_was_acknowledged_survives_the_death_of_who_wrote_it(program):
    books, server = Books(), program.start()
    writers = [Writer(books, number) for number in range(4)]
    for after in 20, 45:
        books.await_kill(after, lambda: server.kill_worker(server.workers()[-1]))
        together(*[lambda writer=writer: writer.write(server, more=3) for writer in writers])
    if has_workers(program.stage):
        server.wait_for_workers()
    books.compare(program)
    expect(sorted(titles(server)), sorted(stored(program)), "what the server lists, and what is in the file")


@check_program("storage", fault=Fault("`kill -9` of another server that writes to the same file", "is cut off",
                                      "the clients of this one go on, and find all that was acknowledged"))
def a_server_goes_on_when_another_one_on_its_file_is_killed(program):
    books, server, victim = Books(), program.start(), program.start(stage=another(program.stage))
    writers = [Writer(books, number) for number in range(4)]
    books.await_kill(40, lambda: os.killpg(victim.pid, signal.SIGKILL))
    together(*[lambda writer=writer: writer.write(victim) for writer in writers[:2]],
             *[lambda writer=writer: writer.write(server, more=3, is_killed=False) for writer in writers[2:]])
    victim.kill()
    books.compare(program)
    add_task(server, title="after")
    expect(sorted(titles(server)), sorted(stored(program)), "what the server lists, and what is in the file")
