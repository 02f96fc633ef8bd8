"""Proofs that a trace shows what strace saw, on texts whose meaning is known."""
import json
import re
import socket
from collections import Counter
from pathlib import Path
from unittest import mock

import chart
import gallery
import six
import trace_event
from harness.checks import Failure, expect
from record import ask
from strace import calls, folded
from timeline import ASKING, CLIENTS, COMPUTING, SHORT, SLEEPING, Request, Timeline

LISTENER, CLIENT = "3<TCP:[127.0.0.1:9999]>", "4<TCP:[127.0.0.1:9999->127.0.0.1:4444]>"
PEER, OTHER_PEER = "127.0.0.1:4444", "127.0.0.1:5555"
STARTS = 'execve("/usr/bin/server", ["server"], 0x7f /* 9 vars */) = 0'
ASKS = f"accept4({LISTENER}, 0x7f, [128], SOCK_NONBLOCK) = -1 EAGAIN (Resource temporarily unavailable)"
ACCEPTS = f'accept4({LISTENER}, {{sin_port=htons(4444), sin_addr=inet_addr("127.0.0.1")}}, [16], 0) = {CLIENT}'
ACCEPTS_OTHER = ACCEPTS.replace("4444", "5555")
TIMES_OUT = f"recvfrom({CLIENT}, 0x7f, 99, 0, NULL, NULL) = -1 EAGAIN (Resource temporarily unavailable)"
READS, READS_END = f'recvfrom({CLIENT}, "fib 1\\n", 99, 0) = 6', f'recvfrom({CLIENT}, "", 99, 0) = 0'
WRITES, CLOSES = f'sendto({CLIENT}, "fib: 1\\n", 7, 0) = 7', f"close({CLIENT}) = 0"
THREAD = "clone3({flags=CLONE_VM|CLONE_FILES|CLONE_THREAD, stack=0x7f} => {parent_tid=[11]}, 88) = 11"
CHILD = "clone(child_stack=NULL, flags=SIGCHLD, child_tidptr=0x7f) = 11"
ORIGIN = 1_000_000_000      # where the clock of these texts begins, in microseconds


def lines(*rows):
    """Lines as strace writes them. A row has a thread, the begin (and perhaps the end) in milliseconds, and the text."""
    def in_seconds(number):
        return f"{number // 1000}.{number % 1000:03}000"

    for row in rows:
        thread, moment, what = row.split(" ", 2)
        begin, _, end = moment.partition("-")
        lasted = f" <{in_seconds(int(end) - int(begin))}>" if end else ""
        yield f"{thread:5} {in_seconds(1_000_000 + int(begin))} {what}{lasted}\n"


