"""Many clients at once with the same request, and a bar for each: who waits for whom, drawn.

    python3 tests/clients/spam.py 8 'sleep 1'
    python3 tests/clients/spam.py 8 /fib/40

With sleep, stage 1 draws a staircase, because each client waits for those before it. Stages 2 to 6 draw a block. With fib,
see how soon the first are answered: where each has a thread, a pool computes, or one thread does all (stages 4 and 5).
The bars are in the order of the answers. In a terminal they grow meanwhile: as many as it has lines, and all at the end.
"""
import socket
import threading
import time

import bars
import lesson
import protocol
import single_task


class Client(threading.Thread):
    """Asks once."""

    def __init__(self, options):
        super().__init__()
        self.options = options
        self.began, self.ended, self.failure = time.monotonic(), None, None

    def run(self):
        try:
            ask(self.options, self.options.request)
        except Exception as failure:    # of this client alone; reported when all are done
            self.failure = failure
        self.ended = time.monotonic()


def ask(options, request):
    if request.startswith("/"):
        return single_task.get(options, request)
    with socket.create_connection((options.host, options.port)) as connection, connection.makefile("rb") as answers:
        connection.sendall(f"{request}\n".encode(errors="surrogateescape"))
        return protocol.check(request, answers.readline())


def main(options):
    clients = [Client(options) for _ in range(options.clients)]
    for client in clients:
        client.start()
    bars.show(clients)
    for client in clients:
        if client.failure:
            raise client.failure


if __name__ == "__main__":
    parser = lesson.parser(__doc__)
    parser.add_argument("clients", type=lesson.number, help="how many")
    parser.add_argument("request", help="a line, or the path of a GET request")
    lesson.run(main, parser.parse_args())
