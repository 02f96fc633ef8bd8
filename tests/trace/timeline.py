"""What a server did, as far as the system calls that strace saw tell: who waited for whom.

Each thread has a lane, and in it slices: the calls, and the stretches between two calls. A call that took LEAST or longer
*waits*, and a stretch that long *computes*. System calls can't tell whether the thread then ran, or was ready but had no
free processor. strace makes each call slower, by some ten microseconds or more, so the lanes show orders and proportions,
not speeds. Each connection is followed from accept to its last close, through all processes that inherit it.
"""
import re
from dataclasses import dataclass, field
from pathlib import PurePath

from strace import ACCEPTS, DUPS, FORKS, LEAST, OTHERS, POLLS, READS, SLEEPS, WRITES

CLIENTS, SLEEPING, OTHER, COMPUTING, ASKING, SHORT, SIGNAL = "clients", "sleeps", "others", "computes", "asks", "call", "signal"
WAITS = {**dict.fromkeys(ACCEPTS + READS + WRITES + POLLS + ("connect",), CLIENTS), **dict.fromkeys(SLEEPS, SLEEPING),
         **dict.fromkeys(OTHERS, OTHER)}
ON_DESCRIPTORS = (*READS, *WRITES, *DUPS, "close", "shutdown")
AT_ONCE = (*FORKS, "close")         # take effect before strace sees their end

DESCRIPTOR = re.compile(r"(\d+)(?:<[\w-]+:\[[^>]*->([^>]*)\]>)?")      # 5<TCP:[127.0.0.1:9999->127.0.0.1:4444]>
SENDER = re.compile(r'port=htons\((\d+)\).*?"([^"]+)"')
FIRST_LINE = re.compile(r'"((?:[^"\\]|\\[^rn])+)')


@dataclass
class Slice:
    begin: int
    end: int
    kind: str           # one of the above
    name: str
    about: object = None    # the Connection that it is about
    call: object = None     # None for a computation


@dataclass
class Thread:
    number: int
    process: object
    name: str
    end: int                    # of its lane, so far
    slices: list = field(default_factory=list)
    serves: object = None       # the Connection that it last read from, until it waits for any of several


@dataclass
class Process:
    number: int
    parent: object
    name: str
    open: dict = field(default_factory=dict)        # which descriptors are Connections
    threads: list = field(default_factory=list)
    alive: set = field(default_factory=set)         # the numbers of the threads that have not ended


@dataclass
class Request:
    """What one of our clients asked, on its own connection."""
    text: str
    port: int           # the client's
    begin: int          # when it asked for the connection
    answer: bytes = b""

    @property
    def first_line(self):
        """The first line of the answer, or of its body if it is HTTP."""
        lines = self.answer.split(b"\r\n\r\n", 1)[-1].split(b"\n")
        return lines[0].decode(errors="replace").strip()[:70]


@dataclass
class Connection:
    """One client's connection; `opened` and `closed` are the calls that did it, or None."""
    peer: str
    process: Process    # that accepted it, under this number:
    descriptor: int
    opened: object
    begin: int
    request: object     # a Request, if the client is ours
    end: int = None
    closed: object = None
    inherited: bool = True                          # by programs that a process executes
    holders: set = field(default_factory=set)       # pairs of a process's number and a descriptor
    moments: list = field(default_factory=list)     # pairs of a thread, and its call that read or wrote something
    number: int = 0

    @property
    def name(self):
        return f"client {self.number}"

    @property
    def text(self):
        """What the client asked first."""
        if self.request:
            return self.request.text
        line = FIRST_LINE.search(self.moments[0][1].arguments) if self.moments else None
        return line[1].partition(" HTTP/")[0] if line else ""

    def phases(self):
        """What its client waited for: triples of words and two moments. It is not known when a client that is not ours sent
        its request, so it waits from the moment when that is read."""
        answers = []
        for _, call in self.moments:
            if call.name in READS and (not answers or answers[-1][1]):
                answers.append([call.end, None])
            elif call.name in WRITES and answers:
                answers[-1][1] = call.end
        found = [("is answered", read, min(written or self.end, self.end)) for read, written in answers]
        if self.request:
            found.insert(0, ("not read yet", self.request.begin, answers[0][0] if answers else self.end))
        return found


def moment_of_effect(call):
    """The line of strace at which the call takes effect for other threads."""
    return call.first if call.name in AT_ONCE else call.last


