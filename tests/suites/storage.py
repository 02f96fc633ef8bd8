"""What is stored: who finds it again, and what happens to it and to the service when the disk, the file or a process fails.

An acknowledged write is there afterwards, whatever happens. A refused write has changed nothing. A write that was neither,
because a process was killed, is there as a whole or not at all.
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

from harness.checks import (Failure, Fault, NotRun, check_program, expect, expect_lasts, expect_match, short, together,
                            wait_for)
from harness.client import request
from harness.clients import client_of_each
from harness.database import database, locked
from harness.web import add_task, expect_error
from harness.lines import SHORT_ID, add
from harness.process import notices
from harness.server import Server
from harness.stages import has_workers, plain, serves_several
from harness.system import stat_fields


def another(stage):
    """The stage that takes over this one's file, or shares it: stage 5, or stage 2 for stage 5."""
    return plain(2 if stage.number == 5 else 5)


def titles(server):
    return [line[13:] for line in server.list()]


def listed(client):
    """The titles that a client finds; None if it is refused."""
    match = re.fullmatch(r"tasks: (\d+)", client.ask("list"))
    return match and [line[13:] for line in client.lines(int(match[1]))]


def stored(program, name="tasks.db"):
    """The titles in the file, as another program reads them. The file must be sound."""
    with database(program, name) as connection:
        expect(connection.execute("PRAGMA integrity_check").fetchall(), [("ok",)], "the integrity of the file")
        return [title for title, in connection.execute("SELECT title FROM tasks ORDER BY position")]


def one_of_each(server):
    """A client of each worker, two where each client has a process, else one."""
    if has_workers(server.stage):
        return client_of_each(server, server.stage.workers)
    return [server.connect() for _ in range(2 if server.stage.child_per_client else 1)]


def expect_fib(server):
    """A client that wants no task is served."""
    expect(server.ask("6"), "fib: 8")


def connections(stage):
    """How many database connections may outlive a client, at most: a process may have one to read and one to write."""
    return 2 * max(stage.workers, 1)


def post_until(server, status, refusal, most):
    """Posts tasks until one gets this status. At most this many get the refusal before it. Returns the last title."""
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
        """The id of a new task. Asks again where a slow machine keeps the file locked for over a second."""
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
            expect(came, "tasks: 1" if client.served_by() == keeper else "tasks: 0", "what a client finds, by its process")
    expect(server.stop(), 0)
    told = [line for line in server.log().splitlines() if ":memory:" in line]
    several = program.stage.child_per_client or program.stage.workers
    expect(len(told), 1 if several else 0, f"lines of the log that say so: {told}")
    expect(program.start(db=":memory:").list(), [])
    expect([path.name for path in program.directory.iterdir() if "log" not in path.name], [], "files left")


# ---- No room, or no permission to write ---------------------------------------------------------------------------------

class Disk:
    """A small file system of a server's own, in the directory `disk`. Others reach it only through /proc."""

    def __init__(self, program):
        (program.directory / "disk").mkdir()
        if os.geteuid() or program.shell("unshare -m mount -t tmpfs none disk 2>/dev/null"):
            raise NotRun("to mount a file system here takes root, and unshare(1) must be allowed")
        mount = 'mount -t tmpfs -o size=1m none disk && exec "$@"'
        self.server = program.start(db="disk/tasks.db", under=["unshare", "-m", "sh", "-c", mount, "sh"])
        self.program, self.files = program, Path(f"/proc/{self.server.pid}/cwd/disk")

    def command(self, line):
        """Runs a command where the server sees the disk."""
        status = self.program.shell(f"nsenter -t {self.server.pid} -m sh -c 'cd {self.program.directory} && {line}'")
        expect(status, 0, f"the status of {line}")

    def fill(self):
        """Fills the disk."""
        with open(self.files / "ballast", "ab", buffering=0) as ballast, contextlib.suppress(OSError):
            while True:
                ballast.write(bytes(4096))


def keep_open(server):
    """Where each client has a process, the last one to leave removes the files beside the database, and the next one needs
    room for them even to read. So one client stays."""
    if server.stage.child_per_client:
        expect(server.connect().ask("list"), "tasks: 0")


@check_program("storage", row=True, fault=Fault("the disk is full", "`error: …`, 507; nothing is half-written",
                                                "lists and `fib` go on; writes, too, once there is room"))
