"""The checks of chapter 1's exercises: the queue, three flaws of the naive server, and a command of one's own."""
import socket

from exercises import ROOT, build, exercise
from harness import Server, endpoint, expect, expect_match, wait_for

SYN_SENT, ESTABLISHED = 2, 1


@exercise("1-1")
def a_queue_of_one_holds_two_and_the_others_are_not_connected(program):
    """Linux calls a queue full when there is more in it than was asked for, so that one of 1 holds two."""
    server = program.start()
    served = server.connect()
    served.wait_until_accepted()
    waiting = [socket.socket(server.family) for _ in range(5)]

    def states():
        ends = [endpoint(one.family, one.getsockname(), server.address) for one in waiting]
        return sorted(end.state for end in ends if end)

    try:
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(server.address)
        wait_for(lambda: states().count(ESTABLISHED) >= 2, "two were connected", program.patience)
        expect(served.ask("1"), "fib: 1", "what comes behind all of them on the network, so that their fate is settled")
        expect(states(), [ESTABLISHED] * 2 + [SYN_SENT] * 3, "the states of five clients behind one who is served")
    finally:
        for one in waiting:
            one.close()


def naive(program):
    """The naive server, as the reader has left it. Its port is 9999."""
    build("naive")
    program.foreign = "naive"       # it says nothing when it is ready
    return Server(program, program.stage, [str(ROOT / "stage1_sync/naive")], 9999)


def expect_answers(server, requests, answers):
    with server.connect() as client:
        client.send(requests)
        client.half_close()
        expect(client.rest(), answers, f"the answer to {requests}")


@exercise("1-2")
def what_is_no_number_is_an_error_and_not_the_end(program):
    server = naive(program)
    for nonsense in "abc\n", "99999999999\n", "-\n":
        with server.connect() as client:
            expect_match(client.ask(nonsense.strip()), "error.*", f"the answer to {nonsense}")
    expect_answers(server, b"10\n", b"55\n")


@exercise("1-3")
def a_client_who_leaves_ends_nobody_but_himself(program):
    server = naive(program)
    with server.connect() as leaving:
        leaving.send("38\n")
        leaving.wait_until_read()
        leaving.send("1\n")
    expect_answers(server, b"10\n", b"55\n")


@exercise("1-4")
def a_request_is_a_line_however_it_comes(program):
    server = naive(program)
    expect_answers(server, b"10\n20\n1\n", b"55\n6765\n1\n")
    with server.connect() as client:
        client.send_in_pieces(b"1", 1)
        client.send("0\n2")
        expect(client.line(), "55")
        client.send("0\n")
        expect(client.line(), "6765")


@exercise("1-5")
def a_command_of_ones_own(program):
    server = program.start()
    with server.connect() as client:
        for question, answer in ("gcd 12 18", "gcd: 6"), ("gcd 18 12", "gcd: 6"), ("gcd 7 13", "gcd: 1"), ("gcd 5 5", "gcd: 5"):
            expect(client.ask(question), answer, question)
        for question in "gcd", "gcd 12", "gcd 12 x", "gcd 0 5", "gcd 12 18 24":
            expect_match(client.ask(question), "error: .*", question)
        number = int(expect_match(client.ask("help"), r"commands: (\d+)")[1])
        expect(any(line.startswith("gcd ") for line in client.lines(number)), True, "help names it")
