"""One request, which blocks: when it began, when it ended, and who served it.

    python3 tests/clients/single_task.py
    python3 tests/clients/single_task.py --target /cpuTask

/ioTask waits for a second, /cpuTask computes for about one. Any stage answers in that time while no other client asks.
Start another one beside it, or multi_task_async.py, and see whom it waits for.
"""
import socket
import time

import lesson
import protocol

START = time.monotonic()


def get(options, path):
    """Waits in each of its calls: its thread does nothing else meanwhile."""
    with socket.create_connection((options.host, options.port)) as connection, connection.makefile("rb") as answers:
        connection.sendall(protocol.get(options, path))
        return protocol.served_by(path, answers.read())


def task(number, options):
    say(number, "began")
    by = get(options, options.target)
    say(number, "ended", f"  by {by}")


def say(number, what, more=""):
    lesson.say(f"task {number:2}  {what} {time.monotonic() - START:.2f} s{more}")


def main(options):
    task(1, options)


def parser(doc):
    found = lesson.parser(doc)
    found.add_argument("--target", default="/ioTask", help="what to ask for (default: /ioTask)")
    return found


if __name__ == "__main__":
    lesson.run(main, parser(__doc__).parse_args())
