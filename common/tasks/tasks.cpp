#include "tasks/tasks.hpp"

#include <fmt/format.h>
#include <sqlite3.h>

#include <cerrno>
#include <memory>
#include <utility>

#include "base/text.hpp"
#include "tasks/database_file.hpp"

namespace {

/// How long to wait for another connection's lock.
constexpr auto lock_wait = std::chrono::seconds(1);
/// How often reads check that the file is still in its place. Writes always check. A check costs as much as a read.
constexpr auto reader_looks_every = std::chrono::milliseconds(100);

// In WAL mode, synchronous=NORMAL loses no acknowledged write when a process dies. A power cut may lose the last writes, but
// cannot corrupt the file (sqlite.org/pragma.html#pragma_synchronous).
constexpr auto set_up =
    "PRAGMA journal_mode = WAL;"
    "PRAGMA synchronous = NORMAL;"
    "PRAGMA journal_size_limit = 4194304;";
constexpr auto make_table =
    "CREATE TABLE IF NOT EXISTS tasks ("
    " position INTEGER PRIMARY KEY,"
    " id TEXT NOT NULL UNIQUE,"
    " title TEXT NOT NULL,"
    " description TEXT NOT NULL,"
    " done INTEGER NOT NULL)";

/// When the log has this many pages (mostly 4 KiB each), it is copied into the file. SQLite has the same default.
constexpr int long_log = 1000;

// Nothing here asks SQLite for its memory statistics, which take a lock for each allocation.
const int no_statistics = sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);

/// Whether the disk is full, or a quota or a limit on file size is reached. If a commit fails, SQLite does not keep the
/// system's error, but errno still has it (begin_use() has cleared it before).
bool is_full(sqlite3* db) noexcept {
    const int code = sqlite3_errcode(db);
    const int known = sqlite3_system_errno(db);
    const int error = known != 0 ? known : errno;
    return code == SQLITE_FULL || (code == SQLITE_IOERR && (error == ENOSPC || error == EDQUOT || error == EFBIG));
}

/// SQLite's own message, made printable: it may quote what another program has written into the file.
TasksError error_of(sqlite3* db) {
    return {is_full(db) ? TasksError::Kind::full : TasksError::Kind::unavailable, printable(sqlite3_errmsg(db))};
}

/// `value` must outlive the execution.
int bind(sqlite3_stmt* statement, int index, const Value& value) {
    if (const auto* const truth = std::get_if<bool>(&value)) return sqlite3_bind_int(statement, index, *truth ? 1 : 0);
    if (const auto* const text = std::get_if<std::string>(&value))
        return sqlite3_bind_text(statement, index, text->data(), static_cast<int>(text->size()), SQLITE_STATIC);
    return sqlite3_bind_null(statement, index);
}

std::string text(sqlite3_stmt* statement, int column) {
    const void* bytes = sqlite3_column_blob(statement, column);  // not _text: it may hold NUL
    const auto size = static_cast<std::size_t>(sqlite3_column_bytes(statement, column));
    return bytes ? std::string(static_cast<const char*>(bytes), size) : std::string();
}

}  // namespace

Tasks::Tasks(std::string path) : path_(std::move(path)) {}

Tasks::~Tasks() { close(); }

void Tasks::close() noexcept {
    for (sqlite3_stmt*& statement : prepared_) sqlite3_finalize(std::exchange(statement, nullptr));
    if (db_) {
        // Perhaps this is the last connection. If another is emptying the log, it may have begun before our last write.
        const auto until = Clock::now() + lock_wait;
        while (empty_log(db_) == Log::being_emptied && Clock::now() < until) sqlite3_sleep(1);
    }
    sqlite3_close(std::exchange(db_, nullptr));
    suspect_ = false;
}

void Tasks::begin_use(Access access) {
    const auto now = Clock::now();
    gives_up_ = now < waits_again_ ? now : now + lock_wait;
    errno = 0;
    if (!db_ || access == Access::write || now >= look_again_) {
        look_again_ = now + reader_looks_every;
        if (!DatabaseFile::in_place(path_)) let_go();
    }
    if (suspect_) close();
    if (!db_) connect(0);
}

/// Puts what was acknowledged into the file, wherever that is now. The log that stays behind is then empty, and cannot harm
/// a new file at this path. We do not touch it again, because another program may use it.
void Tasks::let_go() {
    if (db_ && empty_log(db_) == Log::empty) close();
    throw TasksError(TasksError::Kind::unavailable,
                     "the database, or its log, is not in its place; put it back, or restart the server");
}

void Tasks::open() { begin_use(Access::read); }

