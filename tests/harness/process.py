"""A server seen as a process: its signals, its log, its memory."""
import signal

from harness.checks import expect, expect_match, wait_for
from harness.system import most_memory


def notices(server, number):
    """Sends the master this signal, and waits until its log says that it handles it."""
    text = f"Handling signal: {signal.Signals(number).name[3:].lower()}"
    before = len(server.who_said(text))
    server.send_signal(number)
    wait_for(lambda: len(server.who_said(text)) > before, f"the log said {text!r}")
    expect(server.who_said(text)[-1], (server.pid, "INFO"))


LOG_LINE = r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}\] \[(\d+)\] \[[A-Z]+\] .+"


def expect_cannot_start(program, options, reason, under=()):
    """The program prints one line on standard error that says why, nothing else, and ends with status 1."""
    finished = program.run(*options, under=under)
    expect((finished.status, finished.stdout), (1, ""), "status and standard output")
    expect_match(finished.stderr, rf"{program.stage.name}: {reason}\n")


def stop_now(server, number=signal.SIGTERM):
    """Sends the signal, and waits until the server refuses new clients."""
    server.send_signal(number)
    wait_for(server.refuses, "the server refused new clients")


def expect_grown_less(server, pid, before, limit):
    """The process's peak memory is less than `limit` bytes above `before`. (A sanitizer keeps much that is freed.)"""
    grown = most_memory(pid) - before
    if grown >= limit and server.program.is_built_with(b"__asan_init", b"__tsan_init"):
        limit *= 16
    expect(grown < limit, True, f"the server grew by less than {limit} bytes, and not {grown}")
