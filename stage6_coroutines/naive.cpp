// The technique, bare: flaws and all, on port 9999. The stage's program, from main.cpp on, is the same made hard to kill.
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <coroutine>
#include <exception>
#include <string>
#include <thread>

int fib(int n) { return n <= 2 ? 1 : fib(n - 1) + fib(n - 2); }

int epoll = epoll_create1(0);

// A coroutine that begins when it is called. Nobody waits for its end.
struct Task {
    struct promise_type {
        Task get_return_object() { return {}; }
        std::suspend_never initial_suspend() { return {}; }
        std::suspend_never final_suspend() noexcept { return {}; }
        void return_void() {}
        void unhandled_exception() { std::terminate(); }
    };
};

// co_await Readable{fd} puts the coroutine aside until epoll says that the descriptor can be read: it calls await_suspend,
// and, when the loop in main resumes the coroutine, await_resume.
struct Readable {
    int fd;
    bool await_ready() { return false; }
    void await_suspend(std::coroutine_handle<> coroutine) {
        epoll_event event{.events = EPOLLIN, .data = {.ptr = coroutine.address()}};
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    }
    void await_resume() { epoll_ctl(epoll, EPOLL_CTL_DEL, fd, nullptr); }
};

// co_await Fib{n} puts it aside while a thread computes. The thread says that it is done by a descriptor, as a client does.
struct Fib {
    int n;
    int value = 0;
    Readable done{eventfd(0, 0)};
    bool await_ready() { return false; }
    void await_suspend(std::coroutine_handle<> coroutine) {
        done.await_suspend(coroutine);
        std::thread([this] {
            value = fib(n);
            eventfd_write(done.fd, 1);
        }).detach();
    }
    int await_resume() {
        done.await_resume();  // close alone would not remove it while the thread is in its write
        close(done.fd);
        return value;
    }
};

Task serve(int client) {
    char request[100];
    for (;;) {
        co_await Readable{client};
        ssize_t size = recv(client, request, sizeof request, 0);
        if (size <= 0) break;
        int value = co_await Fib{std::stoi(std::string(request, size))};
        std::string reply = std::to_string(value) + "\n";
        send(client, reply.data(), reply.size(), 0);
    }
    close(client);
}

Task accept_all(int listener) {
    for (;;) {
        co_await Readable{listener};
        serve(accept(listener, nullptr, nullptr));
    }
}

int main() {
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    int on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_in address{AF_INET, htons(9999), {htonl(INADDR_LOOPBACK)}, {}};
    bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address);
    listen(listener, 5);
    accept_all(listener);
    for (epoll_event event;;) {
        if (epoll_wait(epoll, &event, 1, -1) < 1) continue;
        std::coroutine_handle<>::from_address(event.data.ptr).resume();
    }
}
