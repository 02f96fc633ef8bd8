"""What a request costs, as far as it takes no clock: system calls and allocations.

What an idle client costs is asked of a crowd (suite_lesson.py). Time is measured by `make bench`, and asserted nowhere.
"""
from harness import check_program, expect, request
from suite_faults import start

# What a server calls, under whichever name faults.c has it: to wait; and all that it should not call for a small request.
WAITS = "poll", "ppoll", "pselect", "epoll_wait"
OTHERS = "accept4", "epoll_ctl", "sigtimedwait", "nanosleep", "open", "pread64", "pwrite64", "fdatasync", "mmap", "write"


def ask_often(client, question, answer, times):
    for _ in range(times):
        client.socket.sendall(question)
        came = b""
        while not came.endswith(answer):
            piece = client.socket.recv(4096)
            expect(bool(piece), True, f"more comes than {came}")
            came += piece


SMALL = ((b"fib 1\n", b"fib: 1\n"), (b"fib 1\n" * 16, b"fib: 1\n" * 16), (request("GET", "/fib/1"), b'{"n":1,"fib":1}'))
A_READ = (b"list\n", b"tasks: 0\n"), (request("GET", "/api/tasks"), b"[]")


def askable(stage, questions):
    """Those that can be asked again and again on one connection."""
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
        # Of an edge one is told once, and must come back and read until there is no more: that is its price. And to read the
        # tasks ends one's turn; before the next one the loop looks whether others have come.
        edge, a_read = stage.option("--trigger") == "edge", (question, answer) in A_READ
        reads, waits = 200 if edge else 100, 200 if edge or a_read else 100
        with server.connect() as client:
            ask_often(client, question, answer, 3)
            for calls, most in (["send"], 100), (["recv"], reads), (WAITS, waits), (OTHERS, 0):
                if not stage.rests and calls != ["send"]:
                    continue        # it looks at everybody all the time
                with faults.counting(*calls):
                    ask_often(client, question, answer, 100)
                # What follows a reply may belong to the one before these; and a worker may learn late that a client has gone.
                # That is a few calls. One more for each request were a hundred.
                expect(faults.counted < most + 10, True,
                       f"{faults.counted} of {', '.join(calls)} for a hundred times {question}")
