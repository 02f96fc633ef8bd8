/// The ToDo list, kept in SQLite.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

struct sqlite3;
struct sqlite3_stmt;

struct Task {
    std::string id;  ///< a UUID (RFC 9562) in lower case
    std::string title;
    std::string description;
    bool done = false;
};

/// What is to become of a task: a member left out keeps its value.
struct Change {
    std::optional<std::string> title;
    std::optional<std::string> description;
    std::optional<bool> done;
};

/// The tasks could not be read or written; nothing was changed.
struct TasksError : std::runtime_error {
    enum class Kind { unavailable, full };
    TasksError(Kind why, const std::string& text) : std::runtime_error(text), kind(why) {}
    Kind kind;  ///< full: no room for more, on the disk or in the list
};

/// One connection to the database. Several, in one process or in many, may use one file at once: SQLite's write-ahead
/// log (WAL) lets readers go on beside one writer, and what was acknowledged survives kill -9. What is written is correct
/// UTF-8 of a permitted length; the protocols see to that.
///
/// One thread at a time: whoever shares one among threads locks it. It must not cross fork(2) (sqlite.org/howtocorrupt,
/// 2.6), so it opens the file at first use, and each child opens its own.
///
/// Every function throws TasksError (and std::bad_alloc). Another writer is waited for, a second at most; and where that was
/// in vain, nobody is for the next second, so that many who write a locked file do not add up to a server that only waits.
/// After an error that may be the file's own, the next use opens it anew (and may have the same error). Where the path leads
/// to another file than before, or to none, nothing is read or written until it is back.
class Tasks {
   public:
    /// `:memory:` is a list for this process alone, the same for all its Tasks, gone with the last of them.
    explicit Tasks(std::string path);
    ~Tasks();
    Tasks(const Tasks&) = delete;
    Tasks& operator=(const Tasks&) = delete;

    /// Opens the file, and creates it and its table where there are none. Needed by those alone who want the errors early,
    /// that the file can only be read among them.
    void open();
    /// The next use opens again.
    void close() noexcept;

    /// All of them in the order of creation.
    std::vector<Task> list();
    /// The tasks whose ids begin so, two at most: enough to tell none, one and several apart.
    std::vector<Task> named(std::string_view beginning);
    std::optional<Task> find(std::string_view id);
    /// The new task; Kind::full where there are task_limit already.
    Task add(const Task& task);
    /// The task as it is now; nothing where there is none.
    std::optional<Task> change(std::string_view id, const Change& change);
    /// The task that was.
    std::optional<Task> remove(std::string_view id);

   private:
    class Statement;
    using Clock = std::chrono::steady_clock;

    enum class Access : bool { read, write };

    void begin_use(Access access);
    void open_file();
    static int wait_for_lock(void* self, int times);
    [[noreturn]] void fail();

    std::string path_;
    sqlite3* db_ = nullptr;
    std::optional<std::pair<dev_t, ino_t>> file_;  // which one it is, once it was open; none for :memory:
    Clock::time_point look_again_;                 // whether the file is there
    bool suspect_ = false;                         // to be opened anew
    Clock::time_point gives_up_;                   // waiting for a lock, this time
    Clock::time_point patient_again_;              // after a wait in vain
    // Prepared once: parsing SQL costs more than a read.
    sqlite3_stmt* list_ = nullptr;
    sqlite3_stmt* named_ = nullptr;
    sqlite3_stmt* find_ = nullptr;
    sqlite3_stmt* add_ = nullptr;
    sqlite3_stmt* change_ = nullptr;
    sqlite3_stmt* remove_ = nullptr;
};

/// The list's limit, so that it is never longer than a server may keep for a client who does not read it.
inline constexpr int task_limit = 1000;
