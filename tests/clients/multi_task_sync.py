"""Ten requests, one after the other: the second is sent when the first has been answered.

    python3 tests/clients/multi_task_sync.py
    python3 tests/clients/multi_task_sync.py --target /cpuTask

Ten times a second takes ten seconds, at every stage: however many a server can serve at once, it is asked for one at a time.
"""
import lesson
import single_task


def main(options):
    for number in range(1, 11):
        single_task.task(number, options)


if __name__ == "__main__":
    lesson.run(main, single_task.parser(__doc__).parse_args())
