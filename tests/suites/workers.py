"""A master and its workers: what happens to them and their clients when one is killed, renewed, added or stopped."""
import contextlib
import os
import pty
import resource
import signal
import subprocess
import threading
import time
from pathlib import Path

from harness.checks import check_program, expect, expect_lasts, expect_match, together, wait_for
from harness.client import request
from harness.clients import client_of_each, reach_all_workers
from harness.process import notices
from harness.stages import has_workers, shares_its_listener
from harness.system import alive_in_group, free_port, go_on, stand_still, stat_fields


def is_prefork(stage):
    return stage.number == 2 and has_workers(stage)


YOUTH = 1       # seconds: a worker that dies sooner dies young
TICK = 1 / os.sysconf("SC_CLK_TCK")


def since_boot():
    """The time in seconds, on the clock by which the kernel dates processes."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def born(worker):
    """When the kernel made it, to a tick. On a busy machine, a check may see it only later."""
    return int(stat_fields(worker)[19]) * TICK


def wait_until_grown_up(worker):
    wait_for(lambda: since_boot() > born(worker) + YOUTH + 0.1, "the worker had lived for a second")


# ---- Who is who ---------------------------------------------------------------------------------------------------------

@check_program("workers", only=has_workers, row=True)
def each_says_when_it_boots_and_when_it_leaves(program):
    server = program.start()
    workers = server.wait_for_workers()
    expect(server.http("GET", "/server").json["pid"] in workers, True, f"the process that answers is one of {workers}")
    expect(server.stop(), 0)
    for worker in workers:
        for text in f"Booting worker with pid: {worker}", f"Worker exiting (pid: {worker})":
            expect(server.who_said(text), [(worker, "INFO")], text)


@check_program("workers", only=has_workers)
def ps_and_pstree_show_who_is_who(program):
    server = program.start()
    roles = {server.pid: "master", **{worker: "worker" for worker in server.wait_for_workers()}}
    for pid, role in roles.items():
        name = f"stage{program.stage.number}: {role}"
        shown = subprocess.run(["ps", "-o", "args=", "-p", str(pid)], stdout=subprocess.PIPE, text=True, check=True).stdout
        expect(shown.rstrip(), name, "what ps shows")
        expect(Path(f"/proc/{pid}/comm").read_text(), f"{name}\n", "what pstree shows")


# ---- Workers that die ---------------------------------------------------------------------------------------------------

@check_program("workers", only=has_workers, row=True)
def a_killed_worker_is_replaced_and_costs_only_its_clients(program):
    server = program.start()
    workers = server.wait_for_workers()
    lost, kept = client_of_each(server, 2)
    victim, survivor = lost.served_by(), kept.served_by()
    server.kill_worker(victim)
    expect(lost.rest(), b"")
    for _ in range(3):
        expect(kept.ask("10"), "fib: 55")
    newcomers = set(server.wait_for_workers(without=[victim])) - set(workers)
    expect((len(newcomers), kept.served_by()), (1, survivor), "how many are new, and which serves the other client")
    expect(server.who_said(f"Worker (pid:{victim}) was sent SIGKILL!"), [(server.pid, "ERROR")])
    kept.close()
    expect(newcomers < set(reach_all_workers(server)[1]), True, "the new worker serves clients")


@check_program("workers", only=has_workers)
def a_worker_killed_during_a_request_is_replaced(program):
    server = program.start()
    busy, other = client_of_each(server, 2)
    other.send("sleep 1\n6\n")
    busy.send("sleep 30\n")
    for client in busy, other:
        client.wait_until_read()
    server.kill_worker(busy.served_by())
    expect(busy.rest(), b"")
    expect(other.lines(2), ["slept: 1", "fib: 8"])
    server.wait_for_workers()
    expect(server.ask("6"), "fib: 8")


@check_program("workers", only=has_workers)
def a_worker_is_replaced_at_once_unless_two_died_young(program):
    server = program.start()

    def who_replaces(victim):
        others = [worker for worker in server.workers() if worker != victim]
        server.kill_worker(victim)
        return wait_for(lambda: [worker for worker in server.workers() if worker not in [victim, *others]],
                        "the worker was replaced")[0]

    def seconds_between_births():
        """How long it took to replace a grown worker, then one that died young, then another that did."""
        victim = server.wait_for_workers()[0]
        wait_until_grown_up(victim)
        times = [since_boot()]
        for _ in range(3):
            victim = who_replaces(victim)
            times.append(born(victim))
        return [later - earlier for earlier, later in zip(times, times[1:])]

    def as_promised():
        at_once, again_at_once, after_a_while = seconds = seconds_between_births()
        program.notes.append("seconds until the next was born: " + ", ".join(f"{number:.2f}" for number in seconds))
        return max(at_once, again_at_once) < 0.9 * YOUTH < after_a_while

    # A busy machine may delay births, but not each time.
    wait_for(as_promised, f"the third birth came after {YOUTH} s, but not the first two", program.patience)


@check_program("workers", only=has_workers)
def workers_that_die_at_birth_do_not_spin_the_machine(program):
    server = program.start()
    number = program.stage.workers
    killed, began = set(), time.monotonic()
    while len(killed) < 4 * number:     # each place is filled again at once, then twice a second apart
        for worker in server.workers():
            if worker not in killed:
                server.kill_worker(worker)
                killed.add(worker)
        expect(time.monotonic() - began < program.patience, True, "workers go on being born")
    expect(time.monotonic() - began > 1.5, True, f"{len(killed)} births, four in each place, take two seconds")
    server.wait_for_workers(without=killed)
    reach_all_workers(server)


@check_program("workers", only=has_workers)
def a_worker_that_cannot_start_is_tried_again(program):
    server = program.start()
    lost, survivor = client_of_each(server, 2)
    victim = lost.served_by()
    usual = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (3, usual[1]))     # too few for a new worker to start
    began = time.monotonic()
    server.kill_worker(victim)

    def failures():
        return [line for line in server.log().splitlines() if line.endswith("exited with code 1")]

    wait_for(lambda: len(failures()) >= 4, "four workers could not start")
    expect(time.monotonic() - began > 1.5, True, "four attempts take two seconds")
    expect_match(failures()[0], rf"\[.*\] \[{server.pid}\] \[ERROR\] Worker \(pid:\d+\) exited with code 1")
    expect(survivor.ask("6"), "fib: 8")
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, usual)
    server.wait_for_workers(without=[victim])
    survivor.close()
    reach_all_workers(server)


@check_program("workers", only=has_workers)
def clients_queued_on_a_killed_worker_reach_its_replacement(program):
    server = program.start()
    old = server.wait_for_workers()
    for worker in old:
        os.kill(worker, signal.SIGSTOP)
    wait_for(lambda: all(stat_fields(worker)[0] == "T" for worker in old), "the workers stood still")
    clients = [server.connect() for _ in range(8)]
    for client in clients:
        client.send(request("GET", "/server", headers={"Connection": "close"}))
    for worker in old:
        server.kill_worker(worker)
    for client in clients:
        expect(client.response().json["pid"] in old, False, "an old worker answers")


@check_program("workers", only=has_workers)
def no_worker_outlives_a_killed_master(program):
    server = program.start("--pid-file", "server.pid")
    workers = server.wait_for_workers()
    idle, busy = client_of_each(server, 2)
    busy.send("sleep 0.7\n6\n")
    busy.wait_until_read()
    os.kill(server.pid, signal.SIGKILL)
    server.process.wait()
    expect(idle.rest(), b"")
    expect(busy.rest(), b"slept: 0.7\nfib: 8\n")
    wait_for(lambda: not alive_in_group(server.pid), f"the workers {workers} had gone")
    expect(program.start(port=server.port).ask("6"), "fib: 8", "the port is free again")


@check_program("workers", only=has_workers)
def a_busy_worker_gives_up_the_port_of_a_killed_master(program):
    server = program.start()
    busy = server.connect()
    busy.send("sleep 3\n")
    busy.wait_until_read()
    os.kill(server.pid, signal.SIGKILL)
    server.process.wait()
    wait_for(server.refuses, "new clients were refused")
    expect(busy.has_reply(), False, "the request in progress is answered already")
    expect(busy.rest(), b"slept: 3\n")
    wait_for(lambda: not alive_in_group(server.pid), "the workers had gone")


# ---- Signals ------------------------------------------------------------------------------------------------------------

@check_program("workers", only=has_workers)
def a_worker_told_to_stop_is_replaced(program):
    server = program.start()
    workers = server.wait_for_workers()
    leaving, staying = client_of_each(server, 2)
    stopped, survivor = leaving.served_by(), staying.served_by()
    leaving.send("sleep 0.7\n6\n")
    leaving.wait_until_read()
    os.kill(stopped, signal.SIGTERM)
    expect(leaving.rest(), b"slept: 0.7\nfib: 8\n")
    expect(staying.ask("6"), "fib: 8")
    newcomers = set(server.wait_for_workers(without=[stopped])) - set(workers)
    expect((len(newcomers), staying.served_by()), (1, survivor), "how many are new, and which serves the other client")
    expect(server.who_said(f"Worker exiting (pid: {stopped})"), [(stopped, "INFO")])


@check_program("workers", only=has_workers)
def clients_queued_on_a_leaving_worker_are_served_by_the_next(program):
    """With threads, one may take the signal while another accepts a client. SIGTERM would hang up on that client; after
    SIGUSR1 the worker stays until that client has asked."""
    server = program.start()
    threads = program.stage.has_threads
    for leave in [signal.SIGUSR1] if threads else [signal.SIGTERM, signal.SIGUSR1]:
        old = server.wait_for_workers()
        stand_still(old)
        clients = [server.connect() for _ in range(8)]
        for worker in old:
            os.kill(worker, leave)
        go_on(old)
        if not threads:
            server.wait_for_workers(without=old)    # the old ones have gone, though no client has asked for anything yet
        for client in clients:
            client.send("6\n")
        for client in clients:
            with client:
                expect(client.line(), "fib: 8")
        server.wait_for_workers(without=old)


@check_program("workers", only=has_workers)
def workers_ignore_the_terminals_signals(program):
    server = program.start()
    workers = server.wait_for_workers()
    clients = client_of_each(server, 2)
    for number in signal.SIGINT, signal.SIGHUP:
        for worker in workers:
            os.kill(worker, number)
        for client in clients * 3:
            expect(client.ask("6"), "fib: 8")
    expect(server.workers(), workers)


@check_program("workers", only=has_workers)
def a_hangup_of_the_whole_group_is_one_renewal(program):
    server = program.start()
    old = server.wait_for_workers()
    os.killpg(server.pid, signal.SIGHUP)
    new = server.wait_for_workers(without=old)
    expect(server.ask("6"), "fib: 8")
    expect((len(server.who_said("Handling signal: hup")), server.workers()), (1, new))


@check_program("workers", only=has_workers)
def a_terminal_that_is_closed_ends_the_server(program):
    """The kernel's own SIGHUP is a stop, unlike one that a process sends."""
    terminal, slave = pty.openpty()
    # The server leads a session: the first terminal that it opens is its own from then on (setsid(2)).
    server = program.start(under=["sh", "-c", f'exec "$@" <>{os.ttyname(slave)}', "sh"])
    os.close(slave)
    os.close(terminal)
    expect(server.wait(), 0, "the exit status")


