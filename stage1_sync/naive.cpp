// The talk's server, flaws and all: `make naive`, then `nc localhost 9999`. The tutorial's first page; main.cpp mends it.
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

int fib(int n) { return n <= 2 ? 1 : fib(n - 1) + fib(n - 2); }

int main() {
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    int on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_in address{
        .sin_family = AF_INET, .sin_port = htons(9999), .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_zero = {}};
    bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address);
    listen(listener, 5);
    for (;;) {
        int client = accept(listener, nullptr, nullptr);
        char request[100];
        for (ssize_t size; (size = recv(client, request, sizeof request, 0)) > 0;) {
            std::string reply = std::to_string(fib(std::stoi(std::string(request, size)))) + "\n";
            send(client, reply.data(), reply.size(), 0);
        }
        close(client);
    }
}
