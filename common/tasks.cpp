#include "tasks.hpp"

#include <fmt/format.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <uuid/uuid.h>

#include <cerrno>
#include <utility>

namespace {

/// So long another process's lock is waited for.
constexpr auto lock_patience = std::chrono::seconds(1);
/// Who reads looks so often whether the file is still in its place; who writes, always. A look costs as much as a read.
constexpr auto reader_looks_every = std::chrono::milliseconds(100);

// In WAL mode, synchronous=NORMAL loses nothing that was acknowledged when a process dies; a power cut may cost the last
// writes, never the file's integrity (sqlite.org/pragma.html#pragma_synchronous).
constexpr auto set_up =
    "PRAGMA journal_mode = WAL;"
    "PRAGMA synchronous = NORMAL;"
    "CREATE TABLE IF NOT EXISTS tasks ("
    " position INTEGER PRIMARY KEY,"
    " id TEXT NOT NULL UNIQUE,"
    " title TEXT NOT NULL,"
    " description TEXT NOT NULL,"
    " done INTEGER NOT NULL)";

// How much memory SQLite uses nobody asks here, and to keep count of it takes a lock for each allocation.
const int no_statistics = sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);

/// Whether the disk is full, or a limit to what may be on it is reached. Where a commit fails, SQLite does not keep the
/// system's error, but errno still has it (begin_use() has cleared it).
bool is_full(sqlite3* db) noexcept {
    const int code = sqlite3_errcode(db);
    const int known = sqlite3_system_errno(db);
    const int error = known != 0 ? known : errno;
    return code == SQLITE_FULL || (code == SQLITE_IOERR && (error == ENOSPC || error == EDQUOT || error == EFBIG));
}

/// What is wrong, as SQLite sees it.
TasksError error_of(sqlite3* db) {
    return {is_full(db) ? TasksError::Kind::full : TasksError::Kind::unavailable, sqlite3_errmsg(db)};
}

/// Which file it is: its device and its number there; none where there is none.
std::optional<std::pair<dev_t, ino_t>> file_at(const std::string& path) noexcept {
    struct stat status {};
    if (stat(path.c_str(), &status) != 0) return {};
    return {{status.st_dev, status.st_ino}};
}

std::string new_id() {
    uuid_t uuid;
    char text[UUID_STR_LEN];
    uuid_generate_random(uuid);
    uuid_unparse_lower(uuid, text);
    return text;
}

std::string lower_case(std::string_view id) {
    std::string lower(id);
    for (char& c : lower)
        if (c >= 'A' && c <= 'F') c = static_cast<char>(c - 'A' + 'a');
    return lower;
}

}  // namespace

/// One execution of a prepared statement: binds, steps, and leaves it ready for the next.
class Tasks::Statement {
   public:
    Statement(Tasks& tasks, sqlite3_stmt*& prepared, const char* sql) : tasks_(tasks) {
        if (!prepared) check(sqlite3_prepare_v3(tasks.db_, sql, -1, SQLITE_PREPARE_PERSISTENT, &prepared, nullptr));
        statement_ = prepared;
    }
    ~Statement() {
        sqlite3_reset(statement_);
        sqlite3_clear_bindings(statement_);
    }
    Statement(const Statement&) = delete;
    Statement& operator=(const Statement&) = delete;

    /// The text must outlive the statement's execution.
    Statement& bind(int index, std::string_view text) {
        check(sqlite3_bind_text(statement_, index, text.data() ? text.data() : "", static_cast<int>(text.size()),
                                SQLITE_STATIC));
        return *this;
    }
    Statement& bind(int index, bool value) {
        check(sqlite3_bind_int(statement_, index, value ? 1 : 0));
        return *this;
    }
    template <class T>
    Statement& bind(int index, const std::optional<T>& value) {
        return value ? bind(index, *value) : *this;  // not bound is NULL
    }

    /// Whether there is a row, which columns() then reads.
    bool step() {
        const int result = sqlite3_step(statement_);
        if (result != SQLITE_ROW && result != SQLITE_DONE) tasks_.fail();
        return result == SQLITE_ROW;
    }
    /// The one row that a change by id returns, carried through to its commit.
    std::optional<Task> one() {
        std::optional<Task> task;
        while (step()) task = columns();
        return task;
    }
    [[nodiscard]] Task columns() const { return {text(0), text(1), text(2), sqlite3_column_int(statement_, 3) != 0}; }

   private:
    void check(int result) {
        if (result != SQLITE_OK) tasks_.fail();
    }
    [[nodiscard]] std::string text(int column) const {
        const void* bytes = sqlite3_column_blob(statement_, column);  // not _text: it may hold NUL
        const auto size = static_cast<std::size_t>(sqlite3_column_bytes(statement_, column));
        return bytes ? std::string(static_cast<const char*>(bytes), size) : std::string();
    }

    Tasks& tasks_;
    sqlite3_stmt* statement_ = nullptr;
};

Tasks::Tasks(std::string path) : path_(std::move(path)) {}

Tasks::~Tasks() { close(); }

void Tasks::close() noexcept {
    for (sqlite3_stmt** statement : {&list_, &named_, &find_, &add_, &change_, &remove_})
        sqlite3_finalize(std::exchange(*statement, nullptr));
    sqlite3_close(std::exchange(db_, nullptr));
    suspect_ = false;
}

