"""Proofs that the checker passes a page that is right, and finds each lie that is put into it."""
import re
import sys
import tempfile
from pathlib import Path

import check
import figures
import poster

sys.path.append(str(check.ROOT / "tests/exercises"))
from exercises import exercise_of       # noqa: E402: after sys.path

TRUTH = """# A page

The server, terminal A, and then terminal B. Back to [the page](#a-page), or on to [the sources](/), by way of `make stage1`.

```cpp
// stage1_sync/naive.cpp
int fib(int n) { return n <= 2 ? 1 : fib(n - 1) + fib(n - 2); }
    // …
        close(client);
```

```diff
--- stage1_sync/naive.cpp
+++ stage2_fork/naive.cpp
// …
+    signal(SIGCHLD, SIG_IGN);  // or else each child that ends stays as a zombie
// …
         }
-        close(client);
+        close(client);  // the child has its own descriptor
     }
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
# A row of measured figures.
HEAD, ROWS = next(iter(figures.measured().items()))
ROW = ROWS["stage1_sync"].rstrip()
TRUTH += f"{HEAD}|---|--:|\n{ROW}\n"

# The lie: the text that is changed, what it becomes, and the check that must find it.
LIES = {
    "a word of a listing": ("n <= 2", "n < 2", "wrong_listings"),
    "a listing in another order": ("int fib(int n) {", "close(client);\n// …\nint fib(int n) {", "wrong_listings"),
    "a listing without a source": ("// stage1_sync/naive.cpp\n", "", "wrong_listings"),
    "a word of a diff": ("+    signal(SIGCHLD", "+    signal(SIGHUP", "wrong_listings"),
    "the end of a diff left out": ("descriptor\n     }\n", "descriptor\n", "wrong_listings"),
    "a diff without its sources": ("--- stage1_sync/naive.cpp\n", "", "wrong_listings"),
    "a figure that was not measured": (ROW, ROW[:-2] + "0 |", "unmeasured_figures"),
    "a heading that is not there": ("#a-page", "#another-page", "dead_links"),
    "a file that is not there": ("(/)", "(/nowhere.cpp)", "dead_links"),
    "a target that is not there": ("make stage1", "make stage7", "unknown_targets"),
    "a wrong answer": ("832040}", "832041}", "false_transcripts"),
    "an answer left out": ("tasks: 2\n", "", "false_transcripts"),
    "an answer before its time": ("list\n```", "list\ndone: dba481c1 buy milk\n```", "false_transcripts"),
    "one id for two tasks": ("added: 657f108a", "added: dba481c1", "false_transcripts"),
    "a process that is another one": ("thread=4242", "thread=4250", "false_transcripts"),
    "a command that does not end": ("$ echo again\nagain", "$ nc localhost 9999\n$ echo again\nagain", "false_transcripts"),
    "a command that is not played": ("```console B\n$", "```sh\n$", "false_transcripts"),
    "a terminal that the text never mentions": ("terminal B", "another one", "false_transcripts"),
    "a process left behind": ("$ echo again\nagain", "$ sleep 60 &\n…", "false_transcripts"),
}


def found(text, patience):
    """The checks that find something wrong with a page of this text, and what they say."""
    with tempfile.TemporaryDirectory() as directory:
        page = Path(directory) / "page.md"
        page.write_text(text)
        wrong = {each.__name__: list(each(page, text)) for each in check.ABOUT_THE_TEXT}
        wrong["false_transcripts"] = list(check.false_transcripts(page, text, patience))
    return {name: what for name, what in wrong.items() if what}


def finds(lie):
    true, false, by = LIES[lie]
    if TRUTH.count(true) != 1:
        return f"the page does not have {true!r} exactly once"
    wrong = found(TRUTH.replace(true, false), patience=3)
    if list(wrong) != [by]:
        return f"found by {wrong}, not by {by}"


# The same for a chapter; the text that is changed is a regular expression.
CHAPTER = Path("stage2_fork/README.md")
CHAPTER_LIES = {
    "a chapter without its naive listing": (r"// stage2_fork/naive.cpp\n", "// stage2_fork/main.cpp\n", "technique_not_shown"),
    "a chapter without what changed": (r"--- stage1_sync/naive.cpp\n", "--- stage1_sync/main.cpp\n", "technique_not_shown"),
    "a chapter that breaks nothing": (r"## Break it\n", "## Mend it\n", "flaws_without_a_report"),
    "a flaw without a report": (r"\n\*\*In the wild:\*\* ", "\n", "flaws_without_a_report"),
    "a report with two numbers": (r"(/issues/|/pull/)(?=\d+\): )", r"\g<1>9", "flaws_without_a_report"),
}


def finds_in_a_chapter(lie):
    true, false, by = CHAPTER_LIES[lie]
    text = (check.ROOT / CHAPTER).read_text()
    changed = re.sub(true, false, text, count=1)
    before, after = (list(getattr(check, by)(CHAPTER, each)) for each in (text, changed))
    if changed == text or before or not after:
        return f"the chapter: {before}; changed: {after}"


def finds_a_hint_that_gives_the_answer_away():
    exercise = exercise_of("3-2")
    code = next(line[1:] for line in exercise.solution.splitlines() if "pthread_setname_np(" in line)
    for hint in f"Say {code.strip()}", f"Remember: {' '.join(exercise.explanation.split()[:8])}":
        if not exercise.given_away(hint, question=""):
            return f"not in {hint!r}"


def finds_nothing_wrong_with_the_truth():
    return "\n".join(line for what in found(TRUTH, patience=300).values() for line in what)


def the_poster_shows_the_source():
    if poster.poster() != (Path(poster.__file__).parent / "poster.svg").read_text():
        return "it does not; to update it: python3 tests/tutorial/poster.py >tests/tutorial/poster.svg"


def proofs():
    return [("the poster shows the source", the_poster_shows_the_source),
            ("the tutorial's checker passes what is right", finds_nothing_wrong_with_the_truth)] + [
        (f"the tutorial's checker finds {lie}", lambda lie=lie: finds(lie)) for lie in LIES] + [
        (f"the tutorial's checker finds {lie}", lambda lie=lie: finds_in_a_chapter(lie)) for lie in CHAPTER_LIES] + [
        ("a hint that gives the answer away is found", finds_a_hint_that_gives_the_answer_away)]
