"""The line protocol: every command of its table, and how a stream of bytes is cut into lines."""

from harness.checks import check, expect, expect_each, expect_lasts, expect_match, together
from harness.clients import reach_all_workers
from harness.lines import add, expect_errors, expect_reply, show

FIRST_FIBS = {1: 1, 2: 1, 3: 2, 6: 8, 10: 55, 20: 6765, 30: 832040}


def expect_answer(server, sent, came):
    """On a new connection, sends this and half-closes; expects this answer and the end of the connection."""
    with server.connect() as client:
        client.send(sent)
        client.half_close()
        expect(client.rest(), came, f"the answer to {sent[:60]!r}")


def expect_help(server, commands):
    client = server.connect()
    number = int(expect_match(client.ask("help"), r"commands: (\d+)").group(1))
    words = " ".join(client.lines(number)).split()
    expect([command for command in commands if command not in words], [], "commands that help does not mention")
    expect_reply(client, "6", "fib: 8")


# ---- fib ----------------------------------------------------------------------------------------------------------------

@check("fib", row=True)
def counts_from_one(server):
    client = server.connect()
    expect_each(FIRST_FIBS.items(), lambda n, fib: expect_reply(client, f"fib {n}", f"fib: {fib}"))


@check("fib")
def a_number_alone_means_the_same(server):
    client = server.connect()
    expect_each(FIRST_FIBS.items(), lambda n, fib: expect_reply(client, f"{n}", f"fib: {fib}"))


@check("fib")
def refuses_numbers_out_of_range(server):
    expect_errors(server.connect(), ["0", "51", "fib 0", "fib 51", "fib 4294967297", "18446744073709551617", "9" * 100])


@check("fib")
def refuses_what_is_not_plain_digits(server):
    expect_errors(server.connect(), ["fib", "fib x", "-1", "fib -1", "+3", "fib +3", "3.0", "1e1", "0x10", "3 4", "fib 3 4",
                                     "fib ３", "3,"])


@check("fib", "--max-fib", "30")
def the_largest_number_can_be_chosen(server):
    client = server.connect()
    expect_reply(client, "30", "fib: 832040")
    expect_errors(client, ["31", "fib 31"])


# ---- sleep and hello ----------------------------------------------------------------------------------------------------


@check("sleep")
def takes_the_time_it_says(server):
    client = server.connect()
    expect_lasts(0.3, lambda: expect_reply(client, "sleep 0.3", "slept: 0.3"))
    expect_lasts(1, lambda: expect_reply(client, "sleep 1", "slept: 1"))
    expect_reply(client, "sleep 0", "slept: 0")


@check("sleep")
def two_sleeps_of_one_client_follow_each_other(server):
    expect_lasts(0.6, lambda: expect_answer(server, b"sleep 0.4\nsleep 0.2\n", b"slept: 0.4\nslept: 0.2\n"))


@check("sleep")
def requests_behind_a_sleep_are_answered_after_it(server):
    client = server.connect()
    client.send("sleep 0.3\nfib 6\n")
    expect(client.lines(2), ["slept: 0.3", "fib: 8"])


@check("sleep")
def refuses_what_is_not_plain_seconds_up_to_sixty(server):
    expect_errors(server.connect(), ["sleep", "sleep x", "sleep -1", "sleep +1", "sleep 1.2.3", "sleep .", "sleep 1e1",
                                     "sleep nan", "sleep inf", "sleep 1 2", "sleep 0x1", "sleep 61", "sleep 60.1",
                                     "sleep " + "9" * 400])


@check("hello")
def greets_after_a_second(server):
    client = server.connect()
    expect_lasts(1, lambda: expect_reply(client, "hello alice", "hello: alice"))


@check("hello")
def greets_in_any_script(server):
    expect(server.ask("hello Zoë 李"), "hello: Zoë 李")


@check("hello")
def wants_a_name(server):
    expect_errors(server.connect(), ["hello"])


# ---- tasks --------------------------------------------------------------------------------------------------------------


@check("tasks", row=True)
def lists_tasks_in_the_order_they_came(server):
    client = server.connect()
    expect_reply(client, "list", "tasks: 0")
    milk, rent, café = (add(client, title) for title in ("buy milk", "pay  rent", "open a café ☕"))
    expect_reply(client, "list", "tasks: 3")
    expect(client.lines(3), [f"[ ] {milk} buy milk", f"[ ] {rent} pay  rent", f"[ ] {café} open a café ☕"])


