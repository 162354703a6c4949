"""An MCP server on standard input and output, for tests. Its tools do as their names say. Standard library only."""

import json
import os
import sys

STRING = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
NUMBERS = {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}, "required": ["a", "b"]}
TOOLS = [
    {"name": "echo", "description": "The same text", "inputSchema": STRING, "annotations": {"readOnlyHint": True}},
    {"name": "add", "description": "The sum", "inputSchema": NUMBERS},
    *(
        {"name": n, "inputSchema": STRING}
        for n in ("hang", "die", "garbage", "lie", "fail", "error", "flood", "env", "grow")
    ),
]
SEEN = []


def send(**message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


def use(number, name, arguments):
    if name == "echo":
        content = [{"type": "text", "text": arguments["text"]}]
        if arguments["text"] == "seen":
            content = [{"type": "text", "text": json.dumps(SEEN)}]
        send(id=number, result={"content": content})
    elif name == "add":
        if not all(isinstance(arguments.get(key), int) for key in "ab"):
            send(id=number, error={"code": -32602, "message": "a and b must be numbers, please"})
            return
        total = arguments["a"] + arguments["b"]
        send(id=number, result={"content": [], "structuredContent": {"sum": total}})
    elif name == "die":
        os.kill(os.getpid(), 9)
    elif name == "garbage":
        print("Server listening on stdio", flush=True)
    elif name == "lie":
        send(id=number + 1000, result={"content": []})
        send(id=str(number), result={"content": []})
        send(id=number, result="forty-two")
    elif name == "fail":
        send(id=number, result={"content": [{"type": "text", "text": "the disk is full"}], "isError": True})
    elif name == "error":
        send(id=number, error={"code": -32000, "message": "the server is tired"})
    elif name == "flood":
        send(id=number, result={"content": [{"type": "text", "text": "x" * (9 << 20)}]})
    elif name == "grow":
        TOOLS.append({"name": arguments["text"], "inputSchema": STRING})
        send(method="notifications/tools/list_changed")
        send(id=number, result={"content": []})
    elif name == "env":
        send(id=number, result={"content": [{"type": "text", "text": json.dumps(dict(os.environ))}]})


def main():
    deaf = "deaf" in sys.argv
    for line in sys.stdin:
        message = json.loads(line)
        number, method, params = message.get("id"), message.get("method"), message.get("params") or {}
        SEEN.append(method)
        if method == "initialize":
            version = "1999-01-01" if "old" in sys.argv else params["protocolVersion"]
            server = {"name": "kit", "version": "1"}
            send(id=number, result={"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": server})
            send(id="s1", method="ping")
            send(id="s2", method="sampling/createMessage", params={})
        elif method == "tools/list" and not params.get("cursor"):
            send(id=number, result={"tools": [*TOOLS[:2], {"name": 7}, "no tool"], "nextCursor": "2"})
        elif method == "tools/list":
            send(id=number, result={"tools": TOOLS[2:]})
        elif method == "ping" and not deaf:
            send(id=number, result={})
        elif method == "tools/call":
            use(number, params["name"], params["arguments"])


main()
