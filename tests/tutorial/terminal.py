"""A terminal like the reader's: bash on a pseudo-terminal."""
import codecs
import contextlib
import fcntl
import os
import pty
import re
import shutil
import signal
import struct
import termios
import time

from harness.checks import Failure, short
from harness.system import processes, readable

PROMPT = "\x1e"         # a character that no program prints


def program_of(pid):
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{pid}/exe")


class Terminal:
    def __init__(self, name, directory, patience):
        self.name, self.patience = name or "without a name", patience
        self.shown = ""             # output that has not been expected yet
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")     # a character may come in two pieces
        self.converses = False      # whether a program runs that reads what is typed
        self.starts_program = False     # whether the last command is a program, rather than something that the shell does
        self.pid, self.file = pty.fork()
        if self.pid == 0:
            modes = termios.tcgetattr(0)
            modes[3] &= ~termios.ECHO           # what is typed is known already
            termios.tcsetattr(0, termios.TCSANOW, modes)
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 200, 0, 0))
            for number in signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGHUP:
                # Python ignores the first two, nohup and a shell's & the others. Programs would inherit that.
                signal.signal(number, signal.SIG_DFL)
            os.chdir(directory)
            environment = {name: os.environ[name] for name in ("HOME", "PATH", "USER") if name in os.environ}
            # Messages in one language, no colours, no history file.
            environment.update(PS1=PROMPT, PS2="", TERM="dumb", LC_ALL="C.UTF-8", HISTFILE="")
            os.execvpe("bash", ["bash", "--norc", "--noprofile", "--noediting", "-i"], environment)
        self._until(lambda: self.at_prompt, "bash was there")
        self.shown = PROMPT

    @property
    def at_prompt(self):
        """Whether the last command has ended."""
        return self.shown.endswith(PROMPT)

    @property
    def text(self):
        """The lines that were shown, as a page has them: without bold type, and without blanks or CR at a line's end."""
        plain = re.sub(r"\x1b\[[\d;]*m", "", self.shown)
        return re.sub("[ \r]+\n", "\n", plain).replace(PROMPT, "\n").strip("\n")

    def look(self, seconds=0):
        """Waits up to so many seconds for output, and takes what has come."""
        while readable(self.file, seconds):
            try:
                self.shown += self.decoder.decode(os.read(self.file, 65536))
            except OSError:         # EIO: the shell has ended
                return
            seconds = 0

    def type(self, line, to_shell):
        """Types a line, or a key such as ^C."""
        if to_shell:
            self._until(lambda: self.at_prompt, f"the last command had ended, for {line!r} to be typed")
            word = line.partition(" ")[0]
            self.starts_program = "/" in word or shutil.which(word) is not None
        key = re.fullmatch(r"\^([A-Z])", line)
        self.shown = ""
        os.write(self.file, (chr(ord(key[1]) - 64) if key else line + "\n").encode())

    def expect(self, matches, ends):
        """Waits for output that fulfils `matches` and, if the command `ends` with it, for its end. Drops that output."""
        def fulfilled():
            if self.at_prompt and not matches(self.text):
                raise Failure(f"terminal {self.name} shows something else:\n{short(self.text, 4000)}")
            return matches(self.text) and (self.at_prompt or not ends)

        self._until(fulfilled, "it showed what the page says")
        self.shown = PROMPT if self.at_prompt else ""

    def settle(self, ends):
        """Waits until the typed command has ended or, unless it `ends`, until its processes sleep."""
        def settled():
            group = os.tcgetpgrp(self.file)
            if ends or group == self.pid:
                return self.at_prompt
            if self.starts_program and program_of(group) == program_of(self.pid):
                return False        # the shell's child has not executed the program yet
            return not processes(lambda fields: fields[2] == str(group) and fields[0] != "S")
        self._until(settled, "what was typed had begun")

    def close(self):
        """Ends whatever still runs here. Returns the processes that ^C did not end, or that were left in the background."""
        if not self.at_prompt:
            self.type("^C", to_shell=False)
            with contextlib.suppress(Failure):
                self._until(lambda: self.at_prompt, "^C had ended its program")
        left = self._others()
        for pid in [*left, self.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        os.close(self.file)
        os.waitpid(self.pid, 0)
        return left

    def _others(self):
        """All processes that were started here and have not ended, except the shell."""
        return [pid for pid in processes(lambda fields: fields[3] == str(self.pid) and fields[0] not in "ZX")
                if pid != self.pid]

    def _until(self, condition, what):
        end = time.monotonic() + self.patience
        while not condition():
            if time.monotonic() > end:
                raise Failure(f"terminal {self.name}: waited {self.patience:g} s in vain until {what}. It shows:\n"
                              f"{short(self.text, 4000)}")
            self.look(0.02)
