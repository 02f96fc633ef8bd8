"""A server in which calls fail when the check says so (faults.c)."""
import contextlib
import errno
import itertools
import mmap
import struct
from pathlib import Path

from harness.checks import NotRun, expect, expect_match
from harness.clients import client_of_each
from harness.lines import add

BUILD = Path(__file__).resolve().parent.parent.parent / "build"
FOR_EVER = (1 << 64) - 1
# Instead of an error: the call moves one byte at most, or it first waits for a signal, a second at most.
ONE_BYTE, LATE = 0, -1


class Faults:
    """What goes wrong in the servers that this check's program starts from now on: the test's side of faults.c."""
    LAYOUT = struct.Struct("<IIiIQQQ256s")      # struct control in faults.c, its first word in two halves

    def __init__(self, program, with_memory=True):
        threads_watched = program.is_built_with(b"__tsan_init")
        if program.is_built_with(b"__asan_init") or (threads_watched and with_memory):
            raise NotRun("a sanitizer brings an allocator of its own")
        shim = BUILD / ("tsan" if threads_watched else "") / "faults.so"
        if not shim.exists():
            raise NotRun(f"there is no {shim.relative_to(BUILD.parent)}: make test builds it")
        self.program = program
        self.numbers = itertools.count(1)       # one for each wish
        path = program.directory / "faults"
        path.write_bytes(bytes(self.LAYOUT.size))
        with open(path, "r+b") as file:
            self.block = mmap.mmap(file.fileno(), self.LAYOUT.size)
        program.environment.update(LD_PRELOAD=str(shim), FAULTS=str(path))

    @contextlib.contextmanager
    def hitting(self, *calls, error, first=1, times=FOR_EVER, irregularly=False, least=0):
        """While this lasts, `times` of these calls fail, from number `first` on: all of them, or irregularly about half.
        Allocations ("malloc") of less than `least` bytes are not counted."""
        names = f" {' '.join(calls)} ".encode()
        self.LAYOUT.pack_into(self.block, 0, 0, 0, error, irregularly, first - 1, times, least, names)
        self.program.notes.append(f"from here on {short_name(error)} for {' '.join(calls)}, from number {first} on")
        self._arm(next(self.numbers))
        try:
            yield
        finally:
            self._arm(0)

    @contextlib.contextmanager
    def counting(self, *calls):
        """While this lasts, these calls are counted, and none fails."""
        with self.hitting(*calls, error=0, times=0):
            yield

    @property
    def counted(self):
        """How many calls with the names given there were."""
        return self.LAYOUT.unpack(self.block)[0]

    def _arm(self, number):
        self.block[4:8] = struct.pack("<I", number)

    @property
    def hits(self):
        """How many of them were hit."""
        counted, _, _, irregularly, skip, times, *_ = self.LAYOUT.unpack(self.block)
        sought = range(skip, min(counted, skip + times))
        return sum(bin(number).count("1") % 2 for number in sought) if irregularly else len(sought)


def short_name(error):
    return {ONE_BYTE: "one byte", LATE: "a wait for a signal"}.get(error) or errno.errorcode[error]


def start(program, *options):
    """Starts the program with nothing armed. Returns the server, which has opened all that it keeps open, and its Faults."""
    faults = Faults(program)
    server = program.start(*options)
    for client in client_of_each(server, program.stage.workers or 1):
        expect_match(client.ask(f"delete {add(client, 'something')}"), "deleted: .+")
        expect(client.ask("list"), "tasks: 0")
        client.close()
    return server, faults
