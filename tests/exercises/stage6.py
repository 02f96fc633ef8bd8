"""The checks of chapter 6's exercises: a pool for the writers, a heartbeat, a queue with an end, and a limit to patience."""
import os
import re
import time
from pathlib import Path

from exercises import ROOT, build, exercise
from harness import everybody_sleeps, expect, expect_match, processor_ticks, together, wait_for

FIB_45, FIB_46 = "fib: 1134903170", "fib: 1836311903"


def thread_of(response):
    return int(expect_match(response.headers["x-served-by"], r"stage6_coroutines pid=\d+ thread=(\d+)")[1])


@exercise("6-1")
def who_writes_waits_for_nobody_who_computes(program):
    server = program.start("--pool", "1")
    with server.connect() as computing:
        computing.send("fib 46\n")
        computing.wait_until_read()

        def add(name):
            with server.connect() as client:
                for number in range(10):
                    expect_match(client.ask(f"add {name} {number}"), f"added: [0-9a-f]{{8}} {name} {number}")

        together(*(lambda name=name: add(name) for name in ("eggs", "milk", "tea")))
        expect(len(server.list()), 30, "tasks")
        writer = thread_of(server.http("POST", "/api/tasks", {"title": "bread"}))
        expect(computing.has_reply(), False, "the fib 46 is there before the tasks are")
        expect(writer != server.pid, True, "a thread writes, and not the loop")
        expect(thread_of(server.http("GET", "/fib/30")) not in (server.pid, writer), True, "another thread computes")
        expect(len(os.listdir(f"/proc/{server.pid}/task")), 3, "threads: one computes, one writes, and there is the loop's")
        expect(computing.line(), FIB_46)
        computing.send("add a last one\n")
        expect_match(computing.line(), "added: .*")
    expect(server.stop(), 0, "the exit status")
    in_the_loop = program.start("--pool", "0")
    expect(len(in_the_loop.list()), 32, "tasks, after a start without a pool")
    writer = thread_of(in_the_loop.http("POST", "/api/tasks", {"title": "salt"}))
    expect(writer, in_the_loop.pid, "with --pool 0 the loop writes")


@exercise("6-2")
def a_heartbeat_tells_how_many_clients_there_are(program):
    start = time.monotonic()
    server = program.start("--max-clients", "2")

    def beats():
        return [int(number) for number in re.findall(r"Clients: (\d+)$", server.log(), re.MULTILINE)]

    def expect_beats(number):
        """From now on: one that was on its way may still tell of another number."""
        before = len(beats())
        wait_for(lambda: len(beats()) >= before + 3, "it beat three times more", program.patience)
        expect(beats()[before + 1:before + 3], [number] * 2, "clients, as the heartbeat tells")

    first, second = server.connect(), server.connect()
    for client in first, second:
        expect(client.ask("1"), "fib: 1", "an answer to one of two clients, of --max-clients 2")
    expect(server.connect().rest(), b"error: server is full\n", "what a third client hears")
    expect_beats(2)
    first.close()
    expect_beats(1)
    number, seconds = len(beats()), time.monotonic() - start
    expect(number <= seconds + 1, True, f"it beats once a second, and not {number} times in {seconds:.1f} s")
    second.send("sleep 0.5\n")
    second.wait_until_read()
    server.send_signal()
    expect(second.rest(), b"slept: 0.5\n")
    expect(server.wait(), 0, "the exit status")


@exercise("6-3")
def no_more_jobs_wait_than_the_pool_has_threads(program):
    for threads in 1, 2:
        server = program.start("--pool", str(threads))
        computing, waiting = [server.connect() for _ in range(threads)], [server.connect() for _ in range(threads)]
        ask_for_fib_45(computing)
        wait_for(lambda: busy_threads(server.pid) == threads, f"{threads} threads computed", program.patience)
        ask_for_fib_45(waiting)
        late = server.connect()
        expect_match(late.ask("fib 30"), "error: .*", f"fib {2 * threads + 1} of --pool {threads}")
        response = server.http("GET", "/fib/30")
        expect((response.status, list(response.json)), (503, ["error"]), "over HTTP")
        for question, answer in ("1", "fib: 1"), ("sleep 0", "slept: 0"), ("list", "tasks: 0"):
            expect(late.ask(question), answer, "what needs no thread")
        expect(any(client.has_reply() for client in computing + waiting), False, f"one of the first {2 * threads} has a reply")
        for client in computing + waiting:
            expect(client.line(), FIB_45)
        expect(late.ask("fib 30"), "fib: 832040", "where nobody waits any more")
        expect(server.stop(), 0, "the exit status")
    expect(program.start("--pool", "0").ask("fib 30"), "fib: 832040", "with --pool 0")


def ask_for_fib_45(clients):
    for client in clients:
        client.send("fib 45\n")
        client.wait_until_read()


def busy_threads(pid):
    """How many threads beside the first have used some processor time: those of a pool have begun to compute."""
    used = [path.read_text().rpartition(")")[2].split()[11] for path in Path(f"/proc/{pid}/task").glob("*/stat")
            if path.parent.name != str(pid)]
    return sum(int(ticks) > 2 for ticks in used)


@exercise("6-4")
def who_asked_for_too_much_hears_so_and_its_thread_goes_on(program):
    server = program.start("--pool", "2")
    with server.connect() as asked, server.connect() as other:
        expect_match(asked.ask("fib 47"), "error: .*", "fib 47")
        used = processor_ticks(server.pid)
        wait_for(lambda: processor_ticks(server.pid) > used + 20, "its thread went on computing", program.patience)
        start = time.monotonic()
        asked.send("sleep 6\n")
        expect(other.ask("fib 25"), "fib: 75025", "what takes no time")
        response = server.http("GET", "/fib/47")
        expect((response.status, list(response.json)), (503, ["error"]), "over HTTP")
        expect(other.ask("1"), "fib: 1")
        expect(asked.line(), "slept: 6")
        expect(time.monotonic() - start >= 6, True, "what the same client asked for next was waited for, to its end")
        wait_for(lambda: everybody_sleeps(server.pid), "the threads were through", program.patience)
        for client in asked, other:
            expect(client.ask("fib 25"), "fib: 75025", "afterwards")
        expect_match(other.ask("add buy milk"), "added: .*")
    expect(server.stop(), 0, "the exit status")
    expect_no_use_of_freed_memory(program)


def expect_no_use_of_freed_memory(program):
    """AddressSanitizer looks what a thread touches at its end, after its client has heard that it takes too long, and left."""
    build("VARIANT=asan", "stage6")
    program.path_of = lambda stage: str(ROOT / "build/asan" / stage.name / stage.name)
    server = program.start("--pool", "2")

    def has_ended():
        return server.process.poll() is not None

    with server.connect() as leaving:
        expect_match(leaving.ask("fib 46"), "error: .*", "fib 46")
    leaving.wait_until_let_go()
    wait_for(lambda: has_ended() or everybody_sleeps(server.pid), "the thread was through", program.patience)
    if not has_ended():
        expect(server.ask("1"), "fib: 1", "afterwards")
        server.send_signal()
    expect(server.wait(), 0, "the exit status of a build with AddressSanitizer")
