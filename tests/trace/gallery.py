"""The six stages beside well-known servers under the same load: `make gallery`.

Writes build/trace/gallery.html, one page that needs no other file, from runs on this machine. It names each server that is
not installed or does not work.
"""
import argparse
import math
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from html import escape
from pathlib import Path

import chart
from record import PLACE, ROOT, Trouble, carry_out, play, record, say
from harness.stages import plain
from harness.system import free_port

PEERS = ROOT / "tests" / "peers"
COMPUTES = 0.4          # about so many seconds for fib
GOLDEN = (1 + math.sqrt(5)) / 2     # fib of the next number takes so many times as long


@dataclass(frozen=True)
class Exhibit:
    title: str
    command: tuple
    see: str                # two sentences on what to see
    ours: bool = False
    needs: tuple = ()       # a command that succeeds where it is installed


def stage(number, see):
    one = plain(number)
    return Exhibit(one.title, (str(ROOT / one.name / one.name), *one.options), see, ours=True)


def gunicorn(options, see, needs="flask"):
    """gunicorn as Debian installs it, for Debian's Python."""
    words = f"{options} --log-level error -b 127.0.0.1:{{port}} flask_app:app"
    return Exhibit(f"gunicorn {options}, Flask", ("gunicorn", "--chdir", str(PEERS), *words.split()), see,
                   needs=("/usr/bin/python3", "-c", f"import gunicorn, flask, {needs}"))


EXHIBITS = (
    stage(1, "One client after the other: the staircase. While the server sleeps for the first one, the others' requests lie "
             "unread, even fib 1, which takes no time at all."),
    stage(2, "A process for each client, and the parent is ready for the next one at once. No client waits for another: one "
             "child computes while the others sleep."),
    stage(3, "The same picture with threads of one process. The price differs, which the chart can't show: make bench "
             "measures the memory of both."),
    stage(4, "One thread, and no call that waits: it asks all sockets again and again. While it computes it asks none, so "
             "the last request is not read until fib is done."),
    stage(5, "One thread that rests in epoll_wait until something happens. But fib blocks the only lane: a client that "
             "comes meanwhile waits, and so would one whose sleep is over."),
    stage(6, "The loop never computes: fib runs in a thread of the pool. The last request is read and answered while "
             "fib is still being computed."),
    gunicorn("-k sync -w 2", "Two workers with one client at a time each: stage 2 with --workers 2. Both sleep, and the other "
                             "two requests lie unread until one of them is free."),
    gunicorn("-k gthread -w 1 --threads 4", "A pool of four threads: stage 3 with --threads 4. But Python's threads take "
                                            "turns. The last request is answered at once only because the computing "
                                            "thread must give up the interpreter's lock every few milliseconds."),
    gunicorn("-k gevent -w 1", "One loop, and blocking code on stacks that are switched: stage 6 with --flavor stackful. "
                               "A sleep holds up no other client, a computation holds up all.", needs="gevent"),
    Exhibit("Node", ("node", str(PEERS / "node.js"), "{port}"),
            "One loop, as in stage 5: a sleep holds up no other client, and fib holds up all. The other threads are there "
            "for files, names and the compiler, and none of them computes fib.", needs=("node", "--version")),
    Exhibit("Koa", ("node", str(PEERS / "koa.js"), "{port}"),
            "Koa's async functions run in Node's loop. An await gives the others a turn, and a computation doesn't.",
            needs=("node", "-e", "require('koa')")),
    Exhibit("Tornado", ("/usr/bin/python3", str(PEERS / "tornado_app.py"), "{port}"),
            "Coroutines without an executor: stage 6 with --pool 0. An await gives the others a turn, and a computation "
            "doesn't.", needs=("/usr/bin/python3", "-c", "import tornado")),
)


def is_installed(exhibit):
    there = all(map(shutil.which, (exhibit.command[0], *exhibit.needs[:1])))
    return there and (not exhibit.needs or subprocess.run(exhibit.needs, check=False, capture_output=True).returncode == 0)


