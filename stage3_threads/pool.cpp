#include "pool.hpp"

#include <sys/socket.h>

#include <condition_variable>
#include <deque>
#include <system_error>
#include <thread>
#include <vector>

#include "shared.hpp"
#include "sockets/serve.hpp"

namespace {

/// A bounded queue between one producer, which accepts clients, and the consumers, which serve them. Waiting uses no
/// processor time: wait() releases the lock while it sleeps, and holds it again when it returns (pthread_cond_wait(3)).
class Queue {
   public:
    explicit Queue(std::size_t capacity) : capacity_(capacity) {}

    /// Waits while the queue is full. Meanwhile nobody is accepted, and further clients wait in the accept queue. Throws
    /// std::bad_alloc if there is no memory for an entry; the client then stays the caller's.
    void put(Client&& client) {
        std::unique_lock lock(mutex_);
        not_full_.wait(lock, [this] { return clients_.size() < capacity_; });
        clients_.push_back(std::move(client));
        not_empty_.notify_one();
    }

    /// Waits while the queue is empty. Returns nothing if it is empty and `nobody_more` is set.
    std::optional<Client> take(const std::stop_token& nobody_more) {
        std::unique_lock lock(mutex_);
        if (!not_empty_.wait(lock, nobody_more, [this] { return !clients_.empty(); })) return {};
        std::optional<Client> client(std::move(clients_.front()));
        clients_.pop_front();
        not_full_.notify_one();
        return client;
    }

   private:
    const std::size_t capacity_;
    std::mutex mutex_;  // guards clients_
    std::condition_variable not_full_;
    std::condition_variable_any not_empty_;
    std::deque<Client> clients_;
};

}  // namespace

void pool(const Service& service, int threads, const Listener& listener) {
    Shared shared(service.options.db);
    Queue queue(static_cast<std::size_t>(threads));  // as many clients may wait as are served
    const auto consume = [&](const std::stop_token& nobody_more) {
        while (const auto client = queue.take(nobody_more))
            serve(*client, service, [&](Work& work) { carry_out(work, shared); });
    };
    const auto produce = [&] {
        while (!stop::leaving()) {
            Fd fd(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
            if (!accepted(fd, listener)) continue;
            Client client(std::move(fd));
            try {
                queue.put(std::move(client));
            } catch (const std::exception& shortage) {  // no memory for a place in the queue
                refuse(client.fd, shortage.what());
            }
        }
    };

    std::vector<std::jthread> consumers;  // ~jthread asks each one to stop, and joins it
    try {
        for (int i = 0; i < threads; ++i) consumers.emplace_back(consume);
    } catch (const std::system_error& error) {
        throw std::system_error(error.code(), "cannot start a thread");
    }
    produce();
}
