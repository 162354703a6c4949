"""The ``mesh`` command: one file a noun, each imported only when it is called."""

from cyclopts import App

from mesh import __version__

app = App(
    name="mesh",
    help="A node that joins machines into a mesh of experts, and can prove what it did.",
    version=__version__,
)

events = App(name="events", help="The journal: follow it live, or look at one event.")
alerts = App(name="alerts", help="Alerts: those that are open, and acknowledging one.")
audit = App(name="audit", help="Is the history whole?")
creds = App(name="creds", help="Credentials for tools of your own.")

app.command("mesh.cli.init:init", name="init")
app.command("mesh.cli.up:up", name="up")
app.command("mesh.cli.status:status", name="status")
app.command("mesh.cli.ask:ask", name="ask")
app.command("mesh.cli.tables:peers", name="peers")
app.command("mesh.cli.tables:experts", name="experts")
app.command("mesh.cli.tables:requests", name="requests")
app.command("mesh.cli.tables:health", name="health")
app.command("mesh.cli.why:why", name="why")
app.command(events)
events.command("mesh.cli.events:tail", name="tail")
events.command("mesh.cli.events:show", name="show")
app.command(alerts)
alerts.command("mesh.cli.alerts:list_alerts", name="list")
alerts.command("mesh.cli.alerts:ack", name="ack")
app.command("mesh.cli.sql:sql", name="sql")
app.command("mesh.cli.projections:rebuild", name="rebuild")
app.command("mesh.cli.projections:digest", name="digest")
app.command(audit)
audit.command("mesh.cli.audit:verify", name="verify")
app.command(creds)
creds.command("mesh.cli.creds:reader", name="reader")
app.command("mesh.cli.config:config", name="config")
app.command("mesh.cli.demo:demo", name="demo")
