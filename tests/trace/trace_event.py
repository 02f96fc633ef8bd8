"""A timeline in the Trace Event Format, which ui.perfetto.dev and chrome://tracing open.

Slices are complete events (X), signals are instants (i), names are metadata (M). A connection is an asynchronous track: its
begin and end (b, e), in it what its client waits for (b, e), and each time that bytes were read or written (n).
"""
import json

from timeline import SIGNAL


def metadata(timeline):
    """What is said of each process and thread: kind, process, thread, arguments. They keep the order in which they began."""
    for order, process in enumerate(timeline.processes):
        role = f", child of {process.parent.number}" if process.parent else ""
        yield "process_name", process.number, process.number, {"name": f"{process.name}{role}"}
        yield "process_sort_index", process.number, process.number, {"sort_index": order}
        for place, thread in enumerate(process.threads):
            yield "thread_name", process.number, thread.number, {"name": thread.name}
            yield "thread_sort_index", process.number, thread.number, {"sort_index": place}


def slices(thread):
    for piece in thread.slices:
        event = {"name": piece.name, "cat": piece.kind, "ts": piece.begin, "pid": thread.process.number, "tid": thread.number,
                 "args": {"about": f"{piece.about.name}: {piece.about.text}"} if piece.about else {}}
        if piece.call:
            event["args"].update(arguments=piece.call.arguments, result=piece.call.result)
            if piece.call.times > 1:
                event["name"] = "asks again and again"
                event["args"]["times"] = piece.call.times
        yield {**event, "ph": "i", "s": "t"} if piece.kind == SIGNAL else {**event, "ph": "X", "dur": piece.end - piece.begin}


def track(connection):
    begin = connection.request.begin if connection.request else connection.begin
    common = {"cat": "connection", "id": f"{connection.process.number}:{connection.descriptor}:{begin}",
              "pid": connection.process.number, "tid": connection.process.number}
    name = f"{connection.name}: {connection.text} ({connection.peer})"
    said = {"peer": connection.peer, "descriptor": connection.descriptor}
    yield {**common, "ph": "b", "ts": begin, "name": name, "args": said}
    for what, phase_begin, phase_end in connection.phases():
        yield {**common, "ph": "b", "ts": phase_begin, "name": what, "args": {}}
        yield {**common, "ph": "e", "ts": phase_end, "name": what, "args": {}}
    for thread, call in connection.moments:
        yield {**common, "ph": "n", "ts": call.end, "name": f"{call.name}, {call.number} bytes", "args": {"by": thread.name}}
    yield {**common, "ph": "e", "ts": max(connection.end, begin), "name": name, "args": {}}


def events(timeline):
    named = [{"ph": "M", "ts": 0, "name": kind, "pid": pid, "tid": tid, "args": said}
             for kind, pid, tid, said in metadata(timeline)]
    found = [event for process in timeline.processes for thread in process.threads for event in slices(thread)]
    found += [event for connection in timeline.connections for event in track(connection)]
    zero = min((event["ts"] for event in found), default=0)
    for event in found:
        event["ts"] -= zero
    # The sort is stable: what happens at the same moment stays in its order.
    return named + sorted(found, key=lambda event: event["ts"])


def lines(timeline, title):
    """The trace's text, an event in each line so that grep finds it."""
    *before, last = [json.dumps(event, allow_nan=False) for event in events(timeline)] or [""]
    return [f'{{"displayTimeUnit": "ms", "otherData": {{"command": {json.dumps(title)}}}, "traceEvents": [',
            *(event + "," for event in before), last, "]}"]
