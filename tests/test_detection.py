"Detectors: AUC and its interval against plain loops and simulation, no leak by source, references unseen, resampling by its promises, published sets."
import gzip, json, random
import numpy as np, pytest, torch
from datasets import Dataset
from hypothesis import given, settings, strategies as st
import regurgitation.detection as detection
from regurgitation.core import InputError, make_pool, raises, shuffled
from regurgitation.corpora import load_corpus, recorded
from regurgitation.detection import (STATISTICS, Detector, auc, auc_table, brier, caught, chance_sentence, cross_fit, evidence, fold_of, plain, reliability, resample,
                                     source_groups, token_likelihoods)
from regurgitation.generation import load_generator
from regurgitation.tasks import replace_targets
from regurgitation.transformer import train_tokeniser

@pytest.fixture(scope='module')
def bible():
    human = load_corpus('bible', 'train', 260, source='wyc', target='web', also='bbe')
    texts = recorded('bible', 'bbe')
    return human, replace_targets(human, [texts[id] for id in human['id'][:]], 'bbe')

@pytest.fixture(scope='module')
def split(bible): # fitted on 200 verses, 60 to score
    human, basic = bible
    return Detector().fit(human.select(range(200)), basic.select(range(200))), human.select(range(200, 260)), basic.select(range(200, 260))

scores = st.lists(st.sampled_from([0, 0.1, 0.25, 0.5, 0.75, 1]) | st.floats(0, 1), min_size=1, max_size=12)

@settings(max_examples=200, deadline=None)
@given(scores, scores)
def test_auc_is_the_share_of_ordered_pairs(human, generated):
    found = auc(human, generated)
    assert found.estimate == pytest.approx(np.mean([(h > g) + (h == g)/2 for h in human for g in generated]), abs=1e-12)
    assert auc(generated, human).estimate == pytest.approx(1 - found.estimate, abs=1e-12)
    assert 0 <= found.low <= found.estimate + 1e-9 and found.estimate <= found.high + 1e-9 and found.high <= 1 and 0 <= found.p <= 1

@settings(deadline=None)
@given(scores, scores)
def test_auc_is_that_of_scikit_learn(human, generated):
    from sklearn.metrics import roc_auc_score
    assert auc(human, generated).estimate == pytest.approx(roc_auc_score([1]*len(human) + [0]*len(generated), human + generated), abs=1e-12)

def drawn(rng, n, shift=0.8, shared=1.0):
    "Scores whose true AUC is that of two normal distributions; what is shared is the source's"
    source = rng.normal(0, shared, n)
    return source + rng.normal(shift, 1, n), source + rng.normal(0, 1, n)

@pytest.mark.parametrize('shared', (0.0, 2.0))
def test_intervals_hold_the_truth_as_often_as_they_say(shared):
    from scipy.stats import norm
    truth, rng = norm.cdf(0.8/np.sqrt(2*(1 + shared**2))), np.random.default_rng(3)
    inside = [(i := auc(*drawn(rng, 80, shared=shared), (range(80), range(80)))).low <= truth <= i.high for _ in range(600)]
    assert 0.925 < np.mean(inside) < 0.975

def test_several_texts_of_a_source_widen_the_interval():
    human, generated = drawn(np.random.default_rng(0), 100)
    once, thrice = auc(human, generated, (range(100), range(100))), auc(np.tile(human, 3), np.tile(generated, 3), ([*range(100)]*3,)*2)
    assert once.estimate == pytest.approx(thrice.estimate) and once.low == pytest.approx(thrice.low, abs=1e-9)
    assert auc(np.tile(human, 3), np.tile(generated, 3)).low > once.low + 0.01 # taken for independent, copies look like evidence

def test_perfect_separation_is_no_certainty():
    few, many = auc([3, 4], [1, 2]), auc(range(100, 200), range(100))
    assert few.estimate == many.estimate == 1 and few.low < 0.2 and 0.95 < many.low < 1 and few.p == 0.5
    assert auc([0.5]*9, [0.5]*9).p == 1 and auc([1], [2]).high < 1

@settings(max_examples=100, deadline=None)
@given(scores, scores, st.sampled_from([0.01, 0.05, 0.3, 1]))
def test_caught_never_accuses_more_than_it_may(human, generated, rate):
    found = caught(human, generated, rate)
    allowed = [t for t in [*human, np.inf] if np.mean(np.array(human) < t) <= rate + 1e-9]
    assert found == pytest.approx(max(np.mean(np.array(generated) < t) for t in allowed))

