"""Training and decoding speed beside transformers' MarianMT and JoeyNMT, in one run: python benchmarks/speed.py

Each contender is a process of its own. They take turns, round by round, so that whatever else the machine does meets all of
them alike; the first round warms up, and the medians of the others are written to results/performance/rows.jsonl.
JoeyNMT pins an old protobuf, so it lives in an environment of its own; --joey names the python in it:

    python -m venv ../joey && ../joey/bin/pip install torch==2.13.0 joeynmt==2.3.0 importlib_metadata
"""
import argparse, importlib.metadata, json, os, statistics, subprocess, sys, tempfile, time
from pathlib import Path
from regurgitation.core import hardware, read_rows, write_jsonl
from regurgitation.corpora import load_corpus
from regurgitation.transformer import Shape, encode, train_tokeniser

HERE, OUT = Path(__file__).parent, Path(__file__).parents[1]/'results'/'performance'/'rows.jsonl'
STUDY = dict(shape=dict(vocab_size=1000, d_model=64, layers=2, dropout=0, label_smoothing=0), recipe=dict(tokens=512, lr=4e-3))
WIDER = dict(shape=dict(vocab_size=2000, d_model=128, layers=2, dropout=0, label_smoothing=0), recipe=dict(tokens=2048, lr=4e-3))
BASE = dict(shape=dict(vocab_size=4000, d_model=512, layers=6, heads=8, ff=2048, dropout=0, label_smoothing=0), recipe=dict(tokens=2048, lr=5e-4))
LABELS = {'study': STUDY, 'wider': WIDER, 'base': BASE}

class Contender:
    "A process that waits for its turn"
    def __init__(self, spec, command=None):
        self.spec, self.command, self.rounds, self.facts = spec, command or [sys.executable, str(HERE/'contenders.py'), json.dumps(spec)], [], {}

    def begin(self):
        "Start it and wait until it is ready: one after the other, so that they do not get in one another's way"
        environment = dict(os.environ, OMP_NUM_THREADS=str(self.spec['threads']), TOKENIZERS_PARALLELISM='false', PYTHONPATH=str(HERE.parent))
        self.log = tempfile.TemporaryFile('w+')
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, env=environment)
        assert self.hear().get('ready')

    def hear(self):
        for line in self.process.stdout:
            if line.startswith('@'): return json.loads(line[1:])
        self.log.seek(0)
        raise SystemExit(f'{self.spec["name"]} stopped:\n{self.log.read()[-3000:]}')

    def go(self): self.process.stdin.write('go\n'); self.process.stdin.flush()

def flops_per_pair(shape, lengths):
    "Multiplications and additions of the matrix products of a training step, per pair, padding and recomputation not counted"
    d, L, ff, V = shape.d_model, shape.layers, shape.ff, shape.vocab_size
    total = 0
    for s, t in lengths:
        total += L*(s*(8*d*d + 4*d*ff) + 4*s*s*d) # encoder: projections, feed-forward, attention
        total += L*(t*(12*d*d + 4*d*ff) + s*4*d*d + 4*t*t*d + 4*t*s*d) + 2*t*d*V # decoder, its view of the source, output layer
    return 3*total/len(lengths) # backwards costs twice as much as forwards

def facts_of(case, pairs):
    pool = load_corpus('bible', split='train', n=pairs)
    tokeniser = train_tokeniser(pool['source'][:] + pool['target'][:], case['shape']['vocab_size'])
    lengths = [(len(s), len(t)) for s, t in zip(encode(tokeniser, pool['source']), encode(tokeniser, pool['target']))]
    shape = Shape(**{**case['shape'], 'vocab_size': tokeniser.get_vocab_size()})
    return shape, flops_per_pair(shape, lengths), tokeniser, pool

