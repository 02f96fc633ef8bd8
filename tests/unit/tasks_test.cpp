// The ToDo list: one connection, two to one file, and a database in other hands.
#include <gtest/gtest.h>
#include <sqlite3.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <set>
#include <string_view>

#include "tasks.hpp"

using namespace std::string_view_literals;
using namespace std::chrono_literals;

namespace {

/// A directory that goes with its test.
class TasksFile : public testing::Test {
   protected:
    TasksFile() {
        std::string place = testing::TempDir() + "tasksXXXXXX";
        directory_ = mkdtemp(place.data());
        path = directory_ / "tasks.db";
    }
    ~TasksFile() override { std::filesystem::remove_all(directory_); }
    TasksFile(const TasksFile&) = delete;
    TasksFile& operator=(const TasksFile&) = delete;

    std::string path;

   private:
    std::filesystem::path directory_;
};

/// A connection by SQLite's own calls: another program at the same file.
class Raw {
   public:
    explicit Raw(const std::string& path) { EXPECT_EQ(sqlite3_open(path.c_str(), &db_), SQLITE_OK); }
    ~Raw() { sqlite3_close(db_); }
    Raw(const Raw&) = delete;
    Raw& operator=(const Raw&) = delete;
    void run(const char* sql) {
        EXPECT_EQ(sqlite3_exec(db_, sql, nullptr, nullptr, nullptr), SQLITE_OK) << sqlite3_errmsg(db_);
    }

   private:
    sqlite3* db_ = nullptr;
};

Task titled(std::string_view title) { return {.id = {}, .title = std::string(title), .description = {}}; }

std::string titles(Tasks& tasks) {
    std::string all;
    for (const Task& task : tasks.list()) all += task.title + ' ';
    return all;
}

template <class Call>
std::optional<TasksError::Kind> kind_of_error(Call call) {
    try {
        call();
        return {};
    } catch (const TasksError& error) {
        EXPECT_NE(error.what(), ""sv);
        return error.kind;
    }
}

}  // namespace

TEST(Tasks, AreListedInTheOrderOfCreation) {
    Tasks tasks(":memory:");
    EXPECT_TRUE(tasks.list().empty());
    for (const auto title : {"c", "a", "b"}) tasks.add(titled(title));
    EXPECT_EQ(titles(tasks), "c a b ");
    tasks.remove(tasks.list()[2].id);
    tasks.remove(tasks.list()[0].id);
    tasks.add(titled("d"));
    EXPECT_EQ(titles(tasks), "a d ");
    tasks.change(tasks.list()[0].id, {.title = "z", .description = {}, .done = {}});
    EXPECT_EQ(titles(tasks), "z d ") << "a change moves nothing";
}

TEST(Tasks, BearLowerCaseUuidsThatAllDiffer) {
    Tasks tasks(":memory:");
    std::set<std::string> ids;
    for (int i = 0; i < 50; ++i) ids.insert(tasks.add(titled("t")).id);
    EXPECT_EQ(ids.size(), 50U);
    for (const std::string& id : ids) {
        ASSERT_EQ(id.size(), 36U);
        for (std::size_t i = 0; i < id.size(); ++i) {
            const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
            EXPECT_NE((dash ? "-"sv : "0123456789abcdef"sv).find(id[i]), ""sv.npos) << id;
        }
        EXPECT_EQ(id[14], '4') << id << " is no random UUID (RFC 9562, 5.4)";
    }
}

TEST(Tasks, KeepWhatAChangeLeavesOut) {
    Tasks tasks(":memory:");
    const Task added = tasks.add({.id = "ignored", .title = "title", .description = "text", .done = true});
    EXPECT_NE(added.id, "ignored");
    const auto same = [](const std::optional<Task>& task, std::string_view title, std::string_view description, bool done) {
        return task && task->title == title && task->description == description && task->done == done;
    };
    EXPECT_TRUE(same(added, "title", "text", true));
    EXPECT_TRUE(same(tasks.change(added.id, {}), "title", "text", true));
    EXPECT_TRUE(same(tasks.change(added.id, {.title = "new", .description = {}, .done = {}}), "new", "text", true));
    EXPECT_TRUE(same(tasks.change(added.id, {.title = {}, .description = "", .done = {}}), "new", "", true));
    EXPECT_TRUE(same(tasks.change(added.id, {.title = {}, .description = {}, .done = false}), "new", "", false));
    EXPECT_TRUE(same(tasks.find(added.id), "new", "", false));
    const auto removed = tasks.remove(added.id);
    EXPECT_TRUE(same(removed, "new", "", false));
    EXPECT_EQ(removed->id, added.id);
}

