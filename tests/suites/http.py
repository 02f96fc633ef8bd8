"""HTTP/1.1 on the same port: every row of its table, every error, and the shapes that request smugglers try."""
from pathlib import Path

from harness.checks import Fault, check, expect, expect_each, expect_lasts, expect_match
from harness.client import request
from harness.web import JSON, NO_SUCH_TASK, POST, add_task, expect_error, expect_json, head

PAGE = Path(__file__).resolve().parent.parent.parent / "common" / "protocol" / "page.html"
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


def keeps_http_open(stage):
    return stage.keeps_http_open


def first_response(server, data):
    """The first response to these bytes, on a connection of its own."""
    with server.connect() as client:
        client.send(data)
        return client.response()


def expect_refused_and_closed(server, data, status):
    """The bytes get this one error. Then the connection is closed, and the request behind them is not carried out."""
    with server.connect() as client:
        client.send(data + request("POST", "/api/task", {"title": "smuggled"}))
        expect_error(client.response(), status)
        expect(client.rest(), b"", "after the error")
    expect(server.http("GET", "/api/tasks").json, [], "the tasks")


# ---- The table of requests ----------------------------------------------------------------------------------------------

@check("http", row=True)
def a_task_is_posted_read_changed_and_deleted(server):
    expect_json(server.http("GET", "/api/tasks"), [])
    posted = server.http("POST", "/api/task", {"title": "buy milk"})
    expect_match(posted.json.get("id", ""), UUID)
    task = {"id": posted.json["id"], "title": "buy milk", "description": "", "done": False}
    expect_json(posted, task, 201)
    place = f"/api/tasks/{task['id']}"
    expect_match(posted.headers.get("location", ""), f"(http://[^/]+)?{place}")
    expect_json(server.http("GET", place), task)
    expect_json(server.http("GET", "/api/tasks"), [task])

    task["done"] = True
    expect_json(server.http("PUT", place, {"done": True}), task)
    task["title"], task["description"] = "buy oat milk", "two litres"
    expect_json(server.http("PUT", place, {"title": "buy oat milk", "description": "two litres"}), task)
    expect_json(server.http("PUT", place, {}), task)
    expect_json(server.http("GET", place), task)

    gone = server.http("DELETE", place)
    expect((gone.status, gone.body, "content-length" in gone.headers), (204, b"", False), "the response to DELETE")
    expect_json(server.http("GET", "/api/tasks"), [])
    for method, body in ("GET", None), ("PUT", {"done": True}), ("DELETE", None):
        expect_error(server.http(method, place, body), 404)


@check("http")
def tasks_are_listed_in_the_order_they_came(server):
    tasks = [add_task(server, title=f"task {number}", description=f"number {number}") for number in range(5)]
    expect_json(server.http("GET", "/api/tasks"), tasks)


@check("http")
def posts_to_the_list_as_well(server):
    response = server.http("POST", "/api/tasks", {"title": "buy milk", "description": "two litres"})
    expect((response.status, response.json["title"], response.json["description"]), (201, "buy milk", "two litres"))


@check("http")
def text_in_any_script_comes_back_unchanged(server):
    for title in "Käse ☕ 李 🐧", 'a "quoted" \\ title', "</script><b>":
        task = add_task(server, title=title, description="erste Zeile\nzweite\tZeile")
        expect(server.http("GET", f"/api/tasks/{task['id']}").json["title"], title)
    written = b'{"title": "\\u00e9\\ud83d\\udc27"}'
    expect(server.http("POST", "/api/task", written, headers=JSON).json["title"], "é🐧", "escaped in JSON")


