"""Progress and colour on a terminal, plain lines in a pipe."""

import io

from sidecar.demo.screen import Screen


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def show_everything(stream: io.StringIO) -> str:
    screen = Screen(stream)
    screen.heading("heading")
    screen.progress("half way")
    screen.lines("one", "two")
    screen.verdict("well", good=True)
    screen.verdict("badly", good=False)
    return stream.getvalue()


def test_pipe_gets_plain_lines_and_no_progress() -> None:
    assert show_everything(io.StringIO()) == "heading\none\ntwo\nwell\nbadly\n"


def test_terminal_gets_progress_that_the_next_line_replaces() -> None:
    assert "\r\x1b[Khalf way\r\x1b[Kone\n" in show_everything(Terminal())


def test_terminal_shows_a_good_and_a_bad_end_in_different_colours() -> None:
    shown = show_everything(Terminal())
    assert "\x1b[32mwell" in shown
    assert "\x1b[31mbadly" in shown
