"""How the demo looks: tables on a terminal, plain lines anywhere else."""
from __future__ import annotations

import collections
from typing import Iterator

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from . import records
from .handlers import Event, Story

PHASE_COLOURS = {"setup": "cyan", "prepare_load": "yellow", "attach": "green"}
LINES_PER_TICK = 6  # more than that nobody can read
WORDLESS = ("on_cpu", "on_switch")  # frequent, and with nothing to tell but a name


class Screen:
    def __init__(self, console: Console) -> None:
        self.console = console
        self.live = console.is_terminal and not console.is_dumb_terminal

    def line(self, *parts: str | tuple[str, str]) -> None:
        """Print one line of (text, style) parts, as long as it may be."""
        self.console.print(Text.assemble(*parts), soft_wrap=True)

    def heading(self, text: str, remark: str = "") -> None:
        self.line("")
        self.line((text, "bold"), (f"   {remark}" if remark else "", "bright_black"))

    def event(self, event: Event) -> None:
        """One callback, as it happens."""
        self.line(
            (f"  {event.phase:<12} ", PHASE_COLOURS[event.phase]), (f"{event.program:<11}", "bold"),
            (f" {event.section:<20} ", "blue"), event.decision,
        )

    def listing(self, story: Story) -> None:
        """Instructions of one program, with those marked that its handler changed; two columns where there is room."""
        lines = []
        for text in story.listing.splitlines():
            index = int(text.partition(":")[0])
            patch = story.patches.get(index)
            lines.append(Text.assemble(
                (f"{text:<44}" if patch else text, "bold yellow" if patch else ""), (f" ← {patch}" if patch else "", "yellow")
            ))
        if self.live and self.console.width >= 130:
            half = (len(lines) + 1) // 2
            table = Table.grid(padding=(0, 4, 0, 0))
            table.add_row(Text("\n").join(lines[:half]), Text("\n").join(lines[half:]))
            self.console.print(Padding(table, (0, 0, 0, 2)))
        else:
            for line in lines:
                self.console.print(Text("  ") + line, soft_wrap=True)

    def show(self, view: View, ticks: Iterator[None]) -> None:
        """Show records for as long as `ticks` come, each after some were received."""
        if not self.live:
            for _ in ticks:
                for record in view.choose():
                    self.line("  ", *view.words(record))
            return
        with Live(console=self.console, auto_refresh=False, transient=True) as live:
            for _ in ticks:
                rows = max(5, self.console.height - len(view.story.slots) - 9)
                view.choose()
                live.update(Group(view.programs(), view.latest(rows), view.footer()), refresh=True)

    def summary(self, view: View) -> None:
        if self.live:
            self.console.print(view.latest(15))  # what the screen showed last, for those who scroll back
            self.console.print(Text(""), view.programs())
        else:
            for program in view.story.slots:
                count = view.counts[program]
                self.line(
                    f"  {program:<11} {count.hits:>10} hits {count.sent:>8} records {count.lost:>6} lost   "
                    f"loaded in {view.load_took[program] * 1e3:.2f} ms, "
                    f"attached in {view.attach_time(program) or '–'} ms"
                )
        if view.on_cpu:
            total = sum(view.on_cpu.values())
            most = ", ".join(f"{comm} {times * 100 // total} %" for comm, times in view.on_cpu.most_common(5))
            self.line("  busiest on the CPUs: ", (most, "bold"))


class View:
    """What is on display: counters of each program, and the records that came."""

    def __init__(self, story: Story, load_took: dict[str, float], began: float) -> None:
        self.story = story
        self.load_took = load_took
        self.names = {slot: program for program, slot in story.slots.items()}
        self.counts = {program: records.Count() for program in story.slots}
        self.new: list[records.Record] = []
        self.recent: collections.deque[records.Record] = collections.deque(maxlen=200)
        self.shown: collections.Counter[tuple[str, str]] = collections.Counter()
        self.on_cpu: collections.Counter[str] = collections.Counter()
        self.received = 0
        self.began = self.time = began  # of time.monotonic(), which is also the records' clock

    def add(self, raw: bytes) -> None:
        """The ring buffer's callback."""
        record = records.record(raw)
        self.received += 1
        if self.names[record.slot] == "on_cpu":
            self.on_cpu[record.comm] += 1
        self.new.append(record)

    def choose(self) -> list[records.Record]:
        """Some of the records that came since the last tick: first those whose like was shown least."""

        def shown(record: records.Record) -> int:
            program = self.names[record.slot]
            return self.shown[program, record.comm] * (4 if program in WORDLESS else 1)

        chosen = sorted(sorted(self.new, key=shown)[:LINES_PER_TICK])
        self.shown.update((self.names[record.slot], record.comm) for record in chosen)
        self.recent.extend(chosen)
        self.new.clear()
        return chosen

    def words(self, record: records.Record) -> list[str | tuple[str, str]]:
        program = self.names[record.slot]
        verb, colour = records.VERBS.get(program, ("was run", ""))
        return [
            (f"{record.time - self.began:>8.3f} s  ", "bright_black"), (f"cpu {record.cpu:<2} ", "bright_black"),
            f"{record.pid:>7} ", (f"{record.comm:<16}", "bold"), (f"{verb:<15}", colour),
            records.detail(program, record.data),
        ]

    def attach_time(self, program: str) -> str:
        took = self.story.attach_took.get(program)
        return "" if took is None else f"{took * 1e3:.2f}"

    def programs(self) -> Table:
        table = Table(title_justify="left", box=None, padding=(0, 2, 0, 0), header_style="bright_black")
        for name in ("program", "SEC()", "handler"):
            table.add_column(name, no_wrap=True)
        for name in ("load ms", "attach ms", "hits", "hits/s", "records", "lost"):
            table.add_column(name, justify="right", no_wrap=True)
        seconds = max(self.time - self.began, 0.001)
        for program in self.story.slots:
            count = self.counts[program]
            colour = records.VERBS.get(program, ("", "white"))[1]
            table.add_row(
                Text(program, colour), Text(self.story.sections[program], "blue"), Text(self.story.handlers[program]),
                f"{self.load_took[program] * 1e3:.2f}", self.attach_time(program) or "–",
                f"{count.hits:,}", f"{count.hits / seconds:,.0f}", f"{count.sent:,}",
                Text(f"{count.lost:,}", "red" if count.lost else ""),
            )
        return table

    def latest(self, rows: int) -> Text:
        """The newest of the chosen records, one a line."""
        newest = list(self.recent)[-rows:]
        lines = [Text.assemble(*self.words(record)) for record in newest]
        return Text("\n", no_wrap=True, overflow="ellipsis").join([Text(""), *lines])

    def footer(self) -> Text:
        return Text(f"\n{self.received:,} records through one ring buffer in {self.time - self.began:.1f} s, a choice is shown; "
                    "Ctrl-C ends", "bright_black")
