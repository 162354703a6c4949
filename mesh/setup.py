"""Making a node's home."""

import socket

from mesh.config import load_config
from mesh.home import Home
from mesh.identity import Identity, create_key_file

_TEMPLATE = """\
# Settings of this node. Everything has a default; `mesh config` prints what is in force.

[node]
name = "{name}"
# mesh = "mesh"                # only nodes of the same mesh join

[overlay]
# listen = ["/ip4/0.0.0.0/tcp/4701"]
{psk}psk_file = "swarm.key"                       # only nodes that have the same key
# peers = ["/ip4/192.0.2.7/tcp/4701/p2p/12D3Koo…"]   # nodes that mDNS cannot find, as their `mesh status` says
# mdns_interfaces = ["192.0.2.5"]                     # search on these only; ["127.0.0.1"]: this machine alone

# [routing]
# content = "sealed"           # keep prompts and answers, under keys that `mesh forget` erases; else digests alone

[[experts]]
name = "solver"
backend = "mathematics"
domains = ["mathematics"]

[[experts]]
name = "pythonist"
backend = "code"
domains = ["coding"]

[[experts]]
name = "toolbox"
backend = "tools"
domains = ["tool_use"]

# A model server that speaks OpenAI's API: Ollama, llama.cpp, vLLM …
# [[experts]]
# name = "llama"
# backend = "openai"
# domains = ["language", "reasoning"]
# options = {{ base_url = "http://127.0.0.1:11434/v1", model = "llama3.2" }}   # models = "auto": all that it has

# A program of your own, a WebAssembly module, the tools of an MCP server: docs/experts.md has the options.
# [[experts]]
# name = "shouter"
# backend = "subprocess"
# domains = ["language"]
# options = {{ command = ["python3", "examples/lines_expert.py"] }}
#
# [[experts]]
# name = "sandboxed"
# backend = "wasm"
# domains = ["language"]
# options = {{ path = "expert.wasm" }}
#
# [[experts]]
# name = "files"
# backend = "mcp"
# domains = ["tool_use"]
# options = {{ command = ["npx", "-y", "some-mcp-server"], tools = ["search"] }}

# NATS services become experts by themselves: `mesh creds worker` prints one. A service of another server:
# [[experts]]
# name = "elsewhere"
# backend = "nats"
# domains = ["language"]
# options = {{ url = "nats://192.0.2.7:4222", subject = "answers", service = "answerer" }}
"""


def initialise(home: Home, *, name: str = "", config: str | None = None, network_key: bool = False) -> Identity:
    """Create ``home`` with a new identity and a config file, and check that the config loads.

    ``config`` replaces the commented default; ``network_key``: the default names the key of a private network.
    Raises IdentityError when there is an identity already.
    """
    home.create()
    identity = create_key_file(home.key_file)
    if not home.config_file.exists():
        text = (
            config
            if config is not None
            else _TEMPLATE.format(name=name or socket.gethostname()[:64], psk="" if network_key else "# ")
        )
        home.config_file.write_text(text)
    load_config(home.root)
    return identity
