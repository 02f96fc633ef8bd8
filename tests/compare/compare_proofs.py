"""Proofs that `make compare` measures what it says, writes it well, and leaves nothing behind."""
import contextlib
import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import compare
from experiments import PEERS, QUICK, TALK, Costs, Figures, bench
from harness.checks import PATIENCE, Failure, NotRun, expect, expect_match, wait_for
from harness.server import Program
from harness.stages import THEIRS, plain
from harness.system import processes, readable

HERE = Path(__file__).resolve().parent

# Everything once, in seconds. The benchmark's reference takes the place of nginx, the one framework.
TINY = replace(QUICK, stages=(plain(1), plain(5), plain(5).with_options("--trigger", "edge")), rounds=2, seconds=1000,
               clients=(1, 2), drawn=2, sleep="0.1", fib=20, others=(1,), long_fib=22, talk_fib=5, connections=(2, 1), crowd=20,
               idle=2, ms=20, at_rest=0.05, frameworks=lambda: [
                   bench.Candidate("nginx's place", speaks="http", foreign=f"exec {bench.BUILD}/reference http {{port}}")])


@contextlib.contextmanager
def results_of(plan):
    """Runs the comparison; yields its directory, whether all went well, and what it printed."""
    if not shutil.which("gnuplot"):
        raise NotRun("gnuplot is not installed (make deps-all installs it)")
    with tempfile.TemporaryDirectory() as to, io.StringIO() as said:
        well = compare.compare(plan, Path(to), compare.Bar(plan.seconds, said))
        yield Path(to), well, said.getvalue()


def rows_of(directory):
    with open(directory / "results.csv", newline="") as file:
        return list(csv.DictReader(file))


def row(rows, experiment, who, what, parameters):
    """The one row of a figure."""
    key = {"experiment": experiment, "who": who, "what": what, "parameters": parameters}
    found = [one for one in rows if {name: one[name] for name in key} == key]
    expect(len(found), 1, f"rows of {key}")
    return found[0]


def a_small_comparison_gives_every_figure_and_writes_it_well():
    with results_of(TINY) as (to, well, said):
        expect(well, True, said)
        expect_match(said, r"(?s)round 1: how it grows\n.*round 2: who waits\n.*report.html is written, after .* minutes\n")
        expect_every_figure(rows_of(to))
        expect_well_written(to)


def expect_every_figure(rows):
    for one in rows:
        if one["remark"]:
            expect((one["median"], one["repetitions"]), ("", "0"), f"{one}")
        else:
            low, middle, high = (float(one[name]) for name in ("low", "median", "high"))
            expect((low <= middle <= high, one["repetitions"]), (True, "2"), f"{one}")
    expect(len({tuple(one.values())[:4] for one in rows}), len(rows), "no figure twice")
    one_after_the_other = row(rows, "who waits", "stage1_sync", "answered", "sleep 0.1, 2 clients, client 2")
    expect(float(one_after_the_other["low"]) >= 0.2, True, "two sleeps, one after the other")
    row(rows, "who waits", "stage5_epoll", "last answered, as a ratio to one client alone", "mixed, 2 clients")
    expect(row(rows, "the talk's experiment", "stage1_sync", "fib 1", "beside 1")["high"], "0", "where there is no place")
    for who in "stage5_epoll --trigger edge", TALK:
        found = row(rows, "the talk's experiment", who, "fib 1, as a ratio to the same alone", "beside 1")
        expect(float(found["low"]) > 0, True, f"{found}")
    expect_match(row(rows, "how it grows", "stage1_sync", "", "2 connections")["remark"], "serves 1 at once.*")
    expect(row(rows, "how it grows", "stage5_epoll", "fib 1, as a ratio to stage 5", "2 connections")["median"], "1")
    row(rows, "how it grows", "stage5_epoll", "latency, 99th percentile", "1 connection")
    for what, parameters in (("memory", "an idle connection"), ("time to accept", "from connect(2) to the answer"),
                             ("processor time at rest", "0 idle connections"),
                             ("processor time at rest", "2 idle connections")):
        row(rows, "what a client costs", "stage5_epoll", what, parameters)
    row(rows, "frameworks", "nginx's place", "requests, as a ratio to stage 5", "GET /fib/1, a connection each")


