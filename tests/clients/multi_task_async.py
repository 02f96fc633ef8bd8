"""Ten requests at once, on an event loop in one thread.

    python3 tests/clients/multi_task_async.py
    python3 tests/clients/multi_task_async.py --blocking
    python3 tests/clients/multi_task_async.py --target /cpuTask

All ten begin before the first ends. Stages 2 to 6 answer all of them after a second, stage 1 one each second: it takes two
for anything to happen at once. With --blocking the coroutines make the calls of multi_task_sync.py, which wait without
`await`. Then the ten come one after the other at every stage: `async` alone gains nothing.
With /cpuTask look at stages 2, 3 and 6, which share it out to the processors, and at stages 4 and 5.
"""
import asyncio

import lesson
import protocol
import single_task


async def task(number, options):
    """single_task.task with an `await` wherever it waits: meanwhile, the loop turns to the others."""
    single_task.say(number, "began")
    reader, writer = await asyncio.open_connection(options.host, options.port)
    try:
        writer.write(protocol.get(options, options.target))
        by = protocol.served_by(options.target, await reader.read())
    finally:
        writer.close()
        await writer.wait_closed()      # which takes note of a failure, or asyncio complains of it in the end
    single_task.say(number, "ended", f"  by {by}")


async def blocking_task(number, options):
    """A coroutine that never awaits: nobody else has a turn until it has ended."""
    single_task.task(number, options)


async def ten(coroutine, options):
    """Each comes to its own end, also after another one's failure: asyncio complains of who fails while being cancelled."""
    coroutines = [coroutine(number, options) for number in range(1, 11)]
    for failure in await asyncio.gather(*coroutines, return_exceptions=True):
        if failure:
            raise failure


def main(options):
    asyncio.run(ten(blocking_task if options.blocking else task, options))


if __name__ == "__main__":
    parser = single_task.parser(__doc__)
    parser.add_argument("--blocking", action="store_true", help="calls that block, in the coroutines")
    lesson.run(main, parser.parse_args())
