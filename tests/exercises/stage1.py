"""The checks of chapter 1's exercises: the queue, three flaws of the naive server, and a command of one's own."""
import contextlib
import re
import signal
import socket
import subprocess

from exercises import ROOT, build, exercise
from harness.checks import Failure, Gone, wait_for
from harness.server import Server
from harness.system import endpoint, place_of

ESTABLISHED, SYN_SENT = 1, 2        # as /proc/net/tcp numbers the states of a connection


@exercise("1-1", hint="`listen_apart` has the only call of listen(2). To look: build and start the server, and let terminal A "
                      "ask something and stay. Type `nc -d localhost 9999 &` five times in terminal B, and ss in terminal C. "
                      "Afterwards `kill $(jobs -p)` in terminal B ends the five.")
def the_kernel_connects_some_of_those_who_wait(program):
    """Two of the five are connected. Linux takes the queue for full only when it holds *more* connections than listen(2) asked
    for, so there is always room for one more. ss shows the other three as SYN-SENT. The kernel ignores their connection
    requests, and their own side sends them again, first after a second. Nobody is refused: a place that becomes free goes to
    whichever of them asks next."""
    server = program.start()
    asked_for = queue_of(server)
    if asked_for not in (None, 1):
        raise Failure(f"the queue of the listening socket is {asked_for} long, as `ss -Htln` shows it in its third column")
    served = server.connect()
    served.wait_until_accepted()
    waiting = [socket.socket(server.family) for _ in range(5)]

    def states():
        ends = [endpoint(one.getsockname(), server.address) for one in waiting]
        return [end.state for end in ends if end]

    try:
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(server.address)
        wait_for(lambda: states().count(ESTABLISHED) >= 2, "the kernel connected some of the five", program.patience)
        if served.ask("1") != "fib: 1":     # a request that was sent after all of them
            raise Failure("the client that is served gets no answer")
        if states().count(ESTABLISHED) == 5:
            raise Failure("the kernel has connected all five, so the queue is longer than it should be")
        if sorted(states()) != [ESTABLISHED] * 2 + [SYN_SENT] * 3:
            raise Failure("the kernel has connected another number of the five than with a queue of the right length")
    finally:
        for one in waiting:
            one.close()


def queue_of(server):
    """How many connections listen(2) was asked to keep; None if ss(8) cannot tell."""
    tool = place_of("ss")
    if not tool:
        return None
    shown = subprocess.run([tool, "-Htln", f"sport = :{server.port}"], check=False, capture_output=True, text=True).stdout
    found = re.match(r"LISTEN\s+\d+\s+([1-9]\d*)\s", shown)   # without sock_diag(7) it shows a zero
    return int(found[1]) if found else None


def naive(program):
    """The naive server, as the reader has left it. Its port is 9999."""
    build("naive1")
    program.foreign = "naive"       # it says nothing when it is ready
    return Server(program, program.stage, [str(ROOT / "stage1_sync/naive")], 9999)


def ended(server):
    """What has become of the server, in words."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        status = server.process.wait(2)
        return f"the server has ended by {signal.Signals(-status).name}" if status < 0 else "the server has ended"
    return "the server closed the connection"


def connected(server, about):
    try:
        return server.connect()
    except OSError:
        raise Failure(f"{about}: {ended(server)}") from None


def expect_reply(server, about, hear, wanted):
    """hear() returns what came, as one text."""
    try:
        came = hear()
    except Gone:
        raise Failure(f"{about}: no answer, {ended(server)}") from None
    except Failure:
        raise Failure(f"{about}: no answer came") from None
    if came != wanted:
        raise Failure(f"{about}: the answer should be {wanted}, and it is {came or 'missing'}")


def expect_answers(server, about, requests, wanted):
    """Sends these lines at once, and ends the client's side. `wanted` are the answers, with a comma between two."""
    with connected(server, about) as client:
        client.send(requests)
        client.half_close()
        expect_reply(server, about, lambda: ", ".join(client.rest().decode(errors="replace").splitlines()), wanted)