@check_program("workers", only=has_workers)
def signals_are_taken_from_the_ready_line_on(program):
    for number in signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGHUP:
        server = program.start()
        notices(server, number)
        expect(server.ask("6"), "fib: 8")


@check_program("workers", only=has_workers)
def an_ignored_sigchld_at_the_start_does_no_harm(program):
    server = program.start(under=["env", "--ignore-signal=CHLD"])
    workers = server.wait_for_workers()
    server.kill_worker(workers[0])
    server.wait_for_workers(without=workers[:1])
    expect(server.stop(), 0)


@check_program("workers", only=has_workers)
def a_child_that_is_no_worker_is_of_no_concern(program):
    server = program.start(under=["sh", "-c", 'sh -c "exit 3" & sleep 1000 & exec "$@"', "sh"])
    busy = server.connect()
    expect(busy.ask("6"), "fib: 8")
    busy.send("sleep 30\n")
    busy.wait_until_read()
    server.send_signal()
    wait_for(server.refuses, "new clients were refused")
    time.sleep(0.2)     # a second signal within 50 ms counts as the first
    server.send_signal()
    expect(server.process.wait(program.patience), 1, "the exit status")
    expect([line for line in server.log().splitlines() if "exited with code" in line], [])


@check_program("workers", only=has_workers)
def the_master_survives_any_signal_that_ends_a_worker(program):
    server = program.start()
    server.may_lose_workers = True
    victim = server.wait_for_workers()[0]
    os.kill(victim, signal.SIGRTMIN + 6)
    server.wait_for_workers(without=[victim])
    expect(len(server.who_said(f"Worker (pid:{victim}) was sent signal {signal.SIGRTMIN + 6}!")), 1)
    expect(server.ask("6"), "fib: 8")


