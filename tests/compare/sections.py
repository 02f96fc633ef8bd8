"""The sections of the report, one for each experiment: what is asked, what to look for, and the figures."""
from dataclasses import dataclass

from experiments import ALIKE, ON_ALL_CORES, TALK, THREADS, Costs, Frameworks, Grows, Talk, WhoWaits, summary
from harness.gantt import Lane, Slice, chart
from harness.stages import STAGES
from plots import COLOURS, OTHERS, TALKS, Line, lines_of_stages, plot_bars, plot_lines

KINDS = {"wait": ("#cccccc", "waits"), "sleep": ("#56b4e9", "sleeps: the last second before the answer"),
         "fib": ("#e69f00", "from asking for fib to the answer")}


@dataclass(frozen=True)
class Picture:
    file: str
    svg: str
    caption: str
    folded: bool = False


@dataclass(frozen=True)
class Table:
    caption: str
    head: list
    rows: list
    remarks: str = ""


@dataclass(frozen=True)
class Section:
    heading: str
    blocks: list    # texts, pictures, tables

    def pictures(self):
        return [block for block in self.blocks if isinstance(block, Picture)]


def words(text):
    """The text as one line."""
    return " ".join(text.split())


def nice(value):
    """The value with about three digits."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 1 or value == 0 else f"{value:.2g}"


class Reader:
    """The figures of one experiment, as cells of tables and points of plots."""

    def __init__(self, experiment, figures):
        self.name, self.figures, self.reasons, self.told = experiment.name, figures, {}, ""

    def values(self, who, what, parameters):
        return self.figures.values.get((self.name, who, what, parameters))

    def summary(self, who, what, parameters):
        values = self.values(who, what, parameters)
        return values and summary(values)

    def cell(self, who, what, parameters):
        values = self.values(who, what, parameters)
        if values:
            middle, low, high = map(nice, summary(values))
            return f"{middle} ({low}–{high})" if low != high else middle
        if (self.name, who) in self.figures.failed:
            return "failed"
        why = self.figures.cannot.get((self.name, who, parameters))
        if why:
            self.reasons.setdefault(why, {})[who] = True
        return "–"

    def section(self, heading, blocks):
        return Section(heading, [*blocks, f"Rounds: {self.figures.rounds(self.name)}."])

    def table(self, caption, measured, whose, columns):
        """A row for each of `whose`; `columns` has a heading, a `what` and its parameters for each. `measured` heads it."""
        self.reasons = {}
        rows = [[who, *[self.cell(who, what, parameters) for _, what, parameters in columns]] for who in whose]
        remarks = "; ".join(f"{why}: {', '.join(who)}" for why, who in self.reasons.items())
        told, self.told = self.told, remarks
        return Table(caption, [measured, *[heading for heading, *_ in columns]], rows,
                     remarks and f"A dash: {'as above' if remarks == told else remarks}.")


def titles(stages):
    return [stage.title for stage in stages]


def halves(stages):
    """The stages without options, and those with some: in one plot they could not be told apart."""
    return [stage for stage in stages if not stage.options], [stage for stage in stages if stage.options]


# ---- The experiments ----------------------------------------------------------------------------------------------------

def visit_chart(read, title, whose, parameters, kind_of, sleep):
    """A lane for each client, and a heading for each server. A bar is the median of the rounds."""
    lanes, drawn = [], set()
    for who in whose:
        clients = []
        while True:
            found = read.summary(who, "answered", f"{parameters}, client {len(clients) + 1}")
            if not found:
                break
            end, kind = found[0], kind_of(len(clients))
            waited = end - sleep if kind == "sleep" and end > 1.03 * sleep else 0      # what can't be seen is not drawn
            slices = [Slice(0, waited, "wait", "waits")] if waited else []
            slices.append(Slice(waited, end, kind, kind))
            clients.append(Lane(f"  client {len(clients) + 1}", tuple(slices)))
            drawn.update(piece.kind for piece in slices)
        lanes += [Lane(who), *clients] if clients else []
    return chart(title, lanes, {kind: KINDS[kind] for kind in KINDS if kind in drawn})


def who_waits(plan, figures):
    read = Reader(WhoWaits, figures)
    sleep, fib = f"sleep {plan.sleep}", f"fib {plan.fib}"
    kinds = {sleep: (f"`{sleep}`", ["sleep"]), fib: (f"`{fib}`", ["fib"]), "mixed": ("both in turn", ["sleep", "fib"])}
    blocks = [
        words(f"""Several clients ask at the same moment, each on its own connection: all of them `{sleep}`, all of them
            `{fib}`, or the two in turn. When is each client answered? All sleeps could end together, however many there are.
            A sleep that is answered later has waited for another client. A computation needs a core, and there are only so
            many."""),
        words("""A client's bar is the time from its request to the answer. In the bar of a sleep, the last second is the
            sleep itself, and the rest is waiting. When a computation begins can't be seen from outside, so look at when the
            last one ends. A server that computes one after the other needs the sum of their times. Its answers leave as
            they are ready, or all at the end of a round of its loop. A server that computes several at once is done sooner,
            by as many cores as there are."""),
        words("""The servers use all cores here, or else threads could not be told from a single loop. Servers that can use
            only one core were asked side by side, a core each, and sleeping clients beside them.""")]
    for kind, (asked, in_turn) in kinds.items():
        for stages, which, folded in zip(halves(plan.stages), ("the stages without options", "their variants"), (False, True)):
            if stages:
                caption = f"{plan.drawn} clients ask {asked}: {which}"
                svg = visit_chart(read, caption.replace("`", ""), titles(stages), f"{kind}, {plan.drawn} clients",
                                  lambda client, in_turn=in_turn: in_turn[client % len(in_turn)], float(plan.sleep))
                file = f"who_waits_{kind.replace(' ', '_')}{'_variants' if folded else ''}.svg"
                blocks.append(Picture(file, svg, caption, folded))
    for kind, (asked, _) in kinds.items():
        caption = words(f"""The clients ask {asked}: when the last of them was answered, as a ratio to one client alone at the
            same server, whose seconds in this run stand first. Look for what grows with the clients.""")
        blocks.append(read.table(caption, f"{asked}: the last answer", titles(plan.stages), [
            ("alone, s", "last answered", f"{kind}, 1 client"),
            *[(f"{number} clients", "last answered, as a ratio to one client alone", f"{kind}, {number} clients")
              for number in plan.clients if number > 1]]))
    return read.section("Who waits?", blocks)


def the_talk(plan, figures):
    read = Reader(Talk, figures)
    ratio, nothing = "fib 1, as a ratio to the same alone", 2e-5        # where a value of 0 is drawn

    def points(who):
        found = [(0, (1, 1, 1))] if read.values(who, "fib 1", "alone") else []
        for place, others in enumerate(plan.others, 1):
            spread = read.summary(who, ratio, f"beside {others}")
            if spread:
                found.append((place, tuple(max(value, nothing) for value in spread)))
        return found

    def apart(lines):
        """The lines moved apart a little, so that equal values do not hide each other."""
        return [Line(line.label, line.colour, [(x + 0.05 * (number - len(lines) / 2), spread) for x, spread in line.points],
                     line.number) for number, line in enumerate(lines)]

    everybody = 0, *plan.others
    python, both = [Line(TALK, TALKS, points(TALK))], [Line(TALK + ON_ALL_CORES, TALKS, points(TALK + ON_ALL_CORES)),
                                                       Line(THREADS + ON_ALL_CORES, COLOURS[3], points(THREADS + ON_ALL_CORES))]
    equal = [(place, (1 / (1 + others),) * 3) for place, others in enumerate(everybody)]
    share = Line("an equal share of the core", OTHERS, equal, 2)
    panels = [(name, [*apart(lines_of_stages(stages, points) + python), share])
              for name, stages in zip(("the stages without options", "their variants"), halves(plan.stages)) if stages]
    panels.append(("on all cores", apart(both)))
    settings = ["set logscale y", f"set yrange [{nothing / 1.5}:3]", f"set xrange [-0.4:{len(plan.others) + 0.4}]",
                f"set ytics (1, 0.1, 0.01, 0.001, 0.0001, 'none' {nothing})", "set format y '%g'",
                "set xlabel 'others who compute'",
                "set xtics (" + ", ".join(f"'{others}' {place}" for place, others in enumerate(everybody)) + ")"]
    caption = "`fib 1` per second while others compute, as a ratio to the same alone"
    return read.section("The talk's experiment", [
        words(f"""One client asks `fib 1` again and again: alone, and while {", ".join(map(str, plan.others))} other clients
            ask for `fib {plan.long_fib}` again and again. How many answers a second does it keep? Servers and load share one
            core. Threads, processes and pools share that core: look for about an equal share, which the grey line marks.
            Where one loop does everything, each `fib 1` waits until the loop has computed for the others. Where all places
            are taken (stage 1, a fixed number of workers or threads), it gets no answer. With several workers that have a
            loop each, it is a matter of luck whether a computing client is at the same worker."""),
        words(f"""The talk's own server runs through the same experiment. It is in Python, with a thread for each client
            (`tests/peers/talk.py`): the technique of `stage3_threads`. It computes `fib {plan.talk_fib}`, which takes Python
            about as long as `fib {plan.long_fib}` takes here (the table has both). Only the Python thread that holds the
            interpreter's lock runs, and a computing thread gives it up when another has waited for 5 ms. The effect shows
            with more than one core, so the two are compared on all cores as well: where `stage3_threads` finds a free core,
            a Python thread waits for the lock."""),
        Picture("talk.svg", plot_lines(caption.replace("`", ""), panels, settings), caption),
        read.table(words(f"""`fib 1` per second alone, in this run; beside others who compute, as a ratio to that; and how
            long one of their computations takes alone: `fib {plan.long_fib}`, in Python `fib {plan.talk_fib}`."""),
                   "`fib 1`", [*titles(plan.stages), TALK, THREADS + ON_ALL_CORES, TALK + ON_ALL_CORES],
                   [("alone, per s", "fib 1", "alone"),
                    *[(f"beside {others}", ratio, f"beside {others}") for others in plan.others],
                    ("a computation, s", "a computation", "alone")])])


def how_it_grows(plan, figures):
    read = Reader(Grows, figures)
    numbers = sorted(plan.connections)
    parameters = {number: f"{number} connection{'s' if number > 1 else ''}" for number in numbers}
    settings = ["set logscale xy", f"set xrange [0.7:{numbers[-1] * 1.4}]", "set xlabel 'connections'", "set format x '%.0f'",
                "set format y '%.0f'"]

    def picture(file, what, caption, unit):
        def points(who):
            return [(number, read.summary(who, what, parameters[number])) for number in numbers
                    if read.values(who, what, parameters[number])]

        panels = [(name, lines_of_stages(stages, points))
                  for name, stages in zip(("the stages without options", "their variants"), halves(plan.stages))]
        return Picture(file, plot_lines(caption, panels, [*settings, f"set ylabel '{unit}'"]), caption)

    def table(caption, measured, what):
        return read.table(caption, measured, titles(plan.stages),
                          [(f"{number:,}", what, parameters[number]) for number in numbers])

    return read.section("How it grows", [
        words("""Each connection asks `fib 1` again as soon as it is answered. How many answers a second are there, and how
            long does one take? Server and load share one core. Look for lines that stay level, and for lines that fall: what
            does a server do for each connection, even for a silent one?"""),
        words("""Each client waits for its answer before it asks again. So the latency of a busy server is mostly the number
            of connections divided by the answers a second: ten times the connections, ten times the latency. The distance
            from the median to the 99th percentile shows how evenly turns are shared out."""),
        picture("grows_rate.svg", "fib 1", "Answers a second, in this run", "answers a second"),
        picture("grows_median.svg", "latency, median", "Latency, the median, in this run", "µs"),
        picture("grows_p99.svg", "latency, 99th percentile", "Latency, the 99th percentile, in this run", "µs"),
        table("Answers a second, as a ratio to stage 5 at as many connections.", "answers a second, ratio to stage 5",
              "fib 1, as a ratio to stage 5"),
        table("Answers a second, in this run, by the number of connections.", "answers a second", "fib 1"),
        table("Latency in µs, the median, in this run.", "median, µs", "latency, median"),
        table("Latency in µs, the 99th percentile, in this run.", "99th percentile, µs", "latency, 99th percentile")])


def what_a_client_costs(plan, figures):
    read = Reader(Costs, figures)
    memory, accept, rest = "an idle connection", "from connect(2) to the answer", f"{plan.idle} idle connections"
    slower = "time to accept, as a ratio to stage 5"
    whose = titles(plan.stages)

    def above_nothing(spread):
        """At least 1, so that a logarithm can be taken."""
        return spread and tuple(max(value, 1) for value in spread)

    panels = [("memory of an idle connection, bytes", ["set logscale x", "set format x '%.0s%c'"],
               {who: above_nothing(read.summary(who, "memory", memory)) for who in whose}),
              ("time to accept, ratio to stage 5", ["set format x '%g'"],
               {who: read.summary(who, slower, accept) for who in whose}),
              (f"processor at rest, {plan.idle} idle, %", ["set format x '%g'", "set xrange [0:105]"],
               {who: read.summary(who, "processor time at rest", rest) for who in whose})]
    caption = "What a client costs: memory, the time to accept, and processor time at rest"
    labels = [(stage.title, COLOURS[stage.number]) for stage in plan.stages]
    return read.section("What a client costs", [
        words(f"""What does a client cost that is only connected? **Memory**: {plan.crowd:,} connections (250 where each has
            a process), each answered once and then idle. The figure is what all the server's processes have grown by (Pss,
            proc(5)), for each connection, in user space. Look for a process, a stack, a buffer."""),
        words(f"""**Time to accept**: from connect(2) to the answer to `fib 1` on the new connection, one connection after
            the other, as the median of a window. Server and load share a core. Look for servers that create a process or a
            thread first. **Processor time at rest**: the server's user and system time during {plan.at_rest:g} s without a
            request, without clients and with {plan.idle}. It is none, unless the server asks its sockets all the time."""),
        Picture("costs.svg", plot_bars(caption, labels, panels), caption),
        read.table("Absolute figures, in this run; and the time to accept as a ratio to stage 5.", "a client", whose, [
            ("memory, bytes", "memory", memory), ("time to accept, µs", "time to accept", accept), ("ratio", slower, accept),
            ("% of a core at rest, nobody there", "processor time at rest", "0 idle connections"),
            (f"{plan.idle} idle", "processor time at rest", rest)])])


def frameworks(plan, figures):
    read = Reader(Frameworks, figures)
    mine = [key for key in (*figures.values, *figures.failed) if key[0] == read.name]
    whose = sorted({key[1] for key in mine}, key=place_among_the_stages)
    workloads = list(dict.fromkeys(key[3] for key in mine if key[2:3] == ("requests",)))
    missing = ", ".join(name for name in ALIKE if not any(who.startswith(name) for who in whose))
    absent = f" Not installed here: {missing}." if missing else ""
    ratio, sleep = "requests, as a ratio to stage 5", f"GET /sleep/{plan.sleep}, {plan.drawn} clients"
    sleepers = f"{plan.drawn} clients ask for `/sleep/{plan.sleep}` at the same moment"
    caption = f"Requests a second at {Frameworks.connections} connections, as a ratio to stage 5"
    labels = [(who, COLOURS[int(who[5])] if who.startswith("stage") else OTHERS) for who in whose]
    panels = [(workload, ["set format x '%g'"], {who: read.summary(who, ratio, workload) for who in whose})
              for workload in workloads]
    return read.section("Frameworks beside it", [
        words(f"""The frameworks that you may know, each after the technique that it is built on. They take turns on one core
            under the same load: the ToDo API at {Frameworks.connections} connections, and the sleeping request. They do part
            of what these servers do (tasks in a map or a dict and no database; nginx answers a constant), and could do much
            that these can't. So look at the chart first: does a framework make the same clients wait as its
            technique? The ratios show what language and framework add to the technique."""),
        "gunicorn: `-k sync -w 4`, `-k gthread --threads 4`, `-k gevent`, each with Flask; Tornado, Node and Koa: a process "
        f"each; nginx: a worker.{absent}",
        Picture("frameworks_sleep.svg", visit_chart(read, sleepers.replace("`", ""), whose, sleep, lambda _: "sleep",
                                                    float(plan.sleep)), sleepers),
        Picture("frameworks.svg", plot_bars(caption, labels, panels), caption),
        read.table(f"{caption}; and when the last of the sleepers was answered, in seconds.", "ratio to stage 5", whose, [
            *[(workload, ratio, workload) for workload in workloads], (f"`/sleep/{plan.sleep}`", "last answered", sleep)]),
        read.table("Requests a second, in this run.", "requests a second", whose,
                   [(workload, "requests", workload) for workload in workloads])])


def place_among_the_stages(who):
    """A framework stands after the technique that it is built on."""
    technique = next((alike for name, alike in ALIKE.items() if who.startswith(name)), who)
    return titles(STAGES).index(technique), technique != who, who


SECTIONS = who_waits, the_talk, how_it_grows, what_a_client_costs, frameworks
