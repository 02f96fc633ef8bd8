"""Flask: gunicorn flask_app:app"""
import time

from answers import fib, tasks
from flask import Flask, jsonify

app = Flask(__name__)
app.json.sort_keys = False


@app.get("/fib/<int:n>")
def computes(n):
    return jsonify(n=n, fib=fib(n))


@app.get("/sleep/<seconds>")
def waits(seconds):
    time.sleep(float(seconds))
    return jsonify(slept=float(seconds))


@app.get("/api/tasks")
def everything():
    return jsonify(list(tasks.values()))


@app.get("/api/tasks/<uuid>")
def one(uuid):
    return jsonify(tasks[uuid])
