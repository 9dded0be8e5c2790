"Self-BLEU against sacrebleu's own sentence scores, on every corpus and on sets made to break it; the other measures against their definitions; the messages of bad input"
import logging, math, os, subprocess, sys
from collections import Counter
import numpy as np, pytest, sacrebleu
from hypothesis import example, given, settings, strategies as st
from sacrebleu.metrics.helpers import extract_all_word_ngrams
from scipy.stats import hypergeom
from regurgitation.bible import bible_table
from regurgitation.core import InputError
from regurgitation.corpora import corpus_table, load_corpus
from regurgitation.diversity import (MEASURES, SMOOTHING, Tokens, _cut, compression_ratio, distinct_n, diversity, diversity_difference, diversity_interval, expected_types, halves, hdd, heaps,
                                     length_bands, mtld, ngram_entropy, repeated_phrases, same_size, self_bleu, self_bleu_scores, semantic_spread, zipf)

@pytest.fixture(scope='module', autouse=True)
def store(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('REGURGITATION_STORE', str(tmp_path_factory.mktemp('store')))
        logger = logging.getLogger('sacrebleu') # without effective order it warns at each sentence
        patch.setattr(logger, 'disabled', True)
        bible_table.cache_clear()
        yield
        bible_table.cache_clear()

@pytest.fixture(scope='module')
def here(shared_data):
    "The mirror and the hub beside the checkout"
    with pytest.MonkeyPatch.context() as patch:
        for name in ('mirror', 'hub'): patch.setenv(f'REGURGITATION_{name.upper()}', str(shared_data/name))
        corpus_table.cache_clear()
        yield
        corpus_table.cache_clear()

def refused(*parts, call):
    with pytest.raises(InputError) as caught: call()
    for part in parts: assert part in str(caught.value), str(caught.value)

# Self-BLEU on the corpora

def metric(n=4, smooth='exp', effective_order=True, lowercase=False, tokenize='13a'):
    return sacrebleu.BLEU(lowercase=lowercase, tokenize=tokenize, smooth_method=smooth, max_ngram_order=n, effective_order=effective_order, force=True)

def by_definition(texts, rows=None, **options):
    "sacrebleu's sentence score of each text against all the others"
    bleu = metric(**options)
    return [bleu.sentence_score(texts[i], texts[:i] + texts[i + 1:]).score for i in (range(len(texts)) if rows is None else rows)]

def statistics_by_halving(texts, n):
    """What sacrebleu counts for each text against all the others, without N * N comparisons: whoever goes into one half of the texts takes the other half along.
    The n-grams, the merging, the nearest length and the counting are sacrebleu's."""
    bleu, found = metric(n), {}
    cut = [bleu._preprocess_segment(text) for text in texts]
    grams = [extract_all_word_ngrams(text, 1, n) for text in cut]
    def merged(known, rows):
        known = Counter(known)
        for i in rows:
            for gram, times in grams[i][0].items(): known[gram] = max(known[gram], times)
        return known
    def visit(low, high, known):
        if high - low == 1:
            found[low] = bleu._compute_segment_statistics(cut[low], {'ref_ngrams': known, 'ref_lens': [length for i, (_, length) in enumerate(grams) if i != low]})
            return
        middle = (low + high)//2
        visit(low, middle, merged(known, range(middle, high)))
        visit(middle, high, merged(known, range(low, middle)))
    visit(0, len(texts), Counter())
    return [found[i] for i in range(len(texts))]

def check_exact(texts):
    "300 sentences, n = 1 to 5, every smoothing, both orders; each tenth sentence by sacrebleu's sentence_score with 299 references"
    assert len(texts) == 300
    tokens, counts, rows = Tokens(texts), statistics_by_halving(texts, 5), range(0, 300, 10)
    for n in range(1, 6):
        for smooth in SMOOTHING:
            for effective_order in (True, False):
                truth = [sacrebleu.BLEU.compute_bleu(s[2:2 + n], s[7:7 + n], s[0], s[1], smooth, None, effective_order, n).score for s in counts]
                assert np.abs(self_bleu_scores(tokens, n, smooth, effective_order) - truth).max() < 1e-9, (n, smooth, effective_order)
    assert np.abs(self_bleu_scores(texts)[rows] - by_definition(texts, rows)).max() < 1e-9
    assert abs(self_bleu(texts).score - self_bleu_scores(texts).mean()) < 1e-12

@pytest.mark.parametrize('version', ['web', 'bbe'])
def test_self_bleu_is_exact_on_the_bible(version): check_exact(load_corpus('bible', 'train', 300, source='wyc', target=version)['target'][:])

def test_self_bleu_is_exact_on_every_one_of_300_verses():
    texts = load_corpus('bible', 'train', 300, seed=1, source='wyc', target='bbe', max_words=12)['target'][:]
    assert np.abs(self_bleu_scores(texts) - by_definition(texts)).max() < 1e-9

@pytest.mark.parametrize('side', ['source', 'target'])
@pytest.mark.parametrize('name', ['tatoeba-de-en', 'europarl-de-en', 'newstest-de-en', 'wmt22-de-en'])
def test_self_bleu_is_exact_on_german_and_english(here, name, side): check_exact(load_corpus(name, 'train', 300)[side][:])

# Self-BLEU on sets made to break it

PIECES = ['the', 'the', 'a', 'dog', 'The', 'ISS', 'iß', 'İ', '.', ',', '-', '"', '1', '2.5', '1,000', '5-', '&quot;', '&amp;', '&lt;', '&amp;lt;', '&', 'quot;', '<skipped>', '<skip', 'ped>', '-\n', '\n', '\r\n', '\t',
          ' ', '\x00', '\x0b', '\x1c', '\x1f', '\x85', '\xa0', '\u2028', '\u2029', '\u200b', '\u3000', '\ufeff', '\ud83d', '…', '’', '日', '😀', '²', '{', '~', '`', '!', '(', ':', '@', '/', '\\', '^', '_', '|', "'"]
pieces = st.builds(lambda sep, parts: sep.join(parts), st.sampled_from(['', ' ']), st.lists(st.sampled_from(PIECES), max_size=14))
few_words = st.lists(st.sampled_from('ab'), max_size=20).map(' '.join) # n-grams upon n-grams
texts = st.one_of(pieces, few_words, st.text(max_size=12), st.sampled_from(['', ' ', 'a', '<skipped>', '\n']))
repeated = st.builds(lambda texts, rows: [texts[i % len(texts)] for i in rows], st.lists(texts, min_size=1, max_size=5), st.lists(st.integers(0, 9), min_size=2, max_size=9)) # all equal, too
sets = st.one_of(st.lists(texts, min_size=2, max_size=8), repeated)
ways = st.fixed_dictionaries(dict(n=st.integers(1, 5), smooth=st.sampled_from(list(SMOOTHING)), effective_order=st.booleans(), lowercase=st.booleans(), tokenize=st.sampled_from(['13a', 'intl', 'char', 'none'])))
usual = dict(n=4, smooth='exp', effective_order=True, lowercase=False, tokenize='13a')

@settings(max_examples=600, deadline=None)
@given(sets, ways)
@example(['', ''], usual)
@example(['a', ''], usual)
@example(['<skip-\nped> a', 'a <skip<skipped>ped>\nb', 'skipped a'], usual) # removed once only, as sacrebleu does
@example(['a a a', 'a a', 'a'], usual)
@example(['the dog.\n', 'the dog.', 'the\u2028dog.', 'the\x00dog.'], usual)
def test_self_bleu_is_exact_on_any_set(texts, way):
    assert np.abs(self_bleu_scores(texts, **way) - by_definition(texts, **way)).max() < 1e-9

@settings(max_examples=300, deadline=None)
@given(st.lists(texts, min_size=1, max_size=8), st.sampled_from(['13a', 'intl', 'char', 'none', 'zh']), st.booleans())
def test_tokens_are_those_of_sacrebleu(texts, tokenize, lowercase):
    bleu = metric(tokenize=tokenize, lowercase=lowercase)
    assert _cut(texts, tokenize, lowercase) == [bleu._preprocess_segment(text).split() for text in texts]

@settings(max_examples=150, deadline=None)
@given(sets, st.randoms(use_true_random=False), st.sampled_from(list(SMOOTHING)))
def test_the_order_of_the_texts_does_not_matter(texts, random, smooth):
    order = random.sample(range(len(texts)), len(texts))
    assert (self_bleu_scores([texts[i] for i in order], smooth=smooth) == self_bleu_scores(texts, smooth=smooth)[order]).all()
    for measure in set(MEASURES) - {'self_bleu', 'mtld', 'compression_ratio', 'heaps', 'zipf'}: # MTLD and gzip read in order; the two fits need more than these sets have
        one, other = (diversity(t, [measure])[measure] for t in (texts, [texts[i] for i in order]))
        assert one == other or math.isnan(one) and math.isnan(other)

@settings(max_examples=150, deadline=None)
@given(sets, st.data())
def test_a_part_of_tokens_is_the_part_cut_anew(texts, data):
    tokens, everything = Tokens(texts), range(len(texts))
    rows = data.draw(st.lists(st.sampled_from(everything), min_size=2, max_size=6))
    for index in (rows, np.array(rows), np.array(rows) - len(texts), slice(*sorted(rows[:2])), np.isin(everything, rows)):
        part, anew = tokens[index], [texts[i] for i in np.arange(len(texts))[index]]
        assert part.texts == anew and part.signature == tokens.signature
        if len(anew) < 2: continue
        assert (self_bleu_scores(part) == self_bleu_scores(anew)).all()
        assert repr(diversity(part)) == repr(diversity(anew))
        half = part[:1] # a part of a part
        assert half.texts == anew[:1] and len(half.ids) == half.lengths.sum() == len(half.text) == len(half.left)

def test_another_process_finds_the_same():
    code = ("from regurgitation.corpora import load_corpus; from regurgitation.diversity import *; t = load_corpus('bible', 'test')['target'][:400];"
            "print(diversity(t), self_bleu_scores(t).tolist()[:20], diversity_interval('distinct_2', t, samples=5), mtld(t))")
    runs = {subprocess.run([sys.executable, '-c', code], env={**os.environ, 'PYTHONHASHSEED': seed}, capture_output=True, text=True, check=True).stdout for seed in '12'}
    assert len(runs) == 1 and 'nan' not in next(iter(runs))

def test_scores_of_equal_and_of_unrelated_texts():
    assert (self_bleu_scores(['the light shone'] * 7) == pytest.approx(100)) and self_bleu(['the light', 'ein Hund']).score == 0
    assert self_bleu(['', '', 'the light']).score == 0
    assert self_bleu(['a b c d e'] * 3, n=9, effective_order=False).score == 0 # nine words in a row there are not

# The other measures, by their definitions

@pytest.fixture(scope='module')
def verses(store): return load_corpus('bible', 'test', source='wyc', target='web')['target'][:300]

@pytest.fixture(scope='module')
def words(verses): return [metric().tokenizer(verse).split() for verse in verses]

def grams(words, n): return [tuple(line[i:i + n]) for line in words for i in range(len(line) - n + 1)]

@pytest.mark.parametrize('n', [1, 2, 3, 4])
def test_counts_of_ngrams(verses, words, n):
    found, per_text = Counter(grams(words, n)), [set(grams([line], n)) for line in words]
    assert distinct_n(verses, n) == len(found)/found.total()
    shares = np.array([*found.values()])/found.total()
    assert ngram_entropy(verses, n) == pytest.approx(-(shares*np.log2(shares)).sum(), abs=1e-9)
    texts_with = Counter(gram for line in per_text for gram in line)
    assert repeated_phrases(verses, n) == pytest.approx(sum(times for gram, times in found.items() if texts_with[gram] > 1)/found.total(), abs=1e-12)

def test_expected_types_are_hypergeometric(verses, words):
    times, rng = np.array([*Counter(sum(words, [])).values()]), np.random.default_rng(0)
    T = times.sum()
    for t in (1, 42, 1000, T): assert expected_types(verses, t) == pytest.approx((1 - hypergeom.pmf(0, T, times, t)).sum(), abs=1e-6)
    assert expected_types(verses, [1, T]) == pytest.approx([1, len(times)], abs=1e-6)
    assert hdd(verses) == pytest.approx((1 - hypergeom.pmf(0, T, times, 42)).sum()/42, abs=1e-8) # lexicalrichness 0.5.1 and lexical_diversity 0.1.1 agree as closely on the Bible's test verses
    drawn = [len(set(rng.choice(np.repeat(np.arange(len(times)), times), 200, replace=False))) for _ in range(300)]
    assert abs(expected_types(verses, 200) - np.mean(drawn)) < 4*np.std(drawn)/300**0.5

def by_stretches(words, threshold):
    "MTLD as McCarthy and Jarvis describe it, one way: cut where the share of types has fallen to the threshold, count the rest in part"
    start, factors = 0, 0
    for end in range(1, len(words) + 1):
        if len(set(words[start:end]))/(end - start) <= threshold: start, factors = end, factors + 1
    rest = words[start:]
    return len(words)/(factors + ((1 - len(set(rest))/len(rest))/(1 - threshold) if rest else 0))

@pytest.mark.parametrize('threshold', [0.5, 0.7, 0.72])
def test_mtld_is_its_definition(verses, words, threshold): # as lexicalrichness 0.5.1 to 13 digits; lexical_diversity 0.1.1 differs, since it lets no stretch end before its tenth word
    flat = sum(words, [])
    assert mtld(verses, threshold) == pytest.approx((by_stretches(flat, threshold) + by_stretches(flat[::-1], threshold))/2, rel=1e-12)

@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from('abcdef'), min_size=1, max_size=120), st.sampled_from([0.5, 0.6, 0.7, 0.72, 0.75, 0.9]))
def test_mtld_on_any_words(words, threshold):
    if len(set(words)) == len(words): refused('none repeated', call=lambda: mtld([' '.join(words)], threshold))
    else: assert mtld([' '.join(words)], threshold) == pytest.approx((by_stretches(words, threshold) + by_stretches(words[::-1], threshold))/2, rel=1e-12)

