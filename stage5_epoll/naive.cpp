// The technique, bare: flaws and all, on port 9999. The stage's program, from main.cpp on, is the same made hard to kill.
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

int fib(int n) { return n <= 2 ? 1 : fib(n - 1) + fib(n - 2); }

bool answer(int client) {
    char request[100];
    ssize_t size = recv(client, request, sizeof request, 0);
    if (size <= 0) return false;
    std::string reply = std::to_string(fib(std::stoi(std::string(request, size)))) + "\n";
    send(client, reply.data(), reply.size(), 0);
    return true;
}

int main() {
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    int on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_in address{AF_INET, htons(9999), {htonl(INADDR_LOOPBACK)}, {}};
    bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address);
    listen(listener, 5);
    int epoll = epoll_create1(0);
    epoll_event event{.events = EPOLLIN, .data = {.fd = listener}};
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        // Sleeps until one of the sockets can be read, or until Ctrl-Z and fg.
        if (epoll_wait(epoll, &event, 1, -1) < 1) continue;
        int ready = event.data.fd;
        if (ready == listener) {
            event = {.events = EPOLLIN, .data = {.fd = accept(listener, nullptr, nullptr)}};
            epoll_ctl(epoll, EPOLL_CTL_ADD, event.data.fd, &event);
        } else if (!answer(ready)) {
            close(ready);  // epoll forgets it
        }
    }
}
