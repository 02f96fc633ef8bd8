"""The naive servers: what they have in common, how each of them breaks, and what its other clients see of it."""
import contextlib
import functools
import os
import re
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from harness.checks import Gone, check_program, expect, expect_in_three_tries, expect_match, wait_for
from harness.naive import ROOT, compiled, start_copy
from harness.system import children, endpoint, everybody_sleeps, go_on, processor_ticks, stand_still, stat_fields, wakeups


@dataclass(frozen=True)
class Naive:
    """What a naive server's other clients must expect. The defaults describe threads."""
    most_lines: int
    wait_for_silence: bool = False      # they wait for a client that asks nothing,
    wait_for_fib: bool = False          # for a client whose fib is large,
    wait_for_deaf: bool = False         # and for a client that asks and never reads
    end_with_abc: bool = True           # a request that is no number ends the server,
    end_with_reset: bool = True         # and so does a client that leaves before its answers
    rests: bool = True


NAIVE = {
    "stage1_sync/naive": Naive(40, wait_for_silence=True, wait_for_fib=True, wait_for_deaf=True),
    "stage2_fork/naive": Naive(40, end_with_abc=False, end_with_reset=False),
    "stage3_threads/naive": Naive(40),
    "stage4_nonblocking/naive": Naive(40, wait_for_fib=True, rests=False),
    "stage5_epoll/naive": Naive(45, wait_for_fib=True, wait_for_deaf=True),
    "stage6_coroutines/naive": Naive(100, wait_for_deaf=True),
    "stage6_coroutines/naive_uring": Naive(85, wait_for_fib=True, end_with_reset=False),
}


def check_source(of=tuple(NAIVE)):
    """Makes the function a check of each of these naive servers. It gets a program to start, and the name of the source."""
    def add(function):
        for source in of:
            stage_name, part = source.split("/")
            play = functools.wraps(function)(functools.partial(function, source=source))
            check_program(part, only=lambda stage, name=stage_name: stage.name == name and not stage.options)(play)
        return function
    return add


def check_naive(function):
    """Makes the function a check of each naive server. It gets the running server, and what to expect of it."""
    @check_source()
    @functools.wraps(function)
    def play(program, source):
        function(start_copy(program, source), NAIVE[source])


# ---- The source ---------------------------------------------------------------------------------------------------------

def the_text(source):
    return (ROOT / f"{source}.cpp").read_text()


@check_source()
def is_one_screen(program, source):
    expect(the_text(source).count("\n") <= NAIVE[source].most_lines, True, f"no more than {NAIVE[source].most_lines} lines")


SAME = {    # patterns, from the first words to the last
    "fib": r"int fib\(.*?\n\n",
    "the listening socket": r"int main\(.*?listen\(listener, 5\);\n",
    "answer": r"bool answer\(.*?\n}\n",
}
MORE = {"stage4_nonblocking/naive": (r" \| SOCK_NONBLOCK", r".*EAGAIN.*\n")}


@check_source()
def repeats_the_common_parts_word_for_word(program, source):
    """Then two of them differ only by their techniques. Stage 6 answers in another way, and stage 4 says a little more."""
    first, text = the_text("stage1_sync/naive"), the_text(source)
    for more in MORE.get(source, ()):
        text = re.sub(more, "", text, count=1)
    for what, words in SAME.items():
        if what != "answer" or not source.startswith("stage6"):
            expect(*[re.search(words, each, re.DOTALL)[0] for each in (text, first)], what)


# ---- What goes well -----------------------------------------------------------------------------------------------------

@check_naive
def answers_numbers_with_numbers(server, _):
    for _ in range(2):
        with server.connect() as client:
            expect([client.ask(n) for n in ("1", "10", "30")], ["1", "55", "832040"])


