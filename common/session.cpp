#include "session.hpp"

#include <algorithm>

#include "api.hpp"
#include "line_protocol.hpp"
#include "text.hpp"

namespace {

/// Gives the memory back, too: an idle client keeps no buffer. (`text = {}` would keep it.)
void release(std::string& text) noexcept { std::string().swap(text); }

/// What is longer is not kept for the next one: it would be one client's memory in everybody's buffer.
constexpr std::size_t most_room = 4096;

}  // namespace

Session::Session(const Service& service, Buffers& buffers, std::string peer) : service_(service), buffers_(buffers) {
    if (service.options.framing == Framing::recv) speaks_ = Speaks::lines;
    if (logging::verbose()) log_ = std::make_unique<logging::Requests>(std::move(peer));
}

Next Session::next() {
    if (lost_) return Next::close;
    if (output().size() < output_high_water && find_request()) return Next::work;
    keep();
    if (!output().empty()) return Next::write;
    return ended_ ? Next::close : Next::read;
}

// --- input --------------------------------------------------------------------------------------------------------------

void Session::received(std::string_view bytes) {
    if (closing_) return;  // nobody will answer it; see said_all()
    if (kept_.empty())
        borrowed_ = bytes;
    else
        kept_ += bytes;
}

void Session::received_end() { ended_ = true; }

void Session::stop() {
    keep();
    ended_ = stopping_ = true;
}

void Session::abandon() { lost_ = true; }

void Session::time_out() {
    // Only HTTP has a word for it (408), and only for a request that has begun. Who takes no reply gets no more of them.
    if (!http_ || closing_ || !output().empty()) return abandon();
    http_->give_up(408, "the request took too long to arrive");
}

bool Session::unfinished() const { return !input().empty() || http_ || discarding_; }

std::string_view Session::input() const { return borrowed_.empty() ? std::string_view(kept_).substr(taken_) : borrowed_; }

void Session::consume(std::size_t size) {
    if (borrowed_.empty())
        taken_ += size;
    else
        borrowed_.remove_prefix(size);
}

/// Makes what is left of the input our own: the caller's buffer may change after this.
void Session::keep() {
    if (!borrowed_.empty()) {
        kept_ = std::exchange(borrowed_, {});
    } else if (taken_ == kept_.size()) {
        release(kept_);
    } else if (taken_ > kept_.size() / 2) {
        kept_.erase(0, taken_);  // what was taken is let go, though not for each line
    } else {
        return;
    }
    taken_ = 0;
}

// --- requests -----------------------------------------------------------------------------------------------------------

/// Whether a request is there to be answered.
bool Session::find_request() {
    if (closing_) return false;
    if (ready_ != Ready::none) return true;
    return speaks_ == Speaks::http ? find_message() : find_line();
}

bool Session::find_line() {
    const bool chunks = service_.options.framing == Framing::recv;
    while (!input().empty()) {
        const std::string_view text = input();
        const auto end = chunks ? text.find_last_not_of('\n') + 1 : text.find('\n');
        const bool complete = chunks || end != text.npos;
        std::string_view line = text.substr(0, end);
        if (line.ends_with('\r')) line.remove_suffix(1);  // without its LF it may be a line's last CR, or not
        const std::size_t size = complete && !chunks ? end + 1 : text.size();
        if (discarding_) {
            discarding_ = !complete;
            consume(size);
            continue;
        }
        const bool too_long = line.size() > line_limit;
        const bool last = ended_ && !stopping_;
        if (!complete && !too_long && !last) break;
        if (!too_long && trimmed(line).empty()) {
            consume(size);
            continue;
        }
        if (speaks_ == Speaks::unknown) {
            const bool http = too_long ? begins_with_method(line.substr(0, line_limit)) : is_request_line(trimmed(line));
            speaks_ = http ? Speaks::http : Speaks::lines;
            if (http) return find_message();
        }
        line_ = line;
        line_size_ = size;
        ready_ = too_long ? Ready::long_line : Ready::line;
        discarding_ = too_long && !complete;
        return true;
    }
    if (ended_) consume(input().size());  // half a line, while stopping
    return false;
}

bool Session::find_message() {
    if (!http_) {
        // Empty lines before a request are ignored (RFC 9112, 2.2).
        consume(std::min(input().find_first_not_of("\r\n"), input().size()));
        if (input().empty()) return false;
        http_ = buffers_.reader ? std::move(buffers_.reader) : std::make_unique<HttpReader>();
    }
    if (!http_->done()) consume(http_->feed(input()));
    if (http_->take_continue()) out_ += "HTTP/1.1 100 Continue\r\n\r\n";
    if (!http_->done() && ended_ && !stopping_) http_->give_up(400, "the request is incomplete");
    if (!http_->done()) return false;
    ready_ = Ready::message;
    return true;
}

Work Session::work() {
    Work work = ready_ == Ready::message ? message() : line();
    ready_ = Ready::none;
    if (!std::holds_alternative<Reply>(work)) keep();
    return work;
}

Work Session::line() {
    if (log_) log_->begins(line_);
    Work work = ready_ == Ready::long_line ? line_error("a line may have at most 8192 bytes") : line_work(line_, service_);
    line_ = {};
    consume(line_size_);
    return work;
}

Work Session::message() {
    HttpRequest& request = http_->request();
    if (log_) log_->begins((request.method.empty() ? "?" : request.method) + ' ' + request.target, request.forwarded);
    answer_ = {.head = request.method == "HEAD", .http_1_0 = request.http_1_0, .close = true};
    Work work = http_->fault() != 0 ? http_error(http_->fault(), http_->fault_text()) : api_work(request, service_);
    if (http_->fault() == 0) answer_.close = !request.keep_alive || !service_.keep_alive || (stopping_ && input().empty());
    http_->begin_again();
    buffers_.reader = std::move(http_);
    return work;
}

// --- replies ------------------------------------------------------------------------------------------------------------

void Session::reply(const Reply& reply) {
    if (log_) log_->ended(reply.status);
    if (lost_) return;
    answered_ = true;
    if (out_.empty()) out_.swap(buffers_.output);
    if (speaks_ == Speaks::http) {
        http_response(out_, reply, answer_, service_.options.about.name);
        closing_ = answer_.close;
    } else {
        out_ += reply.body;
        out_ += '\n';
        closing_ = reply.hang_up;
    }
    if (closing_) consume(input().size());
}

std::string_view Session::output() const { return std::string_view(out_).substr(sent_); }

void Session::sent(std::size_t size) {
    sent_ += size;
    if (sent_ == out_.size()) {
        out_.clear();
        if (out_.capacity() <= most_room) out_.swap(buffers_.output);
        release(out_);
        sent_ = 0;
    } else if (sent_ > out_.size() / 2) {  // what has gone is let go, though not for each byte
        out_.erase(0, sent_);
        sent_ = 0;
    }
}

bool Session::said_all() const { return closing_ && output().empty(); }
