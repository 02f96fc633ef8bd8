"""The talk's server with a thread for each client, its flaws included: talk.py PORT

It is David Beazley's, of "Python Concurrency From the Ground Up: LIVE!" (PyCon 2015), except for the port and the address:
his listened to the whole network. It takes each chunk that recv(2) returns for a number. So a request needs no newline, and
two requests in one chunk are no number.
"""
import sys
from socket import AF_INET, SO_REUSEADDR, SOCK_STREAM, SOL_SOCKET, socket
from threading import Thread


def fib(n):
    if n <= 2:
        return 1
    return fib(n - 1) + fib(n - 2)


def fib_server(address):
    sock = socket(AF_INET, SOCK_STREAM)
    sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
    sock.bind(address)
    sock.listen(5)
    while True:
        client, addr = sock.accept()
        print("Connection", addr)
        Thread(target=fib_handler, args=(client,), daemon=True).start()


def fib_handler(client):
    while True:
        req = client.recv(100)
        if not req:
            break
        n = int(req)
        result = fib(n)
        resp = str(result).encode("ascii") + b"\n"
        client.send(resp)
    print("Closed")


fib_server(("127.0.0.1", int(sys.argv[1])))