def asleep(pids):
    """How often the threads of these processes have gone to sleep, if all of them sleep now; else 0."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):    # one has just ended
        return all(map(everybody_sleeps, pids)) and sum(map(wakeups, pids))
    return 0


@check_naive
def rests_while_nobody_asks_unless_it_spins(server, naive):
    client = server.connect()
    expect(client.ask("10"), "55")

    def used_meanwhile():
        woken, used = wait_for(lambda: asleep([server.pid]), "the server slept"), processor_ticks(server.pid)
        time.sleep(0.5)     # nothing may happen meanwhile
        return wakeups(server.pid) - woken, processor_ticks(server.pid) - used

    if naive.rests:
        expect_in_three_tries(used_meanwhile, (0, 0), "wake-ups, and processor time in ticks")
    else:
        client.close()
        used = processor_ticks(server.pid)
        wait_for(lambda: processor_ticks(server.pid) > used + 30, "it had used 30 ticks, with no client at all")


@check_naive
def goes_on_after_ctrl_z_and_fg(server, naive):
    """They interrupt epoll_wait(2), which then returns no event. Its caller must not take the last ones for new."""
    client = server.connect()
    expect(client.ask("10"), "55")
    pids = server.pids()
    stand_still(pids)
    go_on(pids)
    if naive.rests:
        wait_for(lambda: asleep(pids), "the server slept")
    expect(must_wait(server.connect()), naive.wait_for_silence, "whether another must wait")
    if not naive.wait_for_silence:
        expect(client.ask("10"), "55")


# ---- Who waits for whom -------------------------------------------------------------------------------------------------

def leaves_unread(server, client):
    """Whether all the server's threads wait for something else, though this client has sent something."""
    def look():
        pids = server.pids()    # stage 2 may have one more by now
        return pids, asleep(pids)

    before, end = look(), endpoint(server.address, client.getsockname())
    return before[1] and end and end.unread > 0 and look() == before


def is_left_alone(client):
    """Whether what this client has sent stays unread, so that there is no answer."""
    wait_for(lambda: client.has_reply() or leaves_unread(client.server, client.socket), "it was answered, or left alone")
    return not client.has_reply()


def must_wait(client):
    """Whether a client that asks now is not answered at once."""
    client.send("10\n")
    return is_left_alone(client)


@check_naive
def a_silent_client_holds_up_others_only_in_stage_1(server, naive):
    with server.connect() as silent, server.connect() as other:
        expect(silent.ask("10"), "55")
        expect(must_wait(other), naive.wait_for_silence, "whether the other must wait")
        silent.close()
        expect(other.line(), "55")


@check_naive
def a_long_fib_holds_up_others_where_one_thread_computes(server, naive):
    with server.connect() as long, server.connect() as other:
        long.send("43\n" if naive.wait_for_fib else "46\n")     # 46 leaves a margin, where the other is to be first
        long.wait_until_read()
        long.half_close()
        other.send("10\n")
        expect(other.line(), "55")
        expect(long.has_reply(), naive.wait_for_fib, "the long one is answered first")


class Deaf:
    """A client that asks and does not read. Its segments and buffer are small, so the kernel keeps few answers for it."""

    def __init__(self, server):
        self.server, self.socket, self.asked = server, socket.socket(), 0
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1400)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        self.socket.connect(server.address)
        self.socket.setblocking(False)
        server.program.clients.append(self.socket)

    def ask(self):
        """Sends as much as there is room for, up to 10 MB. Whatever part of so many zeros recv(2) returns is a number."""
        with contextlib.suppress(BlockingIOError):
            while self.asked < 10_000_000:
                self.asked += self.socket.send(b"0" * 10_000)

    def is_stuck(self):
        """Whether the server takes no more, for good: its kernel sends no answers, and probes for room (timer 4 in
        proc_net_tcp)."""
        self.ask()
        probes = rf":{self.server.port:04X} \w+:{self.socket.getsockname()[1]:04X} 01 \w+:\w+ 04:"
        return re.search(probes, Path("/proc/net/tcp").read_text()) and leaves_unread(self.server, self.socket)

    def has_asked_all(self):
        self.ask()
        return self.asked >= 10_000_000


@check_naive
def a_client_that_never_reads_blocks_a_lone_thread_in_send(server, naive):
    deaf = Deaf(server)
    if naive.rests:
        wait_for(deaf.is_stuck, "the server took no more")
    else:
        wait_for(deaf.has_asked_all, "the server took whatever came")
    expect(must_wait(server.connect()), naive.wait_for_deaf, "whether the other must wait")


