#include "tasks/database_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <utility>

#include "base/fd.hpp"
#include "base/text.hpp"
#include "tasks/tasks.hpp"

namespace {

constexpr auto in_memory = ":memory:";

// Whether the database is empty, or has our table: name, type, NOT NULL and place in the primary key of each column.
constexpr auto is_ours_or_empty =
    "SELECT (SELECT count(*) FROM sqlite_master) = 0 OR"
    " (SELECT group_concat(name || ' ' || type || ' ' || \"notnull\" || ' ' || pk) FROM pragma_table_info('tasks'))"
    " = 'position INTEGER 0 1,id TEXT 1 0,title TEXT 1 0,description TEXT 1 0,done INTEGER 1 0'";

/// The database, its log and the log's index: their paths, and their device and inode numbers (none if there is no file).
using Paths = std::array<std::string, 3>;
using Inodes = std::array<std::optional<std::pair<dev_t, ino_t>>, 3>;

struct Held {
    Paths paths;
    Inodes inodes;
    // With our locks. They stay open, because closing any descriptor of a file drops SQLite's locks on it (fcntl(2)).
    Fd file, log;
    pid_t owner;
};
std::optional<Held> held;  // children have a copy

/// SQLite names the log after the file that a symbolic link leads to.
Paths paths_of(const std::string& path) {
    std::filesystem::path file = path;
    std::error_code error;
    for (int links = 0; links < 40 && std::filesystem::is_symlink(file, error); ++links)
        file = file.parent_path() / std::filesystem::read_symlink(file);
    return {path, file.string() + "-wal", file.string() + "-shm"};
}

Inodes inodes_at(const Paths& paths) noexcept {
    Inodes inodes;
    struct stat status {};
    for (std::size_t i = 0; i < paths.size(); ++i)
        if (stat(paths[i].c_str(), &status) == 0) inodes[i] = {status.st_dev, status.st_ino};
    return inodes;
}

bool is_empty(const std::string& path) noexcept {
    struct stat status {};
    return stat(path.c_str(), &status) != 0 || status.st_size == 0;
}

Fd open_to_lock(const std::string& path) noexcept { return Fd(open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC)); }

struct flock range(short type, off_t start, off_t length) noexcept {
    return {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length, .l_pid = 0};
}

/// Takes an open file description lock (fcntl(2)): it lasts as long as this process or a child has the descriptor.
bool lock(const Fd& file, off_t start, off_t length) noexcept {
    struct flock shared = range(F_RDLCK, start, length);
    return fcntl(file.get(), F_OFD_SETLK, &shared) == 0;
}

