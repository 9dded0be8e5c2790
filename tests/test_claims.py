"Every verdict from constructed rows whose truth is known, the register itself, and the messages for damaged tables."
import gzip, json, re
from pathlib import Path
import numpy as np, pytest
from hypothesis import given, strategies as st
from regurgitation.claims import Results, _together, answer, contrasts, gap, gaps, holm, judge, load_claims, sentence, verdicts
from regurgitation.core import InputError
from regurgitation.metrics import score_from_statistics

N = 200
RESULTS = Path(__file__).resolve().parents[1]/'results'
def statistics_of(level, *luck):
    "BLEU statistics of N items of 20 words whose n-grams match at this rate"
    rng, lengths = np.random.default_rng([int(1e4 * level), *luck]), np.full((N, 2), 20)
    totals = np.tile([20, 19, 18, 17], (N, 1))
    return np.concatenate([lengths, rng.binomial(totals, level), totals], 1)

def make(folder, levels, seeds=(0, 1, 2), sizes=(1000, 2000), copy=0.2, wobble=0.005, study='quickstart', change=None):
    "A folder of results: for each arm a rate of matching n-grams; `change` may alter or drop (None) each row"
    (folder/'predictions').mkdir(parents=True)
    rows = [('copy', 'baseline', 0, None, copy)] + [(a, 'arm', n, s, p + wobble * s) for a, p in levels.items() for n in sizes for s in seeds]
    with open(folder/'rows.jsonl', 'w') as f:
        for arm, role, size, seed, level in rows:
            stats, key = statistics_of(level, size, seed or 0), f'{arm}-{size}-{seed}'
            row = dict(study=study, arm=arm, role=role, size=size, seed=seed, key=key, test_set='t', metrics={'bleu': {'score': float(score_from_statistics('bleu', stats.sum(0))), 'signature': 'x'}})
            with gzip.open(folder/'predictions'/f'{key}.json.gz', 'wt') as g:
                json.dump({'ids': [f'v{i:03}' for i in range(N)], 'hypotheses': [''] * N, 'statistics': {'bleu': stats.tolist()}}, g)
            row = change(row) if change else row
            if row: f.write(json.dumps(row) + '\n')
    return folder

ARMS = {'real': 0.5, 'greedy': 0.4, 'sampling': 0.4, 'half': 0.45}

def test_supported(tmp_path):
    made = make(tmp_path/'r', ARMS)
    assert verdicts(made).verdict.to_dict() == {'C3': 'supported', 'C9': 'supported'}
    t = contrasts(made)
    assert set(t['size']) == {2000} and (t.low > 0).all() and (t.seeds == 3).all() and (t['items'] == N).all()
    assert 'real data gives a higher BLEU than greedy' in sentence(made) and 'conditional on this corpus' in sentence(made)

def test_contradicted(tmp_path):
    made = make(tmp_path/'r', {**ARMS, 'greedy': 0.6, 'sampling': 0.6})
    assert verdicts(made).verdict.to_dict() == {'C3': 'contradicted', 'C9': 'supported'}
    assert 'real data gives a lower BLEU than greedy (by 1' in sentence(made)

def test_sign_depends_on_the_arm(tmp_path):
    v = verdicts(make(tmp_path/'r', {**ARMS, 'greedy': 0.6}))
    assert (v.verdict['C3'], v.note['C3']) == ('mixed', 'beats sampling, loses to greedy')

def test_inconclusive_where_seeds_disagree(tmp_path):
    made = make(tmp_path/'r', {**ARMS, 'greedy': 0.499}, wobble=0)
    t = contrasts(made)
    assert t.verdict[0] == 'inconclusive' and t.low[0] < 0 < t.high[0] and 'no significant difference from greedy' in sentence(made)