@settings(deadline=None)
@given(st.text(max_size=60))
def test_plain_twice_is_plain(text):
    assert plain(plain(text)) == plain(text)

@settings(deadline=None)
@given(st.lists(st.text('abc XYZ09.,!?\'"-', min_size=1, max_size=30), min_size=1))
def test_plain_leaves_a_typewriter_alone(texts):
    assert [plain(t) for t in texts] == [' '.join(t.split()) for t in texts]

def test_a_keyboard_is_no_writer_unless_one_asks():
    rng = random.Random(0)
    sentence = lambda: ' '.join(rng.choice('it he she was is not here there now then'.split()) for _ in range(6))
    human, made = pool_of([f'“{sentence()}” – so it’s' for _ in range(90)]), pool_of([f'"{sentence()}" - so it\'s' for _ in range(90)], origin='machine')
    blind, keen = (auc(*cross_fit(human, made, folds=3, typography=marks)) for marks in (False, True))
    assert keen.estimate > 0.99 and blind.estimate < 0.65

def pool_of(texts, sources=None, origin='human', first=0):
    return make_pool([dict(id=f'{origin}/{i}', source=s, target=t, origin=origin) for i, (t, s) in enumerate(zip(texts, sources or [f'source {first + i}' for i in range(len(texts))]), first)])

@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from('ABCDEFGH'), st.sampled_from('uvwxyz')), min_size=3, max_size=20), st.integers(2, 5))
def test_no_source_and_no_human_target_is_in_two_folds(pairs, folds):
    human = pool_of([t for _, t in pairs], [s for s, _ in pairs])
    made = pool_of(['the same answer']*len(pairs), [f'{s}!' for s, _ in pairs], 'machine')
    fold = fold_of(source_groups([human, made]), folds)
    for column in (human['source'][:] + [s[:-1] for s in made['source'][:]], human['target'][:]):
        assert all(len({fold[i] for i, value in enumerate(column) if value == one}) == 1 for one in set(column))

def test_a_text_that_is_there_twice_is_not_known_again():
    rng = random.Random(0)
    word = lambda: ''.join(rng.choice('abcdefghijklmnop') for _ in range(12))
    texts = [f'{word()} {word()}' for _ in range(150)]
    human, made = pool_of(texts*2), pool_of([f'{word()} {word()}' for _ in range(300)], origin='machine')
    found = cross_fit(human, made, folds=3)
    assert abs(auc(*found, (source_groups([human]), range(1000, 1300))).estimate - 0.5) < 0.1

def test_references_and_the_rest_are_not_seen(split):
    detector, human, basic = split
    seen = detector(basic)
    other = make_pool([{**r, 'references': [f'{r["target"]} {i}'], 'origin': 'x', 'provenance': '{}'} for i, r in enumerate(basic.to_list())])
    erased = make_pool([{**r, 'references': []} for r in basic.to_list()])
    permuted = Dataset.from_dict({c: shuffled(basic[c][:], 'references') if c in ('references', 'source') else basic[c][:] for c in basic.column_names})
    for pool in (other, erased, permuted, basic.select_columns(['id', 'source', 'target'])): assert (detector(pool) == seen).all()
    assert detector.sees == ('target',) and detector.human_pairs == 200 and detector.generators == ['bbe']

def test_a_score_belongs_to_its_text(split):
    detector, human, basic = split
    order = np.random.default_rng(0).permutation(len(basic))
    assert (detector(basic.select(order)) == detector(basic)[order]).all()
    assert detector.machine(basic['target'][:]) == (1 - detector(basic)).tolist()
    assert detector.machine(['Any text, of no pool.'])[0] == pytest.approx(1 - detector(pool_of(['Any text, of no pool.']))[0])

def test_what_was_learned_from_is_refused(bible, split):
    detector, human, basic = split
    with pytest.raises(InputError, match='200 of 260 pairs.*' + bible[1]['id'][0]): detector(bible[1])
    same_source = make_pool([dict(id='new', source=f' {bible[0]["source"][3].upper()} !', target='Something else.')])
    with pytest.raises(InputError, match='such as new'): detector.check_disjoint(same_source)
    left = bible[1].select(np.flatnonzero(~detector.known(bible[1])))
    assert left['id'][:] == basic['id'][:]
    detector.check_disjoint(left)

