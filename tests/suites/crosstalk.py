"""Crosstalk: several clients at once. Each gets the replies to its own requests, and each order is carried out once.

Most requests name their client or a number, so that a reply to another request is noticed. What is sent, and where it is
cut, is random, but the same in every run. CROSSTALK=2 in the environment selects other random numbers.
"""
import os
import random

from harness.checks import Failure, check, expect, expect_match, together
from harness.client import request
from harness.clients import reads_all, two_together
from harness.stages import serves_several
from harness.system import go_on, readable, stand_still

SEED = os.environ.get("CROSSTALK", "1")
FIBS = {1: 1, 5: 5, 7: 13, 10: 55, 13: 233, 17: 1597, 20: 6765, 25: 75025}
LOCKED = "error: database is locked"    # several processes write at once: on a slow machine one may wait over a second


# ---- What is asked: the bytes, and a function that reads the reply and returns the title that it acknowledges --

def line(text, pattern, title=None):
    def read(client):
        reply = client.line()
        if title is None or reply != LOCKED:
            expect_match(reply, pattern, f"the reply to {text!r}")
            return title

    return text.encode() + b"\n", read


def message(method, target, status, members, title=None):
    def read(client):
        response = client.response()
        if title is None or response.status != 503:
            came = response.json
            expect((response.status, {name: came.get(name) for name in members}), (status, members),
                   f"the response to {method} {target} {title or ''}")
            return title

    return request(method, target, {"title": title} if title else None), read


def adding(speaks_http, title):
    if speaks_http:
        return message("POST", "/api/task", 201, {"title": title}, title)
    return line(f"add {title}", rf"added: \w{{8}} {title}", title)


def computing(speaks_http, n, fib):
    return message("GET", f"/fib/{n}", 200, {"n": n, "fib": fib}) if speaks_http else line(f"fib {n}", f"fib: {fib}")


def one_of_its_own(speaks_http, name, chosen):
    """A random request of the client of this name."""
    kind, word = chosen.choice(["add", "show", "fib"]), f"{name}-{chosen.randrange(16 ** 6):06x}"
    if kind == "add":
        return adding(speaks_http, word)
    if kind == "show" and not speaks_http:      # the HTTP response to this does not name the word
        return line(f"show {word}", f"error: .*{word}.*")
    return computing(speaks_http, *chosen.choice(list(FIBS.items())))


def long_ones(server, speaks_http):
    """Requests with long replies that are known at once. They are less than 4 KiB: a server receives them together."""
    if speaks_http:
        page = server.http("GET", "/").body
        return [(request("GET", "/"), lambda client: expect(client.response().body == page, True, "the page is right"))] * 60
    with server.connect() as client:
        client.send("help\nquit\n")
        text = client.rest()[:-len("bye:\n")] * 20
    return [(b"help\n" * 20, lambda client: expect(client.exactly(len(text)) == text, True, "the help is right"))] * 38


def whole(requests):
    return b"".join(data for data, _ in requests)


def read_replies(client, requests):
    """Returns the titles that were acknowledged."""
    return [title for title in [read(client) for _, read in requests] if title]


def expect_tasks(server, titles):
    expect(sorted(line[13:] for line in server.list()), sorted(titles), "the tasks: each that was acknowledged, once")


# ---- A client that reads late -------------------------------------------------------------------------------------------


def ask_until_it_reads_no_more(client, speaks_http, name, long):
    """Asks without reading the replies, until the server cannot send them and leaves the last burst of requests unread. A
    burst is an order, requests with long replies, and a computation. Returns what was asked."""
    asked, bursts = [], 0
    while bursts == 0 or reads_all(client):
        burst = [adding(speaks_http, f"{name}-{bursts:03}"), *long, computing(speaks_http, 25, FIBS[25])]
        client.send(whole(burst))
        asked, bursts = asked + burst, bursts + 1
        expect(bursts < 200, True, "the server stops reading from a client that reads nothing")
    return asked


# ---- Several at once, at random -----------------------------------------------------------------------------------------

