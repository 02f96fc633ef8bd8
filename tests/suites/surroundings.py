"""The surroundings of a server: standard error that nobody reads, pid files, blocked signals, process id 1, a terminal."""
import contextlib
import os
import pty
import re
import signal
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

from harness.checks import Fault, NotRun, check_program, expect, expect_each, expect_match, wait_for
from harness.lines import add
from harness.process import expect_cannot_start, notices, stop_now
from harness.stages import has_workers
from harness.system import children, processes, readable, stat_fields, writable
from tutorial.terminal import Terminal


def python(script, *arguments):
    """What to put before a server's command, so that Python runs this script first."""
    count = 1 + len(arguments)
    return sys.executable, "-c", f"import os, sys; {script}; os.execvp(sys.argv[{count}], sys.argv[{count}:])", *arguments


def having_opened(program, path):
    """What to put before a server's command to make this file its standard error."""
    for name in "ASAN_OPTIONS", "TSAN_OPTIONS":     # a sanitizer's report would block there
        program.environment[name] = f"{program.environment.get(name, '')}:log_path={program.directory}/report"
    return python("os.dup2(os.open(sys.argv[1], os.O_WRONLY | os.O_NOCTTY), 2)", path)


# ---- Standard error -----------------------------------------------------------------------------------------------------

@contextlib.contextmanager
def full_pipe(program):
    """The name of a pipe that takes nothing more, and its reading end."""
    path = program.directory / "pipe"
    os.mkfifo(path)
    pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(pipe, bytes(4096))
    yield path, pipe
    os.close(pipe)
    path.unlink()


@contextlib.contextmanager
def unread_terminal(program):
    """The name of a terminal whose output nobody reads, and its other end."""
    terminal, slave = pty.openpty()
    yield os.ttyname(slave), terminal
    os.close(terminal)
    os.close(slave)


@contextlib.contextmanager
def held_terminal(program):
    """... which is held by Ctrl-S."""
    with unread_terminal(program) as (path, terminal):
        os.write(terminal, b"\x13")
        slave = os.open(path, os.O_WRONLY | os.O_NOCTTY)
        wait_for(lambda: not writable(slave, 0), "the terminal took nothing more")
        os.close(slave)
        yield path, terminal


def what_has_come(pipe):
    """Takes all that is in the pipe."""
    taken = b""
    with contextlib.suppress(BlockingIOError):
        while True:
            taken += os.read(pipe, 1 << 16)
    return taken.decode("latin-1")


@check_program("log", row=True,
               fault=Fault("nobody reads standard error: a full pipe, a terminal held by Ctrl-S", "is answered",
                           "are answered; the log tells how many lines were dropped when it is read again"))
def standard_error_that_nobody_reads_holds_up_nobody(program):
    for unread in full_pipe, held_terminal, unread_terminal:
        with unread(program) as (path, _):
            server = program.start("-v", under=having_opened(program, path))
            for _ in range(100):        # more than a terminal keeps
                expect(server.http("GET", "/nothing?" + "x" * 200).status, 404)
            expect(server.stop(), 0, "the exit status")


@check_program("log")
def a_second_signal_ends_it_though_nobody_reads_the_log(program):
    for unread in full_pipe, held_terminal:
        with unread(program) as (path, _):
            server = program.start(under=having_opened(program, path))
            client = server.connect()
            client.send("sleep 30\n")
            client.wait_until_read()
            stop_now(server)
            time.sleep(0.2)     # a second signal within 50 ms counts as the first
            server.send_signal()
            expect(server.wait(patience=9), 1, "the exit status")