def test_no_difference_of_practical_size(tmp_path):
    made = make(tmp_path/'r', ARMS)
    for size in (1000, 2000): # half writes the very words of real
        for s in range(3): (made/'predictions'/f'half-{size}-{s}.json.gz').write_bytes((made/'predictions'/f'real-{size}-{s}.json.gz').read_bytes())
    rows = [json.loads(l) for l in open(made/'rows.jsonl')]
    real = {(r['size'], r['seed']): r['metrics'] for r in rows if r['arm'] == 'real'}
    rows = [{**r, 'metrics': real[r['size'], r['seed']]} if r['arm'] == 'half' else r for r in rows]
    (made/'rows.jsonl').write_text(''.join(json.dumps(r) + '\n' for r in rows))
    v = verdicts(made)
    assert (v.verdict['C9'], v.note['C9']) == ('inconclusive', 'no difference of practical size')

def test_too_weak_to_tell(tmp_path):
    made = make(tmp_path/'r', ARMS, copy=0.55)
    assert set(verdicts(made).verdict) == {'too weak to tell'}
    assert 'too weak to tell' in sentence(made) and 'real minus copy −' in sentence(made) and 'higher BLEU than' not in sentence(made)

def test_one_seed_gives_no_verdict_and_says_so(tmp_path):
    made = make(tmp_path/'r', ARMS, seeds=(0,))
    v = verdicts(made)
    assert set(v.verdict) == {'inconclusive'} and v.note['C3'] == '1 seed, a verdict needs 3'
    assert 'holds for one seed only' in sentence(made) and (gaps(made).seeds == 1).all()

def test_unregistered_study_is_exploratory(tmp_path):
    v = verdicts(make(tmp_path/'r', {'real': 0.5, 'ours': 0.4}, study='my own'))
    assert v.verdict.to_dict() == {'exploratory': 'supported'}

def test_margin_and_order_of_the_rule():
    assert judge(0.2, 0.1, 0.29, 1e-4, 0.3) == ('inconclusive', 'no difference of practical size')
    assert judge(0.25, 0.1, 0.4, 1e-4, 0.3) == ('inconclusive', 'significant, but below the margin of 0.3')
    assert judge(9, 8, 10, 1e-9, 0.3, beats_baseline=False)[0] == 'too weak to tell'
    assert [judge(9, 8, 10, 1e-9, 0.3, False, anchor=a)[1] for a in ('real', 'real-8')] == [f'the model trained on {x} does not beat copying the source' for x in ('real data', 'real-8')]
    assert judge(0.3, 0.1, 0.5, 0.049, 0.3)[0] == 'supported' and judge(-0.3, -0.5, -0.1, 0.049, 0.3)[0] == 'contradicted'
    assert judge(0.3, -0.01, 0.61, 0.05, 0.3) == ('inconclusive', 'no significant difference')
    assert judge(1.8, 0.6, 3.0, 0.06, 0.3) == judge(-1.8, -3.0, -0.6, 0.06, 0.3) == ('inconclusive', 'not significant after correction')

@pytest.mark.parametrize('a, b, word', [('real', 'greedy', 'real data seems to give a higher'), ('greedy', 'real', 'greedy seems to give a lower')])
def test_an_interval_that_correction_does_not_hold_is_told_as_such(tmp_path, a, b, word):
    "The same contrast again and again, under another claim, until Holm's p lies near 0.1"
    made = make(tmp_path/'r', {'real': 0.5, 'greedy': 0.48}, study='own')
    g, shape = gap(Results(made), a, b, 2000), dict(study='own', seeds=3, metric='bleu', margin=0.3, family='f', size='largest', a=a)
    n = int(0.1/g.p)
    register = load_claims() | {'families': {'f': {'definition': 'so'}}, 'claims': {'X': {'contrasts': [dict(shape, b=[b])]}, 'Y': {'contrasts': [dict(shape, b=[b]*(n - 1))]}}}
    told, table = sentence(made, register, claims=['X']), contrasts(made, register)
    assert g.low*g.high > 0 and n > 2 and set(table.tests) == {n} and set(table.note) == {'not significant after correction'}
    assert word in told and f'not sure after correction for {n} contrasts (Holm\'s p = {n*g.p:.2g})' in told and 'no significant' not in told

def test_a_study_without_human_targets_names_the_arm_that_is_too_weak(tmp_path):
    made = make(tmp_path/'r', {'gpt-4': 0.5, 'nllb': 0.4, 'gemma': 0.3}, copy=0.55, study='suites_gemma')
    assert verdicts(made).note['M4'].startswith('the model trained on gpt-4 does not beat copying the source') and 'trained on gpt-4 does not beat' in sentence(made)