class Page(HTMLParser):
    """What a page opens and refers to. Fails if an element is closed that was not open."""
    VOID = {"meta"}

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.references, self.count = [], [], [], {}
        self.feed(text)
        self.close()
        expect(self.open, [], "what is not closed")

    def handle_starttag(self, tag, attributes):
        self.handle_startendtag(tag, attributes)
        self.open += [] if tag in self.VOID else [tag]

    def handle_startendtag(self, tag, attributes):
        self.count[tag] = self.count.get(tag, 0) + 1
        for name, value in attributes:
            self.ids += [value] if name == "id" else []
            self.references += [value] if name in ("src", "href", "xlink:href", "srcset", "data", "action") else []
            self.references += re.findall(r"url\(['\"]?([^)'\"]*)", value or "")

    def handle_endtag(self, tag):
        expect(tag, self.open.pop(), "what is closed")

    def handle_data(self, data):
        if self.open[-1:] == ["style"]:
            self.references += re.findall(r"url\(['\"]?([^)'\"]*)|@import\s*(\S*)", data)


def expect_well_written(to):
    files = sorted(path.name for path in to.iterdir())
    pictures = [name for name in files if name.endswith(".svg")]
    expect([name for name in files if name not in pictures], ["report.html", "results.csv", "results.md"])
    for name in pictures:
        expect(ElementTree.parse(to / name).getroot().tag, "{http://www.w3.org/2000/svg}svg", name)
    markdown = (to / "results.md").read_text()
    expect(sorted(re.findall(r"!\[.+?\]\((.+?)\)", markdown)), pictures, "the pictures in results.md")
    for block in re.findall(r"(?:^\|.*\n)+", markdown, re.MULTILINE):
        expect(len({line.count("|") for line in block.splitlines()}), 1, f"cells in each row of\n{block}")
    page = Page((to / "report.html").read_text())
    expect(page.count["svg"], len(pictures), "pictures in the page")
    expect(len(set(page.ids)), len(page.ids), "ids that are given once")
    expect([place for place in page.references if place[:1] != "#" or place[1:] not in page.ids], [], "what is elsewhere")


def a_failed_server_is_reported_and_not_measured():
    """One server starts, but refuses to compute. A framework dies as soon as a client has come."""
    refuses = plain(5).with_options("--max-fib", "1")
    dies = bench.Candidate("Koa, mortally ill", speaks="http tasks", foreign=f"exec {sys.executable} -c 'import socket; "
                           "socket.create_server((\"127.0.0.1\", {port})).accept()'")
    plan = replace(TINY, stages=(plain(5), refuses), rounds=1, frameworks=lambda: [dies])
    with results_of(plan) as (to, well, said):
        expect(well, False, "whether all was well")
        rows, text = rows_of(to), (to / "results.md").read_text()
    for experiment, who in (("who waits", refuses.title), ("the talk's experiment", refuses.title), ("frameworks", dies.title)):
        expect(said.count(f"{experiment}: {who} failed: "), 1, said)
        expect(f"{who} ({experiment}): " in text, True, "whether the report says so")
        found = [one for one in rows if (one["experiment"], one["who"]) == (experiment, who)]
        expect(([one["median"] for one in found], found[0]["remark"][:8]), ([""], "failed: "), f"{found}")
    row(rows, "how it grows", refuses.title, "fib 1", "2 connections")
    row(rows, "who waits", "stage5_epoll", "last answered", "mixed, 2 clients")


def it_ends_when_the_time_is_up():
    """One round is always run, but without the longest experiment."""
    with results_of(replace(TINY, stages=(plain(5),), rounds=5, seconds=0)) as (to, well, said):
        expect((well, said.count(": who waits\n")), (True, 1))
        rows = rows_of(to)
    expect({one["repetitions"] for one in rows if not one["remark"]}, {"1"})
    expect({one["remark"] for one in rows if one["experiment"] == "who waits"}, {"there was no time left"})


def a_server_that_has_ended_is_not_measured_as_at_rest():
    figures, one = Figures(), bench.Candidate("stage5_epoll", stage=plain(5), speaks="lines")
    costs = Costs(TINY, figures, compare.Bar(1, io.StringIO()))
    with costs.running([one]):
        costs.rest([one], "0 idle connections")
        expect(len(figures.values), 1)
        one.server.process.kill()
        one.server.process.wait()
    expect((figures.values, list(figures.failed)), ({}, [(costs.name, one.title)]))


def the_talks_server_answers_as_the_talks_did():
    program = Program(THEIRS, foreign=f"exec {sys.executable} {PEERS}/talk.py {{port}}", patience=20)
    try:
        server = program.start()
        with server.connect() as first, server.connect() as second:
            for request, reply in ((b"30", "832040"), (b"1", "1"), (b"10\n", "55")):
                first.send(request)
                expect(first.line(), reply)
            second.send(b"10\n10\n")        # int() fails, so the thread ends;
            with server.connect() as third:         # the connection ends when the loop accepts the next one
                expect(second.rest(), b"", "to two requests in one segment")
                for other in first, third:
                    other.send(b"2")
                    expect(other.line(), "1", "to the others, after that")
    finally:
        program.clean_up()


