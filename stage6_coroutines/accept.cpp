#include "accept.hpp"

#include "limits.hpp"

namespace {
constexpr int arrivals_in_a_row = 64;
}

Co<void> accept_clients(Loop& loop, const Listener& listener, int max_clients, std::function<Co<void>(Client)> converse) {
    Socket socket(loop, listener.readiness());
    for (int arrivals = 1;; ++arrivals) {
        // However many arrive, those who are here already have their turns.
        if (arrivals % arrivals_in_a_row == 0) co_await loop.turn();
        Arrival arrival = accept_client(listener, Mode::nonblocking);
        switch (arrival.outcome) {
            case Accepted::client:
                if (loop.running() <= static_cast<std::size_t>(max_clients))
                    loop.spawn(converse(Client(std::move(arrival.fd), std::move(arrival.peer))));
                else
                    refuse(std::move(arrival.fd));
                break;
            case Accepted::nobody: co_await socket.readable(); break;
            case Accepted::shortage: co_await loop.sleep(shortage_pause); break;
            case Accepted::stopped: co_return;
        }
    }
}
