"""The programs as their users start and stop them: options, ready line, log and exit statuses."""
import os
import re
import signal
import socket
import time
from pathlib import Path

from harness.checks import NotRun, check_program, expect, expect_each, expect_lasts, expect_match, wait_for
from harness.client import request
from harness.clients import send_until_stuck
from harness.process import LOG_LINE, expect_cannot_start, stop_now
from harness.stages import STAGES, serves_several
from harness.system import children, free_port


# ---- Starting -----------------------------------------------------------------------------------------------------------

@check_program("start")
def on_the_port_that_was_asked_for(program):
    port = free_port()
    server = program.start(port=port)
    expect((server.host, server.port), ("127.0.0.1", port))
    expect(server.ask("6"), "fib: 8")


@check_program("start")
def on_loopback_only_unless_asked(program):
    port = program.start().port
    with socket.socket() as other_address:
        expect(other_address.connect_ex(("127.0.0.2", port)) != 0, True, "127.0.0.2 refuses")


@check_program("start")
def on_the_address_that_was_asked_for(program):
    hosts = [("127.0.0.2", "127.0.0.2"), ("localhost", "127.0.0.1|::1"), ("0.0.0.0", "0.0.0.0")]
    if Path("/proc/net/if_inet6").exists() and "0" * 31 + "1 " in Path("/proc/net/if_inet6").read_text():
        hosts.append(("::1", "::1"))        # not every container has it
    for host, address in hosts:
        server = program.start("--host", host)
        expect_match(server.host, f"{address}|localhost", "the address in the ready line")
        expect(server.ask("6"), "fib: 8")
        expect(server.stop(), 0)


@check_program("start")
def a_name_with_two_addresses_means_the_ipv4_one(program):
    (program.directory / "hosts").write_text("::1 localhost both.example\n127.0.0.1 localhost both.example\n")
    hosts = 'mount --bind hosts /etc/hosts && exec "$@"'
    if os.geteuid() or program.shell(f"unshare -m sh -c '{hosts}' sh true 2>/dev/null"):
        raise NotRun("to mount a file here takes root, and unshare(1) must be allowed")
    for name in "localhost", "both.example":
        server = program.start("--host", name, under=["unshare", "-m", "sh", "-c", hosts, "sh"])
        expect(server.host, "127.0.0.1", f"what {name} means, in the ready line")
        expect(server.ask("6"), "fib: 8")
        expect(server.stop(), 0)


@check_program("start")
def short_options_mean_the_same(program):
    server = program.start("-v")
    expect(server.http("GET", "/fib/6").status, 200)
    expect(server.stop(), 0)
    expect("200 GET /fib/6" in server.log(), True, "-v is --verbose")


@check_program("start")
def help_explains_every_option(program):
    for option in "-h", "--help":
        finished = program.run(option)
        expect((finished.status, finished.stderr), (0, ""))
        options = ["--port", "--host", "--db", "--idle-timeout", "--max-fib", "--framing", "--allow-host", "--pid-file",
                   "--verbose", "--quiet", "--help", "--version", "-p", "-v", "-q", "-h"]
        expect([name for name in options if name not in finished.stdout], [], "options that help does not explain")
        expect("--max-clients" in finished.stdout, program.stage.number != 1, "help explains --max-clients")
        of_stage = [name for stage in STAGES if stage.number == program.stage.number for name in stage.options[::2]]
        expect([name for name in of_stage if name not in finished.stdout], [], "options of techniques that it does not explain")


@check_program("start")
def version_is_one_line(program):
    finished = program.run("--version")
    expect((finished.status, finished.stderr), (0, ""))
    expect_match(finished.stdout, r"[^\n]*\d[^\n]*\n")


@check_program("start")
def help_fits_a_terminal_and_is_grouped(program):
    lines = program.run("--help").stdout.splitlines()
    expect([line for line in lines if len(line) > 80 or re.search("INT|FLOAT|TEXT|Excludes|Needs|[{}]| to [0-9]", line)], [],
           "lines that are too wide, or have what only CLI11 needs")
    groups = {}
    for line in lines:
        if re.fullmatch(r"[A-Z][^:]*:", line) and line != lines[0]:
            names = groups.setdefault(line[:-1], [])
        elif name := re.match(r"  (?:-\w,)?--([\w-]+)", line):
            names.append(name[1])
    max_clients = ["max-clients"] if "--max-clients" in "\n".join(lines) else []
    expect({name: options for name, options in groups.items() if name != "This stage"},
           {"Network": ["port", "host", "allow-host", "framing"], "Limits": ["idle-timeout", *max_clients, "max-fib"],
            "Storage": ["db"], "General": ["pid-file", "verbose", "quiet", "version", "help"]})
    of_stage = {name[2:] for stage in STAGES if stage.number == program.stage.number for name in stage.options[::2]}
    expect(of_stage - set(groups.get("This stage", [])), set(), "the stage's own options that are in no group of their own")