def a_full_disk_is_507_until_there_is_room_again(program):
    disk = Disk(program)
    server = disk.server
    keep_open(server)
    expected = [add_task(server, title=f"before {number}", description="x" * 1000)["title"] for number in range(5)]

    def until_refused(attempt, title):
        """Tries again and again: a file may have a little room left, and a client that leaves may make some."""
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
        again = {"title": "there is room again"}    # the kernel may count it a moment late
        wait_for(lambda: server.http("POST", "/api/task", again).status == 201, "a task could be added again")
        expected.append(again["title"])
        expect(titles(server), expected)


@check_program("storage", fault=Fault("the file has grown to the limit of the process (`ulimit -f`)",
                                      "`error: …`, 507; no signal ends the server", "lists and `fib` go on"))
def a_limit_to_the_size_of_files_is_507(program):
    server = program.start()

    def limit(size):
        for pid in server.pids():
            with contextlib.suppress(ProcessLookupError):   # of a client that has left
                _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))

    tasks = [add_task(server, title="before")]
    limit(32768)        # the index of the log (-shm) alone takes as much (sqlite.org/walformat.html)
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


@check_program("storage", fault=Fault("another disk is mounted over the database's own",
                                      "503 until it is gone again; nothing is written elsewhere", "`fib` goes on"))
def a_disk_mounted_over_the_database_is_503(program):
    disk = Disk(program)
    server, most = disk.server, connections(program.stage)
    clients = client_of_each(server, program.stage.workers or 1)
    for client in clients:      # so that each worker has opened the right file, to write and to read
        expect_match(client.ask("add before"), "added: .+")
        expect_match(client.ask("list"), r"tasks: \d")
        client.close()
    server.wait_until_all_have_left()   # the last one to leave removes files that are about to be copied
    disk.command("mkdir copy && mount -t tmpfs none copy && cp -a disk/. copy && mount -o remount,ro copy "
                 "&& mount --bind copy disk")
    for _ in range(most + 2):
        expect_error(server.http("POST", "/api/task", {"title": "one more"}), 503)
        expect_match(server.ask("add one more"), "error: .+")
        expect_fib(server)
    disk.command("umount -l disk")      # the server may still have a file of the copy open
    wait_until_listed(server, ["before"] * len(clients) + [post_until(server, 201, 503, most)])


def wait_until_listed(server, expected):
    """Waits, because a reader checks only now and then whether the file is still the one in its place."""
    def listed():
        response = server.http("GET", "/api/tasks")
        return response.status != 503 and [task["title"] for task in response.json] == expected

    wait_for(listed, f"the list was {expected}")


@check_program("storage", fault=Fault("at the start, the database is read-only", "one line that says why, status 1", "-"))
def a_database_that_is_read_only_at_the_start_is_status_1(program):
    under = ["unshare", "-m", "sh", "-c", 'mount --bind . . && mount -o remount,bind,ro . && exec "$@"', "sh"]
    if os.geteuid():
        under = []
    elif program.shell("unshare -m true 2>/dev/null"):
        raise NotRun("unshare(1) is not allowed here")

    for end in Server.stop, Server.kill:        # a killed server leaves its log beside the file
        server = program.start()
        add_task(server, title="before")
        end(server)
        program.directory.chmod(0o500)      # this binds all but root
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


# ---- Locked by another program ------------------------------------------------------------------------------------------


def seconds(function):
    """How long the function takes."""
    start = time.monotonic()
    function()
    return time.monotonic() - start


def a_second_in_vain(program, name="tasks.db"):
    """How long SQLite's wait of one second for a locked database takes on this machine."""
    def wait():
        with contextlib.suppress(sqlite3.OperationalError):
            other.execute("BEGIN IMMEDIATE")

    with database(program, name, timeout=1) as other:
        return seconds(wait)


def expect_refused(server):
    expect_error(server.http("POST", "/api/task", {"title": "wait"}), 503)


@check_program("storage", row=True, fault=Fault("another program holds a lock on the database", "503 after a second",
                                                "lists go on; writes, too, as soon as the lock is released"))
def a_locked_database_is_503(program):
    server = program.start()
    add_task(server, title="buy milk")
    with locked(program):
        expect_lasts(1, lambda: expect_refused(server))
        expect_match(server.ask("add wait"), "error: .+")
        expect(titles(server), ["buy milk"], "readers need not wait")
    add_task(server, title="pay rent")
    expect(titles(server), ["buy milk", "pay rent"])


