// The HTTP API: every row of its table, every error, every limit.
#include "protocol/api.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "conversation.hpp"
#include "protocol/page.hpp"

using namespace std::chrono_literals;
using namespace std::string_literals;
using namespace std::string_view_literals;
using nlohmann::json;

namespace {

/// A server with one task.
struct Api : testing::Test {
    Server server;
    std::string id = server.tasks.add({.id = {}, .title = "buy milk", .description = {}}).id;
    std::string path = "/api/tasks/" + id;

    Work work(std::string method, std::string target, std::string body = "") {
        return api_work({std::move(method), std::move(target), "localhost", "application/json", std::move(body)},
                        server.service);
    }
    Response get(std::string_view target) { return http(server, request("GET " + std::string(target))); }
    Response send(std::string_view line, std::string_view body) { return http(server, json_request(line, body)); }
    int status_of_host(std::string_view host) {
        return http(server, "GET /fib/7 HTTP/1.1\r\nHost: " + std::string(host) + "\r\n\r\n").status;
    }
};

void expect_error(const Response& response, int status, std::string_view what) {
    EXPECT_EQ(response.status, status) << what << ": " << response.body;
    EXPECT_EQ(response.field("Content-Type"), "application/json") << what;
    const json body = json::parse(response.body, nullptr, false);
    ASSERT_TRUE(body.is_object() && body.size() == 1 && body.value("error", json()).is_string())
        << what << ": " << response.body;
    EXPECT_NE(body["error"], "") << what;
}

}  // namespace

TEST_F(Api, ListsShowsAddsChangesAndRemovesTasks) {
    const std::string first = R"({"id":")" + id + R"(","title":"buy milk","description":"","done":false})";
    EXPECT_EQ(get("/api/tasks").body, "[" + first + "]");
    EXPECT_EQ(get("/api/tasks").field("Content-Type"), "application/json");
    EXPECT_EQ(get(path).status, 200);
    EXPECT_EQ(get(path).body, first);

    std::string added;
    for (const char* where : {"POST /api/task", "POST /api/tasks"}) {
        const auto response = send(
            where,
            R"({"title":"caf\u00e9 \ud83d\ude00","description":"two\nlines\u0001","done":true,"id":"mine","more":[1]})");
        EXPECT_EQ(response.status, 201);
        added = json::parse(response.body).at("id");
        EXPECT_EQ(response.body, R"({"id":")" + added + "\",\"title\":\"caf\xc3\xa9 \xf0\x9f\x98\x80\"" +
                                     R"(,"description":"two\nlines\u0001","done":true})");
        EXPECT_EQ(response.field("Location"), "/api/tasks/" + added);
        EXPECT_EQ(get(response.field("Location")).body, response.body);
    }
    EXPECT_EQ(json::parse(get("/api/tasks").body).size(), 3U);
    EXPECT_EQ(json::parse(send("POST /api/task", R"({"title":"a"})").body)["done"], false);

    const auto changed = [&](std::string_view body) {
        const auto response = send("PUT " + path, body);
        EXPECT_EQ(response.status, 200);
        EXPECT_EQ(get(path).body, response.body);
        const json task = json::parse(response.body);
        EXPECT_EQ(task["id"], id);
        return task["title"].get<std::string>() + "|" + task["description"].get<std::string>() + "|" +
               (task["done"] ? "x" : "");
    };
    EXPECT_EQ(changed("{}"), "buy milk||");
    EXPECT_EQ(changed(R"({"done":true})"), "buy milk||x");
    EXPECT_EQ(changed(R"({"title":" oat milk ","id":"other"})"), " oat milk ||x");
    EXPECT_EQ(changed(R"({"description":"two\r\nlitres"})"), " oat milk |two\r\nlitres|x");
    EXPECT_EQ(changed(R"({"description":"","done":false})"), " oat milk ||");

    EXPECT_EQ(http(server, request("DELETE " + path)).status, 204);
    for (const char* method : {"GET ", "DELETE "}) expect_error(http(server, request(method + path)), 404, method);
    expect_error(send("PUT " + path, R"({"done":true})"), 404, "PUT");
}

TEST_F(Api, NamesATaskByItsWholeIdOnly) {
    for (const std::string& other : {id.substr(0, 8), id.substr(0, 35), id + "0", "%25"s, "nothing"s})
        expect_error(get("/api/tasks/" + other), 404, other);
    std::string upper = id;
    for (char& c : upper) c = static_cast<char>(std::toupper(c));
    EXPECT_EQ(get("/api/tasks/" + upper).status, 200);
    EXPECT_EQ(get(replaced(path, "-", "%2d")).status, 200);
}