def test_mtld_ends_a_stretch_at_the_threshold():
    words = [f'w{i % 63}' for i in range(90)] # 63/90 is 0.7, though 0.7*90 is less than 63 in binary
    assert mtld([' '.join(words)], 0.7) == 90

def test_fits_find_the_law_that_made_the_counts():
    assert zipf(['the light light shone shone']) < zipf(['the the the the light light shone'])
    by_law = [' '.join(f'w{r}' for r in range(1, 500) for _ in range(round(1e4*r**-0.8)))]
    assert zipf(by_law) == pytest.approx(0.8, abs=1e-3)
    assert heaps([' '.join(f'w{i}' for i in range(500))]) == pytest.approx(1, abs=1e-6) # every word is new

def test_compression_of_what_json_can_hold():
    assert compression_ratio(['\ud83d']) > 0 and compression_ratio(['so it was'] * 99) > 20

@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.floats(-3, 3), min_size=3, max_size=3), min_size=2, max_size=6))
def test_semantic_spread_is_the_mean_over_pairs(vectors):
    unit = [np.array(v)/max(np.linalg.norm(v), 1e-12) for v in vectors]
    pairs = [1 - unit[i] @ unit[j] for i in range(len(unit)) for j in range(len(unit)) if i != j]
    assert semantic_spread([str(i) for i in range(len(vectors))], lambda texts: [vectors[int(t)] for t in texts]) == pytest.approx(np.mean(pairs), abs=1e-9)

