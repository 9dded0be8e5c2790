"""A server in OpenAI's dialect that goes wrong as told, and counts what it saw.

`python faults.py PORT LOG` serves with a short delay and writes every request it has answered to LOG, one id a line."""
import itertools, json, re, socket, sys, threading, time
from collections import Counter
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WORDS = ['the', 'dog', 'has', 'seen', 'a', 'small', 'house']

def written(prompt, most):
    "What the server's model writes: as many words as the prompt has, told by the prompt alone"
    words = [WORDS[len(w) % len(WORDS)] for w in prompt.split()]
    return ' '.join(words[:most]), min(len(words), most), len(words) > most

class FaultServer(ThreadingHTTPServer):
    "`faults` gives the fault of each request, in the order of arrival: a name, or None; after the last all is well"
    daemon_threads, allow_reuse_address, request_queue_size = True, True, 128
    def __init__(self, port=0, faults=(), delay=0.0, log=None, model='dog-7b'):
        super().__init__(('127.0.0.1', port), Handler)
        self.faults, self.delay, self.log, self.model = iter(faults), delay, log, model
        self.lock, self.times, self.now, self.most, self.billed, self.bodies = threading.Lock(), [], 0, 0, 0, []
        self.answered, self.keys, self.files, self.batches, self.creates, self.looks = Counter(), set(), {}, {}, 0, 0

    def __enter__(self):
        threading.Thread(target=self.serve_forever, kwargs={'poll_interval': .02}, daemon=True).start()
        return self

    def __exit__(self, *error):
        self.shutdown()
        self.server_close()

    def handle_error(self, request, address): pass # a client that hangs up is expected

    @property
    def url(self): return f'http://127.0.0.1:{self.server_address[1]}/v1'