@check_program("log")
def the_next_line_tells_how_many_were_dropped(program):
    with full_pipe(program) as (path, pipe):
        server = program.start("-v", db=":memory:", under=having_opened(program, path))
        client = server.connect()
        for _ in range(5):
            expect(client.ask("6"), "fib: 8")
        what_has_come(pipe)
        pid = client.served_by()
        expect(client.ask("7"), "fib: 13")
        # A worker has also said that it boots. Its parent's line about :memory: counts for the parent.
        number = 6 if program.stage.workers else 5
        told = rf"\[{pid}\] \[WARNING\] Lines dropped .*: {number}\n\[.*\] \[{pid}\] \[INFO\] 200 7 .*ms\n"
        shown = [""]

        def is_told():
            shown[0] += what_has_come(pipe)
            return re.search(told, shown[0])

        wait_for(is_told, f"the log said {told!r}, not {shown}")
        shown[0] = ""
        expect(client.ask("6"), "fib: 8")
        wait_for(lambda: readable(pipe), "the next line came")
        shown[0] = what_has_come(pipe)
        expect(f"[{pid}] [WARNING]" in shown[0], False, f"the same is told again: {shown[0]!r}")


@check_program("log", only=lambda stage: not stage.options)
def a_log_that_cannot_be_written_changes_no_exit_status(program):
    command = f"{program.path_of(program.stage)} --port 0 --db no/such/directory/tasks.db"
    expect(program.shell(f"{command} 2>/dev/full"), 1, "the exit status with a full disk")
    with full_pipe(program) as (path, _):
        expect(program.shell(f"{command} 2>{path}"), 1, "the exit status with a full pipe")


@check_program("log", row=True)
def without_standard_input_and_error_no_client_gets_the_log(program):
    server = program.start("-v", db=":memory:", under=["sh", "-c", 'exec "$@" <&- 2>&-', "sh"])
    for _ in range(3):
        with server.connect() as client:
            client.send("6\n7\nquit\n")
            expect(client.rest(), b"fib: 8\nfib: 13\nbye:\n")
    expect(server.stop(), 0, "the exit status")


# ---- The pid file -------------------------------------------------------------------------------------------------------

@check_program("pid file", row=True,
               fault=Fault("at the start, --pid-file names the file of a running server, or something that is no pid file",
                           "one line that says why, status 1; the file stays as it is", "go on"))
def a_running_servers_file_is_refused(program):
    path = program.directory / "server.pid"
    first = program.start("--pid-file", path.name)
    expect(first.ask("6"), "fib: 8")    # a child that has ended takes no lock with it
    expect_cannot_start(program, ["--port", "0", "--db", ":memory:", "--pid-file", path.name],
                        "cannot write the pid file server.pid: it belongs to a server that is running")
    expect(path.read_text(), f"{first.pid}\n")
    expect(first.stop(), 0, "the exit status")
    expect(path.exists(), False, "the pid file is still there")


@check_program("pid file")
def a_file_left_behind_is_taken_over(program):
    path = program.directory / "server.pid"
    lost = program.start("--pid-file", path.name)
    lost.kill()
    for left in path.read_text(), f"{os.getpid()}\n", "1234567890\n", "7", "":
        path.write_text(left)
        server = program.start("--pid-file", path.name)
        expect(path.read_text(), f"{server.pid}\n", f"the pid file, in which {left!r} was")
        expect(server.stop(), 0, "the exit status")
        expect(path.exists(), False, "the pid file is still there")


@check_program("pid file")
def a_file_that_is_no_pid_file_is_left_as_it_is(program):
    def expect_refused(path, what_it_is, reason=r".+"):
        before = what_it_is(path)
        expect_cannot_start(program, ["--port", "0", "--db", "tasks.db", "--pid-file", path.name],
                            f"cannot write the pid file {path.name}: {reason}")
        expect(what_it_is(path), before, path.name)

    names = "text", "link", "pipe", "folder", "device", "tasks.db"
    text, link, pipe, folder, device, tasks = (program.directory / name for name in names)
    server = program.start()
    with server.connect() as client:
        add(client, "buy milk")
    expect(server.stop(), 0)
    text.write_text("12 monkeys\n")
    link.symlink_to("number")
    (program.directory / "number").write_text("12\n")
    folder.mkdir()
    os.mkfifo(pipe)
    opened = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    other = "it is not a pid file, and stays as it is"
    rows = [(text, Path.read_text, other), (link, os.readlink), (pipe, lambda path: path.lstat().st_mode, other),
            (folder, Path.is_dir), (tasks, Path.read_bytes, other)]
    if os.getuid() == 0:    # /dev/null, as root
        os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        rows.append((device, lambda path: path.lstat().st_rdev, ".+"))
    expect_each(rows, lambda path, *row: expect_refused(path, *row))
    os.close(opened)
    expect((program.directory / "number").read_text(), "12\n")
    expect([line[13:] for line in program.start().list()], ["buy milk"])