# ---- What ends it -------------------------------------------------------------------------------------------------------

def expect_ended(server, number, client):
    """The signal has ended the server, and with it this client's connection."""
    with contextlib.suppress(Gone):
        client.rest()
    expect(server.process.wait(server.program.patience), -number, "the status of the server")


@check_naive
def a_request_that_is_no_number_ends_its_process(server, naive):
    with server.connect() as wrong, server.connect() as other:
        if not naive.wait_for_silence:
            expect(other.ask("10"), "55")
        wrong.send("abc\n")
        expect(wrong.rest(), b"")
        if naive.end_with_abc:
            return expect_ended(server, signal.SIGABRT, other)
        expect((other.ask("10"), server.ask("10")), ("55", "55"))


@check_naive
def a_client_that_leaves_early_ends_its_process(server, naive):
    """The first answer meets a reset, and the second raises SIGPIPE."""
    stand_still([server.pid])
    leaving = server.connect()
    leaving.send("1\n".ljust(100) + "1\n")     # recv(2) takes a hundred bytes
    wait_for(lambda: getattr(leaving.other_end(), "unread", 0) == 102, "both requests arrived")
    leaving.reset()
    wait_for(lambda: not leaving.other_end(), "the reset arrived")
    other = server.connect()
    other.send("10\n")
    go_on([server.pid])
    if naive.end_with_reset:
        return expect_ended(server, signal.SIGPIPE, other)
    expect((other.line(), server.ask("10")), ("55", "55"))


@check_naive
def two_requests_in_one_segment_are_one(server, _):
    with server.connect() as client:
        client.send("10\n20\n")
        client.half_close()
        expect(client.rest(), b"55\n")


# ---- Of one stage alone -------------------------------------------------------------------------------------------------

@check_source(["stage2_fork/naive"])
def without_one_line_each_client_leaves_a_zombie(program, source):
    def states(server):
        return [stat_fields(pid)[0] for pid in children(server.pid)]

    with_it, without = start_copy(program, source), start_copy(program, source, ("signal(SIGCHLD, SIG_IGN);", ""))
    for _ in range(3):
        expect((with_it.ask("10"), without.ask("10")), ("55", "55"))
    wait_for(lambda: not children(with_it.pid), "the children were gone")
    wait_for(lambda: states(without) == ["Z"] * 4, "three clients' children, and that of a test connection, were zombies")


@check_source(["stage5_epoll/naive"])
def an_edge_is_reported_once_and_a_level_until_all_is_read(program, source):
    small = "char request[100];", "char request[3];"
    for edge, events in (False, "EPOLLIN"), (True, "EPOLLIN | EPOLLET"):
        server = start_copy(program, source, small, ("event = {.events = EPOLLIN,", f"event = {{.events = {events},"))
        with server.connect() as client:
            client.send("30\n20\n")
            expect(client.line(), "832040")
            expect(is_left_alone(client), edge, "whether the second request is left alone")
            if not edge:
                expect(client.line(), "6765")
        expect(server.ask("10"), "55")


@check_source(["stage6_coroutines/naive"])
def each_fib_gets_a_thread_that_outlives_its_client(program, source):
    server = start_copy(program, source)

    def threads():
        return len(os.listdir(f"/proc/{server.pid}/task"))

    asking = [server.connect() for _ in range(3)]
    for client in asking:
        client.send("46\n")
    wait_for(lambda: threads() == 4, "there was a thread for each of three fibs")
    for client in asking:
        client.reset()
    expect(server.ask("10"), "55")
    wait_for(lambda: threads() == 4, "those three threads were still there, without their clients")


@check_source(["stage6_coroutines/naive_uring"])
def says_in_one_line_that_there_is_no_io_uring(program, source):
    """Even where there is one, a process without free descriptors cannot have it."""
    done = subprocess.run(["sh", "-c", 'ulimit -n 4; PORT=0 exec "$0"', compiled(source)], check=False, capture_output=True,
                          text=True, timeout=program.patience)
    expect((done.returncode, done.stdout), (1, ""), "its status, and its output")
    expect_match(done.stderr, r"io_uring: .+\n")
