"The real download code against a real server with faults, a cache that cannot be written, and pip"
import gzip, hashlib, json, os, subprocess, sys, time, zipfile
from email.utils import formatdate
from pathlib import Path
import pytest
from mirror_server import serving
from regurgitation.core import InputError, file_sha256
from regurgitation.corpora import CORPORA, corpus_table, load_corpus
from regurgitation.download import fetch, hub, kept_at, wheel

TEXT = ('Die Aussprache ist geschlossen. ' * 400).encode()
SHA = hashlib.sha256(TEXT).hexdigest()
URL = 'https://raw.example.org/corpus/1a2b3c/europarl.de'

@pytest.fixture(autouse=True)
def clean(tmp_path, monkeypatch):
    for name in ('REGURGITATION_MIRROR', 'REGURGITATION_HUB'): monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('REGURGITATION_STORE', str(tmp_path/'store'))
    corpus_table.cache_clear()
    yield
    corpus_table.cache_clear()

@pytest.fixture
def server(tmp_path, monkeypatch):
    "The file, served as a mirror does"
    file = tmp_path/'mirror'/'raw.example.org'/'corpus'/'1a2b3c'/'europarl.de'
    file.parent.mkdir(parents=True)
    file.write_bytes(TEXT)
    with serving(tmp_path/'mirror') as server:
        monkeypatch.setenv('REGURGITATION_MIRROR', server.url)
        yield server

def quickly(**more): return fetch(URL, SHA, **{'timeout': 1, 'wait': 0.01, **more})

def refused(*parts, call=quickly, **kwargs):
    with pytest.raises(InputError) as caught: call(**kwargs)
    for part in parts: assert part in str(caught.value), str(caught.value)
    return str(caught.value)

def left_over(): return [p for p in kept_at(URL, SHA).parent.glob('*') if p.name != '.lock']

PASSING = [('truncated',), ('reset',), ('stalled', 2), ('busy', 0), *[('status', code) for code in (408, 429, 500, 502, 503, 504)]]

@pytest.mark.parametrize('fault', PASSING, ids=lambda f: ' '.join(map(str, f)))
def test_a_passing_fault_costs_one_more_attempt(server, fault):
    server.plan[:] = [fault]
    assert quickly().read_bytes() == TEXT and len(server.asked) == 2

def test_many_faults_in_a_row(server):
    server.plan[:] = [('truncated',), ('status', 500), ('busy', 0), ('reset',)]
    assert quickly().read_bytes() == TEXT and len(server.asked) == 5

def test_a_slow_server_is_waited_for(server):
    server.plan[:] = [('slow', 0.2)] # 1.6 s in all, never a second without a byte
    assert quickly().read_bytes() == TEXT and len(server.asked) == 1

@pytest.mark.parametrize('asked', ['1', lambda: formatdate(time.time() + 2, usegmt=True)], ids=['seconds', 'date'])
def test_retry_after_is_obeyed(server, asked):
    server.plan[:] = [('busy', asked if isinstance(asked, str) else asked())]
    quickly()
    assert server.asked[1][0] - server.asked[0][0] >= 0.95

@pytest.mark.parametrize('asked', ['soon', '', '-5', 'Mon, 99 Foo'])
def test_a_retry_after_that_means_nothing(server, asked):
    server.plan[:] = [('busy', asked)]
    assert quickly().read_bytes() == TEXT

def test_pauses_grow(server):
    server.plan[:] = [('status', 500)] * 3
    quickly(wait=0.2)
    times = [t for t, _ in server.asked]
    assert times[1] - times[0] >= 0.1 and times[3] - times[2] >= 0.4

def test_it_gives_up_at_last(server):
    server.plan[:] = [('status', 503)] * 10
    refused('HTTP 503, 3 times', 'try again', 'REGURGITATION_MIRROR', attempts=3)
    assert len(server.asked) == 3 and not left_over()
    server.plan.clear()
    assert quickly().read_bytes() == TEXT # nothing that it left is in the way

@pytest.mark.parametrize('code', [400, 401, 403, 451])
def test_a_refusal_is_final(server, code):
    server.plan[:] = [('status', code)]
    refused(f'the server answers {code}')
    assert len(server.asked) == 1 and not left_over()

def test_a_missing_file_is_final(server):
    (server.root/'raw.example.org/corpus/1a2b3c/europarl.de').unlink()
    refused('europarl.de: no such file (404)', 'newer one', 'REGURGITATION_MIRROR')
    assert len(server.asked) == 2 and not left_over() # the name, and the name with .gz

def test_a_wrong_file_is_not_kept(server):
    server.plan[:] = [('wrong',)]
    refused('not the file that was published', SHA[:16], '47 bytes', 'proxy')
    assert not left_over()
    assert quickly().read_bytes() == TEXT

def test_a_file_that_changed_in_the_cache_is_fetched_again(server):
    path = quickly()
    for spoilt in (TEXT[:-1], b'', TEXT + b'x'):
        path.write_bytes(spoilt)
        assert quickly().read_bytes() == TEXT
    assert len(server.asked) == 4

