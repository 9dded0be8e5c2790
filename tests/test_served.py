"A whole study whose student is tuned by a provider and whose teachers are asked: the provider is a server on this machine that trains for real"
import gzip, json, threading
from collections import Counter
from dataclasses import replace

import pytest
pytest.importorskip('fastapi')
pytest.importorskip('uvicorn')
from tuning_server import TuningServer, tiny_llama

from regurgitation import tuning_api
from regurgitation.arms import asking
from regurgitation.core import InputError, Store, read_rows
from regurgitation.corpora import load_corpus
from regurgitation.costs import costs
from regurgitation.learners import Served, learner_of
from regurgitation.studies import Data, Study, baselines, check_keys, job_key, load_study, plan, run_study, seconds_of, speed

KEY = 'sk-proj-Zx81secretsecret42'
ASK = 'Translate this text from English into English. Write the translation and nothing else.\n\n'

@pytest.fixture(autouse=True)
def quick(monkeypatch):
    "Tests wait for nobody"
    monkeypatch.setattr(tuning_api, '_FIRST_WAIT', .02)
    monkeypatch.setenv('REGURGITATION_PROGRESS', 'off')
    monkeypatch.delenv('OPENAI_BASE_URL', raising=False)

@pytest.fixture(scope='session')
def llama(tmp_path_factory):
    folder, pool = tmp_path_factory.mktemp('models')/'tiny-llama', load_corpus('bible', n=60)
    tiny_llama(folder, pool['source'][:] + pool['target'][:] + [ASK]*9)
    return folder

def serving(folder, llama, **options):
    folder.mkdir(exist_ok=True)
    if not (folder/'tiny-llama').exists(): (folder/'tiny-llama').symlink_to(llama)
    return TuningServer(folder, tuning=dict(lr=1e-3, frozen_embedding=False, precision='float32'), **options)

def small(url, **changes):
    learner = {'model': 'openai:tiny-llama', 'n_epochs': 1, 'batch_size': 6, 'base_url': url, 'every': .05, 'max_tokens': 8, 'shots': 1}
    told = dict(arms={'real': {}, 'self': {'teacher': 'self'}}, sizes=[10, 12], seeds=[3], continued=True, teachers={'self': {'generator': 'openai:tiny-llama', 'base_url': url, 'max_tokens': 8}}, corpus_options={'max_words': 12}, sources=14, test_pairs=6, dev_pairs=6, learner=learner)
    return Study('served', 'What?', **{**told, **changes})

def texts_below(folder): return '\n'.join((gzip.decompress(b) if p.suffix == '.gz' else b).decode(errors='replace') for p in folder.rglob('*') if p.is_file() for b in [p.read_bytes()])

@pytest.fixture(scope='module')
def done(tmp_path_factory, llama):
    "The study, its folder, and the server, which has closed"
    folder = tmp_path_factory.mktemp('served')
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {'REGURGITATION_PROGRESS': 'off', 'OPENAI_API_KEY': KEY, 'REGURGITATION_STORE': str(folder/'default')}.items(): patch.setenv(name, value)
        with serving(folder/'server', llama, gossip=True) as server:
            study = small(server.url)
            run_study(study, folder/'out', Store(folder/'store'), workers=1)
            asked = server.asked.total()
            run_study(study, folder/'out', Store(folder/'store'), workers=1)
            assert server.asked.total() == asked, 'a finished study asks nobody'
    return study, folder, server

def test_a_study_of_a_provider_ends_in_rows(done):
    study, folder, server = done
    rows = {(r['arm'], r['size']): r for r in read_rows(folder/'out'/'rows.jsonl')}
    assert set(rows) == {('real', 10), ('real', 12), ('self', 10), ('self', 12), ('copy', 0), ('zero-shot', 0), ('few-shot', 0), ('teacher:self', 0)}
    assert rows['self', 12]['pairs_generated'] > 0 == rows['self', 12]['pairs_real'] and rows['real', 12]['pairs_real'] == 12
    assert rows['real', 12]['dev_bits_per_byte'] is None and rows['real', 12]['epochs'] == 1 and rows['real', 12]['target_tokens'] > 12
    assert rows['real', 12]['learner'] == {'model': 'openai:tiny-llama', 'n_epochs': 1, 'batch_size': 6, 'max_tokens': 8, 'shots': 1, 'server': 'local'}
    kept = json.loads(gzip.decompress((folder/'out'/'predictions'/f'{rows["real", 12]["key"]}.json.gz').read_bytes()))
    assert kept['hypotheses'] == kept['last'] and len(kept['last']) == 6

