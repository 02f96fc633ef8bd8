"""Processor time, as the kernel counts it: what a server has used, and what other programs use meanwhile."""
import contextlib
import gzip
import os
import platform
import resource
import time
from pathlib import Path

from harness.system import stat_fields

CORES = sorted(os.sched_getaffinity(0))
CORE = CORES[-1]        # candidates and load share this one
TICK = 1 / os.sysconf("SC_CLK_TCK")     # seconds


def processor_time(candidate):
    """Seconds of user and system time of all the candidate's processes, and of their reaped children. The clock of a process
    counts nanoseconds (clock_getcpuclockid(3)). Reaped children are counted in ticks."""
    seconds = 0.0
    for pid in candidate.pids:
        fields = stat_fields(pid)
        with contextlib.suppress(OSError):      # the process may have ended
            reaped = (int(fields[13]) + int(fields[14])) * TICK if fields else 0
            seconds += time.clock_gettime(~pid << 3 | 2) + reaped
    return seconds


def interrupts_are_apart():
    """Whether this kernel leaves the time of interrupts out of the clocks of the processes that they interrupt. If not, that
    time is in those clocks as well as in its own columns of /proc/stat."""
    config = Path("/proc/config.gz")
    with contextlib.suppress(OSError):
        text = gzip.decompress(config.read_bytes()).decode() if config.exists() else Path(
            f"/boot/config-{platform.release()}").read_text()
        return "CONFIG_IRQ_TIME_ACCOUNTING=y" in text
    return False


class Watch:
    """Notes how much of the processors other programs use during a measurement. If that is MUCH, it measures again."""
    MUCH = 0.1

    def __init__(self, repeats):
        self.repeats = repeats
        self.shares, self.repeated, self.disturbed = [], 0, 0
        # In a row of /proc/stat: user, nice, system, steal; also irq and softirq if our own clocks include them.
        self.columns = (1, 2, 3, 8) if interrupts_are_apart() else (1, 2, 3, 8, 6, 7)

    def busy(self, cores):
        """How many seconds these processors have worked, or the hypervisor has given them to others (steal)."""
        rows = [line.split() for line in Path("/proc/stat").read_text().splitlines() if line.startswith("cpu")]
        return sum(int(row[at]) for row in rows if row[0] in [f"cpu{core}" for core in cores] for at in self.columns) * TICK

    def others(self, candidates, cores):
        """Seconds that other programs have used each of these processors, which we share with them, and each of the rest.
        The rest matters as well: two processors may be one core of the machine, and share its caches."""
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        ours = time.process_time() + children.ru_utime + children.ru_stime + sum(map(processor_time, candidates))
        beside = set(CORES) - set(cores)
        return (self.busy(cores) - ours) / len(cores), self.busy(beside) / max(len(beside), 1)

    def quietly(self, measure, candidates, cores=(CORE,)):
        """The result of measure(), which keeps these candidates busy on these processors. Repeats it if it was disturbed."""
        for tries_left in range(self.repeats, -1, -1):
            began, before = time.monotonic(), self.others(candidates, cores)
            result = measure()
            after = self.others(candidates, cores)
            share = max(now - then for now, then in zip(after, before)) / (time.monotonic() - began)
            self.shares.append(share)
            if share < self.MUCH:
                return result
            self.repeated += tries_left > 0
        self.disturbed += 1
        return result