@check_program("workers", only=has_workers)
def the_masters_signals_do_not_stop_a_worker(program):
    server = program.start()
    workers = server.wait_for_workers()
    for worker in workers:
        for number in signal.SIGTTIN, signal.SIGTTOU:
            os.kill(worker, number)
    for client in client_of_each(server, 2):
        expect(client.ask("6"), "fib: 8")
    expect(server.workers(), workers)


@check_program("workers", only=lambda stage: has_workers(stage) and stage.number == 5)
def one_of_two_servers_that_start_at_once_is_refused(program):
    port = str(free_port())
    command = [program.path_of(program.stage), "--port", port, "--db", ":memory:", "--workers", "8"]
    for _ in range(15):
        rivals = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=program.where,
                                   start_new_session=True) for _ in range(2)]
        try:
            lines = together(*[rival.stdout.readline for rival in rivals])
            expect(sorted(bool(line) for line in lines), [False, True], f"ready lines {lines}")
        finally:
            for rival in rivals:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(rival.pid, signal.SIGKILL)
                rival.communicate()


@check_program("workers", only=has_workers, row=True)
def all_are_renewed_at_a_hangup(program):
    server = program.start()
    descriptors = None
    for _ in range(3):
        old = server.wait_for_workers()
        notices(server, signal.SIGHUP)
        server.wait_for_workers(without=old)
        for worker in old:
            expect(server.who_said(f"Worker exiting (pid: {worker})"), [(worker, "INFO")])
        open_now = len(os.listdir(f"/proc/{server.pid}/fd"))
        expect(open_now, descriptors or open_now, "descriptors of the master after another renewal")
        descriptors = open_now
    reach_all_workers(server)


