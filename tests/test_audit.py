"The audit of a file with known faults: each is found, counted exactly and named by its ids; memory, sameness, broken files, terminal and page."
import gzip, json, os, random, re, shutil, signal, subprocess, sys, time, tracemalloc
import pytest
from hypothesis import given, settings, strategies as st
from typer.testing import CliRunner
from regurgitation.audit import KnownRuns, Pass, Sample, _hashes, _read, _repeats, audit
from regurgitation.cli import app
from regurgitation.core import InputError, make_pool, write_jsonl
from regurgitation.findings import findings, percent, render_audit, tables
from regurgitation.splits import copies

COMMAND = [sys.executable, '-c', 'from regurgitation.cli import app; app()']

def call(*args, **env):
    env = {**os.environ, 'COLUMNS': '80', 'NO_COLOR': '1', 'TERM': 'dumb', **env}
    return subprocess.run([*COMMAND, 'audit', *map(str, args)], capture_output=True, text=True, env=env, timeout=400)

PLACES = 'garden street valley kitchen forest station market village library harbour'.split()
ORTE = 'Garten Straße Tal Küche Wald Bahnhof Markt Dorf Bibliothek Hafen'.split()

def clean(i):
    "A pair without a fault, other than every other"
    return {'id': f'p/{i}', 'source': f'Am Ort {ORTE[i % 10]} warteten gestern {i + 1000} müde Reisende auf das Ende des Regens.',
            'target': f'Yesterday {i + 1000} tired travellers waited in the {PLACES[i % 10]} for the rain to stop.'}

@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    "real.jsonl without faults, test.jsonl, and made.jsonl with some of each kind"
    folder = tmp_path_factory.mktemp('audit')
    real, made = [clean(i) for i in range(400)], [clean(i) for i in range(400)]
    for i in (10, 20, 30): made[i]['target'] = made[i]['source']
    for i in (40, 41, 42, 43): made[i]['target'] = 'Yesterday many tired travellers were there.'
    made[50]['target'] = 'Yesterday 9999 tired travellers waited in the garden for the rain to stop.'
    made[60] = {**made[61], 'id': 'p/60'}
    made[70]['source'] = made[71]['source']
    made[70]['target'] = made[71]['target'].replace('tired', 'weary')
    made[80]['target'] = 'They said: nobody knows who built the old bridge over the river, perhaps.'
    write_jsonl(folder/'test.jsonl', [{'id': 't/1', 'source': 'Niemand weiß, wer die alte Brücke über den Fluss gebaut hat.', 'target': 'Nobody knows who built the old bridge over the river.'}])
    write_jsonl(folder/'real.jsonl', real)
    write_jsonl(folder/'made.jsonl', made)
    return folder

@pytest.fixture(scope='module')
def found(folder): return audit(folder/'made.jsonl', folder/'real.jsonl', folder/'test.jsonl')

def ids(examples): return {e['id'] for e in examples}

def test_each_fault_is_found_and_named(found):
    file, real = found['file'], found['real']
    assert file['rows'] == real['rows'] == 400
    assert file['errors']['copied']['rows'] == 3 and ids(file['errors']['copied']['examples']) == {'p/10', 'p/20', 'p/30'}
    assert file['errors']['numbers invented']['rows'] == 1 and file['errors']['numbers invented']['examples'][0]['id'] == 'p/50'
    assert file['errors']['numbers lost']['rows'] == 6 and ids(file['errors']['numbers lost']['examples']) <= {'p/40', 'p/41', 'p/42', 'p/43', 'p/50', 'p/80'}
    assert all(e['rows'] == 0 for e in real['errors'].values()), {k: e['examples'] for k, e in real['errors'].items() if e['rows']}

def test_repeats_are_counted_exactly(found):
    target, pair, other = (found['file']['repeats'][k] for k in ('target', 'pair', 'source, other target'))
    assert target['rows'] == 3 + 1 and target['examples'][0] == {'times': 4, 'ids': ['p/40', 'p/41'], 'text': 'Yesterday many tired travellers were there.'}
    assert pair['rows'] == 1 and pair['examples'][0]['ids'] == ['p/60', 'p/61']
    assert other['rows'] == other['texts'] == 1 and other['examples'][0]['ids'] == ['p/70', 'p/71']
    assert all(r['rows'] == 0 for r in found['real']['repeats'].values())

