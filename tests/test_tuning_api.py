"The fine-tuning client against a server that trains for real, goes wrong as told, and counts what it was asked; clients and servers are killed at every step"
import itertools, json, logging, math, multiprocessing, os, re, signal, socket, threading, time

import pytest
pytest.importorskip('fastapi')
pytest.importorskip('uvicorn')

from regurgitation import tuning_api
from regurgitation.answers import whole_lines
from regurgitation.core import InputError, Store, make_pool, raises, read_jsonl
from regurgitation.generation import load_generator
from regurgitation.server import Server
from regurgitation.tuning_api import cancel_tuning, check_examples, estimate_tuning, follow_tuning, start_tuning, tune, tuned_model, write_examples
from tuning_server import TuningServer, tiny_llama

KEY = 'sk-proj-Zx81secretsecret42'
GERMAN = ['Ich habe keine Zeit.', 'Das Wasser ist kalt.', 'Der Weg ist weit.', 'Wo ist der Bahnhof?', 'Meine Großmutter hat mir dieses Buch geschenkt.', 'Der Zug hatte zwei Stunden Verspätung.',
          'Es regnet seit gestern.', 'Sie liest jeden Abend.', 'Wir fahren morgen nach Berlin.', 'Das Brot ist frisch.', 'Er spricht kein Englisch.', 'Die Regierung hat neue Maßnahmen angekündigt.']
ENGLISH = ['I have no time.', 'The water is cold.', 'It is a long way.', 'Where is the station?', 'My grandmother gave me this book.', 'The train was two hours late.',
           'It has been raining since yesterday.', 'She reads every evening.', 'We are going to Berlin tomorrow.', 'The bread is fresh.', 'He does not speak English.', 'The government has announced new measures.']
TINY = dict(lr=1e-3, frozen_embedding=False, precision='float32')
QUICK = dict(model='tiny-llama', n_epochs=1, batch_size=6)

def pairs(mark='', n=12): return make_pool([dict(id=f'pair/{i}', source=s + mark, target=t + mark) for i, (s, t) in enumerate(zip(GERMAN[:n], ENGLISH))])

@pytest.fixture(autouse=True)
def quick(monkeypatch):
    "Tests wait for nobody"
    monkeypatch.setattr(tuning_api, '_FIRST_WAIT', .02)
    monkeypatch.setenv('REGURGITATION_PROGRESS', 'off')

@pytest.fixture(scope='session')
def llama(tmp_path_factory):
    folder = tmp_path_factory.mktemp('models')/'tiny-llama'
    tiny_llama(folder, GERMAN + ENGLISH + ['Translate this text from German into English. Write the translation and nothing else.\n\n']*9)
    return folder

def serving(folder, llama, **options):
    "A server whose models are the tiny Llama and what is tuned from it"
    folder.mkdir(exist_ok=True)
    if not (folder/'tiny-llama').exists(): (folder/'tiny-llama').symlink_to(llama)
    return TuningServer(folder, **{'tuning': TINY, **options})

def written(path, mark='', n=12):
    write_examples(pairs(mark, n), 'translation', path)
    return path

def made(server): # files, jobs
    return len(server.rows('files')), len(server.rows('jobs'))

