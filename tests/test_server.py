"A served model against a server that goes wrong in every way it can, and against a real one"
import itertools, json, logging, os, re, signal, socket, subprocess, sys, time
from collections import Counter
from pathlib import Path

import pytest

from faults import FaultServer, written
from regurgitation.core import InputError, raises
from regurgitation.batches import batch_answers, collect_batch, poll_batch, submit_batch, write_batch
from regurgitation.server import ServedModel

KEY = 'sk-proj-Zx81secretsecret42'

def prompts(n, words=6): return [{'id': f'p{i}', 'text': f'Sentence {i}: ' + ' '.join(f'Hund{"e"*(j % 5)}' for j in range(words + i % 3))} for i in range(n)]

def served(server, **options):
    model = ServedModel('dog-7b', server.url, **{'retries': 5, 'timeout': 5, **options})
    model.first_wait = .02 # tests wait for nobody
    return model

def complete(answers, asked):
    "Every prompt answered once, and each by its own text"
    assert Counter(a['id'] for a in answers) == {p['id']: 1 for p in asked}
    found = {a['id']: a for a in answers}
    for p in asked: assert found[p['id']].get('text') == written(p['text'], 128)[0], found[p['id']]

@pytest.mark.parametrize('chat', [True, False])
def test_faults_of_every_kind_and_the_pool_is_complete(chat):
    faults = ['429:0.2', '500', 'half', 'torn', 'silent', 'dropped', '503', None, '408', '409', 'html', 'empty', '429-date:1', '502', '429']*2
    with FaultServer(faults=faults) as server:
        complete(list(served(server, chat=chat, concurrency=4, retries=20).answers(prompts(20), max_tokens=128)), prompts(20))
        assert set(server.answered.values()) == {1} and len(server.times) == 20 + len(faults) - 2

def test_an_answer_comes_as_soon_as_it_is_there():
    with FaultServer(faults=['slow:2']) as server:
        coming = served(server, concurrency=2).answers(prompts(4))
        quick = [next(coming)['id'] for _ in range(3)]
        assert sum(server.answered.values()) == 3 # the slow one is still on its way
        assert {*quick, next(coming)['id']} == {f'p{i}' for i in range(4)}

def test_a_slow_server_times_out_and_is_asked_again():
    with FaultServer(faults=['slow:3']) as server: complete(list(served(server, timeout=1.5).answers(prompts(3), max_tokens=128)), prompts(3))

def test_retry_after_is_honoured_by_all_requests():
    with FaultServer(faults=['429:1']) as server:
        list(served(server, concurrency=1).answers(prompts(3)))
        assert server.times[1] - server.times[0] >= 1

def test_a_server_that_is_killed_midway_and_started_again(tmp_path):
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    def start():
        process = subprocess.Popen([sys.executable, Path(__file__).with_name('faults.py'), str(port), tmp_path/'log'])
        for _ in range(200):
            with socket.socket() as s:
                if s.connect_ex(('127.0.0.1', port)) == 0: return process
            time.sleep(.05)
        raise AssertionError('the server did not start')
    model, process, answers = ServedModel('dog-7b', f'http://127.0.0.1:{port}/v1', concurrency=4), start(), []
    try:
        for a in model.answers(prompts(60), max_tokens=128):
            answers.append(a)
            if len(answers) == 20:
                process.kill()
                process.wait()
                process = start()
    finally:
        process.kill()
        process.wait()
    complete(answers, prompts(60))
    assert len((tmp_path/'log').read_text().splitlines()) >= 60

def test_a_pool_through_every_fault_complete_and_once(tmp_path):
    "From the generator's name to the pool: a budget ends the first run, the second asks for what is missing, the third for nothing"
    from regurgitation.core import Store
    from regurgitation.corpora import load_corpus
    from regurgitation.generation import load_generator
    pool, faults = load_corpus('bible', split='dev', n=30), ['429:0.1', None, '500', 'half', 'torn', None, 'silent', 'dropped', None, 'refuse']
    def run(url, **limits):
        generator = load_generator('openai:dog-7b', base_url=url, concurrency=3, store=Store(tmp_path), languages=('Middle English', 'English'), max_tokens=60, **limits)
        return generator, generator.generate(pool)
    with FaultServer(faults=faults) as server:
        generator, made = run(server.url, budget_tokens=5000)
        assert 0 < len(made) < 29 and server.billed <= 5000 and all('budget' in e for e in generator.report.failures.values())
        assert len(made) + len(generator.report.failures) == 29 # one was refused
        generator, made = run(server.url)
        assert made['id'] == [id for id in pool['id'] if id in made['id']] and len(made) == 29 and not generator.report.failures
        seen = len(server.times)
        assert run(server.url)[1]['target'] == made['target'] and len(server.times) == seen

