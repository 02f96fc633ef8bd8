"""A pool of threads with a bounded queue: when it is full, newcomers wait in the accept queue, and nobody is lost."""
import contextlib

from harness.checks import Failure, check_program, expect, expect_match, wait_for
from harness.clients import expect_said_goodbye


def has_pool(stage):
    return stage.threads > 0


def accepted(clients):
    return [client for client in clients if client.is_accepted()]


@check_program("pool", only=has_pool, row=True)
def as_many_clients_wait_in_the_queue_as_are_served(program):
    server = program.start()
    room = 2 * program.stage.servers
    in_hand = max(program.stage.workers, 1)     # each acceptor may hold one more, until the queue has room
    clients = [server.connect() for _ in range(300)]
    wait_for(lambda: len(accepted(clients)) >= room, f"{room} clients were accepted")
    program.notes.clear()
    for _ in range(20):     # time enough to accept more
        expect(clients[0].ask("6"), "fib: 8")
    inside = len(accepted(clients))
    expect(room <= inside <= room + in_hand, True, f"of 300 clients {room} are inside, and {in_hand} in hand, not {inside}")
    sizes = [int(next(line for line in open(f"/proc/{pid}/status") if line.startswith("Threads:")).split()[1])
             for pid in server.workers() or [server.pid]]
    # One thread accepts. A sanitizer may have threads of its own.
    expect(all(size <= program.stage.threads + 3 for size in sizes), True, f"as many threads as were asked for, not {sizes}")
    for number, client in enumerate(clients):
        client.send(f"{number % 10 + 1}\nquit\n")
    for number, client in enumerate(clients):
        fib = [1, 1, 2, 3, 5, 8, 13, 21, 34, 55][number % 10]
        expect_said_goodbye([client], f"fib: {fib}\nbye:\n".encode())


@check_program("pool", only=has_pool)
def sixty_sleepers_are_all_answered(program):
    server = program.start()
    clients = [server.connect() for _ in range(60)]
    for client in clients:
        client.send("sleep 0.1\nquit\n")
    expect_said_goodbye(clients, b"slept: 0.1\nbye:\n")


@check_program("pool", only=has_pool)
def a_client_that_leaves_the_queue_costs_nobody_a_place(program):
    server = program.start()
    room = 2 * program.stage.servers
    inside = [server.connect() for _ in range(room)]
    wait_for(lambda: len(accepted(inside)) == room, "all were accepted")
    outside = [server.connect() for _ in range(20)]
    for client in inside + outside:
        client.send("6\nquit\n")
    staying = inside[:-2] + outside[4:]
    for number, client in enumerate(inside[-2:] + outside[:4]):
        (client.close if number % 2 else client.reset)()
    expect_said_goodbye(staying, b"fib: 8\nbye:\n")


@check_program("pool", only=lambda stage: has_pool(stage) and not stage.workers)
def clients_are_served_in_the_order_they_came(program):
    server = program.start(stage=program.stage.but("--threads", 1))
    first = server.connect()
    expect(first.ask("6"), "fib: 8")
    clients = [server.connect() for _ in range(8)]
    for number, client in enumerate(clients):
        client.send(f"add {number}\nquit\n")
    first.close()
    for client in clients:
        expect_match(client.rest().decode(), r"added: .+\nbye:\n")
        client.close()
    expect([line[13:] for line in server.list()], [str(number) for number in range(8)])


@check_program("pool", only=has_pool, row=True)
def a_stop_answers_the_queue_and_is_clean(program):
    server = program.start()
    room = 2 * program.stage.servers
    clients = [server.connect() for _ in range(room)]
    for client in clients:
        client.send("sleep 0.5\n6\n")
    wait_for(lambda: len(accepted(clients)) == room, "all were accepted")
    outside = [server.connect() for _ in range(10)]
    for client in outside:
        client.send("sleep 0.5\n6\n")
    for client in clients[:program.stage.at_once(room)]:
        client.wait_until_read()
    server.send_signal()
    for client in clients:
        expect(client.rest(), b"slept: 0.5\nfib: 8\n")
    expect(server.wait(), 0, "the exit status")
    for client in outside:
        answer = b""
        with contextlib.suppress(Failure):      # it was reset, because it was never accepted
            answer = client.rest()
        expect(answer in (b"", b"slept: 0.5\nfib: 8\n"), True, f"{answer} is a whole answer, or none")