def test_a_compressed_mirror(server):
    plain = server.root/'raw.example.org/corpus/1a2b3c/europarl.de'
    plain.unlink()
    packed = plain.with_name('europarl.de.gz')
    packed.write_bytes(gzip.compress(TEXT))
    assert quickly().read_bytes() == TEXT
    packed.write_bytes(gzip.compress(TEXT)[:-12])
    quickly().unlink()
    refused('europarl.de.gz', 'torn')

def test_mirrors_that_are_none(tmp_path, monkeypatch):
    monkeypatch.setenv('REGURGITATION_MIRROR', str(tmp_path/'nowhere'))
    refused('REGURGITATION_MIRROR', 'nowhere', 'no such folder')
    monkeypatch.setenv('REGURGITATION_MIRROR', 'ftp://127.0.0.1/mirror')
    refused('InvalidSchema', 'ftp://127.0.0.1')

def test_a_password_is_never_printed(server, monkeypatch):
    monkeypatch.setenv('REGURGITATION_MIRROR', server.url.replace('://', '://anna:geheim@'))
    assert quickly().read_bytes() == TEXT
    for plan in ([('status', 403)], [('reset',)] * 9, [('wrong',)]):
        quickly().unlink()
        server.plan[:] = plan
        assert 'geheim' not in refused('raw.example.org')
        server.plan.clear()

def test_nobody_there(monkeypatch):
    monkeypatch.setenv('REGURGITATION_MIRROR', 'http://127.0.0.1:9')
    refused('ConnectionError, 2 times', attempts=2)

