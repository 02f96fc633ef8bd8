"""Who waits for whom: a client that asks in time is answered, and an answer does not wait for the client's own next request.

A request is in progress until its reply comes. Where a slow machine may hide what is to be seen, a check tries three times.
"""
import contextlib
import re
import time

from harness.checks import (Fault, Gone, NotRun, check, check_program, expect, expect_in_three_tries, expect_lasts,
                            expect_match, wait_for)
from harness.client import request
from harness.clients import two_together
from harness.database import locked
from harness.stages import serves_several
from harness.system import go_on, readable, stand_still

IDLE = 2        # seconds


# ---- In time, or idle ---------------------------------------------------------------------------------------------------

def crowd_on(stage, number):
    """So many clients, or as many as are surely served at once, but no more than 100 processes."""
    return stage.at_once(100 if stage.child_per_client else number)


def expect_answered_after_a_pause(server, first_request=None):
    """Six hundred ask while the server stands still, and it goes on when their idle time-out is over."""
    def ask_in_time():
        """The clients, and whether all of them could ask within half of the idle time-out."""
        first, *clients = [server.connect() for _ in range(crowd_on(server.stage, 601))]
        began = time.monotonic()
        for client in clients:
            client.send("6\n")
        for client in clients:
            expect(client.line(), "fib: 8")
        if first_request:
            first.send(first_request)
            first.wait_until_read()
        pids = server.pids()
        stand_still(pids)
        for number, client in enumerate(clients):
            client.send("add milk\n" if number % 50 == 0 else "10\n")
        in_time = time.monotonic() - began < IDLE / 2
        time.sleep(IDLE)        # by then they would be idle, had they not asked
        go_on(pids)
        return clients, in_time

    for _ in range(5):
        clients, in_time = ask_in_time()
        if in_time:
            break
        for client in clients:
            client.reset()
    else:
        raise NotRun("in five tries the machine was too slow for all clients to ask in time")
    let_go = []
    for number, client in enumerate(clients):
        try:
            expect_match(client.line(), r"added: \w{8} milk" if number % 50 == 0 else "fib: 55")
        except Gone as gone:
            let_go.append(f"number {number}: {gone}")
    expect(let_go[:1], [], f"the first of {len(let_go)} that were let go, of {len(clients)}")


def is_one_loop(stage):
    return stage.number >= 4 and not stage.listens_alone


@check("turns", "--idle-timeout", str(IDLE), ours=True, only=serves_several)
def six_hundred_clients_are_answered_after_a_pause(server):
    expect_answered_after_a_pause(server)


@check("turns", "--idle-timeout", str(IDLE), ours=True, computes=True,
       only=lambda stage: stage.fib_holds_others is not False and serves_several(stage))
def six_hundred_clients_are_answered_after_a_long_fib(server):
    expect_answered_after_a_pause(server, "fib 44\n")


@check("turns", "--idle-timeout", "0.5", computes=True, only=serves_several)
def a_request_in_time_is_answered_after_anothers_long_fib(server):
    def answered():
        """The beginning of the reply; None if the machine was too slow to ask in time."""
        began = time.monotonic()
        try:
            computing, other = two_together(server)
            expect(other.ask("6"), "fib: 8")
        except Gone:
            return None
        computing.send("fib 46\n")
        computing.wait_until_read()
        other.send("add milk\n")
        in_time = time.monotonic() - began < 0.25
        came = other.line()[:6] if in_time else None
        computing.line()        # so that the next try, or the stop, need not wait for it
        return came

    came = [answered()]
    while came[-1] is None and len(came) < 10:
        came.append(answered())
    expect(came[-1] or "added:", "added:", "the beginning of the reply")


@check("turns", "--idle-timeout", "0.5", computes=True, only=lambda stage: is_one_loop(stage) and stage.fib_holds_others)
def the_idle_time_starts_after_anothers_long_fib(server):
    def is_answered_again():
        first, second, other = (server.connect() for _ in range(3))
        first.send("fib 43\n")
        first.wait_until_read()
        second.send("fib 46\n")
        other.send("abc\n")
        with contextlib.suppress(Gone, ConnectionError):
            expect(other.line()[:6], "error:")
            return other.ask("6")

    expect_in_three_tries(is_answered_again, "fib: 8", "the reply to the next request")


@check("turns", "--idle-timeout", "0.4", computes=True)
def a_client_that_sends_only_empty_lines_is_let_go(server):
    def let_go_after(server, beginning):
        with server.connect() as client:
            beginning(client)
            ends = time.monotonic() + 20
            with contextlib.suppress(ConnectionError, Gone):     # a reset, because it goes on sending
                while not readable(client.socket):
                    expect(time.monotonic() < ends, True, "it is let go in the end")
                    client.socket.sendall(b"\r\n" * 10_000)
                expect(client.rest(), b"")

    let_go_after(server, lambda client: None)
    let_go_after(server, lambda client: expect(client.ask("6"), "fib: 8"))
    if server.stage.keeps_http_open:
        let_go_after(server, lambda client: expect(client.http("GET", "/fib/6").status, 200))


