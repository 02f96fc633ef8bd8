// The ToDo list: one connection, two to one file, and a file that others use.
#include <gtest/gtest.h>
#include <sqlite3.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <set>
#include <string_view>

#include "task_list.hpp"
#include "tasks/database_file.hpp"

using namespace std::string_view_literals;
using namespace std::chrono_literals;

namespace {

/// A directory that is removed with its test.
class TasksFile : public testing::Test {
   protected:
    TasksFile() {
        std::string place = testing::TempDir() + "tasksXXXXXX";
        directory_ = mkdtemp(place.data());
        path = directory_ / "tasks.db";
    }
    ~TasksFile() override {
        stop();
        std::filesystem::remove_all(directory_);
    }
    TasksFile(const TasksFile&) = delete;
    TasksFile& operator=(const TasksFile&) = delete;

    /// Starts a server on the file, or starts it again. Its Tasks must be closed.
    void start() {
        stop();
        server_.emplace(path);
    }

    void stop() { server_.reset(); }

    std::string path;

   private:
    std::filesystem::path directory_;
    std::optional<DatabaseFile> server_;
};

/// A connection by SQLite's own calls, as another program has it.
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

std::string titles(TaskList& tasks) {
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
    TaskList tasks(":memory:");
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

TEST(Tasks, HaveUniqueLowerCaseUuids) {
    TaskList tasks(":memory:");
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
    TaskList tasks(":memory:");
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

TEST(Tasks, AreNotFoundByAWrongId) {
    TaskList tasks(":memory:");
    const std::string id = tasks.add(titled("a")).id;
    tasks.remove(id);
    for (const std::string& none : {id, std::string(), id.substr(0, 8), std::string("%")}) {
        EXPECT_FALSE(tasks.find(none));
        EXPECT_FALSE(tasks.change(none, {.title = "x", .description = {}, .done = {}}));
        EXPECT_FALSE(tasks.remove(none));
    }
}

TEST(Tasks, AreNamedByAnyBeginningOfTheId) {
    TaskList tasks(":memory:");
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

TEST(Tasks, ThatShareABeginningAreListedUpToTwo) {
    TaskList tasks(":memory:");
    for (int i = 0; i < 33; ++i) tasks.add(titled("t"));  // of 33, at least three begin alike
    const auto all = tasks.list();
    for (const char c : "0123456789abcdef"sv) {
        const auto alike = std::count_if(all.begin(), all.end(), [&](const Task& task) { return task.id.front() == c; });
        EXPECT_EQ(tasks.named({&c, 1}).size(), static_cast<std::size_t>(std::min<long>(alike, 2)));
    }
    EXPECT_EQ(tasks.named("").size(), 2U);
}

TEST(Tasks, KeepEveryByteOfTheirText) {
    TaskList tasks(":memory:");
    const std::string text("\0a\0\r\n'\"\\\xf0\x9f\x98\x80\0"sv);
    const Task added = tasks.add({.id = {}, .title = text, .description = text});
    EXPECT_EQ(added.description, text);
    EXPECT_EQ(tasks.find(added.id)->title, text);
    EXPECT_EQ(tasks.list().front().description, text);
    EXPECT_EQ(tasks.change(added.id, {.title = {}, .description = text + text, .done = {}})->description, text + text);
    EXPECT_EQ(tasks.named(added.id).front().description, text + text);
}

TEST(Tasks, InMemoryAreSharedWithinTheProcess) {
    {
        TaskList one(":memory:");
        one.add(titled("a"));
        {
            TaskList other(":memory:");
            EXPECT_EQ(titles(other), "a ");
            other.add(titled("b"));
        }
        EXPECT_EQ(titles(one), "a b ");
    }
    EXPECT_EQ(titles(*std::make_unique<TaskList>(":memory:")), "");
    EXPECT_FALSE(std::filesystem::exists("/tasks"));
    EXPECT_FALSE(std::filesystem::exists(":memory:"));
}

TEST(Tasks, AddedTwiceByTheSameQueryAreOneTask) {
    TaskList tasks(":memory:");
    const Query question = new_task(titled("a"));
    const auto once = tasks.one(question);
    ASSERT_TRUE(once);
    tasks.change(once->id, {.title = {}, .description = {}, .done = true});
    for (int i = 1; i < 1000; ++i) tasks.add(titled("b"));
    EXPECT_FALSE(tasks.one(new_task(titled("one more"))));
    const auto twice = tasks.one(question);
    ASSERT_TRUE(twice);
    EXPECT_EQ(twice->id, once->id);
    EXPECT_TRUE(twice->done) << "it is the existing task, as it is now";
    EXPECT_EQ(tasks.list().size(), 1000U);
}

TEST_F(TasksFile, SurvivesClosing) {
    start();
    std::string id;
    {
        TaskList tasks(path);
        id = tasks.add({.id = {}, .title = "a", .description = "d", .done = true}).id;
        tasks.close();
        EXPECT_EQ(titles(tasks), "a ") << "the next use opens it again";
    }
    start();
    TaskList again(path);
    again.open();
    again.open();
    const auto task = again.find(id);
    ASSERT_TRUE(task);
    EXPECT_EQ(task->title + task->description, "ad");
    EXPECT_TRUE(task->done);
}

TEST_F(TasksFile, ShowsEachConnectionWhatTheOtherWrote) {
    start();
    TaskList one(path);
    TaskList other(path);
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
    start();
    TaskList one(path);
    TaskList other(path);
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

TEST_F(TasksFile, LockedFailsWritesAfterASecondButNoReads) {
    start();
    TaskList tasks(path);
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
    EXPECT_EQ(titles(tasks), "a c ") << "the failed write changed nothing, and later ones work";
}

TEST_F(TasksFile, ThatCannotBeOpenedIsUnavailable) {
    path += ".d/tasks.db";
    EXPECT_EQ(kind_of_error([&] { start(); }), TasksError::Kind::unavailable);
    EXPECT_EQ(kind_of_error([&] { TaskList(path).list(); }), TasksError::Kind::unavailable);
    path.resize(path.rfind('/'));
    std::filesystem::create_directory(path);
    EXPECT_EQ(kind_of_error([&] { start(); }), TasksError::Kind::unavailable) << "it is a directory";
    path += "/tasks.db";
    EXPECT_EQ(kind_of_error([&] { TaskList(path).list(); }), TasksError::Kind::unavailable);
    EXPECT_FALSE(std::filesystem::exists(path)) << "no server has started on it";
}

TEST_F(TasksFile, ThatIsNoDatabaseIsLeftAlone) {
    const std::string text(5000, 'x');
    std::ofstream(path) << text;
    EXPECT_EQ(kind_of_error([&] { start(); }), TasksError::Kind::unavailable);
    EXPECT_EQ(kind_of_error([&] { TaskList(path).add(titled("a")); }), TasksError::Kind::unavailable);
    std::ifstream file(path);
    EXPECT_EQ(std::string(std::istreambuf_iterator<char>(file), {}), text);
}

TEST_F(TasksFile, WithAnotherProgramsTablesIsUnavailable) {
    Raw(path).run("CREATE TABLE tasks (something TEXT)");
    EXPECT_EQ(kind_of_error([&] { start(); }), TasksError::Kind::unavailable);
    Raw(path).run("DROP TABLE tasks; CREATE TABLE notes (something TEXT)");
    EXPECT_EQ(kind_of_error([&] { start(); }), TasksError::Kind::unavailable);
    Raw(path).run("DROP TABLE notes");
    EXPECT_EQ(kind_of_error([&] { start(); }), std::nullopt) << "it is empty";
    Raw(path).run("CREATE TABLE notes (something TEXT)");
    EXPECT_EQ(kind_of_error([&] { start(); }), std::nullopt) << "other tables beside ours are allowed";
}

TEST_F(TasksFile, LockedMakesOnlyTheFirstWriterWait) {
    start();
    TaskList tasks(path);
    tasks.add(titled("a"));
    Raw other(path);
    other.run("BEGIN IMMEDIATE");
    const auto time_of_an_add = [&] {
        const auto before = std::chrono::steady_clock::now();
        EXPECT_EQ(kind_of_error([&] { tasks.add(titled("b")); }), TasksError::Kind::unavailable);
        return std::chrono::steady_clock::now() - before;
    };
    const auto first = time_of_an_add();
    EXPECT_LT(time_of_an_add() + time_of_an_add(), first) << "soon after a wait that failed";
    other.run("ROLLBACK");
    EXPECT_EQ(kind_of_error([&] { tasks.add(titled("c")); }), std::nullopt) << "a write is tried nevertheless";
}

TEST_F(TasksFile, LockedAtTheStartIsWaitedFor) {
    Raw(path).run("PRAGMA user_version = 1");  // so that there is a file, and it is not in WAL mode
    Raw other(path);
    other.run("BEGIN IMMEDIATE");
    const auto before = std::chrono::steady_clock::now();
    EXPECT_EQ(kind_of_error([&] { start(); }), TasksError::Kind::unavailable);
    const auto took = std::chrono::steady_clock::now() - before;
    EXPECT_GE(took, 900ms);
    EXPECT_LT(took, 5s);
    other.run("ROLLBACK");
    EXPECT_EQ(kind_of_error([&] { start(); }), std::nullopt);
}

TEST_F(TasksFile, MovedAwayIsUnavailableUntilItIsBack) {
    start();
    {
        TaskList tasks(path);
        tasks.add(titled("a"));
        std::filesystem::rename(path, path + ".away");
        EXPECT_EQ(kind_of_error([&] { tasks.add(titled("lost")); }), TasksError::Kind::unavailable);
        EXPECT_FALSE(std::filesystem::exists(path)) << "no new file is created";
        EXPECT_EQ(std::filesystem::file_size(path + "-wal"), 0U) << "the log has been copied into the file";
        Raw(path).run("CREATE TABLE another (one TEXT)");
        EXPECT_EQ(kind_of_error([&] { tasks.add(titled("lost")); }), TasksError::Kind::unavailable);
        EXPECT_EQ(kind_of_error([&] { TaskList(path).list(); }), TasksError::Kind::unavailable);
    }
    std::filesystem::rename(path + ".away", path);
    start();
    EXPECT_EQ(titles(*std::make_unique<TaskList>(path)), "a ");
}

TEST_F(TasksFile, MayBeASymbolicLink) {
    const std::string link = path;
    for (const char* const name : {"one", "other"}) {
        path = link + "." + name;
        start();
        TaskList(path).add(titled(name));
    }
    path = link;
    std::filesystem::create_symlink(link + ".one", link);
    start();
    {
        TaskList tasks(path);
        EXPECT_EQ(titles(tasks), "one ");
        EXPECT_TRUE(std::filesystem::exists(link + ".one-wal")) << "the log is beside the file";
        std::filesystem::remove(link);
        std::filesystem::create_symlink(link + ".other", link);
        EXPECT_EQ(kind_of_error([&] { tasks.add(titled("lost")); }), TasksError::Kind::unavailable);
    }
    start();
    EXPECT_EQ(titles(*std::make_unique<TaskList>(path)), "other ");
}

TEST_F(TasksFile, LosesNothingWithoutItsLogOrIndex) {
    std::string expected;
    for (const char* const suffix : {"-wal", "-shm"}) {
        start();
        {
            TaskList one(path);
            TaskList other(path);
            one.add(titled("a"));
            other.add(titled("b"));
            expected += "a b ";
            std::filesystem::remove(path + suffix);
            TaskList later(path);
            for (TaskList* const tasks : {&one, &other, &later})
                EXPECT_EQ(kind_of_error([&] { tasks->add(titled("lost")); }), TasksError::Kind::unavailable);
        }
        start();
        EXPECT_EQ(titles(*std::make_unique<TaskList>(path)), expected) << "without " << suffix;
    }
}

TEST_F(TasksFile, LeavesNoLogAfterItsServer) {
    start();
    TaskList(path).add(titled("a"));
    EXPECT_EQ(std::filesystem::file_size(path + "-wal"), 0U) << "the last one to close it empties the log";
    stop();
    EXPECT_FALSE(std::filesystem::exists(path + "-wal") || std::filesystem::exists(path + "-shm"));
}

TEST_F(TasksFile, IsNotCreatedBesideAnOldLog) {
    start();
    TaskList(path).add(titled("a"));
    stop();
    std::ofstream(path + "-wal") << "what a server left that was killed";
    std::filesystem::rename(path, path + ".away");
    EXPECT_EQ(kind_of_error([&] { start(); }), TasksError::Kind::unavailable);
    EXPECT_FALSE(std::filesystem::exists(path));
    EXPECT_EQ(std::filesystem::file_size(path + "-wal"), 34U);
    std::filesystem::rename(path + ".away", path);
    start();
    EXPECT_EQ(titles(*std::make_unique<TaskList>(path)), "a ");
}

TEST_F(TasksFile, ShortensItsLogAfterALongReader) {
    start();
    TaskList tasks(path);
    tasks.add(titled("a"));
    {
        Raw reader(path);
        reader.run("BEGIN; SELECT * FROM tasks");
        for (int i = 0; i < 3; ++i) Raw(path).run("UPDATE tasks SET description = randomblob(3000000)");
        EXPECT_GT(std::filesystem::file_size(path + "-wal"), 8U << 20);
    }
    tasks.add(titled("b"));
    EXPECT_LE(std::filesystem::file_size(path + "-wal"), 4U << 20);
}

TEST_F(TasksFile, RemovedWhileItIsOpenedIsUnavailable) {
    static std::string taken;
    taken = path;
    const auto take = +[] { std::filesystem::remove(taken); };
    start();
    sqlite3_auto_extension(take);  // called for every connection, when its file has just been opened
    EXPECT_EQ(kind_of_error([&] { TaskList(path).add(titled("lost")); }), TasksError::Kind::unavailable);
    EXPECT_EQ(kind_of_error([&] { start(); }), TasksError::Kind::unavailable);
    sqlite3_cancel_auto_extension(take);
    start();
    TaskList(path).add(titled("b"));
    EXPECT_EQ(titles(*std::make_unique<TaskList>(path)), "b ");
}

TEST_F(TasksFile, DamagedIsUnavailableUntilItIsRepaired) {
    start();
    TaskList(path).add(titled("a"));
    std::filesystem::copy_file(path, path + ".whole");
    TaskList tasks(path);
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