def test_two_processes_fetch_once(server, tmp_path):
    server.plan[:] = [('slow', 0.1)]
    code = f'from regurgitation.download import fetch; print(fetch({URL!r}, {SHA!r}))'
    runs = [subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    found = {Path(run.communicate(timeout=120)[0].strip()) for run in runs}
    assert found == {kept_at(URL, SHA)} and len(server.asked) == 1

# A cache that cannot be written

def test_a_full_disk_leaves_a_usable_cache(server, monkeypatch):
    quickly()
    other = URL.replace('.de', '.en')
    (server.root/'raw.example.org/corpus/1a2b3c/europarl.en').write_bytes(TEXT[::-1])
    sha = hashlib.sha256(TEXT[::-1]).hexdigest()
    kept = kept_at(other, sha)
    kept.parent.mkdir(parents=True)
    kept.with_name(f'.{kept.name}.{os.getpid()}.part').symlink_to('/dev/full') # every write to it fails as on a full disk
    message = refused('No space left on device', 'Free some space', 'REGURGITATION_STORE', call=lambda: fetch(other, sha))
    assert str(kept.parent) in message and not kept.exists()
    assert quickly().read_bytes() == TEXT and fetch(other, sha).read_bytes() == TEXT[::-1]

def test_a_cache_that_cannot_be_written(server, tmp_path, monkeypatch):
    (tmp_path/'a-file').write_text('not a folder')
    monkeypatch.setenv('REGURGITATION_STORE', str(tmp_path/'a-file'))
    refused('cannot be kept in', 'a-file', 'REGURGITATION_STORE')

def test_a_read_only_cache_serves_what_it_has(server, monkeypatch):
    path = quickly()
    for p in (path, path.parent/'.lock', path.parent): p.chmod(0o500 if p.is_dir() else 0o400)
    try:
        before = len(server.asked)
        assert quickly().read_bytes() == TEXT and len(server.asked) == before
    finally: path.parent.chmod(0o700)

# The hub

def test_a_folder_in_place_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.setenv('REGURGITATION_HUB', str(tmp_path))
    rows = [{'translation': {'de': f'Satz {i}', 'en': f'sentence {i}'}} for i in range(5)]
    folder = tmp_path/'Helsinki-NLP'/'europarl'/'de-en'
    folder.mkdir(parents=True)
    with gzip.open(folder/'train.jsonl.gz', 'wt') as f: f.writelines(json.dumps(r) + '\n' for r in rows)
    assert hub('Helsinki-NLP/europarl', 'train', 'de-en') == rows
    assert hub('Helsinki-NLP/europarl', 'train[:2]', 'de-en') == rows[:2] and hub('Helsinki-NLP/europarl', 'train[3:]', 'de-en') == rows[3:]
    assert len(load_corpus('europarl-en-de', 'all')) == 5 and load_corpus('europarl-en-de', 'all')['source'][0] == 'sentence 0'
    refused('de-fr/train.jsonl.gz: no such file', 'REGURGITATION_HUB', call=lambda: load_corpus('europarl-fr-de'))
    (folder/'train.jsonl.gz').write_bytes((folder/'train.jsonl.gz').read_bytes()[:-20])
    corpus_table.cache_clear()
    refused('train.jsonl.gz', 'torn', call=lambda: load_corpus('europarl-de-en'))

def test_without_the_hub_the_message_says_what_to_do(tmp_path):
    code = ("from regurgitation.download import hub\nfrom regurgitation.core import InputError\n"
            "try: hub('rajpurkar/squad', 'train', None, '7b6d24c')\nexcept InputError as e: print(e)")
    env = {**os.environ, 'HF_ENDPOINT': 'http://127.0.0.1:9', 'HF_HUB_OFFLINE': '1', 'HF_HOME': str(tmp_path)}
    run = subprocess.run([sys.executable, '-c', code], env=env, capture_output=True, text=True, timeout=120)
    assert 'rajpurkar/squad, train: the Hugging Face hub does not give it' in run.stdout, run.stderr[-2000:]
    assert 'REGURGITATION_HUB' in run.stdout and 'rajpurkar/squad/train.jsonl.gz' in run.stdout

# Packages

@pytest.fixture
def index(tmp_path, monkeypatch):
    "A folder that pip takes for its index, with one wheel of our own"
    links = tmp_path/'links'
    links.mkdir()
    path = links/'sprichwort-1.0-py3-none-any.whl'
    with zipfile.ZipFile(path, 'w') as z:
        z.writestr('sprichwort/de.txt', 'Morgenstund hat Gold im Mund.')
        z.writestr('sprichwort-1.0.dist-info/METADATA', 'Metadata-Version: 2.1\nName: sprichwort\nVersion: 1.0\nRequires-Dist: a-package-that-is-not-there\n')
        z.writestr('sprichwort-1.0.dist-info/WHEEL', 'Wheel-Version: 1.0\nGenerator: us\nRoot-Is-Purelib: true\nTag: py3-none-any\n')
        z.writestr('sprichwort-1.0.dist-info/RECORD', '')
    config = tmp_path/'pip.conf'
    config.write_text(f'[global]\nno-index = true\nfind-links = {links}\n')
    monkeypatch.setenv('PIP_CONFIG_FILE', str(config))
    for name in [n for n in os.environ if n.startswith('PIP_') and n != 'PIP_CONFIG_FILE']: monkeypatch.delenv(name)
    return path

def test_pip_brings_the_wheel_without_its_dependencies(index):
    sha256 = file_sha256(index)
    found = wheel('sprichwort', '1.0', sha256, 'sprichwort/de.txt')
    assert found.read_text() == 'Morgenstund hat Gold im Mund.'
    index.unlink()
    assert wheel('sprichwort', '1.0', sha256, 'sprichwort/de.txt') == found # nobody is asked again
    assert not list(found.parent.glob('pip'))

def test_a_wheel_that_is_another(index):
    refused('sprichwort==1.0', 'not the published one', 'pip config', call=lambda: wheel('sprichwort', '1.0', '0' * 64, 'sprichwort/de.txt'))
    assert wheel('sprichwort', '1.0', file_sha256(index), 'sprichwort/de.txt').is_file()

def test_a_file_that_the_wheel_does_not_have(index):
    refused("no file 'sprichwort/fr.txt'", 'sprichwort/de.txt', call=lambda: wheel('sprichwort', '1.0', file_sha256(index), 'sprichwort/fr.txt'))

def test_a_package_that_is_not_there(index):
    refused('pip cannot bring sprichwort==2.0', 'No matching distribution', call=lambda: wheel('sprichwort', '2.0', '0' * 64, 'sprichwort/de.txt'))

def test_a_python_without_pip(index, monkeypatch):
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    refused('no pip', 'ensurepip', 'uv pip install pip', 'put the wheel into', call=lambda: wheel('sprichwort', '1.0', '0' * 64, 'sprichwort/de.txt'))

def test_a_full_disk_while_the_wheel_is_unpacked(index, tmp_path):
    sha256 = file_sha256(index)
    folder = tmp_path/'store'/'wheels'/sha256[:16]
    folder.mkdir(parents=True)
    (folder/f'.de.txt.{os.getpid()}.part').symlink_to('/dev/full')
    refused('No space left on device', 'Free some space', call=lambda: wheel('sprichwort', '1.0', sha256, 'sprichwort/de.txt'))
    assert wheel('sprichwort', '1.0', sha256, 'sprichwort/de.txt').is_file()

# The mirror of the public corpora, as a server that misbehaves

def test_corpora_come_through_a_server_with_faults(shared_data, monkeypatch):
    monkeypatch.setattr('regurgitation.download.fetch.__defaults__', (2.0, 6, 0.01))
    with serving(shared_data/'mirror') as server:
        monkeypatch.setenv('REGURGITATION_MIRROR', server.url)
        server.plan[:] = [('truncated',), ('status', 500), ('slow', 0.05), ('busy', 0), ('reset',)] * 2
        assert len(load_corpus('wmt23-de-en', 'test')) == 549
        assert len(load_corpus('newstest-de-en', 'test', year=2018)) == 2998
        assert not server.plan
        before = len(server.asked)
        corpus_table.cache_clear()
        assert len(load_corpus('newstest-de-en', 'test', year=2018)) == 2998 and len(server.asked) == before

def test_the_pinned_files_are_those_of_the_mirror(shared_data):
    published = {e['url']: e['sha256'] for e in json.loads((shared_data/'mirror'/'manifest.json').read_text())}
    pinned = {f'{c.root}/{path}': sha for c in CORPORA.values() for path, sha in c.files.items()}
    assert len(pinned) > 50 and pinned.items() <= published.items()
