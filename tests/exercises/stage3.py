"""The checks of chapter 3's exercises: what a stack costs, whom a thread serves, turns at computing, a pool that refuses."""
import os
import re
from pathlib import Path

from exercises import exercise
from harness import Failure, expect, processor_ticks, together, wait_for

MIB = 1024      # as /proc/PID/status counts


@exercise("3-1")
def a_stack_of_256_mib_is_addresses_and_hardly_any_memory(program):
    def size_and_memory():
        status = Path(f"/proc/{server.pid}/status").read_text()
        return [int(re.search(rf"^{field}:\s*(\d+) kB", status, re.MULTILINE)[1]) for field in ("VmSize", "VmRSS")]

    server = program.start()
    before = size_and_memory()
    for client in [server.connect() for _ in range(100)]:
        expect(client.ask("1"), "fib: 1")
    size, memory = (now - then for now, then in zip(size_and_memory(), before))
    program.notes.clear()       # a hundred times the same
    if not 256 <= size / (100 * MIB) < 300:
        raise Failure(f"each of 100 clients takes {size / (100 * MIB):.1f} MiB of addresses")
    if memory > size / 100:
        raise Failure(f"of {size} kB of addresses, more than a hundredth is memory: {memory} kB")


def threads(server):
    """The ids of the threads that serve: all but the main one."""
    return [thread for thread in map(int, os.listdir(f"/proc/{server.pid}/task")) if thread != server.pid]


@exercise("3-2")
def a_thread_of_the_pool_has_the_name_of_its_client(program):
    def names():
        return sorted(Path(f"/proc/{server.pid}/task/{thread}/comm").read_text().rstrip("\n") for thread in threads(server))

    def expect_serving(*clients):
        for client in clients:
            expect(client.ask("1"), "fib: 1")
            expect(names().count(f"client {client.port}"), 1, f"threads with the name of {client.port}, of {names()}")
        wanted = sorted(["idle"] * (3 - len(clients)) + [f"client {client.port}" for client in clients])
        wait_for(lambda: names() == wanted, f"the threads were {wanted}", program.patience)

    server = program.start("--threads", "3")
    first, second = server.connect(), server.connect()
    expect_serving(first, second)
    first.close()
    expect_serving(second)
    second.close()
    expect_serving()
    expect_serving(server.connect(), server.connect(), server.connect())
    expect(Path(f"/proc/{server.pid}/comm").read_text(), f"{program.stage.name}\n", "the main thread's name")


@exercise("3-3")
def two_compute_and_the_third_waits_for_his_turn(program):
    def ticks():
        return sorted((processor_ticks(f"{server.pid}/task/{thread}") for thread in threads(server)), reverse=True)

    server = program.start("--max-fib", "60")
    clients = [server.connect() for _ in range(3)]
    for client in clients:
        expect(client.ask("1"), "fib: 1")
    for client in clients:
        client.send("fib 60\n")     # it takes half an hour
        client.wait_until_read()
    wait_for(lambda: ticks()[1] >= 100, "two threads computed at the same time", program.patience)
    if ticks()[2] > 5:
        raise Failure(f"the third thread does not wait: the three have computed for {ticks()} clock ticks")
    with server.connect() as other:
        for question, answer in ("1", "fib: 1"), ("sleep 0.1", "slept: 0.1"), ("count", "count: 5"):
            expect(other.ask(question), answer, "what another client is told meanwhile")
    server.kill()

    server = program.start()

    def compute():
        with server.connect() as client:
            for _ in range(5):
                expect(client.ask("fib 30"), "fib: 832040", "when five clients compute, and each gets his turns")

    together(*[compute] * 5)


@exercise("3-4")
def who_finds_the_queue_full_is_told_and_nobody_else(program):
    def expect_refused():
        with server.connect() as client:
            expect(client.rest(), b"error: server is full\n", "what comes to a client when two are served and two wait")

    server = program.start("--threads", "2")
    clients = [server.connect() for _ in range(2)]
    for client in clients:
        expect(client.ask("1"), "fib: 1")
    clients += [server.connect() for _ in range(2)]
    expect_refused()
    expect_refused()
    for _ in range(3):
        clients.pop(0).close()
        expect(clients[1].ask("2"), "fib: 1", "who has waited longest is served when another one has left")
        clients.append(server.connect())
        expect_refused()
    for client in clients[:2]:
        client.close()
    for client in clients[2:]:
        expect(client.ask("3"), "fib: 2", "those who have waited are served")