@check_program("turns")
def a_wait_for_a_locked_database_is_not_idle_time(program):
    server = program.start("--idle-timeout", "1")
    expect_match(server.ask("add milk"), "added: .+")

    def is_refused_and_let_go():
        client = server.connect()
        expect_match(client.ask("add more milk"), "error: .+")
        expect(client.rest(), b"")

    with locked(program):       # a second for the database, and a second in which the client asks nothing
        expect_lasts(2, is_refused_and_let_go)


# ---- An answer, and the same client's next request ----------------------------------------------------------------------

# Requests and the shapes of their replies, in lines and in HTTP.
REPLIES = {"fib 1": "fib: 1", "fib 30": "fib: 832040", "fib 44": "fib: 701408733", "sleep 0.1": r"slept: 0\.1",
           "sleep 1": "slept: 1", "show zz": "error: .*zz.*", "add milk": r"added: \w{8} milk"}
TARGETS = {"/fib/1": rb'\{"n":1,"fib":1}', "/fib/30": rb'\{"n":30,"fib":832040}', "/fib/44": rb'\{"n":44,"fib":701408733}',
           "/sleep/0.1": rb'\{"slept":0\.1}', "/sleep/1": rb'\{"slept":1}', "/api/tasks/zz": rb'\{"error":.*}'}


def that_came_with_the_next(server, questions, slow):
    """Asks all of these at once. Returns those whose replies waited for a slow one right behind them: both replies came
    together."""
    speaks_http = questions[0].startswith("/")
    late = []
    with server.connect() as client:
        client.send(b"".join(request("GET", question) if speaks_http else f"{question}\n".encode() for question in questions))
        for question, following in zip(questions, [*questions[1:], None]):
            if speaks_http:
                expect(bool(re.fullmatch(TARGETS[question], client.response().body)), True, f"the response to {question}")
            else:
                expect_match(client.line(), REPLIES[question], f"the reply to {question!r}")
            if following == slow and client.has_reply():
                late.append(question)
    return late


def expect_none_waits_for_the_next(server, questions, slow):
    """Tries again, because a client that is itself held up for so long sees both replies together, but not each time."""
    expect_in_three_tries(lambda: that_came_with_the_next(server, questions, slow), [], f"what waited for {slow} behind it")


@check("turns", row=True)
def a_reply_comes_before_the_same_clients_next_sleep(server):
    expect_none_waits_for_the_next(server, ["sleep 0.1", "sleep 1", "sleep 1", "fib 1", "sleep 1", "fib 30", "sleep 1",
                                            "show zz", "sleep 1", "add milk", "sleep 1"], "sleep 1")


@check("turns", computes=True)
def a_reply_comes_before_the_same_clients_next_fib(server):
    expect_none_waits_for_the_next(server, ["fib 1", "fib 44", "sleep 0.1", "fib 44", "add milk", "fib 44"], "fib 44")


@check("turns", only=lambda stage: stage.keeps_http_open)
def a_response_comes_before_the_same_clients_next_sleep(server):
    expect_none_waits_for_the_next(server, ["/sleep/0.1", "/sleep/1", "/sleep/1", "/fib/1", "/sleep/1", "/fib/30", "/sleep/1",
                                            "/api/tasks/zz", "/sleep/1"], "/sleep/1")


@check("turns", computes=True, only=lambda stage: stage.keeps_http_open)
def a_response_comes_before_the_same_clients_next_fib(server):
    expect_none_waits_for_the_next(server, ["/fib/1", "/fib/44", "/sleep/0.1", "/fib/44"], "/fib/44")


@check_program("turns")
def a_reply_comes_before_the_client_waits_for_the_database(program):
    server = program.start()
    expect_match(server.ask("add milk"), "added: .+")       # so that the database is there

    def comes_first():
        with server.connect() as client:
            with locked(program):
                client.send("fib 1\nadd milk\nfib 1\n")
                expect(client.line(), "fib: 1")
                first = not client.has_reply()
            expect_match(client.line(), r"added: \w{8} milk|error: .+")
            expect(client.line(), "fib: 1")
        if not first:
            time.sleep(1)       # after a failed wait, writes during the next second fail at once
        return first

    expect_in_three_tries(comes_first, True, "the first reply comes before the second")


# ---- A place, and which client has it -----------------------------------------------------------------------------------

def notices_resets(stage):
    """Whether it notices resets while a request is in progress. A blocking call waits for one thing alone. spin and select
    do not look."""
    return stage.number > 4 or stage.option("--wait") == "poll"


def come_in(server, patience):
    """A client for each worker, or one. Each has been answered; others may prevent that for a while."""
    def one_more():
        client = server.connect()
        with contextlib.suppress(Gone):
            if client.ask("6") == "fib: 8":
                return client
        client.close()

    return [wait_for(one_more, "there was room for a client", patience) for _ in range(server.stage.workers or 1)]


