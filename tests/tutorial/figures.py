"""The figures in the chapters' tables: rows of what was measured, word for word.

    python3 tests/tutorial/figures.py       updates the chapters after a new run of `make compare` or `make bench`
"""
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
RESULTS = ROOT / "tests/compare/results/results.md", ROOT / "tests/bench/RESULTS.md"
TABLE = re.compile(r"^(?P<head>\|.*\n)(?P<rule>\|[-:| ]+\|\n)(?P<rows>(?:\|.*\n)+)", re.MULTILINE)
FIGURE = re.compile(r"\| [\d.,]+( \([\d.,–]+\))? ")


def rows_of(table):
    """The table's rows, by their first cells."""
    return {row.split("|")[1].strip(): row for row in table["rows"].splitlines(keepends=True)}


def measured():
    """The rows of the results' tables, by their headings."""
    return {table["head"]: rows_of(table) for results in RESULTS for table in TABLE.finditer(results.read_text())}


def renewed(text):
    """The text of a page with the figures of the results, and its rows that the results don't have."""
    results, unknown = measured(), []

    def renew(table):
        head, rows, there = table["head"], rows_of(table), results.get(table["head"], {})
        unknown.extend(row for name, row in rows.items() if name not in there and (there or FIGURE.search(row)))
        return head + table["rule"] + "".join(there.get(name, row) for name, row in rows.items())

    return TABLE.sub(renew, text), unknown


def main():
    for page in sorted(ROOT.glob("stage?_*/README.md")):
        text, _ = renewed(page.read_text())
        page.write_text(text)


if __name__ == "__main__":
    main()
