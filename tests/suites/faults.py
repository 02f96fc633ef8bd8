"""What any call of the kernel or the C library may do: be interrupted, move one byte, fail, or have nothing left to give.

A shim (faults.c) intercepts the calls of a server. It makes the first one fail, then the second, the third …, as SQLite's
own tests do, until the client is answered before the count is reached. By then every call has failed once.
"""
import contextlib
import errno
import itertools
import os
import re
import resource
import signal
import time

from harness.checks import Fault, Gone, check_program, expect, expect_match, wait_for
from harness.clients import client_of_each
from harness.faults import LATE, ONE_BYTE, Faults, start
from harness.lines import add, expect_reply, show
from harness.process import notices
from harness.stages import has_workers, plain, serves_several, shares_its_listener
from harness.system import go_on, processor_ticks, readable, stand_still

# Techniques with options make mostly the same calls as the plain one, so that every third call (every seventh allocation)
# is enough. EVERY_FAULT in the environment tries them all.
EVERY_ONE = "EVERY_FAULT" in os.environ
CALL_STRIDE, ALLOCATION_STRIDE = 3, 7
# The calls that a signal may interrupt, by their names in faults.c (signal(7); for files, where SQLite expects EINTR).
INTERRUPTIBLE = ("accept4", "recv", "send", "poll", "ppoll", "pselect", "epoll_wait", "nanosleep", "sigtimedwait",
                 "sigwaitinfo", "waitpid", "open", "pread64", "pwrite64", "ftruncate64")
# The documented errors of these calls for a shortage, or for trouble with the network or the disk.
NOTHING_LEFT = errno.EMFILE, errno.ENFILE, errno.ENOMEM
MAY_FAIL = {
    "accept4": (*NOTHING_LEFT, errno.ENOBUFS, errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.ENETDOWN,
                errno.EHOSTUNREACH, errno.ETIMEDOUT),
    "recv": (errno.ECONNRESET, errno.ETIMEDOUT, errno.ENOMEM),
    "send": (errno.EPIPE, errno.ECONNRESET, errno.ENOBUFS, errno.ENOMEM),
    "epoll_ctl": (errno.ENOMEM, errno.ENOSPC),
    "poll": (errno.ENOMEM,), "ppoll": (errno.ENOMEM,), "pselect": (errno.ENOMEM,),
    "fork": (errno.EAGAIN, errno.ENOMEM), "pthread_create": (errno.EAGAIN,),
    "mmap": (errno.ENOMEM,), "mmap64": (errno.ENOMEM,), "mprotect": (errno.ENOMEM,),
    "open": (*NOTHING_LEFT, errno.EACCES),
    "pread64": (errno.EIO,), "pwrite64": (errno.ENOSPC, errno.EIO), "ftruncate64": (errno.EIO,), "fdatasync": (errno.EIO,),
    "write": (errno.ENOSPC, errno.EIO),     # the log's
}


# ---- Conversations ------------------------------------------------------------------------------------------------------

def leave(client):
    """Half-closes, and waits until the server closes: the calls that it makes until then belong to this client."""
    client.half_close()
    expect(client.rest(), b"")
    client.close()


@contextlib.contextmanager
def asking_http(server):
    """Yields a function for one request: over one connection if the server keeps it open, or else over one each."""
    if server.stage.keeps_http_open:
        client = server.connect()
        yield client.http
        leave(client)
    else:
        yield server.http


def converse_in_lines(server):
    client = server.connect()
    for request, reply in ("fib 6", "fib: 8"), ("fib 25", "fib: 75025"), ("sleep 0.001", "slept: 0.001"):
        expect_reply(client, request, reply)
    task = add(client, "buy milk")
    expect([client.ask("list"), client.line()], ["tasks: 1", f"[ ] {task} buy milk"])
    expect_reply(client, f"edit {task} oat milk", f"edited: {task} oat milk")
    expect_reply(client, f"delete {task[:4]}", f"deleted: {task} oat milk")
    expect_match(client.ask("count"), r"count: \d+")
    expect_reply(client, "quit", "bye:")
    leave(client)


def converse_in_http(server):
    with asking_http(server) as http:
        task = http("POST", "/api/task", {"title": "buy milk"}).json
        place = f"/api/tasks/{task['id']}"
        expect(task, {"id": task["id"], "title": "buy milk", "description": "", "done": False})
        expect(http("GET", "/api/tasks").json, [task])
        task["done"] = True
        expect(http("PUT", place, {"done": True}).json, task)
        expect(http("GET", "/fib/25").json, {"n": 25, "fib": 75025})
        expect(http("DELETE", place).status, 204)
        expect(http("GET", place).status, 404)


