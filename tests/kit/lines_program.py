"""A program that is an expert, for tests: what it is asked is what it does. Needs the standard library only."""

import json
import os
import subprocess
import sys
import threading

WRITING = threading.Lock()
CANCELLED = {}


def say(**line):
    with WRITING:
        print(json.dumps(line), flush=True)


def work(call):
    number, content = call["id"], call["content"]
    if content == "too long":
        say(type="error", id=number, kind="invalid", message="the text is too long for this program")
    elif content == "die":
        os.kill(os.getpid(), 9)
    elif content == "garbage":
        print("Loading model... 100%", flush=True)
    elif content == "strange":
        say(type="answer", id=number, tokens_out="many")
    elif content == "flood":
        while True:
            say(type="piece", id=number, text="x" * 65536)
    elif content == "long line":
        print("x" * (9 << 20), flush=True)
    elif content == "environment":
        say(type="answer", id=number, text=json.dumps(dict(os.environ)))
    elif content == "child":
        child = subprocess.Popen(["sleep", "600"])
        say(type="piece", id=number, text=str(child.pid))
        threading.Event().wait()
    elif content == "call":
        say(type="answer", id=number, text=json.dumps(call))
    elif content == "pid":
        say(type="answer", id=number, text=str(os.getpid()))
    elif content.startswith("log "):
        print(content[4:], file=sys.stderr, flush=True)
        say(type="answer", id=number, text="logged")
    else:
        for character in "hello":
            say(type="piece", id=number, text=character)
        if content == "forever":
            threading.Event().wait()
        if content == "until cancelled":
            CANCELLED.setdefault(number, threading.Event()).wait()
            say(type="error", id=number, message="it was taken back")
            return
        say(type="answer", id=number, model="lines 2", tokens_in=2, tokens_out=5, finish_reason="stop")


def main():
    """With ``threads`` each call runs in a thread, so that cancels are heard."""
    threads = "threads" in sys.argv
    say(type="ready", model="lines 1")
    for line in sys.stdin:
        call = json.loads(line)
        if call["type"] == "cancel":
            CANCELLED.setdefault(call["id"], threading.Event()).set()
        elif threads:
            threading.Thread(target=work, args=(call,), daemon=True).start()
        else:
            work(call)


main()
