"""The checks of chapter 4's exercises: turns without a limit, a loop that rests a little, and a computation in slices."""
import os
import re

from exercises import exercise
from harness import expect, processor_ticks, wait_for, wakeups

FEW_TICKS = 50      # of the processor: half a second


@exercise("4-1")
def who_asks_for_little_is_answered_after_all_that_another_has_asked_for(program):
    server = program.start("--verbose")
    with server.connect() as many, server.connect() as one:
        for client in many, one:
            client.wait_until_accepted()
        many.send("fib 42\n" * 5)
        many.wait_until_read()
        expect(one.ask("1"), "fib: 1")
        expect(many.lines(5), ["fib: 267914296"] * 5)
    wait_for(lambda: len(answered(server)) == 6, "the log told of six answers", program.patience)
    expect(answered(server), ["fib 42"] * 5 + ["1"], "what was answered, in this order")


def answered(server):
    """The requests, in the order of their answers, as the log of a server with --verbose tells it."""
    return re.findall(r"\[INFO\] 200 (.*) \(127\.0\.0\.1\) ", server.log())


@exercise("4-2")
def the_loop_rests_a_little_where_there_is_nothing_to_do(program):
    server = program.start()
    with server.connect() as client:
        client.wait_until_accepted()
        sleeps, ticks = wakeups(server.pid), processor_ticks(server.pid)
        wait_for(lambda: wakeups(server.pid) > sleeps + 500, "it went to sleep five hundred times", program.patience)
        expect(processor_ticks(server.pid) - ticks < FEW_TICKS, True, "it rests more than it looks")
        # Each of these has a turn of its own. A machine that has other things to do gives some sleep between them.
        expect(min(sleeps_during_turns(client, 600) for _ in range(5)) < 300, True,
               "it does not sleep between two turns of a client who has more to be done")
    expect(server.stop(), 0, "the exit status")


def sleeps_during_turns(client, number):
    """How often the server sleeps while it answers so many requests that come at once."""
    client.send("count\n")
    client.line()
    before = wakeups(client.server.pid)
    client.send("count\n" * number)
    client.lines(number)
    return wakeups(client.server.pid) - before


@exercise("4-3")
def one_thread_computes_for_several_clients_at_once(program):
    for wait in "spin", "poll":
        server = program.start("--wait", wait)
        with server.connect() as large, server.connect() as small, server.connect() as leaving:
            for client, question in (large, "fib 43\n"), (leaving, "fib 42\n"):
                client.send(question)
                client.wait_until_read()
            for question, answer in ("1", "fib: 1"), ("fib 30", "fib: 832040"), ("sleep 0.01", "slept: 0.01"):
                expect(small.ask(question), answer)
            leaving.reset()
            expect(small.ask("fib 31"), "fib: 1346269")
            expect(large.has_reply(), False, f"with --wait {wait}, the large number is there before the small ones")
            expect(len(os.listdir(f"/proc/{server.pid}/task")), 1, "threads of the server")
            expect(large.line(), "fib: 433494437")
            large.send("fib 36\nfib 37\n")
            large.wait_until_read()
            server.send_signal()
            expect(large.rest(), b"fib: 14930352\nfib: 24157817\n", "what is in progress is still answered")
        expect(server.wait(), 0, "the exit status")
