"""Numbers as text: no false 0, no share over its bound, each with its side."""

from __future__ import annotations

import pytest

from llama_assets.verdict import formats

MINUS = formats.MINUS


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (formats.percent(0.412), "41"),
        (formats.percent(0.0527), "5.3"),
        (formats.percent(0.0996), "10"),
        (formats.percent(0.0004), "0.1"),
        (formats.percent(0), "0"),
        (formats.percent(0.9949), "99"),
        (formats.percent(0.996), "99.6"),
        (formats.percent(0.99999), "99.9"),
        (formats.percent(1), "100"),
        (formats.percent(2.5), "250"),
        (formats.rate(0.99999), "99.9"),
        (formats.rate(0.00001), "0.1"),
        (formats.rate(1), "100"),
        (formats.signed_points(0.0004), "+0.1"),
        (formats.signed_points(-0.00001), f"{MINUS}0.1"),
        (formats.signed_points(0), "0.0"),
        (formats.signed_points(-0.9999), f"{MINUS}99.9"),
        (formats.signed_points(-1), f"{MINUS}100.0"),
        (formats.points(0), "the same"),
        (formats.span(0.5504, 0.6436), "36 to 45 % less"),
        (formats.span(0.94, 1.0004), "6.0 % less to 0.1 % more"),
        (formats.span(1, 1.2), "the same to 20 % more"),
        (formats.side(0.59), "41 % less"),
        (formats.signed(0.004), "+0.01"),
        (formats.signed(-0.13), f"{MINUS}0.13"),
        (formats.signed(0), "0.00"),
        (formats.signed(0.999), "+0.99"),
        (formats.plain(-0.123), f"{MINUS}0.12"),
        (formats.seconds(0.00004), "0.001"),
        (formats.seconds(0.0671), "0.067"),
        (formats.seconds(5.979), "5.98"),
        (formats.seconds(9.996), "10.0"),
        (formats.seconds(99.96), "100"),
        (formats.seconds(1204.2), "1,204"),
        (formats.speed(0.02), "0.1"),
        (formats.speed(33.56), "33.6"),
        (formats.clock(0.01), "0.1 s"),
        (formats.clock(1901), "31 min 41 s"),
        (formats.clock(3599.6), "1 h 00 min"),
        (formats.probability(0.28), "= 0.28"),
        (formats.probability(0.0341), "= 0.034"),
        (formats.probability(0.0009), "< 0.001"),
        (formats.probability(0.999), "= 0.99"),
        (formats.probability(1), "= 1.00"),
        (formats.level(0.975), "97.5"),
        (formats.level(1 - 0.05 / 6), "99.17"),
    ],
)
def test_a_number_is_said_so(said: str, expected: str) -> None:
    assert said == expected
