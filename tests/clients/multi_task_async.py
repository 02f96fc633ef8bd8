"""Ten requests at once, on an event loop in one thread.

    python3 tests/clients/multi_task_async.py
    python3 tests/clients/multi_task_async.py --blocking
    python3 tests/clients/multi_task_async.py --target /cpuTask

All ten begin before the first ends. Stages 2 to 6 answer all of them after a second. Stage 1 answers one each second: it
takes a client and a server that both do several things at once. With --blocking the coroutines make the calls of
multi_task_sync.py, which wait without `await`. Then the ten run one after the other at every stage: `async` alone gains
nothing.
With /cpuTask compare stages 2, 3 and 6, which use all processors, with stages 4 and 5, which use one.
"""
import asyncio

import lesson
import protocol
import single_task


async def task(number, options):
    """single_task.task with an `await` wherever it waits: meanwhile the loop runs the others."""
    single_task.say(number, "began")
    reader, writer = await asyncio.open_connection(options.host, options.port)
    try:
        writer.write(protocol.get(options, options.target))
        by = protocol.served_by(options.target, await reader.read())
    finally:
        writer.close()
        await writer.wait_closed()      # takes note of a failure, or else asyncio complains at the end
    single_task.say(number, "ended", f"  by {by}")


async def blocking_task(number, options):
    """A coroutine that never awaits: no other one has a turn until it has ended."""
    single_task.task(number, options)


async def ten(coroutine, options):
    """Runs each to its end, even if another one fails: asyncio complains of a task that fails while it is cancelled."""
    coroutines = [coroutine(number, options) for number in range(1, 11)]
    for failure in await asyncio.gather(*coroutines, return_exceptions=True):
        if failure:
            raise failure


def main(options):
    asyncio.run(ten(blocking_task if options.blocking else task, options))


if __name__ == "__main__":
    parser = single_task.parser(__doc__)
    parser.add_argument("--blocking", action="store_true", help="make blocking calls in the coroutines")
    lesson.run(main, parser.parse_args())
