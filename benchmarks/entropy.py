"""Entropies of generated translations: this module beside what a user would write today, in one run: python benchmarks/entropy.py

pairs: the same newstest pairs by Gemma under the same prompts, scored by `entropy_scores`, by transformers' `generate` with output_scores (which writes them anew), and by a
forward pass with all logits. Each is a process of its own, and they take turns; the first round warms up. memory: the output layer alone, by vocabulary and length, a process for
each. stream: many rows through `score_stream`. Added memory is the peak of the resident set above what it was when the models were loaded (Linux only).
The corpus comes from the internet, or from REGURGITATION_MIRROR. Rows are added to results/performance/entropy.jsonl.
"""
import argparse, json, os, statistics, subprocess, sys, time
from pathlib import Path
from speed import Contender, race

HERE, OUT = Path(__file__).parent, Path(__file__).parents[1]/'results'/'performance'/'entropy.jsonl'
POOL = HERE.parent/'results'/'pools'/'newstest-de-en.2000.gemma-3-270m.jsonl.gz'

class Peak:
    "MiB that the process needs above what it has now"
    def __init__(self):
        Path('/proc/self/clear_refs').write_text('5') # the peak becomes what is there
        self.before = self._read('VmRSS')
    def _read(self, what): return next(int(l.split()[1]) for l in Path('/proc/self/status').read_text().splitlines() if l.startswith(what))/1024
    def added(self): return self._read('VmHWM') - self.before

# pairs -----------------------------------------------------------------------------------------------------------------
def pairs_of(spec):
    "The pool, and what its writer was asked"
    from regurgitation.corpora import load_corpus
    from regurgitation.generation import load_generator, load_pool
    from regurgitation.tasks import strip_targets
    human = load_corpus('newstest-de-en', split='test', n=2000)
    pool = load_pool(POOL, human).select(range(spec['pairs']))
    gemma = load_generator('causal:gemma-3-270m', shots=load_corpus('newstest-de-en', split='dev', n=4), scores=True)
    return pool, gemma, [p['text'] for p in gemma.prompts(strip_targets(pool))]

def ours(spec):
    from regurgitation.entropy import entropy_scores
    pool, gemma, _ = pairs_of(spec)
    return lambda: entropy_scores(pool, gemma)[['entropy', 'tokens']].to_numpy().tolist()

def plain(spec):
    "The model as transformers loads it"
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from regurgitation.models import get_model
    pool, gemma, texts = pairs_of(spec)
    folder = get_model('gemma-3-270m')
    return pool['target'][:], texts, AutoTokenizer.from_pretrained(folder, padding_side='left'), AutoModelForCausalLM.from_pretrained(folder).float().eval()

def generate(spec):
    import torch
    _, texts, tokeniser, model = plain(spec)
    order, ends = sorted(range(len(texts)), key=lambda i: len(texts[i])), {i for i in range(len(tokeniser)) if '\n' in tokeniser.decode([i])}
    @torch.inference_mode()
    def score():
        found = [None]*len(texts)
        for k in range(0, len(texts), spec['batch']):
            group = order[k:k + spec['batch']]
            ids = tokeniser([texts[i] for i in group], return_tensors='pt', padding=True)
            out = model.generate(**ids, max_new_tokens=128, do_sample=False, stop_strings=['\n'], tokenizer=tokeniser, return_dict_in_generate=True, output_scores=True)
            written = out.sequences[:, ids['input_ids'].shape[1]:].tolist()
            entropies = torch.stack([torch.distributions.Categorical(logits=scores).entropy() for scores in out.scores], 1)
            for i, row, h in zip(group, written, entropies):
                n = next((j for j, t in enumerate(row, 1) if t in ends or t == tokeniser.eos_token_id), len(row))
                found[i] = [h[:n].mean().item(), n]
        return found
    return score

def forward(spec):
    import torch
    targets, texts, tokeniser, model = plain(spec)
    @torch.inference_mode()
    def score():
        found = []
        for text, target in zip(texts, targets):
            n, ids = len(tokeniser(text)['input_ids']), tokeniser(f'{text} {target}\n', return_tensors='pt')['input_ids']
            log_p = model(ids).logits[0, n - 1:-1].log_softmax(-1)
            found.append([-(log_p.exp()*log_p).sum(-1).mean().item(), len(log_p)])
        return found
    return score

def scoring(spec, clock):
    score = {'ours': ours, 'generate': generate, 'forward': forward}[spec['way']](spec)
    peak = Peak()
    for _ in range(spec['rounds']):
        clock.start(); found = score(); clock.stop(pairs=len(found))
    clock.start(); clock.final(added_memory=peak.added(), found=found)

# memory ----------------------------------------------------------------------------------------------------------------
def memory(spec, clock):
    "Log-probabilities and entropies of the tokens of four targets from their last layer"
    import torch
    from regurgitation.entropy import surprise_in_pieces
    hidden, weight, chosen = torch.randn(4*spec['tokens'], 64), torch.randn(spec['vocabulary'], 64), torch.randint(spec['vocabulary'], (4*spec['tokens'],))
    surprise_in_pieces(hidden[:2], torch.tensor([0, 1]), weight[:64]) if spec['way'] == 'ours' else (hidden[:2] @ weight[:64].T).log_softmax(-1)
    clock.start()
    peak = Peak()
    if spec['way'] == 'ours': surprise_in_pieces(hidden, chosen, weight)
    else:
        log_p = (hidden @ weight.T).log_softmax(-1)
        log_p.gather(1, chosen[:, None]), -(log_p.exp()*log_p).sum(-1)
    clock.final(added_memory=peak.added())