TEST(Tasks, ThatAreNotThereAreNothing) {
    Tasks tasks(":memory:");
    const std::string id = tasks.add(titled("a")).id;
    tasks.remove(id);
    for (const std::string& none : {id, std::string(), id.substr(0, 8), std::string("%")}) {
        EXPECT_FALSE(tasks.find(none));
        EXPECT_FALSE(tasks.change(none, {.title = "x", .description = {}, .done = {}}));
        EXPECT_FALSE(tasks.remove(none));
    }
}

TEST(Tasks, AreNamedByAnyBeginningOfTheId) {
    Tasks tasks(":memory:");
    const std::string id = tasks.add(titled("a")).id;
    for (std::size_t size = 0; size <= id.size(); ++size) {
        const auto found = tasks.named(id.substr(0, size));
        ASSERT_EQ(found.size(), 1U) << id.substr(0, size);
        EXPECT_EQ(found.front().id, id);
    }
    std::string upper = id;
    for (char& c : upper) c = static_cast<char>(std::toupper(c));
    EXPECT_EQ(tasks.named(upper.substr(0, 20)).size(), 1U);
    EXPECT_TRUE(tasks.find(upper));
    EXPECT_FALSE(tasks.find(id.substr(0, 35)));
    EXPECT_FALSE(tasks.find(id + "0"));
    const std::string first = id.substr(0, 1);
    for (const auto& none :
         {id + "0", id + "-", first + "g", first + "%", first + "_", std::string("%"), std::string("_"), std::string("-"),
          std::string("g"), std::string("\xff"), first + std::string(1, '\0'), std::string("' OR 1 --")})
        EXPECT_TRUE(tasks.named(none).empty()) << none;
}

TEST(Tasks, ThatShareABeginningAreTwoAtMost) {
    Tasks tasks(":memory:");
    for (int i = 0; i < 33; ++i) tasks.add(titled("t"));  // of 33, three begin alike
    const auto all = tasks.list();
    for (const char c : "0123456789abcdef"sv) {
        const auto alike = std::count_if(all.begin(), all.end(), [&](const Task& task) { return task.id.front() == c; });
        EXPECT_EQ(tasks.named({&c, 1}).size(), static_cast<std::size_t>(std::min<long>(alike, 2)));
    }
    EXPECT_EQ(tasks.named("").size(), 2U);
}

TEST(Tasks, KeepEveryByteOfTheirText) {
    Tasks tasks(":memory:");
    const std::string text("\0a\0\r\n'\"\\\xf0\x9f\x98\x80\0"sv);
    const Task added = tasks.add({.id = {}, .title = text, .description = text});
    EXPECT_EQ(added.description, text);
    EXPECT_EQ(tasks.find(added.id)->title, text);
    EXPECT_EQ(tasks.list().front().description, text);
    EXPECT_EQ(tasks.change(added.id, {.title = {}, .description = text + text, .done = {}})->description, text + text);
    EXPECT_EQ(tasks.named(added.id).front().description, text + text);
}

TEST(Tasks, InMemoryAreSharedInTheProcessAndGoneWithTheLast) {
    {
        Tasks one(":memory:");
        one.add(titled("a"));
        {
            Tasks other(":memory:");
            EXPECT_EQ(titles(other), "a ");
            other.add(titled("b"));
        }
        EXPECT_EQ(titles(one), "a b ");
    }
    EXPECT_EQ(titles(*std::make_unique<Tasks>(":memory:")), "");
    EXPECT_FALSE(std::filesystem::exists("/tasks"));
    EXPECT_FALSE(std::filesystem::exists(":memory:"));
}

TEST_F(TasksFile, SurvivesClosing) {
    std::string id;
    {
        Tasks tasks(path);
        EXPECT_FALSE(std::filesystem::exists(path)) << "opened before it was needed";
        id = tasks.add({.id = {}, .title = "a", .description = "d", .done = true}).id;
        tasks.close();
        EXPECT_EQ(titles(tasks), "a ") << "the next use opens again";
    }
    Tasks again(path);
    again.open();
    again.open();
    const auto task = again.find(id);
    ASSERT_TRUE(task);
    EXPECT_EQ(task->title + task->description, "ad");
    EXPECT_TRUE(task->done);
}

TEST_F(TasksFile, ShowsEachConnectionWhatTheOtherWrote) {
    Tasks one(path);
    Tasks other(path);
    EXPECT_EQ(titles(one) + titles(other), "");
    const std::string a = one.add(titled("a")).id;
    EXPECT_EQ(titles(other), "a ");
    other.add(titled("b"));
    EXPECT_TRUE(other.change(a, {.title = "A", .description = {}, .done = true}));
    EXPECT_EQ(titles(one), "A b ");
    EXPECT_TRUE(one.remove(a));
    EXPECT_FALSE(other.find(a));
    EXPECT_FALSE(other.change(a, {}));
    EXPECT_TRUE(other.named(a).empty());
    EXPECT_EQ(titles(other), "b ");
}

