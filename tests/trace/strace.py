"""Reads what strace has written: lines of text go in, system calls come out.

A line is `thread moment call`, such as

    4242 1795360112.246782 recvfrom(4<TCP:[127.0.0.1:9999->127.0.0.1:39322]>, "fib 1\\n", 1024, 0, NULL, NULL) = 6 <0.000073>

If strace reports another thread during a call, the call takes two lines: the first ends with `<unfinished ...>`, the second
begins with `<... recvfrom resumed>`. The lines are in the order in which strace saw things happen. That order is kept,
because it is more reliable than any clock. All times are integers, in microseconds.
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

# The calls that matter. The others cost nothing: with --seccomp-bpf the kernel doesn't stop for them.
TRACED = (
    *ACCEPTS, "listen", "connect", "shutdown", "close", *DUPS,      # a connection's life
    *READS, *WRITES,                                                # bytes come and go
    *POLLS,                                                         # waits for any of several descriptors
    *SLEEPS, *OTHERS, "restart_syscall",                            # waits for something else, also after an interruption
    *FORKS, "execve", "prctl", "exit", "exit_group",                # processes and threads, and their names
)
# With a question mark, because no machine has all of them.
OPTIONS = ("-f", "--seccomp-bpf", "-ttt", "-T", "-yy", "-s", "64", "-e", "trace=" + ",".join("?" + name for name in TRACED))

LEAST = 1000        # a wait or a computation takes at least as long; what is shorter is mostly strace's own cost
BLOCKED = 500_000   # a call that gets EAGAIN after that long has waited until a time-out: asking takes much less, even on
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
    result: str         # "" if its end was not seen
    begin: int
    end: int
    first: int          # the line with its begin,
    last: int           # and that with its end
    times: int = 1      # how often in a row, if each got EAGAIN

    @property
    def number(self):
        """The result as a number, or None if it is none."""
        match = re.match(r"-?\d+", self.result)
        return int(match[0]) if match else None

    @property
    def not_yet(self):
        """Whether it asked, once or several times in a row, and got EAGAIN."""
        at_once = self.times > 1 or self.end - self.begin < BLOCKED
        return at_once and self.result.startswith("-1 EAGAIN") and self.name in ACCEPTS + READS + WRITES


def call_in(text, thread, begin, now, first, last):
    """The call that the text describes, or None if it can't be read."""
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
    """Yields the calls in the order in which they end. Skips what can't be read, such as a last line that is cut off."""
    unfinished = {}     # by thread: the text so far, its moment, its line
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
            # A thread that executes a program goes on under its process's number. Its own number ends.
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
    """A call whose end was not seen."""
    name, _, arguments = text.partition("(")
    return Call(thread, name, arguments, "", begin, now, first, last)


def folded(stream):
    """The calls, but those of a thread that get EAGAIN in a row are one. A server that never rests makes ten thousand of
    them a second."""
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