def test_from_a_pool_to_a_translation(tmp_path, llama):
    "Everything comes through OpenAI's own client; the second call of everything asks nobody"
    with serving(tmp_path/'server', llama) as server:
        here, path = Server(server.url), tmp_path/'human.jsonl'
        model = tune(here, pairs(), path, 'tiny-llama', every=.05, n_epochs=60, batch_size=6, learning_rate_multiplier=10, suffix='human', seed=3)
        job, events = server.rows('jobs')[0], whole_lines(tmp_path/'human.jsonl.events.jsonl')
        assert model == 'ft:tiny-llama:local:human:1' == job['fine_tuned_model'] and job['seed'] == 3
        assert job['hyperparameters'] == {'n_epochs': 60, 'batch_size': 6, 'learning_rate_multiplier': 10}
        assert [e['step'] for e in events if e['message'].startswith('Step')] == list(range(1, 121)) and [e['id'] for e in events] == [e['id'] for e in server.events(job['id'])]
        state = follow_tuning(here, path)
        assert state['tokens'] == job['trained_tokens'] > 60*12*20 and (server.folder/'files'/state['file']).read_bytes() == path.read_bytes()
        before = server.asked.total()
        assert tune(here, pairs(), path, 'tiny-llama', n_epochs=60, batch_size=6, learning_rate_multiplier=10, suffix='human', seed=3) == model and server.asked.total() == before
        generator = load_generator(f'openai:{model}', base_url=server.url, store=Store(tmp_path/'store'), max_tokens=24)
        translated = dict(zip(GERMAN, ENGLISH))
        out = generator.generate(pairs())
        assert sum(t == translated[s] for s, t in zip(out['source'][:], out['target'][:])) >= 9
        assert server.asked['POST /v1/chat/completions'] == 12 and all('OpenAI/Python' in agent for agent in server.agents)

def test_more_data_for_the_model_of_the_job_before(tmp_path, llama):
    with serving(tmp_path/'server', llama) as server:
        here, model, losses = Server(server.url), 'tiny-llama', []
        for i in range(3):
            model = tune(here, pairs(), tmp_path/f'{i}.jsonl', model, every=.02, n_epochs=5, learning_rate_multiplier=3)
            losses.append(whole_lines(tmp_path/f'{i}.jsonl.events.jsonl')[-2]['train_loss'])
        assert losses[0] > losses[1] > losses[2] and [j['model'] for j in server.rows('jobs')][::-1] == ['tiny-llama', 'ft:tiny-llama:local::1', 'ft:tiny-llama:local::2']
        assert made(server) == (1, 3) # the same examples go up once

def test_examples_are_the_prompts_of_generation(tmp_path):
    pool, shots = pairs(), make_pool([dict(id='shot/0', source='Der Hund schläft.', target='The dog is\n asleep.')])
    for task, origin in (('translation', 'target'), ('back-translation', 'source')):
        for few in (None, shots):
            assert write_examples(pool, task, tmp_path/'x.jsonl', shots=few) == 12 == check_examples(tmp_path/'x.jsonl')
            asked = load_generator('openai:gpt-3.5-turbo', shots=few).prompts(pool, task)
            rows = [r['messages'] for r in read_jsonl(tmp_path/'x.jsonl')]
            assert [r[:-1] for r in rows] == [p['messages'] for p in asked] and [r[-1] for r in rows] == [{'role': 'assistant', 'content': t} for t in pool[origin][:]]
    assert rows[0][1]['content'] == 'Der Hund schläft.'
    for task in ('translation', 'back-translation'): # what a job needs to know it again
        write_examples(pool, task, tmp_path/'x.jsonl', ('German', 'English'))
        assert ('from German into English' if task == 'translation' else 'from English into German') in (tmp_path/'x.jsonl').read_text()

FAULTY = {'is not JSON': lambda line: line[:90], 'is not JSON (\'utf-8\'': lambda line: line.encode()[:-20] + b'\xff', 'has no "messages"': lambda line: '{"prompt": "Der Hund"}', 'has no "messages": expected': lambda line: '[]',
          "by 'robot'": lambda line: line.replace('assistant', 'robot'), 'weight 5': lambda line: line.replace('"assistant"', '"assistant", "weight": 5'), 'empty message by the assistant': lambda line: line.replace(ENGLISH[4], '\\n '), 'ends with the user': lambda line: re.sub(r', {"role": "assistant".*?}', '', line),
          'no message by the user': lambda line: line.replace('"user"', '"system"'), 'about 20,': lambda line: line.replace('Buch', 'Buch'*15_000), 'repeats line 4': None, "by 'str'": lambda line: '{"messages": ["user"]}',
          'empty message by the user': lambda line: re.sub('Translate.*?geschenkt.', '', line), 'is not JSON (Expecting value': lambda line: ''}

