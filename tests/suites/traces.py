"""What `make trace3` shows: the trace must say who waited for whom, as each technique promises.

Only the order in which strace saw things happen is compared, because everything takes longer under strace.
"""
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

from harness.checks import Failure, NotRun, check_program, expect, expect_each, expect_match, wait_for
from harness.stages import once, plain

HERE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HERE / "trace"))
import record       # noqa: E402: a path of its own
import six          # noqa: E402
import trace_event  # noqa: E402
from strace import OTHERS, POLLS, READS, SLEEPS     # noqa: E402
from timeline import ASKING, COMPUTING      # noqa: E402
from trace_proofs import expect_valid, expect_waits     # noqa: E402

ANSWERS = {"sleep 0.5": b"slept: 0.5\n", "fib 42": b"fib: 267914296\n", "fib 1": b"fib: 1\n"}


def strace_is_there():
    if not shutil.which("strace"):
        raise NotRun("strace is not installed (make deps installs it)")


# ---- The six stages -----------------------------------------------------------------------------------------------------

def server_of(connection):
    """The thread that read the client's bytes and wrote the reply."""
    threads = {thread.number: thread for thread, _ in connection.moments}
    expect(len(threads), 1, f"threads that served {connection.name}")
    return next(iter(threads.values()))


def servers_of(timeline):
    return [server_of(one) for one in timeline.connections]


def one_after_the_other(timeline):
    for one, after in zip(timeline.connections, timeline.connections[1:]):
        expect(one.closed.last < after.opened.last, True, f"{one.name} was let go before {after.name} was accepted")


def a_process_each(timeline):
    parent = timeline.processes[0]
    expect([one.process.number for one in timeline.connections], [parent.number] * 3, "processes that accepted")
    children = [thread.process for thread in servers_of(timeline)]
    expect([child.parent.number for child in children], [parent.number] * 3, "parents of those that served")
    expect(len({child.number for child in children}), 3, "processes that served")


def other_threads_than_the_first(timeline):
    process = timeline.processes[0]
    servers = servers_of(timeline)
    expect([thread.process.number for thread in servers], [process.number] * 3, "processes that served")
    expect(process.number in [thread.number for thread in servers], False, "the first thread has served")


def one_process(timeline):
    process = timeline.processes[0]
    expect([thread.process.number for thread in servers_of(timeline)], [process.number] * 3, "processes that served")


def a_thread_each(timeline):
    expect(len({thread.number for thread in servers_of(timeline)}), 3, "threads that served")


def a_worker_serves_whom_it_accepts(timeline):
    master = timeline.processes[0]
    for one in timeline.connections:
        expect((server_of(one).process.number, one.process.parent.number), (one.process.number, master.number), one.name)


def who_serves_computes(timeline):
    computing = timeline.connections[1]
    done = any(piece.kind == COMPUTING and piece.about is computing for piece in server_of(computing).slices)
    expect(done, True, "the thread that read fib 42 has computed it")


def the_loop_reads_from_nobody_while_it_computes(timeline):
    _, computing, waiting = timeline.connections
    slices = server_of(computing).slices
    computed = next(piece for piece in slices if piece.kind == COMPUTING and piece.about is computing)
    read = next(piece for piece in slices if piece.name in READS and piece.about is waiting)
    expect(computed.end <= read.begin, True, "fib 42 was computed before fib 1 was read")


def the_loop_goes_on_while_the_pool_computes(timeline):
    _, computing, quick = timeline.connections
    loop = server_of(computing)
    expect({thread.number for thread in servers_of(timeline)}, {loop.number}, "the threads that read and wrote")
    answered = quick.moments[-1][1]
    expect(answered.last < computing.moments[-1][1].first, True, "fib 1 was answered before fib 42 was")
    pool = [thread for thread in loop.process.threads if thread is not loop]
    expect(any(piece.kind == COMPUTING and piece.begin < answered.begin and answered.end < piece.end
               for thread in pool for piece in thread.slices), True, "a thread of the pool computed when fib 1 was answered")


def rests_in(*names):
    """From the first client's arrival until the last one's end, the serving thread could rest in these calls only. Any other
    call returns at once, because its sockets do not block."""
    def rests(timeline):
        begin = min(one.opened.last for one in timeline.connections)
        end = max(one.closed.first for one in timeline.connections)
        calls = [piece.call for piece in server_of(timeline.connections[0]).slices if piece.call]
        expect({call.name for call in calls if begin < call.last < end} & {*POLLS, *SLEEPS, *OTHERS} - {"futex"}, set(names))
    return rests


def asks_again_and_again(timeline):
    times = [piece.call.times for piece in server_of(timeline.connections[0]).slices if piece.kind == ASKING]
    expect(max(times, default=0) > 10, True, "it has asked more than ten times in a row")


def the_picture_shows_who_waits(stage):
    def shows(timeline):
        lanes = six.panel(timeline)["lanes"]
        expect([one["text"] for one in lanes], list(ANSWERS), "lanes")
        expect_waits(stage.number, lanes)
    return shows


