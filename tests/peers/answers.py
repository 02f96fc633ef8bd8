"""What the peers in Python answer: part of what the six servers do, with tasks from a dict."""

tasks = {}
for number in range(10):
    uuid = f"00000000-0000-4000-8000-00000000000{number}"
    tasks[uuid] = {"id": uuid, "title": f"task {number}", "description": "two litres", "done": False}


def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)