@check("http")
def both_protocols_show_the_same_tasks(server):
    task = add_task(server, title="buy milk", description="two litres\nof it")
    short_id = task["id"][:8]
    expect(server.list(), [f"[ ] {short_id} buy milk"])
    with server.connect() as client:
        expect(client.ask(f"show {short_id}"), "task: 4")
        expect(client.lines(4), [f"id: {task['id']}", "title: buy milk", r"description: two litres\nof it", "done: false"])
        expect(client.ask(f"done {short_id}"), f"done: {short_id} buy milk")
    expect(server.http("GET", f"/api/tasks/{task['id']}").json["done"], True)


@check("http")
def computes_and_waits(server):
    expect_json(server.http("GET", "/fib/30"), {"n": 30, "fib": 832040})
    expect_json(server.http("GET", "/fib/1"), {"n": 1, "fib": 1})
    expect_lasts(0.3, lambda: expect_json(server.http("GET", "/sleep/0.3"), {"slept": 0.3}))
    expect_lasts(1, lambda: expect_json(server.http("GET", "/ioTask"), {"slept": 1}))


@check("http")
def json_is_written_without_blanks_in_this_order(server):
    expect(server.http("GET", "/fib/30").body, b'{"n":30,"fib":832040}')
    task = add_task(server, title="buy milk")
    body = f'{{"id":"{task["id"]}","title":"buy milk","description":"","done":false}}'.encode()
    expect(server.http("GET", f"/api/tasks/{task['id']}").body, body)
    expect(server.http("GET", "/api/tasks").body, b"[" + body + b"]")


@check("http", ours=True, computes=True)
def the_cpu_task_computes_fib_45(server):
    expect_json(server.http("GET", "/cpuTask"), {"n": 45, "fib": 1134903170})


@check("http")
def says_hello_after_a_second(server):
    def hello():
        response = server.http("GET", "/say/hello?name=alice")
        expect((response.status, response.body), (200, b"hello alice"))
        expect_match(response.headers.get("content-type", ""), "text/plain(;.*)?")

    expect_lasts(1, hello)


@check("http", ours=True, row=True)
def the_page_is_the_same_everywhere(server):
    page = PAGE.read_bytes()
    for method, target in ("GET", "/"), ("HEAD", "/"), ("GET", "/?from=a-bookmark"), ("GET", "http://localhost"):
        response = server.http(method, target)
        fields = ["content-type", "content-length", "content-security-policy"]
        expect((response.status, [response.headers.get(field) for field in fields]),
               (200, ["text/html; charset=utf-8", str(len(page)), "frame-ancestors 'none'"]), f"{method} {target}")
        expect(response.body, page if method == "GET" else b"")
    response = expect_error(server.http("POST", "/", {}), 405)
    expect(response.headers.get("allow"), "GET, HEAD")


@check("http", ours=True, only=keeps_http_open)
def requests_behind_the_page_are_answered(server):
    client = server.connect()
    client.send(request("GET", "/") + request("HEAD", "/") + request("GET", "/fib/6"))
    expect([len(client.response(method).body) for method in ("GET", "HEAD")], [PAGE.stat().st_size, 0])
    expect_json(client.response(), {"n": 6, "fib": 8})


@check("http")
def decodes_percent_encoding(server):
    expect(server.http("GET", "/say/hello?name=al%69ce%20and%20Zo%C3%AB").body.decode(), "hello alice and Zoë")
    expect_json(server.http("GET", "/%66ib/%36"), {"n": 6, "fib": 8})


@check("http")
def the_server_tells_about_itself(server):
    response = server.http("GET", "/server")
    served_by = expect_match(response.headers.get("x-served-by", ""), r"(\S+) pid=(\d+) thread=(\d+)")
    expect(response.status, 200)
    expect(response.json.get("count"), 0, "the count before this request")
    values = response.json.values()
    expect((served_by[1] in response.body.decode(), int(served_by[2]) in values), (True, True),
           f"the name and the process id are in {response.json}")


