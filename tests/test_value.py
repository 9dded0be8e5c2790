"The exchange rate from tables whose truth is known, its intervals, and the messages for tables that cannot be read."
import numpy as np, pandas as pd, pytest
from hypothesis import given, settings, strategies as st
from regurgitation.core import InputError
from regurgitation.value import exchange_rate

SIZES = (500, 1000, 2000, 4000, 8000)

def runs(worth=0.5, cells=((0, 2000), (1000, 2000)), score=lambda n: 3*np.log(n), sd=0.0, seeds=1, seed=0):
    "Runs of a world in which a generated pair is worth so many human ones"
    rng, rows = np.random.default_rng(seed), [(n, 0, score(n)) for n in SIZES] + [(n, m, score(n + worth*m)) for n, m in cells]
    return pd.DataFrame([(n, m, s + sd*rng.standard_normal()) for n, m, s in rows for _ in range(seeds)], columns=['n_real', 'n_generated', 'score'])

@given(st.floats(0.3, 1.5), st.booleans())
@settings(max_examples=25, deadline=None)
def test_the_worth_that_was_put_in_comes_out(worth, lower):
    "Whichever way the score goes, and whatever its unit"
    table = runs(worth)
    found = exchange_rate(table.assign(score=(-1 if lower else 1)*(7*table.score - 2)), samples=20)
    assert np.allclose(found.worth, worth) and np.allclose(found.rate, 1/worth) and not found.note.any()

@given(st.permutations(range(7)))
@settings(max_examples=10, deadline=None)
def test_the_order_of_rows_changes_nothing(order):
    table = runs()
    assert np.allclose(exchange_rate(table.iloc[list(order)], samples=20).worth, exchange_rate(table, samples=20).worth)

def test_harm_is_negative_and_has_no_rate():
    found, = exchange_rate(runs(-0.25, [(2000, 4000)]), samples=20).itertuples()
    assert np.isclose(found.worth, -0.25) and found.rate == np.inf

def test_what_lies_off_the_curve_has_a_note_and_no_number():
    found = exchange_rate(runs(1, [(8000, 8000), (0, 100)]), samples=20).set_index('n_generated')
    assert found.note[8000] == 'beyond the curve: worth more than 8,000 human pairs'
    assert found.note[100] == 'below the curve: worth less than 500 human pairs' and found.worth.isna().all() and found.rate.isna().all()

def test_near_copying_is_not_read():
    table = runs(1, [(0, 900), (0, 3000)], sd=0.02, seeds=3)
    found = exchange_rate(table, floor=3*np.log(900), samples=200).set_index('n_generated')
    assert found.note[900] == 'near copying: too weak to tell' and np.isnan(found.worth[900]) and abs(found.worth[3000] - 1) < 0.05

@pytest.mark.parametrize('design', [((0, 2000), (1000, 2000)), ((0, 1500), (0, 2000), (0, 4000), (2000, 1000), (2000, 2000), (4000, 2000))], ids=['7 cells', '11 cells'])
def test_intervals_cover(design):
    "90 % of the intervals hold the truth, within what 300 worlds can tell"
    inside = [[r.low <= 0.5 <= r.high for r in exchange_rate(runs(cells=design, sd=0.05, seeds=3, seed=s), samples=300).itertuples()] for s in range(300)]
    assert (np.mean(inside, 0) > 0.85).all() and (np.mean(inside, 0) < 0.955).all()

def test_resampled_items_widen_the_interval():
    table = runs(sd=0.02, seeds=3)
    noise = 0.3*np.random.default_rng(1).standard_normal((200, len(table)))
    width = lambda found: (found.high - found.low).to_numpy()
    assert (width(exchange_rate(table, resampled=table.score.to_numpy() + noise)) > 1.5*width(exchange_rate(table))).all()

def test_the_same_table_gives_the_same_numbers():
    table = runs(sd=0.02, seeds=3)
    assert exchange_rate(table).equals(exchange_rate(table))

@pytest.mark.parametrize('table, words', [
    (runs().drop(columns='score'), "no column 'score'"), (runs().assign(score='x'), "row 1: score is 'x'"), (runs().assign(n_real=-1), 'row 1: n_real is -1, expected a number of pairs'),
    (runs()[lambda t: t.n_generated > 0], 'here are 0'), (runs()[:2], 'here are 2'), (runs(score=lambda n: 0*n + 5.0), 'does not rise')])
def test_tables_that_cannot_be_read(table, words):
    with pytest.raises(InputError, match=words): exchange_rate(table, better='higher')

def test_human_pairs_no_better_than_copying():
    with pytest.raises(InputError, match='no better than the trivial system'): exchange_rate(runs(), floor=99)
