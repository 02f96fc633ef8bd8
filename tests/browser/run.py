"""The page, in a headless Chromium, against the servers: `make browser`.

The checks look at the page as a user does: at what it shows, and at the order in which bars end, which no slow machine
changes. The last line is `N passed, N failed`; the status is 1 if anything failed, or if nothing ran.
"""
import contextlib
import re
import signal
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent))
from devtools import Browser, installed    # noqa: E402: it needs the path as well
from harness.checks import CHECKS, check_program, expect, expect_in_three_tries, expect_match    # noqa: E402: after sys.path
from harness.server import Program    # noqa: E402: after sys.path
from harness.stages import STAGES, plain    # noqa: E402: after sys.path
from harness.system import go_on, stand_still    # noqa: E402: after sys.path

# If any of it ran, the console would show it.
HOSTILE = ("<img src=x onerror=console.log(1)>", '"><script>console.log(2)</script>', "&lt;b&gt; ${console.log(3)} {{4}}",
           "\u202eevil\u200b 🐧")
SLEEP = 1000    # ms that `sleep 1` takes at least
browser = Browser()


def is_plain(stage):
    return not stage.options


def once(stage):
    """For checks of the page alone, which is the same in every stage."""
    return stage == plain(3)


@contextlib.contextmanager
def page_of(program, *options, **size):
    """Starts a server, and yields it and its page, as soon as the page is complete."""
    # A browser may open a spare connection, and stage 1 waits for that as for any client.
    patience = ["--idle-timeout", "1"] if program.stage.servers == 1 else []
    server = program.start(*patience, *options)
    with browser.page(f"http://localhost:{server.port}/", **size) as page:
        until_complete(page)
        yield server, page


def reload(page):
    page.load("Page.reload")
    until_complete(page)


def until_complete(page):
    """Waits for the answers to the page's first two requests: until then its text changes, and what is clicked on moves."""
    page.until("#technique", ".+")
    page.until("#news", "(?!Asking).*")


def until_tasks(page, *tasks):
    """Waits until the page shows these tasks: whether ticked, title, description."""
    page.wait("""[...document.querySelectorAll(".task")].map((one) => [one.querySelector("input").checked,
        one.querySelector(".title").innerText, one.querySelector(".description").innerText])""", list(map(list, tasks)))


def add(page, title):
    page.click("#title")
    page.type(title)
    page.click("#adding button")
    page.until("#news", "Added: .*")


@contextlib.contextmanager
def answers_later(server):
    """Halts the server meanwhile, so that it answers afterwards."""
    stand_still([server.pid])
    yield
    go_on([server.pid])


def exchanges(page):
    """The page's requests about the list, and their answers, in the order in which they happened."""
    page.js("0")    # earlier events come before this answer
    methods, happened = {}, []
    for event in browser.events:
        what, more = event["method"], event["params"]
        if what == "Network.requestWillBeSent" and "/api/" in more["request"]["url"]:
            methods[more["requestId"]] = more["request"]["method"]
            happened.append(methods[more["requestId"]])
        elif what == "Network.responseReceived" and more["requestId"] in methods:
            happened.append(f"answer to {methods[more['requestId']]}")
    return happened


def choose(page, fibs, sleeps):
    for name, number in ("fibs", fibs), ("sleeps", sleeps):
        page.click(f"#{name}")
        page.type(str(number))


def race(page, fibs, sleeps):
    """Runs so many of each; returns how long they took, each kind in the order of the ends."""
    choose(page, fibs, sleeps)
    page.click("#start")
    page.until("#result", f"{fibs + sleeps} answered in .*")
    lanes = page.js("""[...document.querySelectorAll(".lane")].map((lane) => ({...lane.dataset, says: lane.innerText,
        colour: lane.querySelector(".solid").style.background,
        drawn: [".bar", ".solid"].map((part) => lane.querySelector(part).offsetWidth)}))""")
    width = page.js("document.querySelector('.track').offsetWidth")
    whole = float(page.js("document.querySelector('#chart').dataset.whole"))
    for lane in lanes:
        expect_match(lane["says"], rf"{lane.get('name')}\s+\d+\.\d\d s, by process \d+, thread \d+")
        took, alone = float(lane["took"]), float(lane["alone"])
        for drawn, right in zip(lane["drawn"], (took, min(took, alone))):
            expect(abs(drawn / width - right / whole) < 0.01, True, f"{drawn} of {width} pixels are {right} of {whole} ms")
    expect(len({lane["colour"] for lane in lanes}), len({lane["by"] for lane in lanes}), "how many colours there are")
    ends = [sorted(float(lane["took"]) for lane in lanes if lane["name"] == name) for name in ("fib 45", "sleep 1")]
    expect(list(map(len, ends)), [fibs, sleeps], "how many of each were answered")
    return ends


