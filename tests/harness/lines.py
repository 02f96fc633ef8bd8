"""Helpers for checks that speak the line protocol."""
from harness.checks import expect, expect_each, expect_match, together

SHORT_ID = r"[0-9a-f]{8}"


def expect_reply(client, request, reply):
    expect(client.ask(request), reply, f"the reply to {request!r}")


def expect_error(client, request):
    expect_match(client.ask(request), "error: .+", f"the reply to {request!r}")


def expect_errors(client, requests):
    """Each of the requests gets an error, and the connection stays open."""
    expect_each([(request,) for request in requests], lambda request: expect_error(client, request))
    expect_reply(client, "6", "fib: 8")


def add(client, title):
    """Adds a task; returns the short id that the reply names."""
    return expect_match(client.ask(f"add {title}"), f"added: ({SHORT_ID}) {title}").group(1)


def show(client, name):
    expect(client.ask(f"show {name}"), "task: 4")
    return client.lines(4)


def many_tasks(server):
    """Adds tasks until the reply to `list` is longer than 64 KiB; returns that reply."""
    with server.connect() as client:
        together(lambda: client.send("".join(f"add {'x' * 190} {number}\n" for number in range(400))),
                 lambda: client.lines(400))
        client.send("list\n")
        reply = "".join(f"{line}\n" for line in client.lines(401)).encode()
    expect(len(reply) > 1 << 16, True, "the list is longer than 64 KiB")
    return reply
