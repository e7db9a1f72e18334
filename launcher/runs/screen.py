"""How a followed run looks: one moving bar on a terminal, plain lines elsewhere.

Owns the looks. Must not know where records come from.
"""

from __future__ import annotations

import time
from typing import Any, Protocol, TextIO

LINE_EVERY_S = 10.0


class Screen(Protocol):
    """What following asks of whoever shows it."""

    def say(self, line: str) -> None:
        """Show a line that stays."""
        ...

    def begin(self, step: int, total_steps: int) -> None:
        """Training goes on after `step` of `total_steps`."""
        ...

    def step(self, record: dict[str, Any]) -> None:
        """An optimiser step was done."""
        ...

    def evaluation(self, record: dict[str, Any]) -> None:
        """A held-out loss was measured."""
        ...

    def close(self) -> None:
        """Nothing more will come."""
        ...


def screen(stream: TextIO) -> Screen:
    """The screen that suits the stream."""
    return Bar(stream) if stream.isatty() else Lines(stream)


class Lines:
    """A line for each event and evaluation, and one for steps now and then."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._total = 0
        self._unsaid: dict[str, Any] | None = None
        self._last_line = 0.0

    def say(self, line: str) -> None:
        """Print it, after the step that came before it."""
        self._flush()
        self._print(line)

    def begin(self, step: int, total_steps: int) -> None:
        """Note the length."""
        self._total = total_steps

    def step(self, record: dict[str, Any]) -> None:
        """Print it, if the last line is old enough."""
        self._unsaid = record
        if time.monotonic() - self._last_line >= LINE_EVERY_S:
            self._flush()

    def evaluation(self, record: dict[str, Any]) -> None:
        """Print it."""
        self.say(_evaluation(record))

    def close(self) -> None:
        """Print the last step."""
        self._flush()

    def _flush(self) -> None:
        record, self._unsaid = self._unsaid, None
        if record is None:
            return
        remaining_s = (self._total - record["step"]) * record["step_time_s"]
        left = f"  {_clock(remaining_s)} left" if self._total else ""
        loss, rate = _number(record["loss"]), record["tokens_per_s"]
        self._print(f"step {record['step']}/{self._total or '?'}  loss {loss}  {rate:,.0f} tokens/s{left}")

    def _print(self, line: str) -> None:
        print(line, file=self._stream, flush=True)
        self._last_line = time.monotonic()


class Bar:
    """A tqdm bar; everything else scrolls above it."""

    def __init__(self, stream: TextIO) -> None:
        from tqdm import tqdm

        self._tqdm = tqdm
        self._stream = stream
        self._bar: Any = None
        self._shown: dict[str, str] = {}

    def say(self, line: str) -> None:
        """Print it above the bar."""
        self._tqdm.write(line, file=self._stream)

    def begin(self, step: int, total_steps: int) -> None:
        """A new bar that begins at `step`."""
        self.close()
        self._bar = self._tqdm(
            total=total_steps, initial=step, unit="step", file=self._stream, dynamic_ncols=True, smoothing=0.1
        )

    def step(self, record: dict[str, Any]) -> None:
        """Move the bar."""
        self._show(loss=_number(record["loss"]))
        if self._bar is not None:
            self._bar.update(record["step"] - self._bar.n)

    def evaluation(self, record: dict[str, Any]) -> None:
        """Print it, and keep the last one in sight."""
        self.say(_evaluation(record))
        self._show(eval=_number(record["eval_loss"]))

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _show(self, **values: str) -> None:
        self._shown |= values
        if self._bar is not None:
            self._bar.set_postfix(self._shown, refresh=False)


def _evaluation(record: dict[str, Any]) -> str:
    sets = [name for name in record if name.removesuffix("_loss") + "_tokens" in record and name != "eval_loss"]
    each = ", ".join(f"{name[5:-5]} {_number(record[name])}" for name in sets if name.endswith("_loss"))
    loss = _number(record["eval_loss"]) + (f" ({each})" if each else "")
    return f"step {record['step']}  held-out loss {loss} over {record['eval_tokens']:,} tokens"


def _number(value: float | None) -> str:
    # JSON has no NaN; the writer records null.
    return "nan" if value is None else f"{value:.4f}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
