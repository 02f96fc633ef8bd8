/// The file that keeps the tasks: whether it is ours, and whether it is still the same file.
#pragma once

#include <string>

/// A server's hold on its database, from its start to its end. A process has one at a time.
///
/// SQLite keeps a database in three files: the database, its write-ahead log (-wal) and the log's index (-shm). It finds the
/// last two by name alone. If one of the three is renamed, replaced or removed while the others are in use, SQLite applies
/// the log to the wrong file, or keeps two logs (sqlite.org/howtocorrupt.html, 1.4). So this remembers which files they are,
/// by device and inode, before the server forks. Every Tasks of the process and of its children uses these files or none.
class DatabaseFile {
   public:
    /// Creates the file and its table if there are none. Refuses what belongs to another program, and leaves it as it is.
    /// `:memory:` is no file: nothing happens. Throws TasksError.
    explicit DatabaseFile(const std::string& path);
    DatabaseFile(const DatabaseFile&) = delete;
    DatabaseFile& operator=(const DatabaseFile&) = delete;
    /// Close all Tasks first. Does nothing in a child process. Removes the log and its index if no other process uses
    /// them. If only the database was moved, moves the log after it.
    ~DatabaseFile();

    /// Whether the path still leads to the files that were there at the start. False for any path but the constructor's;
    /// true for `:memory:`. Any thread may ask.
    static bool in_place(const std::string& path) noexcept;
};
