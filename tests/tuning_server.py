"""Files, fine-tuning jobs and chat in OpenAI's dialect: jobs train for real with our own code, all state is on disk, and what goes wrong is told.

`python tuning_server.py PORT FOLDER` serves what is in FOLDER; unfinished jobs there go on. While FOLDER/hold exists no queued job begins."""
import itertools, json, re, socket, sys, threading, time
from collections import Counter
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from regurgitation.core import append_row, atomic, make_pool
from regurgitation.answers import whole_lines
from regurgitation.tasks import prompts

ENDED = ('succeeded', 'failed', 'cancelled')
TEMPLATE = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"

class Refused(Exception):
    "A reply with an error in it"
    def __init__(self, status, message, code=None): self.status, self.message, self.code = status, message, code

class Interrupted(Exception): "A job was cancelled, or the server is closing"

def tiny_llama(folder, texts):
    "A chat model of random weights, shaped as SmolLM2 is, with a tokeniser of these texts"
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    from transformers.utils import logging
    logging.disable_progress_bar()
    pieces = Tokenizer(models.BPE())
    pieces.pre_tokenizer, pieces.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ['<pad>', '<|im_start|>', '<|im_end|>']
    pieces.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=600, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    tokeniser = PreTrainedTokenizerFast(tokenizer_object=pieces, pad_token='<pad>', bos_token='<|im_start|>', eos_token='<|im_end|>', chat_template=TEMPLATE)
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokeniser), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                                 max_position_embeddings=512, pad_token_id=0, bos_token_id=1, eos_token_id=2)).save_pretrained(folder)
    tokeniser.save_pretrained(folder)

def lesson(rows): # lists of messages
    "The pairs, languages and shots in conversations that `write_examples` wrote, or an AssertionError"
    asked = re.compile(r'Translate this text from (\w+) into (\w+)\. Write the translation and nothing else\.\n\n(.*)', re.S)
    found = [[asked.fullmatch(m['content']) for m in row[::2]] for row in rows]
    pool_of = lambda name, questions, answers: make_pool([dict(id=f'{name}-{i}', source=q[3], target=a['content']) for i, (q, a) in enumerate(zip(questions, answers))])
    pool, languages = pool_of('line', [f[-1] for f in found], [row[-1] for row in rows]), found[0][0].groups()[:2]
    shots = pool_of('shot', found[0][:-1], rows[0][1:-2:2]) if len(rows[0]) > 2 else None
    assert [p['messages'] for p in prompts('translation', pool, shots, 'chat', languages)] == [row[:-1] for row in rows]
    return pool, languages, shots

def faults_of(data): # bytes of a training file
    "What the provider says of a file"
    lines = data.decode().splitlines()
    for i, line in enumerate(lines, 1):
        try: messages = json.loads(line)['messages']
        except (ValueError, KeyError): return f'Expected file to have JSONL format with key "messages". Invalid on line {i}.'
        if messages[-1]['role'] != 'assistant': return f'Invalid file format. Line {i}: example has no assistant message at its end.'
    if len(lines) < 10: return f'Training file has {len(lines)} example(s), but must have at least 10 examples'