TEST_F(TasksFile, HoldsAThousandAcrossItsConnections) {
    Tasks one(path);
    Tasks other(path);
    for (int i = 0; i < 499; ++i) {
        one.add(titled("a"));
        other.add(titled("b"));
    }
    one.add(titled("the 999th"));
    const std::string last = other.add(titled("the 1000th")).id;
    EXPECT_EQ(one.list().size(), 1000U);
    EXPECT_EQ(kind_of_error([&] { one.add(titled("one more")); }), TasksError::Kind::full);
    EXPECT_EQ(kind_of_error([&] { other.add(titled("one more")); }), TasksError::Kind::full);
    EXPECT_TRUE(one.change(last, {.title = "still changed", .description = {}, .done = {}}));
    EXPECT_TRUE(one.remove(last));
    EXPECT_EQ(kind_of_error([&] { other.add(titled("the 1000th again")); }), std::nullopt);
    EXPECT_EQ(kind_of_error([&] { one.add(titled("one more")); }), TasksError::Kind::full);
    EXPECT_EQ(one.list().size(), 1000U);
}

TEST_F(TasksFile, ThatAnotherWriterHoldsIsUnavailableAfterASecondAndReadableMeanwhile) {
    Tasks tasks(path);
    tasks.add(titled("a"));
    Raw other(path);
    other.run("BEGIN IMMEDIATE");
    EXPECT_EQ(titles(tasks), "a ");
    const auto before = std::chrono::steady_clock::now();
    EXPECT_EQ(kind_of_error([&] { tasks.add(titled("b")); }), TasksError::Kind::unavailable);
    const auto took = std::chrono::steady_clock::now() - before;
    EXPECT_GE(took, 900ms);
    EXPECT_LT(took, 5s);
    other.run("ROLLBACK");
    tasks.add(titled("c"));
    EXPECT_EQ(titles(tasks), "a c ") << "what failed changed nothing, and ended nothing";
}

TEST_F(TasksFile, ThatCannotBeOpenedIsUnavailableAndIsTriedAgain) {
    const std::string missing = path + ".d/tasks.db";
    Tasks tasks(missing);
    EXPECT_EQ(kind_of_error([&] { tasks.open(); }), TasksError::Kind::unavailable);
    EXPECT_EQ(kind_of_error([&] { tasks.list(); }), TasksError::Kind::unavailable);
    std::filesystem::create_directory(path + ".d");
    EXPECT_EQ(kind_of_error([&] { tasks.add(titled("a")); }), std::nullopt);
    Tasks directory(path + ".d");
    EXPECT_EQ(kind_of_error([&] { directory.open(); }), TasksError::Kind::unavailable);
}

TEST_F(TasksFile, ThatIsNoDatabaseIsUnavailableAndLeftAlone) {
    const std::string text(5000, 'x');
    std::ofstream(path) << text;
    Tasks tasks(path);
    EXPECT_EQ(kind_of_error([&] { tasks.open(); }), TasksError::Kind::unavailable);
    EXPECT_EQ(kind_of_error([&] { tasks.add(titled("a")); }), TasksError::Kind::unavailable);
    std::ifstream file(path);
    EXPECT_EQ(std::string(std::istreambuf_iterator<char>(file), {}), text);
}

TEST_F(TasksFile, WhoseTableIsNotOursIsUnavailable) {
    Raw(path).run("CREATE TABLE tasks (something TEXT)");
    Tasks tasks(path);
    EXPECT_EQ(kind_of_error([&] { tasks.list(); }), TasksError::Kind::unavailable);
    EXPECT_EQ(kind_of_error([&] { tasks.add(titled("a")); }), TasksError::Kind::unavailable);
    EXPECT_EQ(kind_of_error([&] { tasks.find("a"); }), TasksError::Kind::unavailable);
}

TEST_F(TasksFile, ThatIsLockedIsWaitedForOnceAndNotByEachWriter) {
    Tasks tasks(path);
    tasks.add(titled("a"));
    Raw other(path);
    other.run("BEGIN IMMEDIATE");
    const auto time_of_an_add = [&] {
        const auto before = std::chrono::steady_clock::now();
        EXPECT_EQ(kind_of_error([&] { tasks.add(titled("b")); }), TasksError::Kind::unavailable);
        return std::chrono::steady_clock::now() - before;
    };
    const auto first = time_of_an_add();
    EXPECT_LT(time_of_an_add() + time_of_an_add(), first) << "while the wait in vain is fresh";
    other.run("ROLLBACK");
    EXPECT_EQ(kind_of_error([&] { tasks.add(titled("c")); }), std::nullopt) << "it is tried, all the same";
}