# What the line says, but for the program's name and (see … --help), and the command lines that deserve it.
MISTAKES = {
    "there is no option --prot; did you mean --port?": ["--prot 8080", "--prot=8080"],
    "there is no option --prt; did you mean --port?": ["--prt 8080"],
    "there is no option --portt; did you mean --port?": ["--portt 8080"],
    "there is no option --hoft; did you mean --host?": ["--hoft ::1"],
    "there is no option port; did you mean --port?": ["port 8080"],
    "there is no option -db; did you mean --db?": ["-db x"],
    "there is no option --idle; did you mean --idle-timeout?": ["--idle 5"],
    "there is no option --ver; did you mean --verbose or --version?": ["--ver"],
    "there is no option --nonsense": ["--nonsense", "--port=0 --nonsense=x -v"],
    "there is no option nonsense": ["nonsense", "--port 0 nonsense -v", "--allow-host a nonsense"],
    "there is no option 8080": ["8080"],
    "there is no option -x": ["-x", "-x --prot"],
    "there is no option -": ["-"],
    "there is no option --n\\x1b[1m": ["--n\x1b[1m"],
    "--port wants a whole number from 0 to 65535": ["--port", "-p", "-v --port="],
    "--port wants a whole number from 0 to 65535, not '65536'": ["--port 65536", "-p 65536", "-p65536", "--port 65536 --port 0"],
    "--port wants a whole number from 0 to 65535, not '-1'": ["--port -1", "--port=-1"],
    "--port wants a whole number from 0 to 65535, not '--db'": ["--port --db x"],
    "--port wants a whole number from 0 to 65535, not '::1'": ["--port ::1"],
    "--max-fib wants a whole number from 1 to 90, not '0'": ["--max-fib 0"],
    "--max-fib wants a whole number from 1 to 90, not '91'": ["--max-fib 91"],
    "--idle-timeout wants seconds from 0 to 1000000000": ["--idle-timeout"],
    "--idle-timeout wants seconds from 0 to 1000000000, not '-1'": ["--idle-timeout -1"],
    "--idle-timeout wants seconds from 0 to 1000000000, not 'nan'": ["--idle-timeout nan"],
    "--framing wants line or recv": ["--framing"],
    "--framing wants line or recv, not 'chunk'": ["--framing chunk"],
    "--db wants a file's name": ["--db", "--db="],
    "--db wants a file's name, not ''": ["--db "],
    "--pid-file wants a file's name": ["--pid-file"],
    "--host wants a name or address": ["--host"],
    "--allow-host wants a name": ["--allow-host"],
    "--verbose excludes --quiet": ["-q -v"],
}


@check_program("start")
def a_wrong_command_line_is_status_2(program):
    stage = program.stage
    if stage.has_max_clients:
        clients = {"--max-clients wants a whole number from 1 to 1000000, not '0'": ["--max-clients 0"]}
    elif stage.options:
        clients = {f"--max-clients excludes --{'threads' if stage.threads else 'workers'}": ["--max-clients 5"]}
    else:
        clients = {"there is no option --max-clients": ["--max-clients 5"]}

    def row(options, sentence):
        finished = program.run(*options)
        expect((finished.status, finished.stdout), (2, ""), "status and standard output")
        expect(finished.stderr, f"{stage.name}: {sentence} (see {stage.name} --help)\n")

    rows = [(line.split(" "), sentence) for sentence, lines in {**MISTAKES, **clients}.items() for line in lines]
    expect_each(rows, row)


@check_program("start", row=True)
def a_port_in_use_is_status_1(program):
    port = program.start().port
    expect_cannot_start(program, ["--port", str(port), "--db", ":memory:"],
                        rf"cannot listen on 127\.0\.0\.1:{port}: Address already in use \(choose another port with --port\)")


@check_program("start")
def a_port_of_roots_is_status_1(program):
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 80:
        raise NotRun("here any user may listen on port 80")
    under = [] if os.geteuid() else ["setpriv", "--bounding-set=-net_bind_service"]
    if program.shell(" ".join([*under, "true 2>/dev/null"])):
        raise NotRun("setpriv(1) may not take root's right to such a port away")
    expect_cannot_start(program, ["--port", "80", "--db", ":memory:"], r"cannot listen on 127\.0\.0\.1:80: Permission denied "
                        r"\(ports below 1024 are root's; choose another with --port\)", under=under)