def converse(server):
    """One conversation in each protocol; every reply must be right."""
    converse_in_lines(server)
    converse_in_http(server)


def stride_for(stage, stride):
    return stride if stage.options and not EVERY_ONE else 1


# ---- Nobody notices -----------------------------------------------------------------------------------------------------

@check_program("faults", fault=Fault("a signal interrupts the first, the second, the third … system call (`EINTR`)",
                                     "notices nothing", "notice nothing"))
def no_client_notices_an_interrupted_call(program):
    server, faults = start(program)
    for first in itertools.count(1, stride_for(program.stage, CALL_STRIDE)):
        with faults.hitting(*INTERRUPTIBLE, error=errno.EINTR, first=first, times=1):
            converse(server)
        if not faults.hits:
            return


@check_program("faults", fault=Fault("signals interrupt half of all system calls", "notices nothing", "notice nothing"))
def no_client_notices_when_half_of_all_calls_are_interrupted(program):
    server, faults = start(program)
    with faults.hitting(*INTERRUPTIBLE, error=errno.EINTR, irregularly=True):
        for _ in range(5):
            converse(server)
    expect(faults.hits > 50, True, f"more than 50 calls are interrupted: {faults.hits}")


@check_program("faults", fault=Fault("every `recv` and `send`, and every read and write of a file, moves a single byte",
                                     "notices nothing", "notice nothing"))
def no_client_notices_when_each_call_moves_a_single_byte(program):
    server, faults = start(program)
    with faults.hitting("recv", "send", error=ONE_BYTE):
        converse(server)
    with faults.hitting("pread64", "pwrite64", error=ONE_BYTE):
        expect_match(server.ask("add buy milk"), r"added: \w{8} buy milk")
    expect(faults.hits > 50, True, f"more than 50 reads and writes of files move one byte: {faults.hits}")
    expect([line[13:] for line in server.list()], ["buy milk"])


# ---- One client is affected, and no other -------------------------------------------------------------------------------
# It is answered, gets an error, or loses its connection. What it was told is done, is done.

# Each request, and its right reply. Asker.ask() fills in the names.
LINES = {
    "fib 6": "fib: 8", "fib 25": "fib: 75025", "sleep 0.001": r"slept: 0\.001", "list": r"tasks: \d+", "show {task}": "task: 4",
    "edit {task} {title}": "edited: {task} {title}", "add {title}": r"added: \w+ {title}", "delete {old}": r"deleted: \w+ .+",
    "count": r"count: \d+", "help": r"commands: \d+", "nonsense": "error: .+", "quit": "bye:",
}
MESSAGES = {
    "GET /fib/25": 200, "GET /sleep/0.001": 200, "GET /api/tasks": 200, "GET /api/tasks/{id}": 200, "PUT /api/tasks/{id}": 200,
    "POST /api/task": 201, "GET /server": 200, "GET /": 200, "GET /nothing": 404,
}
FAILED = 500, 503, 507


