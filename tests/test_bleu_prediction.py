"Tables and models against plain loops, trees against scikit-learn, and what a predictor may see: nothing of the pool's references."
import json, tracemalloc
from pathlib import Path
import numpy as np, pytest
from datasets import Dataset
from hypothesis import given, settings, strategies as st
from regurgitation.bleu_prediction import (BOOSTING, EDGE, OWN, TEXT_FEATURES, BleuPredictor, LanguageModel, Sentences, TranslationTable, _ngrams, _portions,
                                           agreement, calibration, evaluate_trees, learn_trees, sentence_scores)
from regurgitation.core import InputError, seed_for
from regurgitation.corpora import load_corpus, recorded
from regurgitation.generation import load_pool
from regurgitation.splits import split_by_group
from regurgitation.tasks import replace_targets

WORDS = 'the king of israel went up and'.split()
NUMBER = {word: i for i, word in enumerate(WORDS, 2)}
lines = st.lists(st.lists(st.sampled_from(WORDS), max_size=6), min_size=1, max_size=6)

def answers(human, told=lambda i: ''):
    "Every other verse from another translation, the others copied"
    basic = recorded('bible', 'bbe')
    return replace_targets(human, [basic[id] if i % 2 else source for i, (id, source) in enumerate(zip(human['id'], human['source']))], 'half', [told(i) for i in range(len(human))])

@pytest.fixture(scope='module')
def parts(): return split_by_group(load_corpus('bible', 'train', 700, source='wyc', target='web', also='bbe'), {'labelled': 1, 'pool': 1})

@pytest.fixture(scope='module')
def predictor(parts): return BleuPredictor().fit(answers(parts['labelled']), parts['labelled'])

@pytest.fixture(scope='module')
def pool(parts): return answers(parts['pool'])

@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.lists(st.sampled_from(WORDS), max_size=4), st.lists(st.sampled_from(WORDS), min_size=1, max_size=4)), min_size=1, max_size=5))
def test_table_equals_a_plain_loop(pairs):
    t = {}
    for _ in range(3):
        counts, sums = {}, {}
        for a, b in pairs:
            a, b = [EDGE, *(NUMBER[w] for w in a)], [NUMBER[w] for w in b]
            for f in b:
                for e in a: counts[e, f] = counts.get((e, f), 0) + t.get((e, f), 1) / sum(t.get((x, f), 1) for x in a)
        for (e, f), c in counts.items(): sums[e] = sums.get(e, 0) + c
        t = {(e, f): c / sums[e] for (e, f), c in counts.items()}
    table = TranslationTable.learn(*(Sentences([pair[side] for pair in pairs], NUMBER) for side in (0, 1)), width=len(WORDS) + 2, steps=3)
    assert len(table.keys) == len(t) and all(abs(table(np.array(e), np.array(f)) - p) < 1e-12 for (e, f), p in t.items())

@settings(max_examples=50, deadline=None)
@given(lines, st.lists(st.sampled_from([*WORDS, 'unheard']), max_size=3))
def test_language_model_sums_to_one(known, history):
    model = LanguageModel.learn(Sentences(known, NUMBER), width=len(WORDS) + 2)
    after = Sentences([[*history, word] for word in [*WORDS, 'unheard']], NUMBER)
    end = model.log_p(Sentences([history], NUMBER))[-1]
    assert abs(np.exp(model.log_p(after)[after.starts + after.lengths - 1]).sum() + np.exp(end) - 1) < 1e-9

def test_ngrams_by_hand():
    grams = _ngrams(Sentences([['the', 'king'], []], NUMBER), 10, 3)
    assert grams[2].tolist() == [112, 123, 231, 111] # edge edge the, edge the king, the king edge; an empty sentence is its edges

def test_trees_equal_sklearn():
    from sklearn.ensemble import GradientBoostingRegressor
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(500, 6)).astype(np.float32), rng.normal(size=500)
    trees = learn_trees(X, y, seed=3)
    other = rng.normal(size=(300, 6)).astype(np.float32)
    other[:100] = trees['threshold'].ravel()[:100, None] # at the very edge of a decision
    fitted = GradientBoostingRegressor(init='zero', random_state=seed_for('boosting', 3) % 2**32, **BOOSTING).fit(X, y - y.mean())
    assert np.allclose(evaluate_trees(trees, other), fitted.predict(other) + y.mean(), rtol=0, atol=1e-9)

def test_a_constant_is_learned_as_it_is():
    assert np.allclose(evaluate_trees(learn_trees(np.zeros((100, 2)), np.full(100, 3.0)), np.zeros((4, 2))), 3)

def test_truth_takes_the_best_of_several_references():
    said, references = 'And the king went up.', ['The king then left.', 'And the king went up.']
    one, both = (sentence_scores([said], [rs])[0] for rs in (references[:1], references))
    assert one < 50 and both == pytest.approx(100) and sentence_scores([said], [references[1:]], 'chrf')[0] == pytest.approx(100)