class TuningServer:
    "`faults` maps what is asked, such as 'POST /v1/files', to the faults of those requests in the order of arrival: a name, or None"
    def __init__(self, folder, port=0, faults=None, most=100, tuning=None, gossip=False): # rows in a page; fields of `Tuning`; the key in events and errors
        self.folder, self.faults, self.most, self.tuning, self.gossip = Path(folder), {k: iter(v) for k, v in (faults or {}).items()}, most, tuning or {}, gossip
        self.lock, self.over, self.keys, self.agents, self.asked, self.writers, self.told = threading.RLock(), threading.Event(), set(), Counter(), Counter(), {}, itertools.count(time.time_ns())
        for name in ('files', 'jobs'): (self.folder/name).mkdir(parents=True, exist_ok=True)
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(('127.0.0.1', port))
        self.port = self.socket.getsockname()[1]
        self.uvicorn = uvicorn.Server(uvicorn.Config(WithFaults(routes(self), self), log_level='critical', timeout_graceful_shutdown=1))

    @property
    def url(self): return f'http://127.0.0.1:{self.port}/v1'

    def __enter__(self):
        self.threads = [threading.Thread(target=self.work, daemon=True), threading.Thread(target=self.uvicorn.run, args=([self.socket],), daemon=True)]
        for t in self.threads: t.start()
        while not self.uvicorn.started: time.sleep(.01)
        return self

    def __exit__(self, *error):
        self.over.set()
        self.uvicorn.should_exit = True
        for t in self.threads: t.join()
        self.socket.close()

    def rows(self, kind): # 'files' or 'jobs', newest first
        with self.lock: return [json.loads(p.read_text()) for p in sorted((self.folder/kind).glob('*.json'), key=lambda p: -int(p.stem.split('-')[1]))]

    def put(self, kind, row, **changes):
        row = {**row, **changes}
        with atomic(self.folder/kind/f'{row["id"]}.json') as part: part.write_text(json.dumps(row))
        return row

    def job(self, id):
        try: return json.loads((self.folder/'jobs'/f'{id}.json').read_text())
        except FileNotFoundError: raise Refused(404, f'Could not find fine tune: {id}', 'fine_tune_not_found') from None

    def events(self, id): return whole_lines(self.folder/'jobs'/f'{id}.events')

    def tell(self, id, message, **data):
        said = message + (f' {sorted(self.keys)}' if self.gossip else '')
        append_row(self.folder/'jobs'/f'{id}.events', {'id': f'ftevent-{id}-{next(self.told)}', 'object': 'fine_tuning.job.event', 'created_at': int(time.time()), 'level': 'info',
                   'message': said, 'type': 'metrics' if data else 'message', 'data': data or None})

    def hold(self, held=True): (self.folder/'hold').touch() if held else (self.folder/'hold').unlink()

    def work(self):
        "One job after the other, in the order in which they were made"
        while not self.over.is_set():
            waiting = [j for j in self.rows('jobs') if j['status'] not in ENDED]
            if waiting:
                id = waiting[-1]['id']
                try: self.carry_out(id)
                except Interrupted: pass
                except Exception as e: self.put('jobs', self.job(id), status='failed', error={'code': 'server_error', 'message': f'{type(e).__name__}: {e}', 'param': None})
            time.sleep(.05)

    def advance(self, id, **changes):
        "Change a job that nobody has cancelled meanwhile"
        with self.lock:
            job = self.job(id)
            if job['status'] == 'cancelled' or self.over.is_set(): raise Interrupted
            return self.put('jobs', job, **changes) if changes else job

    def carry_out(self, id):
        job = self.advance(id)
        data = (self.folder/'files'/job['training_file']).read_bytes()
        if said := faults_of(data):
            self.tell(id, said)
            self.advance(id, status='failed', error={'code': 'invalid_training_file', 'message': said, 'param': 'training_file'})
            return
        self.advance(id, status='queued')
        while (self.folder/'hold').exists():
            self.advance(id)
            time.sleep(.05)
        self.advance(id, status='running')
        self.tell(id, 'Fine-tuning job started')
        tokens = self.train(job, [json.loads(line)['messages'] for line in data.decode().splitlines()])
        name = f'ft:{job["model"].split(":")[1] if job["model"].startswith("ft:") else job["model"]}:local:{job["suffix"] or ""}:{id.split("-")[1]}'
        self.tell(id, f'New fine-tuned model created: {name}')
        self.advance(id, status='succeeded', fine_tuned_model=name, trained_tokens=tokens, finished_at=int(time.time()))

    def before(self, model): # name of the first weights, and the folder of the tuned ones where there are some
        tuned = next((j for j in self.rows('jobs') if j['fine_tuned_model'] == model), None)
        if tuned: return tuned['base'], self.folder/'jobs'/tuned['id']/'last'
        return (str(self.folder/model) if (self.folder/model).is_dir() else model), None

    def train(self, job, rows): # tokens of all epochs
        from regurgitation.finetuning import Examples, Tuning, finetune
        from regurgitation.models import get_model
        from transformers import AutoTokenizer
        (base, init), (pool, languages, shots), how = self.before(job['model']), lesson(rows), job['hyperparameters']
        asked = dict(style='chat', languages=languages, shots=shots)
        data = Examples(AutoTokenizer.from_pretrained(get_model(base)), pool, **asked)
        size, factor = (4 if how['batch_size'] == 'auto' else how['batch_size']), (1 if how['learning_rate_multiplier'] == 'auto' else how['learning_rate_multiplier'])
        tuning = Tuning(**{'epochs': how['n_epochs'], 'tokens': size*max(n for n, _ in data.lengths), **self.tuning, 'lr': self.tuning.get('lr', 3e-5)*factor})
        bar = Steps(self, job['id'], sum(len(data.batches(tuning.tokens, job['seed'], e)) for e in range(tuning.epochs)))
        history = finetune(base, pool, self.folder/'jobs'/job['id'], tuning, job['seed'], init, bar=bar, **asked)
        self.tell(job['id'], f'The last epoch: training loss={history[-1]["train_nats_per_token"]:.2f}', step=bar.total, total_steps=bar.total, train_loss=history[-1]['train_nats_per_token'])
        return tuning.epochs*sum(n for n, _ in data.lengths)

    def writer(self, model):
        "The model that answers, loaded once"
        from regurgitation.causal import CausalLM
        from regurgitation.finetuning import load_tuned
        if model not in self.writers:
            base, tuned = self.before(model)
            self.writers[model] = load_tuned(tuned) if tuned else CausalLM(base)
        return self.writers[model]

