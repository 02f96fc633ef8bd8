#include "server.hpp"

#include "accept.hpp"
#include "fib.hpp"
#include "log.hpp"

Server::Server(const Service& service, const Listener& listener, int threads)
    : service_(service),
      listener_(listener),
      tasks_(service.options.db),
      written_tasks_(service.options.db),
      pool_(loop_, threads) {}

void Server::run() {
    // Keeps :memory:, which goes with the last who has it open. An error will be told to those who ask for tasks.
    try {
        tasks_.open();
    } catch (const TasksError&) {
    }
    const auto arrived = [this](Client client) { return converse(std::move(client)); };
    loop_.spawn(accept_clients(loop_, listener_, service_.options.max_clients, arrived));
    loop_.run();
}

/// Stage 1's conversation: it reads from top to bottom, and where that one blocks its thread, this one is put aside.
Co<void> Server::converse(Client client) {
    try {
        const int fd = client.fd.get();
        Session session(service_, buffers_, client.peer);
        Socket socket(loop_, fd);
        Allowance allowance(service_.options.idle_timeout, loop_.now());
        for (;;) {
            switch (session.next()) {
                case Next::read:
                    if (co_await socket.readable(allowance.ends(session, loop_.now())))
                        recv_into(fd, session);
                    else
                        session.time_out();
                    break;
                case Next::write:
                    if (send_from(fd, session))
                        allowance.renew(loop_.now());
                    else if (!co_await socket.writable(allowance.ends(session, loop_.now())))
                        session.time_out();
                    break;
                case Next::work: {
                    // What is known is answered without a pause: the session still reads its input in the loop's buffer.
                    Work work = session.work();
                    if (!std::holds_alternative<Reply>(work)) work = co_await carry_out(work);
                    const Reply& reply = std::get<Reply>(work);
                    if (reply.counted) ++answered_;
                    session.reply(reply);
                    allowance.renew(loop_.now());
                    break;
                }
                case Next::close: co_return;
            }
        }
    } catch (const std::exception& why) {
        logging::given_up(why);
    }
}

/// The work outlives this: who awaits it has it in his frame.
Co<Reply> Server::carry_out(Work& work) {
    if (auto* wait = std::get_if<Wait>(&work)) {
        co_await loop_.sleep(wait->duration);
        co_return std::move(wait->reply);
    }
    if (auto* compute = std::get_if<Compute>(&work)) {
        std::function<Reply()> job = [=] { return compute->say(compute->n, fib(compute->n)); };
        co_return co_await pool_.run(std::move(job));
    }
    const Store& store = std::get<Store>(work);
    if (store.writes) {
        std::function<Reply()> job = [&] { return write(store); };
        co_return co_await pool_.run(std::move(job));
    }
    // Reads stay in the loop: they take less time than the way to another thread. (A checkpoint or another writer can hold
    // one up, so "the loop never waits" is not quite true.) The others have their turns even so: who awaits this one goes on
    // after them.
    co_return store.run(tasks_, answered_);
}

/// In a thread of the pool. A write has no use for the count, which is the loop's.
Reply Server::write(const Store& store) {
    const std::lock_guard lock(mutex_);
    return store.run(written_tasks_, 0);
}
