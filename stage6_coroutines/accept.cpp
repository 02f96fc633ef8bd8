#include "accept.hpp"

#include <new>
#include <system_error>

#include "limits.hpp"
#include "log.hpp"

namespace {
constexpr int arrivals_in_a_row = 64;
}

Co<void> accept_clients(Loop& loop, const Listener& listener, int max_clients, std::function<Co<void>(Client)> converse) {
    Socket socket(loop, listener.readiness());
    Loop::Sleep pause = loop.sleep(shortage_pause);
    for (int arrivals = 1;; ++arrivals) {
        // However many arrive, those who are here already have their turns.
        if (arrivals % arrivals_in_a_row == 0) co_await loop.turn();
        Arrival arrival = accept_client(listener, Mode::nonblocking);
        switch (arrival.outcome) {
            case Accepted::client:
                if (loop.running() > static_cast<std::size_t>(max_clients)) {
                    refuse(std::move(arrival.fd));
                    break;
                }
                try {
                    loop.spawn(converse(Client(std::move(arrival.fd), std::move(arrival.peer))));
                } catch (const std::bad_alloc& shortage) {  // none for its frame, and the client has gone with it
                    logging::given_up(shortage);
                }
                break;
            case Accepted::nobody:
                try {
                    co_await socket.readable();
                    break;
                } catch (const std::system_error&) {  // epoll has no memory to watch it: another time
                }
                [[fallthrough]];
            case Accepted::shortage: co_await pause; break;
            case Accepted::stopped: co_return;
        }
    }
}
