"""Many at once, and some of them hostile: replies reach those who asked, everybody gets a turn, and a stop is a stop."""
import contextlib
import signal
import socket
import subprocess
import threading
import time

from harness import Failure, Gone, check, check_program, expect, expect_in_three_tries, readable
from suite_limits import serves_several


@contextlib.contextmanager
def flooded_by(server, requests):
    """While this lasts, one client sends these requests without a pause, and reads the replies."""
    flooder = server.connect()
    over = threading.Event()

    def push():
        with contextlib.suppress(OSError):
            while not over.is_set():
                flooder.socket.sendall(requests)

    def drain():
        with contextlib.suppress(OSError):
            while flooder.socket.recv(65536):
                pass

    threads = [threading.Thread(target=work) for work in (push, drain)]
    flooder.socket.sendall(requests)
    flooder.wait_until_read()
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        with contextlib.suppress(OSError):
            flooder.socket.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()


@check("crowded", only=serves_several, row=True)
def who_pipelines_beside_others_gets_his_own_replies(server):
    values = dict([(3, 2), (12, 144), (16, 987)][:server.stage.at_once(3)])
    clients = {number: server.connect() for number in values}
    for _ in range(30):
        for number, client in clients.items():
            client.socket.sendall(f"{number}\n".encode() * 40)
        for number, client in clients.items():
            expect(client.lines(40), [f"fib: {values[number]}"] * 40)


@check("crowded", only=serves_several, computes=True)
def who_floods_leaves_the_others_their_turns(server):
    server.ask("add something")
    for requests in b"1\n" * 500, b"sleep 0\n" * 500, b"list\n" * 500, b"GET /fib/3 HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100:
        with flooded_by(server, requests):
            for _ in range(5):
                expect(server.ask("6"), "fib: 8")


@check("crowded", ours=True, computes=True,
       only=lambda stage: stage.fib_holds_others is not False and serves_several(stage))
def who_was_held_up_by_a_fib_still_sleeps_as_long_as_he_asked(server):
    computing = server.connect()
    expect(computing.ask("6"), "fib: 8")
    sleeper = server.connect_beside(computing)
    computing.send("fib 44\n")
    computing.wait_until_read()
    sleeper.send("sleep 1\n")
    expect(computing.line(), "fib: 701408733")
    began = time.monotonic()
    expect(sleeper.line(), "slept: 1")
    expect(time.monotonic() - began > 0.75, True, "most of the second comes after the fib")


@check("crowded", ours=True, computes=True, only=lambda stage: stage.number in (4, 5) and not stage.workers)
def a_loop_sends_an_answer_before_it_computes_the_next(server):
    computing = server.connect()
    first, second = server.connect(), server.connect()
    for client in computing, first, second:
        expect(client.ask("6"), "fib: 8")       # each is known to the loop
    computing.send("fib 44\n")
    computing.wait_until_read()
    first.send("fib 30\n")
    second.send("fib 44\n")
    expect(first.line(), "fib: 832040")
    began = time.monotonic()
    expect(second.line(), "fib: 701408733")
    expect(time.monotonic() - began > 0.1, True, "the second is computed after the first was told")


@check("crowded", "--idle-timeout", "0.4")
def empty_lines_buy_no_time(server):
    client = server.connect()
    began = time.monotonic()
    while time.monotonic() - began < 30:
        with contextlib.suppress(OSError):
            client.socket.sendall(b"\n")
        if readable(client.socket, 0.1):
            with contextlib.suppress(Gone):     # reset: his last line was not waited for
                expect(client.rest(), b"")
            return expect(client.received, b"")
    raise Failure("not let go in 30 s")


@check_program("crowded", computes=True)
def a_flood_does_not_hold_up_a_stop(program):
    server = program.start()
    with flooded_by(server, b"1\n" * 500):
        server.send_signal()
        expect(server.wait(), 0, "the exit status")


@check_program("crowded", computes=True)
def a_storm_of_arrivals_does_not_hold_up_a_stop(program):
    server = program.start()
    over = threading.Event()

    def arrive():
        while not over.is_set():
            with contextlib.suppress(OSError), socket.create_connection(server.address[:2], timeout=10) as client:
                client.sendall(b"1\n")

    threads = [threading.Thread(target=arrive) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        expect(server.ask("6"), "fib: 8")
        server.send_signal()
        expect(server.wait(), 0, "the exit status")
    finally:
        over.set()
        for thread in threads:
            thread.join()


@check_program("crowded")
def a_stop_that_arrives_twice_at_once_is_one(program):
    """As timeout(1) sends it: to its child, and then to the child's group."""
    def seen():
        server = program.start()
        client = server.connect()
        client.send("sleep 0.5\n")
        client.wait_until_read()
        server.send_signal(signal.SIGTERM)
        server.send_signal(signal.SIGTERM)
        return client.rest(), server.wait()

    # A sender who is held up between the two for more than 50 ms asks twice.
    expect_in_three_tries(seen, (b"slept: 0.5\n", 0), "the answer, and the exit status")


@check_program("crowded")
def a_stop_while_descriptors_are_short_is_a_clean_one(program):
    server = program.start(under=["sh", "-c", 'ulimit -n 24; exec "$@"', "sh"])
    sleeper = server.connect()
    sleeper.send("sleep 0.5\n")
    sleeper.wait_until_read()
    others = [server.connect() for _ in range(30)]
    server.send_signal()
    expect(sleeper.rest(), b"slept: 0.5\n")
    expect(server.wait(), 0, "the exit status")
    for other in others:
        other.close()


@check_program("start")
def says_its_status_even_where_it_can_say_nothing_else(program):
    for redirection in "2>&-", "2>/dev/full":
        finished = subprocess.run(["sh", "-c", f'exec "$@" {redirection}', "sh", program.path_of(program.stage), "--port", "x"],
                                  check=False, timeout=program.patience)
        expect(finished.returncode, 2, redirection)