@check("http", only=lambda stage: stage.counts_others)
def the_server_counts_the_requests_of_both_protocols(server):
    counts = []
    for _ in range(2):
        counts.append(server.http("GET", "/server").json["count"])
        expect(server.http("GET", "/fib/6").status, 200)
        expect(server.http("GET", "/nothing").status, 404)
        counts.append(int(server.ask("count").split()[1]))
    expect(counts, [0, 3, 3, 6], "what /server and count say in turn")


@check("http")
def every_response_says_who_served_it(server):
    rows = [(200, request("GET", "/fib/6")), (201, request("POST", "/api/task", {"title": "milk"})),
            (404, request("GET", "/nothing")), (405, request("POST", "/fib/6", {})),
            (400, request("GET", "/fib/0")), (415, request("POST", "/api/task", b"{}")),
            (421, request("GET", "/fib/6", host="evil.example")), (501, request("BREW", "/fib/6")),
            (505, request("GET", "/fib/6", version="HTTP/2.0")), (400, request("GET", "/fib/6", host=None))]

    def row(status, data):
        with server.connect() as client:
            client.send(data)
            response = client.response()
            expect(response.status, status)
            name = server.stage.name if server.stage.number else r"\S+"
            expect_match(response.headers.get("x-served-by", ""), rf"{name} pid=\d+ thread=\d+")

    expect_each(rows, row)


# ---- Connections --------------------------------------------------------------------------------------------------------

@check("http", only=keeps_http_open)
def a_connection_serves_one_request_after_another(server):
    client = server.connect()
    for n, fib in (6, 8), (10, 55), (30, 832040):
        expect_json(client.http("GET", f"/fib/{n}"), {"n": n, "fib": fib})
    expect(client.http("POST", "/api/task", {"title": "milk"}).status, 201)
    expect(client.http("GET", "/api/tasks").json[0]["title"], "milk")


@check("http", only=lambda stage: not stage.keeps_http_open)
def every_response_closes_where_others_wait_for_the_server(server):
    with server.connect() as client:
        client.send(request("GET", "/fib/6") * 2)
        response = client.response()
        expect_json(response, {"n": 6, "fib": 8})
        expect(response.headers.get("connection"), "close")
        expect(client.rest(), b"")


@check("http", only=keeps_http_open)
def pipelined_requests_are_answered_in_order(server):
    client = server.connect()
    client.send(request("GET", "/sleep/0.2") + b"".join(request("GET", f"/fib/{n}") for n in range(1, 31)))
    expect_json(client.response(), {"slept": 0.2})
    expect([client.response().json["n"] for _ in range(30)], list(range(1, 31)))


@check("http", only=keeps_http_open)
def an_error_about_a_complete_message_keeps_the_connection(server):
    client = server.connect()
    rows = [(404, "GET", "/nothing", None, {}), (405, "DELETE", "/fib/6", None, {}),
            (415, "POST", "/api/task", b"title=milk", {}), (421, "GET", "/fib/6", None, {"host": "evil.example"}),
            (400, "GET", "/fib/0", None, {}), (400, "POST", "/api/task", {"title": 1}, {})]

    def row(status, method, target, body, options):
        expect_error(client.http(method, target, body, **options), status)
        expect_json(client.http("GET", "/fib/6"), {"n": 6, "fib": 8})

    expect_each(rows, row)


@check("http")
def closes_when_the_client_asks_for_it(server):
    with server.connect() as client:
        client.send(request("GET", "/fib/6", headers={"Connection": "close"}) + request("GET", "/fib/10"))
        response = client.response()
        expect_json(response, {"n": 6, "fib": 8})
        expect(response.headers.get("connection"), "close")
        expect(client.rest(), b"", "after the response")


@check("http")
def an_http_1_0_client_is_served_and_let_go(server):
    with server.connect() as client:
        client.send("GET /fib/6 HTTP/1.0\r\n\r\n")
        expect_json(client.response(), {"n": 6, "fib": 8})
        expect(client.rest(), b"")