@pytest.mark.parametrize('options', ({}, {'kind': 'transformer', 'epochs': 1, 'width': 32, 'folds': 2}))
def test_twice_the_same_and_back_from_the_folder(bible, tmp_path, options):
    human, basic = (pool.select(range(120)) for pool in bible)
    test = bible[1].select(range(200, 260))
    detector = Detector(**options).fit(human, basic)
    assert (Detector(**options).fit(human, [basic])(test) == detector(test)).all()
    detector.save(tmp_path)
    again = Detector.load(tmp_path)
    assert np.allclose(again(test), detector(test), atol=1e-6) and again.known(human).all() and (again.human_pairs, again.generators) == (120, ['bbe'])
    assert sorted(f.name for f in tmp_path.iterdir()) == ['detector.json', 'weights.safetensors']
    assert human['source'][5] not in (tmp_path/'detector.json').read_text() # a detector that is passed on passes no text on

@pytest.mark.parametrize('damage', ('no folder', 'torn json', 'torn weights', 'another kind'))
def test_a_damaged_folder_is_named(split, tmp_path, damage):
    split[0].save(tmp_path/'kept')
    kept, weights = tmp_path/'kept'/'detector.json', tmp_path/'kept'/'weights.safetensors'
    if damage == 'torn json': kept.write_text(kept.read_text()[:50])
    if damage == 'torn weights': weights.write_bytes(weights.read_bytes()[:500])
    if damage == 'another kind': kept.write_text(kept.read_text().replace('"ngrams"', '"oracle"'))
    with pytest.raises(InputError, match='not a detector, or a torn one'): Detector.load(tmp_path/'none' if damage == 'no folder' else tmp_path/'kept')

def test_probabilities_can_be_believed(bible):
    p = cross_fit(*bible, folds=3)
    table = reliability(*p, bins=4)
    assert table.texts.sum() == 520 and (abs(table['mean score'] - table['share human']) < 0.15).all()
    assert brier(*p) < 0.15 and auc(*p).low > 0.85

def test_no_signal_gives_a_half_and_no_order_is_turned_round():
    rng = random.Random(1)
    words = lambda: ' '.join(rng.choice('one two three four five six seven'.split()) for _ in range(8))
    human, made = pool_of([words() for _ in range(200)]), pool_of([words() for _ in range(200)], origin='machine')
    detector = Detector().fit(human, made)
    test = pool_of([words() for _ in range(200)], first=900)
    assert abs(detector(test) - 0.5).mean() < 0.1 and all(Detector(seed=seed).fit(human, made).scale[0] > 0 for seed in range(8))
    several = [pool_of([words() for _ in range(200)], origin=f'machine {i}') for i in range(3)]
    assert abs(Detector().fit(human, several)(test).mean() - 0.5) < 0.1 # at equal shares, however many of either side were read
    table = auc_table([human, made], cross_fit(human, made, folds=3))
    assert 'No better than chance on machine' in chance_sentence(table)

def test_a_generator_that_was_never_read(bible):
    human, basic = bible
    shouted = replace_targets(human, [t.upper() for t in human['target'][:]], 'shouting')
    p = cross_fit(human, basic, folds=3, unseen=[shouted])
    assert len(p) == 3 and [len(x) for x in p] == [260]*3
    assert (cross_fit(human, basic, folds=3)[1] == p[1]).all() # it changes nothing for those that were

def test_the_sentence_tells_three_cases_apart():
    import pandas as pd
    table = pd.DataFrame([('a', 'all', 0.9, 0.8, 0.95), ('b', 'all', 0.52, 0.47, 0.57), ('c', 'all', 0.3, 0.2, 0.4), ('a', '1 to 3', 0.5, 0.4, 0.6)], columns=['generator', 'words', 'auc', 'low', 'high'])
    said = chance_sentence(table)
    assert said.startswith('No better than chance on b (AUC 0.52, 0.47 to 0.57)') and 'Worse than chance on c' in said and 'Better than chance on a (AUC 0.90' in said

def test_a_table_by_length_has_all_texts(bible):
    table = auc_table(bible, [np.linspace(0, 1, 260)]*2, bands=3)
    assert table.words[0] == 'all' and table.human[1:].sum() == 260 == table.generated[1:].sum() and abs(table.auc[0] - 0.5) < 1e-9

