"""What must not get in or out: messages that two parsers could read differently, input past every limit, requests of other
people's web pages, and text that tricks the reader of the log."""
import contextlib
import os
import random
import re
import struct
import subprocess
from pathlib import Path

from harness.checks import Failure, Fault, NotRun, check, check_program, expect, expect_each, expect_like, expect_match
from harness.client import request
from harness.clients import SIZE, expect_served
from harness.web import JSON, POST, add_task, expect_error, head
from harness.process import LOG_LINE, expect_grown_less
from harness.system import most_memory

ROOT = Path(__file__).resolve().parent.parent.parent


def answer_to(server, data):
    """Sends these bytes on a new connection, and half-closes it. Returns all that comes."""
    with server.connect() as client:
        with contextlib.suppress(Failure):      # the server may close before all of it is sent
            client.send(data)
            client.half_close()
        return client.rest()


# ---- Two views of one stream --------------------------------------------------------------------------------------------

SMUGGLED = request("POST", "/api/task", {"title": "smuggled"})
SIZE_OF_IT = len(SMUGGLED)


def sized(length, first=POST):
    """A request with this length. What follows its head must be taken for its body, or for nothing."""
    return head(f"Content-Length: {length}", first=first) + SMUGGLED


def coded(field):
    """... with this header field, and a body of one chunk for a server that reads it as Transfer-Encoding: chunked."""
    return head(field, first=POST) + b"%x\r\n%s\r\n0\r\n\r\n" % (SIZE_OF_IT, SMUGGLED)


def chunk(line, end=b"\r\n", trailer=b""):
    """... whose only chunk begins with this line."""
    return head("Transfer-Encoding: chunked", first=POST) + line + SMUGGLED + end + b"0\r\n" + trailer + b"\r\n"


# What is sent, and the statuses of all responses. 415: the body was read as a body, but is not declared to be JSON. Some
# rows have a second list, because llhttp's versions differ: either answer is right.
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
    "a length with a tab behind it": (sized(f"{SIZE_OF_IT}\t"), [415]),
    "a length with tabs and blanks around it": (sized(f"\t {SIZE_OF_IT}\t \t"), [415]),
    "a length with a tab inside": (sized(f"{SIZE_OF_IT}\t{SIZE_OF_IT}"), [400]),
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
    "chunks with a tab behind": (coded("Transfer-Encoding: chunked\t"), [415]),
    "chunks with tabs and blanks around": (coded("Transfer-Encoding:\t chunked \t "), [415]),
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
    "a coding whose name has an underscore": (coded("Transfer_Encoding: chunked"), [415, 501]),     # a chunk names no method
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
    "a length in a trailer": (chunk(b"%x\r\n" % SIZE_OF_IT, trailer=b"Content-Length: 5\r\n"), [415], [400]),
    "a trailer in a folded line": (chunk(b"%x\r\n" % SIZE_OF_IT, trailer=b"X: y\r\n z\r\n"), [400]),
    "a trailer in a line folded with a tab": (chunk(b"%x\r\n" % SIZE_OF_IT, trailer=b"X: y\r\n\tz\r\n"), [400]),
    "a trailer without a name": (chunk(b"%x\r\n" % SIZE_OF_IT, trailer=b": y\r\n"), [400]),
    "a trailer with a NUL": (chunk(b"%x\r\n" % SIZE_OF_IT, trailer=b"X: \0\r\n"), [400]),
    "the beginning of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SMUGGLED, [505]),
    "several blanks behind the method": (sized(SIZE_OF_IT, first="POST  /api/task HTTP/1.1"), [400]),
    "several blanks before the version": (sized(SIZE_OF_IT, first="POST /api/task  HTTP/1.1"), [400]),
    "a blank behind the version": (sized(SIZE_OF_IT, first="POST /api/task HTTP/1.1 "), [400]),
    "a bare CR before the request": (b"\r" + sized(SIZE_OF_IT), [400]),
    "a bare CR before the second request": (head() + b"\r" + sized(SIZE_OF_IT), [200, 400]),
    "two equal types": (sized(f"{SIZE_OF_IT}\r\nContent-Type: application/json\r\nContent-Type: application/json"), [400]),
    "two types": (sized(f"{SIZE_OF_IT}\r\nContent-Type: text/plain\r\nContent-Type: application/json"), [400]),
    "tabs in the request line": (b"POST\t/api/task HTTP/1.1\r\nHost: localhost\r\n\r\n" + SMUGGLED, [400]),
    "a NUL in the path": (sized(SIZE_OF_IT, first="POST /api/task%00 HTTP/1.1"), [400]),
    "an encoded slash in the path": (sized(SIZE_OF_IT, first="POST /api%2ftask HTTP/1.1"), [404]),
    "two dots in the path": (sized(SIZE_OF_IT, first="POST /fib/../api/task HTTP/1.1"), [404]),
    "an absolute target and another Host": (sized(SIZE_OF_IT, first="POST http://evil.example/api/task HTTP/1.1"), [421]),
    "a user in an absolute target": (sized(SIZE_OF_IT, first="POST http://localhost@evil.example/api/task HTTP/1.1"), [400]),
    "an absolute target that wants TLS": (sized(SIZE_OF_IT, first="POST https://localhost/api/task HTTP/1.1"), [421]),
}


