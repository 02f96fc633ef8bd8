"""One client of a server under test."""
import fcntl
import json
import socket
import struct
import termios
from dataclasses import dataclass

from harness.checks import Failure, Gone, expect, expect_match, short, wait_for
from harness.system import broken, endpoint, has_open, readable, watched_by


@dataclass(frozen=True)
class Response:
    status: int
    headers: dict
    body: bytes

    @property
    def json(self):
        try:
            return json.loads(self.body)
        except ValueError:
            raise Failure(f"not JSON: {short(self.body)}") from None


def request(method, target, body=None, headers=None, host="localhost", version="HTTP/1.1"):
    """The bytes of an HTTP request. A dict as body is sent as JSON. `headers` replace those sent otherwise."""
    fields = {} if host is None else {"Host": host}
    if isinstance(body, dict):
        body = json.dumps(body).encode()
        fields["Content-Type"] = "application/json"
    if body is not None:
        fields["Content-Length"] = str(len(body))
    fields.update(headers or {})
    head = [f"{method} {target} {version}"] + [f"{name}: {value}" for name, value in fields.items()]
    return "\r\n".join(head + ["", ""]).encode("latin-1") + (body or b"")


class Client:
    """One connection to a server, in either protocol. If the check fails, the report shows what was sent and received."""

    def __init__(self, server, small_buffers=False, reads_late=False):
        self.server = server
        self.patience = server.program.patience
        self.received = b""
        self.socket = socket.socket(server.family)
        if small_buffers or reads_late:     # so that unread replies stay with the server
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        if small_buffers:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.socket.settimeout(self.patience)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect(server.address)
        self.here, self.there = self.socket.getsockname()[:2], self.socket.getpeername()[:2]
        self.port = self.here[1]
        server.program.clients.append(self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _note(self, mark, data):
        self.server.program.notes.append(f"[{self.port}] {mark} {short(data)}")

    def send(self, data):
        data = data.encode() if isinstance(data, str) else data
        self._note("sent", data)
        try:
            self.socket.sendall(data)
        except ConnectionError as error:
            raise Gone(f"cannot send {short(data)}: {error}") from None
        except socket.timeout as error:
            raise Failure(f"cannot send {short(data)}: {error}") from None

    def send_in_pieces(self, data, size):
        """Sends `size` bytes at a time, each piece after the server has read the one before."""
        for start in range(0, len(data), size):
            self.send(data[start:start + size])
            self.wait_until_read()

    def half_close(self):
        """Sends no more, but still reads: what `nc -N` does when its input ends."""
        self._note("half-closes", b"")
        self.socket.shutdown(socket.SHUT_WR)

    def close(self):
        self.socket.close()

    def reset(self):
        """Resets the connection, as a client may that crashes."""
        self._note("resets", b"")
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def other_end(self):
        """The server's end of the connection; None when it is gone."""
        return endpoint(self.there, self.here)

    def wait_until_read(self):
        """Waits until the server has read all that was sent. A request in it is then in progress."""
        def arrived():
            if struct.unpack("i", fcntl.ioctl(self.socket, termios.TIOCOUTQ, b"\0" * 4))[0] == 0:
                return True
            if broken(self.socket):
                raise Failure("the connection broke before the bytes sent arrived")

        def read():
            end = self.other_end()
            return not end or end.unread == 0

        wait_for(arrived, "the bytes sent arrived", self.patience)
        wait_for(read, "the server read the bytes sent", self.patience)

    def wait_until_let_go(self):
        """Waits until the server's process no longer holds the connection."""
        def let_go():
            end = self.other_end()
            return not (end and end.owned)

        wait_for(let_go, "the server let the client go", self.patience)

    def wait_until_accepted(self):
        """Waits until a process of the server has the connection, whether or not it serves it yet."""
        wait_for(self.is_accepted, "the server accepted the client", self.patience)

    def is_accepted(self):
        """Whether a process of the server has the connection now."""
        end = self.other_end()
        return bool(end and end.inode)

    def served_by(self):
        """The id of the process that has this connection."""
        def holder():
            end = self.other_end()
            pid = next((pid for pid in reversed(self.server.pids()) if end and has_open(pid, end.inode)), None)
            if not pid and readable(self.socket):
                raise Gone("the server closed the connection before it was seen which process has it")
            return pid

        return wait_for(holder, "a process of the server had the connection", self.patience)

    def loop(self):
        """What else would wait if this client's request were computed: the process or, if its loops are threads, which one."""
        pid = self.served_by()
        return (pid, watched_by(pid, self.other_end().inode)) if self.server.stage.loops_in_threads else pid

    def has_reply(self):
        """Whether something has come that the check has not taken yet. Does not wait."""
        return bool(self.received) or readable(self.socket)

    def _receive(self):
        """Waits until something comes, and takes it. False at the end of the connection."""
        try:
            data = self.socket.recv(1 << 20)
        except socket.timeout:
            raise Failure(f"nothing more came within {self.patience:g} s after {short(self.received)}") from None
        except ConnectionError as error:
            raise Gone(f"{error} after {short(self.received)}") from None
        self._note("came", data)
        self.received += data
        return bool(data)

    def _take(self, size):
        taken, self.received = self.received[:size], self.received[size:]
        return taken

    def _until(self, delimiter):
        while delimiter not in self.received:
            if not self._receive():
                raise Gone(f"the connection was closed after {short(self.received)}")
        return self._take(self.received.index(delimiter) + len(delimiter))

    def line(self):
        """The next line without its LF (a CR would show)."""
        return self._until(b"\n")[:-1].decode()

    def lines(self, number):
        return [self.line() for _ in range(number)]

    def ask(self, line):
        """Sends one line and returns the first line of the reply."""
        self.send(line + ("\n" if isinstance(line, str) else b"\n"))
        return self.line()

    def exactly(self, size):
        """The next `size` bytes."""
        while len(self.received) < size:
            if not self._receive():
                raise Gone(f"expected {size} bytes, came {short(self.received)} and the end")
        return self._take(size)

    def rest(self):
        """All that comes until the server closes the connection."""
        while self._receive():
            pass
        return self._take(len(self.received))

    def response(self, method="GET"):
        """The next HTTP response (to this method), read as RFC 9112, section 6.3, says."""
        while b"\r\n\r\n" not in self.received:
            if not self._receive():
                raise Gone(f"expected an HTTP response, came {short(self.received)} and the end")
            if self.received == b"error: server is full\n":
                raise Gone("refused")
            if not self.received.startswith(b"HTTP/"[:len(self.received)]):
                raise Failure(f"expected an HTTP response, came {short(self.received)}")
        first, *fields = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")[:-2]
        status = int(expect_match(first, r"HTTP/1\.[01] (\d{3}) .*").group(1))
        pairs = [expect_match(field, r"([^\s:]+):[ \t]*(.*?)[ \t]*").groups() for field in fields]
        headers = {name.lower(): value for name, value in pairs}
        expect(len(headers), len(pairs), "no header twice")
        if method == "HEAD" or status < 200 or status in (204, 304):
            return Response(status, headers, b"")
        if "content-length" not in headers:
            return Response(status, headers, self.rest())
        return Response(status, headers, self.exactly(int(headers["content-length"])))

    def http(self, method, target, body=None, **options):
        """Sends a request and returns its response."""
        self.send(request(method, target, body, **options))
        return self.response(method)