TEST_F(Api, ComputesAndWaits) {
    const struct {
        std::string_view target, body;
        std::chrono::nanoseconds wait;
        std::string_view type = "application/json";
    } rows[] = {{"/fib/30", R"({"n":30,"fib":832040})", 0s},
                {"/fib/1", R"({"n":1,"fib":1})", 0s},
                {"/fib/20", R"({"n":20,"fib":6765})", 0s},
                {"/fib/21", R"({"n":21,"fib":10946})", 0s},
                {"/fib/007?x=1", R"({"n":7,"fib":13})", 0s},
                {"/sleep/1.5", R"({"slept":1.5})", 1500ms},
                {"/sleep/.25", R"({"slept":0.25})", 250ms},
                {"/sleep/0", R"({"slept":0})", 0s},
                {"/sleep/60", R"({"slept":60})", 60s},
                {"/ioTask", R"({"slept":1})", 1s},
                {"/say/hello?name=alice", "hello alice", 1s, "text/plain; charset=utf-8"},
                {"/say/hello?x=y&name=a+b%2Bc%20%C3%A9&name=z", "hello a b+c \xc3\xa9", 1s, "text/plain; charset=utf-8"},
                {"/say/hello?n%61me=a%26b=c", "hello a&b=c", 1s, "text/plain; charset=utf-8"}};
    for (const auto& row : rows) {
        Client client(server);
        const auto all = responses(client.send(request("GET " + std::string(row.target))).take());
        ASSERT_EQ(all.size(), 1U) << row.target;
        EXPECT_EQ(all[0].status, 200) << row.target;
        EXPECT_EQ(all[0].body, row.body);
        EXPECT_EQ(all[0].field("Content-Type"), row.type);
        EXPECT_EQ(client.waits.empty() ? 0ns : client.waits.front(), row.wait) << row.target;
    }
    const Work cpu = work("GET", "/cpuTask");
    ASSERT_TRUE(std::holds_alternative<Compute>(cpu));
    EXPECT_EQ(std::get<Compute>(cpu).n, 45);
    EXPECT_EQ(std::get<Compute>(cpu).say(45, 1134903170).body, R"({"n":45,"fib":1134903170})");
    server.service.options.max_fib = 44;
    EXPECT_EQ(std::get<Compute>(work("GET", "/cpuTask")).n, 44) << "no more than --max-fib";
    server.service.options.max_fib = 7;
    EXPECT_EQ(get("/cpuTask").body, R"({"n":7,"fib":13})");
}

TEST_F(Api, RefusesBadNumbersAndNames) {
    for (const char* n : {"0", "51", "-1", "+1", "1.0", "abc", "1e1", "99999999999999999999", "%20", "1%202", "0x1"})
        expect_error(get("/fib/"s + n), 400, n);
    for (const char* seconds :
         {"60.001", "61", "-1", "1e1", "1.2.3", ".", "nan", "inf", "99999999999999999999999", "1,5", "%201"})
        expect_error(get("/sleep/"s + seconds), 400, seconds);
    for (const char* query : {"", "?", "?name", "?name=", "?name=+", "?nam=x", "?Name=x", "?name=%ff", "?name=%00",
                              "?name=a%0ab", "?name=%c2%85", "?name=%", "?name=%4", "?name=%zz"})
        expect_error(get("/say/hello"s + query), 400, query);
    for (const int largest : {1, 30, 90}) {
        server.service.options.max_fib = largest;
        const Work taken = work("GET", "/fib/" + std::to_string(largest));
        EXPECT_TRUE(std::holds_alternative<Compute>(taken) || std::get<Reply>(taken).status == 200) << largest;
        expect_error(get("/fib/" + std::to_string(largest + 1)), 400, "one above");
    }
}

TEST_F(Api, AnswersWithThePage) {
    for (const char* target : {"/", "/?x=y", "http://localhost", "http://localhost/"}) {
        const auto response = get(target);
        EXPECT_EQ(response.status, 200) << target;
        EXPECT_EQ(response.body, page()) << target;
        EXPECT_EQ(response.field("Content-Type"), "text/html; charset=utf-8");
    }
    EXPECT_TRUE(page().starts_with("<!doctype html>\n"));
    EXPECT_TRUE(page().ends_with("</html>\n"));
}

