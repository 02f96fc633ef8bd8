"""The lesson: who waits for whom, told by the order of replies and by ratios; who rests; and how large a crowd may be."""
import resource
import time
from pathlib import Path

from harness import Failure, check, check_program, children, everybody_sleeps, expect, processor_ticks, wait_for, wakeups
from suite_limits import serves_several


@check("lesson", row=True)
def two_who_sleep_at_once_take_twice_as_long_only_where_one_is_served_at_a_time(server):
    def seconds(number):
        start = time.monotonic()
        clients = [server.connect() for _ in range(number)]
        for client in clients:
            client.send("sleep 1\nquit\n")
        for client in clients:
            expect(client.rest(), b"slept: 1\nbye:\n")
            client.close()
        return time.monotonic() - start

    # The better of two tries, since the machine may have other things to do.
    alone, both = min(seconds(1), seconds(1)), min(seconds(2), seconds(2))
    expect(both / alone > 1.5, server.stage.one_at_a_time, f"one takes {alone:.2f} s, two {both:.2f} s: one after the other")


@check("lesson")
def a_short_sleep_waits_for_anothers_long_one_only_where_one_is_served_at_a_time(server):
    long, short_one = server.connect(), server.connect()
    long.send("sleep 4\nquit\n")
    long.wait_until_read()
    short_one.send("sleep 0.1\nquit\n")
    expect(short_one.rest(), b"slept: 0.1\nbye:\n")
    expect(long.has_reply(), server.stage.one_at_a_time, "the long sleep is over before the short one")
    expect(long.rest(), b"slept: 4\nbye:\n")


@check("lesson", ours=True, computes=True)
def fib_1_waits_for_anothers_fib_45_only_where_one_thread_computes(server):
    long, short_one = server.connect(), server.connect()
    long.send("fib 45\nquit\n")
    long.wait_until_read()
    asked = time.monotonic()
    short_one.send("fib 1\nquit\n")
    expect(short_one.rest(), b"fib: 1\nbye:\n")
    answered, long_is_over = time.monotonic(), long.has_reply()
    expect(long.rest(), b"fib: 1134903170\nbye:\n")
    # A loop may send both replies in one round, in either order: then fib 1 has waited, and fib 45 is over at once.
    waited, remained = answered - asked, time.monotonic() - answered
    expect(long_is_over or waited > remained, server.stage.fib_holds_others,
           f"fib 1 waited for {waited:.3f} s, then fib 45 took {remained:.3f} s more: fib 1 waited for fib 45")


@check("lesson")
def a_silent_client_holds_the_next_only_where_one_is_served_at_a_time(server):
    silent, next_one = server.connect(), server.connect()
    expect(silent.ask("6"), "fib: 8")
    next_one.send("10\nquit\n")
    if server.stage.one_at_a_time:
        for _ in range(20):
            expect(silent.ask("6"), "fib: 8")
        expect(next_one.has_reply(), False, "the next one is answered")
        silent.close()
    expect(next_one.rest(), b"fib: 55\nbye:\n")


@check("idle", ours=True, only=lambda stage: stage.rests)
def uses_no_processor_time_while_nobody_asks(server):
    clients = [server.connect() for _ in range(10)]
    for client in clients if serves_several(server.stage) else clients[:1]:
        expect(client.ask("6"), "fib: 8")
    family = [server.pid, *children(server.pid)]

    def used():
        """The processor time of the server and its children, and how often they woke."""
        return sum(map(processor_ticks, family)), sum(map(wakeups, family))

    wait_for(lambda: all(map(everybody_sleeps, family)), "every thread of the server slept")
    before = used()
    time.sleep(1.5)     # the time over which nothing is to happen
    after = used()
    if b"__tsan_init" in Path(f"/proc/{server.pid}/exe").read_bytes():
        before, after = before[:1], after[:1]       # ThreadSanitizer has a thread of its own that wakes
    expect(after, before, "processor time in ticks, and wake-ups")


@check_program("crowd", only=lambda stage: stage.crowd, alone=True)
def ten_thousand_stay_connected_and_are_all_answered(program):
    sanitized = any(name in Path(program.path_of(program.stage)).read_bytes() for name in (b"__asan_init", b"__tsan_init"))
    crowd = 2_000 if sanitized else program.stage.crowd
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < crowd + 500:
        raise Failure(f"a crowd of {crowd} cannot be tried here: the hard limit on open files is {hard}")
    # The server starts with the soft limit that most shells have, and must raise it by itself.
    server = program.start(under=["sh", "-c", 'ulimit -Sn 1024; exec "$@"', "sh"])
    clients = [server.connect() for _ in range(crowd)]
    program.notes.clear()
    for question, answer in (b"6\n", b"fib: 8\n"), (b"10\n", b"fib: 55\n"):
        for client in clients:
            client.socket.sendall(question)
        for number, client in enumerate(clients):
            came = client.socket.recv(100)
            expect(came, answer, f"the answer to client {number} of {crowd}")