@exercise("1-2", hint="`std::stoi` has two ways to fail, and its manual names the exception of each. Look for a class that "
                      "both are derived from (its header is `<stdexcept>`), and for the smallest place where you can catch "
                      "it. A number that only keeps the server busy does not end it, so look for another.")
def nonsense_is_an_error_and_not_the_end(program):
    """A huge number still ends it, such as 10000000: `fib` calls itself so deep that the stack overflows. The kernel then ends
    the process by SIGSEGV, and no `catch` can help. Larger ones that do not fit an int are no danger, since std::stoi throws.
    A smaller one, such as 1000, only keeps it busy for ever. The strong server limits what it computes (`--max-fib`)."""
    server = naive(program)
    for nonsense in "abc", "99999999999", "-":
        with connected(server, f"`{nonsense}`") as client:
            client.send(f"{nonsense}\n")
            expect_reply(server, f"`{nonsense}`", lambda client=client: re.sub("^error.*", "error…", client.line()),
                         "error…")
    expect_answers(server, "a `10` after the nonsense", "10\n", "55")


@exercise("1-3", hint="The call that raises the signal has an argument for flags, and this server sets none. Its manual page "
                      "lists them.")
def a_client_that_leaves_does_not_end_the_server(program):
    """`send` now fails with EPIPE, and no signal comes. This server does not look at that. It learns from the next recv(2) that
    the client has gone: that one returns 0, because a client that closes ends its side. The strong server ignores the signal
    in the whole process instead, so that no call can be forgotten."""
    server = naive(program)
    with server.connect() as leaving:
        leaving.send("44\n")
        leaving.wait_until_read()
        leaving.send("1\n")
    expect_answers(server, "the next client", "10\n", "55")


@exercise("1-4", hint="A string that outlives each call of `answer` can keep the rest. Where must it live, so that the next "
                      "client does not find it? And one recv(2) may bring several lines.")
def a_request_is_a_line_however_it_comes(program):
    """As much as there is: a client that never ends its line makes the server keep all of it, until memory runs out. So a
    server needs a limit. The strong one takes at most 8,192 bytes for a line (`line_limit`), and answers a longer one with an
    error."""
    server = naive(program)
    expect_answers(server, "`10`, `20` and `1` in one segment", "10\n20\n1\n", "55, 6765, 1")
    with connected(server, "the next client") as client:
        client.send_in_pieces(b"1", 1)
        client.send("0\n2")
        expect_reply(server, "a `10` in two segments", client.line, "55")
        client.send("0\n")
        expect_reply(server, "a `20` that shares its first segment with another line", client.line, "6765")


@exercise("1-5", hint="Take a command that has two arguments as a model, and add a row to the table of commands. There is a "
                      "function that reads a whole number and refuses anything else.")
def a_command_of_ones_own(program):
    """No other line of the six servers had to change: the session says what is to be done, and knows no technique. HTTP has no
    such command yet. `common/protocol/api.cpp` is the place for it."""
    server = program.start()
    with server.connect() as client:
        for question, wanted in ("gcd 12 18", "gcd: 6"), ("gcd 18 12", "gcd: 6"), ("gcd 7 13", "gcd: 1"), ("gcd 5 5", "gcd: 5"):
            came = client.ask(question)
            if came != wanted:
                raise Failure(f"`{question}` gets the reply `{came}`, and not `{wanted}`")
        for question in "gcd", "gcd 12", "gcd 12 x", "gcd 0 5", "gcd 12 18 24":
            came = client.ask(question)
            if not came.startswith("error: "):
                raise Failure(f"`{question}` gets the reply `{came}`, and not an error")
        first = client.ask("help")
        number = re.fullmatch(r"commands: (\d+)", first)
        if not number or not any(line.startswith("gcd ") for line in client.lines(int(number[1]))):
            raise Failure("`help` does not name gcd")
