#include "pool.hpp"

#include <condition_variable>
#include <deque>
#include <system_error>
#include <thread>
#include <vector>

#include "serve.hpp"
#include "shared.hpp"

namespace {

/// A bounded queue between one producer, who accepts clients, and the consumers, who serve them. Both wait without using
/// the processor: wait() gives the lock away while it sleeps, and has it again when it returns (pthread_cond_wait(3)).
class Queue {
   public:
    explicit Queue(std::size_t capacity) : capacity_(capacity) {}

    /// Waits while the queue is full: then nobody is accepted, and further clients wait in the kernel's queue. Where there
    /// is no memory for a place, throws std::bad_alloc, and the client stays the caller's.
    void put(Client&& client) {
        std::unique_lock lock(mutex_);
        not_full_.wait(lock, [this] { return clients_.size() < capacity_; });
        clients_.push_back(std::move(client));
        not_empty_.notify_one();
    }

    /// Waits while the queue is empty; nobody once it is closed as well.
    std::optional<Client> take() {
        std::unique_lock lock(mutex_);
        not_empty_.wait(lock, [this] { return !clients_.empty() || closed_; });
        if (clients_.empty()) return {};
        std::optional<Client> client(std::move(clients_.front()));
        clients_.pop_front();
        not_full_.notify_one();
        return client;
    }

    /// Nobody more comes.
    void close() {
        const std::lock_guard lock(mutex_);
        closed_ = true;
        not_empty_.notify_all();
    }

   private:
    const std::size_t capacity_;
    std::mutex mutex_;  // for what follows
    std::condition_variable not_full_;
    std::condition_variable not_empty_;
    std::deque<Client> clients_;
    bool closed_ = false;
};

/// Closes a queue at the end of its life, whatever that is.
struct Closing {
    explicit Closing(Queue& closed) : queue(closed) {}
    Closing(const Closing&) = delete;
    Closing& operator=(const Closing&) = delete;
    ~Closing() { queue.close(); }
    Queue& queue;
};

}  // namespace

void pool(const Service& service, int threads, const Listener& listener) {
    Shared shared(service.options.db);
    Queue queue(static_cast<std::size_t>(threads));  // as many may wait as are served
    const auto consume = [&] {
        while (const auto client = queue.take())
            serve(*client, service, [&](Work work) { return carry_out(std::move(work), shared); });
    };
    const auto produce = [&] {
        while (auto client = next_client(listener)) {
            try {
                queue.put(std::move(*client));
            } catch (const std::exception& shortage) {  // no memory for a place in the queue
                refuse(std::move(*client), shortage.what());
            }
        }
    };

    std::vector<std::jthread> consumers;  // joined at the end of their lives
    const Closing closing(queue);         // before that
    try {
        for (int i = 0; i < threads; ++i) consumers.emplace_back(consume);
    } catch (const std::system_error& error) {
        throw std::system_error(error.code(), "cannot start a thread");
    }
    produce();
}
