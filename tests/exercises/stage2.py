"""The checks of chapter 2's exercises: zombies, names that tell who serves whom, a number in shared memory, a request's end."""
import os
import re
import signal
from pathlib import Path

from exercises import exercise
from harness import Gone, children, expect, stat_fields, together, wait_for


def server_with_clients(program, number, *options):
    """A server, and so many clients who have been answered, each with the process that serves it."""
    server = program.start(*options)
    clients = [server.connect() for _ in range(number)]
    for client in clients:
        expect(client.ask("6"), "fib: 8")
    return server, [(client, client.served_by()) for client in clients]


@exercise("2-1")
def those_who_have_left_stay_as_zombies_and_nobody_else_comes_in(program):
    server, served = server_with_clients(program, 3, "--max-clients", "3")
    for client, _ in served:
        client.close()

    def states():
        fields = [stat_fields(child) for _, child in served]
        return [field[0] if field else "reaped" for field in fields]

    wait_for(lambda: set(states()) <= {"Z", "reaped"}, "the children ended", program.patience)
    for number in "fourth", "fifth":    # between the two the parent looks at its children, if it does so at all
        with server.connect() as client:
            client.half_close()
            expect(client.rest(), b"error: server is full\n", f"what the {number} client is told, with --max-clients 3")
    expect(states(), ["Z"] * 3, "the states of three children whose clients have left")


@exercise("2-2")
def a_child_has_the_name_of_its_client(program):
    def name_of(pid):
        return Path(f"/proc/{pid}/comm").read_text().rstrip("\n")

    server, served = server_with_clients(program, 3)
    for client, child in served:
        expect(name_of(child), f"client {client.port}", f"the name of the child that serves port {client.port}")
    expect(name_of(server.pid), program.stage.name, "the parent's name")


@exercise("2-3")
def every_child_adds_to_one_count_and_nothing_is_lost(program):
    server, served = server_with_clients(program, 4)
    asking = server.connect()
    expect(asking.ask("count"), "count: 4", "four clients have asked one thing each, and another one asks for the count")

    def load(client):
        for _ in range(20):     # so many at a time fit the buffers on the way
            client.send("1\n" * 5_000)
            client.exactly(len("fib: 1\n") * 5_000)

    together(*(lambda client=client: load(client) for client, _ in served))
    program.notes.clear()       # nobody wants to read them
    for client, _ in served:
        client.close()
    wait_for(lambda: len(children(server.pid)) == 1, "those who had left were reaped", program.patience)
    for client in asking, asking, server.connect():
        expect(client.ask("count"), "count: 400004", "four clients have asked 100,000 things more each")


@exercise("2-4")
def a_child_too_long_at_one_request_is_ended_and_the_parent_tells(program):
    server, ((idle, idle_child), (sleeping, sleeper), (computing, computer)) = server_with_clients(program, 3, "--timeout", "1")

    def told(pid):
        return re.findall(rf"\[{server.pid}\] \[\w+\] Child \(pid:{pid}\) was ended by signal (\d+)\n", server.log())

    def expect_end(client, child):
        try:
            expect(client.rest(), b"", "what comes to a client whose request takes longer than --timeout")
        except Gone:
            pass    # a reset is an end, too
        wait_for(lambda: len(told(child)) == 1, f"the parent told once what has ended {child}", program.patience)

    sleeping.send("sleep 60\n")
    expect_end(sleeping, sleeper)
    computing.send("fib 50\n")
    expect_end(computing, computer)
    expect(idle.ask("1"), "fib: 1", "the answer to a client who was silent for longer than that")
    os.kill(idle_child, signal.SIGKILL)
    expect_end(idle, idle_child)
    expect(told(idle_child), [str(int(signal.SIGKILL))], "which signal")
    with server.connect() as polite:
        expect(polite.ask("quit"), "bye:")
    wait_for(lambda: not children(server.pid), "the last child ended", program.patience)
    expect(server.stop(), 0, "the exit status")
    expect(len(told(r"\d+")), 3, "how many ends were told, of four, one of which was nobody's fault")