# Intervals, sizes and lengths

def test_intervals(verses):
    lower = [verse.lower() for verse in verses]
    gap = diversity_difference('distinct_1', verses, lower, samples=20)
    assert 0 < gap.low < gap.estimate < gap.high and gap.p < 0.05 and gap.estimate == distinct_n(verses, 1) - distinct_n(lower, 1)
    same = diversity_difference('self_bleu', verses, verses, samples=5)
    assert same.estimate == same.low == same.high == 0 and same.p == 1
    assert diversity_interval('mtld', verses, samples=5) == diversity_interval(mtld, Tokens(verses), samples=5) != diversity_interval('mtld', verses, samples=5, seed=1)

@given(st.integers(4, 60), st.integers(0, 5))
def test_halves_hold_no_text_twice(n, seed):
    found = [half.tolist() for half in halves(n, 5, seed)]
    assert all(len(half) == n//2 == len(set(half)) and half == sorted(half) and max(half) < n for half in found)
    assert found == [half.tolist() for half in halves(n, 5, seed)]

@settings(max_examples=60, deadline=None)
@given(sets, sets, st.integers(0, 5))
def test_sets_of_equal_size(a, b, seed):
    one, other = same_size(a, b, seed=seed)
    assert len(one) == len(other) == min(len(a), len(b)) and not Counter(one.texts) - Counter(a) and not Counter(other.texts) - Counter(b)
    cut = same_size(a, b, tokens=True, seed=seed)
    most = min(len(Tokens(t).ids) for t in (a, b))
    for whole, part in zip((Tokens(a), Tokens(b)), cut): assert most - max(whole.lengths) <= len(part.ids) <= most

@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=2, max_size=60), st.integers(1, 6))
def test_every_text_is_in_one_band(lengths, bands):
    found = length_bands(np.array(lengths), bands)
    rows = [i for _, rows in found for i in rows]
    assert len(set(rows)) == len(rows) and len(rows) >= len(lengths) - bands and len(found) <= bands # a band of one text has no diversity
    for label, rows in found: assert all(int(label.split()[0]) <= lengths[i] <= int(label.split()[2]) for i in rows)
    if len(set(lengths)) == 1: assert len(rows) == len(lengths)

