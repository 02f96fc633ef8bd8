"""What the kernel and the C library may answer at any time: interrupted, one byte, an error, no more to be had.

A shim (faults.c) stands before the calls that a server makes, and has the first, the second, the third … of them fail, as
SQLite's own tests do: until what a client asks is answered before the count is reached, and so every call has had its turn.
"""
import contextlib
import errno
import itertools
import mmap
import os
import re
import resource
import signal
import struct
import time
from pathlib import Path

from harness import (Fault, Gone, NotRun, check_program, expect, expect_match, go_on, processor_ticks, readable, stand_still,
                     wait_for)
from stages import plain
from suite_lines import add, expect_reply, show
from suite_limits import serves_several
from suite_workers import client_of_each, has_workers, notices, shares_its_listener

BUILD = Path(__file__).resolve().parent.parent / "build"
FOR_EVER = (1 << 64) - 1
# The techniques with options make mostly the same calls as the plain one: every so many-th is enough, unless it is asked for.
EVERY_ONE = "EVERY_FAULT" in os.environ
CALL_STRIDE, ALLOCATION_STRIDE = 3, 7
# The calls that a signal may interrupt, under whichever name faults.c has them (signal(7); for files, what SQLite expects).
INTERRUPTIBLE = ("accept4", "recv", "send", "poll", "ppoll", "pselect", "epoll_wait", "nanosleep", "sigtimedwait",
                 "sigwaitinfo", "waitpid", "open", "pread64", "pwrite64", "ftruncate64")
# What these calls are documented to fail with for want of something, or because of the network or the disk.
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
# In the place of an error: the call does less than it was asked for, or it is made, but only once a signal has come.
ONE_BYTE, LATE = 0, -1


class Faults:
    """What is to go wrong in the servers that this check's program starts from now on: the shim's other side."""
    LAYOUT = struct.Struct("<IIiIQQQ256s")      # struct control in faults.c; its first word in halves

    def __init__(self, program, with_memory=True):
        threads_watched = program.is_built_with(b"__tsan_init")
        if program.is_built_with(b"__asan_init") or (threads_watched and with_memory):
            raise NotRun("a sanitizer brings an allocator of its own")
        shim = BUILD / ("tsan" if threads_watched else "") / "faults.so"
        if not shim.exists():
            raise NotRun(f"there is no {shim.relative_to(BUILD.parent)}: make test builds it")
        self.program = program
        self.numbers = itertools.count(1)       # a wish's
        path = program.directory / "faults"
        path.write_bytes(bytes(self.LAYOUT.size))
        with open(path, "r+b") as file:
            self.block = mmap.mmap(file.fileno(), self.LAYOUT.size)
        program.environment.update(LD_PRELOAD=str(shim), FAULTS=str(path))

    @contextlib.contextmanager
    def hitting(self, *calls, error, first=1, times=FOR_EVER, irregularly=False, least=0):
        """While this lasts, so many of these calls fail, from the first one given on: all, or irregularly about half of them.
        Allocations ("malloc") smaller than `least` count for nothing."""
        names = f" {' '.join(calls)} ".encode()
        self.LAYOUT.pack_into(self.block, 0, 0, 0, error, irregularly, first - 1, times, least, names)
        self.program.notes.append(f"from here on {short_name(error)} for {' '.join(calls)}, from number {first} on")
        self._arm(next(self.numbers))
        try:
            yield
        finally:
            self._arm(0)

    @contextlib.contextmanager
    def counting(self, *calls):
        """While this lasts, these calls are counted, and none fails."""
        with self.hitting(*calls, error=0, times=0):
            yield

    @property
    def counted(self):
        """How many of the calls that were to be hit, or counted, there were."""
        return self.LAYOUT.unpack(self.block)[0]

    def _arm(self, number):
        self.block[4:8] = struct.pack("<I", number)

    @property
    def hits(self):
        """How many of them were hit."""
        counted, _, _, irregularly, skip, times, *_ = self.LAYOUT.unpack(self.block)
        sought = range(skip, min(counted, skip + times))
        return sum(bin(number).count("1") % 2 for number in sought) if irregularly else len(sought)


def short_name(error):
    return {ONE_BYTE: "one byte", LATE: "a wait for a signal"}.get(error) or errno.errorcode[error]


# ---- Conversations ------------------------------------------------------------------------------------------------------

def leave(client):
    """Says that nothing more comes, and waits until the server does: what it calls meanwhile belongs to this client."""
    client.half_close()
    expect(client.rest(), b"")
    client.close()


