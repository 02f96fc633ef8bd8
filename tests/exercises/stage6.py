"""The checks of chapter 6's exercises: a pool for the writers, a heartbeat, a queue with a bound, and a time limit."""
import os
import re
import time
from pathlib import Path

from exercises import ROOT, build, exercise
from harness.checks import Failure, expect, expect_match, together, wait_for
from harness.system import everybody_sleeps, processor_ticks

FIB_45, FIB_46 = "fib: 1134903170", "fib: 1836311903"


def ensure(condition, otherwise):
    if not condition:
        raise Failure(otherwise)


def ensure_soon(condition, otherwise, patience):
    """As wait_for(), with the reason in the reader's terms."""
    try:
        return wait_for(condition, otherwise, patience)
    except Failure:
        raise Failure(otherwise) from None


def thread_of(response):
    return int(expect_match(response.headers["x-served-by"], r"stage6_coroutines pid=\d+ thread=(\d+)")[1])


def threads(pid):
    return len(os.listdir(f"/proc/{pid}/task"))


@exercise("6-1", hint="A Pool of one thread is what you need a second time, and carry_out() says which of the two gets a job. "
          "The order of a class's members is the order in which they are made: look at what stands after the loop, and why. "
          "Then ask what else uses what the lock guards.")
def a_write_does_not_wait_for_a_computation(program):
    """The task is added first: the thread that writes has nothing to do with the computation. There are three threads, those
    of the two pools and the loop's. The lock has become useless. It kept two threads of the pool from writing at the same
    time, and now a single thread makes all the writes, one after the other. That costs little, because SQLite lets only one
    connection write at a time anyway."""
    server = program.start("--pool", "1")
    ensure(threads(server.pid) != 2, "with --pool 1 the server has as many threads as before, so none is for the writers")
    with server.connect() as computing:
        computing.send("fib 46\n")
        computing.wait_until_read()

        def add(name):
            with server.connect() as client:
                for number in range(10):
                    expect_match(client.ask(f"add {name} {number}"), f"added: [0-9a-f]{{8}} {name} {number}", "an added one")

        together(*(lambda name=name: add(name) for name in ("eggs", "milk", "tea")))
        ensure(len(server.list()) == 30, "three clients added ten tasks each, and the list has another number of tasks")
        writer = thread_of(server.http("POST", "/api/tasks", {"title": "bread"}))
        ensure(not computing.has_reply(), "the tasks still wait until the computation is done")
        ensure(writer != server.pid, "the loop's own thread writes the tasks, so everybody waits for a write")
        ensure(thread_of(server.http("GET", "/fib/30")) not in (server.pid, writer), "the thread for writes computes as well")
        ensure(threads(server.pid) == 3, "the number of threads is not what one pool of one thread for each purpose needs")
        expect(computing.line(), FIB_46, "the answer to the client that asked for fib 46")
        computing.send("add a last one\n")
        expect_match(computing.line(), "added: .*", "the answer when the same client adds a task")
    ensure(server.stop() == 0, "after SIGTERM the server does not end with status 0")
    in_the_loop = program.start("--pool", "0")
    ensure(len(in_the_loop.list()) == 32, "after a start with --pool 0 the list does not have all tasks")
    writer = thread_of(in_the_loop.http("POST", "/api/tasks", {"title": "salt"}))
    ensure(writer == in_the_loop.pid, "with --pool 0 another thread than the loop's writes the tasks")


@exercise("6-2", hint="Loop::spawn() starts a coroutine that no other one awaits, and Stackless::run() shows one. eventfd(2) "
          "makes a descriptor at which nothing ever happens if nobody writes to it. Ask in each turn whether the server is "
          "to stop (accept.cpp knows how, and how many clients there are). Write a function, not a lambda that captures: "
          "the frame would not keep what it captures.")
def a_heartbeat_tells_how_many_clients_there_are(program):
    """sleep(3) would stop the thread of the loop, and so every client, for a second at a time. A coroutine that is suspended
    stops nobody: the loop keeps its deadline beside those of the clients, and epoll_wait returns in time for it. An endless
    heartbeat would keep the loop from ever being without coroutines, so it has to look for the stop itself. It notices a stop
    at its next beat, a second later at most."""
    start = time.monotonic()
    server = program.start("--max-clients", "2")

    def beats():
        return [int(number) for number in re.findall(r"Clients: (\d+)$", server.log(), re.MULTILINE)]

    def expect_beats(number):
        """From the second beat on: the first may have been on its way before."""
        before = len(beats())
        ensure_soon(lambda: len(beats()) >= before + 3, "the heartbeat stops, although the server does not", program.patience)
        ensure(beats()[before + 1:before + 3] == [number] * 2,
               f"the heartbeat does not tell how many clients there are: {number} were connected")

    ensure_soon(beats, "the log has no line that ends like `Clients: 3`", min(program.patience, 30))
    first, second = server.connect(), server.connect()
    for client in first, second:
        expect(client.ask("1"), "fib: 1", "the answer to one of two clients, with --max-clients 2")
    ensure(server.connect().rest() == b"error: server is full\n", "with --max-clients 2 a third client is not refused")
    expect_beats(2)
    first.close()
    expect_beats(1)
    number, seconds = len(beats()), time.monotonic() - start
    ensure(number <= seconds + 1, f"it beats more often than once a second: {number} times in {seconds:.1f} s")
    second.send("sleep 0.5\n")
    second.wait_until_read()
    server.send_signal()
    expect(second.rest(), b"slept: 0.5\n", "what a client hears that slept when the stop came")
    ensure(server.wait() == 0, "after SIGTERM the server does not end with status 0")