def test_an_unregistered_study_needs_no_arm_called_real(tmp_path):
    v = verdicts(make(tmp_path/'r', {'ours': 0.5, 'theirs': 0.4}, study='my own'))
    assert v.verdict.to_dict() == {'exploratory': 'supported'} and v.short['exploratory'] == 'ours beats the other arms'

OPPOSITE = {'supported': 'contradicted', 'contradicted': 'supported'}

@given(st.lists(st.sampled_from(['supported', 'contradicted', 'inconclusive', 'too weak to tell']), min_size=1, max_size=6))
def test_verdicts_on_a_claim_are_symmetric(kinds):
    "Where every sign turns, the verdict turns with it"
    verdict, turned = _together(kinds)[0], _together([OPPOSITE.get(k, k) for k in kinds])[0]
    assert turned == OPPOSITE.get(verdict, verdict)
    assert (verdict == 'mixed') == ({'supported', 'contradicted'} <= set(kinds) and 'too weak to tell' not in kinds)
    assert (verdict == 'supported') == (set(kinds) == {'supported'})

def two_sizes(tmp_path, human=0.5):
    "Arm few has human pairs alone and is below copying; arm real is above it"
    levels = {'real': human, 'few': 0.15, 'greedy': 0.3}
    return make(tmp_path/'r', levels, study='own', change=lambda r: {**r, 'pairs_generated': r['size']*(r['arm'] == 'greedy')})

def test_copying_is_the_bar_at_the_size_and_for_the_arm_that_is_compared(tmp_path):
    made, shape = two_sizes(tmp_path), dict(study='own', seeds=3, metric='bleu', margin=0.3, family='f', size=1000)
    register = load_claims() | {'families': {'f': {'definition': 'so'}}, 'claims': {c: {'short': '', 'contrasts': [dict(shape, a=a, b=[b])]}
                               for c, a, b in (('X', 'few', 'greedy'), ('Y', 'greedy', 'few'), ('Z', 'real', 'greedy'))}}
    table = contrasts(made, register)
    assert table.bar.tolist() == ['few', 'real', 'real'] # human pairs alone count for themselves; beside generated ones real does
    assert table.verdict.tolist() == ['too weak to tell', 'supported', 'supported']
    assert 'for few' not in sentence(made, register) and 'model trained on few does not beat copying' in sentence(made, register)
    assert answer(made, register) == 'With greedy, BLEU is ' + answer(made, register).split('BLEU is ')[1] # the first claim that tells anything
    assert answer(made, register, ['X']).startswith('Too weak to tell: with few, BLEU is ')

def numbers(text): return re.findall(r'(?<![\w-])[+−-]?\d[\d,.]*', text)

@pytest.mark.parametrize('folder', [p.parent for p in sorted(RESULTS.glob('*/study.toml')) if p.parent.name != 'finetuning_sweep'], ids=lambda p: p.name)
def test_every_committed_answer_is_short_and_plain(folder):
    results = Results(folder)
    for claims in (None, *([c] for c in verdicts(results).index)):
        said = answer(results, claims=claims)
        assert len(said.split()) <= 30 and len(numbers(said)) <= 2, said
        assert not [arm for arm in results.arms if '-' in arm and arm in said.split()], said
    assert set(results.names) >= set(results.arms) and set(results.study['names']) <= set(results.arms)

def test_verdicts_on_the_committed_rows():
    "What the register's own words give; a change here is a change on a page, and stands in the register with its date"
    found = {(p.parent.name, c): v for p in RESULTS.glob('*/study.toml') if p.parent.name != 'finetuning_sweep' for c, v in verdicts(p.parent).verdict.items()}
    assert found['mixtures', 'C2'] == found['mixtures', 'M3'] == found['suites_gemma', 'M4'] == 'too weak to tell'
    assert {k for k, v in found.items() if v == 'mixed'} == {('finetuning', 'C1'), ('finetuning_wmt23', 'C1'), ('finetuning', 'C7'), ('orders', 'C7')}
    assert {k for k, v in found.items() if v == 'supported'} == {('finetuning', 'M6'), ('finetuning_squad', 'C10'), ('finetuning_smollm2', 'C10'), ('finetuning_smollm2', 'M6'), ('isolation', 'M1'), ('isolation', 'M2')}
    assert {k for k, v in found.items() if v == 'contradicted'} == {('finetuning_squad', 'M5')}
    assert set(found.values()) <= {'supported', 'contradicted', 'mixed', 'inconclusive', 'too weak to tell'}