def test_what_the_test_file_shares(found):
    hits = found['file']['test']
    assert hits['source']['rows'] == 0 and hits['target']['rows'] == 1
    assert hits['target']['examples'][0]['id'] == 'p/80' and hits['target']['examples'][0]['evidence'] == 't/1: nobody knows who built the old bridge over'

def test_the_files_are_joined_by_id(found):
    assert found['joined'] == {'ids': 400, 'same source': 398, 'same pair': 400 - 3 - 4 - 1 - 1 - 1 - 1, 'source anywhere': 400}
    assert any('2 ids have another source' in s for s in findings(found))
    assert found['diversity']['paired'] and found['diversity']['rows'][0]['number'] == 398

def test_numbers_carry_their_n_and_signature(found):
    for r in found['diversity']['rows']: assert r['number'] > 0 and r['low'] <= r['difference'] <= r['high'] and 'halves' in r['signature']
    for f in (found['file'], found['real']):
        for s in (*f['errors'].values(), *f['repeats'].values(), *f['test'].values()): assert s['of'] == 400 and s['low'] <= s['share'] <= s['high']

def test_the_same_file_gives_the_same_audit(folder, found):
    assert audit(folder/'made.jsonl', folder/'real.jsonl', folder/'test.jsonl') == found == json.loads(json.dumps(found, allow_nan=False))

def test_examples_do_not_depend_on_the_order_of_rows(folder, tmp_path):
    rows = [json.loads(line) for line in (folder/'made.jsonl').read_text().splitlines()]
    for i in range(100, 140): rows[i]['target'] = rows[i]['source']
    write_jsonl(tmp_path/'a.jsonl', rows)
    random.Random(0).shuffle(rows)
    write_jsonl(tmp_path/'b.jsonl', rows)
    a, b = (audit(tmp_path/name, languages=None)['file'] for name in ('a.jsonl', 'b.jsonl'))
    assert a['errors'] == b['errors'] and a['errors']['copied']['rows'] == 43 and len(a['errors']['copied']['examples']) == 5 and a['fingerprint'] != b['fingerprint']
    assert audit(tmp_path/'a.jsonl', languages=None, seed=1)['file']['errors']['copied']['examples'] != a['errors']['copied']['examples']

def peak(tmp_path, rows):
    "Of memory that Python holds while a file of so many rows goes by"
    path = tmp_path/f'{rows}.jsonl'
    write_jsonl(path, map(clean, range(rows)))
    tracemalloc.start()
    try:
        _read(path, Pass(lambda pair: {'seen': 'x'}, sample=500))
        return tracemalloc.get_traced_memory()[1]
    finally: tracemalloc.stop()

def test_memory_grows_by_the_hashes_alone(tmp_path):
    "24 bytes a row in three hashes, twice while they are joined, and their order while repeats are sought"
    small, large = (peak(tmp_path, rows) for rows in (20_000, 80_000))
    assert large - small < 60_000*64, (small, large)

@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), unique=True, min_size=1, max_size=300), st.integers(1, 20))
def test_a_sample_is_the_smallest_keys(keys, most):
    sample = Sample(most)
    for key in keys: sample.add(key, key)
    assert sample.rows() == sorted(keys)[:most] and len(sample.kept) <= 1.25*most + 100

words = st.lists(st.sampled_from('Licht nacht, GOTT tag erde! himmel – 7'.split()), max_size=14).map(' '.join)

@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(words, words), min_size=1, max_size=12), st.lists(st.tuples(words, words), min_size=1, max_size=6))
def test_runs_are_those_of_splits(tmp_path_factory, rows, test):
    pool = lambda pairs: [{'id': str(i), 'source': s or '-', 'target': t or '-'} for i, (s, t) in enumerate(pairs)]
    path = tmp_path_factory.mktemp('runs')/'test.jsonl'
    write_jsonl(path, pool(test))
    runs, mine = KnownRuns(path), pool(rows)
    hit = {i for side in ('source', 'target') for i, _, _ in runs.find(side, [p[side] for p in mine])}
    columns = lambda pairs: {side: [p[side] for p in pairs] for side in ('source', 'target')}
    assert [i in hit for i in range(len(mine))] == copies(columns(mine), columns(pool(test)))

@given(st.lists(st.sampled_from('abcdef'), min_size=1, max_size=40))
def test_repeats_by_counting(texts):
    found = _repeats(_hashes(texts))
    assert found['different'] == len(set(texts)) and found['rows'] == len(texts) - len(set(texts))
    for times, (first, second) in found['largest']:
        assert texts.count(texts[first]) == times and [i for i, t in enumerate(texts) if t == texts[first]][:2] == [first, second]