def cut(data, chosen):
    """The data in pieces: a byte, a part of a request, or several requests."""
    while data:
        size = chosen.choice([1, chosen.randrange(1, 40), chosen.randrange(1, 400)])
        yield data[:size]
        data = data[size:]


def converse(client, requests, chosen):
    """Asks without waiting for the replies, and reads now and then. Returns the titles that were acknowledged."""
    unread, acknowledged = [], []
    while requests:
        size = chosen.randrange(1, 12)
        for piece in cut(whole(requests[:size]), chosen):
            client.send(piece)
        unread, requests = unread + requests[:size], requests[size:]
        if chosen.random() < 0.5 or not requests:
            acknowledged += read_replies(client, unread)
            unread = []
    return acknowledged


def visit(server, name, speaks_http, long):
    """One client, on one connection if the server keeps it open. It reads late if it is given long ones to ask. Returns the
    titles that were acknowledged."""
    chosen = random.Random(f"{SEED} {name}")
    requests = [one_of_its_own(speaks_http, name, chosen) for _ in range(60)]
    if speaks_http and not server.stage.keeps_http_open:
        acknowledged = []
        for one in requests[:20]:
            with server.connect() as client:
                acknowledged += converse(client, [one], chosen)
        return acknowledged
    with server.connect(reads_late=bool(long)) as client:
        if not long:
            return converse(client, requests, chosen)
        asked = ask_until_it_reads_no_more(client, speaks_http, name, long)
        for piece in cut(whole(requests), chosen):
            client.send(piece)
        return read_replies(client, asked + requests)


@check("crosstalk", row=True, computes=True)
def every_client_gets_its_own_replies_and_every_add_happens_once(server):
    visits = []
    for speaks_http, kind in (False, "line"), (True, "http"):
        long = long_ones(server, speaks_http)
        visits += [lambda name=f"{kind}{number}", speaks_http=speaks_http, long=() if number else long:
                   visit(server, name, speaks_http, long) for number in range(4)]
    try:
        expect_tasks(server, sum(together(*visits), []))
    except Failure as failure:
        raise Failure(f"CROSSTALK={SEED}: {failure}") from failure


# ---- Two clients, and the moments in which a server could mix them up ---------------------------------------------------


def protocols(server):
    """Those in which one connection carries many requests; True is HTTP."""
    return (False, True) if server.stage.keeps_http_open else (False,)


@check("crosstalk", ours=True, row=True, computes=True, only=serves_several)
def requests_behind_unread_replies_stay_with_their_client(server):
    """The server may receive them in the very turn in which it computes the last of those replies and can send it."""
    titles = []
    for speaks_http in protocols(server):
        long = long_ones(server, speaks_http)
        late, other = two_together(server, reads_late=True)
        for number in range(3):
            name = f"{speaks_http:d}{number}"
            asked, received = ask_until_it_reads_no_more(late, speaks_http, f"late{name}", long[number:]), bytearray()
            pids = server.pids()
            stand_still(pids)
            while readable(late.socket, 0.05):      # when the server continues, it can send again
                received += late.socket.recv(1 << 20)
            # It finds these requests then, too. They are as long as what the late client asks next.
            others = [adding(speaks_http, f"next{name}-000"), computing(speaks_http, 25, FIBS[25])]
            other.send(whole(others))
            go_on(pids)
            late.received = bytes(received)
            titles += read_replies(other, others) + read_replies(late, asked)
        late.close()
        other.close()
    expect_tasks(server, titles)


@check("crosstalk", ours=True, row=True, computes=True, only=serves_several)
def requests_during_a_computation_stay_with_their_client(server):
    titles = []
    for speaks_http in protocols(server):
        one, other = two_together(server)
        first = [computing(speaks_http, 44, 701408733), computing(speaks_http, 25, FIBS[25])]
        one.send(whole(first))
        one.wait_until_read()
        of_one, of_other = ([adding(speaks_http, f"{name}{speaks_http:d}-{place}") for place in range(3)]
                            for name in ("one", "two"))
        one.send(whole(of_one))
        other.send(whole(of_other))
        titles += read_replies(other, of_other) + read_replies(one, first + of_one)
        one.close()
        other.close()
    expect_tasks(server, titles)