@check_program("pid file")
def a_file_put_in_its_place_stays(program):
    path = program.directory / "server.pid"
    server = program.start("--pid-file", path.name)
    (program.directory / "another").write_text(f"{server.pid}\n")
    (program.directory / "another").rename(path)
    expect(server.stop(), 0, "the exit status")
    expect(path.exists(), True, "the other's pid file is there")


@check_program("pid file")
def it_goes_when_sigquit_ends_the_server(program):
    path = program.directory / "server.pid"
    server = program.start("--pid-file", path.name)
    client = server.connect()
    expect(client.ask("6"), "fib: 8")
    for child in server.pids()[1:]:
        server.may_lose_workers = True
        os.kill(child, signal.SIGQUIT)
        wait_for(lambda pid=child: pid not in server.pids(), "the child had ended")
        expect(path.read_text(), f"{server.pid}\n", "the pid file, which is the parent's")
    expect(server.stop(signal.SIGQUIT), -signal.SIGQUIT, "what ended it")
    expect(path.exists(), False, "the pid file is still there")


# ---- Signals and children that the starter has left ---------------------------------------------------------------------

@check_program("start", row=True)
def signals_blocked_at_the_start_are_let_in(program):
    server = program.start(under=["env", "--block-signal"])
    client = server.connect()
    expect(client.ask("6"), "fib: 8")
    if program.stage.workers:
        old = server.wait_for_workers()
        notices(server, signal.SIGHUP)
        server.wait_for_workers(without=old)
    for pid in server.pids():
        blocked = re.search(r"^SigBlk:\s*(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)[1]
        terminate = 1 << (signal.SIGTERM - 1)
        if pid != server.pid or not server.pids()[1:]:      # a parent blocks its signals, and takes them where it waits
            expect(int(blocked, 16) & terminate, 0, f"SIGTERM is blocked in {pid}")
    expect(server.stop(), 0, "the exit status")


# What the starter may leave to a server: a child that has ended; or also one that will end, and an orphan that its parent
# never waited for.
ENDED = "child = os.fork() or os._exit(3); os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)"
LEFT = ENDED + "; os.spawnlp(os.P_NOWAIT, 'sleep', 'sleep', '0.1'); os.system('sleep 0.1 &')"


def wait_until_alone(pid, workers):
    """Waits until this server has no children but its workers."""
    wait_for(lambda: len(children(pid)) == workers, f"the children that others had left to {pid} were gone", 10)


@check_program("start")
def inherited_children_do_not_stay_as_zombies(program):
    for left in ENDED, LEFT:
        server = program.start(under=python(left))
        wait_until_alone(server.pid, program.stage.workers)
        expect(server.ask("6"), "fib: 8")
        expect(server.stop(), 0, "the exit status")


@check_program("start", row=True)
def as_process_1_of_a_container_it_reaps_orphans_and_stops(program):
    container = ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child"]
    if not shutil.which("unshare") or subprocess.run([*container, "true"], stderr=subprocess.DEVNULL, check=False).returncode:
        raise NotRun("no PID namespace can be made here")
    command = [*container, *python(LEFT), program.path_of(program.stage), *program.stage.options, "--port", "0",
               "--db", ":memory:"]
    with open(program.directory / "log", "wb") as log, subprocess.Popen(command, cwd=program.where, stdin=subprocess.DEVNULL,
                                                                        stdout=subprocess.PIPE, stderr=log) as process:
        try:
            readable(process.stdout, program.patience)
            expect_match(process.stdout.readline().decode(), r"\w+: listening on 127\.0\.0\.1:\d+ \(pid 1\)\n")
            first, = children(process.pid)
            wait_until_alone(first, program.stage.workers)
            os.kill(first, signal.SIGTERM)
            expect(process.wait(program.patience), 0, "the exit status")
        finally:
            process.kill()      # and with it all that it has started


# ---- A terminal that is closed ------------------------------------------------------------------------------------------

@contextlib.contextmanager
def shell(program):
    """bash on a terminal: a function that types a command, in which SERVER stands for a server, and returns the server's
    pid; one that closes the terminal; and the terminal."""
    if not shutil.which("bash"):
        raise NotRun("bash is not installed")
    terminal = Terminal("of a shell", program.directory, program.patience)
    # LeakSanitizer stops a process at its end (PTRACE_ATTACH). It hangs if SIGCONT comes meanwhile, and when a terminal's
    # shell ends, the kernel sends SIGHUP and SIGCONT to the programs in the foreground.
    terminal.type("export ASAN_OPTIONS=detect_leaks=0", to_shell=True)
    started = []

    def type_in(line):
        path = program.directory / f"{len(started)}.pid"
        command = [program.path_of(program.stage), *program.stage.options, "--port 0 --db :memory: --pid-file", path]
        terminal.type(line.replace("SERVER", " ".join(map(str, command))), to_shell=True)
        started.append(int(wait_for(lambda: path.exists() and path.read_text(), f"{line} had begun")))
        wait_for(lambda: len(children(started[-1])) >= program.stage.workers, "the workers were there")
        return started[-1]

    def close():
        os.close(terminal.file)
        terminal.file = None
        os.waitpid(terminal.pid, 0)

    try:
        yield type_in, close, terminal
    finally:
        for pid in [*started, *processes(lambda fields: fields[3] == str(terminal.pid))]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if terminal.file is not None:
            close()
        for path in program.directory.glob("*.pid"):
            path.unlink()


def is_over(pid):
    return (stat_fields(pid) or "X")[0] in "ZX"


def is_pending(pid, number):
    """Whether this signal is pending for the process: another one like it would be lost."""
    pending = re.search(r"^ShdPnd:\s*(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)[1]
    return bool(int(pending, 16) >> (number - 1) & 1)


STARTED_IN_IT = "SERVER &", "SERVER </dev/null >out 2>&1 &", "sh -c 'SERVER; exit' &", "SERVER", "SERVER </dev/null >out 2>&1"
TAKEN_OUT_OF_IT = "nohup SERVER >out 2>&1 &", "setsid SERVER >out 2>&1 </dev/null &", "SERVER >out 2>&1 & disown"


@check_program("terminal", row=True)
def a_server_started_in_it_ends_when_it_is_closed(program):
    def row(line):
        with shell(program) as (type_in, close, _):
            pid = type_in(line)
            workers = children(pid)
            close()
            wait_for(lambda: is_over(pid) and all(map(is_over, workers)), "the server had ended", 15)
            expect(list(program.directory.glob("*.pid")), [], "pid files")

    expect_each([(line,) for line in STARTED_IN_IT], row)


@check_program("terminal")
def a_server_taken_out_of_it_stays(program):
    def row(line):
        with shell(program) as (type_in, close, _):
            pid = type_in(line)
            workers = children(pid)
            close()
            if program.stage.workers:       # a later SIGHUP, not from the terminal, is a renewal
                wait_for(lambda: not is_pending(pid, signal.SIGHUP), "the terminal's hangup was taken")
                os.kill(pid, signal.SIGHUP)
                wait_for(lambda: len(children(pid)) == len(workers) and not set(workers) & set(children(pid)),
                         "the workers were renewed")
            expect(is_over(pid), False, "the server has ended")
            os.kill(pid, signal.SIGTERM)
            wait_for(lambda: is_over(pid), "the server had ended")

    expect_each([(line,) for line in TAKEN_OUT_OF_IT], row)


@check_program("terminal", only=has_workers)
def kill_hup_typed_in_it_is_a_renewal(program):
    with shell(program) as (type_in, close, terminal):
        pid = type_in("SERVER >out 2>&1 &")
        workers = children(pid)
        terminal.type("kill -HUP %1", to_shell=True)
        wait_for(lambda: len(children(pid)) == len(workers) and not set(workers) & set(children(pid)),
                 "the workers were renewed")
        close()
        wait_for(lambda: is_over(pid), "the server had ended", 15)