class Steps:
    "What `finetune` takes as its progress bar"
    def __init__(self, server, id, total): self.server, self.id, self.total, self.n = server, id, total, 0
    def update(self, pairs):
        self.n += 1
        self.server.advance(self.id)
        self.server.tell(self.id, f'Step {self.n}/{self.total}', step=self.n, total_steps=self.total)

def page(rows, request, most):
    "A page of a list, by the query of the request"
    after, n = request.query_params.get('after'), min(int(request.query_params.get('limit', 20)), most)
    start = next((i + 1 for i, r in enumerate(rows) if r['id'] == after), 0)
    return {'object': 'list', 'data': rows[start:start + n], 'has_more': start + n < len(rows)}

def routes(server):
    app = FastAPI()

    @app.exception_handler(Refused)
    async def refused(request, e): return JSONResponse({'error': {'message': e.message, 'type': 'invalid_request_error', 'code': e.code}}, e.status)

    @app.post('/v1/files')
    async def upload(request: Request):
        boundary, body = request.headers['content-type'].split('boundary=')[1].strip('"').encode(), await request.body()
        parts = [p.partition(b'\r\n\r\n')[::2] for p in body.split(b'--' + boundary) if b'name=' in p]
        purpose = next(value.strip().decode() for head, value in parts if b'name="purpose"' in head)
        name, data = next((re.search(rb'filename="([^"]*)"', head)[1].decode(), value.removesuffix(b'\r\n')) for head, value in parts if b'filename=' in head)
        if purpose != 'fine-tune' or not name.endswith('.jsonl'): raise Refused(400, f'{name} with purpose {purpose}: a .jsonl file with purpose fine-tune is expected')
        with server.lock:
            id = f'file-{len(server.rows("files")) + 1}'
            (server.folder/'files'/id).write_bytes(data)
            return server.put('files', {'id': id, 'object': 'file', 'bytes': len(data), 'created_at': int(time.time()), 'filename': name, 'purpose': purpose, 'status': 'processed'})

    @app.get('/v1/files')
    def files(request: Request): return page(server.rows('files'), request, server.most)

    @app.get('/v1/files/{id}')
    def file(id): return next(f for f in server.rows('files') if f['id'] == id)

    @app.get('/v1/files/{id}/content')
    def content(id): return Response((server.folder/'files'/id).read_bytes())

    @app.post('/v1/fine_tuning/jobs')
    async def create(request: Request):
        body = json.loads(await request.body())
        if not (server.folder/'files'/body['training_file']).exists(): raise Refused(400, f'invalid training_file: {body["training_file"]}', 'invalid_request_error')
        base = server.before(body['model'])[0]
        from regurgitation.models import MODELS
        if not (base in MODELS or Path(base).is_dir()): raise Refused(400, f'Model {body["model"]} is not available for fine-tuning or does not exist.', 'model_not_available')
        with server.lock:
            id = f'ftjob-{len(server.rows("jobs")) + 1}'
            job = server.put('jobs', {'id': id, 'object': 'fine_tuning.job', 'created_at': int(time.time()), 'error': None, 'fine_tuned_model': None, 'finished_at': None,
                'hyperparameters': body['method']['supervised']['hyperparameters'], 'method': body['method'], 'model': body['model'], 'base': base, 'organization_id': 'org-local',
                'result_files': [], 'seed': body.get('seed', 0), 'suffix': body.get('suffix'), 'status': 'validating_files', 'trained_tokens': None,
                'training_file': body['training_file'], 'validation_file': None, 'metadata': body.get('metadata')})
            server.tell(id, f'Created fine-tuning job: {id}')
        return job

    @app.get('/v1/fine_tuning/jobs')
    def jobs(request: Request):
        wanted = {m[1]: v for k, v in request.query_params.items() if (m := re.fullmatch(r'metadata\[(.*)\]', k))}
        return page([j for j in server.rows('jobs') if wanted.items() <= (j['metadata'] or {}).items()], request, server.most)

    @app.get('/v1/fine_tuning/jobs/{id}')
    def job(id): return server.job(id)

    @app.get('/v1/fine_tuning/jobs/{id}/events')
    def events(id, request: Request):
        server.job(id)
        return page(server.events(id)[::-1], request, server.most)

    @app.post('/v1/fine_tuning/jobs/{id}/cancel')
    def cancel(id):
        with server.lock:
            job = server.job(id)
            if job['status'] in ENDED: raise Refused(400, f'Job has already completed: {id}', 'job_not_cancellable')
            server.tell(id, 'Fine-tuning job cancelled')
            return server.put('jobs', job, status='cancelled')

    @app.post('/v1/chat/completions')
    async def chat(request: Request):
        body = json.loads(await request.body())
        with server.lock:
            try: lm = server.writer(body['model'])
            except ValueError: raise Refused(404, f'The model {body["model"]} does not exist', 'model_not_found')
            answer, = lm.answers([{'id': 'x', 'messages': body['messages']}], max_tokens=body.get('max_tokens', 64), stop=body.get('stop') or ())
        return {'id': 'x', 'object': 'chat.completion', 'created': 0, 'model': body['model'],
                'choices': [{'index': 0, 'finish_reason': answer['finish'], 'message': {'role': 'assistant', 'content': answer['text']}}],
                'usage': {'prompt_tokens': answer['prompt_tokens'], 'completion_tokens': answer['tokens'], 'total_tokens': answer['prompt_tokens'] + answer['tokens']}}
    return app

