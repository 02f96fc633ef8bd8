"""What the checks need: to start a server, talk to it, watch it from outside, and stop it.

Nothing here guesses how long something takes. What happens in the server is watched where the kernel shows it (/proc, or
the connection itself); the patience is a guard against hanging, far longer than anything that is expected to happen.
"""
import contextlib
import fcntl
import itertools
import json
import os
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import termios
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 60.0
RUNNING = set()     # the servers that are running now, in all threads
LOSS = re.compile(r"Worker \(pid:\d+\) .*|WORKER TIMEOUT.*")  # a master would hide it that its workers die
SANITIZER_REPORT = re.compile(r"ERROR: \w+Sanitizer.*|WARNING: ThreadSanitizer.*|runtime error:.*")


class NotRun(Exception):
    """A check that cannot be made here, and why."""


class Failure(AssertionError):
    """A promise that was not kept, in words for the reader of the report."""


class Gone(Failure):
    """The connection ended where something else was to come. To a client whom a fault concerns that may happen."""


def short(value, limit=400):
    """The value as Python writes it, its middle left out where it is long."""
    text = value if isinstance(value, (bytes, str)) else repr(value)
    if len(text) <= limit:
        return repr(value)
    return f"{text[:limit // 2]!r} … {text[-limit // 2:]!r} ({len(text)} long)"


def expect(came, expected, about=""):
    if came != expected:
        raise Failure(f"{about}\nexpected: {short(expected)}\n    came: {short(came)}".lstrip("\n"))


def expect_in_three_tries(observe, expected, about):
    """Of what a machine that has much else to do may hide, once or twice."""
    came = [observe()]
    while came[-1] != expected and len(came) < 3:
        came.append(observe())
    expect(came[-1], expected, f"{about}, in the last of {len(came)} tries")


def expect_match(came, pattern, about=""):
    """The whole of `came` has the shape of `pattern`; returns the match."""
    match = re.fullmatch(pattern, came)
    if not match:
        raise Failure(f"{about}\nexpected something like: {pattern}\n                   came: {short(came)}".lstrip("\n"))
    return match


def expect_each(rows, body):
    """Calls body(*row) for every row and reports all that fail, not only the first."""
    failures = []
    for row in rows:
        try:
            body(*row)
        except Failure as failure:
            failures.append(f"{short(row, 200)}: {failure}")
    if failures:
        raise Failure("\n".join(failures))


def wait_for(condition, what, patience=PATIENCE):
    """Looks again and again until condition() holds, less often as time goes by; returns its value."""
    end, pause = time.monotonic() + patience, 0.001
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failure(f"waited {patience:g} s in vain until {what}")
        time.sleep(pause)
        pause = min(2 * pause, 0.05)


