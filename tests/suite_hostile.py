"""The adversary: clients who reset, dawdle, don't read or flood, in hundreds or thousands; and signals that nobody wants.

Each check looks at what the others see meanwhile. Where one client holds a server (`Stage.servers`), they are served after
him, or when he is let go. HOSTILE=10 in the environment makes storms and floods ten times as large.
"""
import contextlib
import os
import random
import re
import select
import signal
import socket
import time
from pathlib import Path

from harness import Fault, Failure, check, expect, expect_each, go_on, readable, request, stand_still, together, writable
from suite_limits import expect_survives, send_until_stuck, serves_several
from suite_lines import reach_all_workers
from suite_loops import many_tasks

SIZE = int(os.environ.get("HOSTILE", "1"))
FIBS = {1: 1, 2: 1, 3: 2, 4: 3, 5: 5, 6: 8, 7: 13, 8: 21, 9: 34, 10: 55, 11: 89, 12: 144, 13: 233, 14: 377, 15: 610}


def expect_served(server, times=3):
    """Somebody who comes now, and asks as one should, is answered."""
    for _ in range(times):
        expect(server.ask("6"), "fib: 8", "what an honest client is told")


def expect_like(came, pattern):
    """As expect_match, for bytes; a point stands for any of them."""
    expect(bool(re.fullmatch(pattern, came, re.DOTALL)), True, f"{came} is like {pattern}")