@check("http")
def a_half_close_after_a_request_does_not_cut_it_off(server):
    with server.connect() as client:
        client.send(request("GET", "/sleep/0.2"))
        client.half_close()
        expect_json(client.response(), {"slept": 0.2})
        expect(client.rest(), b"")


@check("http")
def a_half_close_within_a_request_is_an_error(server):
    whole = request("POST", "/api/task", {"title": "milk"})
    for size in 30, whole.index(b"\r\n\r\n") + 3, len(whole) - 1:
        with server.connect() as client:
            client.send(whole[:size])
            client.half_close()
            expect_error(client.response(), 400)
            expect(client.rest(), b"")
    expect(server.http("GET", "/api/tasks").json, [])


@check("http")
def head_is_get_without_the_body(server):
    for target, status in ("/fib/30", 200), ("/api/tasks", 200), ("/nothing", 404):
        plain = server.http("GET", target)
        with server.connect() as client:
            client.send(request("HEAD", target, headers={"Connection": "close"}))
            head = client.response("HEAD")
            expect((head.status, client.rest()), (status, b""), "HEAD")
        for header in "content-type", "content-length":
            expect(head.headers.get(header), plain.headers.get(header), f"{header} of HEAD and GET")


@check("http", only=keeps_http_open)
def the_next_request_after_head_is_answered(server):
    client = server.connect()
    client.send(request("HEAD", "/fib/30") + request("GET", "/fib/6"))
    expect(client.response("HEAD").status, 200)
    expect_json(client.response(), {"n": 6, "fib": 8})


@check("http")
def a_request_may_come_in_pieces(server):
    message = request("POST", "/api/task", {"title": "milk"})
    with server.connect() as client:
        client.send_in_pieces(message[:-1], 7)
        client.send(message[-1:])
        response = client.response()
        expect((response.status, response.json["title"]), (201, "milk"))


@check("http")
def empty_lines_before_the_first_request_are_ignored(server):
    with server.connect() as client:
        client.send(b"\r\n\n" + request("GET", "/fib/6"))
        expect_json(client.response(), {"n": 6, "fib": 8})


@check("http")
def sends_100_continue_to_a_client_that_expects_it(server):
    body = b'{"title": "buy milk"}'
    with server.connect() as client:
        client.send(request("POST", "/api/task", headers={"Expect": "100-continue", "Content-Length": len(body), **JSON}))
        expect(client.response().status, 100)
        client.send(body)
        response = client.response()
        expect((response.status, response.json["title"]), (201, "buy milk"))


@check("http")
def a_tab_around_a_value_counts_as_a_blank(server):
    body = b'{"title": "buy milk"}'
    for fields, data in (((f"Content-Length:\t {len(body)} \t",), body),
                         (("Transfer-Encoding: \tchunked\t",), b"15\r\n" + body + b"\r\n0\r\n\r\n")):
        message = head("Content-Type:\tapplication/json\t;\tx=y\t", *fields, first=POST, host="Host:\tlocalhost\t") + data
        expect(first_response(server, message).status, 201, f"the response to {message}")
        with server.connect() as client:
            client.send_in_pieces(message[:-1], 5)
            client.send(message[-1:])
            expect(client.response().status, 201)


@check("http")
def asks_for_no_body_that_it_would_refuse(server):
    with server.connect() as client:
        client.send(request("POST", "/api/task", headers={"Expect": "100-continue", "Content-Length": 1_000_000, **JSON}))
        expect_error(client.response(), 413)
        expect(client.rest(), b"")


@check("http")
def takes_a_body_in_chunks(server):
    chunked = request("POST", "/api/task", headers={"Transfer-Encoding": "chunked", **JSON})
    bodies = [b'15\r\n{"title": "buy milk"}\r\n0\r\n\r\n',
              b'1\r\n{\r\n13;half=other\r\n"title": "buy milk"\r\n1\r\n}\r\n0\r\n\r\n',
              b'00015\r\n{"title": "buy milk"}\r\n0\r\nSome-Trailer: x\r\n\r\n']

    def row(body):
        response = first_response(server, chunked + body)
        expect((response.status, response.json.get("title")), (201, "buy milk"))

    expect_each([(body,) for body in bodies], row)
    with server.connect() as client:
        client.send(chunked)
        client.send_in_pieces(bodies[1][:-1], 3)
        client.send(bodies[1][-1:])
        expect(client.response().status, 201)


