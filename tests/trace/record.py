"""Runs a server under strace with a small load, and writes what it did: `make trace3`, `make trace CMD='…'`.

    python3 tests/trace/record.py [--load 'sleep 1, fib 42, fib 1'] COMMAND [ARGUMENT...]

It writes a chart to build/trace/, and a trace for ui.perfetto.dev or chrome://tracing. The load is a list of requests in
order, each sent by its own client: a path by HTTP's GET, anything else as a line. With `--load mine`, the load is whatever
you do until Ctrl-C. Ctrl-C ends any run early.
"""
import argparse
import contextlib
import os
import re
import select
import shutil
import signal
import socket
import string
import subprocess
import sys
import tempfile
import time
import urllib.parse
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
import chart        # noqa: E402: after sys.path
import strace       # noqa: E402
import trace_event  # noqa: E402
from harness.client import request    # noqa: E402: after sys.path
from harness.server import RUNNING    # noqa: E402: after sys.path
from harness.system import children, processes    # noqa: E402: after sys.path
from timeline import Request, Timeline      # noqa: E402

PLACE = ROOT / "build" / "trace"
OURS, THEIRS = "sleep 1, sleep 1, fib 42, fib 1", "/, /, /, /"
PATIENCE = 30       # seconds for a server to listen, and for a client to be answered
STOP = 15           # seconds after which a server that was told to stop is killed; ours take ten at most
APART = 0.1         # seconds between one client and the next, to tell them apart in the chart
LISTEN = re.compile(r"listen\(\d+<TCP(?:v6)?:\[(.*):(\d+)\]>, \d+(?:\)\s+= 0| <unfinished)")
ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}


class Trouble(Exception):
    """Why there is no trace, in words for the user."""


def say(text):
    print(text, file=sys.stderr, flush=True)


