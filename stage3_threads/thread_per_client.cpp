#include "thread_per_client.hpp"

#include <condition_variable>
#include <list>
#include <mutex>
#include <thread>

#include "room.hpp"
#include "serve.hpp"
#include "shared.hpp"

namespace {

/// The threads that run, each with its client. A thread must be joined, or its stack is never given back; the one that
/// leaves joins the one that left before it, so that there is one at most to be joined at any time.
class Crowd {
   public:
    template <class Serve>
    void add(Client client, Serve serve) {
        // Held while the thread starts: it can't leave before it has its place.
        const std::lock_guard lock(mutex_);
        auto place = members_.end();
        try {
            place = members_.emplace(place, std::move(client));
            place->thread = std::thread([this, place, serve] {
                serve(place->client);
                leave(place);
            });
        } catch (const std::exception& shortage) {  // no more threads (pthread_create(3)), or no memory
            if (place == members_.end()) return refuse(std::move(client), shortage.what());
            refuse(std::move(place->client), shortage.what());
            members_.erase(place);
        }
    }

    [[nodiscard]] std::size_t size() {
        const std::lock_guard lock(mutex_);
        return members_.size();
    }

    /// Waits until every thread has ended.
    void wait() {
        std::unique_lock lock(mutex_);
        empty_.wait(lock, [this] { return members_.empty(); });
        if (left_.joinable()) left_.join();  // it needs the lock no more
    }

   private:
    struct Member {
        explicit Member(Client arrived) : client(std::move(arrived)) {}
        Client client;
        std::thread thread;
    };

    void leave(std::list<Member>::iterator place) {
        std::thread before;
        {
            const std::lock_guard lock(mutex_);
            before = std::exchange(left_, std::move(place->thread));
            members_.erase(place);  // closes the connection
            storm_.may_have_passed(members_.size());
            if (members_.empty()) empty_.notify_one();
        }
        if (before.joinable()) before.join();
    }

    std::mutex mutex_;
    std::condition_variable empty_;
    std::list<Member> members_;
    Storm storm_;
    std::thread left_;
};

/// Most of a thread's cost is its stack: 8 MiB of addresses by default, of which it gets pages as it touches them. A
/// conversation needs a few of those, so one MiB is plenty, even where a sanitizer takes its share, and thousands fit.
void choose_stack_size() {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 1'048'576);
    pthread_setattr_default_np(&attributes);
    pthread_attr_destroy(&attributes);
}

}  // namespace

void thread_per_client(const Service& service, const Listener& listener) {
    choose_stack_size();
    Shared shared(service.options.db);
    Crowd crowd;
    while (auto client = next_client(listener)) {
        if (crowd.size() >= static_cast<std::size_t>(service.options.max_clients)) {
            refuse(std::move(client->fd));
            continue;
        }
        crowd.add(std::move(*client), [&](const Client& mine) {
            serve(mine, service, [&](Work work) { return carry_out(std::move(work), shared); });
        });
    }
    crowd.wait();
}