@check("http")
def takes_a_target_in_absolute_form(server):
    expect_json(server.http("GET", "http://localhost/fib/6"), {"n": 6, "fib": 8})
    expect_json(server.http("GET", f"http://127.0.0.1:{server.port}/fib/6"), {"n": 6, "fib": 8})
    expect_error(server.http("GET", "https://localhost/fib/6"), 421)
    expect_error(server.http("GET", "ftp://localhost/fib/6"), 400)


# ---- Errors -------------------------------------------------------------------------------------------------------------

@check("http")
def numbers_out_of_range_are_400(server):
    targets = "/fib/0", "/fib/51", "/fib/99999999999999999999", "/sleep/61", "/sleep/60.1"
    expect_each([(target,) for target in targets], lambda target: expect_error(server.http("GET", target), 400))


@check("http")
def characters_not_allowed_in_a_path_are_400(server):
    for character in '"<>\\^{|}`':
        expect_error(server.http("GET", f"/fib/6{character}"), 400)
        expect_error(server.http("GET", f"/{character}/6"), 400)
        expect_json(server.http("GET", f"/fib/6?x={character}"), {"n": 6, "fib": 8})
        expect(server.http("GET", f"/%{ord(character):02x}").status, 404)


@check("http")
def wrong_escapes_and_text_that_is_not_utf_8_are_400(server):
    targets = "/say/hello?name=%ff", "/say/hello?name=%C3", "/say/hello?name=%zz", "/say/hello?name=a%2"
    expect_each([(target,) for target in targets], lambda target: expect_error(server.http("GET", target), 400))


WRONG_TASKS = [b"", b"{", b"[]", b'"title"', b"null", b"milk", b'{"title": "x"} {}', b'{"title": "x",}', b"{'title': 'x'}",
               b'{"title": 1}', b'{"title": null}', b'{"title": ["x"]}', b'{"title": ""}',
               b'{"title": "x", "description": 1}', b'{"title": "x", "done": "yes"}', b'{"title": "x", "done": 1}',
               b'{"title": "\xff"}', b'{"title": "\\ud800"}', b'{"title": "buy\\u0001milk"}', b'{"title": "buy\\nmilk"}',
               b'{"title": "buy\\u0000milk"}', b'{"title": "buy\\u007fmilk"}', b'{"title": "x", "description": "a\\u0000b"}',
               b"[" * 60_000]


@check("http")
def json_that_is_no_task_is_400(server):
    expect_each([(body,) for body in WRONG_TASKS + [b"{}", b'{"description": "no title"}']],
                lambda body: expect_error(server.http("POST", "/api/task", body, headers=JSON), 400))
    expect(server.http("GET", "/api/tasks").json, [])


@check("http")
def json_that_is_no_task_changes_none(server):
    task = add_task(server, title="buy milk")
    place = f"/api/tasks/{task['id']}"
    expect_each([(body,) for body in WRONG_TASKS],
                lambda body: expect_error(server.http("PUT", place, body, headers=JSON), 400))
    expect_json(server.http("GET", place), task)


@check("http")
def what_is_not_there_is_404(server):
    task = add_task(server, title="buy milk")["id"]
    targets = ["/nothing", "/%02", "/%7f", "/fib%0a/6", "/api", "/api/task/x", "/fibs/6", "/api/tasks/x", NO_SUCH_TASK,
               f"/api/tasks/{task[:8]}", f"/api/tasks/{task}0", "/say/goodbye?name=alice"]
    expect_each([(target,) for target in targets], lambda target: expect_error(server.http("GET", target), 404))