@check_program("workers", only=has_workers)
def a_renewal_refuses_nobody(program):
    server = program.start()
    over = threading.Event()

    def storm(first):
        def go():
            number = 0
            while not over.is_set():
                with server.connect() as client:
                    if (number + first) % 2:
                        expect(client.ask("6"), "fib: 8")
                    else:
                        expect(client.http("GET", "/fib/6").json, {"n": 6, "fib": 8})
                number += 1
            return number
        return go

    def renew():
        try:
            for _ in range(4):
                old = server.wait_for_workers()
                notices(server, signal.SIGHUP)
                server.wait_for_workers(without=old)
        finally:
            over.set()

    answered = together(renew, *[storm(first) for first in range(4)])[1:]
    expect(min(answered) > 4, True, f"each one asked again and again: {answered}")


@check_program("workers", only=has_workers)
def an_old_worker_answers_each_clients_first_request(program):
    server = program.start()
    old = server.wait_for_workers()
    idle, busy, silent, silent_http = (server.connect() for _ in range(4))
    expect(idle.ask("6"), "fib: 8")
    busy.send("sleep 1\n")
    busy.wait_until_read()
    for client in silent, silent_http:
        client.wait_until_accepted()
        expect(client.served_by() in old, True, "accepted by an old worker")
    server.send_signal(signal.SIGHUP)
    expect(idle.rest(), b"", "a client that has had its answer, and asks no more, is let go")
    expect(busy.rest(), b"slept: 1\n")
    wait_for(lambda: len(set(server.workers()) - set(old)) == len(old), "the new workers were there")
    for _ in range(4):
        expect(server.http("GET", "/server").json["pid"] in old, False, "an old worker accepts a client")
    for client in silent, silent_http:
        expect(client.served_by() in old, True, "still with the old worker")
    silent.send("6\n")
    expect(silent.rest(), b"fib: 8\n")
    expect(silent_http.http("GET", "/server").json["pid"] in old, True, "an old worker answers")
    expect(silent_http.rest(), b"")
    server.wait_for_workers(without=old)