void Tasks::begin_use(Access access) {
    const auto now = Clock::now();
    gives_up_ = now < patient_again_ ? now : now + lock_patience;
    errno = 0;
    if (file_ && (access == Access::write || now >= look_again_)) {
        look_again_ = now + reader_looks_every;
        // What is written to a file that its path does not lead to, nobody finds. And what is there instead is not touched:
        // the old one's log lies beside it, and SQLite would take it for the new one's (sqlite.org/howtocorrupt, 1.4).
        if (file_at(path_) != file_)
            throw TasksError(TasksError::Kind::unavailable,
                             "the database is not in its place; put it back, or restart the server");
    }
    if (suspect_) close();
    if (!db_) open_file();
}

void Tasks::open() {
    begin_use(Access::read);
    if (sqlite3_db_readonly(db_, "main") == 1) throw TasksError(TasksError::Kind::unavailable, "it can only be read");
}

void Tasks::open_file() {
    // memdb keeps one database per name and process, for as many connections as open it; :memory: is one for each.
    const bool memory = path_ == ":memory:";
    // NOMUTEX: whoever shares this object locks it (see the header), so that SQLite need not.
    const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | (memory ? SQLITE_OPEN_URI : 0);
    sqlite3* opened = nullptr;
    int result = sqlite3_open_v2(memory ? "file:/tasks?vfs=memdb" : path_.c_str(), &opened, flags, nullptr);
    std::unique_ptr<sqlite3, decltype(&sqlite3_close)> db(opened, sqlite3_close);
    if (result != SQLITE_OK) throw error_of(opened);
    const auto file = memory ? std::nullopt : file_at(path_);
    sqlite3_busy_handler(opened, wait_for_lock, this);
    do {
        result = sqlite3_exec(opened, set_up, nullptr, nullptr, nullptr);
        // The change to WAL does not ask the busy handler, so we do.
    } while (result == SQLITE_BUSY && wait_for_lock(this, 0) != 0);
    if (result != SQLITE_OK) throw error_of(opened);
    int moved = 0;
    sqlite3_file_control(opened, "main", SQLITE_FCNTL_HAS_MOVED, &moved);
    if (!memory && (!file || moved != 0))
        throw TasksError(TasksError::Kind::unavailable, "the database was taken away while it was opened");
    file_ = file;
    db_ = db.release();
}

/// The busy handler (sqlite.org/c3ref/busy_handler.html): SQLite asks, while another connection has the lock, whether to try
/// once more.
int Tasks::wait_for_lock(void* self, int /*times*/) {
    Tasks& tasks = *static_cast<Tasks*>(self);
    if (Clock::now() < tasks.gives_up_) {
        sqlite3_sleep(5);  // ms
        return 1;
    }
    const bool was_patient = tasks.gives_up_ >= tasks.patient_again_;
    if (was_patient) tasks.patient_again_ = tasks.gives_up_ + lock_patience;
    return 0;
}

/// What may be the file's fault is mended by another, perhaps; a lock, a full disk and want of memory pass by themselves.
void Tasks::fail() {
    const int code = sqlite3_errcode(db_);
    suspect_ = code != SQLITE_BUSY && code != SQLITE_NOMEM && !is_full(db_);
    throw error_of(db_);
}

std::vector<Task> Tasks::list() {
    begin_use(Access::read);
    Statement statement(*this, list_, "SELECT id, title, description, done FROM tasks ORDER BY position");
    std::vector<Task> tasks;
    while (statement.step()) tasks.push_back(statement.columns());
    return tasks;
}

std::vector<Task> Tasks::named(std::string_view beginning) {
    begin_use(Access::read);
    const std::string first = lower_case(beginning);
    const std::string beyond = first + "g";  // an id has nothing above f
    Statement statement(*this, named_, "SELECT id, title, description, done FROM tasks WHERE id >= ?1 AND id < ?2 LIMIT 2");
    statement.bind(1, first).bind(2, beyond);
    std::vector<Task> tasks;
    while (statement.step()) tasks.push_back(statement.columns());
    return tasks;
}

std::optional<Task> Tasks::find(std::string_view id) {
    begin_use(Access::read);
    const std::string key = lower_case(id);
    Statement statement(*this, find_, "SELECT id, title, description, done FROM tasks WHERE id = ?1");
    return statement.bind(1, key).one();
}

Task Tasks::add(const Task& task) {
    begin_use(Access::write);
    const std::string id = new_id();
    // One statement, so that two writers can't both add the thousandth.
    static const std::string sql = fmt::format(
        "INSERT INTO tasks (id, title, description, done) SELECT ?1, ?2, ?3, ?4"
        " WHERE (SELECT count(*) FROM tasks) < {} RETURNING id, title, description, done",
        task_limit);
    Statement statement(*this, add_, sql.c_str());
    auto added = statement.bind(1, id).bind(2, task.title).bind(3, task.description).bind(4, task.done).one();
    if (!added)
        throw TasksError(TasksError::Kind::full, fmt::format("there are {} tasks already, delete one first", task_limit));
    return *added;
}

std::optional<Task> Tasks::change(std::string_view id, const Change& change) {
    begin_use(Access::write);
    const std::string key = lower_case(id);
    Statement statement(*this, change_,
                        "UPDATE tasks SET title = coalesce(?2, title), description = coalesce(?3, description),"
                        " done = coalesce(?4, done) WHERE id = ?1 RETURNING id, title, description, done");
    return statement.bind(1, key).bind(2, change.title).bind(3, change.description).bind(4, change.done).one();
}

std::optional<Task> Tasks::remove(std::string_view id) {
    begin_use(Access::write);
    const std::string key = lower_case(id);
    Statement statement(*this, remove_, "DELETE FROM tasks WHERE id = ?1 RETURNING id, title, description, done");
    return statement.bind(1, key).one();
}