def test_each_size_goes_on_from_the_model_of_the_size_before(done):
    jobs = done[2].rows('jobs')
    assert Counter(j['status'] for j in jobs) == {'succeeded': 4} and {j['seed'] for j in jobs} == {3}
    assert Counter(j['model'] == 'tiny-llama' for j in jobs) == {True: 2, False: 2}
    assert {j['model'] for j in jobs} - {'tiny-llama'} <= {j['fine_tuned_model'] for j in jobs}

def test_the_key_is_in_no_file(done):
    _, folder, server = done
    assert server.keys == {f'Bearer {KEY}'}
    for name in ('out', 'store'): assert 'secretsecret' not in texts_below(folder/name) and texts_below(folder/name)
    assert not (folder/'default'/'answers').exists() # all answers are in the study's own store

def test_what_is_paid_and_the_way_there_name_no_row(done):
    study, folder, _ = done
    moved = small('http://127.0.0.1:9/v1', learner={**study.learner, 'base_url': 'http://localhost:1/v1', 'price': 8.0, 'prices': [1, 2], 'every': 9.0})
    assert not any(plan(moved, Data(moved), folder/'out'))
    for change in ({'n_epochs': 2}, {'batch_size': 3}, {'max_tokens': 9}, {'base_url': 'https://example.org/v1'}):
        other = replace(study, learner={**study.learner, **change})
        assert not {job_key(other, Data(other), 'student', arm, 12, 3) for arm in study.arms} & {r['key'] for r in read_rows(folder/'out'/'rows.jsonl')}

@pytest.mark.parametrize('change,same', [({'temperature': .5, 'method': 'sample'}, False), ({'shots': 2}, False), ({'style': 'completion'}, False), ({'keep': []}, False), ({'prices': [1, 2], 'concurrency': 2}, True)])
def test_how_a_teacher_is_asked_names_its_rows(done, change, same):
    study = done[0]
    other = replace(study, teachers={'self': {**study.teachers['self'], **change}})
    assert (job_key(study, Data(study), 'student', 'self', 12, 3) == job_key(other, Data(other), 'student', 'self', 12, 3)) == same

def test_planning_and_estimating_ask_nobody(done, tmp_path):
    study = small('http://127.0.0.1:9/v1', learner={**done[0].learner, 'price': 8.0, 'prices': [3, 6]})
    data = Data(study)
    jobs = [j for phase in plan(study, data, tmp_path) for j in phase]
    assert jobs[-1][0] == 'student' and ('generation', 'self', 'self', 3) in jobs and speed(study, data) is None and seconds_of(study, data, jobs) == {}
    found = {row['what']: row for row in costs(study, data, jobs, Store(tmp_path))}
    assert found['tuning, real']['number'] == 2 and found['targets of self']['number'] == 14 and found['test of what was tuned']['number'] == 4*6
    assert 0 < found['tuning, real']['dollars'] < found['tuning, real']['at_most'] and found['all']['at_most'] is None # the teacher has no prices

class Stopped(Exception): "As an interrupt, but told apart from one"

def test_a_study_that_was_stopped_pays_for_no_second_job(tmp_path, llama, monkeypatch):
    looks, look = [], tuning_api._look
    def stopping(*args):
        looks.append(1)
        if len(looks) in (1, 3): raise Stopped # while the first job is followed, and again
        return look(*args)
    monkeypatch.setattr(tuning_api, '_look', stopping)
    with serving(tmp_path/'server', llama) as server:
        study, store = small(server.url), Store(tmp_path/'store')
        for _ in range(2):
            with pytest.raises(Stopped): run_study(study, tmp_path/'out', store, workers=1)
        run_study(study, tmp_path/'out', store, workers=1)
        assert not any(plan(study, Data(study), tmp_path/'out'))
        assert len(server.rows('jobs')) == 4 == server.asked['POST /v1/fine_tuning/jobs'] and server.asked['POST /v1/files'] == len(server.rows('files'))
        asked = Counter(json.loads(line)['key'] for p in (tmp_path/'store'/'answers').glob('*.jsonl') for line in p.read_text().splitlines())
        assert server.asked['POST /v1/chat/completions'] == asked.total() == 14 + 4*6 + 6 + 6 # no text twice; zero-shot and teacher:self are one