@pytest.mark.parametrize('what', FAULTY)
def test_a_faulty_line_is_named_before_anything_is_sent(tmp_path, what):
    lines = written(tmp_path/'x.jsonl').read_text().splitlines()
    lines[4] = FAULTY[what](lines[4]) if FAULTY[what] else lines[3]
    (tmp_path/'x.jsonl').write_bytes(b'\n'.join(l if isinstance(l, bytes) else l.encode() for l in lines))
    message = raises(InputError, start_tuning, Server('http://127.0.0.1:9/v1'), tmp_path/'x.jsonl', **QUICK)
    assert 'x.jsonl: line 5 ' in message and what in message and message.count('\n') == 0
    assert not (tmp_path/'x.jsonl.state').exists()

def test_files_that_cannot_be(tmp_path, monkeypatch):
    with monkeypatch.context() as m:
        m.setattr(tuning_api, '_LARGEST', 100)
        assert 'the provider takes 100. Take fewer' in raises(InputError, check_examples, written(tmp_path/'x.jsonl'))
    assert 'it has 9 lines' in raises(InputError, check_examples, written(tmp_path/'x.jsonl', n=9))
    assert 'no such file' in raises(InputError, check_examples, tmp_path/'y.jsonl')
    (tmp_path/'z.jsonl').write_text('{"mess\n'*20)
    assert raises(InputError, check_examples, tmp_path/'z.jsonl').count('line ') >= 5 and 'and 15 more' in raises(InputError, check_examples, tmp_path/'z.jsonl')
    twice = (tmp_path/'x.jsonl').read_text()*2
    (tmp_path/'x.jsonl').write_text(twice)
    assert 'line 10 repeats line 1' in raises(InputError, check_examples, tmp_path/'x.jsonl') and check_examples(tmp_path/'x.jsonl', repeats=True) == 18
    for wrong in (dict(n_epochs=0), dict(n_epochs='auto'), dict(batch_size=2.5), dict(learning_rate_multiplier=-1), dict(learning_rate_multiplier=float('inf')), dict(seed=-1), dict(suffix='x'*65)):
        assert str(list(wrong)[0]) in raises(InputError, start_tuning, Server('http://127.0.0.1:9/v1'), tmp_path/'x.jsonl', 'gpt-3.5-turbo', **wrong)

def test_the_provider_finds_what_we_did_not_and_the_reason_is_told(tmp_path, llama, monkeypatch):
    monkeypatch.setattr(tuning_api, 'check_examples', lambda *args: None)
    with serving(tmp_path/'server', llama) as server:
        here, path = Server(server.url), written(tmp_path/'x.jsonl', n=9)
        start_tuning(here, path, **QUICK)
        for _ in range(2): # the second time from our note
            message = raises(InputError, follow_tuning, here, path, every=.02)
            assert 'ftjob-1 failed: Training file has 9 example(s), but must have at least 10 examples (invalid_training_file)' in message and 'x.jsonl.state' in message
        assert 'failed' in raises(InputError, tuned_model, path) and start_tuning(here, path, **QUICK) == 'ftjob-1'
        (tmp_path/'x.jsonl.state').unlink()
        assert start_tuning(here, path, **QUICK) == 'ftjob-2' and made(server) == (1, 2) # a job that failed is not taken for a new one
        assert 'does not exist' in raises(InputError, start_tuning, here, written(tmp_path/'y.jsonl'), 'gpt-5-tiny')

def test_a_budget_is_asked_before_anything_is_sent(tmp_path, llama):
    with serving(tmp_path/'server', llama) as server:
        server.hold()
        here, path = Server(server.url), written(tmp_path/'x.jsonl')
        cost = estimate_tuning(path, 2, price=8.0)
        assert cost['dollars_at_most'] == round(cost['tokens_at_most']*8e-6, 4) > cost['dollars'] == round(cost['tokens']*8e-6, 4) and cost['tokens'] == 2*estimate_tuning(path, 1)['tokens']
        less = cost['dollars_at_most'] - .0001
        message = raises(InputError, start_tuning, here, path, 'tiny-llama', 2, price=8.0, budget=less)
        assert f'{cost["dollars_at_most"]} at most' in message and 'Nothing was sent' in message
        assert 'needs a price' in raises(InputError, start_tuning, here, path, 'tiny-llama', budget=10)
        assert server.asked.total() == 0 and not (tmp_path/'x.jsonl.state').exists()
        assert start_tuning(here, path, 'tiny-llama', 2, price=8.0, budget=cost['dollars_at_most']) == 'ftjob-1'

