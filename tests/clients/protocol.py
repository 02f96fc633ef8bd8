"""What the clients say to a server over HTTP, and how they check an answer."""
import http.client
import io
import string
import types
import urllib.parse


class ErrorAnswer(Exception):
    """The server has answered, and says that something is wrong."""


def check(request, line):
    """Raises an exception if the connection ended before the end of the line, or if the answer is an error."""
    if not line.endswith(b"\n"):
        raise ConnectionError("the server closed the connection")
    if line.startswith(b"error:"):
        raise ErrorAnswer(f"{request}: {line.decode(errors='replace').strip()}")


def get(options, path):
    """The bytes of a GET request, which tells the server to close the connection after the answer."""
    host = f"[{options.host}]" if ":" in options.host else options.host
    path = urllib.parse.quote(path, safe=string.punctuation)
    return f"GET {path} HTTP/1.1\r\nHost: {host}:{options.port}\r\nConnection: close\r\n\r\n".encode()


def served_by(path, answer):
    """Which server gave this answer, which has come whole. http.client reads only from a socket, so it gets a stand-in."""
    response = http.client.HTTPResponse(types.SimpleNamespace(makefile=lambda mode: io.BytesIO(answer)))
    response.begin()
    body = response.read().decode(errors="replace")
    if response.status >= 400:
        raise ErrorAnswer(f"GET {path}: {response.status} {body}")
    return response.getheader("X-Served-By")
