#include "thread_per_client.hpp"

#include <sys/socket.h>

#include <condition_variable>
#include <list>
#include <mutex>
#include <thread>

#include "shared.hpp"
#include "sockets/serve.hpp"

namespace {

/// The running threads, each with its client. A thread must be joined, or else its stack is never freed. Each thread that
/// leaves joins the one that left before it, so that at most one is left to be joined.
class Threads {
   public:
    template <class Serve>
    void add(Client client, Serve serve) {
        // Held while the thread starts, so that it cannot leave before `place->thread` is set.
        const std::lock_guard lock(mutex_);
        auto place = members_.end();
        try {
            place = members_.emplace(place, std::move(client));
            place->thread = std::thread([this, place, serve] {
                serve(place->client);
                leave(place);
            });
        } catch (const std::exception& shortage) {  // no more threads (pthread_create(3)), or no memory
            if (place == members_.end()) return refuse(client.fd, shortage.what());
            refuse(place->client.fd, shortage.what());
            members_.erase(place);
        }
    }

    /// Waits until every thread has ended.
    void wait() {
        std::unique_lock lock(mutex_);
        empty_.wait(lock, [this] { return members_.empty(); });
        if (left_.joinable()) left_.join();  // it no longer needs the lock
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
            if (members_.empty()) empty_.notify_one();
        }
        if (before.joinable()) before.join();
    }

    std::mutex mutex_;
    std::condition_variable empty_;
    std::list<Member> members_;
    std::thread left_;
};

/// Most of a thread's cost is its stack: 8 MiB of addresses by default, which become memory page by page as they are
/// touched. A conversation touches few pages. So 1 MiB is enough, even under a sanitizer, and thousands of threads fit.
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
    Threads threads;
    while (!stop::leaving()) {
        Fd client(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
        if (!accepted(client, listener)) continue;
        if (Client::count() >= service.options.max_clients) {
            refuse(client);
            continue;
        }
        threads.add(Client(std::move(client)),
                    [&](const Client& mine) { serve(mine, service, [&](Work& work) { carry_out(work, shared); }); });
    }
    threads.wait();
}
