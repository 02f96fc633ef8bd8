#include "accept.hpp"

#include <sys/socket.h>

#include "base/log.hpp"
#include "sockets/sockets.hpp"

Co accept_clients(Loop& loop, const Listener& listener, int max_clients, std::function<Co(Client)> converse) {
    Socket socket(loop, listener.readiness(), Socket::Place::first);  // new clients are accepted before anything is computed
    for (int in_a_row = 1;; ++in_a_row) {
        // However many arrive, the clients already here have their turns. The accept queue is no longer than SOMAXCONN.
        if (in_a_row % SOMAXCONN == 0) co_await loop.turn();
        Fd client(stop::leaving() ? -1 : accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
        switch (accepted(client)) {
            case Accepted::client:
                if (Client::count() >= max_clients) {
                    refuse(client);
                    break;
                }
                try {
                    loop.spawn(converse(Client(std::move(client))));
                } catch (const std::exception& why) {  // no memory for its frame: the client is closed already
                    logging::given_up(why);
                }
                break;
            case Accepted::nobody:
                in_a_row = 0;
                co_await socket.readable();
                break;
            case Accepted::shortage: co_await socket.reset(Clock::now() + shortage_pause); break;
            case Accepted::stopped: co_return;
        }
    }
}