def test_evidence_names_what_differs():
    human = pool_of([f'sentence number {i} ends so!' for i in range(60)])
    made = pool_of([f'sentence number {i} ends so.' for i in range(60)], origin='machine')
    detector = Detector().fit(human, made)
    found = evidence(detector, human['target'][:], made['target'][:], 6)
    assert set('!') <= set(''.join(found['n-gram'])) and (abs(found.human - found.generated) > 0.99).all() and (found.adds > 0).all()

def test_a_million_rows_would_be_read_in_portions(split, monkeypatch):
    detector, _, basic = split
    asked = []
    monkeypatch.setattr(type(detector.model), 'prepare', lambda self, texts: asked.append(len(texts)) or np.zeros((len(texts), 1)))
    monkeypatch.setattr(type(detector.model), 'logits', lambda self, X: X[:, 0])
    many = Dataset.from_dict({'id': [f'new/{i}' for i in range(25_000)], 'source': ['neu']*25_000, 'target': ['A text.']*25_000})
    assert detector(many).shape == (25_000,) and max(asked) <= 2000 and sum(asked) == 25_000

@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    folder, tokeniser = tmp_path_factory.mktemp('tiny'), train_tokeniser(TEXTS*5, 300)
    torch.manual_seed(5)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=tokeniser.get_vocab_size(), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, bos_token_id=1, eos_token_id=2))
    for p in model.parameters(): torch.nn.init.normal_(p, std=0.3)
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokeniser, bos_token='<s>', eos_token='</s>').save_pretrained(folder)
    return folder

TEXTS = ['The goods cost less than 20 euros.', 'I hear the phone.', 'No.', 'He can be counted on, and so can she; that is what we all believe.', "Let's go to the beach."]

def test_likelihoods_by_a_plain_loop(tiny):
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from regurgitation.causal import CausalLM
    model, tokeniser = AutoModelForCausalLM.from_pretrained(tiny).eval(), AutoTokenizer.from_pretrained(tiny)
    for tokens, piece in ((512, 64), (20, 3)):
        for text, found in zip(TEXTS, token_likelihoods(CausalLM(tiny), TEXTS, tokens, piece)):
            ids = torch.tensor([[1, *tokeniser(text, add_special_tokens=False)['input_ids']]])
            with torch.no_grad(): log_p = model(ids).logits[0, :-1].double().log_softmax(-1)
            own, mean = log_p.gather(1, ids[0, 1:, None])[:, 0], (log_p.exp()*log_p).sum(1)
            variance = (log_p.exp()*(log_p - mean[:, None])**2).sum(1)
            assert np.allclose(found, [own.sum(), mean.sum(), variance.sum(), len(own)], rtol=1e-3)
            one = found[None]
            assert STATISTICS['curvature'](one)[0] == pytest.approx(float((own.sum() - mean.sum())/variance.sum().sqrt()), rel=1e-2)
            assert STATISTICS['ratio'](one)[0] == pytest.approx(float(own.sum()/mean.sum()), rel=1e-3) and STATISTICS['perplexity'](one)[0] == pytest.approx(float(-own.mean()), rel=1e-3)

def test_likelihood_as_a_detector(tiny, tmp_path):
    from regurgitation.causal import CausalLM
    likely = [a['text'] for a in CausalLM(tiny).answers([{'id': str(i), 'text': t[:9]} for i, t in enumerate(TEXTS*12)], max_tokens=12, stop=(), method='sample', seed=1)]
    human, made = pool_of([f'{t} {i}' for i, t in enumerate(TEXTS*12)]), pool_of([t or '-' for t in likely], origin='tiny')
    detector = Detector('likelihood', model=tiny).fit(human, made)
    test = [pool_of([f'{t} {i}' for i, t in enumerate(TEXTS*4)], first=500), pool_of([t or '-' for t in likely[:20]], origin='again', first=700)]
    assert auc(*[detector(pool) for pool in test]).estimate > 0.8 # what the model drew itself is likely to it
    detector.save(tmp_path)
    assert (Detector.load(tmp_path)(test[0]) == detector(test[0])).all()

pool_scores = st.lists(st.floats(0, 1), min_size=2, max_size=30)

