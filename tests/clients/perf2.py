"""How many short requests are answered in a second: perf2 of David Beazley's talk.

    python3 tests/clients/perf2.py              until Ctrl-C
    python3 tests/clients/perf2.py --seconds 5

Then start perf1.py beside it, in another terminal. At stages 2, 3 and 6 the figure falls as far as the two share a
processor. At stages 4 and 5 it falls from thousands to a few, because each short request waits for a long one. Stage 1
serves only the client that came first: if that is perf1, perf2 shows 0.
"""
import contextlib
import socket
import sys
import threading

import lesson
import protocol


def main(options):
    answered, over = 0, threading.Event()

    def count():
        """Runs in its own thread, because it has to say 0 while the main one waits for an answer."""
        before = 0
        for _ in range(options.seconds):
            if over.wait(1):
                return
            now = answered
            lesson.say(f"{now - before} requests per second")
            before = now
        over.set()
        with contextlib.suppress(OSError):      # the server may have closed it by now
            connection.shutdown(socket.SHUT_RD)     # wakes the main thread if it still waits

    with socket.create_connection((options.host, options.port)) as connection, connection.makefile("rb") as answers:
        counter = threading.Thread(target=count)
        counter.start()
        try:
            while not over.is_set():
                connection.sendall(b"1\n")
                line = answers.readline()
                if not over.is_set():
                    protocol.check(1, line)
                    answered += 1
        finally:
            over.set()
            counter.join()


if __name__ == "__main__":
    parser = lesson.parser(__doc__)
    parser.add_argument("--seconds", type=lesson.number, default=sys.maxsize, help="how long (default: until Ctrl-C)")
    lesson.run(main, parser.parse_args())