class Asker:
    """Asks a server in which calls fail, as a new client each time, and remembers what the server acknowledged."""

    def __init__(self, server, faults):
        self.server, self.faults = server, faults
        self.numbers = itertools.count(1)
        self.kept = {}              # the titles of the tasks that must be there, by their ids
        self.unseen = False         # something was acknowledged that nobody has looked for yet
        self.title = None           # that of self.task; None where it is uncertain
        with server.connect() as client:
            self.task = add(client, "the one")
            self.id = show(client, self.task)[0].partition(" ")[2]

    def fails_each(self, request, calls, errors, arriving=False, stride=1):
        """Makes the first, the second … of these calls fail during this request, until it is answered before the count is
        reached. The client is connected already and has used the tasks, or, if `arriving`, connects then."""
        for number in itertools.count():
            client = None if arriving else self.client(request)     # proves that the next one is served
            error, first = errors[number % len(errors)], 1 + number * stride
            with self.faults.hitting(*calls, error=error, first=first, times=1), contextlib.suppress(Gone):
                client = client or self.server.connect()
                self.ask(client, request)
            client.close()
            if not self.faults.hits and number >= len(errors):
                return

    def client(self, request):
        """One that is served, and has found all that was acknowledged so far."""
        client = self.server.connect()
        if request in LINES and self.unseen:
            self.expect_kept(client)
        elif request in LINES:
            expect(show(client, self.task)[0], f"id: {self.id}")
        elif self.server.stage.keeps_http_open:
            expect(client.http("GET", "/api/tasks").status, 200)
        return client

    def expect_kept(self, client):
        self.unseen = False
        lines = client.lines(int(expect_match(client.ask("list"), r"tasks: (\d+)")[1]))
        tasks = {line[4:12]: line[13:] for line in lines}
        expect({name: tasks.get(name) for name in self.kept}, self.kept, "the tasks that were acknowledged")
        if self.title:
            expect(tasks[self.task], self.title)

    def ask(self, client, request):
        """Sends the request. The reply must be right, or an error."""
        words = {"task": self.task, "id": self.id, "title": f"title {next(self.numbers)}", "old": next(iter(self.kept), "none")}
        changes, deletes = request.startswith(("edit", "PUT")), "{old}" in request
        if changes:
            self.title = None
        if deletes:
            self.kept.pop(words["old"], None)
        if request in LINES:
            reply = client.ask(request.format(**words))
            expect_match(reply, f"error: .+|{LINES[request].format(**words)}")
            more = re.fullmatch(r"(?:tasks|task|commands): (\d+)", reply)
            client.lines(int(more[1]) if more else 0)
            well, added = not reply.startswith("error"), reply[7:15]
        else:
            method, target = request.format(**words).split()
            body = {"title": words["title"]} if method in ("POST", "PUT") else None
            response = client.http(method, target, body)
            expect(response.status in (MESSAGES[request], *FAILED), True, f"the status {response.status}")
            well, added = response.status == MESSAGES[request], response.json.get("id", "")[:8] if body else None
        if well and changes:
            self.title = words["title"]
        if well and request.startswith(("add", "POST")):
            self.kept[added] = words["title"]
        self.unseen = self.unseen or changes or deletes or added in self.kept


@contextlib.contextmanager
def one_call_fails_after_another(program, *options):
    """Yields an Asker. In the end the server has all that it acknowledged, and keeps nothing of the clients affected."""
    server, faults = start(program, *options)
    asker = Asker(server, faults)
    before = server.holds()
    yield asker
    with server.connect() as client:
        asker.expect_kept(client)
    server.wait_until_it_holds_no_more_than(before)


@check_program("faults", fault=Fault("the first, the second, the third … system call fails (a shortage, network, disk)",
                                     "gets an error, or loses the connection", "are served"))
def a_failing_call_affects_one_client_at_most(program):
    with one_call_fails_after_another(program, "-v") as asker:
        for call, errors in MAY_FAIL.items():
            asker.fails_each("list", (call,), errors, arriving=True)
            for request in "add {title}", "sleep 0.001", "POST /api/task", "quit":
                asker.fails_each(request, (call,), errors)


@check_program("faults", fault=Fault("the first, the second, the third … allocation finds no memory",
                                     "gets an error, or loses the connection, perhaps as it connects", "are served"))
def a_failing_allocation_affects_one_client_at_most(program):
    stride = stride_for(program.stage, ALLOCATION_STRIDE)
    with one_call_fails_after_another(program, "-v") as asker:
        asker.fails_each("list", ("malloc",), (errno.ENOMEM,), arriving=True, stride=stride)
        for request in (*LINES, *MESSAGES):
            asker.fails_each(request, ("malloc",), (errno.ENOMEM,), stride=stride)


# ---- A shortage, for a while --------------------------------------------------------------------------------------------
# Connected clients are served as far as possible; a new one waits or gets an error; no loop spins. Afterwards all is well.

FULL = b"error: server is full\n"


def starts_threads(stage):
    """Whether it starts a thread for each client, or a pool in each worker."""
    return stage == plain(3) or (has_workers(stage) and stage.number in (3, 6))


def one_who_stays(server):
    """A list of one client that has used the tasks and stays connected; empty where it would hold up the others."""
    if not serves_several(server.stage):
        return []
    client = server.connect()
    add(client, "something")
    return [client]


@contextlib.contextmanager
def at_rest(server):
    """Meanwhile the server mostly rests, if its technique does at all, although something is left that it cannot do."""
    def used():
        ticks = 0
        for pid in server.pids():
            with contextlib.suppress(TypeError):    # it has ended
                ticks += processor_ticks(pid)
        return ticks / os.sysconf("SC_CLK_TCK")

    began, before = time.monotonic(), used()
    yield
    elapsed, busy = time.monotonic() - began, used() - before
    if server.stage.rests and elapsed > 0.2:
        expect(busy < 0.5 * elapsed + 0.05, True, f"it is busy for less than half of {elapsed:.2f} s: {busy:.2f} s")