@check("http")
def a_method_that_a_resource_does_not_take_is_405(server):
    place = f"/api/tasks/{add_task(server, title='buy milk')['id']}"
    rows = [("POST", "/fib/6", {"GET", "HEAD"}), ("DELETE", "/sleep/0", {"GET", "HEAD"}), ("PUT", "/server", {"GET", "HEAD"}),
            ("PATCH", place, {"GET", "HEAD", "PUT", "DELETE"}), ("POST", place, {"GET", "HEAD", "PUT", "DELETE"}),
            ("PUT", "/api/tasks", {"GET", "HEAD", "POST"}), ("DELETE", "/api/tasks", {"GET", "HEAD", "POST"}),
            ("GET", "/api/task", {"POST"}), ("HEAD", "/api/task", {"POST"}), ("TRACE", "/fib/6", {"GET", "HEAD"}),
            ("POST", "/say/hello", {"GET", "HEAD"}), ("POST", "/cpuTask", {"GET", "HEAD"}), ("POST", "/ioTask", {"GET", "HEAD"})]

    def row(method, target, methods):
        response = server.http(method, target, {} if method in ("POST", "PUT", "PATCH") else None)
        expect(response.status, 405)
        allowed = set(response.headers.get("allow", "").replace(" ", "").split(","))
        expect(allowed - {"OPTIONS"}, methods, "Allow")

    expect_each(rows, row)


@check("http", row=True)
def options_names_the_allowed_methods(server):
    def row(target, methods, **options):
        with server.connect() as client:
            client.send(request("OPTIONS", target, headers={"Connection": "close"}, **options))
            response = client.response()
            expect((response.status, response.body, client.rest()), (204, b"", b""), "the response")
        allowed = set(response.headers.get("allow", "").replace(" ", "").split(","))
        expect((allowed - {"OPTIONS"}, "content-length" in response.headers), (methods, False), "what is allowed")

    place = f"/api/tasks/{add_task(server, title='buy milk')['id']}"
    everything = {"GET", "HEAD", "POST", "PUT", "DELETE"}
    read = {"GET", "HEAD"}
    expect_each([("*", everything), ("/", read), ("/fib/6", read), ("http://localhost", read), ("/api/task", {"POST"}),
                 ("/api/tasks", read | {"POST"}), (place, read | {"PUT", "DELETE"})], row)
    row("/", read, host=None, version="HTTP/1.0")       # HAProxy's health check
    row("*", everything, host=None, version="HTTP/1.0")
    expect_error(server.http("OPTIONS", "/nothing"), 404)
    expect_error(server.http("OPTIONS", "*", host="evil.example"), 421)
    expect_error(server.http("GET", "*"), 400)


@check("http")
def a_body_that_is_not_declared_json_is_415(server):
    place = f"/api/tasks/{add_task(server, title='buy milk')['id']}"
    body = b'{"title": "forged"}'
    types = [{}, {"Content-Type": "text/plain"}, {"Content-Type": "application/x-www-form-urlencoded"},
             {"Content-Type": "multipart/form-data; boundary=x"}, {"Content-Type": "application/jsonx"},
             {"Content-Type": "text/plain; application/json"}]
    expect_each([("POST", "/api/task", headers) for headers in types] + [("PUT", place, headers) for headers in types],
                lambda method, target, headers: expect_error(server.http(method, target, body, headers=headers), 415))
    expect([task["title"] for task in server.http("GET", "/api/tasks").json], ["buy milk"])
    for value in "application/json; charset=utf-8", "Application/JSON", "application/json;charset=UTF-8":
        expect(server.http("PUT", place, body, headers={"Content-Type": value}).status, 200, value)


