"""The lesson's clients (tests/clients): they show what they are to show, and report errors in clear words."""
import contextlib
import fcntl
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path

from harness.checks import check, check_program, expect, expect_each, expect_in_three_tries, expect_match, wait_for
from harness.server import Finished
from harness.stages import once, plain
from harness.system import free_port, processor_ticks

CLIENTS = Path(__file__).resolve().parent.parent / "clients"
# All of them, each with a request that ends at once.
COMMANDS = [("perf1", "1", "--times", "1"), ("perf2",), ("single_task", "--target", "/fib/1"),
            ("multi_task_sync", "--target", "/fib/1"), ("multi_task_async", "--target", "/fib/1"),
            ("multi_task_async", "--target", "/fib/1", "--blocking"), ("spam", "3", "1"), ("spam", "3", "/fib/1")]


@contextlib.contextmanager
def client(port, name, *arguments, **options):
    """Runs a client meanwhile. No environment variable sets its terminal's size or its buffering: that is up to the client."""
    command = ["env", "-u", "COLUMNS", "-u", "LINES", "-u", "PYTHONUNBUFFERED", sys.executable, "-W", "error",
               CLIENTS / f"{name}.py", "--port", str(port), *arguments]
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    with subprocess.Popen(command, text=True, **streams) as process:
        try:
            yield process
        finally:
            process.kill()


def end_of(program, process):
    """Waits for its end; returns its status and output."""
    stdout, stderr = process.communicate(timeout=program.patience)
    program.notes.append(f"{' '.join(map(str, process.args[10:]))}: status {process.returncode}, {stdout!r}, {stderr!r}")
    return Finished(process.returncode, stdout, stderr)


def run(program, port, *command):
    with client(port, *command) as process:
        return end_of(program, process)


def output_of(server, *command):
    """Standard output of a client that must succeed and report nothing."""
    finished = run(server.program, server.port, *command)
    expect((finished.status, finished.stderr), (0, ""), f"the end of {' '.join(command)}")
    return finished.stdout


# ---- Tasks --------------------------------------------------------------------------------------------------------------

ONE_BY_ONE = [(number, what) for number in range(1, 11) for what in ("began", "ended")]
SLEEP = 0.5


def tasks(output):
    """What happened, in order: the number of a task, whether it began or ended, and when."""
    found = [re.match(r"task +(\d+)  (began|ended) (\d+\.\d\d) s(?:  by stage\d_\w+ pid=\d+ thread=\d+)?$", line)
             for line in output.splitlines()]
    return [(int(match[1]), match[2], float(match[3])) for match in found]


@check("lesson clients", ours=True)
def a_blocking_client_does_ten_tasks_one_by_one(server):
    for command in ("multi_task_sync",), ("multi_task_async", "--blocking"):
        events = tasks(output_of(server, *command, "--target", "/fib/1"))
        expect([event[:2] for event in events], ONE_BY_ONE, f"the events of {' '.join(command)}")
    expect([event[:2] for event in tasks(output_of(server, "single_task", "--target", "/fib/1"))], ONE_BY_ONE[:2])


@check("lesson clients", ours=True, row=True)
def ten_async_sleeps_overlap_if_the_server_serves_several(server):
    """One after the other, ten would take the time of nine sleeps at least, from the first begin to the last end."""
    def overlap():
        events = tasks(output_of(server, "multi_task_async", "--target", f"/sleep/{SLEEP}"))
        expect([event[:2] for event in events[:10]], [(number, "began") for number in range(1, 11)])
        expect(sorted(event[:2] for event in events[10:]), [(number, "ended") for number in range(1, 11)])
        return events[-1][2] - events[0][2] < 9 * SLEEP

    expect_in_three_tries(overlap, server.stage.serves(2), "the ten overlap")


# ---- spam ---------------------------------------------------------------------------------------------------------------

BAR = r" +(\d+) ( *)(#+) (\d+\.\d\d) s"


def bars(output, number):
    """The column in which each bar ends, and its seconds. The last line must name the same seconds."""
    *lines, last = output.splitlines()
    found = [expect_match(line, BAR).groups() for line in lines]
    expect([int(place) for place, _, _, _ in found], list(range(1, number + 1)), "the places")
    seconds = [float(taken) for _, _, _, taken in found]
    words = expect_match(last, rf"{number} of {number} answered, .+; shortest (\S+), median \S+, longest (\S+) s")
    expect([float(word) for word in words.groups()], [min(seconds), max(seconds)], "the shortest and the longest")
    return [len(blanks + marks) for _, blanks, marks, _ in found], seconds