def promises(stage):
    """What must be seen in this technique's trace."""
    if stage.workers:
        yield a_worker_serves_whom_it_accepts
    elif stage.number == 1:
        yield one_after_the_other
    elif stage.number == 2:
        yield a_process_each
    elif stage.loops_in_threads:
        yield one_process
    elif stage.number == 3:
        yield other_threads_than_the_first
        if stage == plain(3):
            yield a_thread_each
    else:
        waits = {None: "epoll_wait", "poll": "ppoll", "select": "pselect6"}[stage.option("--wait")]
        yield rests_in(waits) if stage.rests else rests_in()
        if stage.fib_holds_others:
            yield the_loop_reads_from_nobody_while_it_computes
        else:
            yield the_loop_goes_on_while_the_pool_computes
    if not stage.options:
        yield the_picture_shows_who_waits(stage)
    if not stage.rests:
        yield asks_again_and_again
    if stage.number < 6 or stage.fib_holds_others:
        yield who_serves_computes


@check_program("traces", computes=True)
def a_trace_tells_who_waited_for_whom(program):
    strace_is_there()
    if program.is_built_with(b"__asan_init", b"__tsan_init"):
        raise NotRun("a sanitizer makes calls of its own")
    command = [program.path_of(program.stage), *program.stage.options]
    timeline = record.record(command, ", ".join(ANSWERS), ours=True, output=subprocess.DEVNULL)
    expect([(one.text, one.request.answer) for one in timeline.connections], list(ANSWERS.items()))
    expect([one.closed is None for one in timeline.connections], [False] * 3, "left open")
    expect_valid("\n".join(trace_event.lines(timeline, program.stage.title)))
    expect_each([(promise,) for promise in promises(program.stage)], lambda promise: promise(timeline))


# ---- make trace CMD='…' -------------------------------------------------------------------------------------------------

class Run:
    """record.py or gallery.py as a user starts it, with directories of its own."""

    def __init__(self, program, script, *options):
        strace_is_there()
        self.patience, self.temporary = program.patience, program.directory / "temporary"
        self.temporary.mkdir(exist_ok=True)
        self.process = subprocess.Popen([sys.executable, str(HERE / "trace" / script), *options], start_new_session=True,
                                        cwd=program.directory, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        env={**program.environment, "TMPDIR": str(self.temporary)})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.communicate()

    def ends(self):
        """Waits for the end, and checks that nothing is left. Returns the status, and what was printed since."""
        output, errors = self.process.communicate(timeout=self.patience)
        expect(list(self.temporary.iterdir()), [], "files left behind")
        ours = f"TMPDIR={self.temporary}".encode()      # in the environment of all that it has started
        left = [status.parent.name for status in Path("/proc").glob("[0-9]*/environ") if ours in read(status)]
        expect(left, [], "processes left behind")
        return self.process.returncode, output, errors


def read(path):
    try:
        return path.read_bytes()
    except OSError:     # another user's, or gone meanwhile
        return b""


def files(program):
    """The events of the trace that was written, and the chart."""
    (trace,), (picture,) = [list((program.directory / "traces").glob(f"*.{kind}")) for kind in ("json", "svg")]
    expect(trace.stem, picture.stem)
    return expect_valid(trace.read_text()), picture.read_text()


HTTP_SERVER = sys.executable, "-m", "http.server", "0", "--bind", "127.0.0.1"


@check_program("traces", only=once)
def any_server_can_be_traced(program):
    def row(*before):
        with Run(program, "record.py", "--load", "/, /nothing", "--directory", "traces", *before, *HTTP_SERVER) as run:
            status, output, errors = run.ends()
        expect(status, 0, errors)
        expect("no answer" in errors or "not answered" in errors, False, errors)
        expect_match(output, r"traces/(\S+)\.svg: .+\ntraces/\1\.json: .+\n")
        events, picture = files(program)
        expect([event["name"].partition(" (")[0] for event in events["b"] if event["name"].startswith("client")],
               ["client 1: /", "client 2: /nothing"])
        expect([word for word in ("client 1: /", "client 2: /nothing", "is answered") if word not in picture], [])
        shutil.rmtree(program.directory / "traces")

    # Started by itself, as another process's child, and in a session of its own, like a daemon.
    expect_each([(), ("sh", "-c", '"$@"; true', "sh"), ("setsid", "--fork")], row)


