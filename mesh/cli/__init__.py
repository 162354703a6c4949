"""The ``mesh`` command: one file a noun, each imported only when it is called."""

from cyclopts import App

from mesh import __version__
from mesh.cli.alerts import list_alerts
from mesh.cli.keys import list_keys
from mesh.cli.tables import peers as list_peers

app = App(
    name="mesh",
    help="A node that joins machines into a mesh of experts, and can prove what it did.",
    version=__version__,
)

events = App(name="events", help="The journal: follow it live, or look at one event.")
alerts = App(name="alerts", help="Alerts: those that are open, and acknowledging one.")
peers = App(name="peers", help="Who this node knows, and how each is; who is kept out.")
audit = App(name="audit", help="Is the history whole?")
keys = App(name="keys", help="API keys of the gateway: who may ask over HTTP, and how much.")
creds = App(name="creds", help="Credentials for tools of your own.")
psk = App(name="psk", help="The key of a private network.")

app.command("mesh.cli.init:init", name="init", help="Make a node's home: its identity and a config.toml to edit.")
app.command("mesh.cli.up:up", name="up", help="Run the node until SIGINT or SIGTERM.")
app.command("mesh.cli.status:status", name="status", help="What the running node says of itself.")
app.command("mesh.cli.ask:ask", name="ask", help="Ask the mesh; the answer streams.")
app.command(peers)
peers.default(list_peers)
peers.command("mesh.cli.access:block", name="block", help="Keep a peer or a network out, from now on.")
peers.command("mesh.cli.access:unblock", name="unblock", help="Lift a block.")
peers.command("mesh.cli.access:allow", name="allow", help="Allow a peer or a network, and nobody who is not listed.")
peers.command("mesh.cli.access:disallow", name="disallow", help="Take a peer or a network off the allow list.")
peers.command("mesh.cli.access:rules", name="rules", help="Who is blocked and who is allowed.")
app.command("mesh.cli.tables:experts", name="experts", help="Who can answer what, here and elsewhere.")
app.command("mesh.cli.tables:requests", name="requests", help="The latest requests of this node.")
app.command("mesh.cli.stats:stats", name="stats", help="How the mesh does: coverage, latency, success, cache hits.")
app.command("mesh.cli.content:show", name="show", help="What a request asked and was answered, where that is kept.")
app.command("mesh.cli.content:forget", name="forget", help="Erase the keys of sealed texts: nobody can read them.")
app.command("mesh.cli.tables:health", name="health", help="This node and its peers: status, score and trends.")
app.command("mesh.cli.why:why", name="why", help="Why a request went where it went, decided again from the journal.")
app.command(events)
events.command("mesh.cli.events:tail", name="tail", help="Print events from any past position, and follow.")
events.command("mesh.cli.events:show", name="show", help="Print one event whole, exactly as it is stored.")
app.command(alerts)
alerts.default(list_alerts)
alerts.command("mesh.cli.alerts:ack", name="ack", help="Say that somebody has seen an alert.")
app.command("mesh.cli.sql:sql", name="sql", help="Query the projected tables; it cannot write.")
app.command(
    "mesh.cli.projections:rebuild", name="rebuild", help="Build every table anew from the journal, beside, and swap."
)
app.command("mesh.cli.projections:digest", name="digest", help="The canonical hash of all tables.")
app.command(audit)
audit.command("mesh.cli.audit:verify", name="verify", help="Check the whole chain and every seal.")
app.command(creds)
creds.command("mesh.cli.creds:reader", name="reader", help="What a tool needs to follow and read this node's events.")
creds.command("mesh.cli.creds:worker", name="worker", help="What a NATS service needs to be an expert of this node.")
app.command(psk)
psk.command("mesh.cli.psk:new", name="new", help="Make one, in a file for its owner alone.")
psk.command("mesh.cli.psk:fingerprint", name="fingerprint", help="What tells it from another key.")
app.command(keys)
keys.default(list_keys)
keys.command("mesh.cli.keys:add", name="add", help="Make a key and print it, once.")
keys.command("mesh.cli.keys:revoke", name="revoke", help="Take a key back, at once.")
app.command("mesh.cli.config:config", name="config", help="The settings in force.")
app.command("mesh.cli.completion:completion", name="completion", help="What has a shell complete commands and options.")
app.command("mesh.cli.demo:demo", name="demo", help="Five nodes on this machine: asked, killed, alerted on, replayed.")