def test_a_large_real_file_keeps_the_partners(folder, tmp_path):
    "A generated file of 400 ids beside a real one of 4,000, with samples of 400: all are paired"
    write_jsonl(tmp_path/'real.jsonl', map(clean, range(4000)))
    write_jsonl(tmp_path/'made.jsonl', (clean(i) for i in range(0, 4000, 10)))
    found = audit(tmp_path/'made.jsonl', tmp_path/'real.jsonl', languages=None, sample=400)
    assert found['diversity']['paired'] and found['diversity']['rows'][0]['number'] == 400 and found['diversity']['rows'][0]['difference'] == 0

def test_files_without_common_ids_are_compared_at_equal_size(folder, tmp_path):
    write_jsonl(tmp_path/'other.jsonl', ({**clean(i), 'id': f'q/{i}'} for i in range(300)))
    found = audit(folder/'made.jsonl', tmp_path/'other.jsonl', languages=None)
    assert found['joined']['ids'] == 0 and not found['diversity']['paired'] and found['diversity']['rows'][0]['number'] == 300
    assert found['joined']['source anywhere'] == 300 and any('300 sources are in the real data under other ids' in s for s in findings(found))

def test_another_language_is_one_finding(tmp_path):
    rows = [{'id': str(i), 'source': f'Je ne sais pas ce que tu veux dire, mon ami, il y en a {i}.', 'target': f'I do not know what you mean, my friend, there are {i}.'} for i in range(20)]
    write_jsonl(tmp_path/'fr.jsonl', rows)
    found = audit(tmp_path/'fr.jsonl')
    assert not found['file']['languages']['right'] and 'language' not in found['file']['errors']
    assert any('most sources look like fr' in s and '--languages' in s for s in findings(found))
    right = audit(tmp_path/'fr.jsonl', languages=('French', 'English'))['file']
    assert right['languages']['right'] and right['errors']['language'] == {**right['errors']['language'], 'rows': 0, 'of': 20}
    assert audit(tmp_path/'fr.jsonl', languages=None)['file']['languages'] is None
    with pytest.raises(InputError, match="language 'Klingon'"): audit(tmp_path/'fr.jsonl', languages=('Klingon', 'English'))

@pytest.mark.parametrize('rows', [1, 2, 3])
def test_tiny_files(tmp_path, rows):
    write_jsonl(tmp_path/'tiny.jsonl', map(clean, range(rows)))
    found = audit(tmp_path/'tiny.jsonl', tmp_path/'tiny.jsonl', languages=None)
    assert found['file']['rows'] == rows and render_audit(found, tmp_path).is_file() and tables(found)

def test_a_detector_scores_what_it_has_not_learned_from(folder, tmp_path):
    from regurgitation.detection import Detector
    human, generated = [make_pool([{**clean(i), **more} for i in range(300)]) for more in ({}, {'target': 'As an answer, the travellers they are waiting.', 'origin': 'm'})]
    detector = Detector().fit(human, generated)
    detector.save(tmp_path/'detector')
    write_jsonl(tmp_path/'machine.jsonl', [{**clean(i), 'target': f'As an answer, the {i} travellers they are waiting.'} for i in range(200, 360)])
    told = audit(tmp_path/'machine.jsonl', folder/'real.jsonl', languages=None, detector=tmp_path/'detector')
    d = told['detector']
    assert d['file']['of'] == 60 and d['file']['share'] > 0.9 and d['real']['of'] == 100 and d['real']['share'] < 0.1 and d['auc']['estimate'] > 0.9
    assert any('look generated to the detector; AUC' in s for s in findings(told))
    with pytest.raises(InputError, match='has learned from all 3 pairs'):
        write_jsonl(tmp_path/'seen.jsonl', map(clean, range(3)))
        audit(tmp_path/'seen.jsonl', languages=None, detector=tmp_path/'detector')

def test_answers_to_questions(tmp_path):
    text = 'The bridge was built by a monk in 1203.'
    write_jsonl(tmp_path/'qa.jsonl', [{'id': str(i), 'source': f'{text}\n\nWho built the bridge?', 'target': a} for i, a in enumerate(('a monk', 'the emperor', 'unanswerable'))])
    found = audit(tmp_path/'qa.jsonl', task='qa')
    assert {k: e['rows'] for k, e in found['file']['errors'].items()} == {'unanswered': 1, 'unsupported': 1} and found['file']['errors']['unsupported']['examples'][0]['id'] == '1'
    assert findings(found) and tables(found) and render_audit(found, tmp_path).is_file()