TEST_F(Api, SaysWhatServerThisIs) {
    json said = json::parse(get("/server").body);
    EXPECT_EQ(said["server"], "stage0_test");
    EXPECT_EQ(said["technique"], "no network at all");
    EXPECT_EQ(said["pid"], getpid());
    EXPECT_EQ(said["count"], 0);
    EXPECT_EQ(said["options"]["db"], ":memory:");
    EXPECT_EQ(said["options"]["max_fib"], 50);
    EXPECT_EQ(said["options"]["host"], "127.0.0.1");
    EXPECT_EQ(json::parse(get("/server").body)["count"], 1) << "this request counts";
    get("/nothing");
    get("/fib/7");
    http(server, request("BREW /"));
    EXPECT_EQ(json::parse(get("/server").body)["count"], 5) << "errors, too";
    EXPECT_EQ(ask(server, "count\n"), "count: 6\n") << "of both protocols";
}

TEST_F(Api, OtherPathsAre404AndOtherMethods405) {
    for (const char* nowhere :
         {"/nothing", "/api", "/api/tasks/", "/api/tasks/a/b", "/api/task/x", "/fib", "/fib/", "/fib/7/", "/fib//7",
          "//fib/7", "//", "/*", "/FIB/7", "/cpuTask/", "/say", "/say/hello/", "/server/x", "/fib/../fib/7", "/./fib/7"})
        expect_error(get(nowhere), 404, nowhere);
    for (const char* nowhere : {"/fib%2F7", "/fib%2f/7", "/api%2ftasks", "/fib/7%2f", "/say%2Fhello?name=x"})
        expect_error(get(nowhere), 404, nowhere);
    const auto allowed = [&](const std::string& line) {
        const auto response = http(server, request(line));
        expect_error(response, 405, line);
        return response.field("Allow");
    };
    for (const char* line : {"PUT /api/tasks", "DELETE /api/tasks"}) EXPECT_EQ(allowed(line), "GET, HEAD, POST");
    for (const char* line : {"GET /api/task", "PUT /api/task"}) EXPECT_EQ(allowed(line), "POST");
    for (const auto& line : {"POST " + path, "PATCH /api/tasks/x"s}) EXPECT_EQ(allowed(line), "GET, HEAD, PUT, DELETE");
    for (const char* line :
         {"POST /", "POST /fib/7", "PUT /sleep/1", "DELETE /cpuTask", "TRACE /server", "POST /say/hello?name=x"})
        EXPECT_EQ(allowed(line), "GET, HEAD");
    for (const char* wrong :
         {"/fib/%", "/fib/%7", "/fib/%g7", "/%zz", "/fib/%ff", "/%c3%28", "/fib/%00", "/%00", "/fib/7%0a"})
        expect_error(get(wrong), 400, wrong);
    for (const char* nowhere : {"/%02", "/%7f", "/%0a/7", "/%c2%9b", "/api/tasks/%0a", "/%22", "/%5c", "/%7b%7D"})
        expect_error(get(nowhere), 404, nowhere);
    for (const char c : "\"<>\\^`{|}"sv) {
        for (const std::string place : {"/", "/fib/7", "http://localhost/"}) expect_error(get(place + c), 400, place + c);
        EXPECT_EQ(get("/fib/7?"s + c).status, 200) << c;
    }
    EXPECT_EQ(get("/%66ib/%33%30").body, R"({"n":30,"fib":832040})");
}

TEST_F(Api, OptionsListTheAllowedMethods) {
    const auto allowed = [&](const std::string& target) {
        const auto response = http(server, request("OPTIONS " + target));
        EXPECT_EQ(response.status, 204) << target;
        EXPECT_EQ(response.field("Content-Type") + response.field("Content-Length") + response.body, "") << target;
        return response.field("Allow");
    };
    EXPECT_EQ(allowed("*"), "GET, HEAD, POST, PUT, DELETE");
    for (const char* target : {"/", "/?x", "http://localhost", "/fib/0", "/sleep/x", "/server"})
        EXPECT_EQ(allowed(target), "GET, HEAD") << target;
    EXPECT_EQ(allowed("/api/tasks"), "GET, HEAD, POST");
    EXPECT_EQ(allowed("/api/task"), "POST");
    EXPECT_EQ(allowed("/api/tasks/x"), "GET, HEAD, PUT, DELETE");
    expect_error(http(server, request("OPTIONS /nothing")), 404, "nothing");
    for (const char* target : {"*", "/"}) {
        EXPECT_EQ(http(server, "OPTIONS "s + target + " HTTP/1.0\r\n\r\n").status, 204) << target;
        EXPECT_EQ(http(server, "OPTIONS "s + target + " HTTP/1.1\r\nHost: evil.example\r\n\r\n").status, 421) << target;
    }
    for (const char* line : {"GET *", "OPTIONS **", "OPTIONS *?x", "OPTIONS /*", "OPTIONS x"}) {
        const int status = http(server, request(line)).status;
        EXPECT_TRUE(status == 400 || status == 404) << line;
    }
}