def test_the_bound_holds_for_the_tokens_that_were_trained(tmp_path, llama):
    with serving(tmp_path/'server', llama) as server:
        tune(Server(server.url), pairs(), tmp_path/'x.jsonl', every=.02, **QUICK)
        assert server.rows('jobs')[0]['trained_tokens'] <= estimate_tuning(tmp_path/'x.jsonl', 1)['tokens_at_most']

def test_cancelling(tmp_path, llama):
    with serving(tmp_path/'server', llama) as server:
        server.hold()
        here, path = Server(server.url), written(tmp_path/'x.jsonl')
        assert 'no job' in raises(InputError, cancel_tuning, here, path) and 'no job' in raises(InputError, follow_tuning, here, path) and 'not there' in raises(InputError, tuned_model, path)
        start_tuning(here, path, **QUICK)
        assert 'not seen ended' in raises(InputError, tuned_model, path)
        assert cancel_tuning(here, path) == cancel_tuning(here, path) == 'cancelled' == follow_tuning(here, path)['status']
        assert server.asked['POST /v1/fine_tuning/jobs/ID/cancel'] == 1 and 'cancelled' in raises(InputError, tuned_model, path)
        server.hold(False)
        (tmp_path/'x.jsonl.state').unlink()
        tune(here, pairs(), path, every=.02, **QUICK)
        assert cancel_tuning(here, path) == 'succeeded' and made(server) == (1, 2)
        assert [j['status'] for j in server.rows('jobs')] == ['succeeded', 'cancelled']

def test_a_job_is_cancelled_while_it_trains(tmp_path, llama):
    with serving(tmp_path/'server', llama) as server:
        here, path = Server(server.url), written(tmp_path/'x.jsonl')
        start_tuning(here, path, **{**QUICK, 'n_epochs': 10_000})
        while not any(e['message'].startswith('Step') for e in server.events('ftjob-1')): time.sleep(.02)
        assert cancel_tuning(here, path) == 'cancelled'
        tune(here, pairs('!'), tmp_path/'y.jsonl', every=.02, **QUICK) # its turn comes
        assert [j['status'] for j in server.rows('jobs')] == ['succeeded', 'cancelled']

FILES, JOBS = '/v1/files', '/v1/fine_tuning/jobs'
def test_faults_of_every_kind_and_all_is_made_once(tmp_path, llama):
    wrong = ['429:0.05', '500', 'silent', '503', 'html', 'dropped']
    faults = {f'GET {FILES}': wrong[:1], f'POST {FILES}': wrong, f'GET {JOBS}': wrong[1:2], f'POST {JOBS}': wrong, f'GET {JOBS}/ID': wrong, f'GET {JOBS}/ID/events': wrong}
    with serving(tmp_path/'server', llama, faults=faults) as server:
        model = tune(Server(server.url), pairs(), tmp_path/'x.jsonl', every=.02, **QUICK)
        assert made(server) == (1, 1) and model == 'ft:tiny-llama:local::1'
        assert all(next(left, None) is None for left in server.faults.values())
        assert server.asked[f'POST {FILES}'] == server.asked[f'POST {JOBS}'] == 6 # the last one was carried out, unheard, and found

def test_what_waiting_does_not_mend_ends_the_call(tmp_path, llama):
    for fault, said in (('401', 'OPENAI_API_KEY'), ('403', 'OPENAI_API_KEY'), ('400', 'something went wrong')):
        with serving(tmp_path/'server', llama, faults={f'GET {FILES}': [fault]}) as server:
            assert said in raises(InputError, start_tuning, Server(server.url), written(tmp_path/f'{fault}.jsonl'), **QUICK) and server.asked.total() == 1
    message = raises(InputError, start_tuning, Server('http://127.0.0.1:9/v1'), written(tmp_path/'x.jsonl'), **QUICK) # nobody listens there
    assert '8 tries' in message and 'Call again' in message

