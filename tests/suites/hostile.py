"""Hostile clients, hundreds or thousands of them: they reset, dawdle, flood, or do not read. And stray signals.

Each check looks at what the others see meanwhile. Where one client holds a server (`Stage.servers`), they are served after
it, or when it is closed. HOSTILE=10 in the environment makes bursts and floods ten times as large.
"""
import contextlib
import os
import random
import re
import select
import signal
import socket
import time

from harness.checks import Failure, Fault, check, expect, expect_each, expect_like, together
from harness.client import request
from harness.clients import SIZE, expect_served, expect_survives, reach_all_workers, send_until_stuck
from harness.lines import many_tasks
from harness.process import expect_grown_less
from harness.stages import serves_several
from harness.system import go_on, most_memory, readable, stand_still, writable

FIBS = {1: 1, 2: 1, 3: 2, 4: 3, 5: 5, 6: 8, 7: 13, 8: 21, 9: 34, 10: 55, 11: 89, 12: 144, 13: 233, 14: 377, 15: 610}


# ---- Resets -------------------------------------------------------------------------------------------------------------

@check("hostile", computes=True, fault=Fault("a reset in the middle of a computation", "gone",
                                             "are served; if the computation holds them, after it"))
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


@check("hostile", ours=True, fault=Fault("a burst of resets, hundreds or thousands at all moments, four at a time", "gone",
                                         "get their right answers meanwhile; nothing is kept of the clients that left"))
def a_burst_of_resets(server):
    reach_all_workers(server)               # now they have all that they keep for good
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
    expect(server.list(), [], "the tasks: no request for one was complete")


# ---- Half a request, and a byte now and then ----------------------------------------------------------------------------

HALVES = ((b"fi", b"b 10\n", rb"fib: 55\n"),
          (request("GET", "/fib/10")[:25], request("GET", "/fib/10")[25:], rb'HTTP/1\.1 200 .*"fib":55\}'),
          (request("POST", "/fib/10", b"x" * 100)[:-50], b"x" * 50, rb"HTTP/1\.1 405 .*\}"))


def dawdlers(server, number):
    """So many clients that have each sent half a request, in either protocol: pairs of the client and its row of HALVES."""
    crowd = [(server.connect(), HALVES[place % len(HALVES)]) for place in range(number)]
    for client, (half, _, _) in crowd:
        client.send(half)
    return crowd


def crowd_of(stage):
    """How many clients to try, below every default of --max-clients: up to 2,000 where the stage promises to keep them."""
    return 200 if stage.child_per_client else min(stage.crowd, 2000) or 300


@check("hostile", only=serves_several,
       fault=Fault("half a request and then nothing, from hundreds or thousands at once", "are waited for",
                   "are served meanwhile"))
def hundreds_of_half_requests_hold_up_nobody(server):
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
    """Sends a byte now and then from each, until the server has closed them all; returns each one's row and reply."""
    dripping = {client.socket.fileno(): (client, row) for client, row in crowd}
    poll, told, ends = select.poll(), [], time.monotonic() + 60
    for number in dripping:
        poll.register(number, select.POLLIN)
    while dripping:
        expect(time.monotonic() < ends, True, f"all are closed within 60 s: {len(told)} of {len(crowd)}")
        for number, _ in poll.poll(50):     # at once: the server does not wait long for a client that it lets go
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
       fault=Fault("a byte now and then from hundreds or thousands at once, and no end of a request (Slowloris)",
                   "are let go after the idle time-out; in HTTP one that stops sending is told 408",
                   "are served meanwhile; where one client holds a server, after that time-out"))
def a_byte_now_and_then_does_not_reset_the_idle_timer(server):
    crowd = dawdlers(server, server.stage.occupied_by or crowd_of(server.stage))
    # A byte that comes too late resets the connection, and the 408 may be lost with it. So one client sends no more.
    quiet = server.connect()
    quiet.send(HALVES[1][0])
    told, _ = together(lambda: drip(crowd), lambda: expect_served(server, 5))
    expect(quiet.response().status, 408)
    quiet.close()
    for (half, _, _), answer in told:
        if half.startswith(b"fi"):
            expect(answer, b"", "what half a line is told")
        else:       # the bytes sent may have completed the body: 405
            expect(answer[:13] in (b"HTTP/1.1 408 ", b"HTTP/1.1 405 ", b""), True, f"what half a message is told: {answer}")
    server.wait_until_all_have_left()