TEST_F(Api, RefusesBodiesOfTheWrongShape) {
    const auto refused = [&](std::string_view body) {
        expect_error(send("POST /api/tasks", body), 400, body);
        expect_error(send("PUT " + path, body), 400, body);
    };
    for (const char* body : {"{", "[]", R"([{"title":"a"}])", "null", "1", R"("title")", "title=a", R"({title:"a"})",
                             "{'title':'a'}", R"({"title":"a",})", R"({"title":"a"}x)", R"({"title":"a"}{})",
                             R"({"title":"a"} // no)", "\xff", R"({"title":"a","x":1e999})", "{\"\xff\":1,\"title\":\"a\"}"})
        refused(body);
    for (const char* title : {"", "1", "null", "true", "NaN", "{}", R"(["a"])", R"("")", R"(" ")", "'a'", R"("\x")"})
        refused("{\"title\":"s + title + "}");
    for (const char* title : {R"("a\nb")", "\"a\nb\"", R"("a\u0000")", R"("\u007f")", R"("\u0085")", R"("a\tb")", "\"\xff\"",
                              "\"\xc3\"", "\"\xed\xa0\x80\"", R"("\ud800")", R"("\udc00\ud800")"})
        refused("{\"title\":"s + title + "}");
    for (const char* description : {"1", "null", "[]", "\"\xc3\x28\"", R"("a\u0000b")", R"("\u0000")"})
        refused(R"({"title":"a","description":)"s + description + "}");
    for (const char* done : {"1", "null", R"("true")", "[]"}) refused(R"({"title":"a","done":)"s + done + "}");
    for (const auto& body : {times("[", 60'000), times("{\"a\":", 12'000), times("[", 30'000) + times("]", 30'000)})
        refused(body);
    for (const char* body : {"{}", R"({"Title":"a"})", R"({"description":"a"})"})
        expect_error(send("POST /api/task", body), 400, body);
    for (const std::string line : {"POST /api/task", "PUT /api/tasks/x"})
        expect_error(http(server, json_request(line, "")), 400, line);
    EXPECT_EQ(send("POST /api/task", R"({"title":"a","x":)" + times("[", 30'000) + times("]", 30'000) + "}").status, 201);
    EXPECT_NE(get(path).body.find("buy milk"), std::string::npos) << "a refused body changed it";
    EXPECT_EQ(server.tasks.list().size(), 2U);
}

TEST_F(Api, TakesTheLastOfDuplicateMembers) {
    const auto title = [&](std::string_view body) { return json::parse(send("PUT " + path, body).body).value("title", ""); };
    EXPECT_EQ(title(R"({"title":1,"done":"x","title":"a","done":true})"), "a");
    EXPECT_EQ(title(R"({"title":["x"],"title":"b","x":{"title":1,"title":[{"title":2}]},"x":[{"title":3}]})"), "b");
    for (const char* last : {"1", "null", "[]", "{}", R"({"title":"x"})", R"(["x"])"})
        expect_error(send("PUT " + path, R"({"title":"a","title":)"s + last + "}"), 400, last);
}

TEST_F(Api, RefusesANulAfterTheJson) {
    expect_error(send("POST /api/task", "{\"title\":\"a\"}\0"sv), 400, "NUL");
    expect_error(send("PUT " + path, "{\"title\":\"a\"}\0nonsense"sv), 400, "NUL");
}

TEST_F(Api, LimitsTitlesAndDescriptionsInCharacters) {
    for (const auto letter : {"a"sv, "\xc3\xa9"sv, "\xf0\x9f\x98\x80"sv, "\\u00e9"sv, "\\ud83d\\ude00"sv}) {
        const auto statuses = [&](std::string_view member, std::size_t n) {
            const std::string body = (member == "title" ? "" : "\"title\":\"a\",") +
                                     ("\"" + std::string(member) + "\":\"" + times(letter, n) + "\"");
            return std::pair(send("POST /api/task", "{" + body + "}").status, send("PUT " + path, "{" + body + "}").status);
        };
        for (const std::size_t n : {199U, 200U}) EXPECT_EQ(statuses("title", n), std::pair(201, 200)) << letter << n;
        for (const std::size_t n : {999U, 1000U}) EXPECT_EQ(statuses("description", n), std::pair(201, 200)) << letter << n;
        EXPECT_EQ(statuses("title", 201), std::pair(400, 400)) << letter;
        EXPECT_EQ(statuses("description", 1001), std::pair(400, 400)) << letter;
    }
}