@check("tasks")
def shows_a_task_with_all_it_has(server):
    client = server.connect()
    task = add(client, "buy milk")
    expect_reply(client, f"describe {task} two litres", f"described: {task} two litres")
    whole, *others = show(client, task)
    expect_match(whole, rf"id: {task}-[0-9a-f]{{4}}-[0-9a-f]{{4}}-[0-9a-f]{{4}}-[0-9a-f]{{12}}")
    expect(others, ["title: buy milk", "description: two litres", "done: false"])


@check("tasks")
def edits_a_title_and_keeps_the_rest(server):
    client = server.connect()
    task = add(client, "buy milk")
    expect_reply(client, f"edit {task} buy oat milk", f"edited: {task} buy oat milk")
    expect_reply(client, "list", "tasks: 1")
    expect(client.line(), f"[ ] {task} buy oat milk")


@check("tasks")
def describes_and_says_the_new_description(server):
    client = server.connect()
    task = add(client, "buy milk")
    expect_reply(client, f"describe {task} two litres", f"described: {task} two litres")
    expect_reply(client, f"describe {task} three litres", f"described: {task} three litres")
    expect(show(client, task)[2], "description: three litres")


@check("tasks")
def a_task_is_done_and_undone(server):
    client = server.connect()
    task = add(client, "buy milk")
    expect_reply(client, f"done {task}", f"done: {task} buy milk")
    expect(show(client, task)[3], "done: true")
    expect_reply(client, "list", "tasks: 1")
    expect(client.line(), f"[x] {task} buy milk")
    expect_reply(client, f"undo {task}", f"undone: {task} buy milk")
    expect(show(client, task)[3], "done: false")


@check("tasks")
def deletes_a_task_for_good(server):
    client = server.connect()
    milk, rent = add(client, "buy milk"), add(client, "pay rent")
    expect_reply(client, f"delete {milk}", f"deleted: {milk} buy milk")
    expect_reply(client, "list", "tasks: 1")
    expect(client.line(), f"[ ] {rent} pay rent")
    expect_errors(client, [f"{command} {milk}" for command in ("show", "done", "undo", "delete", "edit", "describe")])


@check("tasks")
def any_beginning_of_an_id_names_its_task(server):
    client = server.connect()
    task = add(client, "buy milk")
    whole = show(client, task)[0][len("id: "):]
    for size in 1, 4, 8, 9, 20, 36:
        expect_reply(client, f"done {whole[:size]}", f"done: {task} buy milk")
    expect_errors(client, [f"done {whole}0", f"done x{whole}", "done"])


@check("tasks")
def a_beginning_shared_by_several_ids_is_an_error(server):
    client = server.connect()
    ids = [add(client, f"task {number}") for number in range(17)]
    shared = next(digit for digit in "0123456789abcdef" if sum(task.startswith(digit) for task in ids) > 1)
    expect_errors(client, [f"{command} {shared}" for command in ("show", "done", "delete")])
    expect_reply(client, "list", "tasks: 17")
    expect(client.lines(17), [f"[ ] {task} task {number}" for number, task in enumerate(ids)])


@check("tasks")
def says_what_is_missing(server):
    client = server.connect()
    task = add(client, "buy milk")
    expect_errors(client, ["add", "show", "edit", f"edit {task}", "describe", "done", "undo", "delete", "show zzzz",
                           "delete 00000000-0000-0000-0000-000000000000"])
    expect_reply(client, "list", "tasks: 1")
    expect(client.line(), f"[ ] {task} buy milk")


@check("tasks")
def a_title_has_no_control_characters(server):
    client = server.connect()
    expect_reply(client, "6", "fib: 8")
    expect_errors(client, ["add buy\x01milk", "add buy\x7fmilk", "add \x1b[31mred"])
    expect_reply(client, "list", "tasks: 0")


@check("tasks")
def a_title_may_end_as_a_request_line_does(server):
    client = server.connect()
    expect_reply(client, "6", "fib: 8")
    task = add(client, "learn HTTP/1.1")
    expect_reply(client, "list", "tasks: 1")
    expect(client.line(), f"[ ] {task} learn HTTP/1.1")


@check("tasks")
def one_client_finds_what_another_added(server):
    with server.connect() as client:
        milk = add(client, "buy milk")
    expect(server.list(), [f"[ ] {milk} buy milk"])


@check("tasks")
def help_mentions_what_can_be_done_with_tasks(server):
    expect_help(server, ["hello", "add", "list", "show", "edit", "describe", "done", "undo", "delete"])


@check("tasks")
def nothing_is_lost_when_eight_clients_add_at_once(server):
    def add_five():
        with server.connect() as client:
            return [add(client, f"task {number}") for number in range(5)]

    ids = sum(together(*[add_five] * 8), [])
    expect(sorted(line[4:12] for line in server.list()), sorted(ids))


