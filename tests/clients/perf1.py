"""How long one long request takes, again and again: perf1 of David Beazley's talk.

    python3 tests/clients/perf1.py              fib 40, until Ctrl-C
    python3 tests/clients/perf1.py 45 --times 3

Start a second one beside it, in another terminal. Stages 2, 3 and 6 compute for both at the same time: the figures stay as
they are, as long as there is a processor for each. Stages 4 and 5 compute for one after the other: the figures double. At
stage 1 the second shows no figure until the first has ended. Then see what perf1 does to perf2.py.
"""
import socket
import sys
import time

import lesson
import protocol


def main(options):
    with socket.create_connection((options.host, options.port)) as connection, connection.makefile("rb") as answers:
        for _ in range(options.times):
            began = time.monotonic()
            connection.sendall(f"{options.n}\n".encode())
            protocol.check(options.n, answers.readline())
            lesson.say(f"{time.monotonic() - began:.3f} s")


if __name__ == "__main__":
    parser = lesson.parser(__doc__)
    parser.add_argument("n", type=lesson.number, nargs="?", default=40, help="which Fibonacci number (default: 40)")
    parser.add_argument("--times", type=lesson.number, default=sys.maxsize, help="how often (default: until Ctrl-C)")
    lesson.run(main, parser.parse_args())
