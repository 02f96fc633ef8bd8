"""The checks of chapter 5's exercises: an event too many, a loop that tells when it was held up, a listener for all workers,
and whose place a newcomer gets."""
import re
import time

from exercises import exercise
from harness import Failure, everybody_sleeps, expect, processor_ticks, wait_for

FEW_TICKS = 30      # of the processor: a third of a second


@exercise("5-1")
def the_loop_spins_while_a_sleeper_types_on(program):
    server = program.start()
    with server.connect() as client:
        client.send("sleep 6\n")
        client.wait_until_read()
        wait_for(lambda: everybody_sleeps(server.pid), "the loop rested while a request sleeps", program.patience)
        ticks = processor_ticks(server.pid)

        def busy():
            return processor_ticks(server.pid) - ticks > FEW_TICKS

        client.send("1\n")
        wait_for(lambda: busy() or client.has_reply(), "the loop was busy, or the sleep over", program.patience)
        if not busy():
            raise Failure("the loop rested until the sleep was over")
        expect(client.lines(2), ["slept: 6", "fib: 1"])
        wait_for(lambda: everybody_sleeps(server.pid), "the loop rested again", program.patience)


@exercise("5-2")
def the_loop_tells_when_it_was_held_up(program):
    server = program.start()
    with server.connect() as client:
        def told(requests, answers):
            """The seconds that the log tells of, while these are answered."""
            before, start = len(held_up(server)), time.monotonic()
            client.send(requests)
            client.lines(answers)
            client.ask("1")     # the round before this one's has come to its end
            client.ask("1")
            seconds = held_up(server)[before:]
            took = time.monotonic() - start
            expect(all(0.1 <= each for each in seconds) and sum(seconds) < 1.1 * took, True,
                   f"{seconds}, seconds of rounds that took longer than 0.1 s, were spent on {requests!r}, in {took:.3f} s")
            return len(seconds)

        # Where the machine has other things to do, a small request may take so long as well, but not each time.
        for requests, answers, times in ("fib 44\n", 1, 1), ("fib 44\nfib 44\n", 2, 2), ("sleep 0.5\n10\ncount\n", 3, 0):
            came = [told(requests, answers)]
            while times not in came and len(came) < 3:
                came.append(told(requests, answers))
            expect(times in came, True, f"the loop tells {times} times that {requests!r} held it up; it told {came} times")


def held_up(server):
    return [float(seconds) for seconds in re.findall(r"held up for ([0-9.]+) s\b", server.log())]


@exercise("5-3")
def nobody_waits_for_a_stuck_worker_while_another_has_nothing_to_do(program):
    server = program.start("--workers", "2")
    workers = server.wait_for_workers(2)
    with server.connect() as stuck:
        stuck.send("fib 46\n")
        stuck.wait_until_read()
        for number in range(30):
            expect(server.ask("10"), "fib: 55")
            expect(stuck.has_reply(), False, f"client {number + 1} of 30 is answered only when the stuck worker goes on")
        expect(sorted(server.workers()), sorted(workers), "the workers are those that there were")
        expect(stuck.line(), "fib: 1836311903")
    expect(server.stop(), 0, "the exit status")


@exercise("5-4")
def a_newcomer_gets_the_place_of_who_has_been_idle_longest(program):
    server = program.start("--max-clients", "3")

    def come():
        client = server.connect()
        expect(client.ask("6"), "fib: 8", "a newcomer's answer")
        return client

    first, second, third = come(), come(), come()
    expect(first.ask("10"), "fib: 55")
    fourth = come()
    expect(second.rest(), b"", "what comes to the one who has been idle longest, before the end")
    fifth = come()
    expect(third.rest(), b"", "what comes to the next one")
    first.send("sleep 6\n")
    first.wait_until_read()
    sixth = come()
    expect(fourth.rest(), b"", "what comes to the one who is idle, while another one's older request sleeps")
    sixth.send("sleep 6\n")
    sixth.wait_until_read()
    fifth.send("fib 42\n" * 3)
    fifth.wait_until_read()
    expect(server.connect().rest(), b"error: server is full\n", "what a newcomer hears where nobody is idle")
    expect(fifth.lines(3), ["fib: 267914296"] * 3)
    for sleeper in first, sixth:
        expect(sleeper.line(), "slept: 6")
    for client in first, fifth, sixth:
        expect(client.ask("10"), "fib: 55")
    expect(server.stop(), 0, "the exit status")
