"""Notices into the node's own log."""

import structlog

from mesh.health.notifier import Notice

_LEVELS = {"info": "info", "warning": "warning", "error": "error", "critical": "critical"}
log = structlog.get_logger("mesh.alerts")


class LogNotifier:
    """Logs a raised alert at the level of its severity, and the rest of its life as information."""

    async def send(self, notice: Notice) -> None:
        """See `Notifier.send`."""
        level = _LEVELS.get(notice.severity, "warning") if notice.step == "raised" else "info"
        say = getattr(log, level)
        say(f"alert {notice.step}", alert=notice.alert, severity=notice.severity, text=notice.text)
