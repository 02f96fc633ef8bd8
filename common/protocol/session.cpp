#include "protocol/session.hpp"

#include <algorithm>

#include "base/text.hpp"
#include "protocol/api.hpp"
#include "protocol/line_protocol.hpp"

namespace {

/// Bytes. A larger buffer is freed, not lent, or else one client's large request would cost memory for ever.
constexpr std::size_t most_room = 4096;

}  // namespace

std::string& Bytes::more(std::string& spare) {
    if (text_.empty() && text_.capacity() < spare.capacity()) text_.swap(spare);
    if (taken_ > text_.size() / 2) text_.erase(0, std::exchange(taken_, 0));  // remove it, but not for each byte
    return text_;
}

void Bytes::take(std::size_t size, std::string& spare) {
    taken_ += size;
    if (taken_ < text_.size()) return;
    text_.clear();
    taken_ = 0;
    if (text_.capacity() > spare.capacity() && text_.capacity() <= most_room) text_.swap(spare);
    if (text_.capacity() > std::string().capacity()) std::string().swap(text_);  // `text_ = {}` would keep the memory
}

Session::Session(const Service& service, Spare& spare, std::string peer) : service_(service), spare_(spare) {
    if (service.options.framing == Framing::recv) speaks_ = Speaks::lines;
    if (logging::verbose()) log_ = std::make_unique<logging::Requests>(std::move(peer));
}

Next Session::next() {
    if (lost_) return Next::close;
    if (output().size() < output_high_water && find_request()) return Next::work;
    if (!out_.empty()) return Next::write;
    return ended_ ? Next::close : Next::read;
}

// --- input --------------------------------------------------------------------------------------------------------------

void Session::received(std::string_view bytes) {
    if (!closing_) in_.more(spare_.input) += bytes;  // if closing, nobody will answer it; see said_all()
}

void Session::received_end() { ended_ = heard_end_ = true; }

void Session::stop() { ended_ = stopping_ = true; }

void Session::abandon() { lost_ = true; }

void Session::time_out() {
    // Only HTTP has a status for it (408), and only for a request that has begun. A client that takes no reply gets no more.
    if (!http_ || closing_ || !out_.empty()) return abandon();
    http_->give_up(408, "the request took too long to arrive");
}

bool Session::unfinished() const { return !in_.empty() || http_ || discarding_; }

// --- requests -----------------------------------------------------------------------------------------------------------

/// Whether a request is there that can be answered.
bool Session::find_request() {
    if (closing_) return false;
    if (found_ != Found::none) return true;
    return speaks_ == Speaks::http ? find_message() : find_line();
}

bool Session::find_line() {
    const bool chunks = service_.options.framing == Framing::recv;
    while (!in_.empty()) {
        const std::string_view text = in_.view();
        const auto end = chunks ? text.find_last_not_of('\n') + 1 : text.find('\n');
        const bool complete = chunks || end != text.npos;
        std::string_view line = text.substr(0, end);
        if (line.ends_with('\r')) line.remove_suffix(1);  // if the LF is still missing, the CR may be a part of the ending
        const std::size_t size = complete && !chunks ? end + 1 : text.size();
        if (discarding_) {
            discarding_ = !complete;
            consume(size);
            continue;
        }
        const bool first = speaks_ == Speaks::unknown;
        const bool tls = first && begins_tls(text);
        const bool too_long = line.size() > line_limit;
        const bool last = ended_ && !stopping_;
        if (!complete && !too_long && !last && !tls) break;
        if (!too_long && trimmed(line).empty()) {
            consume(size);
            continue;
        }
        if (first) {
            const bool http = too_long ? begins_with_method(line.substr(0, line_limit)) : is_request_line(trimmed(line));
            speaks_ = http && !tls ? Speaks::http : Speaks::lines;
            if (speaks_ == Speaks::http) return find_message();
        }
        line_ = line;
        line_size_ = size;
        line_fault_ = chunks ? nullptr : first ? first_line_fault(line) : later_line_fault(line);
        found_ = too_long ? Found::long_line : Found::line;
        discarding_ = too_long && !complete && !line_fault_;
        return true;
    }
    if (ended_) consume(in_.view().size());  // half a line, while stopping
    return false;
}

bool Session::find_message() {
    if (!http_) {
        // Empty lines before a request are ignored (RFC 9112, 2.2). A lone CR is not one.
        while (in_.view().starts_with("\r\n") || in_.view().starts_with('\n')) consume(in_.view().front() == '\n' ? 1 : 2);
        if (in_.empty() || in_.view() == "\r") return false;
        http_ = spare_.reader ? std::move(spare_.reader) : std::make_unique<HttpReader>();
        if (in_.view().front() == '\r') http_->give_up(400, "a CR stands alone before the request");
    }
    if (!http_->done()) consume(http_->feed(in_.view()));
    if (http_->take_continue()) out_.more(spare_.output) += "HTTP/1.1 100 Continue\r\n\r\n";
    if (!http_->done() && ended_ && !stopping_) http_->give_up(400, "the request is incomplete");
    if (!http_->done()) return false;
    found_ = Found::message;
    return true;
}

Work Session::work() {
    Work work = found_ == Found::message ? message() : line();
    found_ = Found::none;
    return work;
}

Work Session::line() {
    if (log_) log_->begins(line_);
    Work work = line_fault_                  ? last_line_error(line_fault_)
                : found_ == Found::long_line ? line_error("a line may have at most 8192 bytes")
                                             : line_work(line_, service_);
    line_ = {};
    consume(line_size_);
    return work;
}

Work Session::message() {
    HttpRequest& request = http_->request();
    if (log_) log_->begins((request.method.empty() ? "?" : request.method) + ' ' + request.target, request.forwarded);
    answer_ = {.head = request.method == "HEAD", .http_1_0 = request.http_1_0, .close = true};
    Work work = http_->fault() != 0 ? http_error(http_->fault(), http_->fault_text()) : api_work(request, service_);
    if (http_->fault() == 0) answer_.close = !request.keep_alive || !service_.keep_alive || (stopping_ && in_.empty());
    http_->begin_again();
    spare_.reader = std::move(http_);
    return work;
}

// --- replies ------------------------------------------------------------------------------------------------------------

void Session::reply(const Reply& reply) {
    if (log_) log_->ended(reply.status);
    if (lost_) return;
    answered_ = true;
    std::string& out = out_.more(spare_.output);
    if (speaks_ == Speaks::http) {
        http_response(out, reply, answer_, service_.options.about.name);
        closing_ = answer_.close;
    } else {
        out += reply.body;
        out += '\n';
        closing_ = reply.hang_up;
    }
    if (closing_) consume(in_.view().size());
}