@check("security", ours=True,
       fault=Fault("nearly eighty requests that two parsers could read differently (request smuggling)",
                   "gets one error and the end, or the one right answer; nothing hidden is carried out", "are served"))
def no_request_can_be_read_in_two_ways(server):
    def row(what):
        data, *right = SHAPES[what]
        number = len(right[0]) if server.stage.keeps_http_open else 1
        with server.connect() as client:
            client.send(data)
            client.half_close()
            came = [client.response().status for _ in range(number)]
            expect(client.rest(), b"", "what follows the responses")
        expect(came in [statuses[:number] for statuses in right], True, f"the statuses, {came}, are those of {right}")

    expect_each([(what,) for what in SHAPES], row)
    expect(server.list(), [], "the tasks")


@check("security", fault=Fault("HTTP behind lines, lines behind HTTP",
                               "gets errors; nothing of the other protocol is carried out", "are served"))
def no_connection_speaks_two_protocols(server):
    error = rb"(error: [^\n]*\n)"
    rows = [(b"6\n" + SMUGGLED, rb"fib: 8\n" + error), (b"GET /fib/6\tHTTP/1.1\n" + SMUGGLED, error + b"{2}"),
            (b"get /fib/6 http/1.1\r\n" + SMUGGLED, error + b"{2}"), (b"quit\n" + SMUGGLED, b"bye:\n"),
            (b"x" * 9000 + b"\n" + SMUGGLED, error + b"{2}"),
            (head("Connection: close") + b"add smuggled\n", rb'HTTP/1\.1 200 [^{]*\{"n":6,"fib":8\}'),
            (head(first="GET /fib/6 HTTP/9.9") + b"add smuggled\n", rb"HTTP/1\.1 505 [^{]*\{.*\}"),
            (b"POST /" + b"x" * 9000 + b"\nadd smuggled\n", rb"HTTP/1\.1 414 [^{]*\{.*\}"),
            (b"POST /" + b"x" * 20_000 + b"\nadd smuggled\n", rb"HTTP/1\.1 414 [^{]*\{.*\}")]
    expect_each(rows, lambda data, answer: expect_like(answer_to(server, data), answer))
    expect(server.list(), [], "the tasks")


def expect_error_and_end(server, sent, before=b""):
    """What is sent gets these replies, one error and the end. No line behind it is carried out."""
    with server.connect() as client:
        client.send(sent + b"add evil\nquit\n")
        expect_like(client.rest(), re.escape(before) + rb"error: [^\n]+\n")


BINARY = {
    "a TLS hello with a line in it": b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(range(11, 43)) + b"\n",
    "a TLS hello behind empty lines": b"\n \r\n\x16\x03\n",
    "a NUL": b"\0\n",
    "a control character behind a command": b"add \x01\n",
    "a bare CR": b"add a\rb\n",
    "nothing but a bare CR": b"\r\r\n",
    "DEL": b"\x7f\n",
    "a C1 control character": b"6\xc2\x9b\n",
    "a byte that is not UTF-8": b"add \xff\r\n",
    "half a character": b"add \xc3\n",
    "the second version of the PROXY protocol": b"\r\n\r\n\0\r\nQUIT\n!\x11\0\x0c\x7f\0\0\1\x7f\0\0\1\xdc\4'\x0f",
    "bytes that begin no character, more than fit into a line": b"\x80" * 9000 + b"\n",
    "a byte that is not UTF-8, as the last that fits into a line": b"x" * 8191 + b"\xff" * 900 + b"\n",
}


@check("security", row=True,
       fault=Fault("a first line that is not text, such as a TLS hello", "gets one error and the end",
                   "are served; no line behind it is carried out"))
def a_first_line_that_is_not_text_is_one_error_and_the_end(server):
    expect_each([(what,) for what in BINARY], lambda what: expect_error_and_end(server, BINARY[what]))
    expect(server.list(), [], "the tasks")


@check("security")
def tls_is_refused_at_once(server):
    for hello in b"\x16\x03", b"\x16\x03\x01 HTTP/1.1":
        with server.connect() as client:
            client.send(hello)
            expect_match(client.line(), "error: .*TLS.*", "a line that has no end yet")
            expect(client.rest(), b"")
    with server.connect() as client:
        client.send(b"\x16")
        client.wait_until_read()
        expect(client.has_reply(), False, "a reply before it is known to be TLS")
        client.send(b"\x03")
        expect_match(client.line(), "error: .*TLS.*")
        expect(client.rest(), b"")