@contextlib.contextmanager
def limited(server, what, limit_of):
    """While this lasts, the kernel itself, not the shim, gives the server and its workers no more of this."""
    limits = {}
    for pid in server.pids():
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):    # a client's process that has just ended
            limit, (_, hard) = limit_of(pid), resource.prlimit(pid, what)
            limits[pid] = resource.prlimit(pid, what, (limit, hard))
    try:
        yield
    finally:
        for pid, both in limits.items():
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, what, both)


def expect_waits_meanwhile(server, stays, shortage):
    """A client that connects during the shortage is served when it is over. Those in `stays` are served meanwhile."""
    with shortage, at_rest(server):
        early, comes = server.connect(), server.connect()   # an accept(2) that already waits still takes one
        for client in early, comes:
            client.send("6\n")
        early.half_close()
        expect(readable(comes.socket, 0.35), False, "an answer comes in spite of the shortage")
        for client in stays:
            expect_reply(client, "fib 25", "fib: 75025")
            expect_reply(client, "sleep 0.001", "slept: 0.001")
            add(client, "more")
    expect(early.rest(), b"fib: 8\n")
    expect(comes.line(), "fib: 8")
    for client in early, comes:
        client.close()
        client.wait_until_let_go()      # and its descriptor is free


@check_program("faults", fault=Fault("for a while no descriptors are left, in process or system (`EMFILE`, `ENFILE`)",
                                     "a new client waits, and is then served", "connected clients are served"))
def a_new_client_waits_while_there_are_no_descriptors(program):
    server, faults = start(program)
    stays = one_who_stays(server)
    for error in errno.EMFILE, errno.ENFILE:
        expect_waits_meanwhile(server, stays, faults.hitting("accept4", "open", error=error))
        expect(1 <= faults.hits < 100, True, f"it tries again now and then: {faults.hits} times")

    def first_free(pid):
        taken = {int(number) for number in os.listdir(f"/proc/{pid}/fd")}
        return next(number for number in itertools.count() if number not in taken)

    expect_waits_meanwhile(server, stays, limited(server, resource.RLIMIT_NOFILE, first_free))


@check_program("faults", only=lambda stage: stage.child_per_client,
               fault=Fault("for a while there are no processes (`fork` fails)",
                           "a new client is told `error: server is full`", "connected clients are served"))
def a_new_client_is_refused_while_fork_fails(program):
    server, faults = start(program)
    stays = one_who_stays(server)
    for error in errno.EAGAIN, errno.ENOMEM:
        with faults.hitting("fork", error=error):
            for _ in range(3):
                expect(server.connect().rest(), FULL)
            for client in stays:
                add(client, "more")
        expect(server.ask("6"), "fib: 8")


def expect_comes_back(server, stays, shortage, what):
    """A worker killed during the shortage is replaced when it is over. The others go on."""
    lost = stays[0].served_by()
    with shortage, at_rest(server):
        server.kill_worker(lost)
        wait_for(lambda: re.search(what, server.log()), f"the log said {what}")
        for client in stays[1:]:
            expect_reply(client, "6", "fib: 8")
    with contextlib.suppress(Gone):
        expect(stays[0].rest(), b"")
    server.wait_for_workers(without=[lost])
    expect(server.ask("6"), "fib: 8")


@check_program("faults", only=has_workers,
               fault=Fault("a worker dies while there are no processes or descriptors for another", "loses the connection",
                           "are served by the other workers; the dead one is replaced after the shortage"))
def a_lost_worker_is_replaced_once_the_shortage_is_over(program):
    server, faults = start(program)
    stays = client_of_each(server, 2)
    with faults.hitting("fork", error=errno.EAGAIN):
        before = server.workers()
        notices(server, signal.SIGHUP)
        wait_for(lambda: faults.hits >= len(before), "it tried to renew its workers")
        expect(server.workers(), before, "the old workers stay")
    cannot = "Cannot fork a worker: .*\n"
    seen = len(re.findall(cannot, server.log()))
    expect_comes_back(server, stays, faults.hitting("fork", error=errno.EAGAIN), f"({cannot}[^~]*){{{seen + 1}}}")
    for client in stays:
        client.close()      # or else they and the next ones could fill the threads of one worker
    expect_comes_back(server, client_of_each(server, 2), faults.hitting("eventfd", "epoll_create1", error=errno.EMFILE),
                      "Exception in worker process: .*Too many open files")


