"""The lesson: who waits for whom, seen by the order of replies and by ratios; who rests; how many clients a server keeps."""
import math
import os
import resource
import time

from harness.checks import Failure, check, check_program, expect, expect_in_three_tries, wait_for
from harness.clients import expect_fib_waits, expect_said_goodbye, wait_until_served_or_queued
from harness.stages import serves_several
from harness.system import everybody_sleeps, processor_ticks, wakeups


def sleepers(server, number, seconds):
    """So many clients that sleep at the same time, for so long, and quit."""
    clients = [server.connect() for _ in range(number)]
    for client in clients:
        client.send(f"sleep {seconds}\nquit\n")
    return clients


@check("lesson", row=True)
def sleepers_take_as_many_rounds_as_the_servers_need(server):
    """W sleeps of a second take ceil(W / N) seconds at N servers, and one second where nobody waits for anybody."""
    def seconds(number):
        start = time.monotonic()
        expect_said_goodbye(sleepers(server, number, 1), b"slept: 1\nbye:\n")
        return time.monotonic() - start

    def expect_rounds(number, fewest, most):
        for tries_left in 1, 0:     # the machine may have other things to do
            alone, all_of_them = seconds(1), seconds(number)
            kept = fewest - 0.5 < all_of_them / alone < most + 0.5
            if kept or not tries_left:
                return expect(kept, True, f"one takes {alone:.2f} s, {number} take {fewest} to {most} times as long, "
                                          f"{all_of_them:.2f} s")

    servers, surely = server.stage.servers, server.stage.at_once(8)
    for number in (servers, servers + 1) if servers else (8,):
        expect_rounds(number, math.ceil(number / (servers or number)), math.ceil(number / surely))


@check("lesson")
def a_short_sleep_waits_only_while_all_servers_sleep(server):
    def expect_waits(number, waits):
        long = sleepers(server, number, 3)
        wait_until_served_or_queued(long)
        short_one, = sleepers(server, 1, 0.1)
        expect_said_goodbye([short_one], b"slept: 0.1\nbye:\n")
        expect(any(client.has_reply() for client in long), waits, f"the first of {number} is over before the short one")
        expect_said_goodbye(long, b"slept: 3\nbye:\n")

    if server.stage.servers:
        expect_waits(server.stage.occupied_by, True)
    if serves_several(server.stage):
        expect_waits(server.stage.at_once(5) - 1, False)


@check("lesson", ours=True, computes=True)
def fib_1_waits_only_while_all_servers_compute(server):
    def connect(number):
        return [server.connect() for _ in range(number)]

    stage = server.stage
    if stage.fib_holds_others is None:      # it waits only for one on the same worker
        for same_worker in True, False:
            first = server.connect()
            expect(first.ask("6"), "fib: 8")
            expect_fib_waits([first], server.connect_beside(first, same_worker), same_worker)
    elif stage.servers and stage.serves(2):
        expect_fib_waits(connect(stage.at_once(stage.servers) - 1), server.connect(), False)
        expect_fib_waits(connect(stage.occupied_by), server.connect(), True)
    else:
        expect_fib_waits(connect(1), server.connect(), stage.fib_holds_others)


@check("lesson", ours=True)
def a_silent_client_holds_up_the_next_only_if_no_server_is_free(server):
    servers, occupied_by = server.stage.servers or 8, server.stage.occupied_by or 8
    waiting = [server.connect() for _ in range(2 * occupied_by if server.stage.servers else 8)]
    for client in waiting:
        client.send("6\n")

    def answered():
        return [client for client in waiting if client.has_reply()]

    while waiting:
        all_are_busy = len(waiting) >= occupied_by
        number = servers if all_are_busy else 1
        wait_for(lambda: len(answered()) >= number, f"{number} clients were answered")
        served = answered()
        for client in served:
            expect(client.line(), "fib: 8")
            waiting.remove(client)
        for client in served * 5:       # time enough for another one, if a server were free
            expect(client.ask("6"), "fib: 8")
        if all_are_busy:
            expect((len(served), len(answered())), (servers, 0), "clients served at once, and others since")
        for client in served:
            client.close()


@check("idle", ours=True, only=lambda stage: stage.rests)
def uses_no_processor_time_while_nobody_asks(server):
    clients = [server.connect() for _ in range(10)]
    for client in clients[:server.stage.at_once(10)]:
        expect(client.ask("6"), "fib: 8")
    family = server.pids()

    def used():
        """The processor time of the server and its children, in ticks, and how often they woke."""
        return sum(map(processor_ticks, family)), sum(map(wakeups, family))

    def used_meanwhile():
        wait_for(lambda: all(map(everybody_sleeps, family)), "every thread of the server slept")
        before = used()
        time.sleep(1.5)     # nothing should happen meanwhile
        return tuple(later - earlier for earlier, later in zip(before, used()))

    if server.program.is_built_with(b"__tsan_init"):
        # ThreadSanitizer has a thread of its own that wakes. But a server that spins would use most of the time.
        ticks, _ = used_meanwhile()
        expect(ticks < 0.3 * os.sysconf("SC_CLK_TCK"), True, f"it rests: it used {ticks} ticks")
    else:
        # A worker that waits for the disk as it boots sleeps, too, and wakes once more, but not in all three tries.
        expect_in_three_tries(used_meanwhile, (0, 0), "processor time in ticks, and wake-ups")


@check_program("crowd", only=lambda stage: stage.crowd, alone=True)
def many_connections_cost_little_and_leave_nothing_behind(program):
    crowd = program.stage.crowd
    if program.is_built_with(b"__asan_init", b"__tsan_init"):
        crowd = min(crowd, 2_000)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < crowd + 500:
        raise Failure(f"{crowd} clients cannot be tried here: the hard limit on open files is {hard}")
    # The server starts with the soft limit that most shells have, and must raise it by itself.
    server = program.start(under=["sh", "-c", 'ulimit -Sn 1024; exec "$@"', "sh"])
    with server.connect() as client:
        expect(client.ask("6"), "fib: 8")
    server.wait_until_all_have_left()
    held, memory = server.holds(), server.memory()
    clients = [server.connect() for _ in range(crowd)]
    program.notes.clear()
    for question, answer in (b"6\n", b"fib: 8\n"), (b"10\n", b"fib: 55\n"):
        for client in clients:
            client.socket.sendall(question)
        for number, client in enumerate(clients):
            came = client.socket.recv(100)
            expect(came, answer, f"the answer to client {number} of {crowd}")
    more = server.memory() - memory
    for client in clients:
        client.close()
    server.wait_until_it_holds_no_more_than(held)
    if not program.is_built_with(b"__asan_init", b"__tsan_init"):       # which keep what is freed
        expect(more / crowd <= program.stage.bytes_each, True, f"{more / crowd:.0f} bytes for each client")
        wait_for(lambda: server.memory() - memory <= 0.2 * more + 65_536, f"most of {more} bytes was given back")