class Traced:
    """A server under strace. After the `with` none of its processes runs any more, whatever has happened."""

    def __init__(self, command, ours=False, output=None):
        for tool, hint in (("strace", " (make deps installs it)"), (command[0], "")):
            if not shutil.which(tool):
                raise Trouble(f"{tool} is not there{hint}")
        self._files = tempfile.TemporaryDirectory(prefix="trace-")
        directory = Path(self._files.name)
        self.log = directory / "strace"
        if ours:
            given = {word.partition("=")[0] for word in command}
            command = [*command, *([] if given & {"-p", "--port"} else ["--port", "0"]),
                       *([] if "--db" in given else ["--db", str(directory / "tasks.db")])]
        self.log.touch()
        self._lines, self._begun = open(self.log, errors="replace"), ""
        # What it prints goes to our standard error. It has its own session, so that Ctrl-C does not reach it.
        self._strace = subprocess.Popen(["strace", *strace.OPTIONS, "-o", str(self.log), *command], stdin=subprocess.DEVNULL,
                                        stdout=output or 2, stderr=output or 2, start_new_session=True)
        RUNNING.add(self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        self._lines.close()
        self._files.cleanup()

    def kill(self):
        """Kills it and all that it has started, unless they have ended already."""
        while self._strace.poll() is None:      # strace ends after all that it traces, even processes just being forked
            self._tell(signal.SIGKILL, self._all())
            time.sleep(0.01)
        self._tell(signal.SIGKILL, self._all())
        RUNNING.discard(self)

    def _new_lines(self):
        """What strace has written since the last time."""
        *lines, self._begun = (self._begun + self._lines.read()).split("\n")
        return lines

    def until_listens(self, patience=PATIENCE):
        """Waits until the server listens for TCP connections; returns its address."""
        end = time.monotonic() + patience
        while time.monotonic() < end:
            ended = self._strace.poll() is not None
            for line in self._new_lines():
                found = LISTEN.search(line)
                if found:
                    host = found[1].strip("[]")
                    return ANY.get(host, host), int(found[2])
            if ended:
                raise Trouble(f"it ended with status {self._strace.returncode} before it listened for TCP connections")
            time.sleep(0.01)
        raise Trouble(f"it does not listen for TCP connections within {patience:g} s")

    def until_quiet(self):
        """Waits, about 5 s at most, until the server has started: its processes make no calls, or only get EAGAIN."""
        end = quiet = time.monotonic() + 0.3
        while time.monotonic() < min(quiet, end + 5):
            if any("EAGAIN" not in line for line in self._new_lines()):
                quiet = time.monotonic() + 0.3
            time.sleep(0.01)

    def wait(self):
        self._strace.wait()

    def _all(self):
        """All its processes, even those in other sessions, because strace traces them."""
        found = set(processes(lambda fields: fields[3] == str(self._strace.pid)))
        for status in Path("/proc").glob("[0-9]*/status"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if f"TracerPid:\t{self._strace.pid}\n" in status.read_text():
                    found.add(int(status.parent.name))
        return found - {self._strace.pid}

    def _tell(self, number, pids):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def stop(self, patience=STOP, early=()):
        """Stops it as its users do: sends SIGTERM to its first process, then to those that outlive it, and waits each time
        for `patience` seconds, or until one of `early`. Returns whether it has stopped; if not, it is killed."""
        for whom in (lambda: children(self._strace.pid) or self._all()), self._all:
            self._tell(signal.SIGTERM, whom())
            with contextlib.suppress(subprocess.TimeoutExpired, *early):
                self._strace.wait(patience)
                return True
        self.kill()
        return False


def play(address, load, sent):
    """Sends each request of the load over its own connection, adds it to `sent`, and waits for the answers. An answer ends
    when the server closes."""
    texts, waiting, due = list(filter(None, map(str.strip, load.split(",")))), {}, 0
    try:
        while texts or waiting:
            now = time.monotonic()
            if texts and now >= due:
                client, asked = ask(address, texts[0])
                waiting[client] = asked
                sent.append(asked)
                texts.pop(0)
                due = now + APART
                continue
            poll = select.poll()    # select(2) knows no descriptor above 1,023, and the tests have many open
            for client in waiting:
                poll.register(client, select.POLLIN)
            ready = {fd for fd, _ in poll.poll(1000 * (due - now if texts else PATIENCE))}
            if not ready and not texts:
                raise TimeoutError(f"nothing came within {PATIENCE} s")
            for client in [client for client in waiting if client.fileno() in ready]:
                data = b""
                with contextlib.suppress(ConnectionError):
                    data = client.recv(1 << 16)
                waiting[client].answer += data
                if not data:
                    del waiting[client]
                    client.close()
    except OSError as error:
        say(f"not answered: {', '.join([*(one.text for one in waiting.values()), *texts])}: {error}")
    finally:
        for client in waiting:
            client.close()


def ask(address, text):
    """Sends a request; returns the client's socket and its Request."""
    begin = time.time_ns() // 1000
    client = socket.create_connection(address, PATIENCE)
    if text.startswith("/"):
        path = urllib.parse.quote(text, safe=string.punctuation)
        client.sendall(request("GET", path, headers={"Connection": "close"}))
    else:
        client.sendall(f"{text}\n".encode())
        client.shutdown(socket.SHUT_WR)
    return client, Request(text, client.getsockname()[1], begin)


def record(command, load, ours=False, output=None, patience=PATIENCE, fit=lambda load, address: load, early=()):
    """Runs the server with this load, which `fit` may adapt to it, or with the reader's own. Returns the timeline until the
    end, or until one of the exceptions `early`. Any other exception is raised on, and there is no timeline."""
    sent = []
    with Traced(command, ours, output) as server:
        try:
            address = server.until_listens(patience)
            load = fit(load, address)
            server.until_quiet()
            if load == "mine":
                say(f"it listens on {address[0]}:{address[1]}: yours, until Ctrl-C")
                server.wait()
            else:
                play(address, load, sent)
        except early:
            say("it is told to stop")
        if not server.stop(early=early):
            say("it does not stop at SIGTERM: killed")
        return Timeline(strace.read(server.log), sent)


def write(timeline, title, directory):
    """Writes both files; returns their path without the suffix."""
    directory.mkdir(parents=True, exist_ok=True)
    place = os.path.relpath(directory / re.sub(r"[^\w.]+", "-", title)[:80].strip("-"))
    Path(place + ".json").write_text("\n".join(trace_event.lines(timeline, title)) + "\n", encoding="utf-8")
    Path(place + ".svg").write_text(chart.svg(timeline, title), encoding="utf-8")
    return place


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--load", default="")
    parser.add_argument("--ours", action="store_true", help="it is one of the six: give it a free port and its own tasks")
    parser.add_argument("--patience", type=float, default=PATIENCE, metavar="SECONDS", help="longest wait until it listens")
    parser.add_argument("--directory", type=Path, default=PLACE, help="where the files go, instead of build/trace")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if not options.command:
        parser.error("what is to be run? make trace CMD='gunicorn -w 2 app:app'")
    title = " ".join([Path(options.command[0]).name, *options.command[1:]])
    load = options.load or (OURS if options.ours else THEIRS)
    timeline = record(options.command, load, options.ours, patience=options.patience, early=(KeyboardInterrupt,))
    for one in timeline.connections:
        if one.request:
            say(f"{one.name}: {one.text}: {one.request.first_line or 'no answer'}")
    place = write(timeline, title, options.directory)
    print(f"{place}.svg: the chart\n{place}.json: the trace, for https://ui.perfetto.dev or chrome://tracing")


def carry_out(function):
    """Runs the function as a program: whatever ends it early, it cleans up and says why."""
    for number in signal.SIGTERM, signal.SIGHUP:
        signal.signal(number, signal.default_int_handler)
    try:
        function()
    except Trouble as trouble:
        sys.exit(f"no trace: {trouble}")
    except KeyboardInterrupt:
        sys.exit("interrupted")


if __name__ == "__main__":
    carry_out(main)
