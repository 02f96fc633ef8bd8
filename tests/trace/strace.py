"""What strace has written, read: lines of text go in, system calls come out.

A line is `thread moment call`, such as

    4242 1795360112.246782 recvfrom(4<TCP:[127.0.0.1:9999->127.0.0.1:39322]>, "fib 1\\n", 1024, 0, NULL, NULL) = 6 <0.000073>

A call during which strace had something to tell of another thread stands in two lines: the first ends with
`<unfinished ...>`, the second begins with `<... recvfrom resumed>`. The lines stand in the order in which strace saw things
happen; that order is kept, since it is surer than any clock. Microseconds everywhere, as integers.
"""
import re
from dataclasses import dataclass

POLLS = "poll", "ppoll", "select", "pselect6", "epoll_wait", "epoll_pwait", "epoll_pwait2"
READS = "read", "readv", "recvfrom", "recvmsg"
WRITES = "write", "writev", "sendto", "sendmsg", "sendfile"
ACCEPTS = "accept", "accept4"
SLEEPS = "nanosleep", "clock_nanosleep", "pause", "rt_sigsuspend", "rt_sigtimedwait"
OTHERS = "futex", "wait4", "waitid"         # waits for another thread, or process
FORKS = "clone", "clone3", "fork", "vfork"
DUPS = "dup", "dup2", "dup3", "fcntl"

# Those that matter. All others cost nothing: with --seccomp-bpf the kernel doesn't stop for them.
TRACED = (
    *ACCEPTS, "listen", "connect", "shutdown", "close", *DUPS,      # a connection's life
    *READS, *WRITES,                                                # bytes come and go
    *POLLS,                                                         # waits for any of several
    *SLEEPS, *OTHERS, "restart_syscall",                            # waits for something else, also after an interruption
    *FORKS, "execve", "prctl", "exit", "exit_group",                # who there is, and how he is called
)
# A question mark, since no machine has all of them.
OPTIONS = ("-f", "--seccomp-bpf", "-ttt", "-T", "-yy", "-s", "64", "-e", "trace=" + ",".join("?" + name for name in TRACED))

LEAST = 1000        # a wait or a computation takes as long as this; what is shorter is mostly the price of being watched
BLOCKED = 500_000   # what was answered "not yet" after that long has waited until a time-out: to ask takes much less even on
                    # a busy machine

LINE = re.compile(r"(\d+) +(\d+)\.(\d{6}) (.*)\n", re.DOTALL)
CALL = re.compile(r"(\w+)\((.*)\)\s+= (.*?)(?: <(\d+)\.(\d{6})>)?", re.DOTALL)
RESUMED = re.compile(r"<\.\.\. \w+ resumed>(.*)", re.DOTALL)
UNFINISHED = " <unfinished ...>"
SUPERSEDED = re.compile(r"\+\+\+ superseded by execve in pid (\d+) \+\+\+")
RESTARTED = re.compile(r"<\.\.\. resuming interrupted (?:system call|(\w+)) \.\.\.>")


@dataclass
class Call:
    """A system call; or a signal, whose name is in capitals; or the end of a thread, whose name is "exited"."""
    thread: int
    name: str
    arguments: str
    result: str         # "" where nobody saw the end
    begin: int
    end: int
    first: int          # the line with its begin,
    last: int           # and that with its end
    times: int = 1      # so often in a row, the answer being "not yet"

    @property
    def number(self):
        """The result as a number; None where there is none."""
        match = re.match(r"-?\d+", self.result)
        return int(match[0]) if match else None

    @property
    def not_yet(self):
        """Whether it was a question, or several in a row, to which that was the answer."""
        at_once = self.times > 1 or self.end - self.begin < BLOCKED
        return at_once and self.result.startswith("-1 EAGAIN") and self.name in ACCEPTS + READS + WRITES


def call_in(text, thread, begin, now, first, last):
    """The call that the text tells of, or None where it can't be read."""
    match = CALL.fullmatch(text)
    if not match:
        return None
    name, arguments, result, seconds, micros = match.groups()
    if name == "restart_syscall":
        interrupted = RESTARTED.fullmatch(arguments)
        name = interrupted and interrupted[1] or name
    end = begin + int(seconds) * 1_000_000 + int(micros) if seconds else now
    return Call(thread, name, arguments, result, begin, end, first, last)


def calls(lines):
    """Yields the calls in the order in which they end. What can't be read, such as a last line that is cut off, is left out."""
    unfinished = {}     # of each thread: the text so far, its moment, its line
    now = last = 0
    for last, line in enumerate(lines):
        match = LINE.fullmatch(line)
        if not match:
            continue
        thread, now, text = int(match[1]), int(match[2] + match[3]), match[4]
        resumed = RESUMED.fullmatch(text)
        if text.startswith("--- SIG"):
            yield Call(thread, text.split()[1], text, "", now, now, last, last)
            continue
        if text.startswith("+++ "):
            # A thread that executes a program goes on under its process's number; it is its own that ends.
            superseded = SUPERSEDED.fullmatch(text)
            ended = int(superseded[1]) if superseded else thread
            begun = {one: unfinished.pop(one) for one in (thread, ended) if one in unfinished}
            for one, call in begun.items():
                yield cut_off(one, *call, now, last)
            if superseded and ended in begun:
                unfinished[thread] = begun[ended]
            yield Call(ended, "exited", text, "", now, now, last, last)
            continue
        begin, first = now, last
        if resumed:
            if thread not in unfinished:
                continue
            begun, begin, first = unfinished.pop(thread)
            text = begun + resumed[1]
        if text.endswith(UNFINISHED):
            unfinished[thread] = text[:-len(UNFINISHED)], begin, first
            continue
        call = call_in(text, thread, begin, now, first, last)
        if call:
            yield call
    for thread, begun in unfinished.items():
        yield cut_off(thread, *begun, now, last + 1)


def cut_off(thread, text, begin, first, now, last):
    """A call whose end nobody saw."""
    name, _, arguments = text.partition("(")
    return Call(thread, name, arguments, "", begin, now, first, last)


def folded(stream):
    """The same, but the questions that a thread asks in a row and that are all answered "not yet" are one. A server that never
    rests asks ten thousand of them a second."""
    rows = {}
    for call in stream:
        row = rows.get(call.thread)
        if row and call.not_yet and call.begin - row.end < LEAST:
            row.end, row.last, row.times = call.end, call.last, row.times + 1
            continue
        if row:
            yield rows.pop(call.thread)
        if call.not_yet:
            rows[call.thread] = call
        else:
            yield call
    yield from rows.values()


def read(path):
    """All calls in a file that strace has written."""
    with open(path, encoding="utf-8", errors="replace", newline="\n") as lines:
        return list(folded(calls(lines)))