def waits_elsewhere(stage):
    """Whether a wait for the database holds up no client that wants no task."""
    return stage.fib_holds_others is False and serves_several(stage)


@check_program("storage", only=waits_elsewhere,
               fault=Fault("several clients write while another program holds the database", "503 after a second",
                           "`fib` is answered at once"))
def a_wait_for_the_database_holds_up_nobody(program):
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

    tries = 3       # the machine may be busy for a second, but not each time
    while not fib_comes_first():
        tries -= 1
        expect(tries > 0, True, "the fib is answered before the first of the writers")
        time.sleep(1)       # after a failed wait, writes during the next second fail at once


@check_program("storage", row=True, alone=True,
               fault=Fault("five clients write at once while another program holds the database",
                           "all get 503 after a second", "`fib` waits for a second at most, in all"))
def waits_for_the_database_do_not_add_up(program):
    server = program.start()
    with locked(program):
        all_at_once = seconds(lambda: together(*[lambda: expect_refused(server)] * 5, lambda: expect_fib(server)))
        a_second = a_second_in_vain(program)
    expect(all_at_once < 3 * a_second, True, f"they take little more than a second, not {all_at_once:.1f} s")
    add_task(server, title="it can be written again")


@check_program("storage", fault=Fault("at the start, another program holds the database",
                                      "starts, or says why not after a second at most, status 1", "-"))
def a_start_on_a_locked_database_succeeds_or_says_why(program):
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
            expect(took < 3 * a_second, True, f"with {name} it takes little more than a second, not {took:.1f} s")


@check_program("storage", fault=Fault("a stop while another program holds the database", "503, then the end",
                                      "are told goodbye; status 0"))
def a_stop_while_the_database_is_locked_is_clean(program):
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
    """After at most one error for each database connection, the tasks that were in the file before are served."""
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
        with database(program) as connection:   # so that no connection can go by what it has cached
            connection.execute("UPDATE tasks SET done = 1")
            # A child that is just ending may do the same, and SQLite does not wait for the child.
            wait_for(lambda: connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0, "the log was empty")
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
                                      "`error: …`, 503, until it is back or the server is restarted; "
                                      "nothing is written elsewhere", "`fib` goes on"))
def a_file_that_is_away_is_an_error_until_it_is_back(program):
    server = program.start()
    path, away, other = (program.directory / name for name in ("tasks.db", "away.db", "other.db"))
    clients = one_of_each(server)
    with database(program, other.name) as connection:
        connection.execute("CREATE TABLE another (one TEXT)")

    def expect_refused_by_all():
        for client in clients:
            for _ in range(2):
                expect_match(client.ask("add refused"), "error: .+")
            wait_for(lambda client=client: listed(client) is None, "readers were refused as well")
            expect(client.ask("6"), "fib: 8")

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


# ---- A file that is moved, and the clients after that -------------------------------------------------------------------

def move(program, name, to):
    """Renames a database as a file manager would: the file alone, not what SQLite keeps beside it."""
    os.rename(program.directory / name, program.directory / to)


class Acknowledged:
    """Adds tasks through clients that are there before a fault, and through others that come after it. Remembers the titles
    that the server acknowledged."""

    def __init__(self, server):
        self.server, self.titles = server, []
        self.clients = one_of_each(server)
        for client in self.clients:
            expect(self.tries(client), True, "a task is added before anything happens")

    def tries(self, client):
        """Whether the client could add a task."""
        title = f"task {len(self.titles)}"
        reply = client.ask(f"add {title}")
        if expect_match(reply, rf"added: \w+ {title}|error: .+").group().startswith("added"):
            self.titles.append(title)
            return True
        return False

    def newcomers_try(self):
        """For each newcomer, whether it could add a task: clients of every process, and of the workers that replace them."""
        came = self.next_ones_try()
        if has_workers(self.server.stage):
            old = self.server.workers()
            notices(self.server, signal.SIGHUP)
            self.leave()
            self.server.wait_for_workers(without=old)
            came += self.next_ones_try()
        return came

    def next_ones_try(self):
        if not self.server.stage.child_per_client:      # or else the old clients stay, with the file open
            self.leave()
        came = one_of_each(self.server)
        self.clients += came
        return [self.tries(client) for client in came]

    def leave(self):
        for client in self.clients:
            client.close()
        self.clients = []

    def expect_in(self, program, name):
        """All that was acknowledged is in this file, and nothing else."""
        expect(stored(program, name), self.titles, f"what is stored in {name}")


