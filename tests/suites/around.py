"""What people put around a server: nginx in front of several, and entr, which rebuilds and restarts one at every change."""
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
from collections import Counter
from pathlib import Path

from harness.checks import Failure, NotRun, check_program, expect, expect_each, expect_match, wait_for
from harness.client import Client, request
from harness.web import JSON, NO_SUCH_TASK, add_task, expect_error, expect_json
from harness.server import RUNNING
from harness.stages import once, plain
from harness.system import free_port, place_of, processes, readable

ROOT = Path(__file__).resolve().parent.parent.parent
PROXY_PORT, SERVER_PORTS = 8080, (9991, 9992, 9993)     # in nginx.conf


def installed(tool):
    place = place_of(tool)
    if not place:
        raise NotRun(f"{tool} is not installed (make deps-all installs it)")
    return place


# ---- nginx in front -----------------------------------------------------------------------------------------------------

def whose(response):
    """The name and the process id of the server behind an answer."""
    expect(response.status, 200, f"the status of {response}")
    return expect_match(response.headers.get("x-served-by", ""), r"(\w+) pid=(\d+) thread=\d+").groups()


class Nginx:
    """nginx with nginx.conf in front of three servers, on free ports; `without` names a line of it to leave out."""
    family = socket.AF_INET

    def __init__(self, program, servers, without=None):
        self.program, self.address = program, ("127.0.0.1", free_port())
        prefix = program.directory / f"nginx{self.address[1]}"
        prefix.mkdir()
        self.log_path = prefix / "log"
        (prefix / "nginx.conf").write_text(self._configuration([server.port for server in servers], without))
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([installed("nginx"), "-p", prefix, "-c", prefix / "nginx.conf"], stdout=log,
                                            stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
        RUNNING.add(self)

    def _configuration(self, ports, without):
        text = (ROOT / "tests" / "nginx.conf").read_text()
        changes = [(f"listen 127.0.0.1:{PROXY_PORT};", f"listen 127.0.0.1:{self.address[1]};")]
        changes += [(f"server 127.0.0.1:{old} ", f"server 127.0.0.1:{new} ") for old, new in zip(SERVER_PORTS, ports)]
        for old, new in changes + ([(without, "")] if without else []):
            expect(text.count(old), 1, f"how often nginx.conf says {old!r}")
            text = text.replace(old, new)
        return text

    def __enter__(self):
        wait_for(self._accepts, f"nginx accepted on port {self.address[1]}")
        return self

    def __exit__(self, failed, *_):
        self.process.terminate()
        status = self.process.wait(self.program.patience)
        self.kill()
        if failed:
            self.program.notes.extend(self.log().splitlines()[-10:])
        else:
            expect(status, 0, f"the status of nginx, which says {self.log()}")
            # nginx warns in these words of each request or response body that it buffers in a file.
            expect(re.findall(r".* to a temporary file .*", self.log()), [], "what nginx wrote to a disk")

    def kill(self):
        """Kills it and its workers, if they still run."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        RUNNING.discard(self)

    def _accepts(self):
        expect(self.process.poll(), None, f"the status of nginx, which says {self.log()}")
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(self.address, self.program.patience).close()
            return True

    def log(self):
        return self.log_path.read_text(errors="backslashreplace")

    def connect(self):
        return Client(self)

    def http(self, method, target, body=None, **options):
        """One request on a connection of its own."""
        with self.connect() as client:
            return client.http(method, target, body, **options)


def start_three(program, *options, to_return=False):
    """Servers of three stages, which share their tasks; with `to_return` on ports that a restarted server can take again."""
    installed("nginx")
    return [program.start(*options, stage=plain(number), port=free_port() if to_return else 0) for number in (3, 5, 6)]


@check_program("around", only=once)
def nginx_spreads_requests_over_all_servers(program):
    servers = start_three(program)
    with Nginx(program, servers) as proxy, proxy.connect() as client:
        served = Counter(whose(client.http("GET", "/fib/6")) for _ in range(9))
        expect(served, {(server.stage.name, str(server.pid)): 3 for server in servers})


@check_program("around", only=once)
def the_tasks_are_the_same_whichever_server_nginx_asks(program):
    with Nginx(program, start_three(program)) as proxy:
        tasks = [add_task(proxy, title=title) for title in ("buy milk", "pay rent", "call mum", "go home")]
        lists = [proxy.http("GET", "/api/tasks") for _ in range(3)]
        expect(len(set(map(whose, lists))), 3, "how many servers answered")
        for response in lists:
            expect_json(response, tasks)


@check_program("around", only=once)
def nginx_passes_the_host_on_as_the_client_sent_it(program):
    servers = start_three(program, "--allow-host", "tasks.example")
    rows = [("localhost", 200), (f"localhost:{PROXY_PORT}", 200), ("tasks.example", 200), ("evil.example", 421)]
    with Nginx(program, servers) as proxy:
        expect_each(rows, lambda host, status: expect(proxy.http("GET", "/fib/6", host=host).status, status))
    with Nginx(program, servers, without="proxy_set_header Host $host;") as proxy:
        expect_error(proxy.http("GET", "/fib/6"), 421)


@check_program("around", only=once)
def nginx_keeps_its_connections_to_the_servers_open(program):
    """Stage 3 shows it: each connection has a thread of its own there."""
    def threads(proxy):
        with proxy.connect() as client:
            responses = [client.http("GET", "/fib/6") for _ in range(15)]
        served_by = [response.headers["x-served-by"] for response in responses]
        return len({line for line in served_by if line.startswith("stage3_threads")})

    servers = start_three(program)
    with Nginx(program, servers) as proxy:
        expect(threads(proxy), 1, "how many connections five requests took")
    with Nginx(program, servers, without='proxy_set_header Connection "";') as proxy:
        expect(threads(proxy), 5, "how many connections five requests took without that header")


@check_program("around", only=once)
def nginx_changes_nothing_that_it_passes_on(program):
    def answer(where, method, target, body, headers):
        """The response, without the headers that nginx sets itself or that differ between the servers."""
        response = where.http(method, target, body, headers=headers)
        kept = {name: value for name, value in response.headers.items()
                if name not in ("server", "date", "connection", "x-served-by")}
        return response.status, kept, response.body

    def same_as_directly(method, target, body=None, headers=None):
        through = answer(proxy, method, target, body, headers)
        expect(through, answer(servers[0], method, target, body, headers))
        return through

    servers = start_three(program)
    with Nginx(program, servers) as proxy:
        posted = proxy.http("POST", "/api/task", {"title": "buy café crème", "description": "two\nlitres"})
        place = f"/api/tasks/{posted.json['id']}"
        expect((posted.status, posted.headers.get("location")), (201, place))
        expect_json(proxy.http("GET", place),
                    {"id": posted.json["id"], "title": "buy café crème", "description": "two\nlitres", "done": False})
        largest = b'{"title": "pay rent"}'.ljust(65_536)
        expect(proxy.http("POST", "/api/tasks", largest, headers=JSON).status, 201)
        with servers[0].connect() as client:
            for number in range(100):
                client.send(request("POST", "/api/task", {"title": f"task {number}", "description": "d" * 1000}))
                expect(client.response().status, 201)
        rows = [("GET", "/api/tasks"), ("GET", place), ("HEAD", place), ("HEAD", "/api/tasks"), ("GET", "/fib/30"),
                ("GET", "/say/hello?name=al%20ice"), ("GET", "/nothing"), ("HEAD", "/nothing"), ("GET", NO_SUCH_TASK),
                ("GET", "/fib/x"), ("DELETE", "/fib/30"), ("PUT", place, {"done": True}), ("PUT", place, {"title": 7}),
                ("POST", "/api/task", b"{", JSON), ("POST", "/api/task", b"a=b", {"Content-Type": "text/plain"})]
        expect_each(rows, same_as_directly)
        expect(proxy.http("GET", place).json["done"], True, "what PUT has changed")
        deleted = proxy.http("DELETE", place)
        expect((deleted.status, deleted.body), (204, b""))
        expect_error(proxy.http("GET", place), 404)


def unread(server):
    """How many bytes the server has not read yet, on all its connections together."""
    row = re.compile(rf"^ *\d+: \w+:{server.port:04X} \w+:\w+ 01 \w+:(\w+)", re.MULTILINE)
    return sum(int(size, 16) for size in row.findall(Path("/proc/net/tcp").read_text()))


@check_program("around", only=once)
def nginx_retries_idempotent_requests_when_a_server_dies(program):
    stages = start_three(program)
    task = add_task(stages[0], title="buy milk")

    def row(method, target, body, statuses):
        """Three requests at once, one for each server. The second server is stopped, and killed with its request unread."""
        victim = stages[1] = program.start(stage=stages[1].stage)
        with Nginx(program, stages) as proxy:
            victim.send_signal(signal.SIGSTOP)
            clients = [proxy.connect() for _ in stages]
            for client in clients:
                client.send(request(method, target, body))
            wait_for(lambda: unread(victim), "a request was stuck")
            victim.kill()
            expect(sorted(client.response(method).status for client in clients), statuses)

    rows = [("GET", "/fib/6", None, [200, 200, 200]), ("HEAD", "/fib/6", None, [200, 200, 200]),
            ("PUT", f"/api/tasks/{task['id']}", {"done": True}, [200, 200, 200]),
            ("POST", "/api/task", {"title": "pay rent"}, [201, 201, 502])]
    expect_each(rows, row)
    expect([line[13:] for line in stages[0].list()], ["buy milk", "pay rent", "pay rent"])


@contextlib.contextmanager
def asking(proxy, number=2):
    """So many clients send request after request. Yields the growing list of answers. Each request must get one."""
    answers, enough, failures = [], threading.Event(), []

    def ask():
        try:
            while not enough.is_set():
                answers.append(whose(proxy.http("GET", "/sleep/0.01")))
        except Failure as failure:
            failures.append(failure)

    threads = [threading.Thread(target=ask) for _ in range(number)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        enough.set()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]


def wait_for_answers_of(answers, *servers):
    """Waits until each of these servers has given one of the next answers."""
    wanted, begin = {str(server.pid) for server in servers}, len(answers)
    wait_for(lambda: wanted <= {pid for _, pid in answers[begin:]}, f"answers came of {wanted}")


@check_program("around", only=once)
def killing_a_server_behind_nginx_costs_no_answer(program):
    servers = start_three(program, to_return=True)
    with Nginx(program, servers) as proxy, asking(proxy) as answers:
        for index, victim in enumerate(servers):
            wait_for_answers_of(answers, *servers)
            victim.kill()
            wait_for_answers_of(answers, *[server for server in servers if server != victim])
            servers[index] = program.start(stage=victim.stage, port=victim.port)
        wait_for_answers_of(answers, *servers)


@check_program("around", only=once)
def restarting_servers_behind_nginx_in_turn_costs_no_answer(program):
    servers = start_three(program, to_return=True)
    with Nginx(program, servers) as proxy, asking(proxy) as answers:
        for index, old in enumerate(servers):
            wait_for_answers_of(answers, *servers)
            expect(old.stop(), 0, "the exit status")
            servers[index] = program.start(stage=old.stage, port=old.port)
        wait_for_answers_of(answers, *servers)


@check_program("around")
def the_log_names_the_client_behind_a_proxy(program):
    server = program.start("-v")
    rows = [(None, ""), ("203.0.113.7", "203.0.113.7 via "), ("203.0.113.7, 198.51.100.1", "203.0.113.7, 198.51.100.1 via "),
            ("caf\xe9\ta", r"caf\xe9\x09a via "), ("9" * 100, "9" * 100 + " via "), ("9" * 101, "9" * 100 + "... via ")]
    for number, (value, _) in enumerate(rows, 1):
        headers = {} if value is None else {"X-Forwarded-For": value}
        expect(server.http("GET", f"/fib/{number}", headers=headers).status, 200)
    expect(server.stop(), 0, "the exit status")
    for number, (_, shown) in enumerate(rows, 1):
        lines = [line for line in server.log().splitlines() if f"GET /fib/{number} " in line]
        expect(len(lines), 1, f"lines about it in {server.log()}")
        expect_match(lines[0], rf".*\] 200 GET /fib/{number} \({re.escape(shown)}127\.0\.0\.1\) \d+\.\d\dms")


@check_program("around", only=once)
def the_log_names_the_client_behind_nginx(program):
    servers = start_three(program, "-v")
    with Nginx(program, servers) as proxy:
        expect(proxy.http("GET", "/fib/6").status, 200)
        expect(proxy.http("GET", "/fib/7", headers={"X-Forwarded-For": "203.0.113.7"}).status, 200)
    for server in servers:
        expect(server.stop(), 0, "the exit status")
    log = "".join(server.log() for server in servers)
    expect(" 200 GET /fib/6 (127.0.0.1 via 127.0.0.1) " in log, True, f"the first request is in {log}")
    expect(" 200 GET /fib/7 (203.0.113.7, 127.0.0.1 via 127.0.0.1) " in log, True, f"the second request is in {log}")


# ---- make watch5 --------------------------------------------------------------------------------------------------------

WATCHED = "stage5_epoll"
READY = rb"stage5_epoll: listening on 127\.0\.0\.1:(\d+) \(pid (\d+)\)"


def plain_environment(program, **more):
    """Without the variables of a `make test` that may have started us: the make under test would act as its sub-make."""
    kept = {name: value for name, value in program.environment.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    return {**kept, **more}


class Watch:
    """`make watch5` in a copy of what it needs, so that a check may change the sources; with or without a terminal."""

    def __init__(self, program, inside="", terminal=False, built=True):
        installed("entr")
        self.program = program
        self.output, self.taken = b"", 0        # all the output, and where until() goes on looking
        base = Path(program.path_of(program.stage)).parent.parent
        variant = "release" if base == ROOT else base.name
        self.tree, temporary = program.directory / "tree", program.directory / "temporary"
        for part in "common", WATCHED, *[f"build/{variant}/{name}" for name in ("common", "llhttp", WATCHED)]:
            shutil.copytree(ROOT / part, self.tree / part)
        tsan = ["tests/harness/tsan.c", "build/tsan/tests/harness/tsan.o"] if variant == "tsan" else []
        for part in "Makefile", "tests/tools.mk", ".ci/watch", *tsan:
            (self.tree / part).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / part, self.tree / part)
        temporary.mkdir()
        environment = plain_environment(program, TMPDIR=str(temporary))
        built_program = Path(program.path_of(program.stage)).relative_to(ROOT)
        question = subprocess.run(["make", "-q", built_program, f"VARIANT={variant}"], cwd=self.tree, env=environment,
                                  check=False, stdout=subprocess.DEVNULL, timeout=program.patience)
        expect(question.returncode, 0, "the status of `make -q`: all must be built already, because building takes long")
        if not built:
            (self.tree / built_program).unlink()

        self.end, theirs = os.openpty() if terminal else os.pipe()
        command = ["make", "watch5", f"VARIANT={variant}", "ARGS=--port 0"]
        if terminal:    # the first one that the leader of a session opens becomes its controlling terminal: for Ctrl-C
            command = ["sh", "-c", 'exec "$@" <"$0" >"$0" 2>&1', os.ttyname(theirs), *command]
        self.process = subprocess.Popen(command, cwd=self.tree / inside, env=environment, stdin=subprocess.DEVNULL,
                                        stdout=theirs, stderr=theirs, start_new_session=True)
        os.close(theirs)
        RUNNING.add(self)

    def __enter__(self):
        return self

    def __exit__(self, failed, *_):
        if failed:
            self.program.notes.extend(self.output.decode(errors="replace").splitlines()[-20:])
        self.kill()
        os.close(self.end)

    def kill(self):
        """Kills it and all that it started, if they still run."""
        for pid in self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        RUNNING.discard(self)

    def alive(self):
        """The live processes of the session. Its process group would not do: the servers have groups of their own."""
        return processes(lambda fields: fields[3] == str(self.process.pid) and fields[0] not in "ZX")

    def _receive(self):
        if not readable(self.end, self.program.patience):
            raise Failure("nothing more was printed")
        data = b""
        with contextlib.suppress(OSError):      # EIO: how a terminal reports the end
            data = os.read(self.end, 65_536)
        self.output += data
        return bool(data)

    def until(self, pattern):
        """Waits until the output after the last match contains this; returns the match."""
        while not (match := re.compile(pattern).search(self.output, self.taken)):
            if not self._receive():
                raise Failure(f"the output ended without {pattern!r}")
        self.taken = match.end()
        return match

    def until_ready(self):
        """Waits until a server is ready, and asks it once; returns its process id."""
        match = self.until(READY)
        with socket.create_connection(("127.0.0.1", int(match[1])), self.program.patience) as client:
            client.sendall(b"6\n")
            expect(client.recv(100), b"fib: 8\n")
        return int(match[2])

    def save(self, name, data):
        """Saves a file of the stage in one step (rename(2)), as an editor does."""
        saved = self.tree / "saved"
        saved.write_bytes(data)
        saved.rename(self.tree / WATCHED / name)

    def expect_gone(self, starts):
        """Waits for the end: no process or file is left, the last server stopped cleanly, and so many `starts` were seen."""
        while self._receive():
            pass
        expect(len(re.findall(READY, self.output)), starts, "how often a server was started")
        expect(b"warning" in self.output, False, f"a warning in {self.output}")
        self.process.wait(self.program.patience)
        expect(self.alive(), [], "processes left")
        expect(list((self.tree.parent / "temporary").iterdir()), [], "files left")
        expect(b"Handled signal: term; every client is gone" in self.output, True, f"the server's last line in {self.output}")


@check_program("around", only=once, computes=True)
def make_watch_rebuilds_and_restarts_at_every_change(program):
    with Watch(program, inside=WATCHED, terminal=True, built=False) as watch:
        first = watch.until_ready()
        watch.save("epoll_loop.cpp", (watch.tree / WATCHED / "epoll_loop.cpp").read_bytes())
        second = watch.until_ready()
        expect(first in [second, *watch.alive()], False, "the first server is still there")
        watch.save("added.cpp", b"#error not yet\n")
        watch.until(rb"not yet[^$]*make[^$]*Error 1")
        expect(second in watch.alive(), False, "the second server is still there")
        watch.save("added.cpp", b"extern const int added = 1;\n")
        third = watch.until_ready()
        (watch.tree / WATCHED / "added.cpp").unlink()
        expect(third == watch.until_ready(), False, "the third server is still there")
        os.write(watch.end, b"\x03")    # Ctrl-C
        watch.expect_gone(starts=4)
        # Only added.cpp is new to entr: not the program, which is linked before entr starts, nor the database in the root.
        expect(watch.output.count(b"directory altered") > 1, False, f"entr has seen more than one new file: {watch.output}")


@check_program("around", only=once)
def make_watch_needs_no_terminal_and_stops_with_make(program):
    with Watch(program) as watch:
        watch.until_ready()
        watch.process.terminate()
        watch.expect_gone(starts=1)


@check_program("around", only=once)
def make_watch_says_what_is_missing(program):
    tools = program.directory / "tools"
    tools.mkdir()
    for name in "make", "sh", "bash", "nproc":
        (tools / name).symlink_to(shutil.which(name))
    finished = subprocess.run(["make", "watch5"], cwd=ROOT, env=plain_environment(program, PATH=str(tools)), check=False,
                              capture_output=True, text=True, timeout=program.patience)
    expect((finished.returncode, finished.stdout), (2, ""))
    expect(finished.stderr.splitlines()[0], "entr is missing: make deps-all installs it")
