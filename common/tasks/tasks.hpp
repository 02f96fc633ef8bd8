/// The ToDo list, kept in SQLite.
#pragma once

#include <array>
#include <chrono>
#include <string>

#include "tasks/query.hpp"

struct sqlite3;
struct sqlite3_stmt;

/// One connection to the database. Several, in one process or in many, may use one file at once: SQLite's write-ahead
/// log (WAL) lets readers go on beside one writer. What was acknowledged survives kill -9, but not always a power cut. The
/// protocols see to it that what is written is UTF-8 of a permitted length. What is read may come from another program, and
/// be any bytes.
///
/// One thread at a time: threads that share one need a lock. It must not cross fork(2) (sqlite.org/howtocorrupt, 2.6), so
/// it opens the file at first use, and each child opens its own.
///
/// create() and open() throw TasksError (and std::bad_alloc). A write waits up to one second for another writer. If that
/// fails, writes during the next second fail at once, so that many of them do not add up to a server that only waits. After
/// an error that the file may have caused, the next use opens it anew (and may get the same error).
///
/// The file is the one that the server's DatabaseFile holds. While it is not in its place, writes fail at once, but reads
/// may succeed for 100 ms more. A use that fails puts what was acknowledged into the file itself, wherever that is, and
/// leaves an empty log behind.
class Tasks {
   public:
    /// `:memory:` is a list in this process only, shared by all its Tasks and gone with the last of them.
    explicit Tasks(std::string path);
    ~Tasks();
    Tasks(const Tasks&) = delete;
    Tasks& operator=(const Tasks&) = delete;

    /// For DatabaseFile: opens the file, and creates it and its table if there are none. A file that can only be read is an
    /// error.
    void create();
    /// Opens the file now, rather than at first use.
    void open();
    /// Closes the file now. The next use opens it again. If another connection is emptying the log, waits for it, up to a
    /// second.
    void close() noexcept;

    /// The answer is there when this returns: SQLite is a library, not another program. An error is an answer, too. Throws
    /// only std::bad_alloc.
    Answer ask(const Query& query);

   private:
    using Clock = std::chrono::steady_clock;

    enum class Access : bool { read, write };
    enum class Log { empty, in_use, being_emptied };

    void begin_use(Access access);
    [[noreturn]] void let_go();
    void connect(int flags);
    Log empty_log(sqlite3* db) noexcept;
    static int after_commit(void* self, sqlite3* db, const char* name, int pages);
    static int wait_for_lock(void* self, int times);
    void check(int result, int wanted = 0);

    std::string path_;
    sqlite3* db_ = nullptr;
    Clock::time_point look_again_;   // when the file's place is checked again
    bool suspect_ = false;           // the next use opens the file anew
    Clock::time_point gives_up_;     // when this call stops waiting for a lock
    Clock::time_point waits_again_;  // until then no call waits, because one has waited in vain
    // Prepared once: parsing SQL costs more than a read.
    std::array<sqlite3_stmt*, statements.size()> prepared_{};
};
