"""Quotas: what is shown at every batch boundary, against what was asked."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from typing import Any

from hypothesis import assume
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from nvgen_aug.data.census import Census
from nvgen_aug.data.plan import Plan
from nvgen_aug.data.plan import SampleKey
from nvgen_aug.data.quota import Quota
from nvgen_aug.data.strata import Strata
from nvgen_aug.schedule import Schedule
from tests.data.censuses import CENSUSES
from tests.data.censuses import counted
from tests.data.schedules import SCHEDULES

SHARES = st.fractions(0, 1, max_denominator=20)
ALL_SIZES = ("lesion < 10 mm", "lesion 10-20 mm", "lesion >= 20 mm")
WITHOUT = counted([[]] * 7)


@st.composite
def goals(draw: st.DrawFn) -> dict[str, Fraction]:
    """A class, one or two of its sizes, or both."""
    small, large = sorted((draw(SHARES) / 2, draw(SHARES) / 2))
    goal = {"lesion < 10 mm": small, "lesion >= 20 mm": large}
    kept = draw(st.sampled_from([(), ("lesion < 10 mm",), tuple(goal)]))
    goal = {text: share for text, share in goal.items() if text in kept}
    if not goal or draw(st.booleans()):
        rest = 1 - sum(goal.values())
        return {"lesion": sum(goal.values()) + rest * draw(SHARES), **goal}
    return goal


def plan(strata: Strata | None, ratio: Any, **arguments: Any) -> Plan:
    quotas = None if strata is None else strata.quotas()
    length = 7 if strata is None else len(strata.census)
    settings = {"seed": 0, "epoch_length": 24, "real_length": length, "batch_size": 4}
    return Plan(**{**settings, **arguments}, ratio=ratio, quotas=quotas)


def batches(run: Plan, epochs: int = 3) -> list[list[SampleKey]]:
    """The global batches of a run."""
    return [
        [key for rank in range(run.world_size) for key in run.keys(epoch, number, rank)]
        for epoch in range(epochs)
        for number in range(run.batches)
    ]


@settings(max_examples=25, deadline=None)
@given(
    asked=SHARES,
    more=SHARES,
    batch=st.integers(1, 9),
    length=st.integers(1, 40),
    seed=st.integers(0, 99),
)
def test_a_condition_is_less_than_a_sample_off_at_every_batch_boundary_where_draws_suffice(
    asked: Fraction, more: Fraction, batch: int, length: int, seed: int
) -> None:
    ratio = asked + (1 - asked) * more
    strata = Strata({"lesion": asked}, WITHOUT)
    run = plan(strata, ratio, batch_size=batch, epoch_length=length, seed=seed)
    shown = samples = 0
    for keys in batches(run):
        samples += len(keys)
        shown += sum(key.stratum == "lesion" for key in keys)
        assert abs(asked * samples - shown) < 1


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.tuples(SHARES, SHARES, SHARES),
    rest=SHARES,
    is_whole_asked=st.booleans(),
    batch=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_a_class_is_less_than_a_sample_off_and_a_size_in_it_less_than_two_where_draws_suffice(
    sizes: tuple[Fraction, Fraction, Fraction],
    rest: Fraction,
    is_whole_asked: bool,
    batch: int,
    seed: int,
) -> None:
    goal = {text: share / 3 for text, share in zip(ALL_SIZES, sizes, strict=True)}
    of_sizes = sum(goal.values())
    if is_whole_asked:
        goal["lesion"] = of_sizes + (1 - of_sizes) * rest / 2
    ratio = max(of_sizes, goal.get("lesion", 0))
    ratio += (1 - ratio) * rest
    run = plan(Strata(goal, WITHOUT), ratio, batch_size=batch, seed=seed)
    shown: Counter[str] = Counter()
    samples = 0
    for keys in batches(run):
        samples += len(keys)
        shown.update(key.stratum for key in keys if key.stratum in ALL_SIZES)
        shown["lesion"] += sum(key.stratum.startswith("lesion") for key in keys)
        for text, asked in goal.items():
            # No order of draws keeps every size within one sample when its class is asked too.
            bound = 2 if is_whole_asked and text != "lesion" else 1
            assert abs(asked * samples - shown[text]) < bound


@settings(max_examples=25, deadline=None)
@given(
    census=CENSUSES,
    goal=goals(),
    ratio=SCHEDULES,
    batch=st.integers(1, 6),
    world=st.integers(1, 2),
    seed=st.integers(0, 99),
)
def test_draws_go_where_samples_lack_and_nowhere_else(
    census: Census, goal: dict[str, Fraction], ratio: Schedule, batch: int, world: int, seed: int
) -> None:
    strata = Strata(goal, census)
    run = plan(strata, ratio, batch_size=batch, world_size=world, seed=seed)
    marks = {text: census.holds(text) for text in goal}
    due = dict.fromkeys(goal, Fraction(0))
    shown: Counter[str] = Counter()
    quota = run.quotas.quotas[0] if run.quotas is not None else None
    assert quota is not None
    for number, keys in enumerate(batches(run)):
        time = number // run.batches if run.schedule.unit == "epochs" else number
        rates = quota.rates(run.schedule.share_at(time))
        sizes = [text for text in goal if text != "lesion"]
        feasible = {"lesion": rates.whole, **dict(zip(sizes, rates.parts, strict=True))}
        drawn = Counter(key.stratum for key in keys if key.is_synthetic)
        for text in goal:
            due[text] += len(keys) * feasible[text]
            here = sum(n for name, n in drawn.items() if name == text)
            if text == "lesion":
                here = sum(n for name, n in drawn.items() if name.startswith("lesion"))
            real = sum(marks[text][key.index] for key in keys if not key.is_synthetic)
            shown[text] += here + real
            if text == "lesion" or "lesion" not in goal:
                # Nobody draws what is not due, and all draw what lacks.
                assert not here or shown[text] < due[text] + 1
            if text == "lesion" and due[text] - shown[text] >= 1:
                assert here == sum(drawn.values())
        if "lesion" not in goal and any(due[text] - shown[text] >= 1 for text in goal):
            assert "any other lesion" not in drawn


@settings(max_examples=12, deadline=None)
@given(census=CENSUSES, goal=goals(), ratio=SHARES, seed=st.integers(0, 99))
def test_a_long_run_shows_what_is_feasible(
    census: Census, goal: dict[str, Fraction], ratio: Fraction, seed: int
) -> None:
    assume(ratio < 1)
    run = plan(Strata(goal, census), ratio, seed=seed, epoch_length=60 * len(census))
    for tally in run.standing(1).tallies:
        samples = 60 * len(census)
        # A pass over the cases comes unevenly; what remains is less than one such pass.
        assert abs(tally.due_whole - tally.whole) <= len(census) or tally.quota.whole is None
        for due, shown, asked in zip(tally.due_parts, tally.parts, tally.quota.parts, strict=True):
            assert abs(due - shown) <= len(census) + 1
            assert shown >= min(asked * samples, due) - len(census) - 1


@settings(max_examples=12, deadline=None)
@given(
    census=CENSUSES, goal=goals(), ratio=SCHEDULES, batches_of=st.sampled_from([4, 8]),
)  # fmt: skip
def test_strata_are_the_same_for_1_2_and_4_ranks(
    census: Census, goal: dict[str, Fraction], ratio: Schedule, batches_of: int
) -> None:
    def drawn(world: int) -> list[Counter[tuple[str, int, int, int]]]:
        run = plan(Strata(goal, census), ratio, batch_size=batches_of // world, world_size=world)
        return [
            Counter((key.stratum, key.index, key.reuse, key.view_seed) for key in keys)
            for keys in batches(run)
        ]

    assert drawn(1) == drawn(2) == drawn(4)


@settings(max_examples=12, deadline=None)
@given(census=CENSUSES, goal=goals(), ratio=SCHEDULES, seed=st.integers(0, 99))
def test_strata_and_their_control_leave_the_real_sequence_as_it_is(
    census: Census, goal: dict[str, Fraction], ratio: Schedule, seed: int
) -> None:
    def real(strata: Strata | None) -> list[tuple[int, int, int, int]]:
        run = plan(strata, ratio, seed=seed, real_length=len(census))
        return [
            (key.epoch, key.position, key.index, key.view_seed)
            for keys in batches(run)
            for key in keys
            if not key.is_synthetic and not key.stratum
        ]

    plain = real(None)
    assert real(Strata(goal, census)) == plain
    assert real(Strata(goal, census, fill="real")) == plain


@settings(max_examples=25, deadline=None)
@given(census=CENSUSES, goal=goals(), ratio=SCHEDULES, seed=st.integers(0, 99))
def test_the_control_repeats_cases_that_show_what_lacks(
    census: Census, goal: dict[str, Fraction], ratio: Schedule, seed: int
) -> None:
    run = plan(Strata(goal, census, fill="real"), ratio, seed=seed)
    keys = [key for keys in batches(run) for key in keys]
    assert not any(key.is_synthetic for key in keys)
    assert sum(bool(key.stratum) for key in keys) == run.mix.synthetic_before(3)
    for key in keys:
        if key.stratum in goal:
            assert census.holds(key.stratum)[key.index]
        if key.stratum == "no lesion" and not all(census.holds("lesion")):
            assert not census.holds("lesion")[key.index]
    # Every case of a stratum comes once before one comes twice.
    for stratum in {key.stratum for key in keys}:
        uses = Counter(key.index for key in keys if key.stratum and key.stratum == stratum)
        assert not uses or max(uses.values()) - min(uses.values()) <= 1


@settings(max_examples=10, deadline=None)
@given(census=CENSUSES, goal=goals(), batch=st.integers(1, 80), reuse=st.integers(1, 3))
def test_no_volume_of_a_stratum_stands_twice_in_a_batch_and_each_is_used_up(
    census: Census, goal: dict[str, Fraction], batch: int, reuse: int
) -> None:
    run = plan(
        Strata(goal, census), Fraction(1, 2), batch_size=batch, epoch_length=240, max_reuse=reuse
    )
    uses: Counter[tuple[str, int]] = Counter()
    for keys in batches(run, 2):
        volumes = [(key.stratum, key.index) for key in keys if key.is_synthetic]
        assert len(set(volumes)) == len(volumes)
        for key in keys:
            if key.is_synthetic:
                assert key.reuse == uses[key.stratum, key.index]
                uses[key.stratum, key.index] += 1
    assert all(count <= reuse for count in uses.values())
    assert run.distinct_volumes(2) == len(uses)


def test_a_batch_in_the_middle_of_a_run_can_be_asked_for_first() -> None:
    strata = Strata({"lesion": 0.4}, counted([[], [8.0], []]))
    late = plan(strata, Fraction(1, 2), seed=12345).keys(2, 3)
    run = plan(strata, Fraction(1, 2), seed=12345)
    assert [run.keys(epoch, batch) for epoch in range(3) for batch in range(6)][-3] == late


def test_what_cannot_be_met_is_shared_out_in_proportion_to_what_lacks() -> None:
    quota = Quota(
        name="lesion",
        kinds=("small", "large", "lesion", "any other lesion"),
        parts=(Fraction(1, 5), Fraction(2, 5)),
        whole=None,
        real_parts=((False, False), (False, False)),
        real_whole=(False, False),
        possible=(True, True, True),
    )
    few = quota.rates(Fraction(3, 10))
    assert few.parts == (Fraction(1, 10), Fraction(1, 5))
    assert few.draws == (Fraction(1, 10), Fraction(1, 5), 0, 0)
    enough = quota.rates(Fraction(1))
    assert enough.parts == quota.parts
    assert enough.draws[-1] == Fraction(2, 5)
