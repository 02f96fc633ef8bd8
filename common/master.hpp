/// A master and its workers: processes forked before the first client, which accept by themselves. The master answers
/// nobody; it sees to it that the workers are there. (gunicorn calls it the arbiter, Apache's prefork the parent.)
#pragma once

#include <functional>
#include <span>

#include "service.hpp"
#include "sockets.hpp"

/// Runs so many workers until the server stops, and returns the exit status. `serve`, called in each worker, serves until
/// its listener says that no client is to be accepted any more (Accepted::stopped) and everybody has gone.
///
/// One listener: the workers share it. Several: each worker has one of its own, which the master keeps, so that clients
/// queued on it find the replacement when the worker dies. Listeners are non-blocking.
///
/// The master's signals, as gunicorn's users know them: SIGINT and SIGTERM stop; SIGHUP replaces the workers one after
/// another; SIGTTIN and SIGTTOU add a worker and take one away (where they share one listener: closing one of several would
/// refuse those who are queued on it). A worker that dies is replaced, but no place more than once a second, so that one
/// that dies at birth, again and again, does not spin the machine. If the master dies, so do the workers.
///
/// To be called while the process has one thread, and no descriptor or database connection that must not cross fork(2).
int supervise(const Service& service, std::span<Listener> listeners, int workers,
              const std::function<void(const Listener&)>& serve);

/// Gives the process a name for people, `stage2: worker`: its name, which pstree(1) and top(1) show (no more than 15 bytes,
/// prctl(2)), and in the place of its command line, which ps(1) shows (proc(5), under /proc/pid/cmdline).
void name_process(const Options& options, const char* role);
