"""Many clients at once, some hostile: replies reach the right client, each gets a turn, and nothing delays a stop."""
import contextlib
import signal
import socket
import subprocess
import threading
import time
from collections import deque

from harness.checks import Failure, Gone, check, check_program, expect, expect_in_three_tries
from harness.stages import serves_several
from harness.system import readable


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
def pipelining_clients_get_their_own_replies(server):
    values = dict([(3, 2), (12, 144), (16, 987)][:server.stage.at_once(3)])
    clients = {number: server.connect() for number in values}
    for _ in range(30):
        for number, client in clients.items():
            client.socket.sendall(f"{number}\n".encode() * 40)
        for number, client in clients.items():
            expect(client.lines(40), [f"fib: {values[number]}"] * 40)


@check("crowded", only=serves_several, computes=True)
def a_flood_leaves_the_other_clients_their_turns(server):
    server.ask("add something")
    for requests in b"1\n" * 500, b"sleep 0\n" * 500, b"list\n" * 500, b"GET /fib/3 HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100:
        with flooded_by(server, requests):
            for _ in range(5):
                expect(server.ask("6"), "fib: 8")


@check("crowded", ours=True, computes=True,
       only=lambda stage: stage.fib_holds_others is not False and serves_several(stage))
def a_sleep_held_up_by_a_fib_still_lasts_its_full_time(server):
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


@check("crowded", ours=True, computes=True, only=lambda stage: stage.number in (4, 5) and not stage.listens_alone)
def a_loop_sends_an_answer_before_it_computes_the_next(server):
    computing = server.connect()
    first, second = server.connect(), server.connect()
    for client in computing, first, second:
        expect(client.ask("6"), "fib: 8")       # the loop has accepted each
    computing.send("fib 44\n")
    computing.wait_until_read()
    first.send("fib 30\n")
    second.send("fib 44\n")
    expect(first.line(), "fib: 832040")
    began = time.monotonic()
    expect(second.line(), "fib: 701408733")
    expect(time.monotonic() - began > 0.1, True, "the second is computed after the first is answered")


@check("crowded", "--idle-timeout", "0.4")
def empty_lines_do_not_reset_the_idle_timer(server):
    client = server.connect()
    began = time.monotonic()
    while time.monotonic() - began < 30:
        with contextlib.suppress(OSError):
            client.socket.sendall(b"\n")
        if readable(client.socket, 0.1):
            with contextlib.suppress(Gone):     # reset: the server closed before it read the last line
                expect(client.rest(), b"")
            return expect(client.received, b"")
    raise Failure("the server kept the connection for 30 s")


@check_program("crowded", computes=True)
def a_flood_does_not_delay_a_stop(program):
    server = program.start()
    with flooded_by(server, b"1\n" * 500):
        server.send_signal()
        expect(server.wait(), 0, "the exit status")


@check_program("crowded", computes=True)
def a_burst_of_new_clients_does_not_delay_a_stop(program):
    server = program.start()
    over = threading.Event()

    def arrive():
        """Connects without a pause, fifty clients at a time at most: under a sanitizer a stack for each client is slow."""
        clients = deque()
        while not over.is_set():
            with contextlib.suppress(OSError):
                clients.append(socket.create_connection(server.address[:2], timeout=10))
                clients[-1].sendall(b"1\n")
                clients[-1].shutdown(socket.SHUT_WR)
            if len(clients) > 50:
                with contextlib.suppress(OSError), clients.popleft() as first:
                    first.recv(100)
        for client in clients:
            client.close()

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
def two_stop_signals_at_once_count_as_one(program):
    """timeout(1) sends two: one to its child, and one to the child's group."""
    def seen():
        server = program.start()
        client = server.connect()
        client.send("sleep 0.5\n")
        client.wait_until_read()
        server.send_signal(signal.SIGTERM)
        server.send_signal(signal.SIGTERM)
        return client.rest(), server.wait()

    # Signals more than 50 ms apart are two stops: a busy machine may hold up the sender between them.
    expect_in_three_tries(seen, (b"slept: 0.5\n", 0), "the answer, and the exit status")


@check_program("crowded")
def a_stop_without_free_descriptors_is_clean(program):
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
def exits_with_its_status_even_if_it_cannot_write_why(program):
    for redirection in "2>&-", "2>/dev/full":
        finished = subprocess.run(["sh", "-c", f'exec "$@" {redirection}', "sh", program.path_of(program.stage), "--port", "x"],
                                  check=False, timeout=program.patience)
        expect(finished.returncode, 2, redirection)