def test_percent(): assert [percent(s) for s in (0, 0.0000123, 0.00031, 0.041, 0.5, 1)] == ['0 %', '0.0012 %', '0.031 %', '4.1 %', '50.0 %', '100.0 %']

GOOD = '{"id": 1, "source": "Licht", "target": "light"}\n'
BROKEN = [('torn.jsonl', GOOD + '{"id": 2, "sour', ['torn.jsonl, line 2', 'not valid JSON', 'mend or delete']),
          ('empty.jsonl', '', ['empty.jsonl', 'no pair in it']),
          ('twice.jsonl', GOOD + '\n' + GOOD.replace('1', '2') + GOOD, ['twice.jsonl, row 3 (line 4)', 'the id', 'row 1', 'renumber']),
          ('mixed.jsonl', GOOD[:-2] + ', "lang": "de-en"}\n' + GOOD[:-2].replace('1', '2') + ', "lang": "fr-en"}\n', ['row 2', "lang is 'fr-en'", 'files of their own']),
          ('latin.jsonl', GOOD.encode() + '{"source": "Lüge", "target": "lie"}'.encode('latin-1'), ['latin.jsonl, line 2', 'not UTF-8', 'iconv']),
          ('blank.jsonl', GOOD + '\n{"id": 2, "source": "Licht", "target": " "}', ['blank.jsonl, row 2 (line 3)', "target is ' '", 'Mend the row or remove it']),
          ('none.jsonl', GOOD + '{"id": 2, "source": "Licht"}', ['none.jsonl, row 2', "no field 'target'", 'target_field']),
          ('null.jsonl', GOOD + '{"id": 2, "source": "Licht", "target": null}', ['null.jsonl, row 2', 'target is None']),
          ('cut.jsonl', GOOD + '{"id": 2, "source": "Licht", "target": "light \\ud83d"}', ['cut.jsonl, row 2', 'half a character']),
          ('torn.jsonl.gz', gzip.compress(GOOD.encode()*3000)[:80], ['torn.jsonl.gz', 'may be torn']),
          ('ragged.csv', 'source,target\nLicht,light\nund\n', ['ragged.csv, row 2 (line 3)', 'fewer fields']),
          ('pairs.xml', '<a/>', ['unknown kind of file']), ('missing.jsonl', None, ['missing.jsonl', 'no such file'])]

@pytest.mark.parametrize('name,text,said', BROKEN, ids=[b[0] for b in BROKEN])
@pytest.mark.parametrize('place', ['file', 'real', 'test'])
def test_broken_files_are_told_by_line(folder, tmp_path, name, text, said, place):
    if text is not None: (tmp_path/name).write_bytes(text if isinstance(text, bytes) else text.encode())
    given = {'path': folder/'made.jsonl'} | {{'file': 'path'}.get(place, place): tmp_path/name}
    if (place, name) == ('test', 'twice.jsonl'): said = ['twice.jsonl', 'rows 1 and 3', 'renumber']
    with pytest.raises(InputError) as told: audit(**given, languages=None)
    for part in said: assert part in str(told.value)

def test_other_fields_and_formats(tmp_path):
    (tmp_path/'a.tsv').write_text('nr\tde\ten\n' + ''.join(f'{i}\t{clean(i)["source"]}\t{clean(i)["target"]}\n' for i in range(30)))
    (tmp_path/'b.jsonl').write_text(''.join(json.dumps({'nr': i, 'de': clean(i)['source'], 'en': clean(i)['target']}) + '\n' for i in range(30)))
    named = dict(source_field='de', target_field='en', id_field='nr', languages=None)
    assert audit(tmp_path/'a.tsv', tmp_path/'b.jsonl', **named)['joined']['same pair'] == 30

# The command

@pytest.fixture(scope='module')
def done(folder):
    done = call(folder/'made.jsonl', '--real', folder/'real.jsonl', '--test', folder/'test.jsonl', '--out', folder/'out')
    assert done.returncode == 0, done.stderr
    return done

def test_the_terminal_of_80_columns_is_enough(done):
    assert all(len(line) <= 80 for line in done.stdout.splitlines() if '/' not in line or 'report' not in line), done.stdout
    told = ' '.join(done.stdout.split())
    assert '400 pairs' in told and 'copied' in told and 'p/40' in told and 'report: ' in told and '{' not in told
    assert 'made.jsonl' in done.stderr and '%' in done.stderr # the progress