@check_program("workers", only=has_workers)
def a_stop_also_ends_workers_being_replaced(program):
    for end in signal.SIGTERM, signal.SIGKILL:
        server = program.start()
        old = server.wait_for_workers()
        silent = server.connect()
        silent.wait_until_accepted()
        notices(server, signal.SIGHUP)
        wait_for(lambda: len(set(server.workers()) - set(old)) == len(old), "the new workers were there")
        server.send_signal(end)
        expect(silent.rest(), b"")
        if end == signal.SIGTERM:
            expect(server.wait(patience=9), 0, "the exit status")
        else:
            server.process.wait()
            wait_for(lambda: not alive_in_group(server.pid), "all workers had gone")


@check_program("workers", only=has_workers)
def a_stop_during_a_renewal_is_clean(program):
    for _ in range(5):
        server = program.start()
        server.send_signal(signal.SIGHUP)
        expect(server.stop(), 0, "the exit status")


@check_program("workers", only=has_workers)
def a_worker_that_stands_still_does_not_hold_up_a_stop_for_ever(program):
    server = program.start("--pid-file", "server.pid")
    still = server.wait_for_workers()[0]
    os.kill(still, signal.SIGSTOP)
    expect_lasts(10, lambda: expect(server.stop(), 1, "the exit status"))
    expect((program.directory / "server.pid").exists(), False, "the pid file is still there")


@check_program("workers", only=shares_its_listener, row=True)
def a_signal_adds_or_removes_a_worker(program):
    server = program.start()
    workers = server.wait_for_workers()
    notices(server, signal.SIGTTIN)
    added = server.wait_for_workers(len(workers) + 1)
    expect(set(workers) < set(added), True, f"{workers} and another one, not {added}")
    clients = client_of_each(server, len(added))
    oldest = next(client for client in clients if client.served_by() == added[0])
    oldest.send("sleep 0.5\n")
    oldest.wait_until_read()
    workers = added
    for _ in range(len(added) - 1):
        notices(server, signal.SIGTTOU)
        workers = server.wait_for_workers(len(workers) - 1, without=workers[:1])
        if oldest:
            expect(oldest.rest(), b"slept: 0.5\n", "the answer to the oldest worker's client")
            oldest = None
    for client in clients:
        client.close()
    expect(workers, added[-1:], "the one that stays is the youngest")
    notices(server, signal.SIGTTOU)
    expect(server.ask("6"), "fib: 8")
    expect(server.workers(), workers, "the last one stays")
    notices(server, signal.SIGTTIN)
    notices(server, signal.SIGHUP)
    server.wait_for_workers(2, without=workers)


@check_program("workers", only=lambda stage: has_workers(stage) and stage.listens_alone)
def their_number_stays_where_each_listens_alone(program):
    server = program.start()
    workers = server.wait_for_workers()
    for number in signal.SIGTTIN, signal.SIGTTOU:
        notices(server, number)
        expect(server.ask("6"), "fib: 8")
        expect(server.workers(), workers)


@check_program("workers", only=has_workers)
def a_port_in_use_is_in_use_with_and_without_workers(program):
    alone = program.stage.with_options()
    for first, second in (program.stage, alone), (alone, program.stage):
        server = program.start(stage=first)
        finished = program.run("--port", str(server.port), "--db", ":memory:", stage=second)
        reason = f"cannot listen on 127.0.0.1:{server.port}: Address already in use (choose another port with --port)"
        expect((finished.status, finished.stderr, finished.stdout), (1, f"{program.stage.name}: {reason}\n", ""))