def most_memory(pid):
    """The most memory that the process has ever had resident, in bytes (VmHWM, proc(5)); 0 when it is gone."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        return int(found[1]) << 10 if found else 0      # a zombie has none
    return 0


def expect_grown_less(server, pid, before, limit):
    """The process has never had so much more memory than it had before. (A sanitizer keeps much of what is freed.)"""
    grown = most_memory(pid) - before
    if grown >= limit and server.program.is_built_with(b"__asan_init", b"__tsan_init"):
        limit *= 16
    expect(grown < limit, True, f"the server grew by less than {limit} bytes, and not {grown}")


# ---- Resets -------------------------------------------------------------------------------------------------------------

@check("hostile", computes=True, fault=Fault("a reset in the middle of a computation", "gone",
                                             "are served; where a computation holds them, after it"))
def a_reset_in_the_middle_of_a_computation(server):
    def vanish(client):
        client.send("fib 38\n6\n")
        client.wait_until_read()

    expect_survives(server, vanish)


@check("hostile", fault=Fault("a reset in the middle of a long reply, some of it read", "gone", "are served"))
def a_reset_in_the_middle_of_a_reply(server):
    def vanish(client):
        client.send("help\n" * 5000)
        client.exactly(5000)

    expect_survives(server, vanish)


WHOLE_POST = request("POST", "/api/task", {"title": "half"})
LAST_WORDS = (b"", b"6", b"6\n", b"add half a li", b"sleep 0.002\n6\n", b"help\n" * 200, b"25\n" * 20, request("GET", "/fib/6"),
              request("GET", "/fib/6")[:30], WHOLE_POST[:60], WHOLE_POST[:-1], request("GET", "/sleep/0.002") * 3)


@check("hostile", ours=True, fault=Fault("a storm of resets, hundreds or thousands at all moments, four at a time", "gone",
                                         "get their right answers in between; nothing is kept of those who left"))
def a_storm_of_resets(server):
    reach_all_workers(server)               # they are ready, and have all that they will always need
    with server.connect() as first:
        expect(first.ask("6"), "fib: 8")
        before = server.holds()

    def storm(seed):
        moments = random.Random(seed)
        for number in range((125 if server.stage.options else 500) * SIZE):
            client = server.connect()
            words = moments.choice(LAST_WORDS)
            with contextlib.suppress(OSError):
                client.socket.sendall(words)
                readable(client.socket, moments.choice([0, 0, 0.001]))     # some wait for the reply to begin
            client.reset()
            if number % 25 == 0:
                expect_served(server, 1)

    together(*[lambda seed=seed: storm(seed) for seed in range(4)])
    server.wait_until_it_holds_no_more_than(before)
    expect(server.list(), [], "the tasks, none of which was asked for to the end")


# ---- Half a request, and a byte now and then ----------------------------------------------------------------------------

HALVES = ((b"fi", b"b 10\n", rb"fib: 55\n"),
          (request("GET", "/fib/10")[:25], request("GET", "/fib/10")[25:], rb'HTTP/1\.1 200 .*"fib":55\}'),
          (request("POST", "/fib/10", b"x" * 100)[:-50], b"x" * 50, rb"HTTP/1\.1 405 .*\}"))


def dawdlers(server, number):
    """So many clients who have each sent half a request, in either protocol: pairs of the client and his row of HALVES."""
    crowd = [(server.connect(), HALVES[place % len(HALVES)]) for place in range(number)]
    for client, (half, _, _) in crowd:
        client.send(half)
    return crowd


def crowd_of(stage):
    """More than enough, and below every default limit of --max-clients: thousands for those who promise to keep as many."""
    return 200 if stage.child_per_client else min(stage.crowd, 2000) or 300


@check("hostile", only=serves_several,
       fault=Fault("half a request and then nothing, from hundreds at once, or thousands", "are waited for",
                   "are served meanwhile"))
def hundreds_of_halves_hold_nobody(server):
    crowd = dawdlers(server, server.stage.at_once(crowd_of(server.stage)) - 1)
    for client, _ in crowd:
        client.wait_until_read()
    expect_served(server)
    for client, (_, other_half, _) in crowd:
        client.send(other_half[:1])             # a byte more
    expect_served(server)
    for client, (_, other_half, _) in crowd:
        client.send(other_half[1:])
        client.half_close()
    for client, (_, _, answer) in crowd:
        expect_like(client.rest(), answer)
        client.close()
    server.wait_until_all_have_left()


def drip(crowd):
    """A byte now and then from each of them, until the server has let all of them go; returns what each was told."""
    dripping = {client.socket.fileno(): (client, row) for client, row in crowd}
    poll, told, ends = select.poll(), [], time.monotonic() + 60
    for number in dripping:
        poll.register(number, select.POLLIN)
    while dripping:
        expect(time.monotonic() < ends, True, f"all are let go in the end, and not only {len(told)} of {len(crowd)}")
        for number, _ in poll.poll(50):     # at once, for he who is let go is not waited for long
            poll.unregister(number)
            client, row = dripping.pop(number)
            answer = b""
            with contextlib.suppress(Failure):      # a reset is an end, too
                answer = client.rest()
            client.close()
            told.append((row, answer))
        for client, _ in dripping.values():
            with contextlib.suppress(OSError):
                client.socket.sendall(b"x")
    return told


@check("hostile", "--idle-timeout", "1",
       fault=Fault("a byte now and then from hundreds at once, or thousands, and no end of a request (Slowloris)",
                   "are let go after the idle time-out; in HTTP who sends no more is told 408",
                   "are served meanwhile; where one client holds a server, after that time-out"))
def a_byte_now_and_then_buys_hundreds_no_time(server):
    crowd = dawdlers(server, server.stage.occupied_by or crowd_of(server.stage))
    # A byte that comes too late resets the connection, and what he was told may be lost with it: one of them sends no more.
    quiet = server.connect()
    quiet.send(HALVES[1][0])
    told, _ = together(lambda: drip(crowd), lambda: expect_served(server, 5))
    expect(quiet.response().status, 408)
    quiet.close()
    for (half, _, _), answer in told:
        if half.startswith(b"fi"):
            expect(answer, b"", "what half a line is told")
        else:       # what dripped may have been past the end of the body
            expect(answer[:13] in (b"HTTP/1.1 408 ", b"HTTP/1.1 405 ", b""), True, f"what half a message is told: {answer}")
    server.wait_until_all_have_left()


@check("hostile", fault=Fault("a byte of urgent data (MSG_OOB) in the middle of a line or a head",
                              "is answered as if it were not there", "are served"))
def urgent_data_is_no_part_of_a_request(server):
    for whole, answer in ((b"fib 10\nquit\n", rb"fib: 55\nbye:\n"),
                          (request("GET", "/fib/10", headers={"Connection": "close"}), rb'HTTP/1\.1 200 .*"fib":55\}')):
        for size in 0, 5, 7:
            with server.connect() as client:
                client.send(whole[:size])
                client.socket.send(b"\n", socket.MSG_OOB)
                client.send(whole[size:])
                expect_like(client.rest(), answer)
    expect_served(server)


# ---- Asking without reading ---------------------------------------------------------------------------------------------

def expect_little_is_kept(server, question, reply_size):
    """A client asks this until the server reads no more, reads nothing, and costs the server next to nothing."""
    with server.connect(small_buffers=True) as client:
        pid = client.served_by()
        before = most_memory(pid)
        owed = send_until_stuck(client, question) // len(question) * reply_size
        expect(owed > 200 << 20, True, f"more than 200 MiB of replies are owed, and not {owed}")
        expect_grown_less(server, pid, before, 4 << 20)
        if serves_several(server.stage):
            expect_served(server)
    expect_served(server)


@check("hostile", ours=True,
       fault=Fault("hundreds of megabytes of replies asked for, and none read",
                   "gets what the buffers on the way hold; the server keeps no more than a few",
                   "are served meanwhile; where one client holds a server, after him"))
def replies_that_nobody_reads_do_not_pile_up(server):
    expect_little_is_kept(server, b"list\n", len(many_tasks(server)))
    if server.stage.keeps_http_open:
        expect_little_is_kept(server, request("GET", "/api/tasks"), len(server.http("GET", "/api/tasks").body))


# ---- Floods -------------------------------------------------------------------------------------------------------------

BLOCK, BLOCKS = 1000, 30 * SIZE
FLOODS = {"lines": (lambda n: f"{n}\n".encode(), re.compile(rb"^fib: (\d+)$", re.MULTILINE).findall, b"\n"),
          "HTTP": (lambda n: request("GET", f"/fib/{n}"), re.compile(rb'"fib":(\d+)\}').findall, b"}")}


def expect_keeps_the_order(server, protocol):
    """A client asks without a pause, and takes what comes; others ask while his requests fill the buffers on the way."""
    write, values, end_of_reply = FLOODS[protocol]
    # A die chooses the order, so that no reply could be taken for its neighbour.
    numbers = random.Random(6).choices(list(FIBS), k=BLOCK)
    requests, expected = b"".join(map(write, numbers)), [b"%d" % FIBS[n] for n in numbers]
    client = server.connect()
    pid = client.served_by()
    before = most_memory(pid)
    sent, rest, came, blocks = 0, b"", [], 0
    client.socket.setblocking(False)
    while blocks < BLOCKS:
        more = sent < BLOCKS * len(requests)
        if more and writable(client.socket, 0):
            sent += client.socket.send(requests[sent % len(requests):])
        if more and not readable(client.socket):
            continue
        data = client.socket.recv(1 << 18) if readable(client.socket, client.patience) else b""
        expect(data != b"", True, f"more comes after {blocks * BLOCK + len(came)} replies")
        whole, mark, rest = (rest + data).rpartition(end_of_reply)
        came += values(whole + mark)
        while len(came) >= BLOCK:
            expect(came[:BLOCK] == expected, True, f"the replies from number {blocks * BLOCK} on are right")
            came, blocks = came[BLOCK:], blocks + 1
            if blocks % 5 == 1 and serves_several(server.stage):
                expect_served(server, 1)
    expect_grown_less(server, pid, before, 4 << 20)
    client.socket.settimeout(client.patience)
    client.half_close()
    expect((rest, came, client.rest()), (b"", [], b""), "what comes behind the last reply")
    expect_served(server)


@check("hostile", ours=True, computes=True,
       fault=Fault("tens of thousands of requests without a pause, in lines", "gets every reply, in order",
                   "have their turns meanwhile; where one client holds a server, after him"))
def a_flood_of_lines_is_answered_in_order(server):
    expect_keeps_the_order(server, "lines")


@check("hostile", ours=True, computes=True, only=lambda stage: stage.keeps_http_open,
       fault=Fault("tens of thousands of requests without a pause, in HTTP", "gets every reply, in order",
                   "have their turns meanwhile"))
def a_flood_of_messages_is_answered_in_order(server):
    expect_keeps_the_order(server, "HTTP")


# ---- Signals that nobody wants ------------------------------------------------------------------------------------------


@check("hostile", ours=True,
       fault=Fault("all its processes stopped (SIGSTOP) amid conversations, and continued", "lose nothing; sleepers wake",
                   "who come meanwhile are served after it"))
def a_pause_of_everything_loses_nothing(server):
    rows = [(b"sleep 0.4\n6", b"\nquit\n", b"slept: 0.4\nfib: 8\nbye:\n"), (b"fib 1", b"0\nquit\n", b"fib: 55\nbye:\n"),
            (request("GET", "/fib/6")[:30], request("GET", "/fib/6", headers={"Connection": "close"})[30:], None),
            (b"", b"7\nquit\n", b"fib: 13\nbye:\n")]
    clients = [server.connect() for _ in rows]
    for client, (first, _, _) in zip(clients, rows):
        client.send(first)
    for client in clients[:server.stage.at_once(len(rows))]:
        client.wait_until_accepted()
    clients[0].wait_until_read()
    pids = server.pids()
    stand_still(pids)
    newcomer = server.connect()
    newcomer.send("6\nquit\n")
    for client, (_, second, _) in zip(clients, rows):
        client.send(second)
    time.sleep(0.5)     # the sleep's time passes meanwhile
    expect(newcomer.has_reply(), False, "an answer of one who stands still")
    go_on(pids)

    def row(client, answer):
        came = client.rest()
        expect(came if answer else came[:13], answer or b"HTTP/1.1 200 ")
        client.close()

    expect_each([(client, answer) for client, (_, _, answer) in zip(clients, rows)], row)
    expect(newcomer.rest(), b"fib: 8\nbye:\n")
    expect(server.workers() if server.stage.workers else [], pids[1:] if server.stage.workers else [], "the workers")


@check("hostile", ours=True, only=lambda stage: stage.workers,
       fault=Fault("one worker stopped (SIGSTOP), and continued", "is answered when the worker goes on",
                   "of the other workers are served meanwhile"))
def a_pause_of_one_worker_concerns_his_clients_alone(server):
    mine = server.connect()
    expect(mine.ask("6"), "fib: 8")
    other = server.connect_beside(mine, same_worker=False)
    worker = mine.served_by()
    stand_still([worker])
    mine.send("10\n")
    for _ in range(3):
        expect(other.ask("7"), "fib: 13")
    expect(mine.has_reply(), False, "an answer of a worker who stands still")
    go_on([worker])
    expect(mine.line(), "fib: 55")


@check("hostile", ours=True,
       fault=Fault("a storm of signals that concern nobody (SIGCHLD, SIGPIPE, SIGWINCH, SIGURG, SIGCONT) to all processes",
                   "notice nothing", "notice nothing"))
def a_storm_of_signals_disturbs_nobody(server):
    client = server.connect()
    client.send("sleep 0.2\n")
    client.wait_until_read()
    pids = server.pids()
    for number in range(100 * SIZE):
        for pid in pids:
            for sent in signal.SIGCHLD, signal.SIGPIPE, signal.SIGWINCH, signal.SIGURG, signal.SIGCONT:
                os.kill(pid, sent)
        if number == 50 and serves_several(server.stage):
            expect_served(server, 1)
    expect(client.line(), "slept: 0.2")
    for n, fib in FIBS.items():
        os.kill(server.pid, signal.SIGCHLD)
        expect(client.ask(f"{n}"), f"fib: {fib}")
    expect(set(pids) <= set(server.pids()), True, "all its processes are there still")
    client.close()
    expect_served(server)
