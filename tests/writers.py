"""Our own Transformer as a writer of answers: a real model that needs no download.

As a program it makes a pool, so that a test can kill it: python writers.py TRANSLATOR STORE OUT LOG [CHUNK]
"""
import functools, sys
from pathlib import Path
from regurgitation.core import Store, file_sha256
from regurgitation.corpora import load_corpus
from regurgitation.generation import LanguageModelGenerator, generate
from regurgitation.transformer import load_translator, translate

class TranslatorWriter:
    "Translates the first letters of the last source of each prompt (it has learned too little to know where to end); ids in `broken` fail, and `stops` is the number of answers after which it breaks off"
    def __init__(self, folder, chunk=None, log=None, broken=(), stops=None):
        self.name, self.facts = 'tiny', {'model': 'tiny', 'sha256': file_sha256(Path(folder)/'model.safetensors')}
        self.translator, self.chunk, self.log, self.broken, self.stops, self.asked, self.portions = load_translator(folder), chunk, log, broken, stops, [], []

    def answers(self, prompts, method='greedy', temperature=1.0, seed=0, max_tokens=128, **ignored):
        self.portions.append([p['id'] for p in prompts])
        options = {'temperature': temperature, 'seed': seed} if method == 'sample' else {}
        for p in prompts:
            if self.stops is not None and len(self.asked) >= self.stops: raise ConnectionError('the line broke')
            self.asked.append(p['id'])
            if self.log:
                with open(self.log, 'a') as f: f.write(p['id'] + '\n')
            said = p['text'] if 'text' in p else p['messages'][-1]['content']
            source = said.strip().splitlines()[-2 if 'text' in p else -1].removeprefix('German: ')
            if p['id'] in self.broken: yield {'id': p['id'], 'error': 'too hard'}
            else: yield {'id': p['id'], 'text': translate(*self.translator, [source[:20]], [p['id']], method, **options)[0], 'finish': 'stop', 'tokens': 5, 'prompt_tokens': 20}

@functools.lru_cache
def pool(): return load_corpus('bible', split='train', n=24, max_words=9)
@functools.lru_cache
def shots(): return load_corpus('bible', split='teacher', n=2, max_words=9)

if __name__ == '__main__':
    import torch
    torch.set_num_threads(1)
    folder, store, out, log, *chunk = sys.argv[1:]
    writer = TranslatorWriter(folder, chunk=int(chunk[0]) if chunk else None, log=log)
    generate(pool(), LanguageModelGenerator(writer, shots(), store=Store(store), keep=('copied',), languages=('Middle English', 'English')), out)
