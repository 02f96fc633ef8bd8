"""The checks of chapter 2's exercises: zombies, names that tell who serves whom, a number in shared memory, a request's end."""
import os
import re
import signal
from pathlib import Path

from exercises import exercise
from harness.checks import Failure, Gone, expect, together, wait_for
from harness.system import children, stat_fields


def server_with_clients(program, number, *options):
    """A server, and so many clients that have been answered, each with the process that serves it."""
    server = program.start(*options)
    clients = [server.connect() for _ in range(number)]
    for client in clients:
        expect(client.ask("6"), "fib: 8", "what a client is told that asks for 6")
    return server, [(client, client.served_by()) for client in clients]


@exercise("2-1", hint="Look at where the loop uses `children`, and at who takes a child out of that list again. waitpid(2) says "
                      "under NOTES what becomes of a child whose parent never waits for it.")
def zombies_of_clients_that_left_keep_new_clients_out(program):
    """ps shows all three children in state Z, with an RSS of 0: they are zombies, which have ended and have no memory left.
    The fourth client is told `error: server is full`, though nobody is connected. The parent has never asked for the three,
    so they are still in its list, and it counts them. Nobody else can reap them. This server is full until it is stopped."""
    server, served = server_with_clients(program, 3, "--max-clients", "3")
    for client, _ in served:
        client.close()

    def states():
        fields = [stat_fields(child) for _, child in served]
        return [field[0] if field else "reaped" for field in fields]

    wait_for(lambda: set(states()) <= {"Z", "reaped"}, "the children of clients that have left ended", program.patience)
    told = []
    for _ in "fourth", "fifth":     # between the two the parent looks at its children, if it does so at all
        with server.connect() as client:
            client.half_close()
            told.append(client.rest())
    if "reaped" in states():
        raise Failure("the parent still reaps its children")
    if told != [b"error: server is full\n"] * 2:
        raise Failure("the parent no longer reaps its children, but the code has changed in some other way, too")


@exercise("2-2", hint="getpeername(2) tells the address at the other end of a socket, and getnameinfo(3) makes text of its port, "
                      "be it IPv4 or IPv6. Set the name in code that only a child runs, before it answers anything.")
def a_child_has_the_name_of_its_client(program):
    """Now pstree, ps and top tell whom a process serves: all of them show the name in /proc/PID/comm, which has room for 15
    bytes. pkill looks at that name, too, so that `pkill stage2_fork` means the parent alone."""
    def name_of(pid):
        return Path(f"/proc/{pid}/comm").read_text().rstrip("\n")

    server, served = server_with_clients(program, 3)
    for client, child in served:
        if name_of(child) != f"client {client.port}":
            raise Failure(f"the child that serves the client from port {client.port} is called {name_of(child)}")
    if name_of(server.pid) != program.stage.name:
        raise Failure(f"the parent is called {name_of(server.pid)}")


@exercise("2-3", hint="Map the memory before the first fork, so that parent and children have the same page. Then think of two "
                      "children that add to the number at the same moment: which type of C++ makes that one step?")
def every_child_adds_to_one_count_and_nothing_is_lost(program):
    """The page was there before the fork, and MAP_SHARED keeps it from being copied. But sharing brings the next chapter's danger
    with it: two processes that increment a plain number at once may lose a count, as two threads may. An atomic number that
    needs no lock is safe. A lock would be a risk: a child that is killed while it holds the lock would stop all the others."""
    server, served = server_with_clients(program, 4)
    asking = server.connect()

    def expect_count(client, number, after):
        came = client.ask("count")
        if came != f"count: {number}":
            raise Failure(f"after {after}, a client is told {came}")

    expect_count(asking, 4, "four other clients have asked one thing each")

    def load(client):
        for _ in range(20):     # so many at a time fit the buffers on the way
            client.send("1\n" * 5_000)
            client.exactly(len("fib: 1\n") * 5_000)

    together(*(lambda client=client: load(client) for client, _ in served))
    program.notes.clear()       # they are too many to read
    for client, _ in served:
        client.close()
    wait_for(lambda: len(children(server.pid)) == 1, "the children of those that left were reaped", program.patience)
    for client in asking, asking, server.connect():
        expect_count(client, 400_004, "four clients have asked 100,001 things each and left")


@exercise("2-4", hint="prefork.cpp has the alarm, and main.cpp says which option needs which. A child inherits what its parent "
                      "does with each signal: what happens to SIGALRM there? For the log, see which other arguments stop::reap "
                      "and stop::end take.")
def a_child_over_its_timeout_ends_and_the_parent_logs_it(program):
    """A signal whose action is the default ends a process wherever it is, even in a computation that never looks up. Only a
    process can be ended like that. A thread or a coroutine would take all the others with it, so the later stages have no
    such option for their clients. And only the parent can tell what ended a child: waitpid reports it, once."""
    try:
        server, served = server_with_clients(program, 3, "--timeout", "1")
    except Failure:
        raise Failure("no server that takes --timeout 1 without --workers is running") from None
    (idle, idle_child), (sleeping, sleeper), (computing, computer) = served

    def told(pid):
        return re.findall(rf"\[{server.pid}\] \[\w+\] Child \(pid:{pid}\) was ended by signal (\d+)\n", server.log())

    def expect_end(client, child, what):
        try:
            if client.rest():
                raise Failure(f"{what} was answered, and not ended")
        except Gone:
            pass    # a reset is an end, too
        except Failure:
            raise Failure(f"{what} was not ended") from None
        wait_for(lambda: len(told(child)) == 1, f"the log said once which signal had ended {what}", program.patience)

    sleeping.send("sleep 60\n")
    expect_end(sleeping, sleeper, "a child that sleeps for 60 seconds")
    computing.send("fib 50\n")
    expect_end(computing, computer, "a child that computes fib 50")
    try:
        expect(idle.ask("1"), "fib: 1", "what a client is told that was silent for longer than --timeout, and then asks for 1")
    except Gone:
        raise Failure("a client that was only silent has lost its child") from None
    os.kill(idle_child, signal.SIGKILL)
    expect_end(idle, idle_child, "a child that was killed")
    expect(told(idle_child), [str(int(signal.SIGKILL))], "the signal that the log names for a child that was killed")
    with server.connect() as polite:
        expect(polite.ask("quit"), "bye:")
    wait_for(lambda: not children(server.pid), "the last child ended", program.patience)
    expect(server.stop(), 0, "the exit status of the server")
    if len(told(r"\d+")) != 3:
        raise Failure(f"signals ended three children, and one ended by itself; the log tells of {len(told(r'[0-9]+'))}")
