// Completion instead of readiness: the kernel does the recv, and says when it is done. Flaws and all, on port 9999.
#include <liburing.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <coroutine>
#include <cstdio>
#include <cstring>
#include <exception>
#include <string>

int fib(int n) { return n <= 2 ? 1 : fib(n - 1) + fib(n - 2); }

io_uring ring;

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

// A call that the kernel is to make. co_await puts the coroutine aside until the call is done, and gives its result.
struct Call {
    io_uring_sqe* asked = io_uring_get_sqe(&ring);  // a place in the queue of calls to be made
    std::coroutine_handle<> caller;
    int result;
    bool await_ready() { return false; }
    void await_suspend(std::coroutine_handle<> coroutine) {
        caller = coroutine;
        io_uring_sqe_set_data(asked, this);
    }
    int await_resume() { return result; }
};

Task serve(int client) {
    char request[100];  // belongs to the kernel while it receives
    for (;;) {
        Call receive;
        io_uring_prep_recv(receive.asked, client, request, sizeof request, 0);
        int size = co_await receive;
        if (size <= 0) break;
        std::string reply = std::to_string(fib(std::stoi(std::string(request, size)))) + "\n";
        Call send;
        io_uring_prep_send(send.asked, client, reply.data(), reply.size(), 0);
        if (co_await send < 0) break;
    }
    close(client);
}

Task accept_all(int listener) {
    for (;;) {
        Call accept;
        io_uring_prep_accept(accept.asked, listener, nullptr, nullptr, 0);
        serve(co_await accept);
    }
}

int main() {
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    int on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_in address{AF_INET, htons(9999), {htonl(INADDR_LOOPBACK)}, {}};
    bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address);
    listen(listener, 5);
    if (int error = io_uring_queue_init(1024, &ring, 0)) {
        fprintf(stderr, "io_uring: %s\n", strerror(-error));
        return 1;
    }
    accept_all(listener);
    for (io_uring_cqe* done;;) {             // from the queue of calls that are done
        io_uring_submit_and_wait(&ring, 1);  // the one system call: passes the calls on, and waits until one is done
        while (io_uring_peek_cqe(&ring, &done) == 0) {
            Call& call = *static_cast<Call*>(io_uring_cqe_get_data(done));
            call.result = done->res;
            io_uring_cqe_seen(&ring, done);
            call.caller.resume();
        }
    }
}