@contextlib.contextmanager
def asking_http(server):
    """A function for one request: all over one connection where it is kept open, else each over its own."""
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
    """Once in each protocol, with nothing but right replies."""
    converse_in_lines(server)
    converse_in_http(server)


def stride_for(stage, stride):
    return stride if stage.options and not EVERY_ONE else 1


def start(program, *options):
    """Starts the program with nothing armed yet; returns the server, which has all that it will always need, and what is to
    go wrong in it."""
    faults = Faults(program)
    server = program.start(*options)
    for client in client_of_each(server, program.stage.workers or 1):
        expect_match(client.ask(f"delete {add(client, 'something')}"), "deleted: .+")
        expect(client.ask("list"), "tasks: 0")
        client.close()
    return server, faults


# ---- Nothing of it is noticed -------------------------------------------------------------------------------------------

@check_program("faults", fault=Fault("a signal interrupts the first, the second, the third … system call (`EINTR`)",
                                     "notices nothing", "notice nothing"))
def an_interrupted_call_is_noticed_by_nobody(program):
    server, faults = start(program)
    for first in itertools.count(1, stride_for(program.stage, CALL_STRIDE)):
        with faults.hitting(*INTERRUPTIBLE, error=errno.EINTR, first=first, times=1):
            converse(server)
        if not faults.hits:
            return


@check_program("faults", fault=Fault("signals interrupt half of all system calls", "notices nothing", "notice nothing"))
def nor_is_it_where_half_of_all_calls_are(program):
    server, faults = start(program)
    with faults.hitting(*INTERRUPTIBLE, error=errno.EINTR, irregularly=True):
        for _ in range(5):
            converse(server)
    expect(faults.hits > 50, True, f"calls are interrupted, not only {faults.hits}")


@check_program("faults", fault=Fault("every `recv` and `send`, and every read and write of a file, moves a single byte",
                                     "notices nothing", "notice nothing"))
def all_is_well_where_each_call_moves_a_single_byte(program):
    server, faults = start(program)
    with faults.hitting("recv", "send", error=ONE_BYTE):
        converse(server)
    with faults.hitting("pread64", "pwrite64", error=ONE_BYTE):
        expect_match(server.ask("add buy milk"), r"added: \w{8} buy milk")
    expect(faults.hits > 50, True, f"files are read or written byte by byte, {faults.hits} times")
    expect([line[13:] for line in server.list()], ["buy milk"])


# ---- The client concerned sees it, and nobody else ----------------------------------------------------------------------
# He is answered, or told of an error, or loses his connection. What he was told is done, is done.

# A request, and its right reply. Another task is named each time, where one is.
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
    """Asks a server in which something goes wrong, again and again as a new client, and remembers what he was promised."""

    def __init__(self, server, faults):
        self.server, self.faults = server, faults
        self.numbers = itertools.count(1)
        self.kept = {}              # tasks that were added and are there, by their ids, and their titles
        self.unseen = False         # something was promised that nobody has looked for yet
        self.title = None           # that of the one that is changed, unless this is uncertain
        with server.connect() as client:
            self.task = add(client, "the one")
            self.id = show(client, self.task)[0].partition(" ")[2]

    def fails_each(self, request, calls, errors, arriving=False, stride=1):
        """Has the first, the second … of these calls fail while this is asked, by a client who is there already and has used
        the tasks, or by one who arrives; until he is answered before the call is reached."""
        for number in itertools.count():
            client = None if arriving else self.client(request)     # the proof that the next one is served
            error, first = errors[number % len(errors)], 1 + number * stride
            with self.faults.hitting(*calls, error=error, first=first, times=1), contextlib.suppress(Gone):
                client = client or self.server.connect()
                self.ask(client, request)
            client.close()
            if not self.faults.hits and number >= len(errors):
                return

    def client(self, request):
        """One who is served, and has found all that was promised so far."""
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
        expect({name: tasks.get(name) for name in self.kept}, self.kept, "what was promised to be there")
        if self.title:
            expect(tasks[self.task], self.title)

    def ask(self, client, request):
        """Asks it: the reply is right, or an error."""
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
    """An Asker of a server that keeps nothing of those who were concerned, and stops in peace, as its log says."""
    server, faults = start(program, *options)
    asker = Asker(server, faults)
    before = server.holds()
    yield asker
    with server.connect() as client:
        asker.expect_kept(client)
    server.wait_until_it_holds_no_more_than(before)


@check_program("faults", fault=Fault("the first, the second, the third … system call fails: nothing left of what it needs, "
                                     "the network, the disk",
                                     "has an error for an answer, or loses the connection", "are served"))