def steps(ends):
    """How many sleeps end together, step by step. Sleeps one after the other end a whole sleep apart."""
    sizes = [1]
    for before, end in zip(ends, ends[1:]):
        if end - before < SLEEP / 2:
            sizes[-1] += 1
        else:
            sizes.append(1)
    return sizes


# ---- The race -----------------------------------------------------------------------------------------------------------

@check_program("race", only=lambda stage: stage.options in ((), ("--threads", "4"), ("--workers", "4")))
def as_many_sleeps_end_together_as_are_served_at_once(program):
    def steps_of_a_race():
        with page_of(program) as (_, page):
            return steps(race(page, 0, 6)[1])

    at_once = program.stage.at_once(6)
    expect_in_three_tries(steps_of_a_race, [at_once] * (6 // at_once) + ([6 % at_once] if 6 % at_once else []), "the steps")


@check_program("race", only=lambda stage: stage.servers is None and stage.options in ((), ("--pool", "0")))
def sleeps_wait_for_fibs_only_where_one_thread_does_both(program):
    def begun_after_a_fib():
        with page_of(program) as (_, page):
            fibs, sleeps = race(page, 2, 4)
        expect(sleeps[-1] - sleeps[0] < 2 * SLEEP, True, f"the sleeps lie side by side: {sleeps}")
        return [end > fibs[0] + SLEEP / 2 for end in sleeps]

    expect_in_three_tries(begun_after_a_fib, [program.stage.fib_holds_others] * 4, "which of the sleeps began after a fib")


@check_program("race", only=once)
def there_is_always_a_way_to_stop(program):
    with page_of(program) as (server, page):
        page.click("#fibs")
        page.type("0")
        stand_still([server.pid])
        page.click("#start")
        page.until("#start", "Stop")
        page.click("#fibs")
        page.type("7")      # which would not be allowed to start
        page.click("#start")
        page.until("#result", r"No race: stopped\.")
        page.until("#start", "Start")
        go_on([server.pid])


@check_program("race", only=once)
def a_race_needs_no_more_connections_than_a_browser_has(program):
    with page_of(program) as (_, page):
        for fibs, sleeps, valid in (0, 6, True), (1, 6, False), (0, 7, False), (6, 0, True), (0, 0, False), (3, 3, True):
            choose(page, fibs, sleeps)
            expect(page.js("document.querySelector('#mix').checkValidity()"), valid, f"{fibs} fibs and {sleeps} sleeps")


@check_program("race", only=once)
def a_race_keeps_the_numbers_that_it_was_started_with(program):
    with page_of(program) as (server, page):
        choose(page, 0, 2)
        with answers_later(server):
            page.click("#start")
            page.until("#result", r"First sleep 1 alone.*")
            choose(page, 6, 6)
        page.until("#result", r"\d+ answered in .*")
        expect(len(page.texts(".lane")), 2, "how many requests are shown")


# ---- The list -----------------------------------------------------------------------------------------------------------

@check_program("list", only=is_plain)
def tasks_are_added_edited_ticked_deleted_and_survive_a_reload(program):
    with page_of(program) as (server, page):
        for title in "buy milk", "pay the rent", "call mum":
            add(page, title)
        page.click(".task:nth-child(1) .edit")
        page.type("buy oat milk")
        page.click("[name=description]")
        page.type("two litres\nof it")
        page.click(".editor button")
        until_tasks(page, (False, "buy oat milk", "two litres\nof it"), (False, "pay the rent", ""), (False, "call mum", ""))
        page.click(".task:nth-child(2) input")
        page.until("#news", "Done: pay the rent")
        page.click(".task:nth-child(3) .delete")
        remaining = (False, "buy oat milk", "two litres\nof it"), (True, "pay the rent", "")
        until_tasks(page, *remaining)
        reload(page)
        until_tasks(page, *remaining)
        page.click(".task:nth-child(2) input")
        page.until("#news", "Not done yet: pay the rent")
        # Other clients see it as well.
        listed = [(task["done"], task["title"], task["description"]) for task in server.http("GET", "/api/tasks").json]
        expect(listed, [remaining[0], (False, *remaining[1][1:])])


@check_program("list", only=is_plain)
def what_others_wrote_is_shown_as_text_and_nothing_of_it_runs(program):
    with page_of(program) as (server, page):
        for title in HOSTILE:
            expect(server.http("POST", "/api/task", {"title": title, "description": title}).status, 201)
        reload(page)
        until_tasks(page, *[(False, title, title) for title in HOSTILE])
        for row, title in enumerate(HOSTILE, 1):
            page.click(f".task:nth-child({row}) .edit")
            page.click(".editor button")
            page.until("#news", re.escape(f"Changed: {title}"))
        add(page, HOSTILE[0])
        until_tasks(page, *[(False, title, title) for title in HOSTILE], (False, HOSTILE[0], ""))
        expect(page.js("document.querySelectorAll('img, #tasks script').length"), 0, "how many elements the titles made")


@check_program("list", only=once)
def a_task_added_before_the_list_has_come_is_listed_once(program):
    with page_of(program) as (_, page):
        add(page, "buy milk")
        page.call("Fetch.enable", patterns=[{"urlPattern": "*/api/tasks"}])     # these requests are held back
        page.load("Page.reload")
        page.until("#technique", ".+")
        page.click("#title")
        page.type("pay the rent")
        page.press("Enter")
        page.call("Fetch.disable")
        until_tasks(page, (False, "buy milk", ""), (False, "pay the rent", ""))
        expect(exchanges(page)[-4:], ["GET", "answer to GET", "POST", "answer to POST"])


@check_program("list", only=once)
def a_row_that_awaits_an_answer_ignores_further_input(program):
    with page_of(program) as (server, page):
        add(page, "buy milk")
        with answers_later(server):
            for selector in "input", "input", ".edit", ".delete":
                page.click(f".task {selector}")
        page.until("#news", "Done: buy milk")
        page.click(".edit")
        page.type("buy oat milk")
        with answers_later(server):
            for key in "Enter", "Enter", "Escape":
                page.press(key)
            page.click(".editor [type=button]")
        until_tasks(page, (True, "buy oat milk", ""))
        with answers_later(server):
            page.click(".delete")
            page.click(".delete")
        page.until("#news", "Deleted: buy oat milk")
        expect(exchanges(page), [what for method in ("GET", "POST", "PUT", "PUT", "DELETE")
                                 for what in (method, f"answer to {method}")])


@check_program("list", only=once)
def an_answer_does_not_take_the_focus_away(program):
    with page_of(program) as (server, page):
        for title in "buy milk", "pay the rent":
            add(page, title)
        page.click(".edit")
        page.type("buy oat milk")
        for button, done in (".editor button", "Changed: buy oat milk"), (".delete", "Deleted: buy oat milk"):
            with answers_later(server):
                page.click(button)
                page.click("#title")
                page.type("call mum")
            page.until("#news", done)
            page.press(" ")
            expect(page.js("document.querySelector('#title').value"), "call mum ")
        until_tasks(page, (False, "pay the rent", ""))


@check_program("list", only=once)
def everything_can_be_done_with_the_keyboard(program):
    def expect_focus(selector):
        page.wait(f"document.activeElement.matches({selector!r})")

    def press(*keys):
        for key in keys:
            page.press(key.replace("Back", "Tab"), shift=key == "Back")

    with page_of(program) as (_, page):
        press("Tab")
        expect_focus("#fibs")
        page.type("1")
        press("Tab")
        page.type("1")
        press("Tab", "Enter")
        page.until("#result", "2 answered.*")
        expect_focus("#start")
        press("Tab")
        for title in "buy milk", "pay the rent":
            expect_focus("#title")
            page.type(title)
            press("Enter")
            page.until("#news", "Added: .*")
        press("Tab", "Tab", " ")
        page.until("#news", "Done: buy milk")
        expect_focus("input:checked")
        press("Tab", "Enter")
        expect_focus("[name=title]")
        page.type("buy cheese")
        press("Escape")
        expect_focus(".edit")
        press("Enter")
        expect_focus("[name=title]")
        page.type("buy oat milk")
        press("Enter")
        expect_focus(".edit")
        until_tasks(page, (True, "buy oat milk", ""), (False, "pay the rent", ""))
        press("Tab", "Enter")
        until_tasks(page, (False, "pay the rent", ""))
        expect_focus(".delete[aria-label='Delete pay the rent']")
        press("Enter")
        until_tasks(page)
        expect_focus("#title")


# ---- The page itself ----------------------------------------------------------------------------------------------------

@check_program("page")
def it_says_whom_it_talks_to_and_what_to_look_for(program):
    with page_of(program) as (server, page):
        expect(page.js("document.title"), program.stage.name)
        technique = re.escape(server.http("GET", "/server").json["technique"])
        expect_match(page.texts("header p")[0], rf"You are talking to {program.stage.name}, process \d+: {technique}\.")
        # It has values of options in it: a missing one would show.
        expect_match(page.texts("#lesson")[0], "(?!.*(undefined|NaN|Requests that end)).{80,}")


@check_program("page", only=lambda stage: is_plain(stage) and stage.servers == 1)
def it_comes_up_although_a_silent_client_holds_the_server(program):
    with page_of(program) as (server, page):
        silent = server.connect()
        silent.wait_until_accepted()
        reload(page)
        add(page, "buy milk")
        expect(silent.rest(), b"")


@check_program("page", only=once)
def what_the_server_refuses_is_shown_with_its_reason(program):
    with page_of(program, "--max-fib", "30") as (_, page):
        page.click("#start")
        page.until("#result", r"No race: a whole number from 1 to 30 is wanted\.")
        page.until("#start", "Start")
        page.click("#title")
        page.type("x" * 201)
        page.click("#adding button")
        page.until("#news", "Not done: .*200 characters.*")
        expect(page.js("document.querySelector('#title').value"), "x" * 201)
        until_tasks(page)


@check_program("page", only=once)
def a_server_that_is_gone_is_reported(program):
    with page_of(program) as (server, page):
        add(page, "buy milk")
        page.click("#start")
        page.wait("document.querySelectorAll('.lane').length", 6)
        server.kill()
        page.until("#result", r"\d answered, [1-6] not, .*")
        expect_match(page.texts(".lane")[-1], r"sleep 1\s+no answer \(.+\)")
        page.click("#start")
        page.until("#result", "No race: no answer.*")
        for selector in ".task input", ".delete":
            page.click(selector)
            page.until("#news", "Not done: no answer.*")
        until_tasks(page, (False, "buy milk", ""))


@check_program("page", only=once)
def nothing_sticks_out_on_a_phone(program):
    with page_of(program, width=360, height=640) as (server, page):
        for title in "x" * 200, "many words " * 18:
            expect(server.http("POST", "/api/task", {"title": title, "description": title}).status, 201)
        reload(page)
        page.click(".task:nth-child(2) .edit")
        race(page, 0, 6)
        expect(page.js("document.documentElement.scrollWidth") <= page.js("document.documentElement.clientWidth"), True)


def main():
    if not installed():
        print("Chromium is missing: make deps-all installs it", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    passed = failed = 0
    with browser:
        for one, stage in [(one, stage) for one in CHECKS for stage in STAGES if one.only(stage)]:
            report = one.run(Program(stage, lambda stage: str(ROOT / stage.name / stage.name)))
            print(f"{'FAILED ' if report else ''}{stage.title}: {one.name}", flush=True)
            if report:
                print(*report.splitlines(), sep="\n    ")
            passed, failed = passed + (not report), failed + bool(report)
    print(f"{passed} passed, {failed} failed")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted")
