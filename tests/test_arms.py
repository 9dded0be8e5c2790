"What an arm trains on: orders, mixtures, injected errors, and a whole small study of arms whose targets were written elsewhere."
import gzip, json
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings, strategies as st

from regurgitation.arms import training_set
from regurgitation.claims import Results
from regurgitation.core import InputError, Store, make_pool, read_rows
from regurgitation.corpora import load_corpus, recorded
from regurgitation.diversity import self_bleu
from regurgitation.injection import _WORD, swap_words
from regurgitation.mixture import agreement_scores, mix, oracle_scores, ordered, shares, twin
from regurgitation.scorers import scores_of
from regurgitation.studies import Data, Study, baselines, plan, run_study
from regurgitation.tasks import replace_targets

words = st.sampled_from("the light shone in darkness and it's son's well-beloved Übel 40 1,000 . — \" 'I".split())
texts = st.lists(st.lists(words, min_size=1, max_size=12).map(' '.join), min_size=2, max_size=12)
def pool_of(targets, origin='human'): return make_pool([{'id': f'p{i}', 'source': f'Quelle {i}', 'target': t, 'origin': origin} for i, t in enumerate(targets)])

@settings(max_examples=150, deadline=None)
@given(texts, st.floats(0, 1), st.booleans(), st.integers(0, 9))
def test_swapped_words_are_the_same_words(targets, rate, systematic, seed):
    before, after = pool_of(targets), swap_words(pool_of(targets), rate, systematic, seed)
    spelled = lambda pool: [w for t in pool['target'][:] for w in _WORD.findall(t)]
    if not systematic: assert Counter(spelled(after)) == Counter(spelled(before))
    else: assert sorted(Counter(spelled(after)).values()) == sorted(Counter(spelled(before)).values())
    assert [_WORD.sub('w', t) for t in after['target'][:]] == [_WORD.sub('w', t) for t in before['target'][:]]
    assert after['target'][:] == swap_words(before, rate, systematic, seed)['target'][:]
    assert sum(a != b for a, b in zip(spelled(before), spelled(after))) <= rate*len(spelled(before)) + .5

def test_systematic_errors_leave_self_bleu():
    human = load_corpus('bible', n=500)
    assert self_bleu(swap_words(human, .4, systematic=True)['target'][:]).score == self_bleu(human['target'][:]).score

@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.integers(0, 5))
def test_an_order_is_a_permutation_of_ids_with_their_texts(scores, seed):
    pool = pool_of([f'target {i}' for i in range(len(scores))])
    of, rows = dict(zip(pool['id'][:], scores)), {r['id']: r for r in pool.to_list()}
    best, worst = ordered(pool, scores, seed=seed), ordered(pool, scores, reverse=True, seed=seed)
    assert all(rows[r['id']] == r for r in best.to_list()) and sorted(best['id'][:]) == sorted(rows)
    assert [of[id] for id in best['id'][:]] == sorted(scores, reverse=True) and [of[id] for id in worst['id'][:]] == sorted(scores)

@settings(max_examples=100, deadline=None)
@given(st.integers(1, 200), st.lists(st.integers(0, 9), min_size=1, max_size=4).filter(any))
def test_every_prefix_of_a_mixture_holds_its_shares(n, weights):
    turns = shares(n, weights)
    for k, w in enumerate(weights): assert abs(turns.count(k) - n*w/sum(weights)) <= 1

@pytest.mark.parametrize('name', ['bleu', 'detector', 'length', 'agreement', 'oracle'])
def test_no_score_but_the_oracles_sees_a_reference_of_its_pool(name):
    human, texts = load_corpus('bible', n=400, source='wyc', target='web', also='bbe'), recorded('bible', 'bbe')
    made = replace_targets(human, [texts[id] for id in human['id'][:]], 'bbe')
    pool, labelled, refs = human.select(range(250)), human.select(range(250, 400)), human['references'][:]
    turned = make_pool([{**r, 'target': refs[(i + 1) % 250][0], 'references': refs[(i + 1) % 250]} for i, r in enumerate(pool.to_list())])
    seen, blind = (scores_of(name, made, p, labelled, other=pool) for p in (pool, turned))
    assert (seen == blind) == (name != 'oracle') and len(set(seen.values())) > 5