class WithFaults:
    "The app, behind what can go wrong on the way to it and back"
    def __init__(self, app, server): self.app, self.server = app, server

    async def __call__(self, scope, receive, send):
        if scope['type'] != 'http': return await self.app(scope, receive, send)
        server, headers, what = self.server, {k.decode(): v.decode() for k, v in scope['headers']}, f'{scope["method"]} {re.sub("(file|ftjob)-[0-9]+", "ID", scope["path"])}'
        with server.lock:
            server.keys.add(headers.get('authorization', ''))
            server.agents[headers['user-agent']] += 1
            server.asked[what] += 1
            name, _, detail = (next(server.faults.get(what, iter(())), None) or '').partition(':')
        error = lambda status, message, **headers: JSONResponse({'error': {'message': message}}, status, headers)(scope, receive, send)
        if name == '429': return await error(429, 'slow down', **({'retry-after': detail} if detail else {}))
        if name == 'echo': return await error(int(detail), f'cannot do this for {headers["authorization"]}')
        if name == 'html': return await Response('<html>Bad gateway</html>', 200, media_type='text/html')(scope, receive, send)
        if name.isdigit(): return await error(int(name), 'something went wrong')
        if name not in ('dropped', 'silent'): return await self.app(scope, receive, send)
        async def nowhere(message): pass
        if name == 'dropped': await self.app(scope, receive, nowhere) # the work is done, and nobody hears of it
        await send({'type': 'http.response.start', 'status': 200, 'headers': [(b'content-length', b'99'), (b'content-type', b'application/json')]}) # and the line breaks

if __name__ == '__main__':
    with TuningServer(sys.argv[2], int(sys.argv[1])): threading.Event().wait()