@check("security")
def a_long_first_line_of_text_keeps_the_connection_open(server):
    for line in "é" * 4096 + "x\n", "x" + "é" * 4096 + "\n", "xx" + "🐧" * 4096 + "\n":
        with server.connect() as client:
            client.send(line + "6\n")
            expect_match(client.line(), "error: .+")
            expect(client.line(), "fib: 8")


@check("security", row=True,
       fault=Fault("an HTTP request behind a line or a PROXY header, with lines in its body",
                   "gets one error and the end", "are served; no line of the body is carried out"))
def an_http_request_behind_a_line_is_one_error_and_the_end(server):
    for line in (b"POST /x HTTP/1.1\r\n", b"GET  /fib/6\tHTTP/1.0\n", b" GET / HTTP/9 \n",
                 b"POST /" + b"x" * 9000 + b" HTTP/1.1\n"):
        expect_error_and_end(server, b"6\n" + line + b"Host: x\r\n\r\n", before=b"fib: 8\n")
    for first in b"PROXY TCP4 127.0.0.1 127.0.0.1 56324 9999\r\n", b"PROXY UNKNOWN\r\n":
        expect_error_and_end(server, first + request("POST", "/nothing", b"add forged\r\nadd forged\r\n"))
    expect(server.list(), [], "the tasks")


# ---- Past every limit ---------------------------------------------------------------------------------------------------