def test_an_order_by_agreement_chooses_among_more_than_it_takes():
    data = Data(SMALL)
    made = {name: replace_targets(data.all_sources, [recorded('bible', name)[id] for id in data.all_sources['id'][:]], name) for name in ('bbe', 'web')}
    scores = scores_of('agreement', made['bbe'], data.splits['train'], other=made['web'])
    chosen = training_set(data.train(0, 70), [made['bbe']], 40, ARMS['agreed'], 0, {k: v for k, v in scores.items() if k != data.train(0, 70)['id'][0]})
    best = sorted((scores[id] for id in data.train(0, 70)['id'][1:]), reverse=True)[:40]
    assert [scores[id] for id in chosen['id'][:]] == best and set(chosen['origin'][:]) == {'bbe'}
    for wrong, message in (({'teacher': 'bbe', 'order': 'agreement'}, 'needs against'), ({'teacher': 'bbe', 'order': 'length', 'against': 'web'}, 'and no other'), ({**ARMS['agreed'], 'against': 'bbc'}, "no teacher 'bbc'")):
        with pytest.raises(InputError, match=message): replace(SMALL, arms={'a': wrong})
    with pytest.raises(InputError, match='size 700,'): Data(replace(SMALL, arms={'agreed': {**ARMS['agreed'], 'among': 700}}))

def test_answers_agree_as_sets_of_words_and_the_oracle_of_answers_is_f1():
    ours, theirs, right = (make_pool([{'id': f'q{i}', 'source': 'Who?', 'target': t} for i, t in enumerate(texts)]) for texts in (['the Rhine', 'in May 1815', 'no'], ['Rhine', 'May 1815', 'yes'], ['Rhine', '1815', 'no']))
    assert agreement_scores(ours, theirs).round(1).tolist() == agreement_scores(theirs, ours).round(1).tolist() == [100, 80, 0]
    assert oracle_scores(ours, right, 'qa').round(1).tolist() == [100, 50, 100] and agreement_scores(ours, theirs.select([0])).tolist() == [100, 0, 0]

def test_a_twin_has_the_chosen_sources_with_human_targets():
    human = load_corpus('bible', n=30)
    made = make_pool([{**r, 'target': f'made {i}', 'origin': 'machine'} for i, r in enumerate(human.to_list())])
    scores = dict(zip(human['id'][:], range(30)))
    chosen, own = (training_set(human, [made], 10, {'order': 'entropy', 'twin': t}, 0, scores) for t in (False, True))
    assert chosen['id'][:] == own['id'][:] == human['id'][:][:19:-1] and set(chosen['origin'][:]) == {'machine'} and set(own['origin'][:]) == {'human'}
    assert twin(chosen, human)['target'][:] == own['target'][:]

def test_a_mixture_whose_ids_collide_is_told():
    made = pool_of(['a', 'b'], 'machine')
    with pytest.raises(InputError, match='same id'): mix(made, made, every=True)

ARMS = {'real': {}, 'poor': {'teacher': 'bbe'}, 'third': {'teacher': 'bbe', 'real': 1/3}, 'wrong': {'swap': .2}, 'oracle': {'teacher': 'bbe', 'order': 'oracle'}, 'twin': {'teacher': 'bbe', 'order': '-oracle', 'twin': True},
        'more': {'teacher': 'bbe', 'plus': 30}, 'last': {'teacher': 'bbe', 'real': .5, 'curriculum': 'generated-first'}, 'narrow': {'learner': {'d_model': 16}, 'sizes': [40]},
        'other': {'corpus': 'bible', 'sizes': [40]}, 'agreed': {'teacher': 'bbe', 'order': 'agreement', 'against': 'web', 'among': 70, 'sizes': [40]},
        'best': {'teacher': 'bbe', 'order': 'oracle', 'curriculum': 'best-first', 'sizes': [40]}, 'every': {'teacher': ['bbe', 'web'], 'every': True, 'sizes': [40]}}
SMALL = Study('small', 'What?', ARMS, [0, 20, 40], [0], {'bbe': {'recorded': 'bbe'}, 'web': {'recorded': 'web'}}, corpus_options={'source': 'wyc', 'target': 'web', 'also': 'bbe'}, sources=100, labelled=20, checkpoint='last',
              references={'bbe': {'target': 'bbe', 'also': 'web'}}, learner={'d_model': 32, 'vocab_size': 300, 'epochs': 1, 'precision': 'float32'}, test_pairs=30, dev_pairs=20)

@pytest.fixture(scope='module')
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp('small')
    run_study(SMALL, folder/'out', Store(folder/'store'), workers=1)
    return {(r['arm'], r['size']): r for r in read_rows(folder/'out'/'rows.jsonl')}, folder