@check("turns", "--max-clients", "1", only=notices_resets,
       fault=Fault("a reset while a request sleeps, with --max-clients 1", "gone", "have its place at once"))
def a_reset_during_a_sleep_frees_the_place(server):
    def asks(client, *words):
        """Sends each of the words when the server has read the one before."""
        for some in words:
            client.send(some)
            client.wait_until_read()

    for vanish in (lambda client: asks(client, "sleep 60\n"), lambda client: asks(client, "sleep 60\n6\n"),
                   lambda client: (asks(client, "sleep 60\n"), client.send("6\n")),
                   lambda client: (asks(client, "sleep 60\n"), client.half_close())):
        clients = come_in(server, server.program.patience)
        for client in clients:
            vanish(client)
            client.reset()
        for client in come_in(server, 15):
            client.close()
    client, *_ = come_in(server, 15)
    client.send("sleep 0.5\n")
    client.half_close()
    expect(client.rest(), b"slept: 0.5\n", "one that half-closes keeps its place")


@check("turns", "--max-clients", "3", only=lambda stage: notices_resets(stage) and not stage.workers, computes=True)
def a_reset_right_behind_requests_frees_the_place(server):
    """The loop computes when both come, so it learns of them at once, or of the reset while it works for this client."""
    for requests in "sleep 60\n", "count\nsleep 60\n", "fib 25\nsleep 60\n", "fib 40\nsleep 60\n":
        computing, client, other = come_in(server, 15) + come_in(server, 15) + come_in(server, 15)
        computing.send("fib 42\n")
        computing.wait_until_read()
        client.send(requests)
        client.reset()
        expect(computing.line(), "fib: 267914296")
        other.close()
        newcomers = come_in(server, 15) + come_in(server, 15)
        for one in (computing, *newcomers):
            one.close()


@check_program("turns", only=lambda stage: stage.number == 6 and not stage.options, computes=True,
               fault=Fault("a reset while a computation or a write waits for a thread of the pool",
                           "gone; its request is not carried out", "have its place and its turn"))
def a_reset_takes_a_request_out_of_the_pools_queue(program):
    server = program.start("--max-fib", "90", "--max-clients", "4", stage=program.stage.with_options("--pool", "1"))
    computing, endless, writing, staying = clients = [server.connect() for _ in range(4)]
    for client, question in zip(clients, ("fib 48\n", "fib 90\n", "add never\n", "fib 30\n")):
        client.send(question)
        client.wait_until_read()
    staying.half_close()
    for client in endless, writing:
        client.reset()
    newcomer, = come_in(server, 15)
    expect(computing.has_reply(), False, "the computation before them is over")
    newcomer.send("add milk\n")
    expect(computing.line(), "fib: 4807526976")
    expect(staying.rest(), b"fib: 832040\n")
    expect_match(newcomer.line(), r"added: \w{8} milk")
    expect([line[13:] for line in server.list()], ["milk"])


# ---- Many clients at once -----------------------------------------------------------------------------------------------

def stopped(server, come):
    """The clients that come() while the server stands still, so that it finds all of them at once."""
    stand_still([server.pid])
    try:
        return come()
    finally:
        go_on([server.pid])


@check("turns", computes=True, only=is_one_loop)
def a_newcomer_behind_a_hundred_does_not_wait_a_round_for_each(server):
    """In each round, the computing client has one of its computations."""
    def come():
        asking = server.connect()
        asking.send("fib 34\n" * 100)
        others = [server.connect() for _ in range(100)]
        newcomer = server.connect()
        newcomer.send("6\n")
        return asking, others, newcomer

    def comes_early():
        asking, others, newcomer = stopped(server, come)
        expect(newcomer.line(), "fib: 8")
        asking.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            asking.received = asking.socket.recv(1 << 20)
        asking.socket.settimeout(asking.patience)
        early = asking.received.count(b"\n") < 50
        expect(asking.lines(100), ["fib: 5702887"] * 100)
        for client in (asking, newcomer, *others):
            client.close()
        return early

    expect_in_three_tries(comes_early, True, "the newcomer is answered before half of the computations are over")


@check("turns", "--max-clients", "100", computes=True, only=is_one_loop,
       fault=Fault("three hundred clients come at once, with --max-clients 100",
                   "two hundred are told `error: server is full` before anything is computed", "are served"))
def clients_past_the_limit_are_told_before_any_fib(server):
    def come():
        computing = server.connect()
        computing.send("fib 46\n")
        return computing, [server.connect() for _ in range(99)], [server.connect() for _ in range(200)]

    def are_told_first():
        computing, within, beyond = stopped(server, come)
        for client in beyond:
            expect(client.rest(), b"error: server is full\n")
        first = not computing.has_reply()
        expect(computing.line(), "fib: 1836311903")
        for client in (computing, *within, *beyond):
            client.close()
        server.wait_until_it_holds_no_more_than(before)
        return first

    expect(server.ask("6"), "fib: 8")
    before = server.holds()
    expect_in_three_tries(are_told_first, True, "all of them are told before the computation is over")