def empty_log(program, name="tasks.db"):
    log = program.directory / f"{name}-wal"
    return not log.exists() or log.stat().st_size == 0


def expect_no_start(program, name="tasks.db", about=""):
    """A start with this database ends at once, with one line that says why."""
    finished = program.run("--port", "0", "--db", name)
    expect((finished.status, finished.stdout), (1, ""), f"status and standard output with {name} {about}")
    expect_match(finished.stderr, rf"{program.stage.name}: cannot open the database {name}: .+\n")
    return finished.stderr


@check_program("storage", row=True,
               fault=Fault("the file is renamed, and the server is restarted",
                           "503; all that was acknowledged is in the renamed file, and the new one begins empty",
                           "later clients get 503, from renewed workers, too"))
def a_renamed_file_has_all_that_was_acknowledged(program):
    for away, somebody_asks in ("asked.db", True), ("unasked.db", False):
        server = program.start()
        acknowledged = Acknowledged(server)
        move(program, "tasks.db", away)
        if somebody_asks:
            for client in acknowledged.clients:
                expect(acknowledged.tries(client), False, "a client that was here adds a task")
            expect(any(acknowledged.newcomers_try()), False, "a newcomer adds a task")
            expect((program.directory / "tasks.db").exists(), False, "there is a file in its place")
        acknowledged.leave()
        expect(server.stop(), 0)
        expect(empty_log(program), True, "the log that is left behind is empty")
        acknowledged.expect_in(program, away)
        server = program.start()
        expect(titles(server), [])
        add_task(server, title="another")
        expect(server.stop(), 0)
        expect(stored(program), ["another"])
        acknowledged.expect_in(program, away)
        (program.directory / "tasks.db").unlink()


@check_program("storage",
               fault=Fault("a backup is moved to the file's place, and the server is restarted",
                           "503, then what is in the backup; what was acknowledged before is in the file moved away",
                           "later clients get 503, from renewed workers, too"))
def a_restart_finds_the_backup_that_took_the_files_place(program):
    server = program.start()
    add_task(server, title="old")
    expect(server.stop(), 0)
    for away, somebody_asks in ("asked.db", True), ("unasked.db", False):
        shutil.copy(program.directory / "tasks.db", program.directory / "backup.db")
        server = program.start()
        acknowledged = Acknowledged(server)
        move(program, "tasks.db", away)
        move(program, "backup.db", "tasks.db")
        if somebody_asks:
            for client in acknowledged.clients:
                expect(acknowledged.tries(client), False, "a client that was here adds a task")
            expect(any(acknowledged.newcomers_try()), False, "a newcomer adds a task")
        acknowledged.leave()
        expect(server.stop(), 0)
        expect(stored(program, away), ["old", *acknowledged.titles], "what is in the file that was moved away")
        server = program.start()
        expect(titles(server), ["old"])
        expect(server.stop(), 0)
        expect(stored(program), ["old"])


@check_program("storage", only=lambda stage: stage.child_per_client or stage.workers,
               fault=Fault("`kill -9` of a worker or child that wrote; then a rename of the file, and a restart",
                           "is cut off; all that was acknowledged is in the renamed file", "-"))
def a_renamed_file_keeps_what_a_killed_writer_logged(program):
    server = program.start()
    add_task(server, title="old")
    expect(server.stop(), 0)
    shutil.copy(program.directory / "tasks.db", program.directory / "backup.db")
    server = program.start()
    client = server.connect()
    add(client, "new")
    writer = client.served_by()
    server.kill_worker(writer)
    wait_for(lambda: stat_fields(writer) is None, "the writer was gone")
    expect(empty_log(program), False, "the log is empty, and nothing can be lost")
    move(program, "tasks.db", "away.db")
    move(program, "backup.db", "tasks.db")
    expect(server.stop(), 0)
    expect(stored(program, "away.db"), ["old", "new"])
    expect(titles(program.start()), ["old"])


@check_program("storage", fault=Fault("the file is renamed, clients come, and it is put back",
                                      "503, then service; what was acknowledged is there", "later clients see the same"))