def fitted(load, address):
    """The load with a number instead of N, such that fib takes about as long as with any other server."""
    def seconds(n):
        begin, sent = time.monotonic(), []
        play(address, f"/fib/{n}", sent)
        if not (sent and b'"fib"' in sent[0].answer):
            raise Trouble(f"it does not answer /fib/{n}")
        return time.monotonic() - begin

    n, took = 18, 0
    while took < COMPUTES / 4:
        n += 2
        took = min(seconds(n), seconds(n))      # the machine may have been busy, or the server not warm
    return load.replace("N", str(n + round(math.log(COMPUTES / took, GOLDEN))))


def run(exhibit, load):
    if not is_installed(exhibit):
        raise Trouble("it is not installed")
    port = str(free_port())
    timeline = record([word.replace("{port}", port) for word in exhibit.command], load, ours=exhibit.ours,
                      output=subprocess.DEVNULL, fit=fitted)
    if sum(bool(one.request and one.request.answer) for one in timeline.connections) < len(load.split(",")):
        raise Trouble("not every request was answered")
    return timeline


PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Who waits for whom</title>
<style>
body {{ max-width: 60rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif; color: #222 }}
svg {{ max-width: 100%; height: auto }}
h2 {{ margin: 2.5rem 0 0 }}
</style>
<h1>Who waits for whom</h1>
<p>{what}, each with the same clients, a tenth of a second apart. The upper lanes show what each client waits for, the lower
ones what the server does meanwhile. <em>Not read yet</em> means that the server has not looked at the request. The n of fib
is chosen so that each server computes for about {computes} s.</p>
<p>Drawn from the system calls that strace saw. What takes a millisecond or longer is a wait if it is a call, and a
computation if it lies between two calls. strace makes every call slower, so the charts show orders and proportions, not
speeds. All have the same axis.</p>
{exhibits}
</html>
"""


def page(shown, missing):
    """`shown` has pairs of an exhibit and its timeline, `missing` has the titles of the others, and why they are not shown."""
    seconds = max(end - begin for begin, end in (chart.window(timeline) for _, timeline in shown)) / 1e6
    parts = []
    for exhibit, timeline in shown:
        asked = ", ".join(one.text for one in timeline.connections if one.request)
        parts.append(f"<h2>{escape(exhibit.title)}</h2>\n<p>{escape(exhibit.see)}</p>\n"
                     f"{chart.svg(timeline, asked, seconds)}")
    parts += [f"<p>Not shown: {escape(title)} ({escape(str(why))}).</p>" for title, why in missing.items()]
    what = f"{len(shown)} servers on a machine with {os.cpu_count()} processors"
    return PAGE.format(what=what, computes=COMPUTES, exhibits="\n".join(parts))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=[""], metavar="TEXT",
                        help="only servers with one of these in their name")
    parser.add_argument("--load", default="/sleep/1, /sleep/1, /fib/N, /fib/1", help="N: a number that takes 0.4 s")
    parser.add_argument("--output", type=Path, default=PLACE / "gallery.html")
    options = parser.parse_args()
    wanted = [one for one in EXHIBITS if any(text in one.title for text in options.only)]
    if not wanted:
        raise Trouble(f"no server has {' or '.join(map(repr, options.only))} in its name")
    shown, missing = [], {}
    for exhibit in wanted:
        say(exhibit.title)
        try:
            shown.append((exhibit, run(exhibit, options.load)))
        except Trouble as trouble:
            say(f"not shown: {trouble}")
            missing[exhibit.title] = trouble
    if not shown:
        raise missing[wanted[0].title]      # mostly the same for all
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(page(shown, missing), encoding="utf-8")
    print(f"{os.path.relpath(options.output)}: open it in a browser")


if __name__ == "__main__":
    carry_out(main)
