from __future__ import annotations

import jax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxtl.trees import combine, flatten, map_with_path, partition, unflatten

KEYS = st.text("abc012_", min_size=1, max_size=3)
TREES = st.recursive(
    st.dictionaries(KEYS, st.integers(), min_size=1, max_size=3),
    lambda inner: st.dictionaries(KEYS, st.integers() | inner, min_size=1, max_size=3),
    max_leaves=12,
)


@given(TREES)
def test_unflatten_is_the_inverse_of_flatten(tree: dict) -> None:
    assert unflatten(flatten(tree)) == tree
    assert list(flatten(unflatten(flatten(tree)))) == list(flatten(tree))


@given(TREES)
def test_paths_are_jaxs(tree: dict) -> None:
    keyed = jax.tree_util.tree_flatten_with_path(tree)[0]
    assert {".".join(key.key for key in keys): leaf for keys, leaf in keyed} == flatten(tree)


@given(TREES, st.sets(KEYS))
def test_partition_and_combine_lose_nothing(tree: dict, chosen: set[str]) -> None:
    kept, rest = partition(tree, lambda path: path.split(".")[0] in chosen)
    assert set(flatten(kept)) == {path for path in flatten(tree) if path.split(".")[0] in chosen}
    assert combine(kept, rest) == combine(rest, kept) == tree
    assert jax.tree.structure(combine(kept, rest)) == jax.tree.structure(tree)
    assert set(kept).isdisjoint(set(rest))


def test_keys_are_sorted_as_jax_sorts_them() -> None:
    combined = combine({"b": {"10": 1, "2": 2}}, {"a": 3, "b": {"1": 4}})
    assert list(flatten(combined)) == ["a", "b.1", "b.10", "b.2"]
    assert list(flatten(combined)) == list(flatten(jax.tree.map(lambda leaf: leaf, combined)))


def test_map_sees_path_and_leaf() -> None:
    assert map_with_path(lambda path, leaf: (path, leaf + 1), {"a": {"b": 1}, "c": 2}) == {
        "a": {"b": ("a.b", 2)},
        "c": ("c", 3),
    }


def test_paths_that_contradict_each_other() -> None:
    with pytest.raises(ValueError, match=r"two trees hold the leaf 'a\.b'"):
        combine({"a": {"b": 1}}, {"a": {"b": 2}})
    for first, second in (({"a": 1}, {"a": {"b": 2}}), ({"a": {"b": 2}}, {"a": 1})):
        with pytest.raises(ValueError, match="'a"):
            combine(first, second)