def a_file_that_is_put_back_has_all_that_was_acknowledged(program):
    server = program.start()
    acknowledged = Acknowledged(server)
    for _ in range(2):
        move(program, "tasks.db", "away.db")
        expect(any(acknowledged.newcomers_try()), False, "a newcomer adds a task")
        expect((program.directory / "tasks.db").exists(), False, "there is a file in its place")
        move(program, "away.db", "tasks.db")
        for client in acknowledged.clients:
            expect(acknowledged.tries(client), True, "a client adds a task when the file is back")
        expect(all(acknowledged.newcomers_try()), True, "a newcomer adds a task when the file is back")
    acknowledged.expect_in(program, "tasks.db")
    acknowledged.leave()
    expect(server.stop(), 0)
    acknowledged.expect_in(program, "tasks.db")
    expect(sorted(path.name for path in program.directory.glob("tasks.db*")), ["tasks.db"], "what is left beside it")


@check_program("storage", fault=Fault("the log beside the file (`-wal`), its index (`-shm`) or both are removed",
                                      "503 until the server is restarted; all that was acknowledged is there",
                                      "later clients see the same"))
def acknowledged_writes_outlive_the_log(program):
    expected = []
    for gone in ["-wal"], ["-shm"], ["-wal", "-shm"]:
        server = program.start()
        expect(titles(server), expected)
        acknowledged = Acknowledged(server)
        for suffix in gone:
            (program.directory / f"tasks.db{suffix}").unlink()
        expect_no_start(program)
        for client in acknowledged.clients:
            expect(acknowledged.tries(client), False, "a client that was here adds a task")
        expect(any(acknowledged.newcomers_try()), False, "a newcomer adds a task")
        acknowledged.leave()
        expect(server.stop(), 0)
        expected += acknowledged.titles
        expect(stored(program), expected, f"what is stored after {gone} went")


@check_program("storage",
               fault=Fault("at the start, the file is missing or empty, and the log of a killed server is there",
                           "one line that says what to do, status 1; the log stays as it was", "-"))
def a_log_without_its_file_is_not_thrown_away(program):
    server = program.start()
    add_task(server, title="before")
    server.wait_until_all_have_left()
    expect_match(server.connect().ask("add and after"), "added: .+")   # it stays, so that the log is not emptied
    server.kill()
    log = (program.directory / "tasks.db-wal").read_bytes()
    expect(len(log) > 0, True, "there is a log")
    move(program, "tasks.db", "away.db")
    for is_there in False, True:
        if is_there:
            (program.directory / "tasks.db").write_bytes(b"")
        expect("tasks.db-wal" in expect_no_start(program), True, "it names the log")
        expect((program.directory / "tasks.db-wal").read_bytes() == log, True, "the log is as it was")
    move(program, "away.db", "tasks.db")
    expect(titles(program.start()), ["before", "and after"])


@check_program("storage", fault=Fault("a second server is started after the first one's file was moved, or its log removed",
                                      "one line that says why, status 1", "get 503; all that was acknowledged is there"))
def no_second_server_starts_on_a_moved_files_log(program):
    server = program.start()
    acknowledged = Acknowledged(server)
    shutil.copy(program.directory / "tasks.db", program.directory / "backup.db")
    move(program, "tasks.db", "away.db")
    for replacement in None, "backup.db":
        if replacement:
            move(program, replacement, "tasks.db")
        expect_no_start(program)
    acknowledged.leave()
    expect(server.stop(), 0)
    acknowledged.expect_in(program, "away.db")
    expect(program.start().stop(), 0)


@check_program("storage", fault=Fault("another program holds a read open while others write, and then ends it",
                                      "the log is at most 4 MiB after the next write", "are served"))
def the_log_shrinks_when_a_long_reader_has_let_go(program):
    server = program.start()
    client = server.connect()
    add(client, "before")
    log = program.directory / "tasks.db-wal"
    with database(program) as reader, database(program) as writer:
        reader.execute("BEGIN")
        expect(reader.execute("SELECT count(*) FROM tasks").fetchone(), (1,))
        for _ in range(3):
            writer.execute("UPDATE tasks SET description = ?", ["x" * 5_000_000])
            writer.execute("UPDATE tasks SET description = ''")
            add(client, "meanwhile")
        expect(log.stat().st_size > 12 << 20, True, f"the log grows: {log.stat().st_size}")
        reader.execute("ROLLBACK")
        add(client, "after")
        expect(log.stat().st_size <= 4 << 20, True, f"the log shrinks: {log.stat().st_size}")
    expect(stored(program), ["before", *["meanwhile"] * 3, "after"])