/// Locks what every SQLite connection locks (SHARED_FIRST and SHARED_SIZE in its os_unix.c). The last connection to close
/// the file removes the log. While we have this lock, no connection is the last.
bool keep_log(const Fd& file) noexcept { return lock(file, 0x4000'0002, 510); }

/// A server marks the database and its log: it locks a byte whose offset is computed from the files' inodes. SQLite locks
/// nothing up there.
constexpr off_t marks = off_t{1} << 62;
off_t mark_of(const Inodes& inodes) noexcept {
    std::uint64_t number = 0;
    for (const auto& inode : inodes) number = number * 1'000'003 + (inode ? inode->second : 0);
    return marks | static_cast<off_t>(number % static_cast<std::uint64_t>(marks));
}

/// Whether a running server has marked this file together with files that are not the ones at the paths now.
bool is_marked_otherwise(const std::string& path, const Paths& paths) noexcept {
    const Fd file = open_to_lock(path);
    struct flock found = range(F_WRLCK, marks, 0);
    if (fcntl(file.get(), F_OFD_GETLK, &found) != 0 || found.l_type == F_UNLCK) return false;
    return found.l_start != mark_of(inodes_at(paths));
}

[[noreturn]] void refuse(const std::string& why) { throw TasksError(TasksError::Kind::unavailable, why); }

/// SQLite says the same in both cases: "unable to open database file".
void expect_place(const std::string& path) {
    std::error_code error;
    const auto directory = std::filesystem::path(path).parent_path();
    if (std::filesystem::is_directory(path, error)) refuse("it is a directory");
    if (!directory.empty() && !std::filesystem::exists(directory / ".", error) && !error)
        refuse(fmt::format("there is no directory {}", printable(directory.string())));
}

/// Otherwise SQLite would apply another file's log to this one, and delete the log of an empty file.
void expect_right_log(const Paths& paths) {
    const std::string log = printable(paths[1]);
    if (is_marked_otherwise(paths[0], paths) || is_marked_otherwise(paths[1], paths))
        refuse(fmt::format("a running server's file or log ({}) was moved or removed; stop that server first", log));
    if (is_empty(paths[0]) && !is_empty(paths[1]))
        refuse(fmt::format("it is missing or empty, but its log ({}) is not; put it back, or move the log away", log));
}

/// Refuses another program's database. Writes nothing, not even what a killed program has left in its log.
void expect_ours(const Paths& paths) {
    if (is_empty(paths[0])) return;
    sqlite3* opened = nullptr;
    const int result = sqlite3_open_v2(paths[0].c_str(), &opened, SQLITE_OPEN_READWRITE, nullptr);
    const std::unique_ptr<sqlite3, decltype(&sqlite3_close)> db(opened, sqlite3_close);
    if (result != SQLITE_OK) refuse(printable(sqlite3_errmsg(opened)));
    sqlite3_busy_timeout(opened, 1000);
    sqlite3_db_config(opened, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, is_empty(paths[1]) ? 0 : 1, nullptr);
    sqlite3_stmt* prepared = nullptr;
    sqlite3_prepare_v2(opened, is_ours_or_empty, -1, &prepared, nullptr);
    const std::unique_ptr<sqlite3_stmt, decltype(&sqlite3_finalize)> statement(prepared, sqlite3_finalize);
    if (!prepared || sqlite3_step(prepared) != SQLITE_ROW) refuse(printable(sqlite3_errmsg(opened)));
    if (sqlite3_column_int(prepared, 0) == 0) refuse("it belongs to another program");
}

/// If the file was moved and a process that wrote to it was killed, the log may hold what the file lacks. So the log is
/// moved to where the file is now, which /proc/self/fd tells (proc(5)).
void move_log_after_file() {
    if (inodes_at(held->paths)[0] == held->inodes[0] || inodes_at(held->paths)[1] != held->inodes[1]) return;
    std::error_code error;
    const auto file = std::filesystem::read_symlink(fmt::format("/proc/self/fd/{}", held->file.get()), error);
    if (is_empty(held->paths[1]) || !std::filesystem::exists(file, error)) return;
    renameat2(AT_FDCWD, held->paths[1].c_str(), AT_FDCWD, (file.string() + "-wal").c_str(), RENAME_NOREPLACE);
}

}  // namespace

DatabaseFile::DatabaseFile(const std::string& path) {
    if (path == in_memory) return;
    expect_place(path);
    const Paths paths = paths_of(path);
    expect_right_log(paths);
    expect_ours(paths);
    Tasks tasks(path);
    tasks.create();
    const Inodes inodes = inodes_at(paths);
    Fd file = open_to_lock(paths[0]);
    Fd log = open_to_lock(paths[1]);
    const off_t mark = mark_of(inodes);
    if (!inodes[0] || !inodes[1] || !inodes[2] || !keep_log(file) || !lock(file, mark, 1) || !lock(log, mark, 1))
        refuse(fmt::format("it cannot be held: {}", std::strerror(errno)));
    held.emplace(Held{paths, inodes, std::move(file), std::move(log), getpid()});
}

DatabaseFile::~DatabaseFile() {
    if (!held || held->owner != getpid()) return;
    try {
        move_log_after_file();
        held->file.close();
        held->log.close();
        Tasks(held->paths[0]).open();  // and closes it; the last connection removes the log
    } catch (const std::exception&) {
        // It is not in its place, or cannot be read. Then nothing is removed.
    }
    held.reset();
}

bool DatabaseFile::in_place(const std::string& path) noexcept {
    if (path == in_memory) return true;
    return held && held->paths[0] == path && inodes_at(held->paths) == held->inodes;
}
