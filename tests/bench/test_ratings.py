"""`ratings.csv`: what it says, what an empty cell means, and sentences about what it may not hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from llama_assets.bench.ratings import Rating, RatingsError, UnreadableRatings, WrongColumns, read_ratings


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "ratings.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_favourites_and_stars_are_read_and_empty_is_not_said(tmp_path: Path) -> None:
    path = written(tmp_path, "photo,favourite,stars\na.jpg,true,5\nb.jpg,false,\nsub/c.jpg,,2\nd.jpg,,\n")
    assert read_ratings(path) == {
        "a.jpg": Rating(True, 5),
        "b.jpg": Rating(False, None),
        "sub/c.jpg": Rating(None, 2),
        "d.jpg": Rating(None, None),
    }


def test_a_spreadsheets_habits_do_not_matter(tmp_path: Path) -> None:
    text = '\ufeffStars, Photo ,note,Favourite\r\n4,"a, b.jpg",nice,YES\r\n\r\n,"c.jpg"\r\n'
    assert read_ratings(written(tmp_path, text)) == {"a, b.jpg": Rating(True, 4), "c.jpg": Rating()}
    for sign in (";", "\t"):
        text = f"photo{sign}stars\n" + f'"a;\tb"{sign}3\n'
        assert read_ratings(written(tmp_path, text)) == {"a;\tb": Rating(None, 3)}


def test_one_of_the_two_columns_is_enough(tmp_path: Path) -> None:
    assert read_ratings(written(tmp_path, "photo,stars\na,3\n")) == {"a": Rating(None, 3)}
    assert read_ratings(written(tmp_path, "photo,favourite\na,0\n")) == {"a": Rating(False, None)}
    assert read_ratings(written(tmp_path, "photo,favourite\n")) == {}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("photo,favourite,stars\na.jpg,maybe,\n", "line 2, column favourite: 'maybe'; it may be true, false or empty"),
        ("photo,stars\na,1\nb,6\n", "line 3, column stars: '6'; it may be 1, 2, 3, 4, 5 or empty"),
        ("photo,stars\na,4.5\n", "line 2, column stars: '4.5'"),
        ("photo,stars\n,4\n", "line 2, column photo: ''"),
        ("stars,photo\n4\n", "line 2, column photo: ''"),
        ("photo,stars\na,4,9\n", "line 2, column number 3: '9'"),
        ("photo,stars\na,1\nb,1\na,2\n", "line 4, column photo: 'a' has line 2 too"),
        ("name,stars\na,1\n", "'name,stars'; it has to name photo"),
        ("photo\na\n", "'photo'; it has to name photo, and favourite or stars"),
        ("photo,stars,stars\na,1,2\n", "it has to name photo"),
        ("", "'nothing'"),
        (b"photo,stars\n\xff,1\n", "byte 12 is not UTF-8"),
        ('photo,stars\n"a,1\n', "is not CSV"),
    ],
)
def test_what_is_wrong_is_named_with_its_place_and_the_way_out(
    tmp_path: Path, text: str | bytes, sentence: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(RatingsError) as raised:
        read_ratings(path)
    assert sentence in str(raised.value)
    assert str(path) in str(raised.value)
    assert raised.value.exit_status == 2


def test_a_missing_file_is_said_by_name(tmp_path: Path) -> None:
    with pytest.raises(UnreadableRatings, match=r"none\.csv: No such file"):
        read_ratings(tmp_path / "none.csv")
    with pytest.raises(WrongColumns):
        read_ratings(written(tmp_path, "\n"))