def test_a_provider_that_closes_and_opens_again(tmp_path, llama, monkeypatch):
    monkeypatch.setattr(tuning_api, '_FIRST_WAIT', .001)
    store, first = Store(tmp_path/'store'), serving(tmp_path/'server', llama)
    study = small(first.url, arms={'real': {}}, teachers={}, sizes=[10])
    with first:
        first.hold()
        ended = []
        def run():
            try: run_study(study, tmp_path/'out', store, workers=1)
            except InputError as e: ended.append(str(e))
        thread = threading.Thread(target=run)
        thread.start()
        while not first.rows('jobs') or not list((tmp_path/'store').rglob('examples.jsonl.events.jsonl')): threading.Event().wait(.02)
    thread.join(60)
    assert ended and 'Call again' in ended[0]
    with serving(tmp_path/'server', llama, port=first.port) as second:
        second.hold(False)
        run_study(study, tmp_path/'out', store, workers=1)
        assert len(second.rows('jobs')) == 1 == len(second.rows('files')) and not any(plan(study, Data(study), tmp_path/'out'))

def test_a_bar_ends_the_waiting(tmp_path, llama):
    "So a worker process hears of an interrupt in the middle of a job of hours"
    class Bar:
        def update(self, n): raise KeyboardInterrupt
    with serving(tmp_path/'server', llama) as server:
        server.hold()
        learner, pool = learner_of({'model': 'openai:tiny-llama', 'base_url': server.url}), load_corpus('bible', n=12)
        with pytest.raises(KeyboardInterrupt): learner.train(pool, None, tmp_path, 0, bar=Bar())

def test_an_answer_that_did_not_come_ends_the_study(tmp_path, llama):
    with serving(tmp_path/'server', llama, faults={'POST /v1/chat/completions': ['400']}) as server:
        study = small(server.url)
        with pytest.raises(InputError, match='1 of 14 sources have no answer, such as bible/'): Data(study).texts('self', Store(tmp_path/'store'))
        assert len(Data(study).texts('self', Store(tmp_path/'store'))) > 0 and server.asked['POST /v1/chat/completions'] == 15

def test_a_key_that_is_missing_is_told_before_anything_is_computed(tmp_path, monkeypatch):
    monkeypatch.delenv('OPENAI_API_KEY', raising=False)
    monkeypatch.setenv('REGURGITATION_STORE', str(tmp_path/'store'))
    for study in (small('https://api.example.org/v1'), small('http://127.0.0.1:9/v1', teachers={'self': {'generator': 'openai:gpt-4'}})):
        with pytest.raises(InputError, match='OPENAI_API_KEY is not set'): run_study(study, tmp_path/'out', Store(tmp_path/'store'), workers=1)
    from typer.testing import CliRunner
    from regurgitation.cli import app
    ended = CliRunner().invoke(app, ['run', 'paper', '--out', str(tmp_path/'out')])
    assert ended.exit_code == 2 and 'OPENAI_API_KEY is not set' in ' '.join(ended.output.split()) and not (tmp_path/'out').exists() and not (tmp_path/'store'/'training').exists()

def test_a_budget_that_would_be_passed_is_told_with_the_arm(tmp_path, llama):
    with serving(tmp_path/'server', llama) as server:
        study = small(server.url)
        study = replace(study, learner={**study.learner, 'price': 8.0, 'budget': 1e-4})
        jobs = [j for phase in plan(study, Data(study), tmp_path/'out') for j in phase]
        with pytest.raises(InputError, match=r'arm real, 12 pairs: .* its budget is 0.0001. Nothing was sent'): costs(study, Data(study), jobs)
        with pytest.raises(InputError, match='examples.jsonl: 1 epochs cost about'): run_study(study, tmp_path/'out', Store(tmp_path/'store'), workers=1)
        assert not server.rows('files') and not server.rows('jobs')

def test_the_papers_preset_is_a_study(monkeypatch):
    study = load_study('paper')
    assert set(study.arms) == {'real', 'self', 'gpt-4', 'llama-2'} and study.sizes == list(range(1000, 10001, 1000)) and isinstance(study.learns(study.learner), Served)
    assert baselines(study)[:3] == ['copy', 'zero-shot', 'few-shot'] and load_study('paper', limit=20).sources == 20
    monkeypatch.setenv('OPENAI_API_KEY', KEY)
    check_keys(study)

