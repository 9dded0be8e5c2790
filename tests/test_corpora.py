"What the notebook cannot show well: other processes, torn caches, and a message for every kind of bad input"
import gzip, json, os, subprocess, sys
from collections import Counter
import pytest
from hypothesis import given, settings, strategies as st
from regurgitation import corpora
from regurgitation.core import InputError, make_pool, pool_fingerprint, write_jsonl
from regurgitation.corpora import (BIBLE_PARTS, bible_table, bible_verses, check_leakage, load_corpus, normalise, overlap,
                                   part_of, split_by_group, text_groups, without_overlap)

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
    monkeypatch.setattr(corpora, 'bible_verses', whole.get)
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
    refused("no split 'validation'", 'train, teacher, dev, test', name='bible', split='validation')
    refused("unknown version 'kjv'", 'wyc, web, bbe', name='bible', source='kjv')
    refused("both 'web'", name='bible', source='web', target='web')
    refused("no option 'max_word'", 'max_words', name='bible', max_word=10)
    refused('no pair in it', '300 to 301 words', name='bible', min_words=300, max_words=301)
    for n in (0, -1, 10**6, 10.0, '5'): refused(f'n is {n!r}', 'from 1 to 10175', name='bible', n=n)

def test_a_missing_package_names_the_remedy(monkeypatch):
    monkeypatch.setattr(corpora, 'installed_version', lambda name: '')
    bible_table.cache_clear()
    refused('pip install pythonbible-wyc', name='bible')
    assert not any(row['here'] for row in corpora.corpora())

def test_a_package_with_other_offsets_is_refused(monkeypatch):
    class Moved: scripture_content, verse_start_indices, verse_end_indices = ' 1. In the bigynnyng', {1001002: 0}, {1001002: 20}
    monkeypatch.setattr(corpora, '_package', lambda version: Moved)
    refused('no number 2 at verse 1001002', 'pip install pythonbible-wyc==0.0.2', call=corpora.printed_verses, args=('wyc',))

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
    refused('2 of 4 test pairs', 'p (target', 'q (source', 'without_overlap', call=check_leakage, args=(train, test))
    assert without_overlap(test, train)['id'] == ['r', 's']
    refused('every one of the 1 test pairs', call=without_overlap, args=(test.select([0]), train))

def test_a_users_file_is_split_without_leaks(tmp_path):
    rows = [{'source': f'Satz {i % 60} von {i % 7}', 'target': f'sentence {i} of {i % 7}'} for i in range(400)]
    write_jsonl(tmp_path/'own.jsonl', rows)
    parts = {'train': 8, 'dev': 1, 'test': 1}
    pools = {part: load_corpus(tmp_path/'own.jsonl', part, parts=parts) for part in parts}
    assert sum(map(len, pools.values())) == 400
    check_leakage(pools['train'], pools['test']), check_leakage(pools['train'], pools['dev']), check_leakage(pools['dev'], pools['test'])