def test_twenty_eight_contrasts_came_with_their_rows():
    marked = [k['study'] for c in load_claims()['claims'].values() for k in c.get('contrasts', []) if 'registered' in k for _ in k['b'] for _ in k.get('b_sizes', [0])]
    assert len(marked) == 28 and set(marked) == {'mixtures_tatoeba', 'axes_tatoeba', 'suites'}
    assert (contrasts(RESULTS/'suites').registered == 'with its rows').sum() == 1 and (contrasts(RESULTS/'axes').registered == 'with its rows').all()

def test_verdict_uses_only_the_largest_common_size(tmp_path):
    "At 1,000 pairs generated data is ahead; the register asks for the largest size"
    made = make(tmp_path/'r', ARMS, change=lambda r: None if r['arm'] == 'half' and r['size'] == 2000 else r)
    assert set(contrasts(made)['size']) == {1000}
    assert gaps(made).query('arm == "greedy"')['size'].tolist() == [1000, 2000]

def test_gaps_do_not_depend_on_the_order_of_rows_or_items(tmp_path):
    made = make(tmp_path/'r', ARMS)
    before = gaps(made).set_index(['arm', 'size'])
    lines = (made/'rows.jsonl').read_text().splitlines(keepends=True)
    (made/'rows.jsonl').write_text(''.join(lines[::-1]))
    path = made/'predictions'/'real-1000-1.json.gz'
    with gzip.open(path, 'rt') as f: p = json.load(f)
    with gzip.open(path, 'wt') as f: json.dump({'ids': p['ids'][::-1], 'hypotheses': p['hypotheses'][::-1], 'statistics': {'bleu': p['statistics']['bleu'][::-1]}}, f)
    after = gaps(made).set_index(['arm', 'size']).loc[before.index]
    assert np.allclose(before.astype(float), after.astype(float), rtol=0, atol=1e-9)

def test_sides_of_a_contrast_may_have_sizes_of_their_own(tmp_path):
    "Sampling at 1,000 against greedy at both sizes, and half against itself; by hand from the scores of the rows"
    made = make(tmp_path/'r', ARMS, study='own')
    shape = dict(study='own', seeds=3, metric='bleu', margin=0.3, family='f')
    register = load_claims() | {'families': {'f': {'definition': 'so'}}, 'claims': {'X': {'short': '', 'contrasts': [dict(shape, a='sampling', b=['greedy'], size=1000, b_sizes=[1000, 2000]), dict(shape, a='half', b=['half'], size=1000, b_sizes=[2000])]}}}
    table, score = contrasts(made, register), {(r['arm'], r['size'], r['seed']): r['metrics']['bleu']['score'] for r in Results(made).rows}
    assert table[['a', 'size', 'b', 'b_size']].values.tolist() == [['sampling', 1000, 'greedy', 1000], ['sampling', 1000, 'greedy', 2000], ['half', 1000, 'half', 2000]]
    assert np.allclose(table.estimate, [np.mean([score[a, n, s] - score[b, m, s] for s in range(3)]) for a, n, b, m in table[['a', 'size', 'b', 'b_size']].values])
    assert 'greedy with 2,000 pairs' in sentence(made, register) and 'for half no significant' in sentence(made, register)

def test_seeds_that_one_size_lacks_are_named(tmp_path):
    made = make(tmp_path/'r', ARMS, change=lambda r: None if (r['arm'], r['size'], r['seed']) == ('half', 2000, 2) else r)
    with pytest.raises(InputError, match=r'half, size 1000, has seeds \[0, 1, 2\]; half, size 2000, has seeds \[0, 1\]'): gap(Results(made), 'half', 'half', 1000, b_size=2000)

