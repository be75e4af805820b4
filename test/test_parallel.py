"""Work done ahead by threads: in order, not too far ahead, and stopped by the first failure."""

import threading
import time

import pytest

from vps_ros.parallel import in_order


@pytest.mark.parametrize("jobs", [0, 1, 3])
def test_results_keep_the_order_of_the_items(jobs):
    def work(item):
        time.sleep(0.002 * (item % 3))
        return item, threading.get_ident()

    results = list(in_order(work, iter(range(30)), jobs))
    assert [item for item, _ in results] == list(range(30))
    assert threading.get_ident() not in {thread for _, thread in results}
    assert len({thread for _, thread in results}) <= max(1, jobs)


def test_items_are_drawn_only_a_little_ahead():
    drawn = []
    results = in_order(str, (drawn.append(i) or i for i in range(1000)), jobs=2, ahead=3)
    for done in range(20):
        assert next(results) == str(done)
        assert len(drawn) <= done + 6
    results.close()
    assert len(drawn) < 30


def test_a_failure_comes_in_its_place_and_ends_the_work():
    begun = []

    def work(item):
        begun.append(item)
        return 10 // (5 - item)

    results = in_order(work, range(1000), jobs=2, ahead=2)
    assert [next(results) for _ in range(5)] == [2, 2, 3, 5, 10]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert len(begun) < 20