@settings(max_examples=60, deadline=None)
@given(pool_scores, st.floats(0.5, 2.5), st.integers(0, 5))
def test_resampling_keeps_its_promises(p, factor, seed):
    pool = pool_of([f'text {i}' for i in range(len(p))])
    found = resample(pool, p, factor=factor, seed=seed)
    n = round(factor*len(p))
    root = [id.partition('#')[0] for id in found['id'][:]]
    assert len(found) == n == len(set(found['id'][:])) and max(map(root.count, root)) <= 3 and found.column_names == pool.column_names
    original = {r['id']: r for r in pool.to_list()}
    assert all({**r, 'id': id} == original[id] for r, id in zip(found.to_list(), root)) # text, references and provenance go along
    assert all(id == old or id == f'{old}#{root[:i].count(old) + 1}' for i, (id, old) in enumerate(zip(found['id'][:], root)))
    assert resample(pool, p, factor=factor, seed=seed)['id'][:] == found['id'][:]
    assert resample(pool, p, factor=(k := -(-n//2))/len(p), seed=seed)['id'][:] == found['id'][:k]

def test_the_human_looking_come_more_often_and_all_alike_at_power_0():
    pool, p = pool_of([f'text {i}' for i in range(3000)]), np.repeat([0.9, 0.8, 0.2], 1000)
    share = lambda power: np.bincount([int(id.partition('#')[0].split('/')[1])//1000 for id in resample(pool, p, power=power)['id'][:]], minlength=3)/4500
    assert np.allclose(share(0), 1/3, atol=0.02)
    likely, less, hardly = share(10)
    assert likely > less > 0.2 and hardly < 0.01

def test_what_nobody_believes_in_is_still_drawn_when_it_must_be():
    assert len(resample(pool_of(['a text', 'another']), [0, 0], factor=3)) == 6

@pytest.mark.parametrize('p, options, message', [([0.5], {}, '1 scores for 2 pairs'), ([0.5, float('nan')], {}, 'expected one of 0 to 1'), ([0.5, 1.2], {}, 'expected one of 0 to 1'),
                                                 ([0.5, 0.5], {'factor': 4}, 'Choose a factor'), ([0.5, 0.5], {'factor': 0}, 'Choose a factor')])
def test_resampling_says_what_is_wrong(p, options, message):
    with pytest.raises(InputError, match=message): resample(pool_of(['a text', 'another']), p, **options)

def test_a_pool_that_was_resampled_is_not_resampled():
    again = resample(pool_of(['a text', 'another']), [1, 1], factor=3)
    assert 'Resample the first one' in raises(InputError, resample, again, [1]*6, factor=3)

@pytest.mark.parametrize('call, message', [
    (lambda h, g: Detector('oracle'), 'expected one of ngrams, transformer, likelihood'), (lambda h, g: Detector(depth=3), 'depth'), (lambda h, g: Detector().scores(h), 'Fit it first'),
    (lambda h, g: Detector('likelihood', statistic='beauty'), 'curvature'), (lambda h, g: Detector().fit(h, []), 'no generated pool'), (lambda h, g: Detector().fit(h.select([0]), g.select([0])), 'too few'),
    (lambda h, g: cross_fit(h.select([0, 1]), g.select([0, 1])), 'too few'), (lambda h, g: auc([], [0.5]), '0 human scores'), (lambda h, g: auc([0.5], [np.inf]), '1 of them no numbers'),
    (lambda h, g: auc([1, 2], [1], ([1], [1])), '2 sources for 2 and 1 scores')])
def test_errors_say_what_to_do(bible, call, message):
    with pytest.raises(InputError, match=message): call(*bible)

@pytest.mark.parametrize('name', ('xsum_gpt-4', 'xsum_gpt-3.5-turbo', 'writing_gpt-4', 'writing_gpt-3.5-turbo'))
def test_long_texts_of_gpt_are_told_from_human_ones(shared_data, name):
    with gzip.open(shared_data/'detection'/f'{name}.raw_data.json.gz', 'rt') as f: texts = json.load(f)
    human = pool_of(texts['original'])
    made = pool_of(texts['sampled'], human['source'][:], name)
    assert auc(*cross_fit(human, made, folds=3), (human['source'][:],)*2).low > 0.9

def test_curly_quotes_are_a_part_of_what_gives_gpt4_away(shared_data, monkeypatch):
    monkeypatch.setenv('REGURGITATION_MIRROR', str(shared_data/'mirror'))
    news = load_corpus('wmt22-de-en', 'all', n=900)
    made = load_generator('recorded:GPT-4').generate(news)
    found = {marks: auc(*cross_fit(news, made, folds=2, typography=marks), (news['id'][:], made['id'][:])) for marks in (True, False)}
    assert found[False].low > 0.5 and found[True].estimate > found[False].estimate + 0.03
