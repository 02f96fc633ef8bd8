"""What the clients say to a server over HTTP, and what they take for an answer."""
import http.client
import io
import string
import types
import urllib.parse


class ErrorAnswer(Exception):
    """The server has answered, and says that something is wrong."""


def check(request, line):
    """An answer must be a line: not the end of the connection, perhaps in the midst of it, and not an error."""
    if not line.endswith(b"\n"):
        raise ConnectionError("the server closed the connection")
    if line.startswith(b"error:"):
        raise ErrorAnswer(f"{request}: {line.decode(errors='replace').strip()}")


def get(options, path):
    """The bytes of a GET request, after whose answer the server shall close the connection."""
    host = f"[{options.host}]" if ":" in options.host else options.host
    path = urllib.parse.quote(path, safe=string.punctuation)
    return f"GET {path} HTTP/1.1\r\nHost: {host}:{options.port}\r\nConnection: close\r\n\r\n".encode()


def served_by(path, answer):
    """Who gave this answer. It has come whole; as http.client reads from a socket's file, it is given one."""
    response = http.client.HTTPResponse(types.SimpleNamespace(makefile=lambda mode: io.BytesIO(answer)))
    response.begin()
    body = response.read().decode(errors="replace")
    if response.status >= 400:
        raise ErrorAnswer(f"GET {path}: {response.status} {body}")
    return response.getheader("X-Served-By")
