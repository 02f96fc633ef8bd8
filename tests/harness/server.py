"""Starts a server for a check, talks to it, watches it from outside, and stops it.

Nothing here guesses how long something takes. The kernel shows what happens in the server (/proc, or the connection
itself). The patience only guards against hanging: it is far longer than anything should take.
"""
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from harness.checks import PATIENCE, Failure, expect, expect_match, wait_for
from harness.client import Client
from harness.system import alive_in_group, children, free_port, readable, stat_fields, waiting_in_poll, what_threads_do

RUNNING = set()     # the servers that are running now, in all threads
LOSS = re.compile(r"Worker \(pid:\d+\) .*|WORKER TIMEOUT.*")  # a master replaces workers that die, so only its log tells
SANITIZER_REPORT = re.compile(r"ERROR: \w+Sanitizer.*|WARNING: ThreadSanitizer.*|runtime error:.*")


class Server:
    """One running server. It and all that it starts have a session (and process group) of their own."""

    def __init__(self, program, stage, command, port=None):
        self.program, self.stage = program, stage
        self.gone = False
        self.may_lose_workers = False   # the check kills some of them
        self.stdout = b""
        self.log_path = program.directory / f"log{len(program.servers)}"
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(command, cwd=program.where, stdin=subprocess.DEVNULL, stderr=log,
                                            stdout=log if program.foreign else subprocess.PIPE,
                                            start_new_session=True, env=program.environment)
        self.pid = self.process.pid
        RUNNING.add(self)
        program.servers.append(self)
        if program.foreign:
            self.family, self.host, self.port = socket.AF_INET, "127.0.0.1", port
            wait_for(self._accepts, f"the server accepted on port {port}")
        else:
            self._wait_until_ready()

    @property
    def address(self):
        return self.host, self.port

    def _wait_until_ready(self):
        pipe = self.process.stdout.fileno()
        while b"\n" not in self.stdout:
            data = os.read(pipe, 4096) if readable(pipe, self.program.patience) else b""
            if not data:
                raise Failure(f"no ready line on standard output, only {self.stdout!r}")
            self.stdout += data
        match = expect_match(self.stdout.decode(), rf"{self.stage.name}: listening on (\S+):(\d+) \(pid (\d+)\)\n")
        expect(int(match[3]), self.pid, "the process id in the ready line")
        self.host, self.port = match[1].strip("[]"), int(match[2])
        self.family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        if self.stage.workers:
            wait_for(lambda: len(self.workers()) >= self.stage.workers, "the workers were there", self.program.patience)
        if self.stage.loops_in_threads:     # GCC 12's ThreadSanitizer loses a signal while a thread begins
            wait_for(lambda: self.process.poll() is not None or waiting_in_poll(self.pid) >= self.stage.loops_in_threads,
                     "the loops had begun", self.program.patience)

    def _accepts(self):
        if self.process.poll() is not None:
            raise Failure(f"the server ended with status {self.process.returncode} before it accepted")
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(self.address, self.program.patience).close()
            return True

    def refuses(self):
        """Whether nothing listens on the port any more. A client in the accept queue was reset as the listener closed."""
        try:
            socket.create_connection(self.address, self.program.patience).close()
        except ConnectionError:
            return True
        return False

    def connect(self, **options):
        return Client(self, **options)

    def connect_beside(self, client, same_worker=True, **options):
        """A client that the same process or loop serves as this one (or a different one). The kernel chooses it, so this may
        take a few tries."""
        for _ in range(200):
            found = self.connect(**options)
            expect(found.ask("6"), "fib: 8")
            if (found.loop() == client.loop()) == same_worker:
                return found
            found.close()
        raise Failure(f"200 clients, and none on {'the same' if same_worker else 'another'} worker")

    def ask(self, line):
        """Sends one line on a connection of its own. Returns the first line of the reply."""
        with self.connect() as client:
            return client.ask(line)

    def list(self):
        """The lines of `list`, without the first."""
        with self.connect() as client:
            number = int(expect_match(client.ask("list"), r"tasks: (\d+)").group(1))
            return client.lines(number)

    def http(self, method, target, body=None, **options):
        """Sends one HTTP request on a connection of its own. Returns the response."""
        with self.connect() as client:
            return client.http(method, target, body, **options)

    def log(self):
        """Its standard error, without AddressSanitizer's warning about every program that makes its own stacks."""
        lines = self.log_path.read_text(errors="backslashreplace").splitlines(keepends=True)
        return "".join(line for line in lines if "ASan doesn't fully support makecontext" not in line)

    def threads(self):
        """What each of its threads does now, a line each."""
        return what_threads_do(self.pid)

    def kill_worker(self, pid):
        """Kills it by SIGKILL. The log may tell of lost workers from now on."""
        self.may_lose_workers = True
        self.program.notes.append(f"[{pid}], a worker, is killed")
        os.kill(pid, signal.SIGKILL)

    def send_signal(self, number=signal.SIGTERM):
        self.program.notes.append(f"[{self.pid}] gets {signal.Signals(number).name}")
        self.process.send_signal(number)

    def workers(self):
        """The process ids of the living workers, the oldest first."""
        states = [(stat_fields(pid), pid) for pid in children(self.pid)]
        born = [(int(fields[19]), pid) for fields, pid in states if fields and fields[0] not in "ZX"]
        return [pid for _, pid in sorted(born)]

    def pids(self):
        """The ids of all its processes that run now, its own first."""
        return [self.pid, *children(self.pid)]

    def lasting_pids(self):
        """The ids of those that outlive a client: its own, and its workers'."""
        return self.pids() if self.stage.workers else [self.pid]

    def wait_until_all_have_left(self):
        """If each client has a process, waits until these have ended. With a sanitizer, hundreds at once take longer than a
        stop may take."""
        if self.stage.child_per_client:
            wait_for(lambda: not children(self.pid), "the clients' processes had ended", self.program.patience)

    def holds(self):
        """How many descriptors and threads the server and its workers have, and how many children it has."""
        def entries(what):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                return sum(len(os.listdir(f"/proc/{pid}/{what}")) for pid in self.lasting_pids())
            return 1 << 30      # a worker is being replaced: too early to tell

        return entries("fd"), entries("task"), len(children(self.pid))

    def memory(self):
        """How much memory all its processes have together, in bytes: what they share is counted once (Pss, proc(5))."""
        rollups = []
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):    # a client's process that has just ended
                rollups.append(Path(f"/proc/{pid}/smaps_rollup").read_text())
        return sum(int(re.search(r"^Pss:\s*(\d+) kB", rollup, re.MULTILINE)[1]) for rollup in rollups) * 1024

    def wait_until_it_holds_no_more_than(self, before):
        """Waits until holds() is what it was, or less."""
        wait_for(lambda: all(now <= then for now, then in zip(self.holds(), before)), f"the server held no more than {before}",
                 self.program.patience)

    def wait_for_workers(self, number=None, without=()):
        """Waits until `number` workers (by default as many as the technique has) have booted, none of them in `without`.
        Returns their ids, the oldest first."""
        number = number or self.stage.workers

        def booted():
            workers = self.workers()
            if len(children(self.pid)) == number == len(workers) and not set(workers) & set(without):
                log = self.log()
                return all(f"Booting worker with pid: {pid}\n" in log for pid in workers) and workers

        return wait_for(booted, f"{number} workers were there" + (f", without {without}" if without else ""),
                        self.program.patience)

    def who_said(self, text):
        """Who logged this text: a pair of a process id and a level for each time."""
        found = re.findall(rf"^\[[^]]*\] \[(\d+)\] \[(\w+)\] {re.escape(text)}$", self.log(), re.MULTILINE)
        return [(int(pid), level) for pid, level in found]

    def wait(self, patience=None):
        """Waits for the end; returns the exit status. Nothing that the server started may be left behind."""
        try:
            output, _ = self.process.communicate(timeout=patience or self.program.patience)
        except subprocess.TimeoutExpired:
            raise Failure("the server, or one of its processes, did not end") from None
        self.stdout += output or b""        # a foreign server's goes to the log
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, 0)
            # Init reaps the orphans in its own time, such as the helper of a LeakSanitizer that was killed at work.
            if self.process.returncode < 0:     # a signal ended it, and nobody waited for its children
                wait_for(lambda: not alive_in_group(self.pid), "the server's children had ended, too", self.program.patience)
            expect(alive_in_group(self.pid), [], "processes that the server left behind")
        self._is_gone()
        status = self.process.returncode
        for found in SANITIZER_REPORT.findall(self.log()):
            if not (status == 1 and "thread leak" in found):    # a server that cuts clients off does not join threads
                raise Failure(f"a sanitizer reported: {found}")
        for found in LOSS.findall(self.log()):
            if status == 0 and not self.may_lose_workers:
                raise Failure(f"a worker was lost: {found}")
        return status

    def stop(self, number=signal.SIGTERM):
        self.send_signal(number)
        return self.wait()

    def kill(self):
        """Ends the process and all that it started at once, unless they have ended already."""
        if not self.gone:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()
        self._is_gone()

    def _is_gone(self):
        self.gone = True
        RUNNING.discard(self)