CHUNKED = head("Transfer-Encoding: chunked", first=POST)
FOREVER = {
    "a line": (b"", b"x", rb"error: .*\n"),
    "empty lines": (b"", b"\r\n", b""),
    "a request line": (b"GET /", b"x", rb"HTTP/1\.1 414 .*"),
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
def endless_input_is_one_error_and_is_not_kept(server):
    def row(what):
        beginning, more, answer = FOREVER[what]
        with server.connect() as client:
            pid = client.served_by()
            before = most_memory(pid)
            client.send(beginning)
            with contextlib.suppress(Failure):          # the server may close before all of it is sent
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
    """Random bytes, or pieces of both protocols in any order, with some bits wrong."""
    if NUMBERS.random() < 0.2:
        return bytes(NUMBERS.choices(range(256), k=NUMBERS.randrange(300)))
    data = bytearray(b"".join(NUMBERS.choices(PIECES, k=NUMBERS.randrange(1, 12))))
    for place in NUMBERS.sample(range(len(data)), NUMBERS.choice([0, 0, 1, 3]) % len(data)):
        data[place] ^= 1 << NUMBERS.randrange(8)
    return bytes(data)


NOISE = [noise() for _ in range(150 * SIZE)]


@check("security", "--max-fib", "20", fault=Fault("random bytes, and pieces of both protocols in random order",
                                                  "gets clear errors, or answers to what happens to be valid, and the end",
                                                  "are served"))
def random_bytes_are_answered_in_words(server):
    def row(data):
        answer = answer_to(server, data).decode()
        expect_match(answer[:12], r"(HTTP/1\.1 (200|201|4\d\d|501|505)|(fib|added|tasks|count|error): [^\0]*|)")

    expect_each([(data,) for data in NOISE], row)
    expect_served(server)


@check("security", fault=Fault("JSON nested as deeply as fits into a body", "gets the one right answer", "are served"))
def deep_json_overflows_nothing(server):
    for opening, closing in (b"[", b"]"), (b'{"":', b"}"):
        times = 65_000 // len(opening + closing)
        inner = b"1" if opening == b'{"":' else b""
        nest = opening * times + inner + closing * times
        expect_error(server.http("POST", "/api/task", nest if opening == b"[" else b"[" + nest + b"]", headers=JSON), 400)
        expect_error(server.http("POST", "/api/task", (opening * 65_000)[:65_000], headers=JSON), 400)
        whole = b'{"title": "deep", "more": ' + nest + b"}"
        response = server.http("POST", "/api/task", whole, headers=JSON)
        expect((response.status, response.json.get("title")), (201, "deep"), "a member that no task has is ignored")
    expect_served(server)


# ---- Other people's web pages -------------------------------------------------------------------------------------------

def expect_no_leave(response):
    """No header of the answer lets another site's page read it (CORS)."""
    expect([name for name in response.headers if name.startswith("access-control-")], [], "headers that let others read")
    return response


def expect_unchanged(server, task):
    expect(server.http("GET", "/api/tasks").json, [task], "the tasks")


@check("security", fault=Fault("requests of a page whose name was rebound to this machine (DNS rebinding)",
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


@check("security", fault=Fault("another site's form, which a browser sends without asking (CSRF), also with lines in it",
                               "gets 415: nothing is changed; no line of it is carried out", "are served"))
def a_form_of_another_site_changes_nothing(server):
    task = add_task(server, title="mine")

    def row(method, target, content_type, body):
        headers = {"Content-Type": content_type, "Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}
        for long, status in ("", 415), ("?" + "x" * 9000, 414):
            response = expect_no_leave(server.http(method, target + long, body, headers=headers))
            expect_error(response, status)

    expect_each([(*where, *form) for form in FORMS for where in (("POST", "/api/task"), ("POST", "/api/tasks"),
                                                                 ("PUT", f"/api/tasks/{task['id']}"))], row)
    expect_unchanged(server, task)


@check("security")
def no_other_site_may_read_the_answers(server):
    origin = {"Origin": "http://evil.example"}
    asked = {**origin, "Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "content-type"}
    task = add_task(server, title="mine")
    rows = [("GET", "/api/tasks", None, origin, 200), ("GET", "/server", None, {"Origin": "null"}, 200),
            ("POST", "/api/task", {"title": ""}, origin, 400), ("GET", "/nothing", None, origin, 404)]
    rows += [("OPTIONS", target, None, asked, status) for target, status in
             (("/api/task", 204), ("/api/tasks", 204), (f"/api/tasks/{task['id']}", 204), ("/nothing", 404), ("*", 204))]
    expect_each(rows, lambda method, target, body, headers, status: expect(
        expect_no_leave(server.http(method, target, body, headers=headers)).status, status))
    expect_unchanged(server, task)


# ---- Text for the reader of the log -------------------------------------------------------------------------------------

TRICKS = ("\x1b[2J\x1b[31mred", "\x1b]0;title\x07", "\x9b31m", "a\rb", "a\0b", "a\x7fb", "a\x08b", "a\x0bb",
          "\u202egnp.exe", "\u2066\u2069", "\u2028line", "\u200e\u200f\u061c", "\ufeff", "%1b[31m%0d%0a", "{} {0} %s %n")


@check("security", "-v", ours=True,
       fault=Fault("escape sequences, control characters and bytes that are no text, in lines, targets, methods and headers",
                   "is answered", "are served; the log has one line for each request, all of it printable"))
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
    expect(lines.pop(), b"", "what follows the last line")

    def row(line):
        text = line.decode()
        expect(text.isprintable(), True, "all of it is printable")
        expect_match(text, LOG_LINE)

    expect_each([(line,) for line in lines], row)
    expect(len([line for line in lines if re.search(rb"\] \[INFO\] \d{3} ", line)]), len(messages), "lines about requests")


# ---- How the programs are built -----------------------------------------------------------------------------------------

def read_elf(data):
    """The file's type, its segments (by type: flags and contents) and its dynamic entries; see elf(5)."""
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
    expect(kind, 3, "ET_DYN: it can be loaded anywhere (PIE)")
    expect(stack is not None and stack[0] & 1, 0, "whether its stack can be executed")
    expect(relro is not None, True, "relocated data becomes read-only (RELRO)")
    now = 24 in dynamic or dynamic.get(30, 0) & 8 or dynamic.get(0x6FFFFFFB, 0) & 1
    expect(bool(now), True, "all symbols are resolved at the start (BIND_NOW)")
    expect(b"\0__stack_chk_fail" in data, True, "the stack is guarded by a canary")
    if path.parent.parent == ROOT:      # the release build; the others are for finding faults
        expect(bool(re.search(rb"\0__\w+_chk[@\0]", data)), True, "calls check the sizes of their buffers")


@check_program("security", only=lambda stage: not stage.options)
def every_source_of_the_programs_is_compiled_hardened(program):
    if Path(program.path_of(program.stage)).parent.parent != ROOT:
        raise NotRun("the other builds are for finding faults")
    make = subprocess.run(["make", "--always-make", "--dry-run", program.stage.name], cwd=ROOT, check=True, text=True,
                          stdout=subprocess.PIPE, env={**os.environ, "MAKEFLAGS": ""})
    commands = {re.search(r" -o (\S+)\.o\b", line)[1]: line.split() for line in make.stdout.splitlines() if " -c " in line}
    sources = {path.relative_to(ROOT).with_suffix("") for folder in ("common", program.stage.name)
               for path in (ROOT / folder).rglob("*.cpp") if not path.name.startswith("naive")}
    objects = [f"build/release/{source}" for source in (*sorted(sources), "llhttp/llhttp", "llhttp/api", "llhttp/http")]
    flags = "-fstack-protector-strong", "-D_FORTIFY_SOURCE=2", "-fPIE", "-O2"
    expect_each([(name,) for name in objects], lambda name: expect(
        [flag for flag in flags if flag not in commands.get(name, ())], [], "flags that it is compiled without"))
