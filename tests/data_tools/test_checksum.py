"""What a process notices of slices that changed since it read them."""

import numpy as np
import pytest

from data_tools.checksum import _PIECE, word_checksum
from tests.data_tools.slices import Pixels


def noise(count: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, count, dtype=np.uint8)


@pytest.mark.parametrize("size", [1, 7, 8, 9, 30, 64])
def test_every_change_of_one_byte_is_noticed(size: int) -> None:
    data = noise(size)
    before = word_checksum(data)
    for place in range(size):
        for change in range(1, 256):
            data[place] ^= change
            assert word_checksum(data) != before
            data[place] ^= change
    assert word_checksum(data) == before


def test_the_highest_bits_of_two_words_do_not_cancel() -> None:
    data = noise(800)
    before = word_checksum(data)
    tops = range(7, 800, 8)
    for first in tops:
        for second in tops:
            if first < second:
                data[[first, second]] ^= 128
                assert word_checksum(data) != before
                data[[first, second]] ^= 128


def test_words_that_change_places_are_noticed_also_between_pieces() -> None:
    data = noise(_PIECE * 8 * 3 + 5)
    before = word_checksum(data)
    words = data[:-5].view(np.uint64)
    for one, other in ((0, 1), (0, _PIECE), (7, 2 * _PIECE + 7), (_PIECE - 1, _PIECE)):
        words[[one, other]] = words[[other, one]]
        assert word_checksum(data) != before
        words[[one, other]] = words[[other, one]]
    blocks = words.reshape(3, _PIECE)
    blocks[[0, 2]] = blocks[[2, 0]]
    assert word_checksum(data) != before


def test_lengths_of_zeros_differ() -> None:
    assert len({word_checksum(np.zeros(size, np.uint8)) for size in range(100)}) == 100


def test_many_random_arrays_all_differ() -> None:
    found = {word_checksum(noise(30, seed)) for seed in range(20_000)}
    assert len(found) == 20_000


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32"])
def test_the_bytes_alone_count(dtype: str) -> None:
    image = np.arange(5 * 7).reshape(5, 7).astype(dtype)
    assert word_checksum(image) == word_checksum(np.frombuffer(image.tobytes(), np.uint8))