@check_program("faults", only=starts_threads,
               fault=Fault("for a while there are no threads (`pthread_create` fails)",
                           "a new client is told `error: server is full`; a worker that dies is replaced afterwards",
                           "connected clients are served"))
def a_new_client_is_refused_or_waits_without_threads(program):
    server, faults = start(program)
    shortage = faults.hitting("pthread_create", error=errno.EAGAIN)
    if has_workers(server.stage):
        expect_comes_back(server, client_of_each(server, 2), shortage, "Exception in worker process: .*thread")
    else:
        stays = one_who_stays(server)
        with shortage:
            for _ in range(3):
                expect(server.connect().rest(), FULL)
            for client in stays:
                add(client, "more")
    expect(server.ask("6"), "fib: 8")


def polls(stage):
    """Whether it waits in poll(2), ppoll(2) or select(2)."""
    return stage.child_per_client or shares_its_listener(stage) or stage.option("--wait") is not None


@check_program("faults", only=polls,
               fault=Fault("for a while `poll` and `select` have no memory (`ENOMEM`)", "waits, and is then served",
                           "wait no longer than that"))
def a_server_whose_poll_fails_does_not_spin(program):
    server, faults = start(program)
    with faults.hitting("poll", "ppoll", "pselect", error=errno.ENOMEM), at_rest(server):
        client = server.connect()
        client.send("6\n")
        time.sleep(0.35)        # little should happen meanwhile
    expect(client.line(), "fib: 8")
    expect(faults.hits < 100, True, f"it tries again now and then: {faults.hits} times")


def expect_outlives(server, shortage):
    """During a shortage of memory each client, connected or new, is answered, gets an error, is refused or loses its
    connection, at once or later. Afterwards all is well."""
    clients = one_who_stays(server)
    for client in clients:
        client.send("6\nlist\n")
    with shortage, at_rest(server):
        for _ in range(3 if serves_several(server.stage) else 1):
            client = server.connect()
            with contextlib.suppress(Gone):
                client.send("6\nadd more\nquit\n")
            clients.append(client)
        readable(clients[-1].socket, 0.3)
    for client in clients:
        with contextlib.suppress(Gone):
            with contextlib.suppress(OSError):      # closed already
                client.half_close()
            expect_match(client.rest().decode(), r"((fib: 8|added: \w{8} more|tasks: \d+|\[ \] \w{8} \w+|bye:|error: .+)\n)*")
    expect(server.ask("6"), "fib: 8")
    expect(server.http("POST", "/api/task", {"title": "after"}).status, 201)


@check_program("faults", fault=Fault("for a while there is no memory, or none in larger pieces",
                                     "gets an error, loses the connection, or waits",
                                     "may see the same; a loop without memory ends its process (stages 4 to 6)"))
def the_server_outlives_a_shortage_of_memory(program):
    server, faults = start(program)
    for least in 0, 256, 4096:
        expect_outlives(server, faults.hitting("malloc", error=errno.ENOMEM, least=least))
    expect_outlives(server, faults.hitting("malloc", "mmap", "mmap64", "mprotect", error=errno.ENOMEM))
    expect_outlives(server, limited(server, resource.RLIMIT_AS, lambda pid: 1 << 20))


@check_program("faults", only=lambda stage: stage.number == 4)
def a_loop_without_memory_ends_with_a_clear_line(program):
    server, faults = start(program, "--idle-timeout", "0")
    with faults.hitting("malloc", error=errno.ENOMEM, least=4096):      # only its list of sockets grows so large
        clients = []
        with contextlib.suppress(OSError):      # the client that it has no memory for, or one that it no longer accepts
            while len(clients) < 600:
                clients.append(server.connect())
        expect(server.wait(), 1, "the exit status")
    expect(server.log().splitlines()[-1], f"{program.stage.name}: no memory is left", "its last line")


@check_program("faults", fault=Fault("for a while the disk is full, fails, or is read-only (`ENOSPC`, `EIO`, `EROFS`)",
                                     "gets an error for each write; nothing is half done", "are served"))
def a_write_that_the_disk_refuses_is_an_error(program):
    server, faults = start(program)
    add_task = {"title": "not now"}
    for error in errno.ENOSPC, errno.EIO, errno.EROFS:
        with faults.hitting("pwrite64", "ftruncate64", "fsync", "fdatasync", error=error):
            expect_match(server.ask("add not now"), "error: .+")
            expect(server.http("POST", "/api/task", add_task).status in (503, 507), True, "503 or 507")
            expect(server.ask("6"), "fib: 8")
        expect_match(server.ask("add after"), "added: .+")
    expect([line[13:] for line in server.list()], ["after"] * 3)


