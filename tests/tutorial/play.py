"""Plays a page: types what its console blocks say into terminals, and compares the output with what they show.

    PAUSE=5 python3 tests/tutorial/play.py stage1_sync/README.md 60

A page is played in its own directory (a page from elsewhere: in the root). The number is the longest wait, in seconds. With
PAUSE, so many seconds pass before each line is typed: a person changes windows, reads and types.

The blocks are played in order. Each names its terminal (```console A), which stays open from block to block. The output must
be what the page shows, and no more. Only names and times may differ (names.py), and … stands for anything. If a block ends
with a typed line and shows no output for it, none may come until a later block of that terminal shows it. That is how a page
says who waits for whom.

The page has its own copy of the sources, so that it may change them and leaves nothing behind. Where the system allows it,
it has its own network, too, so that port 9999 is free. The last line is `N commands played`: those typed to a shell.
"""
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent))
from harness.checks import Failure    # noqa: E402: after sys.path
from harness.system import place_of     # noqa: E402
from names import Names         # noqa: E402
from pages import blocks, steps     # noqa: E402
from terminal import Terminal   # noqa: E402

BETWEEN_BLOCKS = 0.2    # seconds: no reader is faster, and unexpected output has time to appear
BEFORE_EACH_LINE = float(os.environ.get("PAUSE") or 0)
THERE = "IN_A_NETWORK_OF_ITS_OWN"      # the variable by which this program tells its new self


def network_of_its_own():
    """Starts this program anew in a network that has only the loopback interface; unshare(1), ip-link(8).

    Returns True in that network, and False if the system doesn't allow it. Call it before anything else.
    """
    if os.environ.pop(THERE, None):
        return True
    leave, up = ["unshare", "--net"], f'{place_of("ip")} link set lo up && exec "$@"'
    if os.geteuid() != 0:       # setting up a network takes rights that this program must not have
        leave = ["unshare", "--net", "--map-current-user", "--keep-caps"]
        up = up.replace("exec", "exec setpriv --ambient-caps=-all --inh-caps=-all")
    command = [*leave, "sh", "-c", up, "sh"]
    if subprocess.run([*command, "true"], check=False, stderr=subprocess.DEVNULL).returncode != 0:
        return False
    os.execvpe(command[0], [*command, sys.executable, *sys.argv], dict(os.environ, **{THERE: "yes"}))


def copy_of_the_sources(directory):
    """Copies what git knows, as files that may be changed, and links what was built."""
    known = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True,
                           capture_output=True, text=True).stdout.split("\0")
    for name in filter(None, known):
        target = directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)
    built = [*ROOT.glob("build/*san/**/*"), *ROOT.glob("build/release/**/*"), *ROOT.glob("stage?_*/stage?_*")]
    for file in filter(Path.is_file, built):
        target = directory / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".d":     # the compiler writes into this one; the others it replaces
            shutil.copy2(file, target)
        else:
            target.symlink_to(file)


class Play:
    def __init__(self, directory, patience):
        self.directory, self.patience = directory, patience
        self.names = Names()
        self.terminals = {}
        self.played = 0         # commands

    def block(self, block):
        if block.terminal not in self.terminals:
            self.terminals[block.terminal] = Terminal(block.terminal, self.directory, self.patience)
        terminal = self.terminals[block.terminal]
        self.nobody_speaks_unasked(but=terminal)
        todo, terminal.converses = steps(block, terminal.converses)
        for step, following in zip(todo, [*todo[1:], None]):
            try:
                self.step(terminal, step, ends=following is not None and following.to_shell)
            except Failure as failure:
                raise Failure(f"line {step.line}: {failure}") from None
            self.played += step.to_shell

    def step(self, terminal, step, ends):
        if step.typed is not None:
            time.sleep(BEFORE_EACH_LINE)
            shows_nothing_more(terminal)
            terminal.type(self.names.in_typed(step.typed), step.to_shell)
        if step.shown:
            expected = "\n".join(step.shown)
            # Only when the command has ended is it known how much an … at the end leaves out.
            terminal.expect(lambda came: self.names.match(expected, came), ends or step.shown[-1] == "…")
        else:
            terminal.settle(ends)

    def nobody_speaks_unasked(self, but=None):
        time.sleep(BETWEEN_BLOCKS)
        for terminal in self.terminals.values():
            if terminal is not but:
                shows_nothing_more(terminal)

    def end(self):
        """Closes the terminals, latest first: clients before their server. Returns the processes left in the background."""
        return [pid for terminal in reversed(list(self.terminals.values())) for pid in terminal.close()]


def shows_nothing_more(terminal):
    terminal.look()
    if terminal.text:
        raise Failure(f"terminal {terminal.name} shows what the page doesn't say:\n{terminal.text}")


def play(page, patience):
    """Plays the page; returns how many commands it has."""
    consoles = [block for block in blocks((ROOT / page).read_text()) if block.language == "console"]
    with tempfile.TemporaryDirectory() as directory:
        copy_of_the_sources(Path(directory))
        player = Play(Path(directory) / ("" if page.is_absolute() else page.parent), patience)
        try:
            for block in consoles:
                player.block(block)
            player.nobody_speaks_unasked()
        finally:
            left = player.end()
        if left:
            raise Failure(f"processes that still run at the end: {left}")
    return player.played


def main():
    page, patience = Path(sys.argv[1]), float(sys.argv[2])
    signal.signal(signal.SIGTERM, signal.default_int_handler)       # so that what it has started is ended
    with open(__file__) as this:
        if not network_of_its_own():
            fcntl.flock(this, fcntl.LOCK_EX)    # all pages need the same port: one after another
        try:
            print(f"{play(page, patience)} commands played")
        except Failure as failure:
            sys.exit(f"{page}: {failure}")
        except KeyboardInterrupt:
            sys.exit("interrupted")


if __name__ == "__main__":
    main()