class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def log_message(self, *args): pass

    def reply(self, status, value, headers=(), cut=None, claim=None):
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        if cut: data = data[:cut]
        self.send_response(status)
        for name, text in [('content-type', 'application/json'), ('content-length', str(claim or len(data))), *headers]: self.send_header(name, text)
        self.end_headers()
        self.wfile.write(data)

    def hang_up(self):
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def error(self, status, message, code=None, headers=()): self.reply(status, {'error': {'message': message, 'type': 'error', 'code': code}}, headers)

    def do_POST(self):
        server, data = self.server, self.rfile.read(int(self.headers.get('content-length') or 0))
        with server.lock: server.keys.add(self.headers.get('authorization', ''))
        if self.path == '/v1/files': return self.upload(data)
        if self.path == '/v1/batches': return self.create(json.loads(data))
        body = json.loads(data)
        with server.lock:
            fault = next(server.faults, None)
            server.times.append(time.monotonic())
            server.bodies.append(body)
            server.now += 1
            server.most = max(server.most, server.now)
        try: self.complete(body, fault)
        finally:
            with server.lock: server.now -= 1

    def complete(self, body, fault):
        server, name, _, detail = self.server, *(fault or '').partition(':')
        if server.delay: time.sleep(server.delay)
        if body['model'] != server.model: return self.error(404, f'The model {body["model"]} does not exist', 'model_not_found')
        if name == '429': return self.error(429, 'slow down', headers=[('Retry-After', detail)] if detail else [])
        if name == '429-date': return self.error(429, 'slow down', headers=[('Retry-After', formatdate(time.time() + float(detail), usegmt=True))])
        if name == 'quota': return self.error(429, 'You exceeded your current quota', 'insufficient_quota')
        if name == 'echo': return self.error(int(detail), f'cannot do this for {self.headers["authorization"]}')
        if name == 'filter': return self.error(400, 'filtered', 'content_filter')
        if name.isdigit(): return self.error(int(name), 'something went wrong')
        if name == 'html': return self.reply(200, b'<html>Bad gateway</html>')
        if name == 'empty': return self.reply(200, {'error': {'message': 'upstream overloaded', 'code': 502}})
        if name == 'silent': return self.hang_up() # before the work
        value, tokens = self.completion(body, name)
        with server.lock: server.billed += tokens # from here on the work is done, and billed
        if name == 'half': return self.reply(200, value, cut=90)
        if name == 'torn':
            self.reply(200, value, cut=90, claim=len(json.dumps(value)))
            return self.hang_up()
        if name == 'dropped': return self.hang_up()
        if name == 'slow': time.sleep(float(detail))
        self.reply(200, value)
        with server.lock:
            server.answered[self.prompt(body)] += 1
            if server.log: print(self.prompt(body), file=server.log, flush=True)

    def prompt(self, body): return body['prompt'] if 'prompt' in body else body['messages'][-1]['content']

    def completion(self, body, name=''):
        text, n, longer = written(self.prompt(body), body.get('max_tokens', 16))
        size = sum(len(m['content'].encode()) for m in body['messages']) if 'messages' in body else len(body['prompt'].encode())
        used, finish = (size*3)//4 + 9, 'length' if longer else 'stop'
        if name == 'keepstop': text += '\nGerman: Und'
        message = {'role': 'assistant', 'content': text}
        if name == 'refuse': message = {'role': 'assistant', 'content': None, 'refusal': 'I will not translate this.'}
        if name == 'filtered': finish = 'content_filter'
        if name == 'tool': finish = 'tool_calls'
        choice = {'index': 0, 'finish_reason': finish, **({'message': message} if 'messages' in body else {'text': text})}
        if body.get('logprobs'): choice['logprobs'] = self.scores(body, text.split())
        value = {'id': 'x', 'object': 'completion', 'created': 0, 'model': body['model'], 'choices': [choice]}
        if name != 'nousage': value['usage'] = {'prompt_tokens': used, 'completion_tokens': n, 'total_tokens': used + n}
        return value, used + n

    def scores(self, body, words):
        top = {'dog': -0.7, 'cat': -1.4, 'cow': -2.8}
        if 'prompt' in body: return {'tokens': words, 'token_logprobs': [-0.7]*len(words), 'top_logprobs': [top]*len(words)}
        tops = [{'token': t, 'logprob': p} for t, p in top.items()][:body.get('top_logprobs', 0)]
        return {'content': [{'token': w, 'logprob': -0.7, 'top_logprobs': tops} for w in words]}

    def do_GET(self):
        server, path = self.server, self.path.partition('?')[0]
        if path == '/v1/models': return self.reply(200, {'object': 'list', 'data': [{'id': server.model, 'object': 'model', 'created': 0, 'owned_by': 'me'}]})
        if path == '/v1/batches': return self.reply(200, {'object': 'list', 'has_more': False, 'data': list(server.batches.values())})
        if found := re.fullmatch('/v1/batches/(.*)', path): return self.look(server.batches[found[1]])
        if found := re.fullmatch('/v1/files/(.*)/content', path):
            with server.lock: server.answered[f'download {found[1]}'] += 1
            return self.reply(200, server.files[found[1]])
        self.error(404, f'no such path {path}')

    def upload(self, data):
        "The file part of a multipart body"
        boundary = self.headers['content-type'].split('boundary=')[1].strip('"').encode()
        part = next(p for p in data.split(b'--' + boundary) if b'filename=' in p)
        id = f'file-{len(self.server.files) + 1}'
        self.server.files[id] = part.partition(b'\r\n\r\n')[2].removesuffix(b'\r\n')
        self.reply(200, {'id': id, 'object': 'file', 'bytes': 1, 'created_at': 0, 'filename': 'x', 'purpose': 'batch', 'status': 'processed'})

    def create(self, body):
        server = self.server
        server.creates += 1
        id = f'batch-{server.creates}'
        rows = server.files[body['input_file_id']].decode().splitlines()
        server.batches[id] = {'id': id, 'object': 'batch', 'endpoint': body['endpoint'], 'input_file_id': body['input_file_id'], 'completion_window': '24h', 'created_at': 0,
                              'status': 'validating', 'request_counts': {'total': len(rows), 'completed': 0, 'failed': 0}}
        if next(server.faults, None) == 'dropped': return self.hang_up() # made, but the answer is lost
        self.reply(200, server.batches[id])

    def look(self, batch):
        "Three looks until a batch is done; every third line fails, the last one gets no line at all, the first one two"
        server = self.server
        server.looks += 1
        if server.looks == 2: batch['status'] = 'in_progress'
        if server.looks >= 3 and batch['status'] == 'in_progress':
            rows, good, bad = [json.loads(l) for l in server.files[batch['input_file_id']].decode().splitlines()], [], []
            for i, row in enumerate(rows[:-1]):
                if i % 3 == 2: bad.append({'custom_id': row['custom_id'], 'response': {'status_code': 400, 'body': {'error': {'message': 'too long', 'code': 'x'}}}, 'error': None})
                else: good.append({'custom_id': row['custom_id'], 'response': {'status_code': 200, 'body': self.completion(row['body'])[0]}, 'error': None})
            for name, lines in (('out', [*good[::-1], good[0]]), ('err', bad)): server.files[f'{batch["id"]}-{name}'] = '\n'.join(map(json.dumps, lines)).encode()
            batch.update(status='completed', output_file_id=f'{batch["id"]}-out', error_file_id=f'{batch["id"]}-err',
                         request_counts={'total': len(rows), 'completed': len(good), 'failed': len(bad)})
        self.reply(200, batch)

if __name__ == '__main__':
    with open(sys.argv[2], 'a') as log: FaultServer(int(sys.argv[1]), itertools.repeat(None), delay=.05, log=log).serve_forever()