class Timeline:
    def __init__(self, calls, requests=()):
        self.threads = {}       # the last thread with each number: the kernel uses them again
        self.processes, self.connections = [], []
        self.begin = min((call.begin for call in calls), default=0)
        self.end = max((call.end for call in calls), default=0)
        self._requests = {request.port: request for request in requests}
        effects = {**dict.fromkeys(ACCEPTS, self._accept), **dict.fromkeys(READS + WRITES, self._transfer),
                   **dict.fromkeys(DUPS, self._dup), **dict.fromkeys(FORKS, self._fork), "close": self._close,
                   "execve": self._execute, "prctl": self._prctl, "exited": self._exited}
        for call in sorted(calls, key=moment_of_effect):
            thread = self.threads.get(call.thread) or self._add_thread(call.thread, Process(call.thread, None, "?"), call.begin)
            about = self._connection(thread, call) if call.name in ON_DESCRIPTORS else None
            self._add_slices(thread, call, about)
            if call.name in effects:
                effects[call.name](thread, call, about)
        self._finish()

    # -- processes and threads

    def _add_thread(self, number, process, begin):
        if not process.threads:
            self.processes.append(process)
        before = self.threads.get(number)       # had this number; the two share a lane where only numbers are known
        name = process.name if number == process.number else f"thread {number}"
        thread = self.threads[number] = Thread(number, process, name, max(begin, before.end) if before else begin)
        process.threads.append(thread)
        process.alive.add(number)
        return thread

    def _fork(self, thread, call, _):
        parent = thread.process
        if not call.number or call.number < 0:
            return
        if "CLONE_THREAD" in call.arguments:
            self._add_thread(call.number, parent, call.begin)
            return
        child = Process(call.number, parent, parent.name)
        self._add_thread(child.number, child, call.begin)
        for descriptor, connection in parent.open.items():
            self._hold(child, descriptor, connection)

    def _execute(self, thread, call, _):
        if call.number != 0:
            return
        process = thread.process
        process.name = thread.name = PurePath(call.arguments.split('"')[1]).name
        for descriptor, connection in list(process.open.items()):
            if not connection.inherited:
                self._let_go(process, descriptor, call)

    def _prctl(self, thread, call, _):
        named = re.match(r'PR_SET_NAME, "([^"]+)"', call.arguments)
        if named:
            thread.name = named[1]

    def _exited(self, thread, call, _):
        process = thread.process
        process.alive.discard(thread.number)
        for descriptor in list(process.open) if not process.alive else ():
            self._let_go(process, descriptor, call)

    # -- connections

    def _accept(self, thread, call, _):
        accepted = DESCRIPTOR.match(call.result)
        if not accepted:
            return
        sender = SENDER.search(call.arguments)
        peer = accepted[2] or (f"{sender[2]}:{sender[1]}" if sender else f"descriptor {accepted[1]}")
        request = self._requests.pop(int(re.search(r"\d*$", peer)[0] or 0), None)
        connection = Connection(peer, thread.process, int(accepted[1]), call, call.end, request)
        connection.inherited = "SOCK_CLOEXEC" not in call.arguments
        self.connections.append(connection)
        self._hold(thread.process, connection.descriptor, connection)

    def _connection(self, thread, call):
        """The connection that the call's first argument names."""
        descriptor = DESCRIPTOR.match(call.arguments)
        if not descriptor:
            return None
        number, peer = int(descriptor[1]), descriptor[2]
        if number not in thread.process.open and peer:
            # It may have come through another socket (SCM_RIGHTS), as Node's cluster hands connections on.
            for connection in self.connections:
                if connection.peer == peer and connection.end is None:
                    self._hold(thread.process, number, connection)
        return thread.process.open.get(number)

    def _hold(self, process, descriptor, connection):
        process.open[descriptor] = connection
        connection.holders.add((process.number, descriptor))

    def _let_go(self, process, descriptor, call):
        connection = process.open.pop(descriptor, None)
        if connection:
            connection.holders.discard((process.number, descriptor))
            if not connection.holders:
                connection.end, connection.closed = call.begin, call

    def _close(self, thread, call, about):
        if about:
            self._let_go(thread.process, int(DESCRIPTOR.match(call.arguments)[1]), call)

    def _dup(self, thread, call, about):
        if call.name == "fcntl" and "F_DUPFD" not in call.arguments or call.number is None or call.number < 0:
            return
        if thread.process.open.get(call.number) is not about:
            self._let_go(thread.process, call.number, call)
        if about:
            self._hold(thread.process, call.number, about)

    def _transfer(self, thread, call, about):
        if about and call.number and call.number > 0:
            about.moments.append((thread, call))

    # -- lanes

    def _add_slices(self, thread, call, about):
        begin, end = max(call.begin, thread.end), max(call.end, thread.end)     # a clock may be set back
        ending = bool(thread.slices) and thread.slices[-1].name in ("exit", "exit_group")
        if begin - thread.end >= LEAST and not ending:
            thread.slices.append(Slice(thread.end, begin, COMPUTING, "computes", thread.serves))
        thread.end = end
        if call.name == "exited":
            return
        if call.name.isupper():
            kind = SIGNAL
        elif call.not_yet:
            kind = ASKING
        else:
            kind = WAITS.get(call.name, SHORT) if end - begin >= LEAST else SHORT
            about = thread.serves if kind == SLEEPING else about
        thread.slices.append(Slice(begin, end, kind, call.name, about, call))
        if call.name in POLLS + ACCEPTS or call.name == "close" and about is thread.serves:
            thread.serves = None
        elif call.name in READS and about and call.number:
            thread.serves = about

    def _finish(self):
        """Adds requests that were never accepted, ends what was never closed, and numbers the connections in the order of
        asking, our clients' first."""
        root = self.processes[0] if self.processes else None
        self.connections += [Connection(f"port {request.port}", root, -1, None, self.end, request)
                             for request in self._requests.values()]
        for connection in self.connections:
            connection.end = connection.end or self.end
        self.connections.sort(key=lambda one: (0, one.request.begin) if one.request else (1, one.begin))
        for number, connection in enumerate(self.connections, 1):
            connection.number = number
