"""What one loop must not forget: descriptors past FD_SETSIZE, bytes that came before it looked, and a pool that is full."""
import os
import time

from harness.checks import check, check_program, expect, together, wait_for
from harness.client import request
from harness.clients import expect_fib_waits
from harness.lines import many_tasks
from harness.stages import serves_several


# ---- --wait select: no descriptor past FD_SETSIZE -----------------------------------------------------------------------

@check_program("loops", only=lambda stage: stage.most, alone=True)
def clients_past_fd_setsize_are_told_the_server_is_full(program):
    server = program.start()
    most = program.stage.most

    def shortages():
        return [line for line in server.log().splitlines() if "FD_SETSIZE" in line]

    def come_until_full():
        """Connects clients until five have been told that the server is full."""
        served, refused = [], 0
        while refused < 5:
            client = server.connect()
            client.send("6\n")
            if client.line() == "fib: 8":
                served.append(client)
            else:
                client.close()
                refused += 1
            expect(len(served) < most, True, f"no more than {most} clients are served")
        return served

    clients = come_until_full()
    expect(most - 50 < len(clients), True, f"almost {most} clients are served, not {len(clients)}")
    expect(len(shortages()), 1, f"lines of the log about the shortage: {shortages()}")
    expect(server.connect().rest(), b"error: server is full\n")
    for client in clients:
        expect(client.ask("10"), "fib: 55")
    leaving, staying = clients[::2], clients[1::2]
    for client in leaving:
        client.close()
    wait_for(lambda: len(os.listdir(f"/proc/{server.pid}/fd")) <= most - len(leaving), "the server had let them go")
    again = come_until_full()
    expect(len(again), len(leaving), "clients that take the freed places")
    expect(len(shortages()), 1, f"lines of the log, a second shortage later: {shortages()}")
    for client in staying + again:
        expect(client.ask("6"), "fib: 8")
    staying[0].send("sleep 0.5\n")
    staying[0].wait_until_read()
    server.send_signal()
    expect(staying[0].rest(), b"slept: 0.5\n")
    expect(server.wait(), 0, "the exit status")


# ---- Bytes that come while the loop does not look -----------------------------------------------------------------------
# With --trigger edge, a loop is told only once that a socket became ready, and has to remember it.

@check("streams", row=True)
def lines_that_come_during_a_sleep_are_answered_after_it(server):
    client = server.connect()
    for _ in range(3):
        client.send("sleep 0.3\n")
        client.wait_until_read()
        for piece in b"6\n1", b"0\n", b"fib 3":
            client.send(piece)
            time.sleep(0.01)        # so that each piece arrives alone
        expect(client.lines(3), ["slept: 0.3", "fib: 8", "fib: 55"])
        client.send("0\n")
        expect(client.line(), "fib: 832040")


@check("streams")
def a_half_close_during_a_sleep_is_seen_after_it(server):
    for last, answer in (b"", b""), (b"6\n10", b"fib: 8\nfib: 55\n"):
        with server.connect() as client:
            client.send("sleep 0.3\n")
            client.wait_until_read()
            client.send(last)
            client.half_close()
            expect(client.rest(), b"slept: 0.3\n" + answer)


@check("streams", only=lambda stage: stage.keeps_http_open)
def http_requests_during_a_sleep_are_answered_after_it(server):
    with server.connect() as client:
        client.send(request("GET", "/sleep/0.3"))
        client.wait_until_read()
        client.send(request("GET", "/fib/6") + request("GET", "/fib/10", headers={"Connection": "close"})[:20])
        expect(client.response().json, {"slept": 0.3})
        expect(client.response().json, {"n": 6, "fib": 8})
        client.send(request("GET", "/fib/10", headers={"Connection": "close"})[20:])
        expect(client.response().json, {"n": 10, "fib": 55})
        expect(client.rest(), b"")


@check("streams")
def a_slow_reader_gets_long_replies_whole(server):
    reply = many_tasks(server)
    with server.connect(small_buffers=True) as client:
        client.send("list\n" * 10 + "6\n")
        client.half_close()
        came = bytearray()
        while len(came) < len(reply) * 10:
            piece = client.socket.recv(3000)
            expect(piece != b"", True, f"more comes after {len(came)} bytes")
            came += piece
            if len(came) % 50 == 0:
                time.sleep(0.001)
        came += client.rest()
    expect(bytes(came) == reply * 10 + b"fib: 8\n", True, f"the replies, {len(came)} bytes, are those that were asked for")


@check("streams", only=serves_several)
def a_client_with_stuck_replies_holds_up_nobody(server):
    reply = many_tasks(server)
    with server.connect(small_buffers=True) as slow:
        slow.send("list\n" * 20)
        wait_for(slow.has_reply, "the first bytes came")
        for _ in range(3):
            expect(server.ask("6"), "fib: 8")
        slow.half_close()
        expect(slow.rest() == reply * 20, True, "the replies, all of them")


@check("streams", computes=True)
def floods_are_answered_to_the_last_request(server):
    number = 5000
    with server.connect() as client:
        together(lambda: (client.send(b"6\n" * number + b"10\n"), client.half_close()),
                 lambda: expect(client.rest() == b"fib: 8\n" * number + b"fib: 55\n", True, "every line is answered"))


@check("streams", computes=True, only=lambda stage: stage.keeps_http_open)
def http_floods_are_answered_to_the_last_request(server):
    number = 2000
    with server.connect() as client:
        def read():
            for _ in range(number):
                expect(client.response().json, {"n": 6, "fib": 8})
            expect(client.response().json, {"n": 10, "fib": 55})
            expect(client.rest(), b"")

        last = request("GET", "/fib/10", headers={"Connection": "close"})
        together(lambda: client.send(request("GET", "/fib/6") * number + last), read)


@check("streams", only=serves_several)
def many_clients_may_trickle_at_once(server):
    clients = [server.connect() for _ in range(server.stage.at_once(30))]
    for piece in b"f", b"ib", b" 1", b"0", b"\n6", b"\n":
        for client in clients:
            client.send(piece)
        for client in clients:
            client.wait_until_read()
    for client in clients:
        expect(client.lines(2), ["fib: 55", "fib: 8"])


# ---- --pool: as many computations as the pool has threads ---------------------------------------------------------------

@check_program("loops", computes=True, only=lambda stage: stage.number == 6 and not stage.options)
def a_pool_runs_one_fib_per_thread_and_the_loop_goes_on(program):
    server = program.start(stage=program.stage.with_options("--pool", "2"))
    expect_fib_waits([server.connect()], server.connect(), False, "fib 30", "fib: 832040")
    expect_fib_waits([server.connect() for _ in range(2)], server.connect(), True, "fib 30", "fib: 832040")
    computing = [server.connect() for _ in range(3)]
    for client in computing:
        client.send("fib 45\n")
        client.wait_until_read()
    for question, answer in ("sleep 0", "slept: 0"), ("fib 1", "fib: 1"), ("list", "tasks: 0"):    # these need no thread
        expect(server.ask(question), answer)
        expect(any(client.has_reply() for client in computing), False, f"a fib 45 is over before {question!r}")
    for client in computing:
        expect(client.line(), "fib: 1134903170")