def a_failing_call_concerns_one_client_at_most(program):
    with one_call_fails_after_another(program, "-v") as asker:
        for call, errors in MAY_FAIL.items():
            asker.fails_each("list", (call,), errors, arriving=True)
            for request in "add {title}", "sleep 0.001", "POST /api/task", "quit":
                asker.fails_each(request, (call,), errors)


@check_program("faults", fault=Fault("the first, the second, the third … allocation finds no memory",
                                     "has an error for an answer, or loses the connection, or is refused", "are served"))
def an_allocation_that_fails_concerns_one_client_at_most(program):
    stride = stride_for(program.stage, ALLOCATION_STRIDE)
    with one_call_fails_after_another(program, "-v") as asker:
        asker.fails_each("list", ("malloc",), (errno.ENOMEM,), arriving=True, stride=stride)
        for request in (*LINES, *MESSAGES):
            asker.fails_each(request, ("malloc",), (errno.ENOMEM,), stride=stride)


# ---- Nothing left, for a while ------------------------------------------------------------------------------------------
# Who is here is served as far as it goes, who comes waits or is told so, nobody spins, and when it is over all is well.

FULL = b"error: server is full\n"


def starts_threads(stage):
    """One for each client, or those of a worker's pool."""
    return stage == plain(3) or (has_workers(stage) and stage.number in (3, 6))


def one_who_stays(server):
    """A client who has used the tasks and stays, if that holds up nobody else: in a list, for there may be none."""
    if not serves_several(server.stage):
        return []
    client = server.connect()
    add(client, "something")
    return [client]


@contextlib.contextmanager
def at_rest(server):
    """Meanwhile the server mostly rests, if its technique does at all, though there is something that it can't do."""
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
        expect(busy < 0.5 * elapsed + 0.05, True, f"of {elapsed:.2f} s it is busy for less than half: {busy:.2f} s")


@contextlib.contextmanager
def limited(server, what, limit_of):
    """While this lasts, the kernel gives the server and its workers no more of this; not only the shim says so."""
    limits = {pid: resource.prlimit(pid, what) for pid in server.pids()}
    for pid, (_, hard) in limits.items():
        resource.prlimit(pid, what, (limit_of(pid), hard))
    try:
        yield
    finally:
        for pid, both in limits.items():
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, what, both)


def expect_waits_meanwhile(server, stays, shortage):
    """Who comes in the shortage is not lost: he is served when it is over. Who is here goes on."""
    with shortage, at_rest(server):
        early, comes = server.connect(), server.connect()   # an accept(2) that waits already lets one in yet
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


@check_program("faults", fault=Fault("for a while there are no descriptors, of its own or at all (`EMFILE`, `ENFILE`)",
                                     "who comes waits, and is then served", "who are here already are served"))
def who_comes_where_there_are_no_descriptors_waits_until_there_are(program):
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
               fault=Fault("for a while there are no processes (`fork` fails)", "who comes is told `error: server is full`",
                           "who are here already are served"))
def who_comes_where_there_are_no_processes_is_told_so(program):
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
    """A worker that is killed in the shortage is replaced when it is over; others go on."""
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
                           "are served by the other workers; the lost one is replaced when it is over"))
def a_worker_lost_where_none_can_be_had_comes_back_when_it_can(program):
    server, faults = start(program)
    stays = client_of_each(server, 2)
    with faults.hitting("fork", error=errno.EAGAIN):
        before = server.workers()
        notices(server, signal.SIGHUP)
        wait_for(lambda: faults.hits >= len(before), "it tried to renew its workers")
        expect(server.workers(), before, "better old workers than none")
    cannot = "Cannot fork a worker: .*\n"
    seen = len(re.findall(cannot, server.log()))
    expect_comes_back(server, stays, faults.hitting("fork", error=errno.EAGAIN), f"({cannot}[^~]*){{{seen + 1}}}")
    for client in stays:
        client.close()      # with the next ones they could be all that one worker's threads serve
    expect_comes_back(server, client_of_each(server, 2), faults.hitting("eventfd", "epoll_create1", error=errno.EMFILE),
                      "Exception in worker process: .*Too many open files")


@check_program("faults", only=starts_threads,
               fault=Fault("for a while there are no threads (`pthread_create` fails)",
                           "who comes is told `error: server is full`; a worker that dies is replaced when it is over",
                           "who are here already are served"))
def who_needs_a_thread_where_there_is_none_is_told_so_or_waits(program):
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
    """Waits in poll(2), ppoll(2) or select(2)."""
    return stage.child_per_client or shares_its_listener(stage) or stage.option("--wait") is not None


@check_program("faults", only=polls,
               fault=Fault("for a while `poll` and `select` have no memory (`ENOMEM`)", "waits, and is then served",
                           "wait no longer than that"))