@check("http")
def a_host_that_is_not_this_one_is_421(server):
    for host in "evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.evil.example", "mylocalhost":
        expect_error(server.http("GET", "/fib/6", host=host), 421)
    expect_error(server.http("GET", "http://evil.example/fib/6", host="localhost"), 421)
    expect_error(server.http("POST", "/api/task", {"title": "rebound"}, host="evil.example"), 421)
    expect(server.http("GET", "/api/tasks").json, [])
    hosts = ["localhost", "LOCALHOST", f"localhost:{server.port}", "localhost:", "localhost:65535", "localhost.",
             f"localhost.:{server.port}", "127.0.0.1", "127.0.0.1:80", "10.1.2.3", "[::1]", "[::1]:80"]
    expect_each([(host,) for host in hosts], lambda host: expect(server.http("GET", "/fib/6", host=host).status, 200))


# User info, a path, a list, blanks, two ports or an invalid one, and characters that no name has.
NO_HOSTS = ("evil@localhost", "localhost@evil", "localhost/", "localhost/x", "localhost?x", "localhost#x", "localhost,evil",
            "localhost, evil", "local host", "localhost\tx", "localhost:80:80", "localhost:65536", "localhost:99999999999",
            "localhost:x", "localhost:-1", "localhost:8 0", "lo\xe9calhost", "localhost\x80", "[::1", "[::1]x", "[localhost]",
            "[127.0.0.1]", "::1", "[]", ":80", '"localhost"', "local\\host", "<localhost>", "")


@check("http", "--allow-host", "*")
def an_invalid_host_is_400_whatever_is_allowed(server):
    expect_each([(host,) for host in NO_HOSTS],
                lambda host: expect_refused_and_closed(server, request("GET", "/fib/6", host=host), 400))
    for authority in "evil@localhost", "localhost:80:80", "localhost:65536", "localhost:x", "local,host", ":80":
        expect_error(server.http("GET", f"http://{authority}/fib/6"), 400)


@check("http", "--allow-host", "todo.example", "--allow-host", "list.example")
def more_hosts_can_be_allowed(server):
    for host, status in ("todo.example", 200), ("List.Example:80", 200), ("evil.example", 421), ("localhost", 200):
        expect(server.http("GET", "/fib/6", host=host).status, status, host)


@check("http", "--allow-host", "*")
def any_host_can_be_allowed(server):
    expect(server.http("GET", "/fib/6", host="evil.example").status, 200)


@check("http", "--host", "localhost")
def the_host_that_it_listens_on_is_allowed(server):
    expect(server.http("GET", "/fib/6", host="localhost").status, 200)
    expect_error(server.http("GET", "/fib/6", host="evil.example"), 421)


@check("http")
def unknown_methods_and_codings_are_501(server):
    for method in "BREW", "FOO":
        expect_error(server.http(method, "/fib/6"), 501)
    expect_error(server.http("CONNECT", "localhost:80"), 501)
    for coding in "gzip", "gzip, chunked", "identity", "xchunked":
        expect_refused_and_closed(server, request("POST", "/api/task", headers={"Transfer-Encoding": coding, **JSON}), 501)


@check("http")
def other_http_versions_are_505(server):
    for version in "HTTP/2.0", "HTTP/0.9", "HTTP/1.2", "HTTP/3.0":
        expect_refused_and_closed(server, request("GET", "/fib/6", version=version), 505)


# ---- Malformed messages, and what smugglers send ------------------------------------------------------------------------


