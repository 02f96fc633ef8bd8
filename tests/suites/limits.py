"""Limits: what is at each one and just past it. And clients that are too many, or idle, or vanish, or do not read."""
import contextlib
import time

from harness.checks import Failure, Fault, check, expect, expect_each, expect_lasts, expect_match, together, wait_for
from harness.client import request
from harness.clients import expect_survives, reach_all_workers, send_until_stuck
from harness.web import JSON, add_task, expect_error
from harness.lines import add, expect_errors, expect_reply, show
from harness.stages import serves_several
from harness.system import readable


# ---- Sizes --------------------------------------------------------------------------------------------------------------

@check("limits")
def a_title_has_up_to_200_characters(server):
    with server.connect() as client:
        task = add(client, "é" * 200)
        expect_reply(client, f"edit {task} {'ü' * 200}", f"edited: {task} {'ü' * 200}")
        expect_errors(client, ["add " + "é" * 201, f"edit {task} {'x' * 201}"])
        expect(show(client, task)[1], "title: " + "ü" * 200)
    task = add_task(server, title="🐧" * 200)
    expect_error(server.http("POST", "/api/task", {"title": "é" * 201}), 400)
    expect_error(server.http("PUT", f"/api/tasks/{task['id']}", {"title": "x" * 201}), 400)
    expect(len(server.http("GET", "/api/tasks").json), 2)


@check("limits")
def a_description_has_up_to_1000_characters(server):
    with server.connect() as client:
        task = add(client, "milk")
        expect_reply(client, f"describe {task} {'é' * 1000}", f"described: {task} {'é' * 1000}")
        expect_errors(client, [f"describe {task} {'x' * 1001}"])
        expect(show(client, task)[2], "description: " + "é" * 1000)
    task = add_task(server, title="rent", description="🐧" * 1000)
    expect_error(server.http("PUT", f"/api/tasks/{task['id']}", {"description": "x" * 1001}), 400)
    expect_error(server.http("POST", "/api/task", {"title": "x", "description": "x" * 1001}), 400)
    expect(len(server.http("GET", "/api/tasks").json), 2)


@check("limits")
def there_are_up_to_1000_tasks(server):
    with server.connect() as client:
        together(lambda: client.send("".join(f"add task {number}\n" for number in range(1000))),
                 lambda: expect_each(enumerate(client.lines(1000)),
                                     lambda number, reply: expect_match(reply, rf"added: \w{{8}} task {number}")))
        expect_errors(client, ["add one more"])
    expect_error(server.http("POST", "/api/task", {"title": "one more"}), 507)
    tasks = server.http("GET", "/api/tasks").json
    expect([task["title"] for task in tasks], [f"task {number}" for number in range(1000)])
    expect(len(server.list()), 1000)
    expect(server.http("DELETE", f"/api/tasks/{tasks[500]['id']}").status, 204)
    add_task(server, title="in its place")


@check("limits")
def a_body_has_up_to_64_kib(server):
    body = b'{"title": "milk"}'.ljust(65536)
    expect(server.http("POST", "/api/task", body, headers=JSON).status, 201)
    chunked = request("POST", "/api/task", headers={"Transfer-Encoding": "chunked", **JSON})
    for data in (request("POST", "/api/task", body + b" ", headers=JSON),
                 request("POST", "/api/task", body * 4, headers=JSON),
                 request("POST", "/api/task", headers={"Content-Length": "65537", **JSON}),
                 chunked + b"10001\r\n" + body + b" \r\n0\r\n\r\n",
                 chunked + (b"1000\r\n" + b" " * 4096 + b"\r\n") * 16 + b"1\r\n \r\n0\r\n\r\n"):
        with server.connect() as client:
            client.send(data)
            expect_error(client.response(), 413)
            expect(client.rest(), b"")
    expect(len(server.http("GET", "/api/tasks").json), 1)


@check("limits")
def a_request_head_has_up_to_16_kib(server):
    def head(size):
        empty = len(request("GET", "/fib/6", headers={"X-Filler": ""}))
        return request("GET", "/fib/6", headers={"X-Filler": "x" * (size - empty)})

    expect_refused_past_it(server, [(head(16384), 200), (head(16384 + 100), 431), (head(40_000), 431),
                                    (request("GET", "/fib/6", headers={f"X-{number}": "x" for number in range(3000)}), 431)])


def expect_refused_past_it(server, rows):
    """Each request gets its status. Any status but 200 also ends the connection."""
    def row(data, status):
        with server.connect() as client:
            client.send(data)
            response = client.response()
            expect(response.status, status, f"the response to {len(data)} bytes")
            if status != 200:
                expect_error(response, status)
                expect(client.rest(), b"")

    expect_each(rows, row)