void Tasks::create() {
    gives_up_ = Clock::now() + lock_wait;
    connect(SQLITE_OPEN_CREATE);
    if (sqlite3_db_readonly(db_, "main") == 1) throw TasksError(TasksError::Kind::unavailable, "it can only be read");
}

void Tasks::connect(int flags) {
    // memdb keeps one database per name and process, shared by all connections. :memory: would give each its own.
    const bool memory = path_ == ":memory:";
    if (memory) flags |= SQLITE_OPEN_URI | SQLITE_OPEN_CREATE;
    // NOMUTEX: threads that share this object lock it (see the header), so SQLite need not.
    flags |= SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX;
    sqlite3* opened = nullptr;
    int result = sqlite3_open_v2(memory ? "file:/tasks?vfs=memdb" : path_.c_str(), &opened, flags, nullptr);
    std::unique_ptr<sqlite3, decltype(&sqlite3_close)> db(opened, sqlite3_close);
    if (result != SQLITE_OK) throw error_of(opened);
    sqlite3_busy_handler(opened, wait_for_lock, this);
    sqlite3_wal_hook(opened, after_commit, this);
    const bool create = (flags & SQLITE_OPEN_CREATE) != 0;
    const std::string sql = fmt::format("{}{}", set_up, create ? make_table : "");
    do {
        result = sqlite3_exec(opened, sql.c_str(), nullptr, nullptr, nullptr);
        // The change to WAL does not call the busy handler, so we do.
    } while (result == SQLITE_BUSY && wait_for_lock(this, 0) != 0);
    if (result != SQLITE_OK) throw error_of(opened);
    if (!create && !DatabaseFile::in_place(path_)) let_go();  // moved while it was being opened
    db_ = db.release();
}

/// A checkpoint (sqlite.org/c3ref/wal_checkpoint_v2.html): copies the log into the file, as far as other readers and writers
/// allow. If all of it was copied, truncates the log. Does not wait for them.
Tasks::Log Tasks::empty_log(sqlite3* db) noexcept {
    gives_up_ = {};
    int pages = 0;
    const int result = sqlite3_wal_checkpoint_v2(db, "main", SQLITE_CHECKPOINT_TRUNCATE, &pages, nullptr);
    if (result == SQLITE_OK) return Log::empty;
    return result == SQLITE_BUSY && pages < 0 ? Log::being_emptied : Log::in_use;
}

/// Replaces SQLite's own checkpoint, which does not shorten a log that has grown during a long read
/// (sqlite.org/c3ref/wal_hook.html).
int Tasks::after_commit(void* self, sqlite3* db, const char* /*name*/, int pages) {
    if (pages >= long_log) static_cast<Tasks*>(self)->empty_log(db);
    return SQLITE_OK;
}

/// The busy handler (sqlite.org/c3ref/busy_handler.html): while another connection has the lock, SQLite asks it whether to
/// try again.
int Tasks::wait_for_lock(void* self, int /*times*/) {
    Tasks& tasks = *static_cast<Tasks*>(self);
    if (Clock::now() < tasks.gives_up_) {
        sqlite3_sleep(5);  // ms
        return 1;
    }
    const bool has_waited = tasks.gives_up_ >= tasks.waits_again_;
    if (has_waited) tasks.waits_again_ = tasks.gives_up_ + lock_wait;
    return 0;
}

Answer Tasks::ask(const Query& query) try {
    begin_use(query.writes() ? Access::write : Access::read);
    sqlite3_stmt*& statement = prepared_[query.statement];
    if (!statement)
        check(sqlite3_prepare_v3(db_, statements[query.statement], -1, SQLITE_PREPARE_PERSISTENT, &statement, nullptr));
    const std::unique_ptr<sqlite3_stmt, decltype(&sqlite3_reset)> ready_for_the_next(statement, sqlite3_reset);
    int index = 0;
    for (const Value& value : query.values) check(bind(statement, ++index, value));
    Rows rows;
    int result = 0;
    while ((result = sqlite3_step(statement)) == SQLITE_ROW)  // to the end, which commits a change
        rows.push_back({text(statement, 0), text(statement, 1), text(statement, 2), sqlite3_column_int(statement, 3) != 0});
    check(result, SQLITE_DONE);
    return rows;
} catch (const TasksError& error) {
    return error;
}

/// If the file may be at fault, the next use opens it anew. A lock, a full disk or a lack of memory passes by itself.
void Tasks::check(int result, int wanted) {
    if (result == wanted) return;
    const int code = sqlite3_errcode(db_);
    suspect_ = code != SQLITE_BUSY && code != SQLITE_NOMEM && !is_full(db_);
    throw error_of(db_);
}
