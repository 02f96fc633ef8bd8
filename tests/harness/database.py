"""The database, as another program sees it."""
import contextlib
import sqlite3


@contextlib.contextmanager
def database(program, name="tasks.db", **options):
    """A connection as another program has it. Only BEGIN, COMMIT and ROLLBACK begin and end its transactions."""
    connection = sqlite3.connect(str(program.directory / name), isolation_level=None, **options)
    try:
        yield connection
    finally:
        connection.close()


@contextlib.contextmanager
def locked(program):
    """While this lasts, another program holds the write lock and writes nothing."""
    with database(program) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")
