from hypothesis import given
from hypothesis import strategies as st

from gpt2lab.base.groups import groups_of_size


def test_a_group_is_closed_by_the_item_that_makes_it_large_enough():
    assert list(groups_of_size([2, 1, 3, 5, 1], lambda item: item, 3)) == [[2, 1], [3], [5], [1]]
    assert list(groups_of_size([], len, 3)) == []


@given(st.lists(st.text(max_size=9), max_size=30), st.integers(1, 20))
def test_nothing_is_lost_and_every_group_but_the_last_is_large_enough(texts, enough):
    groups = list(groups_of_size(iter(texts), len, enough))
    assert [text for group in groups for text in group] == texts
    assert all(sum(map(len, group)) >= enough for group in groups[:-1])
    assert all(sum(map(len, group[:-1])) < enough for group in groups)
