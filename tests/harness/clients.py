"""What several clients do together, and which of them wait."""
import os
import time
from collections import deque

from harness.checks import expect, expect_match, together, wait_for
from harness.system import writable

# With HOSTILE=10 in the environment there are ten times as many clients, or requests.
SIZE = int(os.environ.get("HOSTILE", "1"))


def reach_all_workers(server):
    """Asks until every worker, or every loop that is a thread, has answered. Returns how many counted requests that took, and
    each worker's count."""
    def ask():
        with server.connect() as client:
            client.send("sleep 0.1\ncount\n")      # while a worker sleeps, others get the next clients
            replies = client.lines(2)
            return client.loop(), int(expect_match(replies[1], r"count: (\d+)").group(1))

    counts, asked = {}, 0
    while len(counts) < (server.stage.workers or server.stage.loops_in_threads):
        expect(asked < 400, True, f"all workers are reached, but after {asked} clients only {counts} were")
        for loop, count in together(*[ask] * 8):
            counts[loop] = max(count, counts.get(loop, 0))
            asked += 1
    return asked, counts


def expect_said_goodbye(clients, answer):
    """Each client gets this answer and the end of the connection. Then it closes, because a server may wait for that."""
    for client in clients:
        expect(client.rest(), answer)
        client.close()


def send_until_stuck(client, request=b"help\n", most=16 << 20):
    """Repeats one request and reads nothing, until the server stops reading, too. Returns how many bytes were sent.

    The replies to `help` are so much longer than the request that no buffers on the way can hold them."""
    block, sent = request * 10_000, 0
    client.socket.setblocking(False)
    while writable(client.socket, 0.5):
        sent += client.socket.send(block[sent % len(request):])
        expect(sent < most, True, f"the server stops reading from a client that reads nothing ({sent} bytes taken)")
    client.socket.settimeout(client.patience)
    client.server.program.notes.append(f"[{client.port}] sent {sent} bytes of requests, and nothing more goes")
    return sent


def expect_survives(server, vanish, times=1):
    """After a client has vanished like this, by a reset or a close, others are served."""
    for leave in ["reset", "close"] * times:
        client = server.connect()
        vanish(client)
        getattr(client, leave)()
        expect(server.ask("6"), "fib: 8", f"after a {leave}")


def client_of_each(server, number):
    """`number` clients, each with an answer from a different worker."""
    found, spare = {}, []
    while len(found) < number:
        expect(len(spare) < 200, True, f"{number} workers are reached, but only {list(found)} were")
        client = server.connect()
        client.wait_until_accepted()
        worker = client.served_by()
        if worker in found:
            spare.append(client)    # it stays for now, so that the next one finds other workers free
        else:
            expect(client.ask("6"), "fib: 8")
            found[worker] = client
    for client in spare:
        client.close()
    return list(found.values())


def reads_all(client):
    """Whether the server reads all that was sent. False once as much stays unread in five looks, 10 ms apart."""
    looks = deque(maxlen=5)
    while len(looks) < 5 or len(set(looks)) > 1:
        end = client.other_end()
        if not end or end.unread == 0:
            return True
        looks.append(end.unread)
        time.sleep(0.01)
    return False


def two_together(server, **options):
    """A client with these options, and a second one. If each loop has its own listener, one loop serves both."""
    first, second = server.connect(**options), server.connect()
    while server.stage.listens_alone and second.loop() != first.loop():
        second.close()
        second = server.connect()
    for client in first, second:
        client.wait_until_accepted()
    return first, second


def expect_served(server, times=3):
    """A new client that asks properly is answered."""
    for _ in range(times):
        expect(server.ask("6"), "fib: 8", "what an honest client is told")


def wait_until_served_or_queued(clients):
    """Waits until the first clients' requests are in progress, and the others, if not all are served at once, accepted."""
    for number, client in enumerate(clients):
        if client.server.stage.serves(number + 1):
            client.wait_until_read()
        else:
            client.wait_until_accepted()


def expect_fib_waits(longs, short_one, waits, question="fib 1", answer="fib: 1"):
    """This client's fib must wait for the first of the others' long ones if `waits`, or else must not."""
    n, fib = (43, 433494437) if waits else (45, 1134903170)     # a margin, if fib 1 must come first
    for long in longs:
        long.send(f"fib {n}\nquit\n")
    wait_until_served_or_queued(longs)
    asked = time.monotonic()
    short_one.send(f"{question}\nquit\n")
    expect_said_goodbye([short_one], f"{answer}\nbye:\n".encode())
    answered, one_is_over = time.monotonic(), any(long.has_reply() for long in longs)
    wait_for(lambda: any(long.has_reply() for long in longs), "the first long fib was over")
    # A loop may send both replies in one round, in either order. Then this one has waited, and a long one is over.
    waited, remained = answered - asked, time.monotonic() - answered
    expect_said_goodbye(longs, f"fib: {fib}\nbye:\n".encode())
    expect(one_is_over or waited > remained, waits,
           f"{question} waited for {waited:.3f} s, then a fib {n} took {remained:.3f} s more: {question} waited for it")
