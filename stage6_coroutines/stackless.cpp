#include "stackless.hpp"

#include <sys/socket.h>

#include "accept.hpp"
#include "base/fib.hpp"
#include "base/log.hpp"
#include "sockets/allowance.hpp"

Stackless::Stackless(const Service& service, const Listener& listener, int threads)
    : service_(service),
      listener_(listener),
      tasks_(service.options.db),
      written_tasks_(service.options.db),
      pool_(loop_, threads) {}

void Stackless::run() {
    // :memory: lasts as long as a connection to it is open, so open one now. An error is told to the clients that ask for
    // tasks.
    try {
        tasks_.open();
    } catch (const TasksError&) {
    }
    const auto arrived = [this](Client client) { return converse(std::move(client)); };
    loop_.spawn(accept_clients(loop_, listener_, service_.options.max_clients, arrived));
    loop_.run();
}

/// Stage 1's conversation, from top to bottom. Where stage 1 blocks its thread, this coroutine is suspended.
Co Stackless::converse(Client client) {
    try {
        const int fd = client.fd.get();
        Session session(service_, spare_, peer_name(fd));
        Socket socket(loop_, fd);
        Allowance allowance(service_.options.idle_timeout, loop_.now());
        for (;;) {
            switch (session.next()) {
                case Next::read:
                    if (co_await socket.readable(allowance.ends(session, loop_.now())))
                        came(session, fd, room_, recv(fd, room_, sizeof room_, 0));
                    else
                        allowance.time_out(session, fd, loop_.now());
                    break;
                case Next::write: {
                    const std::string_view output = session.output();
                    if (went(session, fd, send(fd, output.data(), output.size(), 0)))
                        allowance.renew(loop_.now());
                    else if (!co_await socket.writable(allowance.ends(session, loop_.now())))
                        allowance.time_out(session, fd, loop_.now());
                    break;
                }
                case Next::work: {
                    Work work = session.work();
                    if (!std::holds_alternative<Reply>(work)) {
                        offer(session, fd);  // what is answered does not wait for this
                        co_await carry_out(work, socket);
                    }
                    const Reply& reply = std::get<Reply>(work);
                    if (reply.counted) ++answered_;
                    session.reply(reply);
                    allowance.renew(loop_.now());
                    break;
                }
                case Next::close:
                    if (allowance.may_close(session, fd, loop_.now())) co_return;
                    co_await socket.reset(Clock::now() + delivery_pause);
                    break;
            }
        }
    } catch (const std::exception& why) {
        logging::given_up(why);
    }
}

/// Afterwards the work is a Reply. The work is in the caller's frame, and so outlives this coroutine.
Co Stackless::carry_out(Work& work, Socket& socket) {
    while (auto* const store = std::get_if<Store>(&work)) {
        if (store->query.writes()) {
            std::function<Work()> job = [=, this] { return write(*store); };
            work = co_await pool_.run(std::move(job), socket);
        } else {
            // Reads stay in the loop: they take less time than the way to another thread. (A checkpoint or another writer
            // can delay one, so "the loop never waits" is not quite true.)
            work = store->answered(tasks_.ask(store->query));
        }
    }
    if (auto* const wait = std::get_if<Wait>(&work)) {
        const bool reset = co_await socket.reset(Clock::now() + wait->duration);
        work = reset ? gone() : Reply(std::move(wait->reply));
    } else if (auto* const compute = std::get_if<Compute>(&work)) {
        std::function<Work()> job = [=] { return compute->say(compute->n, fib(compute->n)); };
        work = co_await pool_.run(std::move(job), socket);
    } else if (auto* const count = std::get_if<Count>(&work)) {
        work = count->say(answered_);
    }
}

/// Runs in a thread of the pool.
Work Stackless::write(const Store& store) {
    const std::lock_guard lock(mutex_);
    return store.answered(written_tasks_.ask(store.query));
}