def test_pages_of_a_long_list(tmp_path, llama):
    with serving(tmp_path/'server', llama, most=2) as server:
        server.hold()
        here = Server(server.url)
        paths = [written(tmp_path/f'{i}.jsonl', '!'*i) for i in range(6)]
        ids = [start_tuning(here, p, **QUICK) for p in paths]
        for p in paths: (p.parent/f'{p.name}.state').unlink()
        assert [start_tuning(here, p, **QUICK) for p in paths] == ids and made(server) == (6, 6) # the state was lost, and nothing else
        assert server.asked[f'POST {JOBS}'] == 6

def test_a_look_asks_for_no_page_behind_what_it_has_seen(tmp_path, llama):
    with serving(tmp_path/'server', llama, most=2) as server:
        here, path = Server(server.url), written(tmp_path/'x.jsonl')
        tune(here, pairs(), path, every=.02, **QUICK)
        file, told = tmp_path/'x.jsonl.events.jsonl', [e['id'] for e in server.events('ftjob-1')]
        lines = file.read_text().splitlines(True)
        for kept, pages in ((lines, 1), (lines[:1], math.ceil(len(told)/2)), ([], math.ceil(len(told)/2))): # all was seen; a stop came behind the first one; nothing was
            file.write_text(''.join(kept))
            before = server.asked[f'GET {JOBS}/ID/events']
            with here.client('OpenAI') as client: tuning_api._look(here, client, path, None)
            assert server.asked[f'GET {JOBS}/ID/events'] - before == pages and [e['id'] for e in whole_lines(file)] == told and len(told) > 4

def test_other_settings_and_other_examples_are_refused(tmp_path, llama):
    with serving(tmp_path/'server', llama) as server:
        server.hold()
        here, path = Server(server.url), written(tmp_path/'x.jsonl')
        start_tuning(here, path, **QUICK)
        assert 'n_epochs 1, and 2 is asked for' in raises(InputError, start_tuning, here, path, **{**QUICK, 'n_epochs': 2})
        assert 'seed 0, and 1 is asked for' in raises(InputError, start_tuning, here, path, seed=1, **QUICK)
        kept = path.read_bytes()
        assert 'other examples' in raises(InputError, write_examples, pairs('!'), 'translation', path) and path.read_bytes() == kept
        path.write_bytes(kept.replace(b'Wasser', b'Bier'))
        assert 'was changed' in raises(InputError, start_tuning, here, path, **QUICK)

# a client that dies at a given step, before or after it, and its successor

def run_client(url, path, die, what='start'):
    "Start or follow a job; ended by SIGKILL before or after a note or a request; the exit code is 7 where the end was reached"
    steps = itertools.count()
    def deadly(call):
        def step(*args, **kwargs):
            if next(steps) == die: os.kill(os.getpid(), signal.SIGKILL)
            value = call(*args, **kwargs)
            if next(steps) == die: os.kill(os.getpid(), signal.SIGKILL)
            return value
        return step
    from openai._base_client import SyncAPIClient
    SyncAPIClient.request, tuning_api._keep, tuning_api.append_row = map(deadly, (SyncAPIClient.request, tuning_api._keep, tuning_api.append_row))
    os.environ['REGURGITATION_PROGRESS'] = 'off'
    if what == 'start': start_tuning(Server(url), path, **QUICK)
    else: follow_tuning(Server(url), path, every=.05)
    os._exit(7)

def run_server(port, folder):
    with TuningServer(folder, port, tuning=TINY): threading.Event().wait()

CONTEXT = multiprocessing.get_context('forkserver') # processes of their own that need not import everything anew
CONTEXT.set_forkserver_preload(['pytest', 'fastapi', 'uvicorn', 'openai', 'openai.resources.files', 'openai.resources.fine_tuning', 'regurgitation.finetuning', 'regurgitation.generation', 'regurgitation.tuning_api'])