def together(*functions):
    """Runs the functions in a thread each and returns their results; a failure in one is a failure here."""
    results, failures = [None] * len(functions), []

    def run(index, function):
        try:
            results[index] = function()
        except BaseException as failure:  # handed on below, whatever it is
            failures.append(failure)

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(functions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return results


def place_of(tool):
    """Where this program is, or None. An ordinary user's PATH may lack the directories where Debian has servers."""
    return shutil.which(tool, path=os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin")


def readable(file, seconds=0.0):
    """Whether there is something to read (or the end), or will be within so many seconds."""
    poll = select.poll()
    poll.register(file, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def writable(file, seconds):
    """Whether the file takes something, or will within so many seconds."""
    poll = select.poll()
    poll.register(file, select.POLLOUT)
    return bool(poll.poll(seconds * 1000))


def broken(file):
    """Whether the connection is over in both directions, by a reset perhaps."""
    poll = select.poll()
    poll.register(file, 0)
    return bool(poll.poll(0))


# ---- What the kernel shows of connections and processes -----------------------------------------------------------------

@dataclass(frozen=True)
class Endpoint:
    """One end of a connection, as the kernel sees it."""
    state: int          # as /proc/net/tcp counts: 1 is established
    unread: int         # bytes that have arrived and that its process has not read
    inode: int          # which socket it is, as /proc/PID/fd names it; 0 before a process has it, and after

    @property
    def owned(self):
        """Whether a process holds it open, or it waits in the queue of a listener."""
        return self.inode != 0 or self.state == 1


def endpoint(family, local, remote):
    """The end of a connection that has these addresses; None when it is gone."""
    return endpoint_by_sock_diag(family, local, remote) or endpoint_by_proc(local, remote)


def endpoint_by_sock_diag(family, local, remote):
    """As sock_diag(7) tells it, in no time, however many connections there are. None may mean as well that it can't."""
    addresses = b"".join(socket.inet_pton(family, host).ljust(16, b"\0") for host, _ in (local, remote))
    query = struct.pack("=BBBxI", family, socket.IPPROTO_TCP, 0, 0xffffffff)     # in whichever state
    query += struct.pack("!HH", local[1], remote[1]) + addresses + struct.pack("=Iq", 0, -1)
    with contextlib.suppress(OSError), socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 4) as netlink:
        netlink.send(struct.pack("=IHHII", 16 + len(query), 20, 1, 0, 0) + query)   # SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST
        answer = netlink.recv(4096)
        if len(answer) >= 88 and answer[17] != 10 and struct.unpack_from("=H", answer, 4)[0] == 20:     # 10: the listener
            return Endpoint(answer[17], *struct.unpack_from("=I8xI", answer, 72))
    return None


def endpoint_by_proc(local, remote):
    row = re.compile(rf":{local[1]:04X} \w+:{remote[1]:04X} (\w\w) \w+:(\w+) \S+ +\w+ +\d+ +\d+ (\d+)")
    for table in "/proc/net/tcp", "/proc/net/tcp6":
        found = row.search(Path(table).read_text())
        if found:
            return Endpoint(int(found[1], 16), int(found[2], 16), int(found[3]))
    return None


def has_open(pid, inode):
    """Whether the process has this socket open."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                if os.readlink(entry.path) == f"socket:[{inode}]":
                    return True
    return False


def stat_fields(pid):
    """The fields of /proc/PID/stat from the third (the state) on, or None when the process is gone."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return None


def processes(condition):
    """The ids of the processes whose fields of /proc/PID/stat, from the state on, fulfil the condition."""
    found = []
    for entry in os.listdir("/proc"):
        fields = stat_fields(entry) if entry.isdigit() else None
        if fields and condition(fields):
            found.append(int(entry))
    return found


def children(pid):
    """The process ids of a process's children, zombies included."""
    return processes(lambda fields: fields[1] == str(pid))


def alive_in_group(pid):
    """The processes of this process group that have not ended."""
    return processes(lambda fields: fields[2] == str(pid) and fields[0] not in "ZX")


def processor_ticks(pid):
    """The processor time that a process has used, in clock ticks (a hundredth of a second, mostly)."""
    fields = stat_fields(pid)
    return int(fields[11]) + int(fields[12])


def stand_still(pids):
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: all(stat_fields(pid)[0] == "T" for pid in pids), f"{pids} stood still")


def go_on(pids):
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def wakeups(pid):
    """How often the threads of a process have gone to sleep: it grows with every time that one of them wakes."""
    status = "".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/status"))
    return sum(map(int, re.findall(r"\nvoluntary_ctxt_switches:\s*(\d+)", status)))


def everybody_sleeps(pid):
    """Whether every thread of the process waits for something."""
    states = [path.read_text().rpartition(")")[2].split()[0] for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    return all(state == "S" for state in states)


# Ports for servers that cannot choose one themselves. They lie below those that the kernel gives to clients, so none of our
# own connections can take one between the moment it is found free and the moment the server asks for it.
_candidates = itertools.count(10_000 + os.getpid() % 20_000)


def free_port():
    for candidate in _candidates:
        port = 10_000 + candidate % 20_000
        with socket.socket() as probe, contextlib.suppress(OSError):
            # A process that is being started in another thread may hold this socket a little longer: no harm, with this.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port


# ---- Clients ------------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Response:
    status: int
    headers: dict
    body: bytes

    @property
    def json(self):
        try:
            return json.loads(self.body)
        except ValueError:
            raise Failure(f"not JSON: {short(self.body)}") from None


def request(method, target, body=None, headers=None, host="localhost", version="HTTP/1.1"):
    """The bytes of an HTTP request. A dict as body goes as JSON; of what `headers` names, its word is taken."""
    fields = {} if host is None else {"Host": host}
    if isinstance(body, dict):
        body = json.dumps(body).encode()
        fields["Content-Type"] = "application/json"
    if body is not None:
        fields["Content-Length"] = str(len(body))
    fields.update(headers or {})
    head = [f"{method} {target} {version}"] + [f"{name}: {value}" for name, value in fields.items()]
    return "\r\n".join(head + ["", ""]).encode("latin-1") + (body or b"")


class Client:
    """One connection to a server, in whichever protocol. What is said goes into the report if the check fails."""

    def __init__(self, server, small_buffers=False):
        self.server = server
        self.patience = server.program.patience
        self.received = b""
        self.socket = socket.socket(server.family)
        if small_buffers:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.socket.settimeout(self.patience)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect(server.address)
        self.here, self.there = self.socket.getsockname()[:2], self.socket.getpeername()[:2]
        self.port = self.here[1]
        server.program.clients.append(self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _note(self, mark, data):
        self.server.program.notes.append(f"[{self.port}] {mark} {short(data)}")

    def send(self, data):
        data = data.encode() if isinstance(data, str) else data
        self._note("sent", data)
        try:
            self.socket.sendall(data)
        except ConnectionError as error:
            raise Gone(f"cannot send {short(data)}: {error}") from None
        except socket.timeout as error:
            raise Failure(f"cannot send {short(data)}: {error}") from None

    def send_in_pieces(self, data, size):
        """Sends so many bytes at a time, the next ones only after the server has read the last."""
        for start in range(0, len(data), size):
            self.send(data[start:start + size])
            self.wait_until_read()

    def half_close(self):
        """No more to say, but still listening: what `nc -N` does when its input ends."""
        self._note("half-closes", b"")
        self.socket.shutdown(socket.SHUT_WR)

    def close(self):
        self.socket.close()

    def reset(self):
        """Vanishes with a reset, as a client does that crashes."""
        self._note("resets", b"")
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def other_end(self):
        """The server's end of the connection; None when it is gone."""
        return endpoint(self.socket.family, self.there, self.here)

    def wait_until_read(self):
        """Waits until the server has read all that was sent. A request among it is then in progress."""
        def arrived():
            if struct.unpack("i", fcntl.ioctl(self.socket, termios.TIOCOUTQ, b"\0" * 4))[0] == 0:
                return True
            if broken(self.socket):
                raise Failure("the connection broke before the bytes sent arrived")

        def read():
            end = self.other_end()
            return not end or end.unread == 0

        wait_for(arrived, "the bytes sent arrived", self.patience)
        wait_for(read, "the server read the bytes sent", self.patience)

    def wait_until_let_go(self):
        """Waits until the server's process no longer holds the connection."""
        def let_go():
            end = self.other_end()
            return not (end and end.owned)

        wait_for(let_go, "the server let the client go", self.patience)

    def wait_until_accepted(self):
        """Waits until a process of the server has the connection, whether it serves it already or not."""
        wait_for(self.is_accepted, "the server accepted the client", self.patience)

    def is_accepted(self):
        """Whether a process of the server has the connection now."""
        end = self.other_end()
        return bool(end and end.inode)

    def served_by(self):
        """The id of the process that has this connection."""
        def holder():
            end = self.other_end()
            return next((pid for pid in reversed(self.server.pids()) if end and has_open(pid, end.inode)), None)

        return wait_for(holder, "a process of the server had the connection", self.patience)

    def has_reply(self):
        """Whether something has come that was not yet asked for; does not wait."""
        return bool(self.received) or readable(self.socket)

    def _receive(self):
        """Takes what has come, waiting until something does; False at the end of the connection."""
        try:
            data = self.socket.recv(1 << 20)
        except socket.timeout:
            raise Failure(f"nothing more came within {self.patience:g} s after {short(self.received)}") from None
        except ConnectionError as error:
            raise Gone(f"{error} after {short(self.received)}") from None
        self._note("came", data)
        self.received += data
        return bool(data)

    def _take(self, size):
        taken, self.received = self.received[:size], self.received[size:]
        return taken

    def _until(self, delimiter):
        while delimiter not in self.received:
            if not self._receive():
                raise Gone(f"the connection was closed; before its end came {short(self.received)}")
        return self._take(self.received.index(delimiter) + len(delimiter))

    def line(self):
        """The next line without its LF (a CR would show)."""
        return self._until(b"\n")[:-1].decode()

    def lines(self, number):
        return [self.line() for _ in range(number)]

    def ask(self, line):
        """Sends one line and returns the first line of the reply."""
        self.send(line + ("\n" if isinstance(line, str) else b"\n"))
        return self.line()

    def exactly(self, size):
        """The next so many bytes."""
        while len(self.received) < size:
            if not self._receive():
                raise Gone(f"expected {size} bytes, came {short(self.received)} and the end")
        return self._take(size)

    def rest(self):
        """All that comes until the server closes the connection."""
        while self._receive():
            pass
        return self._take(len(self.received))

    def response(self, method="GET"):
        """The next HTTP response (to this method), read as RFC 9112, section 6.3, says."""
        while b"\r\n\r\n" not in self.received:
            if not self._receive():
                raise Gone(f"expected an HTTP response, came {short(self.received)} and the end")
            if self.received == b"error: server is full\n":
                raise Gone("refused")
            if not self.received.startswith(b"HTTP/"[:len(self.received)]):
                raise Failure(f"expected an HTTP response, came {short(self.received)}")
        first, *fields = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")[:-2]
        status = int(expect_match(first, r"HTTP/1\.[01] (\d{3}) .*").group(1))
        pairs = [expect_match(field, r"([^\s:]+):[ \t]*(.*?)[ \t]*").groups() for field in fields]
        headers = {name.lower(): value for name, value in pairs}
        expect(len(headers), len(pairs), "no header twice")
        if method == "HEAD" or status < 200 or status in (204, 304):
            return Response(status, headers, b"")
        if "content-length" not in headers:
            return Response(status, headers, self.rest())
        return Response(status, headers, self.exactly(int(headers["content-length"])))

    def http(self, method, target, body=None, **options):
        """Sends a request and returns its response."""
        self.send(request(method, target, body, **options))
        return self.response(method)


# ---- Servers ------------------------------------------------------------------------------------------------------------

class Server:
    """One running server process, with everything that it starts in a session (and process group) of its own."""

    def __init__(self, program, stage, command, port=None):
        self.program, self.stage = program, stage
        self.gone = False
        self.may_lose_workers = False   # the check kills some of them
        self.stdout = b""
        self.log_path = program.directory / f"log{len(program.servers)}"
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(command, cwd=program.where, stdin=subprocess.DEVNULL, stderr=log,
                                            stdout=log if program.foreign else subprocess.PIPE,
                                            start_new_session=True, env=program.environment)
        self.pid = self.process.pid
        RUNNING.add(self)
        program.servers.append(self)
        if program.foreign:
            self.family, self.host, self.port = socket.AF_INET, "127.0.0.1", port
            wait_for(self._accepts, f"the server accepted on port {port}")
        else:
            self._wait_until_ready()

    @property
    def address(self):
        return self.host, self.port

    def _wait_until_ready(self):
        pipe = self.process.stdout.fileno()
        while b"\n" not in self.stdout:
            data = os.read(pipe, 4096) if readable(pipe, self.program.patience) else b""
            if not data:
                raise Failure(f"no ready line on standard output, only {self.stdout!r}")
            self.stdout += data
        match = expect_match(self.stdout.decode(), rf"{self.stage.name}: listening on (\S+):(\d+) \(pid (\d+)\)\n")
        expect(int(match[3]), self.pid, "the process id in the ready line")
        self.host, self.port = match[1].strip("[]"), int(match[2])
        self.family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        if self.stage.workers:
            wait_for(lambda: len(self.workers()) >= self.stage.workers, "the workers were there", self.program.patience)

    def _accepts(self):
        if self.process.poll() is not None:
            raise Failure(f"the server ended with status {self.process.returncode} before it accepted")
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(self.address, self.program.patience).close()
            return True

    def refuses(self):
        """Whether nobody listens on the port any more. One who was in the queue as it closed is refused by a reset."""
        try:
            socket.create_connection(self.address, self.program.patience).close()
        except ConnectionError:
            return True
        return False

    def connect(self, **options):
        return Client(self, **options)

    def connect_beside(self, client, same_worker=True):
        """A client whom the process that serves this one serves, too (or: another one). The kernel chooses, so that it may
        take a few tries."""
        for _ in range(200):
            found = self.connect()
            expect(found.ask("6"), "fib: 8")
            if (found.served_by() == client.served_by()) == same_worker:
                return found
            found.close()
        raise Failure(f"200 clients, and none on {'the same' if same_worker else 'another'} worker")

    def ask(self, line):
        """One line on a connection of its own; returns the first line of the reply."""
        with self.connect() as client:
            return client.ask(line)

    def list(self):
        """The lines of `list`, without the first."""
        with self.connect() as client:
            number = int(expect_match(client.ask("list"), r"tasks: (\d+)").group(1))
            return client.lines(number)

    def http(self, method, target, body=None, **options):
        """One HTTP request on a connection of its own."""
        with self.connect() as client:
            return client.http(method, target, body, **options)

    def log(self):
        """What it has written to standard error, without AddressSanitizer's word about every program with stacks of its own."""
        lines = self.log_path.read_text(errors="backslashreplace").splitlines(keepends=True)
        return "".join(line for line in lines if "ASan doesn't fully support makecontext" not in line)

    def kill_worker(self, pid):
        """Kills it as nothing can be helped against; the log may say so."""
        self.may_lose_workers = True
        self.program.notes.append(f"[{pid}], a worker, is killed")
        os.kill(pid, signal.SIGKILL)

    def send_signal(self, number=signal.SIGTERM):
        self.program.notes.append(f"[{self.pid}] gets {signal.Signals(number).name}")
        self.process.send_signal(number)

    def workers(self):
        """The ids of the workers who live, the oldest first."""
        states = [(stat_fields(pid), pid) for pid in children(self.pid)]
        born = [(int(fields[19]), pid) for fields, pid in states if fields and fields[0] not in "ZX"]
        return [pid for _, pid in sorted(born)]

    def pids(self):
        """The ids of all its processes that run now, its own first."""
        return [self.pid, *children(self.pid)]

    def lasting_pids(self):
        """... of those that outlive a client: its own, and its workers'."""
        return self.pids() if self.stage.workers else [self.pid]

    def wait_until_all_have_left(self):
        """Where each client has a process, waits until those have ended: hundreds at once take a sanitizer longer than a stop
        may take."""
        if self.stage.child_per_client:
            wait_for(lambda: not children(self.pid), "the clients' processes had ended", self.program.patience)

    def holds(self):
        """How many descriptors and threads the server and its workers have, and how many children it has."""
        def entries(what):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                return sum(len(os.listdir(f"/proc/{pid}/{what}")) for pid in self.lasting_pids())
            return 1 << 30      # a worker has gone meanwhile, and another will be there: nobody can say yet

        return entries("fd"), entries("task"), len(children(self.pid))

    def memory(self):
        """How much memory all its processes have together, in bytes: what they share is counted once (Pss, proc(5))."""
        rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in self.pids()]
        return sum(int(re.search(r"^Pss:\s*(\d+) kB", rollup, re.MULTILINE)[1]) for rollup in rollups) * 1024

    def wait_until_it_holds_no_more_than(self, before):
        """Waits until holds() is what it was, or less."""
        wait_for(lambda: all(now <= then for now, then in zip(self.holds(), before)), f"the server held no more than {before}",
                 self.program.patience)

    def wait_for_workers(self, number=None, without=()):
        """Waits until so many workers (else: as many as were asked for) have booted, none of these among them; returns them,
        the oldest first."""
        number = number or self.stage.workers

        def booted():
            workers = self.workers()
            if len(children(self.pid)) == number == len(workers) and not set(workers) & set(without):
                log = self.log()
                return all(f"Booting worker with pid: {pid}\n" in log for pid in workers) and workers

        return wait_for(booted, f"{number} workers were there" + (f", without {without}" if without else ""),
                        self.program.patience)

    def who_said(self, text):
        """Who wrote this into the log, and how urgently, for each time: pairs of a process id and a level."""
        found = re.findall(rf"^\[[^]]*\] \[(\d+)\] \[(\w+)\] {re.escape(text)}$", self.log(), re.MULTILINE)
        return [(int(pid), level) for pid, level in found]

    def wait(self, patience=None):
        """Waits for the end; returns the exit status. Nothing that the server started may be left behind."""
        try:
            output, _ = self.process.communicate(timeout=patience or self.program.patience)
        except subprocess.TimeoutExpired:
            raise Failure("the server, or a process of its, did not end") from None
        self.stdout += output
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, 0)
            # What has ended is init's to reap, in its own time: LeakSanitizer's helper, if who is killed was looking for leaks.
            expect(alive_in_group(self.pid), [], "processes that the server left behind")
        self._is_gone()
        status = self.process.returncode
        for found in SANITIZER_REPORT.findall(self.log()):
            if not (status == 1 and "thread leak" in found):    # who is cut off can't wait for its threads
                raise Failure(f"a sanitizer reported: {found}")
        for found in LOSS.findall(self.log()):
            if status == 0 and not self.may_lose_workers:
                raise Failure(f"a worker was lost: {found}")
        return status

    def stop(self, number=signal.SIGTERM):
        self.send_signal(number)
        return self.wait()

    def kill(self):
        """Ends the process and all that it started at once, unless they have ended already."""
        if not self.gone:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()
        self._is_gone()

    def _is_gone(self):
        self.gone = True
        RUNNING.discard(self)


@dataclass(frozen=True)
class Finished:
    """A run of the program that came to its end by itself."""
    status: int
    stdout: str
    stderr: str


class Program:
    """One check's server program: starts it, keeps what the check opens, and puts everything away at the end."""

    def __init__(self, stage, path_of=None, foreign=None, patience=PATIENCE):
        self.stage, self.path_of, self.foreign, self.patience = stage, path_of, foreign, patience
        self.directory = Path(tempfile.mkdtemp(prefix=f"{stage.name}-"))
        self.where = None if foreign else self.directory    # theirs is named relative to where we were started
        # What was freed a sanitizer keeps aside for a while: not so much of it that nothing could be said about memory.
        self.environment = dict(os.environ, UBSAN_OPTIONS="print_stacktrace=1", ASAN_OPTIONS="quarantine_size_mb=16")
        self.servers, self.clients, self.notes = [], [], deque(maxlen=30)

    def start(self, *options, stage=None, port=0, db="tasks.db", under=()):
        """Starts a server and waits until it is ready. Files go into this check's own directory; db=None: no --db."""
        if self.foreign:
            port = free_port()
            command = self.foreign.replace("{port}", str(port)).replace("{db}", str(self.directory / db))
            return Server(self, self.stage, ["sh", "-c", command], port)
        stage = stage or self.stage
        files = ["--db", db] if db else []
        return Server(self, stage, [*under, self.path_of(stage), *stage.options, "--port", str(port), *files, *options])

    def run(self, *options, stage=None):
        """Runs the program with these options and no more than its technique's, for those that make it end by itself."""
        stage = stage or self.stage
        process = subprocess.Popen([self.path_of(stage), *stage.options, *options], cwd=self.where, text=True,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   start_new_session=True)
        try:
            stdout, stderr = process.communicate(timeout=self.patience)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise Failure(f"{' '.join(options)}: did not end by itself") from None
        self.notes.append(f"{' '.join(options)}: status {process.returncode}, {stdout!r}, {stderr!r}")
        return Finished(process.returncode, stdout, stderr)

    def is_built_with(self, *sanitizers):
        """Whether the program has one of these names in it, as b"__tsan_init"."""
        return any(name in Path(self.path_of(self.stage)).read_bytes() for name in sanitizers)

    def shell(self, command):
        """Runs a command in the check's own directory; returns its status."""
        return subprocess.run(["sh", "-c", command], cwd=self.directory, check=False, timeout=self.patience).returncode

    def stop_all(self):
        """Ends what still runs as its users do, and sees to it that each went in peace with its one line said."""
        for client in self.clients:
            client.close()
        for server in self.servers:
            if server.process.returncode is None and not self.foreign:
                expect(server.stop(), 0, "the exit status at the end of the check")
                expect(server.stdout.count(b"\n"), 1, f"lines on standard output, which has {server.stdout!r}")

    def clean_up(self):
        """Whatever has happened: nothing stays, no process, no file."""
        for client in self.clients:
            client.close()
        for server in self.servers:
            server.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


# ---- Checks -------------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Fault:
    """What is done to a server, and what the check of it sees: a row of the README's table, which `run.py --faults` prints."""
    what: str       # as in "a reset in the middle of a sleep"
    concerned: str  # what the client concerned sees
    others: str     # what the others see meanwhile


@dataclass(frozen=True)
class Check:
    """One promise: a function that is given a running server, or the program that it starts itself."""
    part: str
    function: object
    options: tuple
    starts_itself: bool
    ours: bool          # makes sense for our six programs only: needs their options, their ready line, their process
    only: object        # for which stages
    alone: bool         # nothing else may run meanwhile
    computes: bool      # keeps a processor busy for a second or so
    row: bool           # one of the few for a quick look
    fault: object       # a Fault, if it is about one

    @property
    def name(self):
        return f"{self.part}: {self.function.__name__.replace('_', ' ')}"

    def run(self, program):
        """None if the promise is kept, else the report."""
        try:
            self.function(program if self.starts_itself else program.start(*self.options))
            program.stop_all()
        except NotRun:
            raise
        except Exception as failure:
            return report(failure, program)
        finally:
            program.clean_up()


def report(failure, program):
    """What was expected, what came, what was said before it, and the last words of the server."""
    what = str(failure) if isinstance(failure, Failure) else f"{type(failure).__name__}: {failure}"
    trace = failure.__traceback__
    places = []
    while trace:
        places.append(f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}")
        trace = trace.tb_next
    lines = [what, "at " + " > ".join(places[1:]), *program.notes]
    for server in program.servers:
        ended = server.process.poll()
        lines += [f"log of {server.pid}{'' if ended is None else f', which ended with status {ended}'}:",
                  *server.log().splitlines()[-20:]]
    return "\n".join(lines)


CHECKS = []


def check(part, *options, ours=False, only=lambda stage: True, starts_itself=False, alone=False, computes=False,
          row=False, fault=None):
    """Makes the function a check of this part of the contract, given a server that runs with these options."""
    def add(function):
        CHECKS.append(Check(part, function, options, starts_itself, ours or starts_itself or bool(options), only, alone,
                            computes, row, fault))
        return function
    return add


def check_program(part, **options):
    """As check, for a function that starts the program itself."""
    return check(part, starts_itself=True, **options)
