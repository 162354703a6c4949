"""An expert that is a program of its own: calls come as lines of JSON, answers go as lines. Needs nothing of the mesh.

[[experts]]
name = "shouter"
backend = "subprocess"
domains = ["language"]
options = { command = ["python3", "examples/lines_expert.py"] }
"""

import json
import sys


def say(**line: object) -> None:
    """One line to the node."""
    print(json.dumps(line), flush=True)  # noqa: T201 - that is the protocol


def main() -> None:
    """Answer calls until the input ends."""
    say(type="ready", model="shouter 1")
    for line in sys.stdin:
        call = json.loads(line)
        if call["type"] != "call":  # a cancel: this program does one call at a time, and is killed if it goes on
            continue
        words = call["content"].split()
        if not words:
            say(type="error", id=call["id"], kind="invalid", message="there is nothing to shout: the text is empty")
            continue
        for word in words:
            say(type="piece", id=call["id"], text=word.upper() + " ")
        say(type="answer", id=call["id"], tokens_out=len(words))


if __name__ == "__main__":
    main()
