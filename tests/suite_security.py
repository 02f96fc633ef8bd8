"""What must not get in, or out: messages that two readers would read differently, whatever is past a limit, other people's web
pages, and text that is meant for whoever reads the log."""
import contextlib
import random
import re
import struct
from pathlib import Path

from harness import Fault, Failure, NotRun, check, check_program, expect, expect_each, expect_match, request
from suite_hostile import SIZE, expect_grown_less, expect_like, expect_served, most_memory
from suite_http import JSON, POST, add_task, expect_error, head
from suite_process import LOG_LINE

ROOT = Path(__file__).resolve().parent.parent


def answer_to(server, data):
    """All that comes to these bytes, and a half-close, on a connection of their own."""
    with server.connect() as client:
        with contextlib.suppress(Failure):      # the server may close before all of it has gone
            client.send(data)
            client.half_close()
        return client.rest()


# ---- Two views of one stream --------------------------------------------------------------------------------------------

SMUGGLED = request("POST", "/api/task", {"title": "smuggled"})
SIZE_OF_IT = len(SMUGGLED)


def sized(length, first=POST):
    """A request whose length is written so, and behind whose head stands what must be its body or nothing."""
    return head(f"Content-Length: {length}", first=first) + SMUGGLED


def coded(field):
    """... whose body is in one chunk, for those who take this for a Transfer-Encoding."""
    return head(field, first=POST) + b"%x\r\n%s\r\n0\r\n\r\n" % (SIZE_OF_IT, SMUGGLED)


def chunk(line, end=b"\r\n", trailer=b""):
    """... whose only chunk begins with this line."""
    return head("Transfer-Encoding: chunked", first=POST) + line + SMUGGLED + end + b"0\r\n" + trailer + b"\r\n"