@check("limits")
def a_request_line_has_up_to_8_kib(server):
    def line(size):
        return request("GET", "/fib/6?".ljust(size - len("GET  HTTP/1.1"), "x"))

    expect(line(8192).index(b"\r"), 8192, "the size of a line")
    expect_refused_past_it(server, [(line(8192), 200), (line(8193), 414), (line(12_000), 414), (line(20_000), 414),
                                    (b"GET /" + b"x" * 8190, 414), (b"GET /" + b"x" * 20_000, 414)])


@check("limits", "--max-fib", "20")
def the_largest_fib_is_the_same_for_both_protocols(server):
    expect(server.ask("20"), "fib: 6765")
    expect_match(server.ask("21"), "error: .+")
    expect(server.http("GET", "/fib/20").json["fib"], 6765)
    expect_error(server.http("GET", "/fib/21"), 400)
    expect(server.http("GET", "/cpuTask").json, {"n": 20, "fib": 6765}, "what /cpuTask computes, where fib 45 is too much")


# ---- How many clients ---------------------------------------------------------------------------------------------------

@check("limits", "--max-clients", "2", only=lambda stage: stage.has_max_clients,
       fault=Fault("one client more than --max-clients", "is told `error: server is full`, and closed",
                   "are served; a new one is served once there is room"))
def one_client_too_many_is_told_so(server):
    # Each worker has a limit of its own, and the kernel chooses which of them a client reaches.
    clients, room, refused = [], 2 * max(server.stage.workers, 1), 0
    while len(clients) < room and refused < (200 if server.stage.workers else 1):
        client = server.connect()
        if client.ask("6") == "fib: 8":
            clients.append(client)
        else:
            refused += 1
    expect(len(clients), room, "clients that are served")
    expect(server.connect().rest(), b"error: server is full\n")
    for first_words in "6\n", "half a li", request("GET", "/fib/6"):
        with server.connect() as client:
            client.send(first_words)
            expect(client.rest(), b"error: server is full\n", f"the answer to {first_words!r}")
    for client in clients:
        expect(client.ask("6"), "fib: 8", "a client that was there before is served")

    def is_served():
        with server.connect() as client, contextlib.suppress(Failure):
            return client.ask("6") == "fib: 8"

    clients[0].close()
    wait_for(is_served, "there was room for another client")


# ---- How long a client may idle -----------------------------------------------------------------------------------------

@check("limits", "--idle-timeout", "0.4")
def a_silent_client_is_let_go(server):
    expect_lasts(0.4, lambda: expect(server.connect().rest(), b""))
    with server.connect() as client:
        expect(client.ask("6"), "fib: 8")
        expect(client.rest(), b"", "after a request")


@check("limits", "--idle-timeout", "0.4")
def a_client_that_stops_within_a_line_is_let_go(server):
    with server.connect() as client:
        client.send("6\nadd half a li")
        expect_match(client.rest().decode(), r"fib: 8\n(error: .+\n)?")
    expect(server.list(), [])


@check("limits", "--idle-timeout", "0.4")
def a_client_that_never_ends_its_line_is_let_go(server):
    with server.connect() as client:
        start = time.monotonic()
        while not client.has_reply():
            expect(time.monotonic() - start < client.patience, True, "it is let go in the end")
            with contextlib.suppress(Failure):      # the server may close between the look and this
                client.send("x")
            readable(client.socket, 0.1)


@check("limits", "--idle-timeout", "0.4",
       fault=Fault("half an HTTP request, and then nothing", "gets 408 after the idle time-out, and is closed",
                   "are served after it"))
def half_an_http_request_gets_408(server):
    whole = request("POST", "/api/task", {"title": "half"})
    for size in 40, whole.index(b"\r\n\r\n") + 2, len(whole) - 1:
        with server.connect() as client:
            client.send(whole[:size])
            expect_error(client.response(), 408)
            expect(client.rest(), b"")
    expect(server.list(), [])


@check("limits", "--idle-timeout", "0.4", only=lambda stage: stage.keeps_http_open)
def an_idle_http_connection_is_closed(server):
    with server.connect() as client:
        expect(client.http("GET", "/fib/6").status, 200)
        expect(client.rest(), b"")


@check("limits", "--idle-timeout", "0.4")
def a_client_that_waits_for_a_reply_is_not_idle(server):
    with server.connect() as client:
        client.send("sleep 0.8\n" * 2)
        expect(client.lines(2), ["slept: 0.8"] * 2)


@check("limits", "--idle-timeout", "0.4",
       fault=Fault("replies that are never read", "is let go after the idle time-out", "are served after it"))
def a_client_that_takes_no_replies_is_let_go(server):
    with server.connect(small_buffers=True) as client:
        with contextlib.suppress(ConnectionError):      # it may be let go before it is seen to be stuck
            send_until_stuck(client)
        client.wait_until_let_go()
    expect(server.ask("6"), "fib: 8")