def started(call, *args):
    process = CONTEXT.Process(target=call, args=args)
    process.start()
    return process

def fork(call, *args): # its exit code
    process = started(call, *args)
    process.join()
    return process.exitcode

def test_a_client_killed_at_every_step_of_a_start(tmp_path, llama):
    with serving(tmp_path/'server', llama) as server:
        server.hold()
        for die in itertools.count():
            path = written(tmp_path/f'{die}.jsonl', '!'*die)
            ended = fork(run_client, server.url, path, die)
            if ended == 7: break
            assert ended == -signal.SIGKILL and start_tuning(Server(server.url), path, **QUICK) == f'ftjob-{die + 1}'
            assert made(server) == (die + 1, die + 1), f'killed at step {die}'
        assert die == 2*7 # three notes; two looks, an upload and a start

def test_a_client_killed_at_every_step_of_the_following(tmp_path, llama):
    with serving(tmp_path/'server', llama) as server:
        path = written(tmp_path/'x.jsonl')
        start_tuning(Server(server.url), path, **QUICK)
        ends = []
        while not ends or ends[-1] != 7: ends.append(fork(run_client, server.url, path, len(ends), 'follow'))
        assert set(ends) == {7, -signal.SIGKILL} and len(ends) > 4 and made(server) == (1, 1)
        assert [e['id'] for e in whole_lines(tmp_path/'x.jsonl.events.jsonl')] == [e['id'] for e in server.events('ftjob-1')]
        assert tuned_model(path) == 'ft:tiny-llama:local::1'

def test_two_clients_at_once_start_one_job(tmp_path, llama):
    with serving(tmp_path/'server', llama) as server:
        server.hold()
        path, ids = written(tmp_path/'x.jsonl'), []
        threads = [threading.Thread(target=lambda: ids.append(start_tuning(Server(server.url), path, **QUICK))) for _ in range(4)]
        for t in threads: t.start()
        for t in threads: t.join()
        assert ids == ['ftjob-1']*4 and made(server) == (1, 1)

def test_a_job_that_was_started_unheard_can_be_followed_and_cancelled(tmp_path, llama, monkeypatch):
    monkeypatch.setattr(tuning_api, '_patiently', lambda server, ask, tries=1, bar=None, once=tuning_api._patiently: once(server, ask, 1))
    with serving(tmp_path/'server', llama, faults={f'POST {JOBS}': ['dropped', 'dropped']}) as server:
        here = Server(server.url)
        for name, mark, call, ended in (('x', '', follow_tuning, 'succeeded'), ('y', '!', cancel_tuning, 'cancelled')):
            path = written(tmp_path/f'{name}.jsonl', mark)
            if ended == 'cancelled': server.hold()
            raises(InputError, start_tuning, here, path, **QUICK)
            found = call(here, path, *([.02] if call is follow_tuning else []))
            assert ended in (found, found['status'] if isinstance(found, dict) else '')
        assert made(server) == (2, 2)

# a server that goes down while it is followed

def test_a_server_that_closes_while_it_trains_and_opens_again(tmp_path, llama):
    first, path = serving(tmp_path/'server', llama), written(tmp_path/'x.jsonl')
    with first:
        here = Server(first.url)
        start_tuning(here, path, **{**QUICK, 'n_epochs': 20})
        follower = threading.Thread(target=follow_tuning, args=(here, path, .02, 1000), daemon=True)
        follower.start()
        while len(first.events('ftjob-1')) < 8: time.sleep(.01)
    with serving(tmp_path/'server', llama, port=first.port) as second:
        follower.join(120)
        assert tuned_model(path) == second.rows('jobs')[0]['fine_tuned_model'] and made(second) == (1, 1)
        assert [e['id'] for e in whole_lines(tmp_path/'x.jsonl.events.jsonl')] == [e['id'] for e in second.events('ftjob-1')]

