"""The one table of what may differ between the servers under test.

Every server answers the same requests with the same bytes. They differ in who waits for whom, and in the few consequences
that are columns here. Whatever is not a column must be the same everywhere. A row is a technique: a stage's program, and
the options that choose one of its variants.
"""
from dataclasses import dataclass, replace
from typing import Optional


@dataclass(frozen=True)
class Stage:
    """One server; the defaults describe one that serves several clients at once and shares its memory among them."""
    number: int
    name: str                           # its program
    options: tuple = ()                 # those that choose the technique
    servers: Optional[int] = None       # how many clients it serves at once, silent ones included; None: any number
    surely: Optional[int] = None        # how many of them however the kernel distributes them, if that is fewer
    listens_alone: bool = False         # each of several loops has a listening socket of its own, and their number is fixed
    child_per_client: bool = False      # each client has a process, and so memory, of its own
    fib_holds_others: Optional[bool] = False    # `fib 1` waits for another client's `fib 45`; None: only in the same loop
    counts_others: bool = True          # `count` includes what other clients asked
    keeps_http_open: bool = True        # an HTTP connection stays open after a response
    has_max_clients: bool = True        # takes --max-clients
    rests: bool = True                  # uses no processor time while nobody asks anything
    most: Optional[int] = None          # how many clients it can have at all, if select(2) limits them
    crowd: int = 0                      # how many idle connections it promises to keep,
    bytes_each: Optional[int] = None    # and how much memory each of them takes at most

    @property
    def title(self):
        return " ".join((self.name, *self.options))

    def option(self, name, default=None):
        """The value of one of the options that choose the technique."""
        return self.options[self.options.index(name) + 1] if name in self.options else default

    @property
    def workers(self):
        """How many processes a master keeps; 0: there is no master."""
        return int(self.option("--workers", 0))

    @property
    def threads(self):
        """How many threads a pool has, in each worker; 0: there is no pool."""
        return int(self.option("--threads", 0)) if self.number == 3 else 0

    @property
    def loops_in_threads(self):
        """How many loops one process has, each in a thread of its own; 0: no such threads."""
        return int(self.option("--threads", 0)) if self.number == 5 else 0

    @property
    def has_threads(self):
        """Whether the threads of a process share something."""
        return self.number == 3 or self.loops_in_threads or (self.number == 6 and self.option("--pool") != "0" and not self.option("--flavor"))

    @property
    def occupied_by(self):
        """How many clients it takes until the next one surely waits. The queue of one worker fills no other worker."""
        return self.servers * 2 if self.surely else self.servers

    def at_once(self, wanted):
        """`wanted` clients, or as many as are surely served at once."""
        return min(wanted, self.surely or self.servers or wanted)

    def serves(self, number):
        """Whether this many clients are surely served at once."""
        return self.at_once(number) == number

    def with_options(self, *options):
        """The same program, started with other options."""
        return replace(self, options=options)

    def but(self, name, value):
        """The same, with another value for one of its options."""
        place = self.options.index(name) + 1
        return self.with_options(*self.options[:place], str(value), *self.options[place + 1:])


def fixed(number, name, *options, servers, **differences):
    """A server for a fixed number of clients at once. Because the others wait, it keeps no idle HTTP connection open."""
    return Stage(number, name, options, servers=servers, keeps_http_open=False, has_max_clients=False, **differences)


STAGES = (
    fixed(1, "stage1_sync", servers=1, fib_holds_others=True),
    Stage(2, "stage2_fork", child_per_client=True, counts_others=False, crowd=250, bytes_each=40 * 1024),
    fixed(2, "stage2_fork", "--workers", "4", servers=4, counts_others=False),
    Stage(3, "stage3_threads", crowd=1_000, bytes_each=16 * 1024),
    fixed(3, "stage3_threads", "--threads", "4", servers=4),
    # Each worker accepts as many clients as it serves, and as many again that wait there, even if another worker is free.
    fixed(3, "stage3_threads", "--workers", "2", "--threads", "2", servers=4, surely=2, counts_others=False),
    Stage(4, "stage4_nonblocking", fib_holds_others=True, rests=False),
    Stage(4, "stage4_nonblocking", ("--wait", "poll"), fib_holds_others=True, crowd=2_000, bytes_each=500),
    Stage(4, "stage4_nonblocking", ("--wait", "select"), fib_holds_others=True, most=1024),
    Stage(5, "stage5_epoll", fib_holds_others=True, crowd=10_000, bytes_each=500),
    Stage(5, "stage5_epoll", ("--trigger", "edge"), fib_holds_others=True, crowd=10_000, bytes_each=500),
    Stage(5, "stage5_epoll", ("--threads", "2"), fib_holds_others=None, listens_alone=True),
    Stage(5, "stage5_epoll", ("--workers", "2"), fib_holds_others=None, counts_others=False, listens_alone=True),
    Stage(6, "stage6_coroutines", crowd=10_000, bytes_each=1_000),
    Stage(6, "stage6_coroutines", ("--pool", "0"), fib_holds_others=True, crowd=10_000, bytes_each=1_000),
    Stage(6, "stage6_coroutines", ("--workers", "2"), counts_others=False, listens_alone=True),
    Stage(6, "stage6_coroutines", ("--flavor", "stackful"), fib_holds_others=True, crowd=5_000,
          bytes_each=8 * 1024),
)

# A foreign server is held to the plain case: several clients at once, one memory.
THEIRS = Stage(0, "theirs")


def plain(number):
    """The stage without options."""
    return next(stage for stage in STAGES if stage.number == number and not stage.options)


def serves_several(stage):
    return stage.serves(2)


def has_workers(stage):
    return stage.workers > 0


def shares_its_listener(stage):
    return has_workers(stage) and not stage.listens_alone


def once(stage):
    """For checks of what surrounds the techniques: one row of the table is enough."""
    return stage.name == "stage5_epoll" and not stage.options