TEST_F(Api, TakesOnlyBodiesDeclaredAsJson) {
    for (const std::string& line : {"POST /api/task"s, "POST /api/tasks"s, "PUT " + path}) {
        const auto status = [&](const std::string& fields) {
            return http(server, request(line, fields, R"({"title":"a"})")).status;
        };
        for (const char* type : {"application/json", "Application/JSON", "application/json; charset=utf-8",
                                 "application/json;x", "application/json \t; x"})
            EXPECT_LT(status("Content-Type: "s + type + "\r\n"), 300) << type;
        for (const char* type :
             {"", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=application/json",
              "application/jsonx", "text/plain; application/json", "json", "application/json, text/plain",
              "application/ json", "application/vnd.api+json"})
            EXPECT_EQ(status("Content-Type: "s + type + "\r\n"), 415) << type;
        EXPECT_EQ(status(""), 415);
        EXPECT_EQ(status("Content-Type: application/json\r\nContent-Type: text/plain\r\n"), 400);
        EXPECT_EQ(status("Content-Type: application/json\r\nContent-Type: application/json\r\n"), 400);
    }
}

TEST_F(Api, AnswersOnlyForAllowedHosts) {
    server.service.options.host = "box.lan";
    server.service.options.allowed_hosts = {"one.example", "Two.Example"};
    for (const char* host :
         {"localhost",   "localhost.",      "LOCALHOST.:9999",  "Two.Example.", "LocalHost:9999",       "localhost:",
          "localhost:0", "localhost:65535", "localhost:000080", "127.0.0.1",    "127.0.0.1:80",         "192.168.1.5",
          "0.0.0.0",     "[::1]",           "[::1]:9999",       "[FE80::1]",    "[::ffff:127.0.0.1]:1", "box.lan",
          "BOX.lan:80",  "one.example",     "ONE.example:1",    "two.example"})
        EXPECT_EQ(status_of_host(host), 200) << host;
    for (const char* host : {"evil.example", "localhost.evil.example", "evil.localhost", "xlocalhost",
                             "127.0.0.1.evil.example", "256.1.1.1", "1.2.3", "three.example", "x.one.example", "*", "box",
                             "localhost..", ".localhost", "under_score", "a-b.c~d", "localhost;x"})
        EXPECT_EQ(status_of_host(host), 421) << host;
    server.service.options.allowed_hosts = {"*"};
    EXPECT_EQ(status_of_host("evil.example:80"), 200);
    EXPECT_EQ(status_of_host("evil.example."), 200);
}

TEST_F(Api, AlwaysRefusesAMalformedHost) {
    server.service.options.allowed_hosts = {"*"};
    for (const char* host : {"",
                             "localhost:x",
                             "localhost:80:80",
                             "localhost:-1",
                             "localhost:65536",
                             "localhost:4294967376",
                             "localhost:8 0",
                             "localhost evil",
                             "local\thost",
                             "localhost, evil",
                             "localhost,evil",
                             ",",
                             "evil@localhost",
                             "localhost@evil",
                             "@",
                             "localhost/",
                             "localhost/x",
                             "localhost?x",
                             "localhost#x",
                             "::1",
                             "[::1]x",
                             "[::1]]",
                             "[[::1]]",
                             "[]",
                             "[",
                             "[:",
                             "]",
                             ":",
                             ":80",
                             "[::1",
                             "[::1]:x",
                             "[::1]:65536",
                             "[localhost]",
                             "[127.0.0.1]",
                             "[127.0.0.1",
                             "[v1.x]",
                             "localhost\x80",
                             "caf\xc3\xa9",
                             "%6cocalhost",
                             "\"localhost\"",
                             "<localhost>",
                             "local\\host",
                             "{localhost}"}) {
        const auto response = http(server, "GET /fib/7 HTTP/1.1\r\nHost: "s + host + "\r\n\r\n");
        EXPECT_EQ(response.status, 400) << host;
        EXPECT_EQ(response.field("Connection"), "close") << host;
        if (*host == '\0' || std::strpbrk(host, "\t /?#\x80\xc3")) continue;  // no part of an authority
        EXPECT_EQ(get("http://"s + host + "/fib/7").status, 400) << host;
        EXPECT_EQ(http(server, "GET /fib/7 HTTP/1.0\r\nHost: "s + host + "\r\n\r\n").status, 400) << host;
    }
    EXPECT_EQ(http(server, "GET http://localhost/fib/7 HTTP/1.1\r\nHost: a@b\r\n\r\n").status, 400);
}