def test_a_server_that_is_killed_and_started_again(tmp_path, llama):
    folder, path = tmp_path/'server', written(tmp_path/'x.jsonl')
    folder.mkdir()
    (folder/'tiny-llama').symlink_to(llama)
    (folder/'hold').touch()
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    here, process = Server(f'http://127.0.0.1:{port}/v1'), started(run_server, port, folder)
    try:
        while 'job' not in tuning_api._state(path): # until it listens
            try: start_tuning(here, path, **QUICK)
            except InputError as e: assert 'Connection' in str(e)
        follower = threading.Thread(target=follow_tuning, args=(here, path, .05, 1000), daemon=True)
        follower.start()
        process.kill(); process.join()
        assert follower.is_alive() and process.exitcode == -signal.SIGKILL
        (folder/'hold').unlink()
        process = started(run_server, port, folder)
        while follower.is_alive() and process.is_alive(): follower.join(.1)
    finally:
        process.kill(); process.join()
    assert tuned_model(path) == 'ft:tiny-llama:local::1' and len(list((folder/'jobs').glob('*.json'))) == 1 == len(list((folder/'files').glob('*.json')))

def test_the_key_appears_nowhere(tmp_path, llama, monkeypatch, caplog, capfd):
    monkeypatch.setenv('SOME_KEY', KEY)
    monkeypatch.setenv('REGURGITATION_PROGRESS', 'on')
    caplog.set_level(logging.DEBUG)
    with serving(tmp_path/'server', llama, gossip=True, faults={f'POST {FILES}': ['echo:400', 'echo:500'], f'GET {JOBS}/ID': ['echo:500', 'echo:403']}) as server:
        here, path = Server(server.url, 'SOME_KEY'), written(tmp_path/'mine'/'x.jsonl')
        errors = [raises(InputError, start_tuning, here, path, **QUICK)]
        start_tuning(here, path, **QUICK)
        errors.append(raises(InputError, follow_tuning, here, path, .02))
        follow_tuning(here, path, every=.02)
        assert server.keys == {f'Bearer {KEY}'} and all('***' in e for e in errors) and KEY in (server.folder/'jobs'/'ftjob-1.events').read_text()
        files = ''.join(p.read_text() for p in (tmp_path/'mine').iterdir())
        seen = json.dumps([errors, caplog.text, *capfd.readouterr()]) + files
        assert '***' in files and KEY not in seen and KEY[8:] not in seen
    monkeypatch.delenv('SOME_KEY')
    assert 'SOME_KEY is not set' in raises(InputError, start_tuning, Server('https://llm.example.org/v1', 'SOME_KEY'), written(tmp_path/'y.jsonl'), **QUICK)
    assert not (tmp_path/'y.jsonl.state').exists()

def test_smollm2_is_tuned_and_translates(tmp_path, shared_data):
    "The whole way with a real model: 20 human pairs of WMT22, an adapter, a translation"
    from regurgitation.corpora import load_corpus
    from regurgitation.models import get_model
    try: get_model('smollm2-135m-instruct')
    except InputError as e: pytest.skip(f'the weights of SmolLM2 cannot be had: {e}')
    corpus = load_corpus('wmt22-de-en', split='train', n=21, seed=0)
    pool, held = corpus.select(range(20)), corpus.select(range(20, 21))
    with TuningServer(tmp_path/'server', tuning=dict(rank=8, lr=3e-4)) as server:
        model = tune(Server(server.url), pool, tmp_path/'wmt.jsonl', 'smollm2-135m-instruct', every=.5, n_epochs=1, batch_size=5)
        steps = [e['step'] for e in whole_lines(tmp_path/'wmt.jsonl.events.jsonl') if e['message'].startswith('Step')]
        made = load_generator(f'openai:{model}', base_url=server.url, store=Store(tmp_path/'store'), max_tokens=24, keep=('truncated', 'language', 'copied')).generate(held)
        assert steps == list(range(1, len(steps) + 1)) and len(steps) >= 3
        assert model == 'ft:smollm2-135m-instruct:local::1' and all(len(t.split()) > 2 for t in made['target'][:]) and set(made['origin'][:]) == {model}