def test_json_is_all_of_it(folder, done, found):
    again = call(folder/'made.jsonl', '--real', folder/'real.jsonl', '--test', folder/'test.jsonl', '--json', '--out', folder/'out2')
    told = json.loads(again.stdout)
    assert told.pop('report') == str(folder/'out2'/'report.html') and told.pop('findings') == findings(found) and told == found
    assert {**found, 'findings': findings(found)} == json.loads((folder/'out'/'audit.json').read_text())

def test_what_cannot_go_well_is_told_before_the_pass(folder, tmp_path):
    (tmp_path/'file').write_text('')
    for options, said in ((('--real', tmp_path/'gone.jsonl'), 'gone.jsonl: no such file'), (('--out', tmp_path/'file'), 'Name another folder by --out'), (('--languages', 'Klingon,English'), "language 'Klingon'"),
                          (('--languages', 'German'), 'expected two of'), (('--task', 'poetry'), "task 'poetry'"), (('--detector', tmp_path), 'not a detector'), (('--target-field', 'en'), "no field 'en'")):
        done = CliRunner().invoke(app, ['audit', *map(str, (folder/'made.jsonl', *options))])
        assert done.exit_code == 2 and said in ' '.join(done.output.split()) and '100%' not in done.output, done.output

def test_help_has_an_example(): assert 'Example: regurgitation audit' in ' '.join(call('--help').stdout.split())

def test_a_broken_file_ends_with_status_2(tmp_path):
    (tmp_path/'torn.jsonl').write_text(GOOD + '{"id": 2')
    done = call(tmp_path/'torn.jsonl')
    assert done.returncode == 2 and 'torn.jsonl, line 2' in ' '.join(done.stderr.split()).replace(' line', ' line') and 'Traceback' not in done.stderr

def test_an_interrupt_says_what_is_lost(tmp_path):
    write_jsonl(tmp_path/'long.jsonl', map(clean, range(60_000)))
    process = subprocess.Popen([*COMMAND, 'audit', str(tmp_path/'long.jsonl'), '--out', str(tmp_path/'out')], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               start_new_session=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    assert 'long.jsonl' in process.stderr.readline() # the bar begins
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and 'keeps nothing' in ' '.join(errors.split()) and 'Traceback' not in errors and not (tmp_path/'out').exists()

# The page

def test_the_page_is_complete_and_self_contained(folder, found, done):
    text = (folder/'out'/'report.html').read_text(encoding='utf-8')
    assert not re.findall(r'(?:src|href)="(?!#|data:)[^"]*"|@import|url\((?!#)', text) and '<script' not in text
    assert text.count('<svg') == 2 == text.count('role="img"') and 'prefers-color-scheme: dark' in text
    for word in ('p/10', 'p/80', 'Yesterday many tired travellers', 'regurgitation audit', found['file']['fingerprint']): assert word in text
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))

def test_text_of_the_file_is_text_on_the_page(folder, tmp_path):
    evil = {'id': '<b>1</b>', 'source': '<script>alert(1)</script> und noch drei Wörter', 'target': '<script>alert(1)</script> und noch drei Wörter'}
    write_jsonl(tmp_path/'evil.jsonl', [evil, *map(clean, range(5))])
    text = render_audit(audit(tmp_path/'evil.jsonl', languages=None), tmp_path).read_text(encoding='utf-8')
    assert '<script' not in text and '<b>1' not in text and '&lt;script&gt;' in text

@pytest.mark.parametrize('width', [390, 1200])
def test_the_page_in_a_browser(folder, done, width):
    chromium = shutil.which('chromium')
    if not chromium: (pytest.fail if os.environ.get('CI') else pytest.skip)("there is no chromium on this machine (Debian's package chromium)")
    from playwright.sync_api import sync_playwright
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=['--no-sandbox', '--disable-gpu'])
        page = browser.new_page(viewport={'width': width, 'height': 800})
        asked, errors = [], []
        page.on('request', lambda r: asked.append(r.url)); page.on('pageerror', lambda e: errors.append(e))
        page.goto((folder/'out'/'report.html').as_uri())
        for summary in page.locator('summary').all(): summary.click()
        assert not errors and all(url.startswith(('file:', 'data:')) for url in asked)
        assert page.evaluate('document.documentElement.scrollWidth <= window.innerWidth')
        assert page.locator('details[open] td').count() > 10 and page.locator('svg').first.bounding_box()['width'] > 200
        browser.close()