def test_a_budget_of_tokens_is_never_passed():
    faults = [None, 'half', 'dropped', '500', '429:0.1', 'torn', None, 'silent']*4
    for budget in (300, 1000, 2500):
        with FaultServer(faults=faults) as server:
            model = served(server, budget_tokens=budget)
            answers = list(model.answers(prompts(60), max_tokens=20))
            assert server.billed <= budget and server.billed <= model.budget.spent[0] <= budget and model.budget.held[0] == 0
            assert Counter(a['id'] for a in answers) == {p['id']: 1 for p in prompts(60)}
            assert all('budget' in a['error'] for a in answers if 'error' in a) and len({a['error'] for a in answers if 'error' in a}) == 1

def test_a_budget_is_used_up_to_less_than_one_request():
    with FaultServer() as server:
        list(served(server, budget_tokens=2000).answers(prompts(200), max_tokens=20))
        assert 2000 - server.billed < 64 + 128 + 80 + 20

def test_a_budget_of_money_is_never_passed():
    with FaultServer() as server:
        model = served(server, budget_money=.002, prices=(1, 2))
        answers = list(model.answers(prompts(60), max_tokens=20))
        money = sum(a['prompt_tokens'] + 2*a['tokens'] for a in answers if 'text' in a)/1e6
        assert .0017 < money <= .002 and abs(money - model.budget.spent[1]) < 1e-12
        assert 'dollars' in next(a['error'] for a in answers if 'error' in a)
        assert 'budget' in raises(InputError, write_batch, model, '/tmp/never-written.jsonl', prompts(60))

def test_the_limit_of_requests_in_flight():
    with FaultServer(delay=.05) as server:
        list(served(server, concurrency=3).answers(prompts(20)))
        assert server.most == 3

def test_limits_of_requests_and_tokens_in_a_minute():
    with FaultServer() as server:
        list(served(server, requests_per_minute=600).answers(prompts(16)))
        for t in server.times: assert sum(t <= u < t + 1 for u in server.times) <= 14 # ten a second, the one at the edge, and what a busy machine delays
        assert server.times[-1] - server.times[0] > 1.4
    with FaultServer() as server: # a request holds at most 30 + 20 tokens
        list(served(server, tokens_per_minute=60_000).answers(prompts(40), max_tokens=20))
        assert server.times[-1] - server.times[0] > 40*20/1000 and server.billed/(server.times[-1] - server.times[0]) < 1000*1.5

def test_refusals_and_ends():
    with FaultServer(faults=['refuse', 'filter', 'filtered', 'keepstop', 'nousage', 'tool']) as server:
        found = {a['id']: a for a in served(server, concurrency=1).answers(prompts(7), max_tokens=8)}
        assert [found[f'p{i}'].get('finish') for i in range(3)] == ['refused']*3 and found['p0']['text'] == 'I will not translate this.'
        assert '\n' not in found['p3']['text'] and found['p4']['tokens'] > 0 and 'tool_calls' in found['p5']['error']
        assert found['p6']['finish'] == 'stop' and list(served(server).answers(prompts(1), max_tokens=3))[0]['finish'] == 'length'

@pytest.mark.parametrize('chat', [True, False])
def test_scores_where_the_server_gives_them(chat):
    with FaultServer() as server:
        answer, = served(server, chat=chat, top_logprobs=3).answers(prompts(1), scores=True)
        assert answer['logprobs'] == [-0.7]*len(answer['token_texts']) and all(0 < h < 2 for h in answer['entropies_at_least'])
        answer, = served(server, chat=chat).answers(prompts(1))
        assert 'logprobs' not in answer

def test_decoding_goes_into_the_request():
    with FaultServer() as server:
        model = served(server, extra={'stop': None, 'generation_config': '{}'})
        list(model.answers(prompts(2), method='sample', temperature=.7, top_p=.9, seed=3, max_tokens=11))
        a, b = server.bodies
        assert a['temperature'] == .7 and a['top_p'] == .9 and a['max_tokens'] == 11 and a['seed'] != b['seed'] and 'stop' not in a and a['generation_config'] == '{}'
        list(model.answers(prompts(1)))
        assert server.bodies[2]['temperature'] == 0 and 'seed' not in server.bodies[2]
        assert 'beam' in raises(InputError, model.answers, prompts(1), method='beam')
        assert 'chat=True' in raises(InputError, served(server, chat=False).answers, [{'id': '1', 'messages': []}])