def who_cannot_wait_for_want_of_memory_does_not_spin(program):
    server, faults = start(program)
    with faults.hitting("poll", "ppoll", "pselect", error=errno.ENOMEM), at_rest(server):
        client = server.connect()
        client.send("6\n")
        time.sleep(0.35)        # the time over which little is to happen
    expect(client.line(), "fib: 8")
    expect(faults.hits < 100, True, f"it tries again now and then, not {faults.hits} times")


def expect_outlives(server, shortage):
    """Whoever is here or comes in a shortage of memory is answered, told of an error, refused or closed; or he waits, and is
    so later. Afterwards all is well."""
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
                                     "has an error for an answer, loses the connection, is refused, or waits",
                                     "see the same; when it is over, all are served"))
def who_asks_where_there_is_no_memory_sees_an_error_at_most(program):
    server, faults = start(program)
    for least in 0, 256, 4096:
        expect_outlives(server, faults.hitting("malloc", error=errno.ENOMEM, least=least))
    expect_outlives(server, faults.hitting("malloc", "mmap", "mmap64", "mprotect", error=errno.ENOMEM))
    expect_outlives(server, limited(server, resource.RLIMIT_AS, lambda pid: 1 << 20))


@check_program("faults", fault=Fault("for a while the disk is full, fails, or is read-only (`ENOSPC`, `EIO`, `EROFS`)",
                                     "is told so where a task is written; nothing is half done", "are served"))
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


# ---- What who is given up leaves behind -------------------------------------------------------------------------------------

@check_program("faults", only=lambda stage: stage.has_max_clients)
def who_is_refused_takes_no_newcomer_with_him(program):
    """His descriptor's number is the next client's, perhaps in the same moment."""
    server, faults = start(program)
    server.wait_until_all_have_left()
    pids = server.pids()
    stand_still(pids)
    crowd = [server.connect() for _ in range(70)]
    with faults.hitting("mmap", "pthread_create", "fork", error=errno.ENOMEM, times=1):
        go_on(pids)
        for client in crowd:
            wait_for(lambda client=client: client.is_accepted() or client.has_reply(), "all were accepted, or refused")
    expect(server.stop(), 0, "the exit status: all are told goodbye")


@check_program("faults", only=lambda stage: stage.number == 2 and stage.workers)
def who_is_given_up_leaves_no_alarm_set(program):
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
    with faults.hitting("malloc", "fork", error=errno.ENOMEM):     # for want of room in its list, or of a process
        notices(server, signal.SIGHUP)
        wait_for(lambda: server.log().count("Cannot fork a worker: Cannot allocate memory") == len(workers),
                 "the log said why there is no other for any of them")
        if shares_its_listener(server.stage):
            notices(server, signal.SIGTTIN)
    expect(server.workers(), workers)
    expect(server.ask("6"), "fib: 8")


# ---- The end ------------------------------------------------------------------------------------------------------------

@check_program("faults")
def a_stop_that_comes_just_before_a_call_is_not_slept_through(program):
    faults = Faults(program, with_memory=False)
    calls = "accept4", "recv", "send", "poll", "ppoll", "pselect", "epoll_wait", "nanosleep"
    # One who leaves costs four at least: accept4, recv, send, recv. Where calls block there is an accept4 for the next one,
    # too, and while he stays, the fourth one blocks.
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


@check_program("faults", fault=Fault("a stop where calls are interrupted, or descriptors or memory are short",
                                     "is answered, or loses the connection for want of memory", "are told goodbye"))
def a_stop_is_a_clean_one_whatever_is_short(program):
    for calls, error in (INTERRUPTIBLE, errno.EINTR), (("accept4", "open"), errno.EMFILE), (("malloc",), errno.ENOMEM):
        server, faults = start(program)
        client, *idle = [server.connect() for _ in range(server.stage.at_once(3))]
        for one in client, *idle:
            expect_reply(one, "6", "fib: 8")
        client.send("sleep 0.3\n")
        client.wait_until_read()
        with faults.hitting(*calls, error=error, irregularly=error == errno.EINTR):
            in_the_queue = server.connect()     # who is there to be accepted makes a shortage known
            server.send_signal()
            with contextlib.suppress(Gone):
                answers = (b"slept: 0.3\n", b"") if error == errno.ENOMEM else (b"slept: 0.3\n",)
                answer = client.rest()
                expect(answer in answers, True, f"{answer} is one of {answers}")
            expect(server.wait(), 0, "the exit status")
        for one in idle:
            expect(one.rest(), b"")
        in_the_queue.close()
