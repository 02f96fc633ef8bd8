"""The checks of chapter 4's exercises: turns without a limit, a loop that rests a little, and a computation in slices."""
import os
import re

from exercises import exercise
from harness.checks import Failure, wait_for
from harness.system import go_on, processor_ticks, stand_still, wakeups

FEW_TICKS = 50      # of the processor: half a second


@exercise("4-1", hint="Play a turn by hand: follow the loop in `take_turn` for a client whose five requests have arrived. Which "
                      "statement sets `worked`, and which of the four cases ask for it before they go on?")
def a_small_request_waits_for_all_requests_of_another_client(program):
    """With the line, the other client is answered after the first of the five: a turn ends after one request that takes
    time, and then the others have their turns. Without it, the other client is answered after all five. They have arrived
    together, so the session always has another request ready, and nothing but this line ends the turn before the last one.
    The work is the same. With the line the small request waits for less of it, and the large ones lose next to nothing."""
    answered_before = 0
    while answered_before == 0:     # the server was stopped between the two clients' turns
        answered_before = answers_before_the_other_client(program)
    program.notes.clear()           # they tell the number
    if answered_before != 5:
        raise Failure("the server still hands out its turns as before")


def answers_before_the_other_client(program):
    """How many of one client's five requests are answered before another client's, which arrives when they do."""
    server = program.start()
    with server.connect() as many, server.connect() as one:
        for client in many, one:
            client.wait_until_accepted()
        stand_still([server.pid])
        many.send("fib 42\n" * 5)
        one.send("count\n")
        go_on([server.pid])
        if many.lines(5) != ["fib: 267914296"] * 5:
            raise Failure("fib 42 has a wrong answer")
        answered = int(re.fullmatch(r"count: (\d+)", one.line())[1])
    server.stop()       # or else it spins beside the next one
    return answered


@exercise("4-2", hint="`wait` in `spin.cpp` gets `until`, the moment at which the next client must have a turn. Look up what "
                      "`next_round` in `sweep.cpp` sets a client's `until` to.")
def the_loop_rests_a_little_where_there_is_nothing_to_do(program):
    """`top` says S, for sleeping, and a few per cent of a processor: a thousand short rounds a second are not nothing. A
    client pays up to a millisecond for each request that finds the server asleep. So a client that asks again as soon as it
    is answered gets fewer than a thousand answers a second. Before, it got more than ten times as many."""
    server = program.start()
    with server.connect() as client:
        client.wait_until_accepted()
        sleeps, ticks = wakeups(server.pid), processor_ticks(server.pid)
        try:
            wait_for(lambda: wakeups(server.pid) > sleeps + 500, "it had slept often", program.patience)
        except Failure:
            rests = "hardly ever sleeps" if wakeups(server.pid) > sleeps + 20 else "does not sleep"
            raise Failure(f"the server {rests} while nobody asks anything") from None
        if processor_ticks(server.pid) - ticks >= FEW_TICKS:
            raise Failure("the server sleeps in between, but it is awake for most of the time, and nobody asks anything")
        # Each of these requests takes a turn of its own. On a busy machine the server may get some sleep between them.
        least = min(sleeps_during_turns(client, 600) for _ in range(5))
        if least >= 300:
            program.notes.clear()       # thousands of answers
            raise Failure("the server also sleeps between two turns of a client that has more requests: "
                          f"{least} times during 600 requests")
    expect_exit_without_fault(server.stop())


def expect_exit_without_fault(status):
    if status != 0:
        raise Failure(f"the server's exit status at a stop is {status}, and should be 0")


def sleeps_during_turns(client, number):
    """How often the server sleeps while it answers so many requests that come at once."""
    client.send("count\n")
    client.line()
    before = wakeups(client.server.pid)
    client.send("count\n" * number)
    client.lines(number)
    return wakeups(client.server.pid) - before


@exercise("4-3", hint="A sleep keeps its reply in the `Conversation`, and a later turn finds it there. Keep there what is left of a "
                      "computation, and end each slice with `next_round`. The recursion's stack must become data: which numbers "
                      "are still to be added up? With --wait poll, think of a client that is marked though it waits for nothing.")
def one_thread_computes_for_several_clients_at_once(program):
    for wait in "spin", "poll":
        server = program.start("--wait", wait)
        with server.connect() as large, server.connect() as small, server.connect() as leaving:
            for client, question in (large, "fib 43\n"), (leaving, "fib 42\n"):
                client.send(question)
                client.wait_until_read()
            small_questions(small, (("1", "fib: 1"), ("fib 30", "fib: 832040"), ("sleep 0.01", "slept: 0.01")))
            leaving.reset()
            small_questions(small, (("fib 31", "fib: 1346269"),))
            if large.has_reply():
                raise Failure(f"with --wait {wait}, a small request waits until another client's large one is computed")
            threads = len(os.listdir(f"/proc/{server.pid}/task"))
            if threads != 1:
                raise Failure(f"the server has {threads} threads, and should have one")
            small_questions(large, ((None, "fib: 433494437"),))
            large.send("fib 36\nfib 37\n")
            large.wait_until_read()
            server.send_signal()
            if large.rest() != b"fib: 14930352\nfib: 24157817\n":
                raise Failure(f"with --wait {wait}, two computations are in progress at a stop, and are not both answered")
        expect_exit_without_fault(server.wait())


def small_questions(client, questions):
    for question, answer in questions:
        came = client.ask(question) if question else client.line()
        if came != answer:
            raise Failure(f"the answer to {question or 'fib 43'} should be {answer!r}, and is {came!r}")
