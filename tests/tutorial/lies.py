"""Proofs that the checker finds what a page may have wrong: a page that is right, and lies that it can be made to tell."""
import tempfile
from pathlib import Path

import check
import figures
import poster

TRUTH = """# A page

The server, terminal A, and then terminal B. Back to [the page](#a-page), or on to [the sources](/), by way of `make stage1`.

```cpp
// stage1_sync/naive.cpp
int fib(int n) { return n <= 2 ? 1 : fib(n - 1) + fib(n - 2); }
    // …
        close(client);
```

```console server
$ stage1_sync/stage1_sync --db :memory:
stage1_sync: listening on 127.0.0.1:9999 (pid 4242)
```

```console A
$ nc localhost 9999
add buy milk
added: dba481c1 buy milk
add pay rent
added: 657f108a pay rent
```

```console B
$ nc localhost 9999
done dba4
list
```

```console A
^C
```

```console B
done: dba481c1 buy milk
tasks: 2
[x] dba481c1 buy milk
[ ] 657f108a pay rent
^C
$ curl -s -i localhost:9999/fib/30
HTTP/1.1 200 OK
…
X-Served-By: stage1_sync pid=4242 thread=4242
…
{"n":30,"fib":832040}
$ echo again
again
```

"""
# A row of figures, as they were measured.
HEAD, ROWS = next(iter(figures.measured().items()))
ROW = ROWS["stage1_sync"].rstrip()
TRUTH += f"{HEAD}|---|--:|\n{ROW}\n"

# What is changed, into what, and the check that is there to find it.
LIES = {
    "a word of a listing": ("n <= 2", "n < 2", "wrong_listings"),
    "a line left out of a listing": ("    // …\n", "", "wrong_listings"),
    "a listing in another order": ("int fib(int n) {", "close(client);\n// …\nint fib(int n) {", "wrong_listings"),
    "a listing without a source": ("// stage1_sync/naive.cpp\n", "", "wrong_listings"),
    "a figure that was not measured": (ROW, ROW[:-2] + "0 |", "unmeasured_figures"),
    "a row that was not measured": (ROW, ROW.replace("stage1", "stage7"), "unmeasured_figures"),
    "a table that was not measured": (HEAD, HEAD.replace("alone", "together"), "unmeasured_figures"),
    "a heading that is not there": ("#a-page", "#another-page", "dead_links"),
    "a file that is not there": ("(/)", "(/nowhere.cpp)", "dead_links"),
    "a target that is not there": ("make stage1", "make stage7", "unknown_targets"),
    "a wrong answer": ("832040}", "832041}", "false_transcripts"),
    "an answer that does not come": ("again\n```", "again\nand again\n```", "false_transcripts"),
    "an answer left out": ("tasks: 2\n", "", "false_transcripts"),
    "an answer left out at the end of a block": ("added: 657f108a pay rent\n", "", "false_transcripts"),
    "an answer left out at the end": ("again\nagain\n", "again\n", "false_transcripts"),
    "an answer before its time": ("list\n```", "list\ndone: dba481c1 buy milk\n```", "false_transcripts"),
    "one id for two tasks": ("added: 657f108a", "added: dba481c1", "false_transcripts"),
    "two ids for one task": ("[ ] 657f108a", "[ ] 657f108b", "false_transcripts"),
    "a process that is another one": ("thread=4242", "thread=4250", "false_transcripts"),
    "a command that does not end": ("$ echo again\nagain", "$ nc localhost 9999\n$ echo again\nagain", "false_transcripts"),
    "a command that is not played": ("```console B\n$", "```sh\n$", "false_transcripts"),
    "a terminal that nobody speaks of": ("terminal B", "another one", "false_transcripts"),
    "a process left behind": ("$ echo again\nagain", "$ sleep 60 &\n…", "false_transcripts"),
}


def found(text, patience):
    """The names of the checks that find something wrong with such a page, and what they say."""
    with tempfile.TemporaryDirectory() as directory:
        page = Path(directory) / "page.md"
        page.write_text(text)
        wrong = {each.__name__: list(each(page)) for each in check.ABOUT_THE_TEXT}
        wrong["false_transcripts"] = list(check.false_transcripts(page, patience))
    return {name: what for name, what in wrong.items() if what}


def finds(lie):
    true, false, by = LIES[lie]
    if TRUTH.count(true) != 1:
        return f"{true!r} does not stand once in the page"
    wrong = found(TRUTH.replace(true, false), patience=3)
    if list(wrong) != [by]:
        return f"found by {wrong}, not by {by}"


def finds_nothing_wrong_with_the_truth():
    return "\n".join(line for what in found(TRUTH, patience=300).values() for line in what)


def the_poster_shows_the_source():
    if poster.poster() != (Path(poster.__file__).parent / "poster.svg").read_text():
        return "it does not: python3 tests/tutorial/poster.py >tests/tutorial/poster.svg"


def proofs():
    return [("the poster shows the source", the_poster_shows_the_source),
            ("the tutorial's checker passes what is right", finds_nothing_wrong_with_the_truth)] + [
        (f"the tutorial's checker finds {lie}", lambda lie=lie: finds(lie)) for lie in LIES]