@contextlib.contextmanager
def command(to, **environment):
    process = subprocess.Popen([sys.executable, HERE / "compare.py", "--to", to], text=True,
                               stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=dict(os.environ, **environment))
    with process:
        try:
            yield process
        finally:
            process.terminate()


def an_interrupted_comparison_leaves_nothing():
    if not shutil.which("gnuplot"):
        raise NotRun("gnuplot is not installed (make deps-all installs it)")
    with tempfile.TemporaryDirectory() as directory:
        files, to = Path(directory, "files"), Path(directory, "results")
        files.mkdir()

        def ours():
            """The processes whose temporary files go there."""
            def is_one(pid):
                with contextlib.suppress(OSError):
                    return f"TMPDIR={files}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")

            return [pid for pid in processes(lambda fields: fields[0] != "Z") if is_one(pid)]

        for number, servers in ((signal.SIGTERM, 1), (signal.SIGINT, 20)):      # while servers start; at work
            with command(to, TMPDIR=str(files)) as process:
                expect(process.stderr.readline(), "round 1: how it grows\n")
                wait_for(lambda: len(ours()) > servers, f"{servers} servers ran")
                process.send_signal(number)
                _, said = process.communicate(timeout=PATIENCE)
                expect((process.returncode, said), (1, "interrupted: no results\n"))
            left = ours()
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            expect((left, list(files.iterdir()), list(to.iterdir())), ([], [], []), "what is left")


def without_gnuplot_it_says_so_at_once():
    with tempfile.TemporaryDirectory() as directory:
        to = Path(directory, "results")
        with command(to, PATH=directory) as process:
            _, said = process.communicate(timeout=PATIENCE)
        expect_match(said, r"compare: gnuplot, which draws the plots, is not installed .*\n")
        expect((process.returncode, to.exists()), (1, False))


def the_load_generator_counts_starving_as_a_result():
    """With --may-starve. A server that answers is counted as without it."""
    with bench.socket.create_server(("127.0.0.1", 0)) as silent:
        def load(port, *options):
            asked = ["--request", "fib 1\n", "--reply", "fib: 1"]
            finished = subprocess.run([bench.BUILD / "load", str(port), "--ms", "20", *asked, *options], check=True,
                                      capture_output=True, text=True, timeout=60)
            return json.loads(finished.stdout)

        expect(load(silent.getsockname()[1], "--may-starve")["requests"], 0)
        expect(readable(silent), True, "whether it connected at all")
        reference = bench.references()["lines"].start()
        try:
            answered = load(reference.server.port, "--may-starve", "--close", "--latency")
            expect(answered["requests"] > 0 and 0 < answered["p50"] <= answered["p99"], True, f"{answered}")
        finally:
            reference.end()


def the_load_generator_asks_again_only_after_a_full_round():
    """Or else a connection that is accepted late would be missing from the figures."""
    with bench.socket.create_server(("127.0.0.1", 0)) as server:
        asked = ["--connections", "2", "--request", "fib 1\n", "--reply", "fib: 1"]
        with subprocess.Popen([bench.BUILD / "load", str(server.getsockname()[1]), *asked], stderr=subprocess.DEVNULL):
            accepted = [server.accept()[0] for _ in range(2)]
            for number, one in enumerate(accepted):
                expect([readable(each, 0.2) for each in accepted[:number]], [False] * number, "whether it asks again")
                expect(one.recv(100), b"fib 1\n")
                one.sendall(b"fib: 1\n")
            for one in accepted:
                expect(one.recv(100), b"fib 1\n", "what it asks then")
            for one in accepted:
                one.close()     # that ends it


def reported(function):
    """The function as a proof, which returns what is wrong, or None."""
    def run():
        try:
            return function()
        except (Failure, RuntimeError) as failure:
            return str(failure) or "failed"
    return run


def proofs():
    return [(f"the comparison: {function.__name__.replace('_', ' ')}", reported(function)) for function in (
        a_small_comparison_gives_every_figure_and_writes_it_well, it_ends_when_the_time_is_up,
        a_failed_server_is_reported_and_not_measured, a_server_that_has_ended_is_not_measured_as_at_rest,
        the_talks_server_answers_as_the_talks_did, an_interrupted_comparison_leaves_nothing,
        without_gnuplot_it_says_so_at_once, the_load_generator_counts_starving_as_a_result,
        the_load_generator_asks_again_only_after_a_full_round)]