def test_a_causal_teacher_is_known_before_it_is_loaded(llama, tmp_path):
    teacher, pool = {'generator': f'causal:{llama}', 'style': 'chat', 'shots': 1, 'max_tokens': 4, 'slots': 4}, load_corpus('bible', n=3, max_words=12)
    dev = load_corpus('bible', split='dev', n=3, max_words=12)
    planned, loaded = (asking(teacher, dev, languages=('English', 'English'), store=Store(tmp_path), load=load) for load in (False, True))
    assert planned.config() == loaded.config() and not hasattr(planned.writer, 'model') and len(planned.shots) == 1
    study = Study('causal', 'What?', {'real': {}, 'weak': {'teacher': 'weak'}}, [10], [0], {'weak': teacher}, corpus_options={'max_words': 12}, sources=12, test_pairs=6, dev_pairs=6,
                  learner={'d_model': 32, 'vocab_size': 300, 'epochs': 1, 'precision': 'float32'})
    run_study(study, tmp_path/'out', Store(tmp_path/'store'), workers=1)
    assert {r['arm'] for r in read_rows(tmp_path/'out'/'rows.jsonl')} == {'real', 'weak', 'copy', 'untrained', 'teacher:weak'}

WRONG = [({'generator': 'gpt-4'}, 'teacher self: .*expected causal:MODEL or openai:MODEL'), ({'generator': 'openai:gpt-4', 'temprature': 1}, "no 'temprature'. Known: temperature"), ({'generater': 'openai:gpt-4'}, "no field 'generater'"),
         ({'recorded': 'GPT-4', 'generator': 'openai:gpt-4'}, 'recorded and generator in one table'), ({'recorded': 'GPT-4', 'shots': 2}, "recorded takes no 'shots'"), ({'pairs': 100}, 'its teachers are not tuned'), ({'generator': 'openai:gpt-4', 'store': 'x'}, "takes no 'store'")]

@pytest.mark.parametrize('teacher,message', WRONG)
def test_a_wrong_teacher_is_told_with_its_name(teacher, message):
    with pytest.raises(InputError, match='study served, ' + ('teacher self.*' if 'teacher self' not in message else '') + message): small('http://127.0.0.1:9/v1', teachers={'self': teacher})

def test_a_study_says_for_how_many_sources_it_asks_and_arms_do_not_decode_for_it():
    study = small('http://127.0.0.1:9/v1')
    with pytest.raises(InputError, match='teacher self: is asked for the targets of all sources'): replace(study, sources=None)
    with pytest.raises(InputError, match='arm self: temperature is of trained teachers'): replace(study, arms={'self': {'teacher': 'self', 'temperature': .5}})

@pytest.mark.parametrize('settings,message', [({'n_epochs': 0}, 'n_epochs 0'), ({'batch_size': 'large'}, "batch_size 'large'"), ({'budget': 5}, 'needs a price'), ({'base_url': 'https://me:secret@example.org/v1'}, 'no user, password'),
                                              ({'api_key_env': KEY}, "a variable's name in capitals"), ({'epochs': 2}, "no field 'epochs'"), ({'d_model': 64}, "no field 'd_model'")])
def test_settings_of_a_served_learner(settings, message):
    with pytest.raises(InputError, match=message) as e: learner_of({'model': 'openai:gpt-3.5-turbo', **settings})
    assert 'secret' not in str(e.value)

def test_one_command_from_a_file_to_a_report(tmp_path, llama, monkeypatch):
    "Two worker processes; the price is printed before, the report is drawn after"
    from typer.testing import CliRunner
    from regurgitation.cli import app
    for name, value in {'REGURGITATION_STORE': str(tmp_path/'store'), 'COLUMNS': '80', 'NO_COLOR': '1', 'OPENAI_API_KEY': KEY}.items(): monkeypatch.setenv(name, value)
    with serving(tmp_path/'server', llama) as server:
        told = f'base_url = "{server.url}"\nmax_tokens = 8\nprices = [3, 6]\n'
        (tmp_path/'study.toml').write_text(f'name = "served"\nquestion = "What?"\nsizes = [10]\nseeds = [0]\nsources = 14\ntest_pairs = 6\ndev_pairs = 6\ncorpus_options = {{max_words = 12}}\n[arms.real]\n[arms.self]\nteacher = "self"\n'
            f'[teachers.self]\ngenerator = "openai:tiny-llama"\n{told}[learner]\nmodel = "openai:tiny-llama"\nn_epochs = 1\nevery = 0.1\nprice = 8.0\nbudget = 5.0\nshots = 1\n{told}')
        ended = CliRunner().invoke(app, ['run', str(tmp_path/'study.toml'), '--out', str(tmp_path/'out'), '--workers', '2'])
    said = ' '.join(ended.output.split())
    assert ended.exit_code == 0 and (tmp_path/'out'/'report.html').exists() and len(read_rows(tmp_path/'out'/'rows.jsonl')) == 6, ended.output
    assert 'nobody here can tell how long the provider takes' in said and 'tuning, self 1' in said and 'Some prices' not in said and KEY not in said + texts_below(tmp_path/'out')