# ---- Whose file it is ---------------------------------------------------------------------------------------------------

OUR_COLUMNS = """position INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, title TEXT NOT NULL, description TEXT NOT NULL,
                 done INTEGER NOT NULL"""


def files(program):
    """Every file of the database's directory, byte for byte."""
    return {path.name: path.read_bytes() for path in (program.directory / "db").iterdir()}


@check_program("storage", row=True, fault=Fault("at the start, the file is another program's database",
                                                "one line that says so, status 1; the file is as it was", "-"))
def another_programs_database_is_refused_and_left_alone(program):
    (program.directory / "db").mkdir()
    for schema in ("CREATE TABLE notes (text TEXT)", "CREATE TABLE tasks (something TEXT)",
                   "CREATE VIEW tasks AS SELECT 1 AS id, 2 AS title", f"CREATE TABLE task ({OUR_COLUMNS})",
                   "CREATE TABLE tasks (id INTEGER PRIMARY KEY, title TEXT, description TEXT, done INTEGER)",
                   f"CREATE TABLE tasks ({OUR_COLUMNS}, due TEXT NOT NULL)",
                   f"CREATE TABLE t ({OUR_COLUMNS}); CREATE VIEW tasks AS SELECT * FROM t"):
        for journal in "DELETE", "WAL":
            for log_is_left in (False, True) if journal == "WAL" else (False,):
                with database(program, "other.db") as connection:
                    connection.execute(f"PRAGMA journal_mode = {journal}")
                    connection.executescript(schema)
                    for suffix in ("", "-wal") if log_is_left else ():
                        shutil.copy(program.directory / f"other.db{suffix}", program.directory / f"db/theirs.db{suffix}")
                if not log_is_left:
                    shutil.copy(program.directory / "other.db", program.directory / "db/theirs.db")
                before = files(program)
                expect_no_start(program, "db/theirs.db", f"which has {schema}")
                after = files(program)
                if log_is_left:
                    after.pop("theirs.db-shm", None)    # to read a database creates the index of its log
                expect(after == before, True, f"the files are as they were, with {schema} and {journal}: {list(after)}")
                for path in *program.directory.glob("db/*"), *program.directory.glob("other.db*"):
                    path.unlink()


@check_program("storage")
def an_empty_file_or_database_is_taken(program):
    (program.directory / "nothing.db").write_bytes(b"")
    with database(program, "empty.db") as connection:
        connection.executescript("CREATE TABLE gone (something TEXT); DROP TABLE gone")
    with database(program, "ours.db") as connection:
        connection.executescript(f"CREATE TABLE Tasks ({OUR_COLUMNS})")
    for name in "nothing.db", "empty.db", "ours.db":
        server = program.start(db=name)
        add_task(server, title="buy milk")
        expect(titles(server), ["buy milk"])
        expect(server.stop(), 0)
        expect(stored(program, name), ["buy milk"])


@check_program("storage", fault=Fault("another program has put control characters into the tasks",
                                      "replies show them as `\\x1b`", "see the same"))
def control_characters_in_tasks_reach_no_terminal(program):
    server = program.start()
    evil = "\x1b]0;evil\x07\r\nadded: x\x7f\u009b2J\t"
    shown = "\\x1b]0;evil\\x07\\x0d\\nadded: x\\x7f\\xc2\\x9b2J\\x09"
    with database(program) as connection:
        insert = "INSERT INTO tasks (id, title, description, done) VALUES (?, CAST(? AS TEXT), ?, 0)"
        connection.execute(insert, ("ab\x1bcdefgh", evil, evil))
        connection.execute(insert, ("b", b"\xff\x1b", ""))
    raw = server.http("GET", "/api/tasks")
    expect(raw.json[0]["title"], evil)
    expect(re.search("[\0-\x1f\x7f-\x9f]", raw.body.decode()), None, "control characters in JSON")
    short_id = "ab\\x1bcdefg"
    with server.connect() as client:
        expect([client.ask("list"), *client.lines(2)], ["tasks: 2", f"[ ] {short_id} {shown}", "[ ] b \\xff\\x1b"])
        expect([client.ask("show a"), *client.lines(4)],
               ["task: 4", "id: ab\\x1bcdefgh", f"title: {shown}", f"description: {shown}", "done: false"])
        expect(client.ask("done a"), f"done: {short_id} {shown}")
        expect(client.ask("undo a"), f"undone: {short_id} {shown}")
        expect(client.ask("describe a two litres"), f"described: {short_id} two litres")
        expect(client.ask("delete a"), f"deleted: {short_id} {shown}")
    expect(server.http("GET", "/api/tasks").json, [{"id": "b", "title": "\ufffd\x1b", "description": "", "done": False}])