@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_properties(p):
    adjusted = holm(p)
    assert (adjusted >= np.array(p, float)).all() and (adjusted <= np.minimum(1, len(p) * np.array(p)) + 1e-12).all()
    assert [x for _, x in sorted(zip(p, adjusted))] == sorted(adjusted)

def test_register():
    register = load_claims()
    assert list(register['claims']) == [f'C{i}' for i in range(1, 12)] + ['M1', 'M2', 'M3', 'M4', 'M5', 'M6'] and 'open' in register['claims']['C11']
    for c in register['claims'].values():
        assert c['text'] and ('open' in c or c['contrasts'])
        for k in c.get('contrasts', []): assert k['family'] in register['families'] and k['seeds'] >= 1 and k['margin'] > 0 and (k['a'] not in k['b'] or k['size'] not in k['b_sizes'])

def without(**which): return lambda r: None if all(r[k] == v for k, v in which.items()) else r
def with_score(value): return lambda r: {**r, 'metrics': {'bleu': {'score': value, 'signature': ''}}} if (r['arm'], r['size'], r['seed']) == ('half', 2000, 1) else r

@pytest.mark.parametrize('change, message', [
    (without(arm='greedy', size=2000, seed=2), r"size 2000: real has seeds \[0, 1, 2\]; greedy has seeds \[0, 1\].*goes on where it stopped"),
    (without(arm='half'), "compares arm 'half', which has no rows"),
    (without(arm='copy'), "no row of arm 'copy' at size 0"),
    (without(arm='real'), "compares arm 'real', which has no rows"),
    (with_score(float('nan')), 'half.*bleu is nan, expected a finite number'),
    (with_score(None), 'half.*bleu is None, expected a finite number'),
    (with_score(99.0), r'half, size 2000, seed 1: the row says bleu 99.000, its predictions say'),
    (lambda r: {**r, 'seed': 0} if r['seed'] == 1 else r, 'rows 2 and 3 are both real, size 1000, seed 0'),
    (lambda r: {**r, 'test_set': 'other'} if r['arm'] == 'half' else r, 'rows of 2 test sets'),
    (lambda r: {k: v for k, v in r.items() if k != 'seed'}, "row 1: no field 'seed'"),
    (lambda r: None, 'no rows in it'),
])
def test_damaged_rows_are_named(tmp_path, change, message):
    with pytest.raises(InputError, match=message): contrasts(make(tmp_path/'r', ARMS, change=change))

@pytest.mark.parametrize('damage, message', [
    (lambda f: f.unlink(), 'predictions of real, size 2000, seed 0 are missing'),
    (lambda f: f.write_bytes(f.read_bytes()[:50]), 'cannot be read'),
    (lambda f: f.write_bytes(b'not gzip'), 'cannot be read'),
])
def test_damaged_predictions_are_named(tmp_path, damage, message):
    made = make(tmp_path/'r', ARMS)
    damage(made/'predictions'/'real-2000-0.json.gz')
    with pytest.raises(InputError, match=message): verdicts(made)

def test_other_test_items_are_refused(tmp_path):
    made = make(tmp_path/'r', ARMS)
    path = made/'predictions'/'greedy-2000-0.json.gz'
    with gzip.open(path, 'rt') as f: p = json.load(f)
    with gzip.open(path, 'wt') as f: json.dump({**p, 'ids': [f'w{i}' for i in range(N)]}, f)
    with pytest.raises(InputError, match='share no test id'): verdicts(made)

def test_missing_folder_and_single_arm(tmp_path):
    with pytest.raises(InputError, match='no rows there. Run the study first'): verdicts(tmp_path/'nowhere')
    with pytest.raises(InputError, match='only the arm real'): verdicts(make(tmp_path/'r', {'real': 0.5}, study='mine'))
    with pytest.raises(InputError, match="no arm 'human' among real"): gaps(make(tmp_path/'s', ARMS), real='human')

def test_baseline_is_paired_with_every_seed(tmp_path):
    made = Results(make(tmp_path/'r', ARMS))
    g = gap(made, 'real', 'copy', 2000)
    assert g.seeds == 3 and g.low > 0
