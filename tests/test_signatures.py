"Each sign of failure, seen where it was put in and not seen where it was not."
import json
import pytest
from regurgitation.signatures import SIGNS, failure_signatures, last_steps, repeating
from regurgitation.claims import Results
from regurgitation.core import InputError, make_pool
from regurgitation.mixture import with_real
from test_claims import make

LEVELS = {'real': 0.5, 'greedy': 0.4, 'mixture': 0.45}

def rows(row, generated=True, self_bleu=20.0):
    "A row that says what its training set was; self-BLEU differs a little from seed to seed"
    if row['role'] != 'arm': return row
    made = generated and row['arm'] != 'real'
    return {**row, 'pairs_real': 0 if made else row['size'], 'pairs_generated': row['size'] if made else 0, 'targets': {'self_bleu': self_bleu + row['seed']}}

def folder(tmp_path, levels=LEVELS, change=rows, more=()):
    made = make(tmp_path/'r', levels, change=change, wobble=0.001)
    with open(made/'rows.jsonl', 'a') as f:
        for row in more: f.write(json.dumps({'study': 'quickstart', 'role': 'scorer', 'size': 0, 'seed': None, 'metrics': {}, 'test_set': 't', 'key': row['arm'], **row}) + '\n')
    return made

def test_a_curve_that_does_not_rise_is_told_of_generated_arms_alone(tmp_path):
    "Both sizes have the same level, so no arm gains; real is no failure of generated data"
    told = failure_signatures(folder(tmp_path))
    assert len(told) == 1 and 'stagnates' in told[0] and 'greedy from 1,000 to 2,000' in told[0] and 'mixture' in told[0] and 'real' not in told[0]

def test_last_step_is_the_difference_of_two_scores(tmp_path):
    made = Results(folder(tmp_path))
    before, size, gain = last_steps(made)['greedy']
    score = {(r['arm'], r['size'], r['seed']): r['metrics']['bleu']['score'] for r in made.rows}
    assert (before, size) == (1000, 2000) and gain.estimate == pytest.approx(sum(score['greedy', 2000, s] - score['greedy', 1000, s] for s in range(3))/3)

def test_words_that_repeat_are_told(tmp_path):
    made = folder(tmp_path, change=lambda r: rows(r, self_bleu=25.0 if r['arm'] == 'greedy' else 20.0))
    assert repeating(Results(made))['greedy'] == pytest.approx((26, 21, 5, 5, 5)) and repeating(Results(made))['mixture'][2] == 0
    sign, = [s for s in failure_signatures(made) if 'Self-BLEU' in s]
    assert 'greedy 26.0, human 21.0 (+5.0' in sign and 'mixture' not in sign

def test_self_bleu_is_not_compared_between_sets_of_other_sizes(tmp_path):
    more = lambda r: {**rows(r, self_bleu=25.0), 'pairs_real': r['size']} if r['role'] == 'arm' and r['arm'] == 'greedy' else rows(r)
    assert 'greedy' not in repeating(Results(folder(tmp_path, change=more)))

@pytest.mark.parametrize('evidence, told', [
    ({'spearman': [0.02, -0.01, 0.05], 'pairs': 900}, 'tells nothing (Spearman with the true sentence BLEU 0.02'), ({'spearman': [-0.3, -0.4, -0.2], 'pairs': 900}, 'tells the opposite'),
    ({'spearman': [0.5, 0.4, 0.6], 'pairs': 900}, None), ({'spearman': [0.0, -0.1, 0.1], 'auc': [0.7, 0.6, 0.8], 'pairs': 900}, None), ({'spearman': [0.2, 0.1, 0.3], 'auc': [0.51, 0.49, 0.53], 'pairs': 900}, 'AUC 0.51')])
def test_a_scorer_at_chance_is_told(tmp_path, evidence, told):
    signs = [s for s in failure_signatures(folder(tmp_path, more=[{'arm': 'x of y', 'evidence': evidence}])) if 'random one' in s]
    assert bool(signs) == bool(told) and (not told or told in signs[0])

def test_missing_pairs_are_counted(tmp_path):
    short = lambda r: {**rows(r), 'pairs_generated': r['size'] - 7*r['seed']} if r['role'] == 'arm' and r['arm'] == 'greedy' else rows(r)
    assert [s for s in failure_signatures(folder(tmp_path, change=short)) if 'greedy (up to 14)' in s]

def test_rows_without_these_fields_show_nothing_and_break_nothing(tmp_path):
    assert failure_signatures(make(tmp_path/'old', LEVELS)) == []

def test_ids_that_collide_are_refused_as_the_list_of_signs_says():
    human, generated = (make_pool([{'id': 'a', 'source': 'Es regnet.', 'target': target, 'origin': origin}]) for target, origin in (("It's raining.", 'human'), ('It rains.', 'gemma')))
    with pytest.raises(InputError, match="same id 'a'"): with_real(human, generated, 0.5, 2)
    assert 'ids that collide' in SIGNS and 'refused' in SIGNS