@dataclass(frozen=True)
class Finished:
    """A run of the program that ended by itself."""
    status: int
    stdout: str
    stderr: str


class Program:
    """One check's server program: starts it, remembers what the check opens, and cleans up at the end."""

    def __init__(self, stage, path_of=None, foreign=None, patience=PATIENCE):
        self.stage, self.path_of, self.foreign, self.patience = stage, path_of, foreign, patience
        self.directory = Path(tempfile.mkdtemp(prefix=f"{stage.name}-"))
        self.where = None if foreign else self.directory    # a foreign command is relative to where we were started
        # A sanitizer keeps freed memory aside for a while: here only a little, so that a server's growth can be seen.
        self.environment = dict(os.environ, UBSAN_OPTIONS="print_stacktrace=1", ASAN_OPTIONS="quarantine_size_mb=16")
        self.servers, self.clients, self.notes = [], [], deque(maxlen=30)

    def start(self, *options, stage=None, port=0, db="tasks.db", under=()):
        """Starts a server and waits until it is ready. Files go into this check's own directory; db=None: no --db."""
        if self.foreign:
            port = free_port()
            command = self.foreign.replace("{port}", str(port)).replace("{db}", str(self.directory / db))
            return Server(self, self.stage, ["sh", "-c", command], port)
        stage = stage or self.stage
        files = ["--db", db] if db else []
        return Server(self, stage, [*under, self.path_of(stage), *stage.options, "--port", str(port), *files, *options])

    def run(self, *options, stage=None, under=()):
        """Runs the program, perhaps under another, with only these options and its technique's. It must end by itself."""
        stage = stage or self.stage
        process = subprocess.Popen([*under, self.path_of(stage), *stage.options, *options], cwd=self.where, text=True,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   start_new_session=True)
        try:
            stdout, stderr = process.communicate(timeout=self.patience)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise Failure(f"{' '.join(options)}: did not end by itself") from None
        self.notes.append(f"{' '.join(options)}: status {process.returncode}, {stdout!r}, {stderr!r}")
        return Finished(process.returncode, stdout, stderr)

    def is_built_with(self, *sanitizers):
        """Whether the program contains one of these names, such as b"__tsan_init"."""
        return any(name in Path(self.path_of(self.stage)).read_bytes() for name in sanitizers)

    def shell(self, command):
        """Runs a command in the check's own directory; returns its status."""
        return subprocess.run(["sh", "-c", command], cwd=self.directory, check=False, timeout=self.patience).returncode

    def stop_all(self):
        """Stops what still runs, as a user would. Each server must end with status 0, having printed only its ready line."""
        for client in self.clients:
            client.close()
        for server in self.servers:
            if server.process.returncode is None and not self.foreign:
                expect(server.stop(), 0, "the exit status at the end of the check")
                expect(server.stdout.count(b"\n"), 1, f"lines on standard output, which has {server.stdout!r}")

    def clean_up(self):
        """Whatever has happened, leaves no process and no file behind."""
        for client in self.clients:
            client.close()
        for server in self.servers:
            server.kill()
        shutil.rmtree(self.directory, ignore_errors=True)
