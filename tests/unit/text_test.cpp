// Small helpers of both protocols and of the loops: text, numbers, time.
#include <gtest/gtest.h>

#include <cmath>
#include <list>
#include <optional>

#include "base/fd.hpp"
#include "base/text.hpp"
#include "sockets/deadlines.hpp"

using namespace std::chrono_literals;
using namespace std::string_view_literals;

TEST(Text, ReadsWholeNumbersOfPlainDigitsOnly) {
    for (const auto& [text, number] :
         {std::pair{"0"sv, 0}, {"7", 7}, {"007", 7}, {"999999999", 999999999}, {"0000000000030", 30}})
        EXPECT_EQ(parse_whole(text), number) << text;
    for (const auto text : {""sv, " 1"sv, "1 "sv, "+1"sv, "-1"sv, "1.0"sv, "1e3"sv, "0x1"sv, "a"sv, "1\0"sv, "1000000000"sv,
                            "99999999999999999999"sv, "\xd9\xa3"sv})
        EXPECT_EQ(parse_whole(text), std::nullopt) << text;
}

TEST(Text, ReadsSecondsWithAtMostOnePoint) {
    for (const auto& [text, seconds] :
         {std::pair{"1"sv, 1.0}, {"1.5", 1.5}, {".5", 0.5}, {"5.", 5.0}, {"0", 0.0}, {"00.250", 0.25}, {"60", 60.0}})
        EXPECT_EQ(parse_seconds(text), seconds) << text;
    for (const auto text : {""sv, "."sv, ".."sv, "1.5.5"sv, "1..5"sv, "-1"sv, "+1"sv, "1e3"sv, "1,5"sv, " 1"sv, "1 "sv,
                            "inf"sv, "nan"sv, "0x1"sv, "1\0"sv})
        EXPECT_EQ(parse_seconds(text), std::nullopt) << text;
    const std::string zeros(400, '0');
    EXPECT_EQ(parse_seconds("9" + zeros), HUGE_VAL);
    EXPECT_EQ(parse_seconds("9" + zeros + ".5"), HUGE_VAL);
    EXPECT_EQ(parse_seconds("." + zeros + "1"), 0.0);
    EXPECT_EQ(parse_seconds("0." + zeros + "1"), 0.0);
    EXPECT_EQ(parse_seconds(zeros + "1.5"), 1.5);
}

TEST(Text, TrimsOnlySpacesAndTabs) {
    EXPECT_EQ(trimmed(" \t a b\t "), "a b");
    EXPECT_EQ(trimmed("a"), "a");
    EXPECT_EQ(trimmed(""), "");
    EXPECT_EQ(trimmed(" \t "), "");
    EXPECT_EQ(trimmed("\ra\n"), "\ra\n");
    EXPECT_EQ(trimmed("\0 "sv), "\0"sv);
}

TEST(Text, TellsUtf8FromOtherBytes) {
    for (const auto text : {""sv, "a"sv, "\0"sv, "\x7f"sv, "\xc2\x80"sv, "\xdf\xbf"sv, "\xe0\xa0\x80"sv, "\xed\x9f\xbf"sv,
                            "\xee\x80\x80"sv, "\xef\xbf\xbf"sv, "\xf0\x90\x80\x80"sv, "\xf4\x8f\xbf\xbf"sv})
        EXPECT_TRUE(is_utf8(text)) << printable(text);
    for (const auto text : {"\x80"sv, "\xff"sv, "\xfe"sv, "\xc3"sv, "a\xc3"sv, "\xc3("sv, "\xe2\x82"sv, "\xf0\x9f\x98"sv,
                            "\xc0\xaf"sv,          // overlong
                            "\xc1\xbf"sv,          //
                            "\xe0\x9f\xbf"sv,      //
                            "\xf0\x8f\xbf\xbf"sv,  //
                            "\xed\xa0\x80"sv,      // half of a surrogate pair
                            "\xf4\x90\x80\x80"sv,  // beyond U+10FFFF
                            "\xf5\x80\x80\x80"sv})
        EXPECT_FALSE(is_utf8(text)) << printable(text);
}

TEST(Text, FindsControlCharacters) {
    for (const auto text : {"\0"sv, "a\nb"sv, "\t"sv, "\r"sv, "\x1b[2J"sv, "\x1f"sv, "\x7f"sv, "\xc2\x80"sv, "x\xc2\x9f"sv})
        EXPECT_TRUE(has_control(text)) << printable(text);
    for (const auto text : {""sv, " ~"sv, "\xc2\xa0"sv, "\xc3\x80"sv, "\xe2\x80\xa8"sv, "\xf0\x9f\x98\x80"sv, "\xc2"sv})
        EXPECT_FALSE(has_control(text)) << printable(text);
}

TEST(Text, KnowsTextThatCanBeTypedInALine) {
    for (const auto text : {"", "a\tb", "caf\xc3\xa9", "\xf0\x9f\x98\x80", "\xc2\xa0"}) EXPECT_TRUE(is_text(text)) << text;
    for (const auto text :
         {"\0"sv, "\x16\x03"sv, "a\rb"sv, "a\nb"sv, "\x7f"sv, "\xc2\x9b"sv, "\xff"sv, "\xc3"sv, "\xed\xa0\x80"sv})
        EXPECT_FALSE(is_text(text)) << text;
}

TEST(Text, IsCutBetweenTwoCharacters) {
    EXPECT_EQ(beginning("abc", 3), "abc");
    EXPECT_EQ(beginning("abc", 2), "ab");
    EXPECT_EQ(beginning("", 0), "");
    const std::string_view text = "a\xc3\xa9\xe6\x9d\x8e\xf0\x9f\x98\x80z";
    const std::size_t ends[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11};
    for (std::size_t most = 0; most <= text.size(); ++most) EXPECT_EQ(beginning(text, most).size(), ends[most]) << most;
    EXPECT_EQ(beginning("\x80\x80\x80\x80\x80\x80", 5).size(), 2U) << "no character is that long";
}

