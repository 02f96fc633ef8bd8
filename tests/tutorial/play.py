"""Plays a page: types into terminals what its console blocks say, and compares what comes with what they show.

    python3 tests/tutorial/play.py stage1_sync/README.md 60

It is played in its own directory (a page from elsewhere in the root), and the number is how many seconds to wait for anything.

The blocks are played in their order. Each names its terminal (```console A), which goes on from block to block. What is shown
must come, and nothing else may; only names and moments differ from run to run (names.py), and … stands for anything. Where a
block ends with something typed and nothing shown, nothing may come until a later block of that terminal shows it: that is how
a page says who waits for whom.

The page has a copy of the sources to itself, so that it may change them, and nothing is left behind; and, where the system
allows it, a network of its own, so that port 9999 is free. The last line is `N commands played`: those typed to a shell.
"""
import ctypes
import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent))
from harness import Failure     # noqa: E402: a path of its own
from names import Names         # noqa: E402
from pages import blocks, steps     # noqa: E402
from terminal import Terminal   # noqa: E402

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
PAUSE = 0.2     # seconds between two blocks: no reader is faster, and what comes unasked has time to show itself
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1


def network_of_its_own():
    """Leaves the system's network for one that has nothing but the loopback interface; unshare(2), netdevice(7).

    Returns whether the system allowed it.
    """
    unshare, uid, gid = ctypes.CDLL(None, use_errno=True).unshare, os.getuid(), os.getgid()
    if uid != 0:
        if unshare(CLONE_NEWUSER) != 0:
            return False
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    if unshare(CLONE_NEWNET) != 0:
        return False
    with socket.socket() as any_socket:
        flags = struct.unpack_from("16xH", fcntl.ioctl(any_socket, SIOCGIFFLAGS, struct.pack("16s16x", b"lo")))[0]
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | IFF_UP))
    return True


def copy_of_the_sources(directory):
    """What git knows, as files that may be changed, and beside it what was built, as links."""
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
        if file.suffix == ".d":     # the compiler writes into it; what else it makes it puts in the place of the old
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
            shows_nothing_more(terminal)
            terminal.type(self.names.in_typed(step.typed), step.to_shell)
        if step.shown:
            expected = "\n".join(step.shown)
            # Who knows how much is left out at the end knows it when the command has ended.
            terminal.expect(lambda came: self.names.match(expected, came), ends or step.shown[-1] == "…")
        else:
            terminal.settle(ends)

    def nobody_speaks_unasked(self, but=None):
        time.sleep(PAUSE)
        for terminal in self.terminals.values():
            if terminal is not but:
                shows_nothing_more(terminal)

    def end(self):
        """Closes the terminals, the latest first: clients before their server. Returns what was left in the background."""
        return [pid for terminal in reversed(list(self.terminals.values())) for pid in terminal.close()]


def shows_nothing_more(terminal):
    terminal.look()
    if terminal.text:
        raise Failure(f"terminal {terminal.name} shows what the page doesn't say:\n{terminal.text}")


def play(page, patience):
    """How many commands were played."""
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
            raise Failure(f"{left} are left running at the end")
    return player.played


def main():
    page, patience = Path(sys.argv[1]), float(sys.argv[2])
    signal.signal(signal.SIGTERM, signal.default_int_handler)       # what it has started is ended in any case
    with open(__file__) as this:
        if not network_of_its_own():
            fcntl.flock(this, fcntl.LOCK_EX)    # the port is everybody's: one page after another
        try:
            print(f"{play(page, patience)} commands played")
        except Failure as failure:
            sys.exit(f"{page}: {failure}")
        except KeyboardInterrupt:
            sys.exit("interrupted")


if __name__ == "__main__":
    main()