@check("lesson clients", ours=True)
def spam_draws_a_staircase_at_stage_1_and_else_a_block(server):
    def overlap():
        ends, seconds = bars(output_of(server, "spam", "10", f"sleep {SLEEP}"), 10)
        if not server.stage.serves(2):
            expect(all(one < next_one for one, next_one in zip(ends, ends[1:])), True, f"each ends further right: {ends}")
        return max(seconds) < 9 * SLEEP

    expect_in_three_tries(overlap, server.stage.serves(2), "the bars overlap")
    bars(output_of(server, "spam", "10", "/fib/1"), 10)


@contextlib.contextmanager
def spam_in_terminal(port, *arguments, lines, columns):
    """spam, and what it shows in a terminal of this size, piece by piece."""
    def shown():
        with contextlib.suppress(OSError):      # EIO: every writer has gone
            while True:
                yield os.read(ours, 1 << 16).decode()

    ours, its = os.openpty()
    try:
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        with client(port, "spam", *arguments, stdout=its) as process:
            os.close(its)
            yield process, shown()
    finally:
        os.close(ours)


@check_program("lesson clients", only=once)
def in_a_terminal_as_many_bars_grow_as_there_is_room_for(program):
    server = program.start(stage=plain(1))
    with spam_in_terminal(server.port, "12", "sleep 0.2", lines=8, columns=60) as (process, shown):
        *frames, last = "".join(shown).replace("\r", "").replace("\033[K", "").split("\033[7A")
        expect(end_of(program, process), Finished(0, None, ""))
    for frame in frames:
        places = [expect_match(line, r" +(\d+)  *[-#]+ \d+\.\d\d s").group(1) for line in frame.splitlines()]
        expect(places, list("1234567"), "the places in a frame")
    seventh = [re.search("[-#]+", frame.splitlines()[-1])[0] for frame in frames]
    expect(("-" in seventh[0], len(set(seventh)) > 1), (True, True), f"the seventh waits, and grows: {seventh}")
    bars(last, 12)


# ---- The talk's two clients ---------------------------------------------------------------------------------------------

def answered(output):
    """How many requests perf2 has counted."""
    return sum(int(expect_match(line, r"(\d+) requests per second")[1]) for line in output.splitlines())


@check_program("lesson clients", only=once, computes=True)
def perf1_stalls_perf2_at_stage_5_but_not_at_stage_6(program):
    def first_figure(number, n):
        server = program.start(stage=plain(number))
        before = processor_ticks(server.pid)
        with client(server.port, "perf1", n, "--times", "1") as perf1:
            wait_for(lambda: processor_ticks(server.pid) > before + 2, f"fib {n} was being computed")
            with client(server.port, "perf2") as perf2:
                figure = answered(perf2.stdout.readline())
            expect(end_of(program, perf1).status, 0, "the status of perf1")
            return figure

    expect_in_three_tries(lambda: first_figure(5, "47"), 0, "what perf2 counts at stage 5")
    expect_in_three_tries(lambda: first_figure(6, "43") > 0, True, "perf2 has something to count at stage 6")


@check_program("lesson clients", only=once)
def perf2_ends_in_time_without_an_answer(program):
    server = program.start(stage=plain(1))
    holding = server.connect()
    expect(holding.ask("6"), "fib: 8")
    expect(output_of(server, "perf2", "--seconds", "1"), "0 requests per second\n")


@check_program("lesson clients", only=once)
def perf2_counts_what_the_server_counts(program):
    server = program.start()
    counted = answered(output_of(server, "perf2", "--seconds", "2"))
    really = int(server.ask("count").replace("count: ", ""))
    expect(counted <= really < 2 * counted, True, f"perf2 counted {counted}, the server {really}")


# ---- How they end -------------------------------------------------------------------------------------------------------

@check_program("lesson clients", only=once)
def works_with_a_server_that_takes_chunks_for_requests(program):
    server = program.start("--framing", "recv")
    for command in ("perf1", "1", "--times", "3"), ("perf2", "--seconds", "1"), ("spam", "3", "1"):
        output_of(server, *command)


@check_program("lesson clients", only=once)
def each_says_when_there_is_no_server(program):
    port = free_port()
    for host in "localhost", "127.0.0.1":
        words = f"no server at {host}:{port}: Connection refused; start one with: make run3\n"
        for command in COMMANDS:
            finished = run(program, port, *command, "--host", host)
            expect((finished.status, finished.stderr), (1, words), f"the end of {command}")
    finished = run(program, port, "perf1", "--host", "no..such.host")
    expect(finished.status, 1)
    expect_match(finished.stderr, rf"no answer from no..such.host:{port}: .+\n")