@exercise("6-3", hint="The pool knows its queue and its threads, and other threads use that queue too. Ask it in carry_out(), "
          "before the job is made. Both protocols have a function for an error (protocol/), and what a Compute says tells "
          "which protocol asked.")
def no_more_jobs_wait_than_the_pool_has_threads(program):
    """The clients in the queue are better off, because their wait has a limit, and so is a writer: its job waits behind fewer
    others. A refused client at least knows at once, and can ask elsewhere or later. It is worse off if it would rather have
    waited: a refusal forgets who was first, so it may be refused again and again while a newcomer is lucky."""
    for number in 1, 2:
        server = program.start("--pool", str(number))
        computing, waiting = [server.connect() for _ in range(number)], [server.connect() for _ in range(number)]
        ask_for_fib_45(computing)
        wait_for(lambda: busy_threads(server.pid) == number, f"{number} threads computed", program.patience)
        ask_for_fib_45(waiting)
        late = server.connect()
        ensure(re.fullmatch("error: .*", late.ask("fib 30")),
               f"with --pool {number} a `fib` is still computed, although all threads are busy and as many jobs wait")
        response = server.http("GET", "/fib/30")
        ensure((response.status, list(response.json)) == (503, ["error"]),
               "over HTTP the refusal is not a 503 with an error in JSON")
        for question, answer in ("1", "fib: 1"), ("sleep 0", "slept: 0"), ("list", "tasks: 0"):
            expect(late.ask(question), answer, f"the answer to `{question}`, which needs no thread")
        ensure(not any(client.has_reply() for client in computing + waiting),
               "a client was answered too early: its computation was not done")
        for client in computing + waiting:
            expect(client.line(), FIB_45, "the answer to a client that was not to be refused")
        expect(late.ask("fib 30"), "fib: 832040", "the answer when no job waits any more")
        ensure(server.stop() == 0, "after SIGTERM the server does not end with status 0")
    expect(program.start("--pool", "0").ask("fib 30"), "fib: 832040", "the answer with --pool 0, which never refuses")


def ask_for_fib_45(clients):
    for client in clients:
        client.send("fib 45\n")
        client.wait_until_read()


def busy_threads(pid):
    """How many threads beside the first have used some processor time: so many of the pool have begun to compute."""
    used = [path.read_text().rpartition(")")[2].split()[11] for path in Path(f"/proc/{pid}/task").glob("*/stat")
            if path.parent.name != str(pid)]
    return sum(int(ticks) > 2 for ticks in used)


@exercise("6-4", hint="As long as the Job is part of the coroutine's frame, the frame must stay until the thread is done. Put "
          "what the thread touches somewhere else. The socket has a deadline already, which so far counts only while a "
          "coroutine waits for the socket.")
def a_late_computation_is_an_error_and_its_thread_goes_on(program):
    """Both own it: the thread and the coroutine. The job and its number are in an object that lives as long as one of the two
    needs it (a std::shared_ptr does that), and the job has copies of what it computes with. Only one of the two may let the
    coroutine go on, or else it would be resumed a second time, perhaps in a frame that is gone. So there is a flag, and an
    atomic exchange decides: whichever sets it first goes on, and the other one does nothing more. If the limit wins, the
    number is thrown away, although it may be there at the same moment."""
    server = program.start("--pool", "2")
    with server.connect() as asked, server.connect() as other:
        ensure(re.fullmatch("error: .*", asked.ask("fib 47")), "a `fib` that takes longer than a second still gets a number")
        used = processor_ticks(server.pid)
        ensure_soon(lambda: processor_ticks(server.pid) > used + 20, "after the error its thread does not go on computing",
                    program.patience)
        start = time.monotonic()
        asked.send("sleep 6\n")
        expect(other.ask("fib 25"), "fib: 75025", "the answer to a `fib` that takes no time")
        response = server.http("GET", "/fib/47")
        ensure((response.status, list(response.json)) == (503, ["error"]),
               "over HTTP the error is not a 503 with an error in JSON")
        expect(other.ask("1"), "fib: 1", "the answer to another client meanwhile")
        expect(asked.line(), "slept: 6", "the answer to the next request of the client that had the error")
        ensure(time.monotonic() - start >= 6, "the next request of that client, a sleep, ended too early")
        wait_for(lambda: everybody_sleeps(server.pid), "the threads were done", program.patience)
        for client in asked, other:
            expect(client.ask("fib 25"), "fib: 75025", "the answer when the threads are done")
        expect_match(other.ask("add buy milk"), "added: .*", "the answer to an add")
    ensure(server.stop() == 0, "after SIGTERM the server does not end with status 0")
    expect_no_use_of_freed_memory(program)


def expect_no_use_of_freed_memory(program):
    """AddressSanitizer checks what a thread touches at its end, after its client was told of the time limit, and left."""
    build("VARIANT=asan", "stage6")
    program.path_of = lambda stage: str(ROOT / "build/asan" / stage.name / stage.name)
    server = program.start("--pool", "2")

    def has_ended():
        return server.process.poll() is not None

    with server.connect() as leaving:
        ensure(re.fullmatch("error: .*", leaving.ask("fib 46")),
               "built with AddressSanitizer, it answers a late `fib` with a number")
    leaving.wait_until_let_go()
    wait_for(lambda: has_ended() or everybody_sleeps(server.pid), "the thread was done", program.patience)
    if not has_ended():
        expect(server.ask("1"), "fib: 1", "the answer when the thread is done")
        server.send_signal()
    ensure(server.wait() == 0, "built with AddressSanitizer, it does not end with status 0; the log says why")