# ---- What a client that is given up leaves behind -----------------------------------------------------------------------

@check_program("faults", only=lambda stage: stage.has_max_clients)
def a_refused_client_takes_no_new_client_with_it(program):
    """The next client may get the number of its descriptor in the same moment."""
    server, faults = start(program)
    server.wait_until_all_have_left()
    pids = server.pids()
    stand_still(pids)
    crowd = [server.connect() for _ in range(70)]
    with faults.hitting("mmap", "pthread_create", "fork", error=errno.ENOMEM, times=1):
        go_on(pids)
        for client in crowd:
            wait_for(lambda client=client: client.is_accepted() or client.has_reply(), "all were accepted, or refused")
    expect(server.stop(), 0, "the exit status: no client is cut off")


@check_program("faults", only=lambda stage: stage.number == 2 and stage.workers)
def a_client_that_is_given_up_leaves_no_alarm_set(program):
    server, faults = start(program, "--timeout", "1")
    server.ask("add a title that needs memory of its own")
    workers = server.workers()
    for number in itertools.count(1):
        with server.connect() as client:
            expect(client.ask("list"), "tasks: 1")
            client.line()
            try:
                with faults.hitting("malloc", error=errno.ENOMEM, first=number, times=1):
                    client.ask("list")
            except Gone:
                time.sleep(1.2)         # by then an alarm would have gone off
                expect(server.workers(), workers)
        if not faults.hits:
            return


@check_program("faults", only=has_workers)
def a_master_without_memory_keeps_the_workers_it_has(program):
    server, faults = start(program)
    workers = server.workers()
    with faults.hitting("malloc", "fork", error=errno.ENOMEM):     # its list cannot grow, or fork fails
        notices(server, signal.SIGHUP)
        wait_for(lambda: server.log().count("Cannot fork a worker: Cannot allocate memory") == len(workers),
                 "the log said for each worker why there is no new one")
        if shares_its_listener(server.stage):
            notices(server, signal.SIGTTIN)
    expect(server.workers(), workers)
    expect(server.ask("6"), "fib: 8")


# ---- The end ------------------------------------------------------------------------------------------------------------

@check_program("faults")
def a_stop_just_before_a_blocking_call_is_noticed(program):
    faults = Faults(program, with_memory=False)
    calls = "accept4", "recv", "send", "poll", "ppoll", "pselect", "epoll_wait", "nanosleep"
    # A client that leaves takes four calls at least: accept4, recv, send, recv. Where calls block (stages 1 to 3), a fifth
    # is the accept4 for the next client; and while a client stays, the fourth blocks.
    blocking = [(4, False), (5, True)] if program.stage.number < 4 else []
    for number, leaves in [*((number, True) for number in range(1, 5)), *blocking]:
        with faults.hitting(*calls, error=LATE, first=number, times=1):
            server = program.start()
            client = server.connect()
            client.send("6\n")
            if leaves:
                client.half_close()
            wait_for(lambda: faults.hits, f"call number {number} was about to be made", program.patience)
            expect(server.stop(), 0)


@check_program("faults", fault=Fault("a stop while calls are interrupted, or descriptors or memory are short",
                                     "is answered, or, without memory, loses the connection", "see a clean end"))
def a_stop_during_a_shortage_is_clean(program):
    for calls, error in (INTERRUPTIBLE, errno.EINTR), (("accept4", "open"), errno.EMFILE), (("malloc",), errno.ENOMEM):
        server, faults = start(program)
        client, *idle = [server.connect() for _ in range(server.stage.at_once(3))]
        for one in client, *idle:
            expect_reply(one, "6", "fib: 8")
        client.send("sleep 0.3\n")
        client.wait_until_read()
        with faults.hitting(*calls, error=error, irregularly=error == errno.EINTR):
            in_the_queue = server.connect()     # so that the server meets the shortage as it accepts
            server.send_signal()
            with contextlib.suppress(Gone):
                answers = (b"slept: 0.3\n", b"") if error == errno.ENOMEM else (b"slept: 0.3\n",)
                answer = client.rest()
                expect(answer in answers, True, f"{answer} is one of {answers}")
            expect(server.wait(), 0, "the exit status")
        for one in idle:
            expect(one.rest(), b"")
        in_the_queue.close()
