"""Helpers for checks that speak HTTP."""
from harness.checks import expect

JSON = {"Content-Type": "application/json"}
NO_SUCH_TASK = "/api/tasks/00000000-0000-4000-8000-000000000000"
POST = "POST /api/task HTTP/1.1"


def expect_json(response, body, status=200):
    expect((response.status, response.headers.get("content-type", "").split(";")[0]), (status, "application/json"),
           f"the response, whose body is {response.body[:200]}")
    expect(response.json, body)


def expect_error(response, status):
    """The error is a JSON object that says in words what is wrong."""
    expect(response.status, status, f"the status of the response, whose body is {response.body[:200]}")
    expect(response.headers.get("content-type", "").split(";")[0], "application/json")
    expect(list(response.json), ["error"], "the members of an error")
    expect(isinstance(response.json["error"], str) and response.json["error"] != "", True, f"words in {response.json}")
    return response


def add_task(server, **members):
    """Adds a task with these members over a connection of its own; returns it."""
    response = server.http("POST", "/api/task", members)
    expect(response.status, 201, f"the status of the response, whose body is {response.body[:200]}")
    return response.json


def head(*lines, first="GET /fib/6 HTTP/1.1", host="Host: localhost"):
    """A request head, line by line, such as no client library would write."""
    return "\r\n".join([first, *([host] if host else []), *lines, "", ""]).encode("latin-1")
