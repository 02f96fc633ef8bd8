"""Copies of the naive servers, to be played and measured on free ports. Port 9999 is left to the reader."""
import os
import re
import subprocess
import tempfile
import threading
from functools import lru_cache
from pathlib import Path

from harness.checks import Failure, NotRun, expect
from harness.server import Server
from harness.system import free_port

ROOT = Path(__file__).resolve().parent.parent.parent
COPIES = tempfile.TemporaryDirectory(prefix="naive-")
ONE_BY_ONE = threading.Lock()


@lru_cache(maxsize=None)
def compiled(source, *edits):
    """Compiles a copy of a naive server, such as "stage2_fork/naive", as `make` does. The copy takes its port from the
    environment. `edits`: pairs of a text that occurs once in the source, and its replacement."""
    text = (ROOT / f"{source}.cpp").read_text()
    for old, new in (("htons(9999)", 'htons(std::stoi(getenv("PORT")))'), *edits):
        expect(text.count(old), 1, f"how often {source}.cpp says {old!r}")
        text = text.replace(old, new)
    place = Path(tempfile.mkdtemp(dir=COPIES.name))
    copy = place / f"{source}.cpp"
    copy.parent.mkdir()
    copy.write_text(text)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    made = subprocess.run(["make", "--silent", "-f", ROOT / "Makefile", source], cwd=place, env=environment, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    expect((made.returncode, made.stdout), (0, ""), f"what make says of {source}")
    return str(place / source)


FORBIDDEN = r"io_uring: (Operation not permitted|Permission denied|Function not implemented)\n"


def start_copy(program, source, *edits, under=()):
    """Starts a copy on a free port, and waits until it accepts. Raises NotRun where the kernel forbids what it needs."""
    with ONE_BY_ONE:        # so that two checks never compile the same copy
        path = compiled(source, *edits)
    port = free_port()
    program.environment["PORT"] = str(port)
    program.foreign = "naive"       # it prints nothing when it is ready or ends
    try:
        return Server(program, program.stage, [*under, path], port)
    except Failure:
        said = program.servers[-1].log()
        if re.fullmatch(FORBIDDEN, said):
            raise NotRun(said.strip()) from None
        raise