@check("limits", "--idle-timeout", "0")
def an_idle_timeout_of_zero_lets_nobody_go(server):
    client = server.connect()
    expect(client.ask("6"), "fib: 8")
    expect(readable(client.socket, 0.5), False, "something comes within half a second")
    expect(client.ask("6"), "fib: 8")


# ---- Clients that do not read -------------------------------------------------------------------------------------------


@check("disappear")
def a_client_that_reads_late_gets_every_reply(server):
    client = server.connect(small_buffers=True)
    replies = b"fib: 55\n" * (send_until_stuck(client, b"10\n") // len(b"10\n"))
    expect(client.exactly(len(replies)) == replies, True, "every reply is there")


@check("disappear", only=serves_several)
def a_client_that_does_not_read_holds_up_nobody(server):
    send_until_stuck(server.connect(small_buffers=True))
    for _ in range(3):
        expect(server.ask("6"), "fib: 8")


@check("disappear", only=serves_several)
def half_a_request_holds_up_nobody(server):
    for half in b"fib", b"GET /fib/6 HT", request("POST", "/api/task", {"title": "milk"})[:-1]:
        with server.connect() as client:
            client.send(half)
            client.wait_until_read()
            expect(server.ask("6"), "fib: 8")


# ---- Clients that vanish ------------------------------------------------------------------------------------------------


@check("disappear", fault=Fault("a reset or a close before the first byte", "gone", "are served"))
def at_once(server):
    expect_survives(server, lambda client: None)


@check("disappear", row=True, fault=Fault("a reset or a close between two requests", "gone", "are served"))
def between_two_requests(server):
    expect_survives(server, lambda client: client.ask("6"), times=10)


@check("disappear", fault=Fault("a reset or a close in the middle of a line", "gone", "are served"))
def in_the_middle_of_a_line(server):
    def vanish(client):
        client.send("fib 1")
        client.wait_until_read()

    expect_survives(server, vanish)


@check("disappear",
       fault=Fault("a reset or a close in the middle of a sleep", "gone",
                   "are served; where one client holds a server, after the sleep"))
def in_the_middle_of_a_sleep(server):
    def vanish(client):
        client.send("sleep 0.3\n6\n")
        client.wait_until_read()

    expect_survives(server, vanish)


@check("disappear")
def with_a_thousand_replies_on_the_way(server):
    def vanish(client):
        client.send("sleep 0.2\n" + "6\n" * 1000)
        client.wait_until_read()

    expect_survives(server, vanish)


@check("disappear",
       fault=Fault("a reset or a close with more unread replies on the way than the buffers hold", "gone",
                   "are served"))
def with_more_replies_than_the_buffers_hold(server):
    for leave in "reset", "close":
        client = server.connect(small_buffers=True)
        send_until_stuck(client)
        getattr(client, leave)()
        expect(server.ask("6"), "fib: 8", f"after a {leave}")


@check("disappear", fault=Fault("a reset or a close in the middle of an HTTP head or body", "gone", "are served"))
def in_the_middle_of_an_http_request(server):
    whole = request("POST", "/api/task", {"title": "milk"})
    for size in 10, 60, len(whole) - 1:
        def vanish(client):
            client.send(whole[:size])
            client.wait_until_read()

        expect_survives(server, vanish)


@check("disappear")
def before_the_http_responses(server):
    def vanish(client):
        client.send(request("GET", "/sleep/0.1") * 3)
        client.wait_until_read()

    expect_survives(server, vanish)


@check("disappear", fault=Fault("a reset while waiting to be served", "gone", "lose nothing, and are served"))
def while_waiting_to_be_served(server):
    firsts = [server.connect() for _ in range(server.stage.servers or 1)]
    for first in firsts:
        first.send("sleep 0.3\nquit\n")
        first.wait_until_read()
    for _ in range(5):
        waiting = server.connect()
        waiting.send("6\n")
        waiting.reset()
    for first in firsts:
        expect(first.rest(), b"slept: 0.3\nbye:\n")
    expect(server.ask("6"), "fib: 8")


@check("disappear", ours=True)
def nothing_is_kept_of_clients_that_left(server):
    last_words = ["", "6\n", "half a li", "sleep 0.01\n6\n", request("GET", "/fib/6"), request("GET", "/fib/6")[:20]]
    reach_all_workers(server)               # now they are ready, and hold all that they ever need
    with server.connect() as first:
        expect(first.ask("6"), "fib: 8")
        before = server.holds()
    for number in range(60):
        client = server.connect()
        client.send(last_words[number % 6])
        (client.close if number % 2 else client.reset)()
    server.wait_until_it_holds_no_more_than(before)
