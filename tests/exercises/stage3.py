"""The checks of chapter 3's exercises: what a stack costs, whom a thread serves, turns at computing, a pool that refuses."""
import contextlib
import os
import re
from pathlib import Path

from exercises import exercise
from harness.checks import Failure, expect, together, wait_for
from harness.system import processor_ticks

MIB = 1024      # as /proc/PID/status counts


@exercise("3-1", hint="choose_stack_size() sets the size, in bytes. VmSize counts addresses and VmRSS counts memory. Ask "
                      "yourself when an address becomes memory.")
def a_stack_of_256_mib_is_addresses_and_hardly_any_memory(program):
    """It is enough on almost any machine. A stack is 256 MiB of addresses, so VmSize grows by 25 GiB with a hundred clients. The
    kernel gives memory page by page, where a thread touches its stack. A conversation touches two or three pages, so VmRSS
    grows by less than one MiB for all clients together. The addresses run out only where the system promises no more of them than
    it has memory (vm.overcommit_memory, in proc(5))."""
    def size_and_memory():
        status = Path(f"/proc/{server.pid}/status").read_text()
        return [int(re.search(rf"^{field}:\s*(\d+) kB", status, re.MULTILINE)[1]) for field in ("VmSize", "VmRSS")]

    server = program.start()
    before = size_and_memory()
    for client in [server.connect() for _ in range(100)]:
        expect(client.ask("1"), "fib: 1")
    size, memory = (now - then for now, then in zip(size_and_memory(), before))
    program.notes.clear()       # a hundred times the same
    each = size / (100 * MIB)
    if each < 2:
        raise Failure("a thread's stack has the size that it had before")
    if not 256 <= each < 300:
        raise Failure(f"a thread's stack is not 256 MiB: each client takes {each:.1f} MiB of addresses")
    if memory > size / 100:
        raise Failure(f"the stacks are 256 MiB each, but something else has used {memory} kB of memory")


def threads(server):
    """The ids of the threads that serve: all but the main one."""
    return [thread for thread in map(int, os.listdir(f"/proc/{server.pid}/task")) if thread != server.pid]


@exercise("3-2", hint="A thread of the pool can give itself a name, right after it has taken a client and right after it has "
                      "served one: see consume() in pool.cpp. getpeername(2) knows the client's port, in the network's byte "
                      "order.")
def a_thread_of_the_pool_has_the_name_of_its_client(program):
    """Now top, ps and gdb show which client keeps a thread busy."""
    def names():
        return sorted(Path(f"/proc/{server.pid}/task/{thread}/comm").read_text().rstrip("\n") for thread in threads(server))

    def in_words(them):
        return ", ".join(f"`{name}`" for name in them)

    def expect_serving(*clients):
        for client in clients:
            expect(client.ask("1"), "fib: 1")
            if names().count(f"client {client.port}") != 1:
                raise Failure(f"the client from port {client.port} has its first answer, and the pool's threads are called "
                              f"{in_words(names())}")
        wanted = sorted(["idle"] * (3 - len(clients)) + [f"client {client.port}" for client in clients])
        with contextlib.suppress(Failure):
            return wait_for(lambda: names() == wanted, "", program.patience)
        raise Failure(f"the pool's threads should be called {in_words(wanted)}, and are called {in_words(names())}")

    server = program.start("--threads", "3")
    first, second = server.connect(), server.connect()
    expect_serving(first, second)
    first.close()
    expect_serving(second)
    second.close()
    expect_serving()
    expect_serving(server.connect(), server.connect(), server.connect())
    main = Path(f"/proc/{server.pid}/comm").read_text().rstrip("\n")
    if main != program.stage.name:
        raise Failure(f"the main thread should keep its name, and is called `{main}`")


@exercise("3-3", hint="All threads pass through carry_out(), in shared.hpp. You need a lock that lets in more than one thread, "
                      "and C++20 has one (sem_wait(3) is the older form). The traps: an exception must give the turn back as "
                      "well, and only one kind of work needs a turn.")
def two_compute_and_the_third_waits_for_its_turn(program):
    """A thread that waits for its turn uses no processor time, so the two that compute are not slowed down, and all others are
    answered. Stage 6 limits its computations, too: a pool of threads does nothing else."""
    def ticks():
        return sorted((processor_ticks(f"{server.pid}/task/{thread}") for thread in threads(server)), reverse=True)

    server = program.start("--max-fib", "60")
    clients = [server.connect() for _ in range(3)]
    for client in clients:
        expect(client.ask("1"), "fib: 1")
    for client in clients:
        client.send("fib 60\n")     # takes half an hour
        client.wait_until_read()
    wait_for(lambda: ticks()[1] >= 100, "two clients' threads computed at the same time", program.patience)
    if ticks()[2] > 5:
        raise Failure("three threads compute at the same time; the third one should wait for its turn")
    with server.connect() as other:
        for question, answer in ("1", "fib: 1"), ("sleep 0.1", "slept: 0.1"), ("count", "count: 5"):
            expect(other.ask(question), answer, f"two compute and one waits, and another client asks `{question}`")
    server.kill()

    server = program.start()

    def compute():
        with server.connect() as client:
            for _ in range(5):
                expect(client.ask("fib 30"), "fib: 832040", "five clients compute, and each should get its turns")

    together(*[compute] * 5)


@exercise("3-4", hint="In pool.cpp, the main thread waits in put() while the queue is full. put() should return at once instead, "
                      "and tell whether the queue has taken the client. If not, refuse it as thread_per_client.cpp does. The "
                      "trap: once put() has moved the client away, it cannot be refused any more.")
def a_client_that_finds_the_queue_full_is_refused(program):
    """Load shedding is for those who can go elsewhere, or who would rather know now: a balancer that asks the next server, a
    browser whose user will not wait for half a minute. Whoever is served then waits for a short time only. Back-pressure is for
    those who have nowhere else to go and can wait, such as a program that hands in one job after another: none of them has to
    try again, and none is lost."""
    def expect_refused():
        with server.connect() as client:
            try:
                wait_for(client.has_reply, "", program.patience)
            except Failure:
                raise Failure("a client finds two served and two in the queue, and is told nothing: it waits") from None
            expect(client.rest(), b"error: server is full\n", "a client finds two served and two in the queue")

    server = program.start("--threads", "2")
    clients = [server.connect() for _ in range(2)]
    for client in clients:
        expect(client.ask("1"), "fib: 1")
    clients += [server.connect() for _ in range(2)]
    expect_refused()
    expect_refused()
    for _ in range(3):
        clients.pop(0).close()
        expect(clients[1].ask("2"), "fib: 1", "another client has left, and the one that has waited longest asks for fib 2")
        clients.append(server.connect())
        expect_refused()
    for client in clients[:2]:
        client.close()
    for client in clients[2:]:
        expect(client.ask("3"), "fib: 2", "both that were served have left, and one that has waited asks for fib 3")