# What is sent, and the statuses of all that comes, 415 where the body was read as a body, which is not declared to be JSON.
SHAPES = {
    "two equal lengths": (sized(f"{SIZE_OF_IT}\r\nContent-Length: {SIZE_OF_IT}"), [400]),
    "two lengths, the first of them none": (sized(f"0\r\nContent-Length: {SIZE_OF_IT}"), [400]),
    "two lengths, the second of them none": (sized(f"{SIZE_OF_IT}\r\nContent-Length: 0"), [400]),
    "a list of equal lengths": (sized(f"{SIZE_OF_IT}, {SIZE_OF_IT}"), [400]),
    "a length with a sign": (sized(f"+{SIZE_OF_IT}"), [400]),
    "a length with something behind it": (sized(f"{SIZE_OF_IT};x"), [400]),
    "a length with a vertical tab": (sized(f"{SIZE_OF_IT}\x0b"), [400]),
    "a length with zeros before it": (sized(f"000{SIZE_OF_IT}"), [415]),
    "a length with a blank behind it": (sized(f"{SIZE_OF_IT} "), [415]),
    "a length past 64 bits": (sized("99999999999999999999"), [400]),
    "a length past 64 bits by as much as the body has": (sized(str((1 << 64) + SIZE_OF_IT)), [400]),
    "a body behind GET": (sized(SIZE_OF_IT, first="GET /fib/6 HTTP/1.1"), [200]),
    "a body behind DELETE": (sized(SIZE_OF_IT, first="DELETE /fib/6 HTTP/1.1"), [405]),
    "a length that Connection names": (sized(f"{SIZE_OF_IT}\r\nConnection: Content-Length"), [415]),
    "a body behind an upgrade": (sized(f"{SIZE_OF_IT}\r\nConnection: Upgrade\r\nUpgrade: h2c", first="GET /fib/6 HTTP/1.1"),
                                 [200]),
    "a length and chunks": (coded(f"Content-Length: {SIZE_OF_IT}\r\nTransfer-Encoding: chunked"), [400]),
    "chunks and a length": (coded(f"Transfer-Encoding: chunked\r\nContent-Length: {SIZE_OF_IT}"), [400]),
    "chunks in capitals": (coded("TRANSFER-ENCODING: CHUNKED"), [415]),
    "chunks twice": (coded("Transfer-Encoding: chunked, chunked"), [400]),
    "chunks twice, in two fields": (coded("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), [400]),
    "chunks and another coding, in two fields": (coded("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"), [400]),
    "something like chunked": (coded("Transfer-Encoding: xchunked"), [501]),
    "a part of chunked": (coded("Transfer-Encoding: chun ked"), [501]),
    "chunked in quotes": (coded('Transfer-Encoding: "chunked"'), [501]),
    "chunked with a parameter": (coded("Transfer-Encoding: chunked;q=1"), [501]),
    "chunked behind a comma": (coded("Transfer-Encoding: ,chunked"), [501]),
    "chunked before a comma": (coded("Transfer-Encoding: chunked,"), [400]),
    "an empty coding": (coded("Transfer-Encoding:"), [501]),
    "a vertical tab behind chunked": (coded("Transfer-Encoding: chunked\x0b"), [400]),
    "a form feed before chunked": (coded("Transfer-Encoding: \x0cchunked"), [400]),
    "a blank before the colon": (coded("Transfer-Encoding : chunked"), [400]),
    "a tab before the colon": (coded("Transfer-Encoding\t: chunked"), [400]),
    "a coding in a folded line": (coded("Transfer-Encoding:\r\n chunked"), [400]),
    "a coding behind a bare LF": (coded("X: y\nTransfer-Encoding: chunked"), [400]),
    "a coding behind a bare CR": (coded("X: y\rTransfer-Encoding: chunked"), [400]),
    "a coding behind a NUL": (coded("X: y\0Transfer-Encoding: chunked"), [400]),
    "a coding whose name has an underscore": (coded("Transfer_Encoding: chunked"), [415, 501]),     # a chunk is no method
    "a header without a name": (coded(": y\r\nTransfer-Encoding: chunked"), [400]),
    "a chunk size with a blank": (chunk(b"%x \r\n" % SIZE_OF_IT), [400]),
    "a chunk size with a blank before it": (chunk(b" %x\r\n" % SIZE_OF_IT), [400]),
    "a chunk size with a sign": (chunk(b"+%x\r\n" % SIZE_OF_IT), [400]),
    "a chunk size written as in C": (chunk(b"0x%x\r\n" % SIZE_OF_IT), [400]),
    "a chunk size past 64 bits": (chunk(b"1%016x\r\n" % SIZE_OF_IT), [400]),
    "a chunk size with zeros before it": (chunk(b"%030x\r\n" % SIZE_OF_IT), [415]),
    "a chunk size that a bare LF ends": (chunk(b"%x\n" % SIZE_OF_IT), [400]),
    "a chunk extension": (chunk(b"%x;a=b\r\n" % SIZE_OF_IT), [415]),
    "a chunk extension with a bare LF": (chunk(b"%x;a\nb\r\n" % SIZE_OF_IT), [400]),
    "a chunk extension with a bare CR": (chunk(b"%x;a\rb\r\n" % SIZE_OF_IT), [400]),
    "a chunk extension with a line's end in quotes": (chunk(b'%x;a="\r\n"\r\n' % SIZE_OF_IT), [400]),
    "a chunk that a bare LF ends": (chunk(b"%x\r\n" % SIZE_OF_IT, end=b"\n"), [400]),
    "a chunk that nothing ends": (chunk(b"%x\r\n" % SIZE_OF_IT, end=b""), [400]),
    "a trailer": (chunk(b"%x\r\n" % SIZE_OF_IT, trailer=b"Host: evil.example\r\nConnection: close\r\n"), [415]),
    "a coding in a trailer": (chunk(b"%x\r\n" % SIZE_OF_IT, trailer=b"Transfer-Encoding: chunked\r\n"), [400]),
    "a length in a trailer": (chunk(b"%x\r\n" % SIZE_OF_IT, trailer=b"Content-Length: 5\r\n"), [415]),
    "a trailer in a folded line": (chunk(b"%x\r\n" % SIZE_OF_IT, trailer=b"X: y\r\n z\r\n"), [415]),
    "a trailer without a name": (chunk(b"%x\r\n" % SIZE_OF_IT, trailer=b": y\r\n"), [400]),
    "a trailer with a NUL": (chunk(b"%x\r\n" % SIZE_OF_IT, trailer=b"X: \0\r\n"), [400]),
    "the beginning of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SMUGGLED, [505]),
    "that of TLS": (b"\x16\x03\x01\0\xa5\x01\0\0\xa1\x03\x03" + SMUGGLED, [400]),
    "tabs in the request line": (b"POST\t/api/task HTTP/1.1\r\nHost: localhost\r\n\r\n" + SMUGGLED, [400]),
    "a NUL in the path": (sized(SIZE_OF_IT, first="POST /api/task%00 HTTP/1.1"), [400]),
    "an encoded slash in the path": (sized(SIZE_OF_IT, first="POST /api%2ftask HTTP/1.1"), [404]),
    "two dots in the path": (sized(SIZE_OF_IT, first="POST /fib/../api/task HTTP/1.1"), [404]),
    "an absolute target and another Host": (sized(SIZE_OF_IT, first="POST http://evil.example/api/task HTTP/1.1"), [421]),
    "a user in an absolute target": (sized(SIZE_OF_IT, first="POST http://localhost@evil.example/api/task HTTP/1.1"), [421]),
}


@check("security", ours=True,
       fault=Fault("some sixty requests of which two readers would have two views (request smuggling)",
                   "gets one error and the end, or the one answer that is right; nothing hidden is carried out", "are served"))
def no_stream_has_two_views(server):
    def row(what):
        data, statuses = SHAPES[what]
        with server.connect() as client:
            client.send(data)
            client.half_close()
            came = [client.response().status for _ in (statuses if server.stage.keeps_http_open else statuses[:1])]
            expect((came, client.rest()), (statuses[:len(came)], b""), "the statuses, and what comes behind them")

    expect_each([(what,) for what in SHAPES], row)
    expect(server.list(), [], "the tasks")


@check("security", fault=Fault("HTTP behind lines, lines behind HTTP",
                               "gets errors; nothing of the other protocol is carried out", "are served"))
def no_connection_speaks_two_protocols(server):
    error = rb"(error: [^\n]*\n)"
    rows = [(b"6\n" + SMUGGLED, rb"fib: 8\n" + error + b"{5}"), (b"GET /fib/6\tHTTP/1.1\n" + SMUGGLED, error + b"{6}"),
            (b"get /fib/6 http/1.1\r\n" + SMUGGLED, error + b"{6}"), (b"quit\n" + SMUGGLED, b"bye:\n"),
            (b"x" * 9000 + b"\n" + SMUGGLED, error + b"{6}"),
            (head("Connection: close") + b"add smuggled\n", rb'HTTP/1\.1 200 [^{]*\{"n":6,"fib":8\}'),
            (head(first="GET /fib/6 HTTP/9.9") + b"add smuggled\n", rb"HTTP/1\.1 505 [^{]*\{.*\}"),
            (b"POST /" + b"x" * 9000 + b"\nadd smuggled\n", rb"HTTP/1\.1 400 [^{]*\{.*\}"),
            (b"POST /" + b"x" * 20_000 + b"\nadd smuggled\n", rb"HTTP/1\.1 431 [^{]*\{.*\}")]
    expect_each(rows, lambda data, answer: expect_like(answer_to(server, data), answer))
    expect(server.list(), [], "the tasks")


# ---- Past every limit ---------------------------------------------------------------------------------------------------

CHUNKED = head("Transfer-Encoding: chunked", first=POST)
FOREVER = {
    "a line": (b"", b"x", rb"error: .*\n"),
    "empty lines": (b"", b"\r\n", b""),
    "a request line": (b"GET /", b"x", rb"HTTP/1\.1 431 .*"),
    "a header": (head()[:-2] + b"X: ", b"x", rb"HTTP/1\.1 431 .*"),
    "headers": (head()[:-2], b"X: x\r\n", rb"HTTP/1\.1 431 .*"),
    "a body": (head("Content-Length: 1000000000", first=POST), b"x", rb"HTTP/1\.1 413 .*"),
    "chunks": (CHUNKED, b"1\r\nx\r\n", rb"HTTP/1\.1 413 .*"),
    "a chunk's size": (CHUNKED, b"0", rb"HTTP/1\.1 431 .*"),
    "a chunk's extension": (CHUNKED + b"5;", b"x", rb"HTTP/1\.1 431 .*"),
    "trailers": (CHUNKED + b"0\r\n", b"X: x\r\n", rb"HTTP/1\.1 431 .*"),
}


@check("security", ours=True, fault=Fault("lines, heads, bodies, chunks or trailers that never end",
                                          "gets one clear error; the server keeps no more than the limit", "are served"))
def what_never_ends_is_one_error_and_is_not_kept(server):
    def row(what):
        beginning, more, answer = FOREVER[what]
        with server.connect() as client:
            pid = client.served_by()
            before = most_memory(pid)
            client.send(beginning)
            with contextlib.suppress(Failure):          # the server may close before all of it has gone
                client.send(more * ((2 * SIZE << 20) // len(more)))
            expect_grown_less(server, pid, before, 1 << 20)
            with contextlib.suppress(Failure):
                client.half_close()
            expect_like(client.rest(), answer)

    expect_each([(what,) for what in FOREVER], row)
    expect_served(server)


NUMBERS = random.Random(10)     # the same every time
PIECES = (b"6\n", b"fib 6", b"list\n", b"add x", b"count\n", b"\r\n", b"\n", b"\0", b" ", b":", b"%", b"HTTP/1.1", b"5\r\n",
          b"0\r\n\r\n", b'{"title": "x"}', b"GET /fib/6 HTTP/1.1\r\n", b"GET /api/tasks HTTP/1.0\r\n",
          b"POST /api/task HTTP/1.1\r\n", b"Host: localhost\r\n", b"Content-Length: 5\r\n",
          b"Transfer-Encoding: chunked\r\n", b"Content-Type: application/json\r\n")


def noise():
    """Pieces of both protocols in any order, some bits of them wrong, or bytes that a die has chosen."""
    if NUMBERS.random() < 0.2:
        return bytes(NUMBERS.choices(range(256), k=NUMBERS.randrange(300)))
    data = bytearray(b"".join(NUMBERS.choices(PIECES, k=NUMBERS.randrange(1, 12))))
    for place in NUMBERS.sample(range(len(data)), NUMBERS.choice([0, 0, 1, 3]) % len(data)):
        data[place] ^= 1 << NUMBERS.randrange(8)
    return bytes(data)


NOISE = [noise() for _ in range(150 * SIZE)]


@check("security", "--max-fib", "20", fault=Fault("bytes that a die has chosen, pieces of both protocols among them",
                                                  "gets clear errors, or the answers to what happens to be right, and the end",
                                                  "are served"))
def noise_is_answered_in_words(server):
    def row(data):
        answer = answer_to(server, data).decode()
        expect_match(answer[:12], r"(HTTP/1\.1 (200|201|4\d\d|501|505)|(fib|added|tasks|count|error): [^\0]*|)")

    expect_each([(data,) for data in NOISE], row)
    expect_served(server)


@check("security", fault=Fault("JSON as deep as a body can hold it", "gets the one answer that is right", "are served"))
def deep_json_overflows_nothing(server):
    for opening, closing in (b"[", b"]"), (b'{"":', b"}"):
        times = 65_000 // len(opening + closing)
        inner = b"1" if opening == b'{"":' else b""
        nest = opening * times + inner + closing * times
        expect_error(server.http("POST", "/api/task", nest if opening == b"[" else b"[" + nest + b"]", headers=JSON), 400)
        expect_error(server.http("POST", "/api/task", (opening * 65_000)[:65_000], headers=JSON), 400)
        whole = b'{"title": "deep", "more": ' + nest + b"}"
        response = server.http("POST", "/api/task", whole, headers=JSON)
        expect((response.status, response.json.get("title")), (201, "deep"), "what is more than a task has is left aside")
    expect_served(server)


# ---- Other people's web pages -------------------------------------------------------------------------------------------

def expect_no_leave(response):
    """No word of the answer lets another site's page read it (CORS)."""
    expect([name for name in response.headers if name.startswith("access-control-")], [], "leave given to other sites")
    return response


def expect_unchanged(server, task):
    expect(server.http("GET", "/api/tasks").json, [task], "the tasks")


@check("security", fault=Fault("requests of a page whose name has been rebound to this machine (DNS rebinding)",
                               "gets 421: nothing is read, nothing is changed", "are served"))
def a_rebound_name_reads_and_changes_nothing(server):
    task = add_task(server, title="secret")
    place = f"/api/tasks/{task['id']}"
    requests = [("GET", "/api/tasks", None), ("GET", place, None), ("HEAD", place, None), ("GET", "/server", None),
                ("POST", "/api/task", {"title": "forged"}), ("PUT", place, {"title": "forged"}), ("DELETE", place, None)]
    names = ["evil.example", f"evil.example:{server.port}", "localhost.evil.example", "127.0.0.1.evil.example"]
    forms = [("", name) for name in names] + [(f"http://{names[1]}", name) for name in (names[1], "localhost")]

    def row(method, target, body, version, before, host):
        with server.connect() as client:
            client.send(request(method, before + target, body, host=host, version=version))
            response = expect_no_leave(client.response(method))
        expect((response.status, b"secret" in response.body), (421, False))

    expect_each([(*one, version, *form) for one in requests for version in ("HTTP/1.1", "HTTP/1.0") for form in forms], row)
    expect_unchanged(server, task)


FORMS = (("application/x-www-form-urlencoded", b"title=forged"), ("text/plain", b'{"title": "forged", "x": "="}\r\n'),
         ("text/plain; application/json", b'{"title": "forged"}'), ("text/plain", b"add forged\r\nadd forged\r\n"),
         ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="title"\r\n'
          b'Content-Type: application/json\r\n\r\n{"title": "forged"}\r\n\r\nadd forged\r\n--x--\r\n'))


@check("security", fault=Fault("another site's form, which a browser sends without asking (CSRF), with lines in it, too",
                               "gets 415: nothing is changed; no line of it is carried out", "are served"))
def a_form_of_another_site_changes_nothing(server):
    task = add_task(server, title="mine")

    def row(method, target, content_type, body):
        headers = {"Content-Type": content_type, "Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}
        for long in "", "?" + "x" * 9000:
            response = expect_no_leave(server.http(method, target + long, body, headers=headers))
            expect_error(response, 415)

    expect_each([(*where, *form) for form in FORMS for where in (("POST", "/api/task"), ("POST", "/api/tasks"),
                                                                 ("PUT", f"/api/tasks/{task['id']}"))], row)
    expect_unchanged(server, task)


@check("security")
def no_other_site_is_given_leave_to_read(server):
    origin = {"Origin": "http://evil.example"}
    asked = {**origin, "Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "content-type"}
    task = add_task(server, title="mine")
    rows = [("GET", "/api/tasks", None, origin, 200), ("GET", "/server", None, {"Origin": "null"}, 200),
            ("POST", "/api/task", {"title": ""}, origin, 400), ("GET", "/nothing", None, origin, 404)]
    rows += [("OPTIONS", target, None, asked, status) for target, status in
             (("/api/task", 405), ("/api/tasks", 405), (f"/api/tasks/{task['id']}", 405), ("/nothing", 404), ("*", 400))]
    expect_each(rows, lambda method, target, body, headers, status: expect(
        expect_no_leave(server.http(method, target, body, headers=headers)).status, status))
    expect_unchanged(server, task)


# ---- Text for whoever reads the log -------------------------------------------------------------------------------------

TRICKS = ("\x1b[2J\x1b[31mred", "\x1b]0;title\x07", "\x9b31m", "a\rb", "a\0b", "a\x7fb", "a\x08b", "a\x0bb",
          "\u202egnp.exe", "\u2066\u2069", "\u2028line", "\u200e\u200f\u061c", "\ufeff", "%1b[31m%0d%0a", "{} {0} %s %n")


@check("security", "-v", ours=True,
       fault=Fault("escape sequences, control characters and bytes that are no text, in lines, targets, methods and headers",
                   "is answered", "who read the log see one line for each request, and printable text alone"))
def the_log_is_one_printable_line_for_each_request(server):
    texts = [trick.encode() for trick in TRICKS] + [b"\x9b31m", b"\xff\xfe", b"\xc3", b"\xed\xa0\x80", b"\xe2\x80\xae" * 100]
    host = b" HTTP/1.1\r\nHost: localhost\r\n"
    messages = [message for text in texts for message in (
        b"list " + text + b"\n", b"GET /" + text + host + b"\r\n", b"GET /fib/6?" + text + host + b"\r\n",
        text + b" /fib/6" + host + b"\r\n", b"GET /fib/6" + host + b"X-Forwarded-For: " + text + b"\r\n\r\n")]
    for message in messages:
        expect(answer_to(server, message) != b"", True, f"there is an answer to {message}")
    expect(server.stop(), 0, "the exit status")
    lines = server.log_path.read_bytes().split(b"\n")
    expect(lines.pop(), b"", "what stands behind the last line")

    def row(line):
        text = line.decode()
        expect(text.isprintable(), True, "all of it is printable")
        expect_match(text, LOG_LINE)

    expect_each([(line,) for line in lines], row)
    expect(len([line for line in lines if re.search(rb"\] \[INFO\] \d{3} ", line)]), len(messages), "lines about requests")


# ---- How the programs are built -----------------------------------------------------------------------------------------

def read_elf(data):
    """What kind of file it is, its segments by their types as pairs of flags and contents, and its dynamic entries (elf(5))."""
    if data[:6] != b"\x7fELF\2\1":
        raise NotRun("not a 64-bit little-endian ELF file")
    kind, = struct.unpack_from("<H", data, 16)
    table, = struct.unpack_from("<Q", data, 32)
    size, number = struct.unpack_from("<HH", data, 54)
    segments = {}
    for place in range(table, table + size * number, size):
        what, flags, offset, _, _, length = struct.unpack_from("<IIQQQQ", data, place)
        segments[what] = (flags, data[offset:offset + length])
    return kind, segments, dict(struct.iter_unpack("<QQ", segments[2][1]))


@check_program("security", only=lambda stage: not stage.options)
def the_programs_are_hardened(program):
    path = Path(program.path_of(program.stage))
    data = path.read_bytes()
    kind, segments, dynamic = read_elf(data)
    stack, relro = segments.get(0x6474E551), segments.get(0x6474E552)
    expect(kind, 3, "ET_DYN: it is loaded anywhere (PIE)")
    expect(stack is not None and stack[0] & 1, 0, "whether its stack can be executed")
    expect(relro is not None, True, "what is linked is read-only (RELRO)")
    now = 24 in dynamic or dynamic.get(30, 0) & 8 or dynamic.get(0x6FFFFFFB, 0) & 1
    expect(bool(now), True, "all of it is linked at the start (BIND_NOW)")
    expect(b"\0__stack_chk_fail" in data, True, "the stack is guarded")
    if path.parent.parent == ROOT:      # the release build; the others are for finding faults
        expect(bool(re.search(rb"\0__\w+_chk[@\0]", data)), True, "calls are checked for the sizes of their buffers")
