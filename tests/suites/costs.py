"""What a request costs in system calls and allocations.

lesson.py checks what an idle client costs. `make bench` measures speed; no check asserts it.
"""
from harness.checks import check_program, expect
from harness.client import request
from harness.faults import start

# Calls, by their names in faults.c: those in which a server waits, and those that a small request should not need.
WAITS = "poll", "ppoll", "pselect", "epoll_wait"
OTHERS = "accept4", "epoll_ctl", "sigtimedwait", "nanosleep", "open", "pread64", "pwrite64", "fdatasync", "mmap", "write"


def ask_often(client, question, answer, times):
    for _ in range(times):
        client.socket.sendall(question)
        came = b""
        while not came.endswith(answer):
            piece = client.socket.recv(4096)
            expect(bool(piece), True, f"the connection stays open after {came}")
            came += piece


SMALL = ((b"fib 1\n", b"fib: 1\n"), (b"fib 1\n" * 16, b"fib: 1\n" * 16), (request("GET", "/fib/1"), b'{"n":1,"fib":1}'))
A_READ = (b"list\n", b"tasks: 0\n"), (request("GET", "/api/tasks"), b"[]")


def askable(stage, questions):
    """Those that one connection can carry again and again."""
    return [(question, answer) for question, answer in questions if stage.keeps_http_open or b"HTTP" not in question]


@check_program("costs", row=True)
def a_small_request_allocates_nothing(program):
    server, faults = start(program)
    for question, answer in askable(program.stage, SMALL):
        with server.connect() as client:
            ask_often(client, question, answer, 3)
            with faults.counting("malloc"):
                ask_often(client, question, answer, 100)
            expect(faults.counted, 0, f"allocations for a hundred times {question}")


@check_program("costs", row=True)
def a_small_request_is_a_wait_a_recv_and_a_send(program):
    server, faults = start(program)
    stage = program.stage
    for question, answer in askable(stage, SMALL + A_READ):
        # Edge-triggered epoll does not repeat itself: the server reads again until EAGAIN, one recv and a wait more.
        # Reading the tasks ends a client's turn: the loop looks for other clients before the next one, one wait more.
        edge, a_read = stage.option("--trigger") == "edge", (question, answer) in A_READ
        reads, waits = 200 if edge else 100, 200 if edge or a_read else 100
        with server.connect() as client:
            ask_often(client, question, answer, 3)
            for calls, most in (["send"], 100), (["recv"], reads), (WAITS, waits), (OTHERS, 0):
                if not stage.rests and calls != ["send"]:
                    continue        # it asks every socket all the time
                with faults.counting(*calls):
                    ask_often(client, question, answer, 100)
                # A few calls may belong to the request before these, or to a client that a worker learns late has gone.
                # One call more for each request would be a hundred.
                expect(faults.counted < most + 10, True,
                       f"{faults.counted} of {', '.join(calls)} for a hundred times {question}")


@check_program("costs", row=True)
def known_replies_leave_in_one_send_before_a_wait(program):
    server, faults = start(program)
    question, answer = b"fib 1\n" * 15 + b"sleep 0\n", b"fib: 1\n" * 15 + b"slept: 0\n"
    with server.connect() as client:
        ask_often(client, question, answer, 3)
        with faults.counting("send"):
            ask_often(client, question, answer, 100)
        expect(faults.counted < 210, True, f"{faults.counted} of send for a hundred times sixteen requests")
