"""Flask, with what the benchmark asks: gunicorn flask_app:app"""
from flask import Flask, jsonify

app = Flask(__name__)
app.json.sort_keys = False
tasks = {}
for number in range(10):
    uuid = f"00000000-0000-4000-8000-00000000000{number}"
    tasks[uuid] = {"id": uuid, "title": f"task {number}", "description": "two litres", "done": False}


@app.get("/fib/1")
def fib():
    return jsonify(n=1, fib=1)


@app.get("/api/tasks")
def everything():
    return jsonify(list(tasks.values()))


@app.get("/api/tasks/<uuid>")
def one(uuid):
    return jsonify(tasks[uuid])
