"""What the demo prints while it runs."""

from rich.console import Console
from rich.markup import escape

from mesh.api.client import Outcome
from mesh.clock import Clock
from mesh.demo.questions import Question

WIDTH = 140


class Screen:
    """Steps with the seconds since the start."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._started = clock.monotonic()
        self.console = Console(highlight=False, width=WIDTH)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the demo began."""
        return self._clock.monotonic() - self._started

    def chapter(self, title: str) -> None:
        """A new part begins."""
        self.console.print(f"\n[bold cyan]{self.elapsed_s:6.1f}s  {escape(title)}[/]")

    def step(self, text: str) -> None:
        """Something that happens."""
        self.console.print(f"         {escape(text)}")

    def done(self, text: str) -> None:
        """Something that is done."""
        self.console.print(f"       [green]✓[/] {escape(text)}")

    def notice(self, text: str) -> None:
        """Something that is not as it should be, though the demo goes on."""
        self.console.print(f"       [yellow]![/] {escape(text)}")

    def answer(self, question: Question, outcome: Outcome, node: str) -> None:
        """A question and the beginning of its answer, a line each."""
        asked = _one_line(question.content, 52)
        self.console.print(
            f"         [dim]{question.domain:<11}[/] {escape(asked):<52} [dim]{node}/{outcome.expert} "
            f"{outcome.latency_ms:,.0f} ms[/]\n                     [green]→[/] {escape(_one_line(outcome.text, 84))}"
        )

    def quote(self, text: str) -> None:
        """The beginning of an answer."""
        self.console.print(f"         “{escape(_one_line(text, 90))}”", style="italic")

    def output(self, command: str, text: str) -> None:
        """A command and all that it printed."""
        self.console.print(f"       [bold]$ {escape(command)}[/]")
        for line in text.rstrip().splitlines():
            self.console.print(f"         {escape(line)}", overflow="ellipsis", no_wrap=True)


def _one_line(text: str, limit: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