TEST_F(Api, AnAbsoluteTargetOverridesHostAndHttp10NeedsNone) {
    const auto status = [&](const std::string& target, const std::string& host) {
        return http(server, "GET " + target + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n").status;
    };
    EXPECT_EQ(status("http://localhost/fib/7", "localhost"), 200);
    EXPECT_EQ(status("http://localhost:9999/fib/7", "evil.example"), 200) << "Host is ignored then (RFC 9112, 3.2.2)";
    EXPECT_EQ(status("HTTP://[::1]:80/fib/7?x", "localhost"), 200);
    EXPECT_EQ(status("http://evil.example/fib/7", "localhost"), 421);
    for (const char* target : {"https://localhost/fib/7", "HTTPS://localhost", "https://evil.example/"})
        EXPECT_EQ(status(target, "localhost"), 421) << target;
    for (const char* target : {"http://localhost@evil.example/fib/7", "https://a@b/", "ftp://localhost/fib/7",
                               "http:///fib/7", "http://", "http:/fib/7", "localhost:9999", "fib/7", "/fib/7#x"})
        EXPECT_EQ(status(target, "localhost"), 400) << target;
    EXPECT_EQ(http(server, "GET /fib/7 HTTP/1.0\r\n\r\n").status, 200);
    EXPECT_EQ(http(server, "GET /fib/7 HTTP/1.0\r\nHost: evil.example\r\n\r\n").status, 421);
    EXPECT_EQ(http(server, "GET http://evil.example/fib/7 HTTP/1.0\r\n\r\n").status, 421);
    EXPECT_EQ(http(server, "GET /fib/7 HTTP/1.0\r\nHost: localhost\r\nHost: localhost\r\n\r\n").status, 400);
    const auto none = http(server, "GET /fib/7 HTTP/1.1\r\n\r\n");
    EXPECT_EQ(none.status, 400);
    EXPECT_EQ(none.field("Connection"), "close");
}

TEST_F(Api, RefusesTheThousandAndFirstTaskWith507) {
    for (int i = 2; i < 1000; ++i) server.tasks.add({.id = {}, .title = "t", .description = {}});
    EXPECT_EQ(send("POST /api/task", R"({"title":"the last"})").status, 201);
    expect_error(send("POST /api/task", R"({"title":"one more"})"), 507, "the 1,001st");
    EXPECT_EQ(json::parse(get("/api/tasks").body).size(), 1000U);
    EXPECT_EQ(send("PUT " + path, R"({"title":"still changed"})").status, 200);
    EXPECT_EQ(http(server, request("DELETE " + path)).status, 204);
    EXPECT_EQ(send("POST /api/task", R"({"title":"one more"})").status, 201);
}

TEST_F(Api, AnUnavailableDatabaseIs503) {
    Options options = test_options();
    options.db = "/nonexistent/tasks.db";
    Server other(options);
    for (const auto& bytes : {request("GET /api/tasks"), request("GET /api/tasks/x"), request("DELETE /api/tasks/x"),
                              json_request("POST /api/task", R"({"title":"a"})"), json_request("PUT /api/tasks/x", "{}")})
        expect_error(http(other, bytes), 503, bytes);
    EXPECT_EQ(json::parse(http(other, request("GET /server")).body)["count"], 5) << "what needs no tasks still works";
}

TEST_F(Api, TellsReadsFromWrites) {
    const auto writes = [&](std::string method, std::string target) {
        return std::get<Store>(work(std::move(method), std::move(target), R"({"title":"a"})")).query.writes();
    };
    EXPECT_FALSE(writes("GET", "/api/tasks") || writes("HEAD", "/api/tasks/x"));
    EXPECT_TRUE(std::holds_alternative<Count>(work("GET", "/server")));
    EXPECT_TRUE(writes("POST", "/api/task") && writes("PUT", "/api/tasks/x") && writes("DELETE", "/api/tasks/x"));
}