@check_program("workers", only=has_workers)
def one_worker_alone_has_a_master_as_well(program):
    server = program.start(stage=program.stage.but("--workers", 1))
    worker, = server.wait_for_workers()
    with server.connect() as client:
        expect((client.ask("6"), client.served_by()), ("fib: 8", worker))
    wait_until_grown_up(worker)
    server.kill_worker(worker)
    expect(server.ask("10"), "fib: 55")     # it waits in the accept queue until the next worker is there
    expect(server.wait_for_workers() != [worker], True, "there is a new one")


# ---- Stage 2's own: --timeout and --max-requests ------------------------------------------------------------------------

@check_program("workers", only=is_prefork, row=True)
def a_stuck_worker_ends_by_its_alarm_and_is_replaced(program):
    server = program.start("--timeout", "1.5")
    server.may_lose_workers = True
    workers = server.wait_for_workers()
    stuck = {request: server.connect() for request in ("sleep 30\n", "fib 50\n", request("GET", "/sleep/30"))}
    other = server.connect()
    expect(other.ask("6"), "fib: 8")
    victims = []
    for data, client in stuck.items():
        client.send(data)
        client.wait_until_read()
        victims.append(client.served_by())
    for client in stuck.values():
        expect(client.rest(), b"")
    expect(other.ask("10"), "fib: 55")
    new = server.wait_for_workers(without=victims)
    expect(set(workers) - set(new), set(victims), "workers that have gone")
    for victim in victims:
        expect(server.who_said(f"WORKER TIMEOUT (pid:{victim})"), [(server.pid, "CRITICAL")])


@check_program("workers", only=is_prefork)
def the_alarm_is_for_one_request_not_for_a_client(program):
    server = program.start("--timeout", "2")
    workers = server.wait_for_workers()
    silent, idle, busy = (server.connect() for _ in range(3))
    expect(idle.ask("6"), "fib: 8")
    busy.send("sleep 0.8\n" * 4)
    for _ in range(4):      # longer than the alarm, all in all
        expect(busy.line(), "slept: 0.8")
    for client in silent, idle, busy:
        expect(client.ask("10"), "fib: 55")
    expect(server.workers(), workers)


@check_program("workers", only=is_prefork)
def at_zero_there_is_no_alarm(program):
    server = program.start("--timeout", "0")
    expect(server.http("GET", "/server").json["options"]["timeout"], 0)
    expect(server.ask("sleep 0.5"), "slept: 0.5")


@check_program("workers", only=is_prefork)
def a_worker_past_max_requests_is_replaced_after_its_client(program):
    server = program.start("--max-requests", "3")
    workers = server.wait_for_workers()
    others = [server.connect() for _ in range(len(workers) - 1)]
    for client in others:
        expect(client.ask("6"), "fib: 8")
    with server.connect() as client:
        for _ in range(5):      # it may ask on for as long as it stays
            expect(client.ask("6"), "fib: 8")
        worn_out = client.served_by()
        expect(server.workers(), workers)
    new = server.wait_for_workers(without=[worn_out])
    expect(set(workers) - set(new), {worn_out}, "workers that have gone")
    expect(server.who_said(f"Worker exiting (pid: {worn_out})"), [(worn_out, "INFO")])
    for client in others:
        expect(client.ask("6"), "fib: 8")
    with server.connect() as client:
        expect((client.ask("count"), client.served_by() in set(new) - set(workers)), ("count: 0", True))


@check_program("workers", only=is_prefork)
def frequent_replacement_refuses_nobody(program):
    server = program.start("--max-requests", "2")

    def storm():
        return {server.http("GET", "/server").json["pid"] for _ in range(25)}

    pids = set().union(*together(*[storm] * 4))
    expect(len(pids) >= 50, True, f"a hundred requests need fifty workers or more; there were {len(pids)}")


@check_program("workers", only=is_prefork)
def without_a_limit_a_worker_serves_on(program):
    server = program.start()
    workers = server.wait_for_workers()
    for _ in range(60):
        expect(server.ask("6"), "fib: 8")
    expect(server.workers(), workers)