TEST_F(TasksFile, ThatIsLockedWhileItIsOpenedIsWaitedForOnce) {
    Tasks(path).add(titled("a"));
    Raw(path).run("PRAGMA journal_mode = DELETE");
    Raw other(path);
    other.run("BEGIN IMMEDIATE");
    Tasks tasks(path);
    const auto time_of_a_list = [&] {
        const auto before = std::chrono::steady_clock::now();
        EXPECT_EQ(kind_of_error([&] { tasks.list(); }), TasksError::Kind::unavailable);
        return std::chrono::steady_clock::now() - before;
    };
    const auto first = time_of_a_list();
    EXPECT_LT(time_of_a_list() + time_of_a_list(), first);
    other.run("ROLLBACK");
    EXPECT_EQ(titles(tasks), "a ");
}

TEST_F(TasksFile, ThatIsNotInItsPlaceIsUnavailableUntilItIs) {
    Tasks tasks(path);
    tasks.add(titled("a"));
    std::filesystem::rename(path, path + ".away");
    EXPECT_EQ(kind_of_error([&] { tasks.add(titled("lost")); }), TasksError::Kind::unavailable);
    EXPECT_FALSE(std::filesystem::exists(path)) << "nothing is made in its place";
    Raw(path).run("CREATE TABLE another (one TEXT)");
    EXPECT_EQ(kind_of_error([&] { tasks.add(titled("lost")); }), TasksError::Kind::unavailable);
    std::filesystem::rename(path + ".away", path);
    tasks.add(titled("b"));
    EXPECT_EQ(titles(tasks), "a b ");
}

TEST_F(TasksFile, IsTheOneThatALinkLeadsTo) {
    Tasks(path + ".one").add(titled("one"));
    Tasks(path + ".other").add(titled("other"));
    std::filesystem::create_symlink(path + ".one", path);
    Tasks tasks(path);
    EXPECT_EQ(titles(tasks), "one ");
    std::filesystem::remove(path);
    std::filesystem::create_symlink(path + ".other", path);
    EXPECT_EQ(kind_of_error([&] { tasks.add(titled("lost")); }), TasksError::Kind::unavailable);
    EXPECT_EQ(titles(*std::make_unique<Tasks>(path)), "other ");
}

TEST_F(TasksFile, WhoseLogIsGoneLosesNothing) {
    {
        Tasks one(path);
        Tasks other(path);
        one.add(titled("a"));
        other.add(titled("b"));
        std::filesystem::remove(path + "-wal");
        other.add(titled("c"));
        one.add(titled("d"));
        EXPECT_EQ(titles(other), "a b c d ");
    }
    EXPECT_EQ(titles(*std::make_unique<Tasks>(path)), "a b c d ") << "the last one to close has seen to it";
}

TEST_F(TasksFile, ThatIsTakenAwayWhileItIsOpenedIsUnavailable) {
    static std::string taken;
    taken = path;
    const auto take = +[] { std::filesystem::remove(taken); };
    Tasks(path).add(titled("a"));
    sqlite3_auto_extension(take);  // called for every connection, when its file has just been opened
    Tasks tasks(path);
    EXPECT_EQ(kind_of_error([&] { tasks.add(titled("lost")); }), TasksError::Kind::unavailable);
    sqlite3_cancel_auto_extension(take);
    EXPECT_EQ(kind_of_error([&] { tasks.add(titled("b")); }), std::nullopt)
        << "it was never open, so this is as at the start";
    EXPECT_EQ(titles(*std::make_unique<Tasks>(path)), "b ");
}

TEST_F(TasksFile, ThatIsDamagedIsUnavailableUntilItIsMended) {
    Tasks(path).add(titled("a"));
    std::filesystem::copy_file(path, path + ".whole");
    Tasks tasks(path);
    std::ofstream(path, std::ios::in).write(std::string(4096, 'x').data(), 4096);
    EXPECT_EQ(kind_of_error([&] { tasks.list(); }), TasksError::Kind::unavailable);
    EXPECT_EQ(kind_of_error([&] { tasks.add(titled("b")); }), TasksError::Kind::unavailable);
    std::filesystem::copy_file(path + ".whole", path, std::filesystem::copy_options::overwrite_existing);
    EXPECT_EQ(titles(tasks), "a ");
    std::ofstream(path, std::ios::in).write(std::string(4096, 'x').data(), 4096);
    tasks.close();
    EXPECT_EQ(kind_of_error([&] { tasks.list(); }), TasksError::Kind::unavailable);
    std::filesystem::copy_file(path + ".whole", path, std::filesystem::copy_options::overwrite_existing);
    EXPECT_EQ(titles(tasks), "a ");
}