@check_program("traces", only=once)
def ctrl_c_ends_a_load_of_the_readers_own(program):
    with Run(program, "record.py", "--load", "mine", "--directory", "traces", *HTTP_SERVER) as run:
        port = 0
        while not port:
            line = run.process.stderr.readline()
            expect(line != "", True, "it ended")
            port = int(([0] + re.findall(r"^it listens on 127\.0\.0\.1:(\d+): yours, until Ctrl-C$", line))[-1])
        with socket.create_connection(("127.0.0.1", port), program.patience) as client:
            client.sendall(b"GET /mine HTTP/1.0\r\n\r\n")
            expect(client.recv(12), b"HTTP/1.0 404")
        os.killpg(run.process.pid, signal.SIGINT)
        status, _, errors = run.ends()
        expect((status, "it is told to stop" in errors.splitlines()), (0, True), errors)
    events, picture = files(program)
    expect([event["name"].partition(" (")[0] for event in events["b"]], ["client 1: GET /mine", "is answered"])
    expect("client 1: GET /mine" in picture, True)


@check_program("traces", only=once)
def a_failed_trace_says_why(program):
    def row(command, status, said):
        with Run(program, "record.py", "--patience", "0.5", *command) as run:
            ended, output, errors = run.ends()
        expect((ended, output), (status, ""))
        expect_match(errors.splitlines()[-1], said)

    expect_each([((), 2, r".*what is to be run\? make trace CMD='.*'"),
                 (("no such server",), 1, "no trace: no such server is not there"),
                 (("false",), 1, "no trace: it ended with status 1 before it listened for TCP connections"),
                 (("sh", "-c", "kill -9 $$"), 1, "no trace: it ended with status -9 before .*"),
                 (("sleep", "1000"), 1, r"no trace: it does not listen for TCP connections within 0\.5 s")], row)


STUBBORN = """
import signal, socket
signal.signal(signal.SIGTERM, signal.SIG_IGN)
listener = socket.create_server(("127.0.0.1", 0))
while True:
    listener.accept()[0].close()
"""


@check_program("traces", only=once)
def a_server_that_does_not_stop_is_killed(program):
    strace_is_there()
    with record.Traced([sys.executable, "-c", STUBBORN]) as server:
        address = server.until_listens()
        expect(server.stop(patience=0.2), False, "it obeys SIGTERM")
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(address)
            raise Failure("it still listens")


# ---- The gallery --------------------------------------------------------------------------------------------------------

def put_in_place_of_node(program, text):
    """The gallery that this program starts will take the script for Node."""
    tools = program.directory / "tools"
    tools.mkdir(exist_ok=True)
    (tools / "node").write_text(text)
    (tools / "node").chmod(0o755)
    program.environment["PATH"] = f"{tools}:{os.environ['PATH']}"


@check_program("traces", only=once)
def the_gallery_shows_the_servers_that_work(program):
    put_in_place_of_node(program, '#!/bin/sh\ntest "$1" = --version\n')
    why = "it ended with status 1 before it listened for TCP connections"
    options = "--load", "/sleep/0.1, /fib/N", "--output", "page.html"
    with Run(program, "gallery.py", "--only", "Node", "stage5", *options) as run:
        status, output, errors = run.ends()
    expect((status, output), (0, "page.html: open it in a browser\n"), errors)
    expect(errors, f"stage5_epoll\nNode\nnot shown: {why}\n")
    page = (program.directory / "page.html").read_text()
    expect_match(page, r"(?s).*<svg.*>/sleep/0\.1, /fib/\d+<.*client 2: /fib/\d+<.*stage5_epoll \d+<.*"
                       rf"Not shown: Node \({why}\)\.</p>\n</html>\n")
    expect(re.findall(r'(?:src|href)="[^"]*"', page), [], "other files that it needs")
    with Run(program, "gallery.py", "--only", "Node", *options) as run:
        expect(run.ends(), (1, "", f"Node\nnot shown: {why}\nno trace: {why}\n"))


INTERRUPTED = """#!{python}
import pathlib, signal, socket, sys, time
if sys.argv[1].startswith("-"):
    sys.exit()      # only asked whether it is installed
comes = lambda moment: pathlib.Path("{directory}", moment).touch()
signal.signal(signal.SIGTERM, lambda *_: comes("told to stop"))
listener = socket.create_server(("127.0.0.1", int(sys.argv[2])))
while True:
    with listener.accept()[0] as client:
        client.recv(999)
        comes("asked")
        time.sleep({seconds})
        client.sendall(b'HTTP/1.0 200 OK\\r\\n\\r\\n{{"fib": 1}}')
"""


@check_program("traces", only=once)
def ctrl_c_ends_the_gallery(program):
    def row(moment, seconds):
        seen = program.directory / f"seen, until {moment}"
        seen.mkdir()
        put_in_place_of_node(program, INTERRUPTED.format(python=sys.executable, directory=seen, seconds=seconds))
        with Run(program, "gallery.py", "--only", "Node", "Koa", "--load", "/", "--output", "page.html") as run:
            wait_for((seen / moment).exists, moment)
            os.killpg(run.process.pid, signal.SIGINT)
            expect(run.ends(), (1, "", "Node\ninterrupted\n"))
        expect((program.directory / "page.html").exists(), False, "there is a page")

    expect_each([("asked", 1000), ("told to stop", 0.2)], row)