class Watched(dict):
    "A row that tells when somebody looks for its references"
    def __getitem__(self, name):
        assert name in ('id', 'source', 'target', 'provenance'), f'{name} was read'
        return super().__getitem__(name)
    def get(self, name, other=None): return self[name] if name in self else other
    def items(self): raise AssertionError('all of the row was read')
    keys = values = __iter__ = items

def test_references_of_the_pool_are_not_seen(predictor, parts, pool):
    "Nor the human targets: whatever stands there, the scores are the same bit by bit"
    scores, human, n = predictor(pool), parts['pool'], len(pool)
    order = np.random.default_rng(0).permutation(n)
    for references in ([[] for _ in range(n)], human['references'][:], [human['references'][i] for i in order], [['nothing']]*n):
        assert (predictor(Dataset.from_dict({**pool.to_dict(), 'references': references})) == scores).all()
    assert (predictor(pool.remove_columns('references')) == scores).all()
    assert (predictor(Watched(row) for row in pool.to_list()) == scores).all()

def test_a_fitted_predictor_is_the_same_whatever_the_pool(predictor, parts, pool):
    again = BleuPredictor().fit(answers(parts['labelled']), parts['labelled'])
    assert (again(pool) == predictor(pool)).all() and again.importances == predictor.importances
    assert not (BleuPredictor(seed=1).fit(answers(parts['labelled']), parts['labelled'])(pool) == predictor(pool)).all()

def test_scores_stay_with_their_pairs(predictor, pool):
    scores, order = predictor(pool), np.random.default_rng(1).permutation(len(pool))
    assert scores.shape == (len(pool),) and scores.min() >= 0 and scores.max() <= 100
    assert np.allclose(predictor(pool.select(order)), scores[order], rtol=0, atol=1e-9)
    assert np.allclose(np.concatenate([predictor([row]) for row in pool.to_list()[:20]]), scores[:20], rtol=0, atol=1e-9) # whatever stands beside
    assert predictor([]).shape == (0,)

def test_it_tells_a_translation_from_a_copy(predictor, parts, pool):
    truth = sentence_scores(pool['target'], parts['pool']['references'])
    found = agreement(predictor(pool), truth, 'verses')
    assert found.spearman.low > 0.5 and not found.failure
    assert abs(found.spearman.estimate - agreement(predictor.predicted, predictor.truth).spearman.estimate) < 0.12
    tenths = calibration(predictor(pool), truth, 4)
    assert tenths['true'].is_monotonic_increasing and tenths['pairs'].sum() == len(pool) and predictor.predicted.mean() == pytest.approx(predictor.truth.mean(), abs=1)

def test_chrf(parts, pool):
    fitted = BleuPredictor('chrf').fit(answers(parts['labelled']), parts['labelled'])
    assert agreement(fitted(pool), sentence_scores(pool['target'], parts['pool']['references'], 'chrf')).spearman.low > 0.5

def test_odd_texts(predictor):
    rows = [dict(id=str(i), source=s, target=t) for i, (s, t) in enumerate([('?', '!'), ('光', '光 in'), ('a', 'b ' * 400), ('1 2 3', '3'), ('\u200b', 'x'), (' ', ' ')])]
    assert np.isfinite(predictor(rows)).all()

def test_labelled_pairs_are_refused(predictor, parts, pool):
    labelled = parts['labelled'][0]
    predictor.check_disjoint(pool)
    same_id = dict(pool[0], id=labelled['id'])
    same_source = dict(pool[0], source=f'  {labelled["source"].upper()}!')
    for row in same_id, same_source:
        for call in predictor, predictor.check_disjoint:
            with pytest.raises(InputError, match='1 pairs are among the .* labelled ones') as e: call([pool[1], row])
            assert row['id'] in str(e.value) and row['source'][:20] in str(e.value)

def test_saved_and_loaded(predictor, pool, tmp_path):
    predictor.save(tmp_path)
    loaded = BleuPredictor.load(tmp_path)
    assert (loaded(pool) == predictor(pool)).all() and vars(loaded).keys() == vars(predictor).keys()
    for name in ('metric', 'features', 'seed', 'name', 'human_pairs', 'offset', 'importances', 'known', 'sees'): assert getattr(loaded, name) == getattr(predictor, name)
    with pytest.raises(InputError, match='labelled ones'): loaded([dict(pool[0], id=min(i for i in loaded.known if i.startswith('bible/')))])
    told = json.loads((tmp_path/'predictor.json').read_text())
    assert {f.name for f in tmp_path.iterdir()} == {'predictor.json', 'arrays.safetensors'} and pool['source'][0] not in json.dumps(told, ensure_ascii=False)
    (tmp_path/'predictor.json').write_text(json.dumps(told | {'algorithm': 0}))
    with pytest.raises(InputError, match='version 0'): BleuPredictor.load(tmp_path)
    (tmp_path/'arrays.safetensors').write_bytes(b'torn')
    with pytest.raises(InputError, match='no predictor'): BleuPredictor.load(tmp_path)

