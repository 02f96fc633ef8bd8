"""A small, correct server for a part of the line protocol: fib, sleep, count, help and quit. A thread for each client.

The test suite itself is tested on it. Without a flaw it keeps its parts of the contract. With --broken NAME it has one
flaw, which the suite must find. Each flaw is where the mistake would be made, as `broken == "its name"`.

    python3 tests/harness/fib_server.py PORT [--broken NAME]
"""
import argparse
import contextlib
import os
import re
import socket
import threading
import time

LONGEST_LINE = 8192


class Count:
    """How many requests were answered, by all threads together."""

    def __init__(self):
        self.value, self.lock = 0, threading.Lock()

    def add_one(self):
        if broken == "counts without a lock":
            seen = self.value
            time.sleep(0)
            self.value = seen + 1
            return
        with self.lock:
            self.value += 1


def fib(n):
    """1-based: fib(1) and fib(2) are 1."""
    if broken == "counts fib from zero":
        n -= 1
    before, this = 1, 0
    for _ in range(n):
        before, this = this, before + this
    return this


def sleep(seconds):
    if broken == "does not sleep":
        return
    with one_sleeper if broken == "holds all clients while one sleeps" else contextlib.nullcontext():
        time.sleep(seconds)


def answer(line, count):
    """The reply to one line."""
    match = re.fullmatch(r"(?:fib )?(\d+)", line, re.ASCII)
    if match and 1 <= int(match[1]) <= 50:
        return f"fib: {fib(int(match[1]))}"
    match = re.fullmatch(r"sleep (\d+(?:\.\d*)?|\.\d+)", line, re.ASCII)
    if match and float(match[1]) <= 60:
        sleep(float(match[1]))
        return f"slept: {match[1]}"
    if line == "count":
        return f"count: {count.value}"
    if line == "help":
        return "commands: 5\nfib N\nsleep SECONDS\ncount\nhelp\nquit"
    if line == "quit":
        return "bye:"
    return "error: expected fib N (N from 1 to 50), sleep SECONDS (up to 60), count, help or quit"


def lines_of(client):
    """The lines of a stream as they come, without their ends; None for one that is too long or is not text."""
    stream = client.makefile("rb")
    while True:
        line = client.recv(4096) if broken == "takes a chunk for a line" else stream.readline(LONGEST_LINE + 2)
        if not line or broken == "drops an unterminated last line" and not line.endswith(b"\n"):
            return
        end = b"\r\n" if line.endswith(b"\r\n") else line[-1:] if line[-1:] in b"\r\n" else b""
        too_long = len(line) - len(end) > LONGEST_LINE
        while too_long and line and not line.endswith(b"\n"):
            if broken == "hangs up on a long line":
                return
            line = stream.readline(LONGEST_LINE)
        try:
            text = None if too_long or b"\0" in line else line.decode().rstrip("\n")
        except UnicodeDecodeError:
            if broken == "hangs up on bytes that are not text":
                return
            text = None
        yield text and text.strip(" \t\r")


def serve(client):
    count = Count() if broken == "counts each client alone" else whole_count

    def reply(line):
        text = "error: not a line of text of up to 8192 bytes" if line is None else answer(line, count)
        if line != "count" or broken == "counts itself":
            count.add_one()
        client.sendall(text.encode() + b"\n")
        return text

    for line in lines_of(client):
        if line == "":
            continue
        if broken == "answers out of order" and line is not None and line.startswith("sleep"):
            threading.Thread(target=reply, args=(line,)).start()
            continue
        text = reply(line)
        if text == "bye:" or text.startswith("error:") and broken == "closes after an error":
            return


def serve_and_close(client):
    try:
        with client:
            serve(client)
            client.shutdown(socket.SHUT_WR)     # so that the last reply arrives even if input is left unread
            while client.recv(4096):
                pass
    except OSError:         # the client is gone
        if broken == "dies of a reset":
            os._exit(1)


def main():
    global broken, whole_count, one_sleeper
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("port", type=int)
    parser.add_argument("--broken", metavar="NAME")
    options = parser.parse_args()
    broken, whole_count, one_sleeper = options.broken, Count(), threading.Lock()
    listener = socket.create_server(("127.0.0.1", options.port), backlog=100)
    while True:
        client, _ = listener.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=serve_and_close, args=(client,), daemon=True).start()


if __name__ == "__main__":
    main()
