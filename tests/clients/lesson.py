"""What the clients share: their options, and how they end. The lessons are in the scripts beside it."""
import argparse
import errno
import http.client
import os
import re
import signal
import sys

from protocol import ErrorAnswer


def parser(doc):
    found = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--host", default="localhost")
    found.add_argument("--port", type=port, default=9999)
    return found


def number(text, most=sys.maxsize):
    """For argparse: a whole number from 1 to `most`."""
    if not 1 <= int(text) <= most:
        raise ValueError
    return int(text)


def port(text):
    return number(text, 65535)


def say(line):
    """Prints a line at once. Ends quietly if the reader is gone, as with head(1): that is no error of the server's."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        os._exit(0)     # ends the process from any thread


def reason(error):
    """Why there was no answer, in the system's words. asyncio reports one error for each address of a name."""
    numbers = re.findall(r"\[Errno (\d+)\]", str(error))
    return os.strerror(int(numbers[-1])) if numbers else getattr(error, "strerror", None) or str(error).strip()


def run(main, options):
    """Calls main(options). Ctrl-C ends it quietly, whatever it waits for; an error ends it with one clear line."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    where = f"{options.host}:{options.port}"
    try:
        main(options)
    except ErrorAnswer as error:
        sys.exit(str(error))
    except (OSError, UnicodeError, http.client.HTTPException) as error:
        if reason(error) == os.strerror(errno.ECONNREFUSED):
            sys.exit(f"no server at {where}: {reason(error)}; start one with: make run3")
        sys.exit(f"no answer from {where}: {reason(error)}")