# ---- count --------------------------------------------------------------------------------------------------------------

@check("count")
def counts_what_was_answered_but_not_itself(server):
    client = server.connect()
    expect(client.ask("count"), "count: 0")
    expect(client.ask("fib 6"), "fib: 8")
    expect(client.ask("count"), "count: 1")
    expect(client.ask("count"), "count: 1")
    expect(client.ask("sleep 0"), "slept: 0")
    expect(client.ask("count"), "count: 2")


@check("count")
def errors_count(server):
    client = server.connect()
    expect_errors(client, ["nonsense", "fib 0"])    # this asks a fib, too
    expect(client.ask("count"), "count: 3")


@check("count")
def empty_lines_do_not_count(server):
    client = server.connect()
    client.send("\n\r\n6\n  \n\ncount\n")
    expect(client.lines(2), ["fib: 8", "count: 1"])


@check("count")
def a_hundred_at_once_are_a_hundred(server):
    client = server.connect()
    client.send("fib 1\n" * 100 + "count\n")
    expect(client.lines(101), ["fib: 1"] * 100 + ["count: 100"])


@check("count")
def includes_others_where_memory_is_shared(server):
    for _ in range(3):
        expect(server.ask("fib 6"), "fib: 8")
    count = server.ask("count")
    if server.stage.workers:
        expect_match(count, "count: [0-3]", "what one of the workers has answered")
    else:
        expect(count, "count: 3" if server.stage.counts_others else "count: 0")


@check("count", row=True)
def is_exact_after_a_burst_from_eight_clients(server):
    def storm():
        with server.connect() as client:
            client.send("fib 1\n" * 500 + "count\n")
            expect(client.lines(500), ["fib: 1"] * 500)
            return client.line()

    counts = together(*[storm] * 8)
    if server.stage.workers:
        asked, of_each = reach_all_workers(server)
        expect(sum(of_each.values()), 4000 + asked, "what all workers have counted together")
    elif server.stage.counts_others:
        expect(server.ask("count"), "count: 4000")
    else:
        expect(counts, ["count: 500"] * 8, "each child counts alone")


# ---- Lines in a stream of bytes -----------------------------------------------------------------------------------------

@check("lines", row=True)
def answers_each_of_many_lines_in_one_segment(server):
    expect_answer(server, b"10\n10\n6\n", b"fib: 55\nfib: 55\nfib: 8\n")


@check("lines")
def answers_a_line_that_comes_byte_by_byte(server):
    client = server.connect()
    client.send_in_pieces(b"fib 30\n30\r", 1)
    expect(client.line(), "fib: 832040")
    client.send(b"\n")
    expect(client.line(), "fib: 832040")


@check("lines")
def answers_a_line_cut_at_every_byte(server):
    client = server.connect()
    line = b"fib 10\r\n"
    for cut in range(1, len(line)):
        client.send(line[:cut])
        client.wait_until_read()
        client.send(line[cut:])
        expect(client.line(), "fib: 55", f"cut into {line[:cut]!r} and {line[cut:]!r}")


@check("lines")
def takes_cr_lf_as_well_and_answers_with_lf(server):
    expect_answer(server, b"fib 6\r\n10\r\nfib 6\n", b"fib: 8\nfib: 55\nfib: 8\n")


@check("lines")
def a_half_close_ends_the_last_line(server):
    expect_answer(server, b"30", b"fib: 832040\n")
    expect_answer(server, b"6\nfib 10", b"fib: 8\nfib: 55\n")
    expect_answer(server, b"fib 6\r", b"fib: 8\n")


@check("lines")
def a_client_that_asks_nothing_gets_no_reply(server):
    expect_answer(server, b"", b"")
    expect_answer(server, b"\n\r\n  ", b"")


@check("lines")
def a_half_close_cuts_off_no_request(server):
    expect_answer(server, b"sleep 0.3\n6\n10", b"slept: 0.3\nfib: 8\nfib: 55\n")


@check("lines")
def ignores_blanks_at_both_ends(server):
    expect_answer(server, b"  fib 6\n\t10\nfib 6 \t \r\n  30  ", b"fib: 8\nfib: 55\nfib: 8\nfib: 832040\n")


@check("lines")
def ignores_empty_lines(server):
    expect_answer(server, b"\n\r\n  \n6\n\n\t\n\n6\n\r\n", b"fib: 8\nfib: 8\n")


@check("lines")
def quit_says_bye_and_closes(server):
    with server.connect() as client:
        client.send("6\nquit\nfib 10\n")
        expect(client.rest(), b"fib: 8\nbye:\n")


