"""Clients that nobody here wrote: nc, curl and Python's http.client."""
import http.client
import json
import subprocess

from harness.checks import Failure, check, expect, expect_match


def output_of(server, *command, given=""):
    """Standard output of a command that must succeed."""
    finished = subprocess.run(command, input=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              timeout=server.program.patience, check=False)
    server.program.notes.append(f"{' '.join(command)}: status {finished.returncode}, {finished.stdout!r}, {finished.stderr!r}")
    if finished.returncode != 0:
        raise Failure(f"{command[0]} ended with status {finished.returncode}")
    return finished.stdout


def curl(server, path, *options):
    return output_of(server, "curl", "--silent", "--show-error", *options, f"http://localhost:{server.port}{path}")


@check("clients", row=True)
def nc_is_answered_with_and_without_a_newline(server):
    for given, came in ("30", "fib: 832040\n"), ("6\n30\n", "fib: 8\nfib: 832040\n"), ("6\r\nquit\r\n", "fib: 8\nbye:\n"):
        expect(output_of(server, "nc", "-N", "127.0.0.1", str(server.port), given=given), came)


@check("clients")
def curl_reads_and_writes_tasks(server):
    expect(curl(server, "/api/tasks"), "[]")
    task = json.loads(curl(server, "/api/task", "--header", "Content-Type: application/json", "--data", '{"title": "milk"}'))
    place = f"/api/tasks/{task['id']}"
    changed = json.loads(curl(server, place, "--request", "PUT", "--header", "Content-Type: application/json",
                              "--data", '{"done": true}'))
    expect(changed, {**task, "done": True})
    expect(curl(server, place, "--request", "DELETE"), "")
    expect(curl(server, "/api/tasks"), "[]")


@check("clients")
def curl_works_with_http_1_0_head_keep_alive_and_chunks(server):
    expect(json.loads(curl(server, "/fib/30", "--http1.0")), {"n": 30, "fib": 832040})
    expect(curl(server, "/fib/30", "--head").split()[1], "200")
    expect(curl(server, "/nothing", "--output", "/dev/null", "--write-out", "%{http_code}"), "404")
    both = curl(server, "/fib/6", f"http://localhost:{server.port}/fib/10")
    expect_match(both, r'\{"n":10,"fib":55\}\{"n":6,"fib":8\}')
    for way in "Transfer-Encoding: chunked", "Expect: 100-continue":
        posted = curl(server, "/api/task", "--header", "Content-Type: application/json", "--header", way,
                      "--data", '{"title": "milk"}')
        expect(json.loads(posted)["title"], "milk", way)


@check("clients")
def http_client_keeps_a_list(server):
    connection = http.client.HTTPConnection("localhost", server.port, timeout=server.program.patience)

    def ask(method, target, body=None):
        headers = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, target, body and json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read() or b"null")

    status, task = ask("POST", "/api/task", {"title": "milk"})
    expect((status, task["title"]), (201, "milk"))
    place = f"/api/tasks/{task['id']}"
    expect(ask("GET", place), (200, task))
    expect(ask("PUT", place, {"title": "oat milk"}), (200, {**task, "title": "oat milk"}))
    expect(ask("DELETE", place), (204, None))
    expect(ask("GET", "/api/tasks"), (200, []))
    connection.close()