def test_what_concerns_all_prompts_ends_the_call():
    with FaultServer(faults=['401']) as server: assert 'OPENAI_API_KEY' in raises(InputError, lambda: list(served(server).answers(prompts(50))))
    with FaultServer(faults=['quota']) as server: assert 'account' in raises(InputError, lambda: list(served(server).answers(prompts(50))))
    with FaultServer(model='dog-70b') as server:
        assert 'Near: dog-70b' in raises(InputError, lambda: list(served(server).answers(prompts(50))))
        assert len(server.times) <= 8
    with FaultServer(faults=['422']*1000) as server:
        assert '20 requests in a row' in raises(InputError, lambda: list(served(server).answers(prompts(50))))
    with FaultServer(faults=['422', '422', None]*7) as server: assert len(list(served(server).answers(prompts(21)))) == 21 # but not where some succeed
    assert 'tries' in list(ServedModel('m', 'http://127.0.0.1:9/v1', retries=1).answers(prompts(1)))[0]['error'] # nobody listens there

def test_the_key_appears_nowhere(monkeypatch, caplog, capfd, tmp_path):
    monkeypatch.setenv('SOME_KEY', KEY)
    caplog.set_level(logging.DEBUG)
    with FaultServer(faults=['echo:400', 'echo:500', 'echo:422', None, 'half']) as server:
        model = served(server, api_key_env='SOME_KEY', concurrency=1, retries=1)
        answers = list(model.answers(prompts(6)))
        assert f'Bearer {KEY}' in server.keys # it was used
        server.faults = iter(['echo:401', 'echo:403'])
        errors = [raises(InputError, lambda: list(model.answers(prompts(1)))) for _ in range(2)]
        write_batch(model, tmp_path/'b.jsonl', prompts(4))
        submit_batch(model, tmp_path/'b.jsonl')
        told = '***' in json.dumps(answers) and 'SOME_KEY' in errors[0]
        seen = json.dumps([answers, errors, model.facts, repr(model), repr(vars(model)), caplog.text, *capfd.readouterr()]) + ''.join(p.read_text() for p in tmp_path.iterdir())
        assert told and KEY not in seen and KEY[8:] not in seen
    for value in (KEY + '\nx', KEY + ' x', KEY + 'ü'):
        monkeypatch.setenv('SOME_KEY', value)
        message = raises(InputError, model.answers, prompts(1))
        assert 'SOME_KEY' in message and KEY not in message
    monkeypatch.delenv('SOME_KEY')
    assert 'SOME_KEY is not set' in raises(InputError, ServedModel('m', 'https://llm.example.org/v1', 'SOME_KEY').answers, prompts(1))
    for bad in (dict(api_key_env=KEY), dict(base_url=f'https://me:{KEY}@llm.example.org/v1'), dict(base_url=f'https://llm.example.org/v1?key={KEY}')):
        assert KEY not in raises(InputError, ServedModel, 'm', **bad)

def test_a_traceback_shows_no_key():
    code = f"""from regurgitation.server import ServedModel
import sys
list(ServedModel('dog-7b', sys.argv[1], 'SOME_KEY').answers([{{'id': '1', 'text': 'Der Hund'}}]))"""
    with FaultServer(faults=['echo:403']) as server:
        run = subprocess.run([sys.executable, '-c', code, server.url], env={**os.environ, 'SOME_KEY': KEY, 'OPENAI_LOG': 'debug'}, capture_output=True, text=True, timeout=60)
    assert run.returncode and 'InputError: 403' in run.stderr and KEY not in run.stderr + run.stdout

@pytest.mark.parametrize('how', ['leave', 'interrupt'])
def test_leaving_cancels_the_rest(how):
    code = """from regurgitation.server import ServedModel
import sys, threading
seen = []
try:
    for a in ServedModel('dog-7b', sys.argv[1], concurrency=4).answers([{'id': str(i), 'text': 'Der Hund'} for i in range(500)]):
        seen.append(a['id'])
        if len(seen) == 10:
            print('ten', flush=True)
            if sys.argv[2] == 'leave': break
except KeyboardInterrupt: print('interrupted', flush=True)
print('threads', threading.active_count(), 'answers', len(set(seen)))"""
    with FaultServer(delay=.1) as server:
        run = subprocess.Popen([sys.executable, '-c', code, server.url, how], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
        assert run.stdout.readline() == 'ten\n'
        if how == 'interrupt': run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=20)
        assert run.returncode == 0 and err == '' and 'threads 1' in out and ('interrupted' in out) == (how == 'interrupt'), out + err
        seen = len(server.times)
        time.sleep(.3)
        assert len(server.times) == seen < 100

def test_nothing_is_spent_while_nobody_takes_the_answers():
    with FaultServer() as server:
        answers = served(server, concurrency=4).answers(prompts(100), max_tokens=128)
        first = [next(answers) for _ in range(3)]
        time.sleep(1)
        assert len(server.times) <= 3 + 2*4 + 1
        complete(first + list(answers), prompts(100))

def test_it_works_inside_a_running_loop():
    import asyncio
    async def main(server): return list(served(server).answers(prompts(5), max_tokens=128))
    with FaultServer() as server: complete(asyncio.run(main(server)), prompts(5))