def test_arms_with_targets_that_were_written_elsewhere(rows):
    found, folder = rows
    assert len(found) == len(ARMS)*2 - 5 + 1 + 4 + 2 and found['more', 0]['pairs_real'] == 30 and {arm for arm, _ in found} >= {'copy', 'untrained', 'teacher:bbe'}
    count = lambda arm: (found[arm, 40]['pairs_real'], found[arm, 40]['pairs_generated'])
    assert [count(a) for a in ARMS] == [(40, 0), (0, 40), (13, 27), (40, 0), (0, 40), (40, 0), (30, 40), (20, 20), (40, 0), (40, 0), (0, 40), (0, 40), (0, 40)]
    assert not [j for phase in plan(SMALL, Data(SMALL), folder/'out') for j in phase]

def test_curricula_and_targets_by_every_teacher(rows):
    found = rows[0]
    assert found['best', 40]['training_set'] == found['oracle', 40]['training_set'] and found['best', 40]['dev_bits_per_byte'] != found['oracle', 40]['dev_bits_per_byte']
    for wrong, message in (({'teacher': 'bbe', 'curriculum': 'best-first'}, 'needs an order'), ({'teacher': 'bbe', 'curriculum': 'shuffled'}, 'expected generated-first'),
                           ({'teacher': 'bbe', 'every': True}, 'this arm has fewer'), ({'teacher': ['bbe', 'web'], 'every': True, 'real': .5}, 'not with real')):
        with pytest.raises(InputError, match=message): replace(SMALL, arms={'a': wrong})

def test_an_arm_may_have_another_learner_and_another_corpus(rows):
    found = rows[0]
    assert found['narrow', 40]['learner']['d_model'] == 16 and found['narrow', 40]['training_set'] == found['real', 40]['training_set'] != found['other', 40]['training_set']
    assert found['narrow', 40]['dev_bits_per_byte'] != found['real', 40]['dev_bits_per_byte']
    for wrong, message in (({'sizes': [30]}, 'size 30 is none'), ({'learner': {'d_modle': 16}}, "no field 'd_modle'")):
        with pytest.raises(InputError, match=message): replace(SMALL, arms={'a': wrong})

def test_a_scorer_has_a_row_of_its_own(rows):
    row = rows[0]['oracle of bbe', 0]
    assert row['role'] == 'scorer' and row['evidence']['spearman'] == [1, 1, 1] and row['evidence']['pairs'] > 70
    results = Results(rows[1]/'out')
    assert row in results.scorers and row not in results.rows

def test_a_row_says_how_diverse_and_how_wrong_its_targets_are(rows):
    for row in rows[0].values():
        if row['role'] == 'arm': assert 0 <= row['errors']['any'] <= 100 and row['errors']['any'] >= max(row['errors'].values()) and 0 < row['targets']['self_bleu'] < 100

def test_the_human_pairs_that_are_added_are_drawn_again_for_each_seed():
    data = Data(replace(SMALL, labelled=0, sources=100))
    first, again, other = (set(data.more(30, seed)['id'][:]) for seed in (0, 0, 1))
    assert first == again != other and not (first | other) & set(data.splits['train']['id'][:])

def test_sources_may_come_from_another_split_and_the_test_from_another_corpus():
    study = replace(SMALL, split='teacher', tested_on='bible', references={}, labelled=0)
    data = Data(study)
    assert set(data.splits['train']['id'][:]) <= set(load_corpus('bible', split='teacher', **study.corpus_options)['id'][:])
    assert data.splits['test']['id'][:] == load_corpus('bible', split='test', n=30)['id'][:] and baselines(study) == ['copy', 'untrained']

def test_rows_score_against_both_references(rows):
    row = rows[0]['teacher:bbe', 0]
    assert row['metrics']['bleu:bbe']['score'] == 100 > row['metrics']['bleu']['score'] > 5
    kept = json.loads(gzip.decompress((rows[1]/'out'/'predictions'/f'{row["key"]}.json.gz').read_bytes()))
    assert set(kept['statistics']) == {'bleu', 'chrf', 'bleu:bbe', 'chrf:bbe'}

def test_sources_of_the_scorers_are_in_no_training_set_but_where_they_are_asked_for(rows):
    data = Data(SMALL)
    labelled = set(data.splits['labelled']['id'][:])
    assert len(labelled) == 20 and not labelled & set(data.train(0, 80)['id'][:])
    more = data.more(30)['id'][:]
    assert set(more[:20]) == labelled and not set(more) & set(data.splits['train']['id'][:])
    with pytest.raises(InputError, match='plus = 100000'): data.more(100000)

def test_what_determines_a_row_knows_the_order():
    data = Data(SMALL)
    from regurgitation.studies import job_key
    keys = {job_key(SMALL, data, 'student', arm, 40, 0) for arm in ARMS}
    assert len(keys) == len(ARMS)
    other = Data(replace(SMALL, labelled=10))
    assert job_key(other.study, other, 'student', 'real', 40, 0) not in keys