MALFORMED = {
    "no host": head(host=None),
    "two hosts": head("Host: localhost"),
    "two different hosts": head("Host: 127.0.0.1"),
    "a blank before the colon": head("X-Name : value"),
    "a blank before the colon of a length": head("Content-Length : 0", first=POST),
    "a header folded into a second line": head("X-Name: one", " two"),
    "a first header that begins with a blank": head(" X-Name: one"),
    "a bare CR in a header": head("X-Name: one\rTransfer-Encoding: chunked"),
    "a bare CR at the end of a header": head("X-Name: one\r"),
    "a NUL in a header": head("X-Name: o\0ne"),
    "a header without a name": head(": value"),
    "a header without a colon": head("X-Name"),
    "a name with a character that no name has": head("X(Name): value"),
    "a length and chunks": head("Content-Length: 5", "Transfer-Encoding: chunked", first=POST) + b"0\r\n\r\n",
    "chunks and a length": head("Transfer-Encoding: chunked", "Content-Length: 5", first=POST) + b"0\r\n\r\n",
    "two different lengths": head("Content-Length: 5", "Content-Length: 6", first=POST) + b"abcde",
    "a list of different lengths": head("Content-Length: 5, 6", first=POST) + b"abcde",
    "a length with a sign": head("Content-Length: +5", first=POST) + b"abcde",
    "a negative length": head("Content-Length: -5", first=POST),
    "a length in hexadecimal": head("Content-Length: 0x5", first=POST) + b"abcde",
    "a length with a blank inside": head("Content-Length: 1 1", first=POST),
    "an empty length": head("Content-Length: ", first=POST),
    "a length past 64 bits": head("Content-Length: 18446744073709551621", first=POST) + b"abcde",
    "chunks inside another coding": head("Transfer-Encoding: chunked, gzip", first=POST) + b"0\r\n\r\n",
    "chunks in HTTP/1.0": head("Transfer-Encoding: chunked", first="POST /api/task HTTP/1.0") + b"0\r\n\r\n",
    "a chunk size that is no number": head("Transfer-Encoding: chunked", first=POST) + b"x\r\nabc\r\n0\r\n\r\n",
    "a negative chunk size": head("Transfer-Encoding: chunked", first=POST) + b"-1\r\nabc\r\n0\r\n\r\n",
    "a chunk size past 64 bits": head("Transfer-Encoding: chunked", first=POST) + b"10000000000000001\r\nabc\r\n0\r\n\r\n",
    "a chunk longer than it says": head("Transfer-Encoding: chunked", first=POST) + b"1\r\nabc\r\n0\r\n\r\n",
    "no target": head(first="GET  HTTP/1.1"),
    "several blanks behind the method": head(first="GET  /fib/6 HTTP/1.1"),
    "several blanks before the version": head(first="GET /fib/6  HTTP/1.1"),
    "a blank behind the version": head(first="GET /fib/6 HTTP/1.1 "),
    "something behind the version": head(first="GET /fib/6 HTTP/1.10"),
    "a bare CR before the request": b"\r" + head(),
    "two content types": head("Content-Type: application/json", "Content-Type: application/json", first=POST),
    "a tab inside a length": head("Content-Length: 1\t1", first=POST),
    "two targets": head(first="GET /fib/6 /fib/10 HTTP/1.1"),
    "a target that is no path": head(first="GET fib/6 HTTP/1.1"),
    "a control character in the target": head(first="GET /fib/\x016 HTTP/1.1"),
}


@check("http",
       fault=Fault("some thirty malformed messages, and a request hidden behind each",
                   "gets one error (400) and the end; the hidden request is not carried out", "are served"))
def malformed_messages_are_400_and_end_the_connection(server):
    expect_each([(what,) for what in MALFORMED], lambda what: expect_refused_and_closed(server, MALFORMED[what], 400))


@check("http",
       fault=Fault("line-protocol commands in and behind the body of an HTTP request",
                   "gets HTTP errors; no command is carried out", "are served"))
def no_line_of_an_http_connection_is_a_line_request(server):
    forged = request("POST", "/nothing", b"add forged\r\nadd forged\r\n", headers={"Content-Type": "text/plain"})
    with server.connect() as client:
        client.send(forged + b"add forged\r\nadd forged\r\n\r\n")
        client.half_close()
        answer = client.rest()
    expect((b"added" in answer, b"\nerror:" in answer), (False, False), f"line replies in {answer!r}")
    expect(server.http("GET", "/api/tasks").json, [])