# Bad input

@pytest.mark.parametrize('parts,call', [
    (['1 text', 'expected at least 2'], lambda: self_bleu(['one'])), (['0 texts'], lambda: self_bleu([])), (['1 text'], lambda: self_bleu_scores(Tokens(['one', 'two'])[:1])),
    (['1 text'], lambda: repeated_phrases(['one'])), (['1 text'], lambda: diversity(['one'])), (['3 text', 'at least 4'], lambda: diversity_interval('hdd', ['a', 'b', 'c'])),
    (['text 2 is None'], lambda: self_bleu(['a', None])), (['text 1 is 3'], lambda: compression_ratio([3])), (["'the light shone'", 'brackets'], lambda: self_bleu('the light shone')),
    (['tokenize', 'cut already'], lambda: self_bleu(Tokens(['a', 'b']), tokenize='char')), (["'14a'", '13a'], lambda: Tokens(['a'], '14a')), (["'nist'", 'exp'], lambda: self_bleu(['a', 'b'], smooth='nist')),
    (['n is 0'], lambda: self_bleu(['a', 'b'], 0)), (['n is 0'], lambda: distinct_n(['a', 'b'], 0)), (["n is '2'"], lambda: distinct_n(['a', 'b'], '2')), (['no 3-gram'], lambda: distinct_n(['a b', 'c'], 3)),
    (['no 1-gram'], lambda: ngram_entropy(['', ' '])), (['1 kinds of words'], lambda: zipf(['a a'])), (['0 kinds'], lambda: zipf([''])), (['nothing to compress'], lambda: compression_ratio([''])),
    (['42 to 42', 'have 3'], lambda: hdd(['a b c'])), (["Heaps'"], lambda: heaps(['a b c'])), (['none repeated'], lambda: mtld(['a b c'])), (['0 tokens'], lambda: mtld([''])),
    (['4 and 5 texts', 'same_size'], lambda: diversity_difference('hdd', ['a'] * 4, ['a'] * 5)), (["'richness'", 'mtld'], lambda: diversity_interval('richness', ['a'] * 4)),
    (['(1, 2)', 'Expected (2, d)'], lambda: semantic_spread(['a', 'b'], lambda texts: [[1, 2]])), (['no numbers'], lambda: semantic_spread(['a', 'b'], lambda texts: [[math.nan]] * 2))])
def test_bad_input_is_told(parts, call): refused(*parts, call=call)

def test_a_set_too_small_for_a_measure_has_none():
    found = diversity(['', ''])
    assert found['self_bleu'] == 0 and all(math.isnan(found[m]) for m in MEASURES if m not in ('self_bleu', 'compression_ratio')) and found['tokens'] == found['types'] == 0