TEST(Text, CountsCharactersNotBytes) {
    EXPECT_EQ(characters(""), 0U);
    EXPECT_EQ(characters("abc"), 3U);
    EXPECT_EQ(characters("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"), 3U);
}

TEST(Text, EscapesWhatATerminalWouldObey) {
    EXPECT_EQ(printable("plain, \xc3\xa9, \xf0\x9f\x98\x80"), "plain, \xc3\xa9, \xf0\x9f\x98\x80");
    EXPECT_EQ(printable("a\nb\r\n"), "a\\nb\\x0d\\n");
    EXPECT_EQ(printable("\0\t\x1b[2J\x7f"sv), "\\x00\\x09\\x1b[2J\\x7f");
    EXPECT_EQ(printable("\xc2\x9b!"), "\\xc2\\x9b!");
    EXPECT_EQ(printable("\xc3\xa9\xff"), "\\xc3\\xa9\\xff");
    EXPECT_EQ(printable("\xc2"), "\\xc2");
    EXPECT_TRUE(is_utf8(printable("\xc3\xa9\xc2\x85\xc3\xa9")));
}

TEST(Text, IgnoresTheCaseOfAsciiLetters) {
    EXPECT_TRUE(equal_ignoring_case("Content-Type", "cONTENT-tYPE"));
    EXPECT_TRUE(equal_ignoring_case("", ""));
    for (const auto& [a, b] : {std::pair{"a"sv, "ab"sv}, {"ab", "a"}, {"@", "`"}, {"[", "{"}, {"\xc3\x89", "\xc3\xa9"}})
        EXPECT_FALSE(equal_ignoring_case(a, b)) << a << " " << b;
}

TEST(Fd, IsClosedOnceByItsLastOwner) {
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    const Fd reader(ends[0]);
    Fd writer(ends[1]);
    EXPECT_FALSE(Fd());
    Fd other(std::move(writer));
    writer = std::move(other);
    EXPECT_EQ(writer.get(), ends[1]);
    EXPECT_EQ(other.get(), -1);  // NOLINT(bugprone-use-after-move): that is what is tested
    writer.close();
    writer.close();
    char byte = 0;
    EXPECT_EQ(read(reader.get(), &byte, 1), 0) << "the other end is still open";
}

// --- time ---------------------------------------------------------------------------------------------------------------

namespace {

const TimePoint now{1h};

}  // namespace

TEST(Deadlines, ComeInTheOrderOfTime) {
    Deadlines<char> queue;
    EXPECT_EQ(queue.due(now), std::nullopt);
    const Deadlines<char>::Entry c(queue, now + 3s, 'c');
    std::optional<Deadlines<char>::Entry> a(std::in_place, queue, now + 1s, 'a');
    const Deadlines<char>::Entry b(queue, now + 2s, 'b');
    EXPECT_EQ(queue.due(now), std::nullopt);
    EXPECT_EQ(queue.due(now + 1s - 1ns), std::nullopt);
    EXPECT_EQ(queue.due(now + 1s), 'a') << "exactly on time";
    EXPECT_EQ(queue.due(now + 9s), 'a') << "until its owner is destroyed";
    a.reset();
    EXPECT_EQ(queue.due(now + 9s), 'b');
}

TEST(Deadlines, OfTheSameTimeComeInTheOrderOfCreation) {
    Deadlines<char> queue;
    std::list<Deadlines<char>::Entry> entries;
    for (const char c : {'a', 'b', 'c'}) entries.emplace_back(queue, now, c);
    EXPECT_EQ(queue.due(now), 'a');
    entries.front().move(now);
    EXPECT_EQ(queue.due(now), 'a') << "moved to its own time";
    entries.pop_front();
    EXPECT_EQ(queue.due(now), 'b');
}

TEST(Deadlines, CanBeMovedLaterAndEarlier) {
    Deadlines<char> queue;
    {
        Deadlines<char>::Entry a(queue, now + 1s, 'a');
        const Deadlines<char>::Entry b(queue, now + 2s, 'b');
        a.move(now + 3s);
        EXPECT_EQ(a.when(), now + 3s);
        EXPECT_EQ(queue.due(now + 9s), 'b');
        a.move(now);
        EXPECT_EQ(queue.due(now), 'a');
    }
    EXPECT_EQ(queue.due(TimePoint::max()), std::nullopt);
}

TEST(Deadlines, AreRoundedUpToWholeMilliseconds) {
    const std::pair<std::chrono::nanoseconds, int> waits[] = {
        {-5s, 0},    {0ns, 0},      {1ns, 1},          {1ms, 1},          {1ms + 1ns, 2},
        {1500us, 2}, {60s, 60'000}, {24h, 86'400'000}, {25h, 86'400'000}, {1000 * 24h, 86'400'000}};
    for (const auto& [left, milliseconds] : waits) {
        Deadlines<int> queue;
        const Deadlines<int>::Entry entry(queue, now + left, 1);
        EXPECT_EQ(queue.timeout(now), milliseconds) << left.count();
    }
    Deadlines<int> queue;
    EXPECT_EQ(queue.timeout(now), -1) << "nothing to wait for";
    const Deadlines<int>::Entry entry(queue, TimePoint::max(), 1);
    EXPECT_EQ(queue.timeout(now), -1) << "a client without a time-out";
    EXPECT_EQ(queue.due(now + 1000h), std::nullopt);
}
