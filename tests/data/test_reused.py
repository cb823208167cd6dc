"""Memory that is used again is nobody else's by then."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtl.data.reused import Reused


def test_memory_is_used_again_when_the_last_view_is_gone():
    reused = Reused(2)
    places = set()
    for _ in range(20):
        array = reused.empty((3, 4, 5))
        places.add(array.ctypes.data)
        rows = list(array[1:])
        del array
        assert reused.empty((3, 4, 5)).ctypes.data != rows[0].ctypes.data - rows[0].nbytes
    assert len(places) <= 3


@pytest.mark.parametrize("give", [jnp.asarray, jax.device_put, lambda array: jax.jit(lambda x: x)(array)])
def test_what_jax_was_given_is_not_written_over(give):
    reused = Reused(4)
    given = []
    for number in range(30):
        array = reused.empty((64, 1024))
        array[:] = number
        given.append(give(array))
        del array
    for number, array in enumerate(given):
        assert bool((array == number).all())


def test_arrays_of_threads_are_their_own():
    reused = Reused(3)

    def filled(number):
        array = reused.empty((100, 100))
        array[:] = number
        return bool((array == number).all()) and array

    with ThreadPoolExecutor(4) as pool:
        for first in range(0, 200, 8):
            arrays = list(pool.map(filled, range(first, first + 8)))
            assert [int(array[0, 0]) for array in arrays] == list(range(first, first + 8))
            assert len({array.ctypes.data for array in arrays}) == 8


def test_another_size_is_new_memory():
    reused = Reused(2)
    del (small := [reused.empty((2,))])[:]
    assert not small
    large = reused.empty((3000,))
    large[:] = np.arange(3000) % 256
    assert large[-1] == 2999 % 256
