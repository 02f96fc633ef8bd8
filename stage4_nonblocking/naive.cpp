// The technique, bare: flaws and all, on port 9999. The stage's program, from main.cpp on, is the same made hard to kill.
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <vector>

int fib(int n) { return n <= 2 ? 1 : fib(n - 1) + fib(n - 2); }

bool answer(int client) {
    char request[100];
    ssize_t size = recv(client, request, sizeof request, 0);
    if (size < 0 && errno == EAGAIN) return true;  // nothing yet: ask the next one
    if (size <= 0) return false;
    std::string reply = std::to_string(fib(std::stoi(std::string(request, size)))) + "\n";
    send(client, reply.data(), reply.size(), 0);
    return true;
}

int main() {
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_in address{AF_INET, htons(9999), {htonl(INADDR_LOOPBACK)}, {}};
    bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address);
    listen(listener, 5);
    std::vector<int> clients;
    for (;;) {
        int client = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK);
        if (client >= 0) clients.push_back(client);
        std::erase_if(clients, [](int each) {
            if (answer(each)) return false;
            close(each);
            return true;
        });
    }
}
