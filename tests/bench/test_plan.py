"""The order of a session, for many sizes."""

import itertools
from collections import Counter

import pytest

from llama_assets.bench.plan import Plan, mirrored_plan


def made(arms: int, photos: int, blocks: int, seed: int = 1) -> Plan:
    return mirrored_plan([f"m{n}" for n in range(arms)], [f"p{n}" for n in range(photos)], blocks, seed)


SIZES = list(itertools.product(range(1, 6), (1, 2, 3, 7, 30, 101), range(1, 9)))


@pytest.mark.parametrize(("arms", "photos", "blocks"), SIZES)
def test_every_photo_is_asked_once_of_every_arm_in_even_mirrored_blocks(arms: int, photos: int, blocks: int) -> None:
    found = made(arms, photos, blocks)
    asked = Counter((turn.model, ask.photo) for turn in found.turns for ask in turn.asks)
    assert set(asked.values()) == {1} and len(asked) == arms * photos == found.asks
    sizes = [len(block) for block in found.blocks]
    assert len(sizes) == min(blocks, photos) and max(sizes) - min(sizes) <= 1

    order: dict[int, list[str]] = {}
    photos_of: dict[tuple[int, str], list[str]] = {}
    for turn in found.turns:
        for ask in turn.asks:
            if turn.model not in order.setdefault(ask.block, []):
                order[ask.block].append(turn.model)
            photos_of.setdefault((ask.block, turn.model), []).append(ask.photo)
    for block, models in order.items():
        assert models == list(found.order(block)) == (list(found.arms) if block % 2 else list(found.arms)[::-1])
        assert all(photos_of[block, model] == list(found.blocks[block - 1]) for model in models)


@pytest.mark.parametrize(("arms", "photos", "blocks"), SIZES)
def test_an_arm_that_ends_a_block_and_begins_the_next_is_loaded_once(arms: int, photos: int, blocks: int) -> None:
    found = made(arms, photos, blocks)
    assert all(one.model != two.model for one, two in itertools.pairwise(found.turns))
    count = len(found.blocks)
    assert found.loads == (1 if arms == 1 else count * arms - (count - 1))


def test_three_arms_take_turns_as_the_design_says() -> None:
    turns = [(turn.model, [ask.block for ask in turn.asks]) for turn in made(3, 8, 4).turns]
    assert turns == [
        ("m0", [1, 1]), ("m1", [1, 1]), ("m2", [1, 1, 2, 2]), ("m1", [2, 2]), ("m0", [2, 2, 3, 3]), ("m1", [3, 3]),
        ("m2", [3, 3, 4, 4]), ("m1", [4, 4]), ("m0", [4, 4]),
    ]  # fmt: skip


def test_the_seed_and_the_names_alone_decide_the_order() -> None:
    names = [f"p{n}" for n in range(40)]
    one = mirrored_plan(["a", "b"], names, 4, 1)
    assert one == mirrored_plan(["a", "b"], names[::-1], 4, 1)
    assert one.blocks != mirrored_plan(["a", "b"], names, 4, 2).blocks
    assert [photo for block in one.blocks for photo in block] != sorted(names)


@pytest.mark.parametrize(
    ("arms", "photos", "blocks", "sentence"),
    [
        ([], ["p"], 1, "at least one arm"),
        (["a"], [], 1, "at least one photo"),
        (["a", "a"], ["p"], 1, "arm 'a' is there twice"),
        (["a"], ["p", "p"], 1, "photo 'p' is there twice"),
        (["a"], ["p"], 0, "blocks = 0"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(arms: list[str], photos: list[str], blocks: int, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        mirrored_plan(arms, photos, blocks, 1)