def test_batches(tmp_path, capfd):
    path, asked = tmp_path/'b.jsonl', prompts(8)
    with FaultServer(faults=['dropped']) as server: # the batch is made, but we do not hear of it
        model = served(server)
        assert write_batch(model, path, asked, max_tokens=128) == 8
        raises(InputError, submit_batch, model, path)
        assert submit_batch(model, path) == submit_batch(model, path) == 'batch-1' and server.creates == 1 and len(server.files) == 1
        assert 'Poll' in raises(InputError, collect_batch, model, path)
        assert 'submitted already' in raises(InputError, write_batch, model, path, asked)
        assert poll_batch(model, path, every=.05) == 'completed' and server.looks == 3
        first = collect_batch(model, path)
        assert first == collect_batch(model, path) and server.answered['download batch-1-out'] == 1
    assert first == collect_batch(model, path) # and with no server at all
    assert [a['id'] for a in first] == [p['id'] for p in asked]
    assert [('error' in a) for a in first] == [False, False, True, False, False, True, False, True] and 'completed' in first[-1]['error']
    complete([a for a in first if 'text' in a], [p for p, a in zip(asked, first) if 'text' in a])
    path.write_text(path.read_text().replace('Hund', 'Hunt'))
    assert 'changed' in raises(InputError, submit_batch, model, path)

def test_a_torn_download_is_not_kept(tmp_path):
    with FaultServer() as server:
        model, path = served(server, retries=0), tmp_path/'b.jsonl'
        write_batch(model, path, prompts(4))
        submit_batch(model, path)
        poll_batch(model, path, every=.01)
        missing = server.files.pop('batch-1-out')
        with pytest.raises(InputError): collect_batch(model, path)
        assert not (tmp_path/'b.jsonl.output.jsonl').exists()
        server.files['batch-1-out'] = missing
        assert sum('text' in a for a in collect_batch(model, path)) == 2

def test_batch_files_that_cannot_be(tmp_path):
    model = ServedModel('dog-7b', 'http://127.0.0.1:9/v1')
    assert 'unique' in raises(InputError, write_batch, model, tmp_path/'b', prompts(2)*2)
    assert '50,000' in raises(InputError, write_batch, model, tmp_path/'b', [{'id': str(i), 'text': 'x'} for i in range(50_001)])
    write_batch(model, tmp_path/'b', prompts(2))
    (tmp_path/'out').write_text(json.dumps({'custom_id': 'from another batch'}) + '\n')
    assert 'another batch' in raises(InputError, batch_answers, [tmp_path/'out'], tmp_path/'b')
    assert 'budget in money needs prices' in raises(InputError, ServedModel, 'm', budget_money=1)
    assert 'concurrency is 0' in raises(InputError, ServedModel, 'm', concurrency=0)

@pytest.fixture(scope='module')
def real_server():
    "SmolLM2 under `transformers serve`, on a free port"
    pytest.importorskip('uvicorn')
    from regurgitation.models import get_model
    folder = str(get_model('smollm2-135m-instruct'))
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    process = subprocess.Popen([Path(sys.executable).with_name('transformers'), 'serve', folder, '--host', '127.0.0.1', '--port', str(port), '--device', 'cpu'],
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**os.environ, 'HF_HUB_OFFLINE': '1', 'TOKENIZERS_PARALLELISM': 'false'})
    try:
        for _ in range(600):
            with socket.socket() as s:
                if s.connect_ex(('127.0.0.1', port)) == 0: break
            assert process.poll() is None, process.stderr.read().decode()[-2000:]
            time.sleep(.1)
        yield folder, f'http://127.0.0.1:{port}/v1'
    finally:
        process.terminate()
        process.wait()

CAPITALS = ['France', 'Germany', 'Italy']

def test_a_real_model_behind_a_real_server(real_server):
    folder, url = real_server
    model = ServedModel(folder, url, concurrency=2)
    asked = [{'id': c, 'messages': [{'role': 'user', 'content': f'What is the capital of {c}? Answer in one short sentence.'}]} for c in CAPITALS]
    answers = {a['id']: a for a in model.answers(asked, max_tokens=24)}
    assert 'Paris' in answers['France']['text'] and 'Rome' in answers['Italy']['text']
    assert all(a['tokens'] > 3 and a['prompt_tokens'] > 20 and a['finish'] in ('stop', 'length') for a in answers.values())
    again, = model.answers(asked[:1], max_tokens=24)
    assert again['text'] == answers['France']['text']
    written, = ServedModel(folder, url, chat=False).answers([{'id': '1', 'text': 'German: Hund\nEnglish: dog\nGerman: Katze\nEnglish:'}], max_tokens=8)
    assert '\n' not in written['text'] and written['tokens'] <= 8
    assert str(folder) in raises(InputError, lambda: list(ServedModel('smollm2', url, give_up=3).answers(asked)))
