"""The one table of what may differ between the servers under test.

Every server answers the same requests with the same bytes. They differ in who waits for whom, and in the few consequences
that are columns here. Whatever is not a column must be the same everywhere.
"""
from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """One server; the defaults describe one that serves several clients at once and shares its memory among them."""
    number: int
    name: str
    one_at_a_time: bool = False         # a client who is connected, even a silent one, makes the next one wait
    fib_holds_others: bool = False      # `fib 1` waits for another client's `fib 45`
    counts_others: bool = True          # `count` includes what other clients asked
    keeps_http_open: bool = True        # an HTTP connection stays open after a response
    has_max_clients: bool = True        # takes --max-clients
    memory_is_shared: bool = True       # --db :memory: is one list for all clients
    rests: bool = True                  # uses no processor time while nobody asks anything
    crowd: int = 0                      # how many idle connections it promises to keep


STAGES = (
    Stage(1, "stage1_sync", one_at_a_time=True, fib_holds_others=True, keeps_http_open=False, has_max_clients=False),
    Stage(2, "stage2_fork", counts_others=False, memory_is_shared=False),
    Stage(3, "stage3_threads"),
    Stage(4, "stage4_nonblocking", fib_holds_others=True, rests=False),
    Stage(5, "stage5_epoll", fib_holds_others=True, crowd=10_000),
    Stage(6, "stage6_coroutines", crowd=10_000),
)

# Somebody else's server is measured against the plain case: several clients at once, one memory.
THEIRS = Stage(0, "theirs")
