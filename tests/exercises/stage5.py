"""The checks of chapter 5's exercises: an event too many, a loop that tells when it was held up, a listener for all workers,
whose place a newcomer gets, and how many loops it wakes."""
import re
import time
from pathlib import Path

from exercises import exercise
from harness.checks import Failure, Gone, expect, wait_for
from harness.system import everybody_sleeps, processor_ticks, wakeups

FEW_TICKS = 30      # of the processor: a third of a second


@exercise("5-1", hint="epoll is level-triggered. After the change, which events is it still asked to report for a client whose "
                      "request sleeps? Then look at happened(): what does the loop do with such an event?")
def the_loop_spins_while_a_sleeper_types_on(program):
    """From the second line on, `top` shows the server at 100 % of a core, until the six seconds are over. The client's socket
    can be read, so epoll_wait returns at once. But `happened` reads nothing while a request sleeps, so the socket can still be
    read, and epoll_wait returns at once again: `strace -c` counts tens of thousands of calls, or more. When the sleep is over, the
    client has its turn, the line is read and answered, and the loop rests. So a level-triggered loop must ask only for what
    it is going to act on."""
    server = program.start()
    with server.connect() as client:
        client.send("sleep 6\n")
        client.wait_until_read()
        wait_for(lambda: everybody_sleeps(server.pid), "the server rested after `sleep 6`", program.patience)
        ticks = processor_ticks(server.pid)

        def busy():
            return processor_ticks(server.pid) - ticks > FEW_TICKS

        client.send("1\n")
        wait_for(lambda: busy() or client.has_reply(), "something happened after the client's second line", program.patience)
        if not busy():
            raise Failure("while a request sleeps, the loop still asks epoll for nothing: `sleep` still has that line")
        expect(client.lines(2), ["slept: 6", "fib: 1"], "the two answers")
        wait_for(lambda: everybody_sleeps(server.pid), "the server rested after both answers", program.patience)


@exercise("5-2", hint="A round begins when epoll_wait has returned, and now_ is that time. But take_turn sets now_ again after "
                      "a computation, so the end of the round needs another source for when it began.")
def the_loop_tells_when_it_was_held_up(program):
    """What the others wait for is a whole round: if two clients compute in it, there is one line with the time of both. A
    sleep makes no line, because the loop passes that time in epoll_wait. asyncio logs each callback that takes longer than
    its slow_callback_duration, and so names the culprit, too."""
    server = program.start()
    with server.connect() as client:
        def told(requests, answers):
            """How many times the log tells of a hold-up while these are answered."""
            before, start = len(held_up(server)), time.monotonic()
            client.send("".join(f"{each}\n" for each in requests))
            client.lines(answers)
            client.ask("1")     # then the round with those requests is over
            client.ask("1")
            seconds = held_up(server)[before:]
            took = time.monotonic() - start
            if any(each < 0.1 for each in seconds):
                raise Failure(f"the log tells of a round of {min(seconds)} s, which is not longer than 0.1 s")
            if sum(seconds) >= 1.1 * took:
                raise Failure(f"for {in_words(requests)} the log tells of {sum(seconds):.3f} s, but that took {took:.3f} s")
            return len(seconds)

        # On a busy machine a small request may take as long, but not each time.
        for requests, answers, times in (["fib 44"], 1, 1), (["fib 44"] * 2, 2, 2), (["sleep 0.5", "10", "count"], 3, 0):
            came = [told(requests, answers)]
            while times not in came and len(came) < 3:
                came.append(told(requests, answers))
            if times not in came:
                raise Failure(f"for {in_words(requests)} the log should tell of {number_of(times, 'long round')}, and it "
                              f"told of {number_of(came[-1], 'long round')}")


def in_words(requests):
    return ", ".join(f"`{each}`" for each in requests)


def number_of(number, things):
    return f"{number or 'no'} {things}{'' if number == 1 else 's'}"


def held_up(server):
    return [float(seconds) for seconds in re.findall(r"held up for ([0-9.]+) s\b", server.log())]


@exercise("5-3", hint="master.hpp declares two functions of the same name, and main.cpp calls the one that takes a list of "
                      "listeners. sockets.hpp has what makes a single one.")
def no_client_waits_for_a_stuck_worker_beside_an_idle_one(program):
    """Each worker that rests wakes for a new client. With two idle workers, strace usually shows that epoll_wait returns in
    both. One gets the client, and the other one's accept4 fails with EAGAIN: the thundering herd. Here it costs one wake-up
    for nothing with each client, and with sixty-four workers up to sixty-three. EPOLLEXCLUSIVE makes that fewer. A listening
    socket for each worker avoids it, at the price that clients wait for a stuck worker."""
    server = program.start("--workers", "2")
    workers = server.wait_for_workers(2)
    with server.connect() as stuck:
        stuck.send("fib 46\n")
        stuck.wait_until_read()
        for _ in range(30):
            expect(server.ask("10"), "fib: 55", "the answer to `10`")
            if stuck.has_reply():
                raise Failure("a client had to wait until the stuck worker went on, though the other worker was free")
        expect(sorted(server.workers()), sorted(workers), "the workers' process ids are the same as before")
        expect(stuck.line(), "fib: 1836311903", "the stuck worker's answer")
    expect(server.stop(), 0, "the exit status")


