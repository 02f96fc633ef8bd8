"""What the kernel shows of processes and connections: /proc, sock_diag(7), signals."""
import contextlib
import itertools
import os
import re
import select
import shutil
import signal
import socket
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from harness.checks import wait_for


def place_of(tool):
    """Where this program is, or None. An ordinary user's PATH may lack the directories where Debian has servers."""
    return shutil.which(tool, path=os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin")


def readable(file, seconds=0.0):
    """Whether there is something to read (or the end), or will be within `seconds`."""
    poll = select.poll()
    poll.register(file, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def writable(file, seconds):
    """Whether the file takes something, or will within `seconds`."""
    poll = select.poll()
    poll.register(file, select.POLLOUT)
    return bool(poll.poll(seconds * 1000))


def broken(file):
    """Whether the connection is over in both directions, perhaps by a reset."""
    poll = select.poll()
    poll.register(file, 0)
    return bool(poll.poll(0))


@dataclass(frozen=True)
class Endpoint:
    """One end of a connection, as the kernel sees it."""
    state: int          # as /proc/net/tcp numbers them: 1 is established
    unread: int         # bytes that have arrived and that its process has not read
    inode: int          # which socket it is, as /proc/PID/fd names it; 0 before a process has it, and after

    @property
    def owned(self):
        """Whether a process has it open, or it waits in a listener's queue."""
        return self.inode != 0 or self.state == 1


def endpoint(local, remote):
    """The end of a connection that has these addresses; None when it is gone."""
    return (by_sock_diag if sock_diag_works() else by_proc)(local, remote)


def by_sock_diag(local, remote):
    """Asks for this one connection (sock_diag(7), NETLINK_INET_DIAG). ss(8) cannot: it reads the kernel's table of all
    connections, as /proc/net/tcp does, which takes 10 to 80 ms on a machine with much memory, and the checks look often."""
    family = socket.AF_INET6 if ":" in local[0] else socket.AF_INET
    addresses = b"".join(socket.inet_pton(family, host).ljust(16, b"\0") for host, *_ in (local, remote))
    query = struct.pack("=BBBxI", family, socket.IPPROTO_TCP, 0, 0xffffffff)     # in whichever state
    query += struct.pack("!HH", local[1], remote[1]) + addresses + struct.pack("=Iq", 0, -1)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 4) as netlink:
        netlink.send(struct.pack("=IHHII", 16 + len(query), 20, 1, 0, 0) + query)   # SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST
        answer = netlink.recv(4096)
    if struct.unpack_from("=H", answer, 4)[0] != 20 or answer[17] == 10:    # an error: there is none; 10: the listener
        return None
    return Endpoint(answer[17], *struct.unpack_from("=I8xI", answer, 72))


@lru_cache(maxsize=None)
def sock_diag_works():
    """Whether it is there: not in each container."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        with contextlib.suppress(OSError):
            return by_sock_diag(client.getsockname(), listener.getsockname()) is not None
    return False


def by_proc(local, remote):
    row = re.compile(rf":{local[1]:04X} \w+:{remote[1]:04X} (\w\w) \w+:(\w+) \S+ +\w+ +\d+ +\d+ (\d+)")
    for table in "/proc/net/tcp", "/proc/net/tcp6":
        found = row.search(Path(table).read_text())
        if found:
            return Endpoint(int(found[1], 16), int(found[2], 16), int(found[3]))
    return None


def has_open(pid, inode):
    """Whether the process has this socket open."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                if os.readlink(entry.path) == f"socket:[{inode}]":
                    return True
    return False


def stat_fields(pid):
    """The fields of /proc/PID/stat from the third (the state) on, or None when the process is gone."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return None


def processes(condition):
    """The ids of the processes whose fields of /proc/PID/stat, from the state on, fulfil the condition."""
    found = []
    for entry in os.listdir("/proc"):
        fields = stat_fields(entry) if entry.isdigit() else None
        if fields and condition(fields):
            found.append(int(entry))
    return found


def children(pid):
    """The process ids of a process's children, zombies included."""
    return processes(lambda fields: fields[1] == str(pid))


def alive_in_group(pid):
    """The processes of this process group that have not ended."""
    return processes(lambda fields: fields[2] == str(pid) and fields[0] not in "ZX")


def processor_ticks(pid):
    """The processor time that a process has used, in clock ticks (a hundredth of a second, mostly)."""
    fields = stat_fields(pid)
    return int(fields[11]) + int(fields[12])


def watched_by(pid, inode):
    """Which of the process's epoll instances watches this socket; proc(5), under /proc/pid/fdinfo."""
    wanted = re.compile(rf"^tfd:.* ino:{inode:x} ", re.MULTILINE)
    for info in Path(f"/proc/{pid}/fdinfo").iterdir():
        with contextlib.suppress(OSError):      # closed meanwhile
            if wanted.search(info.read_text()):
                return int(info.name)
    return None


def waiting_in_poll(pid):
    """How many threads of the process wait in poll(2) or epoll_wait(2); proc(5), under /proc/pid/wchan."""
    places = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/wchan")]
    return sum("poll" in place or place == "0" for place in places)     # 0: we may not know


def what_threads_do(pid):
    """A line for each thread of the process, for a report: its state, where it waits, and its signals; proc(5)."""
    lines = []
    for task in sorted(Path(f"/proc/{pid}/task").glob("*")):
        with contextlib.suppress(OSError):      # it has ended
            fields = dict(re.findall(r"(\w+):\s*(.*)", (task / "status").read_text()))
            lines.append(f"thread {task.name}: {fields['State']}, in {(task / 'wchan').read_text()}, signals pending "
                         f"{fields['SigPnd']} {fields['ShdPnd']}, blocked {fields['SigBlk']}")
    return lines


def stand_still(pids):
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: all(stat_fields(pid)[0] == "T" for pid in pids), f"{pids} stood still")


def go_on(pids):
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def wakeups(pid):
    """How often the threads of a process have gone to sleep. Each time that one of them wakes and sleeps again adds one."""
    status = "".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/status"))
    return sum(map(int, re.findall(r"\nvoluntary_ctxt_switches:\s*(\d+)", status)))


def everybody_sleeps(pid):
    """Whether every thread of the process waits for something."""
    states = [path.read_text().rpartition(")")[2].split()[0] for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    return all(state == "S" for state in states)


# Ports for servers that cannot choose one themselves. They lie below those that the kernel gives to clients, so none of our
# own connections can take one between the moment it is found free and the moment the server asks for it.
_candidates = itertools.count(10_000 + os.getpid() % 20_000)


def free_port():
    for candidate in _candidates:
        port = 10_000 + candidate % 20_000
        with socket.socket() as probe, contextlib.suppress(OSError):
            # A process that another thread starts may hold this socket a little longer. This makes that harmless.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port


def most_memory(pid):
    """The most memory that the process has ever had resident, in bytes (VmHWM, proc(5)); 0 when it is gone."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        return int(found[1]) << 10 if found else 0      # a zombie has none
    return 0
