"""The last replies: whether the server or the client's own `quit` ends a conversation, every reply is delivered first.

The client has a small receive buffer, asks for more than it holds, and reads nothing. After the end it sends an extra line,
which a socket that is already closed would answer with a reset. Then it reads.
"""
import contextlib
import os
import signal
import time

from harness.checks import Fault, check, check_program, expect, expect_lasts, wait_for
from harness.client import request
from harness.process import notices, stop_now
from harness.stages import has_workers
from harness.system import go_on, processor_ticks, stand_still

LATE = "6\n"        # the extra line


def help_of(server):
    with server.connect() as client:
        client.send("help\nquit\n")
        return client.rest()[:-len("bye:\n")]


def one_that_has_read_nothing(server, requests):
    """A client whose requests the server has all read, and which has read no reply."""
    client = server.connect(reads_late=True)
    client.send(requests)
    client.wait_until_read()
    return client


def send_late(client):
    with contextlib.suppress(ConnectionError):
        client.socket.sendall(LATE.encode())


def expect_all_of(client, replies):
    """All the replies come, and then the end. The extra line may have come in time or not."""
    send_late(client)
    came = client.rest()
    expect((came[:len(replies)] == replies, came[len(replies):] in (b"", b"fib: 8\n")), (True, True),
           f"{len(replies)} bytes of replies come, and then the end; {len(came)} bytes came")


@check_program("stop", row=True,
               fault=Fault("a stop while a client has not read its replies, and goes on sending",
                           "gets all of them", "see a clean end; exit status 0"))
def a_stop_delivers_replies_that_are_read_late(program):
    for last_words, goodbye in ("", b""), ("quit\n", b"bye:\n"):
        server = program.start()
        replies = help_of(server) * 400 + goodbye
        client = one_that_has_read_nothing(server, "help\n" * 400 + last_words)
        stop_now(server)
        expect_all_of(client, replies)
        expect(server.wait(), 0, "the exit status")


@check_program("stop")
def a_stop_delivers_responses_that_are_read_late(program):
    server = program.start()
    page, number = server.http("GET", "/").body, 12 if program.stage.keeps_http_open else 1
    client = one_that_has_read_nothing(server, request("GET", "/") * number)
    stop_now(server)
    send_late(client)
    for _ in range(number):
        expect(client.response().body == page, True, "the page is right")
    expect(client.rest()[:13] in (b"", b"HTTP/1.1 501 "), True, "the end, or the answer to the extra line")
    expect(server.wait(), 0, "the exit status")


@check_program("stop", fault=Fault("a stop while a client does not read its replies at all", "is cut off after ten seconds",
                                   "see a clean end; exit status 1"))
def unread_replies_delay_a_stop_for_ten_seconds(program):
    """The server stands still when the stop arrives, so the time that a loop took at the start of its round is an old one."""
    server = program.start()
    client = one_that_has_read_nothing(server, "help\n" * 400)
    family = server.pids()
    stand_still(family)
    time.sleep(0.2)
    server.send_signal()
    go_on(family)
    expect_lasts(10, lambda: expect(server.wait(), 1, "the exit status"))
    client.close()


@check_program("stop", only=lambda stage: stage.rests and not stage.workers)
def waiting_for_a_late_reader_takes_no_processor_time(program):
    server = program.start()
    replies = help_of(server) * 60      # as many as the server's socket buffer holds
    server.wait_until_all_have_left()
    client = one_that_has_read_nothing(server, "help\n" * 60)
    family = server.pids()
    stop_now(server)
    began, before = time.monotonic(), sum(map(processor_ticks, family))
    time.sleep(1)       # the server should rest meanwhile
    used, seconds = sum(map(processor_ticks, family)) - before, time.monotonic() - began
    expect(used < 0.2 * seconds * os.sysconf("SC_CLK_TCK"), True, f"it rests: it used {used} ticks in {seconds:.1f} s")
    expect_all_of(client, replies)
    expect(server.wait(), 0, "the exit status")


@check_program("stop", fault=Fault("a reset by a client that has not read its replies, during a stop", "gone",
                                   "see a clean end; exit status 0"))
def a_stop_does_not_wait_for_a_client_that_resets(program):
    server = program.start()
    client = one_that_has_read_nothing(server, "help\n" * 400)
    stop_now(server)
    client.reset()
    expect(server.wait(patience=9), 0, "the exit status")


@check_program("workers", only=has_workers,
               fault=Fault("a renewal while a client has not read its replies, and goes on sending", "gets all of them",
                           "are served by the new workers"))
def a_worker_being_replaced_delivers_replies_that_are_read_late(program):
    server = program.start()
    old = server.wait_for_workers()
    replies = help_of(server) * 400
    client = one_that_has_read_nothing(server, "help\n" * 400)
    notices(server, signal.SIGHUP)
    wait_for(lambda: len(set(server.workers()) - set(old)) == len(old), "the new workers were there")
    time.sleep(1)       # long enough for a worker that does not wait to exit
    expect_all_of(client, replies)
    server.wait_for_workers(without=old)


@check("streams")
def quit_delivers_all_replies_to_a_late_reader(server):
    replies = help_of(server) * 400 + b"bye:\n"
    client = one_that_has_read_nothing(server, "help\n" * 400 + "quit\n")
    time.sleep(1.5)     # longer than a client that has received everything may take to hang up
    expect_all_of(client, replies)


@check("streams")
def the_last_response_reaches_a_late_reader_whole(server):
    page, number = server.http("GET", "/").body, 12 if server.stage.keeps_http_open else 1
    client = one_that_has_read_nothing(server, request("GET", "/") * (number - 1) +
                                       request("GET", "/", headers={"Connection": "close"}))
    time.sleep(1.5)     # as above
    send_late(client)
    for _ in range(number):
        expect(client.response().body == page, True, "the page is right")
    expect(client.rest(), b"")
