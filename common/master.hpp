/// A master and its workers: processes forked before the first client, which accept by themselves. The master answers
/// nobody; it sees to it that the workers are there. (gunicorn calls it the arbiter, Apache's prefork the parent.)
#pragma once

#include <functional>
#include <vector>

#include "service.hpp"
#include "sockets.hpp"

/// Runs workers from the ready line (start.hpp) until the server stops, and returns the exit status. `serve`, called in each
/// worker, serves until its listener says that no client is to be accepted any more (Accepted::stopped) and everybody has
/// gone. Listeners are non-blocking. Throws what Ready does.
///
/// The master's signals, as gunicorn's users know them: SIGINT and SIGTERM stop; SIGHUP replaces the workers one after
/// another; SIGTTIN and SIGTTOU add a worker and take one away. A worker that dies is replaced at once, but one that dies
/// young again and again once a second, lest it spin the machine. If the master dies, so do the workers.
///
/// To be called while the process has one thread, and nothing that must not cross fork(2), as an open database.
int supervise(const Service& service, Listener& shared, int workers, const std::function<void(const Listener&)>& serve);

/// The same with a listener for each worker, which the master keeps: clients queued on it find the replacement when the
/// worker dies. The number of workers stays, for to close one of the listeners would refuse those clients.
int supervise(const Service& service, std::vector<Listener>& listeners, const std::function<void(const Listener&)>& serve);