# ---- kill -9 in the midst of writes -------------------------------------------------------------------------------------

@dataclass
class Change:
    """Something that a writer asks for."""
    name: str       # of the task: the first word of its title
    task: object    # its id; None while it has none
    data: bytes     # the request
    success: str    # a pattern: the reply to a line, or the status of a response, that acknowledges it
    state: object   # the task after it: title, description and done; None: there is none


class CutOff(Exception):
    """A connection ended too early."""


class Books:
    """What all writers have asked for, and so what the database may hold: a task has one possible state where it is certain,
    or else several."""

    def __init__(self):
        self.lock, self.possible = threading.Lock(), {}

    def await_kill(self, after, kill):
        """Calls kill() after this many more answers."""
        self.left, self.kill, self.killed = after, kill, threading.Event()

    def asked(self, change):
        """The change is asked for. Returns the states that were possible before."""
        before = self.possible.get(change.name, {None})
        self.possible[change.name] = before | {change.state}
        return before

    def settle(self, change, states):
        """The answer has come: now these states are possible."""
        self.possible[change.name] = states
        with self.lock:
            self.left -= 1
            if self.left != 0:
                return
        self.killed.set()
        self.kill()

    def compare(self, program):
        """The file holds what the books say."""
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
    """A client that comes again and again, and each time asks for a few changes of its own tasks."""

    def __init__(self, books, number):
        self.books, self.number, self.random = books, number, random.Random(number)
        self.changes = self.change_by_http if number % 2 else self.change_by_line
        self.tasks, self.names = {}, 0      # the ids of its tasks whose state is certain, by name

    def choose(self):
        """A task to be added (its state is None) or changed, and a new text for it."""
        text = f"v{self.random.randrange(10 ** 6)}"
        if not self.tasks or self.random.random() < 0.4:
            self.names += 1
            return f"{self.number}.{self.names}", None, None, text
        name = self.random.choice(sorted(self.tasks))
        (state,) = self.books.possible[name]
        return name, self.tasks.pop(name), state, text      # one change of it at a time

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
        """The task's id if the change was made; None if it was refused because others wrote for too long."""
        try:
            response = client.response() if change.data.endswith((b"}", b"\r\n\r\n")) else client.line()
        except Failure as failure:
            raise CutOff(str(failure)) from None
        if isinstance(response, str):
            return expect_match(response, rf"{change.success}|error: .*locked.*")[1]
        expect_match(str(response.status), f"{change.success}|503", f"the status of {response.body}, after {change.data}")
        return None if response.status == 503 else change.task or response.json["id"]

    def visit(self, server):
        """Connects once, and asks for three changes at once if they are lines, or for one by HTTP."""
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
        """Visits the server until the kill, and then this many times more. If the kill is of this server, it may cut off
        a visit."""
        while not self.books.killed.is_set() or more > 0:
            more -= self.books.killed.is_set()
            try:
                self.visit(server)
            except CutOff as cut_off:
                if not (is_killed and self.books.killed.is_set()):
                    raise Failure(f"cut off, though this server was not killed: {cut_off}") from None


@check_program("storage", row=True, fault=Fault("`kill -9` of the whole server in the midst of writes by four clients",
                                                "is cut off; after a restart all that was acknowledged is there, "
                                                "and nothing is half-written",
                                                "are cut off as well"))
def acknowledged_writes_survive_kill_9(program):
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
               fault=Fault("`kill -9` of a worker or child in the midst of writes by four clients",
                           "is cut off; all that was acknowledged is there, and nothing is half-written", "go on"))
def acknowledged_writes_survive_their_writers_death(program):
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
                                      "those of this server go on, and find all that was acknowledged"))
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