def test_entropy_where_it_is(parts):
    "Used where each labelled pair has it, then asked of the pool; otherwise done without"
    rng = np.random.default_rng(0)
    def told(i): return json.dumps({'entropy': (0.5 if i % 2 else 2) + rng.random(), 'nll': rng.random()})
    fitted = BleuPredictor().fit(answers(parts['labelled'], told), parts['labelled'])
    assert fitted.features == [*TEXT_FEATURES, *OWN] and 'entropy' in fitted.sees and fitted(answers(parts['pool'], told)).shape == (len(parts['pool']),)
    with pytest.raises(InputError, match='no entropy in its provenance'): fitted(answers(parts['pool']))
    half = BleuPredictor().fit(answers(parts['labelled'], lambda i: told(i) if i else ''), parts['labelled'])
    assert half.features == [*TEXT_FEATURES] and 'entropy' not in half.sees and f'{len(parts["labelled"])} human pairs' in half.sees
    with pytest.raises(InputError, match='no entropy'): BleuPredictor(features=['copied', 'entropy']).fit(answers(parts['labelled']), parts['labelled'])

def test_labelled_pairs_are_checked(parts):
    human, made = parts['labelled'], answers(parts['labelled'])
    with pytest.raises(InputError, match='have no human pair of their id'): BleuPredictor().fit(made, parts['pool'])
    with pytest.raises(InputError, match='The rows have slipped'): BleuPredictor().fit(Dataset.from_dict({**made.to_dict(), 'source': made['source'][::-1]}), human)
    with pytest.raises(InputError, match='expected 100 or more'): BleuPredictor().fit(made.select(range(99)), human)
    with pytest.raises(InputError, match="no feature 'beauty'"): BleuPredictor(features=['beauty'])
    with pytest.raises(InputError, match="metric 'ter'"): BleuPredictor('ter').fit(made, human)

def test_bad_rows(predictor):
    with pytest.raises(InputError, match='row 2 has no target'): predictor([dict(id='a', source='b', target='c'), dict(id='d', source='e')])

def test_chance_is_told():
    rng = np.random.default_rng(0)
    found = agreement(rng.random(500), rng.random(500), 'SomeModel')
    assert 'no better than chance on SomeModel' in found.failure and str(found.spearman) in found.failure
    assert agreement(-np.arange(50), np.arange(50)).failure and agreement(np.zeros(50), np.arange(50)).failure and not agreement(np.arange(50), np.arange(50)).failure
    with pytest.raises(InputError, match='2 predicted and 3 true'): agreement([1, 2], [1, 2, 3])

def test_correlations_equal_scipy():
    from scipy.stats import kendalltau, spearmanr
    rng = np.random.default_rng(2)
    a, b = rng.integers(8, size=100), rng.integers(8, size=100)
    found = agreement(a, b, samples=20)
    assert found.spearman.estimate == pytest.approx(spearmanr(a, b)[0]) and found.kendall.estimate == pytest.approx(kendalltau(a, b)[0])
    assert found.spearman.low <= found.spearman.estimate <= found.spearman.high

def test_portions_hold_every_row_once():
    rows = [dict(id=str(i), source='a'*(i % 7 * 900), target='b'*3000, references=['c']) for i in range(300)]
    portions = [[*map(list, portion)] for portion in _portions(rows, most=40, work=5e7)]
    assert [id for ids, *_ in portions for id in ids] == [row['id'] for row in rows]
    assert all(len(ids) <= 40 and sum(len(s)*len(t) for s, t in zip(sources, targets)) <= 5e7 for ids, sources, targets, _ in portions)

def test_memory_does_not_grow_with_the_pool(predictor, pool):
    rows, peaks = pool.to_list(), []
    predictor(rows)
    for n in (2000, 8000):
        tracemalloc.start()
        assert len(predictor(dict(rows[i % len(rows)], id=str(i)) for i in range(n))) == n
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1*peaks[0]

@pytest.mark.parametrize('model', ['gemma-3-270m', 'smollm2-135m-instruct'])
def test_language_models_on_tatoeba(shared_data, monkeypatch, model):
    monkeypatch.setenv('REGURGITATION_MIRROR', str(shared_data/'mirror'))
    human = load_corpus('tatoeba-de-en', 'train', 20000)
    parts = split_by_group(human, {'labelled': 1, 'pool': 3, 'rest': 16})
    made = load_pool(Path(__file__).parents[1]/f'results/pools/tatoeba-de-en.20000.{model}.jsonl.gz', human, ('truncated', 'refused', 'language', 'copied'))
    place = {id: i for i, id in enumerate(made['id'])}
    labelled, pool = (made.select([place[id] for id in parts[part]['id'] if id in place]) for part in ('labelled', 'pool'))
    fitted = BleuPredictor().fit(labelled, human)
    references = dict(zip(human['id'], human['references']))
    found = agreement(fitted(pool), sentence_scores(pool['target'], [references[id] for id in pool['id']]), model)
    assert fitted.features[-2:] == [*OWN] and found.spearman.low > 0.5 and found.kendall.low > 0.35