@check_program("start")
def an_address_that_is_not_ours_is_status_1(program):
    expect_cannot_start(program, ["--host", "203.0.113.1", "--port", "0"], r"cannot listen on 203\.0\.113\.1:0: .+")


@check_program("start")
def a_database_that_cannot_be_opened_is_status_1(program):
    (program.directory / "garbage.db").write_bytes(b"this is no database " * 100)
    for path, why in (("no/such/directory/tasks.db", "there is no directory no/such/directory"), (".", "it is a directory"),
                      ("garbage.db/tasks.db", "there is no directory garbage.db"), ("garbage.db", "file is not a database")):
        expect_cannot_start(program, ["--port", "0", "--db", path], re.escape(f"cannot open the database {path}: {why}"))


@check_program("start")
def a_pid_file_is_there_while_the_server_is(program):
    path = program.directory / "server.pid"
    server = program.start("--pid-file", "server.pid")
    expect(path.read_text(), f"{server.pid}\n")
    expect(server.stop(), 0)
    expect(path.exists(), False, "the pid file is still there")
    expect_cannot_start(program, ["--port", "0", "--db", ":memory:", "--pid-file", "no/such/directory/pid"], ".+")


@check_program("start")
def the_log_has_the_shape_that_it_promises(program):
    server = program.start("-v")
    expect(server.ask("6"), "fib: 8")
    expect_lasts(0.2, lambda: expect(server.http("GET", "/sleep/0.2?x=y").status, 200))
    expect(server.http("GET", "/nothing").status, 404)
    expect(server.stop(), 0)
    lines = server.log().splitlines()
    expect_each([(line,) for line in lines], lambda line: expect_match(line, LOG_LINE))
    slept = [re.search(r"200 GET /sleep/0\.2\?x=y \(127\.0\.0\.1\) (\d+\.\d\d)ms$", line) for line in lines]
    times = [float(match[1]) for match in slept if match]
    expect((len(times), times[0] >= 195 if times else None), (1, True), f"one line about the sleep, and its time, in {lines}")
    expect(len([line for line in lines if re.search(r"404 GET /nothing \(127\.0\.0\.1\) \d+\.\d\dms$", line)]), 1)


@check_program("start")
def the_log_has_one_line_per_connection_at_most(program):
    server = program.start()
    quiet = len(server.log().splitlines())
    for _ in range(20):
        with server.connect() as client:
            client.send("6\n" * 5)
            client.lines(5)
    expect(server.stop(), 0)
    more = len(server.log().splitlines()) - quiet
    expect(more <= 20 + 5, True, f"20 connections and the stop wrote no more than 25 lines, but {more}")


@check_program("start")
def a_quiet_server_says_nothing(program):
    server = program.start("-q")
    expect(server.ask("6"), "fib: 8")
    expect(server.http("GET", "/nothing").status, 404)
    expect(server.stop(), 0)
    expect(server.log(), "")


# ---- Stopping -----------------------------------------------------------------------------------------------------------

SIGNALS = signal.SIGINT, signal.SIGTERM


@check_program("stop")
def idle_clients_are_told_goodbye(program):
    for number in SIGNALS:
        server = program.start("--pid-file", "server.pid")
        clients = [server.connect() for _ in range(5)]
        expect(clients[0].ask("6"), "fib: 8")
        served = clients[:program.stage.at_once(5)]
        for client in served[1:]:
            expect(client.ask("6"), "fib: 8")
        server.send_signal(number)
        for client in served:
            expect(client.rest(), b"")
        expect(server.wait(), 0, "the exit status")
        expect((program.directory / "server.pid").exists(), False, "the pid file is still there")


@check_program("stop", row=True)
def a_sleep_in_progress_is_answered(program):
    for number in SIGNALS:
        server = program.start()
        client = server.connect()
        client.send("sleep 0.5\n")
        client.wait_until_read()
        server.send_signal(number)
        expect(client.rest(), b"slept: 0.5\n")
        expect(server.wait(), 0, "the exit status")


@check_program("stop", computes=True)
def a_fib_in_progress_is_answered(program):
    server = program.start()
    client = server.connect()
    client.send("44\n")
    client.wait_until_read()
    server.send_signal()
    expect(client.rest(), b"fib: 701408733\n")
    expect(server.wait(), 0, "the exit status")


