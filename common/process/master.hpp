/// A master and its workers. The workers are processes forked before the first client, and they accept clients themselves.
/// The master serves no client; it keeps the workers running. (gunicorn calls it the arbiter, Apache's prefork the parent.)
#pragma once

#include <functional>
#include <vector>

#include "base/service.hpp"
#include "sockets/sockets.hpp"

/// Creates a Ready (start.hpp), runs `workers` workers (one or more) until the server stops, and returns the exit status.
/// Each worker calls `serve`, and exits when that returns. `serve` should return when no more clients are to be accepted
/// (Accepted::stopped) and all have gone. The listeners must be non-blocking. Throws what Ready does.
///
/// The master takes gunicorn's signals: SIGINT and SIGTERM stop the server; SIGHUP replaces the workers one after another;
/// SIGTTIN adds a worker, SIGTTOU takes one away. The SIGHUP of a terminal that is closed also stops the server, unless
/// nohup(1) made it ignored. A worker that ends by itself or dies is replaced at once. After two in a row that fail within a
/// second, replacements come once a second, so that they do not keep the machine busy. If the master dies, the workers stop.
///
/// To be called while the process has one thread, and holds nothing that must not cross fork(2), such as an open database.
int supervise(const Service& service, Listener& shared, int workers, const std::function<void(const Listener&)>& serve);

/// The same with a listener for each worker. The master keeps the listeners: when a worker dies, its replacement serves the
/// clients in the queue. The number of workers is fixed, because closing a listener would refuse the clients in its queue.
int supervise(const Service& service, std::vector<Listener>& listeners, const std::function<void(const Listener&)>& serve);
