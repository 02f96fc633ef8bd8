"""Tornado: tornado_app.py PORT"""
import asyncio
import json
import sys

from answers import fib, tasks
from tornado.web import Application, RequestHandler


class Computes(RequestHandler):
    def get(self, n):
        self.write({"n": int(n), "fib": fib(int(n))})


class Waits(RequestHandler):
    async def get(self, seconds):
        await asyncio.sleep(float(seconds))
        self.write({"slept": float(seconds)})


class Everything(RequestHandler):
    def get(self):
        self.set_header("Content-Type", "application/json")
        self.write(json.dumps(list(tasks.values())))


class One(RequestHandler):
    def get(self, uuid):
        self.write(tasks[uuid])


async def main():
    Application([(r"/fib/(\d+)", Computes), (r"/sleep/([\d.]+)", Waits), (r"/api/tasks", Everything),
                 (r"/api/tasks/(.+)", One)]).listen(int(sys.argv[1]), "127.0.0.1")
    await asyncio.Event().wait()


asyncio.run(main())
