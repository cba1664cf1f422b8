"""What others wrote cannot move the cursor, break a line or fill the screen."""

import pytest

from edgedetr.runtime.printable import counted, printable, shortened


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("straße 7.png", "straße 7.png"),
        ("a\tb\r\n  c", "a b c"),
        ("\x1b[2Jgone", r"\x1b[2Jgone"),
        ("photo\u202egnp.exe", r"photo\u202egnp.exe"),
        ("\udcff", r"\udcff"),
        ("\x00\x7f", r"\x00\x7f"),
        ("", ""),
    ],
)
def test_text_stays_on_its_line_and_controls_are_escaped(text, shown):
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("most", "shown"),
    [(26, "abcdefghijklmnopqrstuvwxyz"), (25, "abcdefghij ... qrstuvwxyz"), (7, "a ... z")],
)
def test_the_middle_of_a_long_text_is_left_out(most, shown):
    assert shortened("abcdefghijklmnopqrstuvwxyz", most) == shown
    assert len(shown) <= most


def test_a_count_takes_the_plural_unless_it_is_one():
    assert [counted(n, "problem") for n in (0, 1, 2)] == ["0 problems", "1 problem", "2 problems"]
