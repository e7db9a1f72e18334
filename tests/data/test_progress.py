"""What a person sees of a preparation."""

from __future__ import annotations

import io

from launcher.data.make.progress import Progress, shown


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def at(done: int) -> Progress:
    return Progress(bytes_done=done, bytes_total=100, rows=done, tokens=1000 * done)


def test_a_log_gets_plain_lines_and_the_last_one_always() -> None:
    stream = io.StringIO()
    with shown(stream) as report:
        for done in (1, 2, 100):
            report(at(done))
    (line,) = stream.getvalue().splitlines()
    assert line.startswith("tokenised 100 %: 100 rows, ")


def test_a_terminal_gets_a_bar_with_a_rate() -> None:
    stream = Terminal()
    with shown(stream) as report:
        report(at(50))
        report(at(100))
    assert "100%" in stream.getvalue()
    assert "tokens/s" in stream.getvalue()