@check("lines")
def help_says_how_many_lines_it_has(server):
    expect_help(server, ["fib", "sleep", "count", "help", "quit"])


@check("lines")
def an_error_keeps_the_connection_open(server):
    expect_errors(server.connect(), ["nonsense", "fibs 6", "fib6", "6 fib", "GET", "{}", "?", "-"])


@check("lines")
def commands_are_lower_case(server):
    expect_errors(server.connect(), ["Fib 6", "FIB 6", "Count", "HELP", "Quit"])


@check("lines")
def takes_lines_of_eight_kib(server):
    client = server.connect()
    client.send(b" " * 8185 + b"fib 6\r\n")
    expect(client.line(), "fib: 8")


@check("lines")
def a_longer_line_is_one_error_and_is_skipped(server):
    client = server.connect()
    for size in 8193, 8194, 10_000, 100_000:
        client.send(b"fib 6" + b" " * (size - 5) + b"\n" + b"fib 10\n")
        expect_match(client.line(), "error: .+", f"a line of {size} bytes")
        expect(client.line(), "fib: 55", "the line after it")


@check("lines")
def a_longer_line_may_come_in_pieces_or_never_end(server):
    with server.connect() as client:
        for _ in range(5):
            client.send(b"x" * 3000)
            client.wait_until_read()
        client.send(b"\n6\n")
        expect_match(client.line(), "error: .+")
        expect(client.line(), "fib: 8")
    with server.connect() as client:
        client.send(b"x" * 10_000)
        client.half_close()
        expect_match(client.rest().decode(), "error: .+\n")


@check("lines")
def refuses_bytes_that_are_not_utf_8(server):
    client = server.connect()
    expect_reply(client, "6", "fib: 8")
    expect_errors(client, [b"\xff\xfe", b"fib \xc3", b"\x80", b"6\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80"])


@check("lines")
def refuses_nul(server):
    client = server.connect()
    expect_reply(client, "6", "fib: 8")
    expect_errors(client, [b"\0", b"fib\x006", b"fib 6\0", b"\x006"])


@check("lines")
def answers_thousands_of_lines_in_order(server):
    numbers = [1 + index * 7 % 10 for index in range(5000)]
    fibs = [1, 1, 2, 3, 5, 8, 13, 21, 34, 55]
    client = server.connect()
    together(lambda: client.send("".join(f"{number}\n" for number in numbers)),
             lambda: expect(client.lines(5000), [f"fib: {fibs[number - 1]}" for number in numbers]))


@check("lines")
def lines_that_only_resemble_http_keep_the_connection_open(server):
    client = server.connect()
    expect_errors(client, ["PROXY", "GET", "GET /", "GET / HTTP", "get / HTTP/1.1", "GET /a /b HTTP/1.1", "GET HTTP/1.1",
                           "HTTP/1.1", "PROXY TCP4", "x" * 9000])


# ---- --framing recv: the talk's way, flaws and all ----------------------------------------------------------------------

@check("recv", "--framing", "recv")
def a_chunk_is_a_request_with_or_without_a_newline(server):
    client = server.connect()
    for chunk, reply in ("30", "fib: 832040"), ("10\n", "fib: 55"), ("fib 6\r\n", "fib: 8"), ("count", "count: 3"):
        client.send(chunk)
        expect(client.line(), reply, f"the reply to the chunk {chunk!r}")


@check("recv", "--framing", "recv")
def two_lines_in_a_chunk_are_one_wrong_request(server):
    client = server.connect()
    client.send("10\n10\n")
    expect_match(client.line(), "error: .+")
    client.send("10")
    expect(client.line(), "fib: 55", "the reply to the next chunk")


@check("recv", "--framing", "recv")
def a_line_in_two_chunks_is_two_requests(server):
    client = server.connect()
    client.send("fib 1")
    expect(client.line(), "fib: 1")
    client.send("0\n")
    expect_match(client.line(), "error: .+")


@check("recv", "--framing", "recv")
def a_first_chunk_may_be_anything(server):
    client = server.connect()
    for chunk in b"\x16\x03\x01\n", b"\xff", "PROXY TCP4 x", "GET / HTTP/1.1":
        client.send(chunk)
        expect_match(client.line(), "error: .+")
    client.send("6")
    expect(client.line(), "fib: 8")


@check("recv", "--framing", "recv")
def there_is_no_http(server):
    client = server.connect()
    client.send("GET /fib/6 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    expect_match(client.line(), "error: .+")
    client.send("6")
    expect(client.line(), "fib: 8")