def milliseconds(*moments):
    return tuple((moment - ORIGIN) // 1000 for moment in moments)


# ---- Reading ------------------------------------------------------------------------------------------------------------

def expect_calls(rows, *expected):
    """What is read from these rows: each call's thread, name, begin, end, and result."""
    expect([(call.thread, call.name, *milliseconds(call.begin, call.end), call.result) for call in calls(lines(*rows))],
           list(expected), str(rows))


def calls_signals_and_ends_are_read():
    expect_calls(["10 1-3 futex(0x7f, FUTEX_WAIT_PRIVATE, 2, NULL) = 0", "10 4 --- SIGCHLD {si_signo=SIGCHLD} ---",
                  "10 4 --- stopped by SIGSTOP ---", "10 4 exit_group(0)   = ?", "10 5 +++ exited with 0 +++"],
                 (10, "futex", 1, 3, "0"), (10, "SIGCHLD", 4, 4, ""), (10, "exit_group", 4, 4, "?"), (10, "exited", 5, 5, ""))


def a_call_that_other_threads_interrupt_is_read():
    expect_calls(["10 1 poll([{fd=3, events=POLLIN}], 1, -1 <unfinished ...>", "11 2 wait4(-1,  <unfinished ...>",
                  "10 7 <... poll resumed>) = 1 ([{fd=3, revents=POLLIN}])", "11 9 <... wait4 resumed>0x7f, 0, NULL) = 12"],
                 (10, "poll", 1, 7, "1 ([{fd=3, revents=POLLIN}])"), (11, "wait4", 2, 9, "12"))


def strings_that_look_like_the_end_of_a_call_are_read():
    for data in ") = 7", ") = 7 <0.000100>", " <unfinished ...>", "<... read resumed>) = 1", "\\\" +++ exited with 0 +++":
        expect_calls([f'10 1-2 write(1, "{data}", 9) = 9'], (10, "write", 1, 2, "9"))
        expect_calls(["10 1 read(1,  <unfinished ...>", f'10 2 <... read resumed>"{data}", 9) = 9'], (10, "read", 1, 2, "9"))


def a_call_that_goes_on_after_a_signal_is_read():
    interrupted = "? ERESTART_RESTARTBLOCK (Interrupted by signal)"
    expect_calls([f"10 1-2 clock_nanosleep(CLOCK_REALTIME, 0, {{tv_sec=9}}, {{tv_sec=8}}) = {interrupted}",
                  "10 3-8 restart_syscall(<... resuming interrupted clock_nanosleep ...>) = 0",
                  "10 8-9 restart_syscall(<... resuming interrupted system call ...>) = 0"],
                 (10, "clock_nanosleep", 1, 2, interrupted), (10, "clock_nanosleep", 3, 8, "0"),
                 (10, "restart_syscall", 8, 9, "0"))


def reading_goes_on_after_a_broken_line():
    text = [*lines("10 2 read(5", "10 3 <... read resumed>) = 0", "11 4 poll([{fd=3}], 1, -1 <unfinished ...>",
                   "10 5 futex(0x7f <unfinished ...>", "10 6 +++ killed by SIGKILL +++"),
            "strace: Process 11 attached\n", "\n", "10 1000.00\n", '10 1000.007000 read(5, "cut off", 9) = 9']
    expect([(call.name, call.result, *milliseconds(call.end)) for call in calls(text)],
           [("futex", "", 6), ("exited", "", 6), ("poll", "", 6)])


def calls_that_get_eagain_in_a_row_are_one():
    found = folded(calls(lines(f"10 1-1 {ASKS}", f"11 1-1 {ASKS}", f"10 1-2 {ASKS}", f"10 2-2 {ASKS}", f"10 2-3 {READS}",
                               f"10 3-3 {ASKS}", f"10 9-9 {ASKS}", "10 9-9 futex(0x7f, FUTEX_WAIT, 1) = -1 EAGAIN (…)")))
    expect(Counter((call.thread, call.name, call.times) for call in found),
           Counter({(10, "accept4", 3): 1, (11, "accept4", 1): 1, (10, "recvfrom", 1): 1, (10, "accept4", 1): 2,
                    (10, "futex", 1): 1}))


# ---- Who waited for whom ------------------------------------------------------------------------------------------------

def timeline_of(*rows, requests=()):
    return Timeline(list(folded(calls(lines(f"10 0-0 {STARTS}", *rows)))), requests)


def lane_of(timeline, thread):
    """The thread's slices after execve."""
    return [(piece.kind, piece.name, *milliseconds(piece.begin, piece.end)) for piece in timeline.threads[thread].slices[1:]]


def a_lane_has_waits_and_computations():
    timeline = timeline_of(f"10 0-5 {ACCEPTS}", f"10 5-5 {READS}", f"10 30-30 {WRITES}",
                           "10 30-40 nanosleep({tv_sec=0}, NULL) = 0", "10 41 --- SIGTERM {si_signo=SIGTERM} ---",
                           "10 41 exit_group(0) = ?", "10 50 +++ exited with 0 +++")
    expect(lane_of(timeline, 10),
           [("clients", "accept4", 0, 5), (SHORT, "recvfrom", 5, 5), (COMPUTING, "computes", 5, 30), (SHORT, "sendto", 30, 30),
            (SLEEPING, "nanosleep", 30, 40), (COMPUTING, "computes", 40, 41), ("signal", "SIGTERM", 41, 41),
            (SHORT, "exit_group", 41, 41)])
    for piece in timeline.threads[10].slices:
        if piece.kind in (COMPUTING, SLEEPING):
            expect(piece.about is timeline.connections[0], True, f"{piece.name} is about the client")


def a_clock_that_is_set_back_makes_no_overlap():
    timeline = timeline_of(*[f"10 {moment} poll([], 0, 10) = 0" for moment in ("10-20", "5-7", "19-25")])
    expect(lane_of(timeline, 10), [(COMPUTING, "computes", 0, 10), ("clients", "poll", 10, 20), (SHORT, "poll", 20, 20),
                                   ("clients", "poll", 20, 25)])


def a_child_that_is_seen_before_its_fork_is_known():
    timeline = timeline_of(f"10 2 {CHILD.partition(', child_tidptr')[0]} <unfinished ...>", f"11 3-3 close({LISTENER}) = 0",
                           "10 4 <... clone resumed>, child_tidptr=0x7f) = 11")
    expect([(process.number, process.parent and process.parent.number, process.name) for process in timeline.processes],
           [(10, None, "server"), (11, 10, "server")])


def a_call_that_times_out_is_a_wait():
    asks = [f"10 {moment} {ASKS}" for moment in ("2000-2040", "2040-2400", "2400-2600")]
    expect(lane_of(timeline_of(f"10 0-1000 {TIMES_OUT}", f"10 1000-2000 {TIMES_OUT}", *asks), 10),
           [(CLIENTS, "recvfrom", 0, 1000), (CLIENTS, "recvfrom", 1000, 2000), (ASKING, "accept4", 2000, 2600)])


def execve_in_a_second_thread_replaces_the_first():
    timeline = timeline_of(f"10 1-1 {THREAD}", f"10 1-1 {ACCEPTS}", "10 2 futex(0x7f, FUTEX_WAIT, 1 <unfinished ...>",
                           f"11 3 {STARTS.replace('server', 'other').partition(')')[0]} <unfinished ...>",
                           "10 5 +++ superseded by execve in pid 11 +++", "10 7 <... execve resumed>) = 0 <0.004000>",
                           f"10 7-9 {ASKS}", "10 9 +++ exited with 0 +++")
    expect(timeline.processes[0].name, "other")
    expect(lane_of(timeline, 10)[4:], [("others", "futex", 2, 5), (SHORT, "execve", 5, 7), (ASKING, "accept4", 7, 9)])
    expect([piece.name for piece in timeline.threads[11].slices], ["computes", "execve"])
    expect(milliseconds(timeline.connections[0].end), (9,), "when all threads of its process have ended")


def a_number_that_is_used_again_is_another_thread():
    lives = [[f"10 {begin}-{begin} {how}", f"11 {begin}-{begin + 4} nanosleep({{tv_sec=0}}, NULL) = 0",
              f"11 {begin + 4} +++ exited with 0 +++"] for begin, how in ((10, CHILD), (20, CHILD), (30, THREAD), (32, THREAD))]
    timeline = timeline_of(*sum(lives, []))     # the last one's clock has been set back
    expect([[thread.number for thread in process.threads] for process in timeline.processes], [[10, 11, 11], [11], [11]])
    written = expect_valid("\n".join(trace_event.lines(timeline, "")))
    expect([(event["pid"], event["ts"], event["dur"]) for event in written["X"] if event["name"] == "nanosleep"],
           [(11, 10_000, 4000), (11, 20_000, 4000), (10, 30_000, 4000), (10, 34_000, 2000)])
    expect(chart.svg(timeline, "").count(">child 11<"), 2, "children in the chart")


def expect_connections(about, rows, *expected):
    """After one was accepted: each connection's descriptor, peer, begin and end. The trace ends at 40."""
    found = timeline_of(f"10 0-1 {ACCEPTS}", *rows, '12 40-40 read(0, "", 1) = 0').connections
    expect([(one.descriptor, one.peer, *milliseconds(one.begin, one.end)) for one in found], list(expected), about)


def a_connection_lasts_from_accept_to_its_last_close():
    closed_by_child = CLOSES.replace("4<", "7<")
    expect_connections("nobody closes it", [], (4, PEER, 1, 40))
    expect_connections("closed", [f"10 9-9 {CLOSES}"], (4, PEER, 1, 9))
    expect_connections("half closed", [f"10 8-8 shutdown({CLIENT}, SHUT_WR) = 0", f"10 9-9 {READS_END}", f"10 12-12 {CLOSES}"],
                       (4, PEER, 1, 12))
    expect_connections("its number is used again before strace hears of the close",
                       [f"10 2-2 {THREAD}", f"10 9 close({CLIENT} <unfinished ...>", f"11 10-10 {ACCEPTS_OTHER}",
                        "10 11 <... close resumed>) = 0"], (4, PEER, 1, 9), (4, OTHER_PEER, 10, 40))
    expect_connections("a duplicate outlives it", [f"10 5-5 dup({CLIENT}) = 7", f"10 6-6 {CLOSES}", "10 8-8 close(7) = 0"],
                       (4, PEER, 1, 8))
    expect_connections("so does one that fcntl has made",
                       [f"10 5-5 fcntl({CLIENT}, F_DUPFD_CLOEXEC, 0) = 9", f"10 6-6 {CLOSES}"], (4, PEER, 1, 40))
    expect_connections("fcntl is only asked", [f"10 5-5 fcntl({CLIENT}, F_GETFL) = 2", f"10 6-6 {CLOSES}"], (4, PEER, 1, 6))
    expect_connections("another is put in its place", [f"10 6-6 dup2(1<pipe:[1]>, {CLIENT}) = 4"], (4, PEER, 1, 6))
    expect_connections("a child serves it", [f"10 2-2 {CHILD}", f"10 3-3 {CLOSES}", f"11 9-9 {CLOSES}"], (4, PEER, 1, 9))
    expect_connections("the child ends", [f"10 2-2 {CHILD}", f"10 3-3 {CLOSES}", "11 8 +++ killed by SIGKILL +++"],
                       (4, PEER, 1, 8))
    expect_connections("a thread ends, its process does not", [f"10 2-2 {THREAD}", "11 8 +++ exited with 0 +++"],
                       (4, PEER, 1, 40))
    expect_connections("handed on through another socket",
                       [f"10 2-2 {ACCEPTS_OTHER.replace('4<', '5<')}", f"11 4-4 {READS.replace('4<', '7<')}",
                        f"10 5-5 {CLOSES}", f"11 9-9 {closed_by_child}"], (4, PEER, 1, 9), (5, OTHER_PEER, 2, 40))


def an_executed_program_inherits_what_is_not_close_on_exec():
    for flags, end in ("0", 9), ("SOCK_CLOEXEC", 4):
        timeline = timeline_of(f"10 0-1 {ACCEPTS.replace('[16], 0', f'[16], {flags}')}", "10 2-2 vfork() = 11",
                               f"11 3-3 {STARTS.replace('server', 'cgi')}", f"10 4-4 {CLOSES}", "11 9 +++ exited with 0 +++")
        expect(milliseconds(timeline.connections[0].end), (end,), flags)
        expect([process.name for process in timeline.processes], ["server", "cgi"])


def phases_of(connection):
    return [(what, *milliseconds(*moments)) for what, *moments in connection.phases()]


def a_client_waits_to_be_read_and_to_be_answered():
    rows = (f"10 0-20 {ACCEPTS}", f"10 30-30 {READS}", f"10 31-31 {READS}", f"10 40-40 {WRITES}", f"10 42-42 {WRITES}",
            f"10 45-45 {READS}", f"10 50-50 {CLOSES}")
    ours = timeline_of(*rows, requests=[Request("fib 1", 4444, ORIGIN), Request("fib 2", 5555, ORIGIN + 5000)]).connections
    expect([(one.name, one.text, phases_of(one)) for one in ours],
           [("client 1", "fib 1", [("not read yet", 0, 30), ("is answered", 30, 42), ("is answered", 45, 50)]),
            ("client 2", "fib 2", [("not read yet", 5, 50)])])
    strangers = timeline_of(*rows).connections
    expect([(one.name, one.text, phases_of(one)) for one in strangers],
           [("client 1", "fib 1", [("is answered", 30, 42), ("is answered", 45, 50)])])


# ---- Writing ------------------------------------------------------------------------------------------------------------

def expect_valid(text):
    """A trace that Perfetto opens: strict JSON, every lane named, no slices that overlap, every b with its e. Returns the
    events of each phase."""
    def refuse(constant):
        raise Failure(f"{constant} is not JSON")

    events = json.loads(text, parse_constant=refuse)["traceEvents"]
    by_phase = {phase: [event for event in events if event["ph"] == phase] for phase in "MXibne"}
    expect(sum(map(len, by_phase.values())), len(events), "events of the known kinds")
    moments = [event["ts"] for event in events]
    expect((moments, {type(moment) for moment in moments}, moments[0]), (sorted(moments), {int}, 0), "moments")
    named = {(event["name"], event["tid"]) for event in by_phase["M"] if event["args"].get("name")}
    expect({("thread_name", event["tid"]) for event in by_phase["X"]} - named, set(), "lanes without a name")
    expect({("process_name", event["pid"]) for event in events} - named, set(), "processes without a name")
    ends, opened = {}, {}
    for event in by_phase["X"]:
        expect(event["ts"] >= ends.get(event["tid"], 0) and event["dur"] >= 0, True, f"{event} begins after the one before")
        ends[event["tid"]] = event["ts"] + event["dur"]
    for event in by_phase["b"] + by_phase["n"] + by_phase["e"]:
        opened[event["cat"], event["id"], event["pid"]] = []
    for event in events:
        if event["ph"] in "be":
            names = opened[event["cat"], event["id"], event["pid"]]
            if event["ph"] == "b":
                names.append(event["name"])
            else:
                expect(names.pop() if names else None, event["name"], "what was opened last")
    expect([names for names in opened.values() if names], [], "what was opened and not closed")
    return by_phase


def what_is_written_is_valid():
    asks = [f"10 {moment} {ASKS}" for moment in ("0-4", "4-8", "8-12")]
    requests = [Request('<fib> & "1"', 4444, ORIGIN - 1000), Request("fib 2", 5555, ORIGIN + 5000)]
    timeline = timeline_of(*asks, '10 12-12 prctl(PR_SET_NAME, "a \\"name\\"") = 0', f"10 12-20 {ACCEPTS}",
                           f"10 20-20 {THREAD}", f"11 30-30 {READS}", "11 35 --- SIGCHLD {si_signo=SIGCHLD} ---",
                           f"11 40-40 {WRITES}", f"11 50-50 {CLOSES}", f"11 50-50 {CHILD.replace('= 11', '= 12')}",
                           "12 51-60 nanosleep({tv_sec=0}, NULL) = 0", "12 61 exit_group(0) = ?", requests=requests)
    written = expect_valid("\n".join(trace_event.lines(timeline, 'a "server"')))
    expect({phase: len(events) for phase, events in written.items()}, {"M": 10, "X": 17, "i": 1, "b": 5, "n": 2, "e": 5})
    expect([event["args"]["times"] for event in written["X"] if event["cat"] == ASKING], [3])
    picture = chart.svg(timeline, "a <server>")
    shown = "a &lt;server&gt;", "&lt;fib&gt;", "not read yet", "asks again and again", "child 12", "thread 11"
    expect([word for word in shown if word not in picture], [], "what the chart does not show")


def pieces_narrower_than_a_pixel_are_left_out():
    expect(chart.merged([(0, 1, "a", ""), (1, 5, "b", ""), (5, 6, "a", ""), (6, 9, "b", ""), (9, 11, "a", ""),
                         (11, 12, "a", ""), (12, 14, "b", "x")], 2),
           [(0, 1, "a", ""), (1, 9, "b", ""), (9, 12, "a", ""), (12, 14, "b", "x")])


# ---- The picture of the six ---------------------------------------------------------------------------------------------

def expect_waits(number, lanes):
    """What the picture must show of the stage with this number: the last client asks for `fib 1`, the one before for a
    long fib."""
    for one in lanes:
        moments = [one["asked"], *(moment for _, *span in one["pieces"] for moment in span), one["answered"]]
        expect(moments, sorted(moments), one["text"])
    fib, quick = lanes[-2:]
    computes = [end for word, _, end in fib["pieces"] if word == six.COMPUTES]
    expect(bool(computes), True, f"{fib['text']} is computed")
    if number == 1:
        for one, after in zip(lanes, lanes[1:]):
            served = [begin for word, begin, _ in after["pieces"] if word != six.WAITS] or [after["answered"]]
            expect(served[0] >= one["answered"], True, f"{after['text']} waits until {one['text']} is answered")
    elif number in (4, 5):
        expect(quick["answered"] >= computes[-1], True, f"{quick['text']} waits for {fib['text']}")
    elif number == 6:
        expect(quick["answered"] < computes[-1], True, f"{quick['text']} does not wait for {fib['text']}")


def a_lane_says_what_its_client_waits_for():
    def shown(*rows, asks):
        panel = six.panel(timeline_of(*rows, requests=[Request(asks, 4444, ORIGIN, b"ok")]))
        return [panel["by"], *panel["lanes"][0]["pieces"]]

    served = f"10 0-20 {ACCEPTS}", f"10 40-40 {READS}", f"10 99-99 {WRITES}", f"10 99-99 {CLOSES}"
    expect(shown(*served, asks="fib 1"), ["1 thread", ["waits", 0, 40], ["computes", 40, 99]])
    expect(shown(*served, asks="sleep 0.02"), ["1 thread", ["waits", 0, 40], ["sleeps", 40, 60], ["waits", 60, 99]])
    pool = f"10 5-5 {THREAD}", "11 6-50 futex(0x7f, FUTEX_WAIT, 1) = 0", "11 90-90 futex(0x7f, FUTEX_WAKE, 1) = 1"
    loop = *served[:2], "10 40-95 epoll_wait(5, [], 1, -1) = 1", *served[2:]
    expect(shown(*pool, *loop, asks="fib 1"), ["2 threads", ["waits", 0, 50], ["computes", 50, 90]])


def the_picture_of_the_six_is_what_was_measured():
    picture = (Path(six.__file__).parent / "six.svg").read_text()
    panels = six.carried(picture)
    expect(six.svg(panels) == picture, True, "it is drawn by the six.py that is here from what it carries")
    expect(re.findall(r">\d  ([^<]+)<", picture), list(six.TITLES), "titles")
    expect([", ".join(one["text"] for one in shown["lanes"]) for shown in panels], [six.LOAD] * 6, "clients of each panel")
    expect(six.WIDTH <= 900, True, "it is 900 pixels wide at most")
    expect(min(map(int, re.findall(r"font(?:-size)?: (\d+)px", picture))) >= 11, True, "its smallest letter has 11 pixels")
    expect(len(picture) <= 40_000, True, "it has 40 KB at most")
    for number, shown in enumerate(panels, 1):
        expect_waits(number, shown["lanes"])
        _, begins, ends = shown["lanes"][2]["pieces"][-1]
        expect(begins < shown["lanes"][0]["answered"], number > 1, f"panel {number}: the long fib begins while the first sleeps")
        held = {1: [False, False, True, True], 4: [True] * 4, 5: [True] * 4}.get(number, [False, False, True, False])
        expect([one["answered"] >= ends for one in shown["lanes"]], held, f"panel {number}: who is answered after the fib")


# ---- Asking -------------------------------------------------------------------------------------------------------------

def a_path_may_have_any_character():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for path, asked in ("/ä€ %41?a=b&c", b"GET /%C3%A4%E2%82%AC%20%41?a=b&c HTTP/1.1\r\n"), ("€", "€\n".encode()):
            client, request = ask(listener.getsockname(), path)
            with client, listener.accept()[0] as server:
                expect((server.recv(999)[:len(asked)], request.text), (asked, path))


def a_peers_path_may_have_blanks():
    with mock.patch.object(gallery, "PEERS", Path("/a place/peers")):
        expect(gallery.gunicorn("-k sync -w 2", "").command[:7],
               ("gunicorn", "--chdir", "/a place/peers", "-k", "sync", "-w", "2"))


PROOFS = (calls_signals_and_ends_are_read, a_call_that_other_threads_interrupt_is_read,
          strings_that_look_like_the_end_of_a_call_are_read, a_call_that_goes_on_after_a_signal_is_read,
          reading_goes_on_after_a_broken_line, calls_that_get_eagain_in_a_row_are_one, a_lane_has_waits_and_computations,
          a_clock_that_is_set_back_makes_no_overlap, a_child_that_is_seen_before_its_fork_is_known,
          a_call_that_times_out_is_a_wait, execve_in_a_second_thread_replaces_the_first,
          a_number_that_is_used_again_is_another_thread, a_connection_lasts_from_accept_to_its_last_close,
          an_executed_program_inherits_what_is_not_close_on_exec, a_client_waits_to_be_read_and_to_be_answered,
          what_is_written_is_valid, pieces_narrower_than_a_pixel_are_left_out, a_lane_says_what_its_client_waits_for,
          the_picture_of_the_six_is_what_was_measured, a_path_may_have_any_character, a_peers_path_may_have_blanks)


def kept(proof):
    try:
        proof()
    except Failure as failure:
        return str(failure)
    return None


def proofs():
    return [(f"traces: {proof.__name__.replace('_', ' ')}", lambda proof=proof: kept(proof)) for proof in PROOFS]