def joey_command(python, case, tokeniser, pool, rounds, folder):
    "Token files and a configuration for JoeyNMT: the same shape, tokens, and budget of a batch"
    import yaml
    folder.mkdir(parents=True)
    dev, text = load_corpus('bible', split='dev', n=300), lambda row: ' '.join(map(tokeniser.id_to_token, row[:-1]))
    for name, part in (('train', pool), ('dev', dev)):
        for side in ('source', 'target'): (folder/f'{name}.{side}').write_text('\n'.join(map(text, encode(tokeniser, part[side][:]))) + '\n', encoding='utf-8')
    tokens = [tokeniser.id_to_token(i) for i in range(3, tokeniser.get_vocab_size())]
    (folder/'vocabulary').write_text('\n'.join(tokens) + '\n', encoding='utf-8')
    shape = Shape(**case['shape'])
    half = dict(type='transformer', num_layers=shape.layers, num_heads=shape.heads, embeddings=dict(embedding_dim=shape.d_model, scale=True),
                hidden_size=shape.d_model, ff_size=shape.ff, dropout=0.0, layer_norm='pre')
    side = lambda name: dict(lang=name, level='word', max_length=512, voc_file=str(folder/'vocabulary'))
    config = dict(name='speed', model_dir=str(folder/'model'), use_cuda=False, num_workers=0, target_bytes=sum(len(t.encode()) for t in dev['target'][:]),
        data=dict(train=str(folder/'train'), dev=str(folder/'dev'), dataset_type='plain', src=side('source'), trg=side('target')), testing=dict(beam_size=1),
        training=dict(optimizer='adamw', adam_betas=[0.9, 0.98], learning_rate=case['recipe']['lr']/2, learning_rate_min=0.0, scheduling='warmupinversesquareroot', learning_rate_warmup=100, normalization='tokens', clip_grad_norm=1.0,
            batch_size=case['recipe']['tokens']//2, batch_type='token', epochs=rounds, validation_freq=10**9, logging_freq=100, label_smoothing=0.0),
        model=dict(initializer='xavier_uniform', embed_initializer='xavier_uniform', init_gain=1.0, tied_embeddings=True, tied_softmax=True, encoder=half, decoder=half))
    (folder/'config.yaml').write_text(yaml.safe_dump(config))
    return [python, str(HERE/'joey.py'), str(folder/'config.yaml')]

BEST = dict(per_device_train_batch_size=64, train_sampling_strategy='group_by_length', optim='adamw_torch_fused', logging_strategy='no', save_strategy='no',
            warmup_steps=0.1, lr_scheduler_type='cosine', adam_beta2=0.98)
# chosen on the development loss after 4,000 pairs; at Trainer's own 5e-5 nothing is learned in so few steps
BEST_LR, DEFAULTS_LR = {'study': 4e-3, 'wider': 2e-3, 'base': 5e-4}, {'study': 2e-3, 'wider': 1e-3}

def training_contenders(label, case, options, folder):
    from regurgitation.training import fast_precision
    pairs, threads = options.pairs if label != 'base' else 32, options.threads
    shape, flops, tokeniser, pool = facts_of(case, pairs)
    spec = case | dict(part='training', case=label, pairs=pairs, rounds=options.rounds + 1, threads=threads, flops=flops, sizes=vars(shape))
    best = BEST | dict(bf16=fast_precision() == 'bfloat16', learning_rate=BEST_LR[label])
    alone = [Contender(spec | dict(name='regurgitation', kind='ours'))]
    if label == 'base': return [alone, [Contender(spec | dict(name='Seq2SeqTrainer, best', kind='trainer', arguments=best))]]
    groups = [alone, [Contender(spec | dict(name='Seq2SeqTrainer, defaults', kind='trainer', arguments=dict(learning_rate=DEFAULTS_LR[label])))],
              [Contender(spec | dict(name='Seq2SeqTrainer, best', kind='trainer', arguments=best))],
              [Contender(spec | dict(name='regurgitation, batches of 64', kind='ours', recipe=case['recipe'] | dict(tokens=4096)))],
              [Contender(spec | dict(name=f'regurgitation, {threads} processes of one thread', kind='ours', threads=1, seed=i)) for i in range(threads)]]
    if options.joey:
        joey = spec | dict(name='JoeyNMT', kind='joey')
        groups.append([Contender(joey, joey_command(options.joey, case, tokeniser, pool, spec['rounds'], folder/label))])
    return groups

def other_contenders(label, options):
    "Decoding and the pieces, on one thread: their products are too small for two"
    spec = dict(rounds=options.rounds + 1, threads=1)
    if label == 'decoding': return [[Contender(spec | WIDER | dict(name='decoding', kind='decoding', part='decoding', case='wider', pairs=options.pairs, epochs=5))]]
    return [[Contender(spec | dict(name='parts', kind='parts', part='parts', case='parts'))],
            [Contender(spec | STUDY | dict(name='compiled', kind='compiled', part='parts', case='compiled', pairs=options.pairs))]]

def turn(group):
    "One round of a contender: all its processes at once"
    for c in group: c.go()
    heard = [c.hear() for c in group]
    for c, said in zip(group, heard): c.rounds.append(said)

def race(groups, rounds):
    for group in groups:
        for c in group: c.begin()
    print('timing begins', flush=True)
    for i in range(rounds):
        for group in groups:
            turn(group)
            for c in group: assert c.hear().get('ready') # the next round, or the last turn for what is not timed
            print(f'round {i}', group[0].spec['name'], group[0].spec.get('case', ''), round(group[0].rounds[-1]['seconds'], 2), flush=True)
    print('timing ends', flush=True)
    for group in groups:
        for c in group: c.go(); c.facts = c.hear()['final']; c.process.wait()

def rows_of(groups, machine):
    peaks = next({k: statistics.median(r['values'][k] for r in g[0].rounds[1:]) for k in g[0].rounds[0]['values']} for g in groups if g[0].spec['kind'] == 'peak')
    for group in groups:
        spec, facts = group[0].spec, group[0].facts
        row = dict(part=spec['part'], case=spec.get('case'), contender=spec['name'], threads=spec['threads'], processes=len(group))
        if spec['part'] == 'training':
            speeds = [sum(c.rounds[i]['pairs'] for c in group)/max(c.rounds[i]['seconds'] for c in group) for i in range(1, len(group[0].rounds))]
            speed = statistics.median(speeds)
            gflops = speed*spec['flops']/1e9
            yield row | dict(pairs_per_second=speed, rounds=speeds, gflops=gflops, share_of_peak=gflops/max(peaks.values()), pairs_seen=spec['pairs']*spec['rounds'],
                             shape=spec['sizes'], recipe=spec['recipe'], arguments=spec.get('arguments'), gflop_per_pair=spec['flops']/1e9, **facts) | machine
        else:
            unit = {'peak': 'gflops', 'decoding': 'tokens_per_second', 'parts': 'milliseconds'}[spec['part']]
            for name in group[0].rounds[0]['values']:
                values = [r['values'][name] for r in group[0].rounds[1:]]
                yield row | {'contender': name, unit: statistics.median(values), 'rounds': values, 'shape': spec.get('shape')} | facts | machine

def versions(joey):
    found = {name: importlib.metadata.version(name) for name in ('torch', 'transformers', 'tokenizers', 'accelerate')}
    if joey: found['joeynmt'] = subprocess.run([joey, '-c', 'import importlib.metadata as m; print(m.version("joeynmt"))'], capture_output=True, text=True).stdout.strip()
    return found

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--pairs', type=int, default=1000, help='training pairs of a round')
    parser.add_argument('--rounds', type=int, default=3, help='timed rounds, after one that warms up')
    parser.add_argument('--threads', type=int, default=os.cpu_count())
    parser.add_argument('--joey', help='python of an environment with joeynmt==2.3.0; left out where none is given')
    parser.add_argument('--only', nargs='+', default=['study', 'wider', 'base', 'decoding', 'parts'], choices=['study', 'wider', 'base', 'decoding', 'parts'],
                        help='parts to measure; the rows of the others are kept')
    parser.add_argument('--out', type=Path, default=OUT)
    options = parser.parse_args()
    machine = dict(machine=hardware(), versions=versions(options.joey), run=time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime()))
    for label in options.only: # after each case its rows are kept; a peak is measured in turn with every case
        with tempfile.TemporaryDirectory() as folder:
            peak = [Contender(dict(rounds=options.rounds + 1, threads=options.threads, name='matrix product', kind='peak', part='peak', case=label))]
            groups = [peak] + (training_contenders(label, LABELS[label], options, Path(folder)) if label in LABELS else other_contenders(label, options))
            race(groups, options.rounds + 1)
        keep(list(rows_of(groups, machine)), options.out)

def keep(new, path):
    "Write the new rows in place of those of the same part, case and contender"
    key = lambda row: tuple(row[k] for k in ('part', 'case', 'contender', 'threads'))
    old = [row for row in (read_rows(path) if path.is_file() else []) if key(row) not in set(map(key, new))]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_jsonl(path, old + new)

if __name__ == '__main__': main()