@contextlib.contextmanager
def vanishing(last_words, reset):
    """A server that sends each client these bytes and no more, and closes or resets the connection."""
    def serve():
        with contextlib.suppress(OSError):      # accept fails at the end, when the listener is shut down
            while True:
                visitor, _ = listener.accept()
                with visitor, contextlib.suppress(ConnectionError):
                    visitor.recv(1 << 16)
                    visitor.sendall(last_words)
                    if reset:
                        visitor.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@check_program("lesson clients", only=once)
def each_says_when_the_server_has_gone(program):
    def says_so(command):
        half = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf" if command[-1].startswith(("/", "--bl")) else b"fib: 8"
        for last_words, reset in (b"", False), (half, False), (b"", True):
            with vanishing(last_words, reset) as port:
                finished = run(program, port, *command)
            expect(finished.status, 1)
            expect_match(finished.stderr, rf"no answer from localhost:{port}: .+\n")

    expect_each([[command] for command in COMMANDS], says_so)


@check_program("lesson clients", only=once)
def an_error_is_reported_and_not_measured(program):
    server = program.start("--max-fib", "20")
    rows = [(("perf1", "21"), "21: error: .+"), (("spam", "3", "nonsense"), "nonsense: error: .+"),
            (("spam", "3", "/fib/21"), r'GET /fib/21: 400 \{"error":".+"\}')]
    rows += [((*command, "--target", "/no ä"), r'GET /no ä: 404 \{"error":".+"\}')
             for command in (["single_task"], ["multi_task_sync"], ["multi_task_async"], ["multi_task_async", "--blocking"])]

    def is_told(command, words):
        finished = run(program, server.port, *command)
        expect(finished.status, 1)
        expect_match(finished.stderr, words + "\n")
        expect([line for line in finished.stdout.splitlines() if "began" not in line], [], "what is measured")

    expect_each(rows, is_told)


@check_program("lesson clients", only=once)
def a_refused_client_has_a_line_that_fits_a_terminal(program):
    server = program.start("--max-clients", "2")
    for request in "sleep" + 80 * " " + "1", "/sleep/1":
        finished = run(program, server.port, "spam", "3", request)
        expect(finished.status, 1)
        expect_match(finished.stderr, ".*: error: server is full\n")
        lines = finished.stdout.splitlines()
        expect_match(lines[0], "   1  *x+ (?:error: server is full|sleep +)")
        expect(max(map(len, lines)) < 80, True, f"every line fits a terminal: {lines}")
        expect_match(lines[-1], "2 of 3 answered, .+")


@check_program("lesson clients", only=once)
def ctrl_c_ends_each_quietly(program):
    def ends_quietly(port, *command):
        with client(port, *command) as process:
            expect(bool(process.stdout.readline()), True, "it has begun")
            process.send_signal(signal.SIGINT)
            finished = end_of(program, process)
        expect((finished.status, finished.stderr), (0, ""))

    ends_quietly(program.start().port, "perf1", "1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        expect_each([(port, *command) for command in COMMANDS if command[0] not in ("perf1", "spam")], ends_quietly)
        with spam_in_terminal(port, "3", "1", lines=24, columns=80) as (process, shown):
            next(piece for piece in shown if "-" in piece)
            process.send_signal(signal.SIGINT)
            expect(end_of(program, process), Finished(0, None, ""))


@check_program("lesson clients", only=once)
def a_closed_output_pipe_is_no_error(program):
    server = program.start()
    for command in ("perf1", "1"), ("perf2",):
        with client(server.port, *command) as process:
            process.stdout.readline()
            process.stdout.close()
            expect((process.wait(program.patience), process.stderr.read()), (0, ""), f"the end of {command}")


@check_program("lesson clients", only=once)
def a_wrong_command_line_is_reported_at_once(program):
    rows = [("perf1", "0"), ("perf1", "--times", "0"), ("perf2", "--seconds", "x"), ("single_task", "--port", "65536"),
            ("multi_task_sync", "--nonsense"), ("multi_task_async", "--target"), ("spam", "3"), ("spam", "0", "1")]
    for command in rows:
        finished = run(program, 1, *command)
        expect((finished.status, finished.stdout), (2, ""), f"the end of {command}")
        expect_match(finished.stderr.splitlines()[-1], rf"{command[0]}\.py: error: .+")
