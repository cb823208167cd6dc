import itertools

import pytest

from jaxtl.errors import InputError
from jaxtl.studies.rules import MILLIONS, RULES, rule_for


@pytest.mark.parametrize(
    ("images", "total", "domain", "strategy", "stages", "rates"),
    [
        (20, 100, "near", "features", 0, {"head": 1e-3}),
        (99.9, 500, "medium", "features", 0, {"head": 1e-3}),
        (100, 500, "near", "last-stage", 1, {"body": 1e-4, "head": 1e-3}),
        (5_000, 50_000, "medium", "full", 2, {"body": 1e-4, "head": 1e-3}),
        (10_000, 100_000, "near", "full", None, {"body": 1e-4, "head": 1e-3}),
        (30, 300, "far", "layerwise", None, {"early": 1e-5, "body": 1e-4, "head": 1e-3}),
        (50_000, MILLIONS - 1, "far", "layerwise", None, {"early": 1e-5, "body": 1e-4, "head": 1e-3}),
        (500_000, MILLIONS, "far", "scratch", None, {"body": 1e-3, "head": 1e-3}),
    ],
)
def test_the_table_says_what_teachers_say(images, total, domain, strategy, stages, rates):
    rule = rule_for(images, total, domain)
    assert (rule.strategy, rule.stages, dict(rule.rates)) == (strategy, stages, rates)
    assert rule.reason


def test_there_is_a_row_for_everything_and_no_row_is_idle():
    images = (1, 50, 500, 5_000, 50_000)
    totals = (10, 10**4, MILLIONS, 10**8)
    found = [rule_for(*case) for case in itertools.product(images, totals, ("near", "medium", "far"))]
    assert set(map(id, found)) == set(map(id, RULES))


@pytest.mark.parametrize(("arguments", "message"), [((5, 50, "farr"), "did you mean 'far'"), ((0, 0, "far"), "image")])
def test_what_has_no_row_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        rule_for(*arguments)