@check_program("stop")
def an_http_request_in_progress_is_answered(program):
    server = program.start()
    client = server.connect()
    client.send(request("GET", "/sleep/0.5"))
    client.wait_until_read()
    server.send_signal()
    response = client.response()
    expect((response.status, response.json), (200, {"slept": 0.5}))
    expect(client.rest(), b"")
    expect(server.wait(), 0, "the exit status")


@check_program("stop", only=lambda stage: stage.keeps_http_open)
def a_pipelined_http_request_is_answered_as_well(program):
    server = program.start()
    client = server.connect()
    client.send(request("GET", "/sleep/1"))
    client.wait_until_read()
    client.send(request("GET", "/fib/7"))
    server.send_signal()
    expect((client.response().json, client.response().json), ({"slept": 1}, {"n": 7, "fib": 13}))
    expect(client.rest(), b"")
    expect(server.wait(), 0, "the exit status")


@check_program("stop", only=serves_several)
def all_requests_in_progress_are_answered(program):
    server = program.start()
    clients = [server.connect() for _ in range(program.stage.at_once(20))]
    for client in clients:
        client.send("sleep 0.7\n6\n")
        client.wait_until_read()
    server.send_signal()
    for client in clients:
        expect(client.rest(), b"slept: 0.7\nfib: 8\n")
    expect(server.wait(), 0, "the exit status")


@check_program("stop")
def whole_requests_are_answered_and_half_a_line_is_dropped(program):
    server = program.start()
    client = server.connect()
    client.send("sleep 0.5\n6\nadd whole\nadd half")
    client.wait_until_read()
    server.send_signal()
    expect_match(client.rest().decode(), r"slept: 0\.5\nfib: 8\nadded: \w{8} whole\n")
    expect(server.wait(), 0, "the exit status")
    expect([line[13:] for line in program.start().list()], ["whole"])


@check_program("stop")
def half_a_request_is_never_carried_out(program):
    for half in b"add half", request("POST", "/api/task", {"title": "half"})[:-1], b"GET /fib/6 HTTP/1.1\r\nHost: loc":
        server = program.start()
        client = server.connect()
        client.send(half)
        client.wait_until_read()
        expect(server.stop(), 0, "the exit status")
        expect(b"201" in client.rest(), False, "an answer of success")
    expect(program.start().list(), [])


@check_program("stop")
def nobody_is_accepted_any_more(program):
    server = program.start()
    client = server.connect()
    client.send("sleep 3\n")
    client.wait_until_read()
    stop_now(server)
    expect(client.has_reply(), False, "the request in progress is answered already")
    expect(client.rest(), b"slept: 3\n")
    expect(server.wait(), 0, "the exit status")


@check_program("stop")
def ctrl_c_in_a_terminal_is_one_stop(program):
    server = program.start()
    client = server.connect()
    client.send("sleep 0.5\n6\n")
    client.wait_until_read()
    os.killpg(server.pid, signal.SIGINT)
    expect(client.rest(), b"slept: 0.5\nfib: 8\n")
    expect(server.wait(), 0, "the exit status")


@check_program("stop")
def a_second_signal_cuts_off(program):
    for number in SIGNALS:
        server = program.start("--pid-file", "server.pid")
        client = server.connect()
        client.send("sleep 30\n")
        client.wait_until_read()
        stop_now(server, number)
        time.sleep(0.2)     # a second signal within 50 ms counts as the first, because timeout(1) may send one twice
        server.send_signal(number)
        expect(server.wait(patience=9), 1, "the exit status")
        expect_match(server.log().splitlines()[-1], ".+", "the line that says why")
        expect((program.directory / "server.pid").exists(), False, "the pid file is still there")


@check_program("stop")
def a_request_is_cut_off_after_ten_seconds(program):
    server = program.start()
    client = server.connect()
    client.send("sleep 60\n")
    client.wait_until_read()
    expect_lasts(10, lambda: expect(server.stop(), 1, "the exit status"))


@check_program("stop")
def a_client_that_does_not_read_is_cut_off_as_well(program):
    server = program.start()
    send_until_stuck(server.connect(small_buffers=True))
    expect(server.stop(), 1, "the exit status")


@check_program("stop", only=lambda stage: stage.child_per_client)
def a_child_that_dies_takes_nobody_with_it(program):
    server = program.start()
    first, second = server.connect(), server.connect()
    for client in first, second:
        expect(client.ask("6"), "fib: 8")
    survivor = second.served_by()
    os.kill(first.served_by(), signal.SIGKILL)
    expect(first.rest(), b"")
    expect(second.ask("6"), "fib: 8")
    wait_for(lambda: children(server.pid) == [survivor], "the dead child was reaped")
    expect(server.ask("10"), "fib: 55")
