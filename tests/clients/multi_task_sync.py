"""Ten requests, one after the other: the second is sent when the first has been answered.

    python3 tests/clients/multi_task_sync.py
    python3 tests/clients/multi_task_sync.py --target /cpuTask

Ten requests of a second each take ten seconds at every stage. However many a server could serve at once, it gets one.
"""
import lesson
import single_task


def main(options):
    for number in range(1, 11):
        single_task.task(number, options)


if __name__ == "__main__":
    lesson.run(main, single_task.parser(__doc__).parse_args())