@check("hostile", fault=Fault("a byte of urgent data (MSG_OOB) in the middle of a line or a head",
                              "is answered as if the byte were not there", "are served"))
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
    """A client asks this and reads nothing, until the server stops reading. The server grows by less than 4 MiB."""
    with server.connect(small_buffers=True) as client:
        pid = client.served_by()
        before = most_memory(pid)
        owed = send_until_stuck(client, question) // len(question) * reply_size
        expect(owed > 200 << 20, True, f"more than 200 MiB of replies are owed: {owed} bytes")
        expect_grown_less(server, pid, before, 4 << 20)
        if serves_several(server.stage):
            expect_served(server)
    expect_served(server)


@check("hostile", ours=True,
       fault=Fault("hundreds of megabytes of replies asked for, and none read",
                   "gets what the buffers on the way hold; the server keeps less than 4 MiB",
                   "are served meanwhile; where one client holds a server, after it"))
def unread_replies_do_not_pile_up(server):
    expect_little_is_kept(server, b"list\n", len(many_tasks(server)))
    if server.stage.keeps_http_open:
        expect_little_is_kept(server, request("GET", "/api/tasks"), len(server.http("GET", "/api/tasks").body))


# ---- Floods -------------------------------------------------------------------------------------------------------------

BLOCK, BLOCKS = 1000, 30 * SIZE
FLOODS = {"lines": (lambda n: f"{n}\n".encode(), re.compile(rb"^fib: (\d+)$", re.MULTILINE).findall, b"\n"),
          "HTTP": (lambda n: request("GET", f"/fib/{n}"), re.compile(rb'"fib":(\d+)\}').findall, b"}")}


def expect_keeps_the_order(server, protocol):
    """A client asks without a pause, and takes what comes. Others ask while its requests fill the buffers on the way."""
    write, values, end_of_reply = FLOODS[protocol]
    # In random order, so that replies in a wrong order are noticed.
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
    expect((rest, came, client.rest()), (b"", [], b""), "what comes after the last reply")
    expect_served(server)


@check("hostile", ours=True, computes=True,
       fault=Fault("tens of thousands of requests without a pause, in lines", "gets every reply, in order",
                   "get their turns meanwhile; where one client holds a server, after it"))
def a_flood_of_lines_is_answered_in_order(server):
    expect_keeps_the_order(server, "lines")


@check("hostile", ours=True, computes=True, only=lambda stage: stage.keeps_http_open,
       fault=Fault("tens of thousands of requests without a pause, in HTTP", "gets every reply, in order",
                   "get their turns meanwhile"))
def a_flood_of_http_requests_is_answered_in_order(server):
    expect_keeps_the_order(server, "HTTP")


# ---- Stray signals ------------------------------------------------------------------------------------------------------


@check("hostile", ours=True,
       fault=Fault("all its processes stopped (SIGSTOP) amid conversations, and continued", "lose nothing; sleepers wake",
                   "that connect meanwhile are served afterwards"))
def pausing_all_processes_loses_nothing(server):
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
    expect(newcomer.has_reply(), False, "an answer of a stopped server")
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
def pausing_one_worker_affects_its_clients_alone(server):
    mine = server.connect()
    expect(mine.ask("6"), "fib: 8")
    other = server.connect_beside(mine, same_worker=False)
    worker = mine.served_by()
    stand_still([worker])
    mine.send("10\n")
    for _ in range(3):
        expect(other.ask("7"), "fib: 13")
    expect(mine.has_reply(), False, "an answer of a stopped worker")
    go_on([worker])
    expect(mine.line(), "fib: 55")


@check("hostile", ours=True,
       fault=Fault("a burst of harmless signals (SIGCHLD, SIGPIPE, SIGWINCH, SIGURG, SIGCONT) to all processes",
                   "notice nothing", "notice nothing"))
def a_burst_of_harmless_signals_disturbs_nobody(server):
    client = server.connect()
    client.send("sleep 0.2\n")
    client.wait_until_read()
    pids = server.pids()
    for number in range(100 * SIZE):
        for pid in pids:
            for sent in signal.SIGCHLD, signal.SIGPIPE, signal.SIGWINCH, signal.SIGURG, signal.SIGCONT:
                with contextlib.suppress(ProcessLookupError):   # of a client that has left
                    os.kill(pid, sent)
        if number == 50 and serves_several(server.stage):
            expect_served(server, 1)
    expect(client.line(), "slept: 0.2")
    for n, fib in FIBS.items():
        os.kill(server.pid, signal.SIGCHLD)
        expect(client.ask(f"{n}"), f"fib: {fib}")
    expect(set(pids) <= set(server.pids()), True, "all its processes are still there")
    client.close()
    expect_served(server)