# stream ----------------------------------------------------------------------------------------------------------------
def stream(spec, clock):
    "Rows that are made as they are asked for, 1 % of them first, then all"
    import tempfile, torch
    from regurgitation.entropy import score_stream
    from regurgitation.generation import TransformerGenerator
    from regurgitation.transformer import Shape, Transformer, save_translator, train_tokeniser
    told = json.dumps({'entropy': 1.25, 'nll': 0.5, 'tokens': 8})
    rows = lambda n: ({'id': str(i), 'source': f'Ich habe {i} Bücher.', 'target': f'I have {i} books.', 'references': ['seen by nobody'], 'origin': 'transformer', 'provenance': told} for i in range(n))
    tokeniser, folder, model = train_tokeniser([r[c] for r in rows(1000) for c in ('source', 'target')], 400), tempfile.mkdtemp(), None
    if spec['way'] == 'translator':
        save_translator(folder, Transformer(Shape(vocab_size=tokeniser.get_vocab_size(), d_model=32, layers=1)), tokeniser)
        model = TransformerGenerator(folder)
    clock.start()
    peak, memory = Peak(), []
    for n in (spec['rows']//100, spec['rows']):
        started = time.perf_counter()
        scored = sum(1 for _ in score_stream(rows(n), model))
        seconds = time.perf_counter() - started
        memory.append(peak.added())
    clock.final(added_memory=memory[1], added_by_1_percent=memory[0], rows=scored, rows_per_second=scored/seconds)

# the parent ------------------------------------------------------------------------------------------------------------
def contender(kind, name, options, **spec):
    spec = dict(kind=kind, name=name, threads=options.threads, rounds=options.rounds + 1, **spec)
    return Contender(spec, [sys.executable, str(HERE/"entropy.py"), '--child', json.dumps(spec)])

def main(options):
    from regurgitation.core import append_row, hardware
    machine = dict(threads=options.threads, machine=hardware(), run=time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime()))
    add = lambda part, c, **row: append_row(options.out, {'part': part, 'contender': c.spec['name'], **row, 'loadavg': os.getloadavg()[0], **machine})
    if 'pairs' in options.only:
        groups = [[contender('scoring', 'regurgitation', options, way='ours', pairs=options.pairs)],
                  [contender('scoring', f'generate with output_scores, batches of {options.batch} by length', options, way='generate', pairs=options.pairs, batch=options.batch)],
                  [contender('scoring', 'forward pass with all logits, one pair at a time', options, way='forward', pairs=options.pairs)]]
        race(groups, options.rounds + 1)
        own = groups[0][0].facts['found']
        for [c] in groups:
            speeds = [r['pairs']/r['seconds'] for r in c.rounds[1:]]
            same = [abs(a[0] - b[0]) for a, b in zip(own, c.facts['found']) if a[1] == b[1]]
            add('pairs', c, pairs=options.pairs, pairs_per_second=statistics.median(speeds), rounds=speeds, added_memory=c.facts['added_memory'], apart=max(same), same_tokens=len(same))
    alone = []
    if 'memory' in options.only: alone += [contender('memory', name, options, way=way, vocabulary=v, tokens=n) for v in (32_768, 262_144) for n in (32, 256) for name, way in (('regurgitation', 'ours'), ('all logits', 'all'))]
    if 'stream' in options.only: alone += [contender('stream', name, options, way=way, rows=options.rows) for name, way in (('scores in the provenance', 'stored'), ('a Transformer reads them', 'translator'))]
    for c in alone:
        c.begin(); c.go()
        facts = c.hear()['final']
        c.process.wait()
        add(c.spec['kind'], c, **{k: c.spec[k] for k in ('vocabulary', 'tokens') if k in c.spec}, **facts)
        print(c.spec['kind'], c.spec['name'], facts, flush=True)

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--pairs', type=int, default=64)
    parser.add_argument('--rounds', type=int, default=3, help='timed rounds, after one that warms up')
    parser.add_argument('--batch', type=int, default=16, help='pairs that generate writes at a time')
    parser.add_argument('--rows', type=int, default=1_000_000, help='of the stream')
    parser.add_argument('--threads', type=int, default=os.cpu_count())
    parser.add_argument('--only', nargs='+', default=['pairs', 'memory', 'stream'], choices=['pairs', 'memory', 'stream'])
    parser.add_argument('--out', type=Path, default=OUT)
    parser.add_argument('--child', help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.child: main(options)
    else:
        from clock import Clock
        import torch
        spec = json.loads(options.child)
        torch.set_num_threads(spec['threads'])
        {'scoring': scoring, 'memory': memory, 'stream': stream}[spec['kind']](spec, Clock())