@exercise("5-4", hint="Begin where welcome() refuses a newcomer. A sleeper is in resting_, too. Newcomers are accepted before "
                      "anybody's turn, so a client's request may still lie unread in the kernel: recv(2) has a flag that looks "
                      "without taking.")
def a_newcomer_gets_the_place_of_the_longest_idle_client(program):
    """nginx does so, too: when its worker_connections run short, it closes kept-alive connections, those idle longest first.
    The price is that a closed client may have been about to ask. It sees an end instead of an answer, and must try again."""
    server = program.start("--max-clients", "3")

    def come(about="while another client is idle"):
        client = server.connect()
        answer = client.ask("6")
        if answer != "fib: 8":
            raise Failure(f"a newcomer hears `{answer}` {about}")
        return client

    def expect_closed(client, about):
        try:
            came = client.rest()
        except Gone:        # the connection was reset
            raise Failure(f"{about} was reset; it should see an ordinary end") from None
        except Failure:
            raise Failure(f"{about} kept its place") from None
        if came:
            raise Failure(f"{about} got {came.decode(errors='replace')!r} before the end; it should get nothing")

    first, second, third = come(), come(), come()
    expect(first.ask("10"), "fib: 55", "the first client's answer")
    fourth = come()
    expect_closed(second, "the client that was idle longest")
    fifth = come()
    expect_closed(third, "the client that was then idle longest")
    first.send("sleep 6\n")
    first.wait_until_read()
    sixth = come("while a client is idle and another one sleeps")
    expect_closed(fourth, "the idle client, beside a sleeper that was answered before it,")
    sixth.send("sleep 6\n")
    sixth.wait_until_read()
    fifth.send("fib 42\n" * 3)
    fifth.wait_until_read()
    expect(server.connect().rest(), b"error: server is full\n", "what a newcomer hears when no client is idle")
    expect(fifth.lines(3), ["fib: 267914296"] * 3, "the answers to the client that computes")
    for sleeper in first, sixth:
        expect(sleeper.line(), "slept: 6", "a sleeper's answer")
    for client in first, fifth, sixth:
        expect(client.ask("10"), "fib: 55", "an answer to a client that kept its place")
    expect(server.stop(), 0, "the exit status")


@exercise("5-5", hint="main.cpp makes the listeners, and run_loops in loops.hpp starts a loop for each. A flag of epoll_ctl(2) "
                      "does the second half. It goes with EPOLL_CTL_ADD alone: look for the places that change what the "
                      "listener is watched for. strace -f shows how many loops a newcomer wakes.")
def a_newcomer_wakes_one_of_the_loops_that_share_a_listener(program):
    """Without EPOLLEXCLUSIVE, the newcomer wakes every loop that rests. One of them gets it, and the others find nobody
    (EAGAIN): the thundering herd. (So does the first, when it asks for one more.) With EPOLLEXCLUSIVE, the kernel wakes one
    loop. You gain something else: a loop that computes is not waiting in epoll_wait, so no newcomer is dealt to it. You lose
    the even spread: the loop that is woken first takes all that are in the queue. The flag is not
    for workers: each watches an epoll instance instead of the socket, and there epoll_ctl refuses it (`Invalid argument`)."""
    server = program.start("--threads", "4")
    sockets = set(re.findall(rf":{server.port:04X} \S+ 0A .*? (\d+) \d \w{{16}} ", Path("/proc/net/tcp").read_text()))
    if len(sockets) != 1:
        raise Failure("the loops have several listening sockets")
    clients, before = [], wakeups(server.pid)
    for _ in range(50):
        clients.append(server.connect())
        clients[-1].wait_until_accepted()
        wait_for(lambda: everybody_sleeps(server.pid), "every loop rested again", program.patience)
    woken = (wakeups(server.pid) - before) / len(clients)
    program.notes.clear()       # fifty times the same
    if woken > 2:
        raise Failure("a newcomer wakes more than one of the loops")
    for client in clients:
        expect(client.ask("6"), "fib: 8")
    expect(server.ask("count"), "count: 50")
    expect(server.stop(), 0, "the exit status")
    expect(program.start("--workers", "2").ask("6"), "fib: 8", "the answer of a server with --workers 2")
