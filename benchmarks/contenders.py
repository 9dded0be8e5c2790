"One contender in its own process: python benchmarks/contenders.py SPEC, where SPEC is JSON; benchmarks/speed.py starts it"
import json, math, sys, tempfile, time
from dataclasses import asdict
from pathlib import Path
from clock import Clock
import torch, torch.nn.functional as F
from regurgitation.corpora import load_corpus
from regurgitation.training import Encoded, Recipe, State, _epoch, bits_per_byte, fast_precision, flatten
from regurgitation.transformer import (BOS, EOS, PAD, Dropout, Shape, Transformer, batches, encode, pad, rotate, rotations, smoothed_cross_entropy,
                                       train_tokeniser, write)

def data_of(spec):
    "Tokeniser, training pool and development pool: the same for every contender"
    pool, dev = load_corpus('bible', split='train', n=spec['pairs']), load_corpus('bible', split='dev', n=300)
    return train_tokeniser(pool['source'][:] + pool['target'][:], spec['shape']['vocab_size']), pool, dev

def shape_of(spec, tokeniser, **changes): return Shape(**{**spec['shape'], 'vocab_size': tokeniser.get_vocab_size(), **changes})

# ours ------------------------------------------------------------------------------------------------------------------
def prepare(spec, **changes): # changes: of the shape
    "What `training.train` prepares before its first epoch"
    from accelerate import Accelerator
    tokeniser, pool, dev = data_of(spec)
    torch.manual_seed(spec.get('seed', 0))
    accelerator, recipe = Accelerator(), Recipe(**spec['recipe'], epochs=spec['rounds'])
    model = accelerator.prepare(Transformer(shape_of(spec, tokeniser, **changes))) # first, since it may move the weights
    state = State(model, torch.optim.AdamW([flatten(model)], recipe.lr, (0.9, 0.98), 1e-9, recipe.weight_decay, fused=True))
    return accelerator, model, state, Encoded(tokeniser, pool), Encoded(tokeniser, dev), recipe, tokeniser

def epoch(accelerator, model, state, data, recipe, bar=None):
    _epoch(accelerator, model, state, data, recipe, 0, None, math.inf, bar)
    state.history.append({'step': state.step})
    state.epoch += 1

def ours(spec, clock):
    "The epochs of `training.train`, without checkpoints and development loss in between"
    accelerator, model, state, data, held, recipe, _ = prepare(spec)
    for _ in range(spec['rounds']):
        clock.start(); epoch(accelerator, model, state, data, recipe); clock.stop(pairs=len(data.lengths))
    clock.start()
    clock.final(dev_loss=bits_per_byte(model, held), parameters=sum(p.numel() for p in model.parameters()), steps=state.step)

# transformers ----------------------------------------------------------------------------------------------------------
def trainer(spec, clock):
    "MarianMTModel under Seq2SeqTrainer: its defaults, and what `spec['arguments']` changes"
    import datasets
    from transformers import DataCollatorForSeq2Seq, MarianMTModel, PreTrainedTokenizerFast, Seq2SeqTrainer, Seq2SeqTrainingArguments, TrainerCallback
    from marian import marian_config
    tokeniser, pool, dev = data_of(spec)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokeniser, pad_token='<pad>', bos_token='<s>', eos_token='</s>')
    torch.manual_seed(0)
    model = MarianMTModel(marian_config(shape_of(spec, tokeniser)))
    rows = lambda pool: datasets.Dataset.from_dict({k: [r.tolist() for r in encode(tokeniser, pool[c][:])] for k, c in (('input_ids', 'source'), ('labels', 'target'))})
    class Turns(TrainerCallback):
        def on_epoch_begin(self, *_, **__): clock.start()
        def on_epoch_end(self, *_, **__): clock.stop(pairs=len(pool))
    collate = DataCollatorForSeq2Seq(fast, model=model)
    with tempfile.TemporaryDirectory() as folder:
        arguments = dict(report_to='none', disable_tqdm=True, num_train_epochs=spec['rounds']) | spec['arguments']
        loop = Seq2SeqTrainer(model=model, args=Seq2SeqTrainingArguments(folder, **arguments), train_dataset=rows(pool), data_collator=collate,
                              processing_class=fast, callbacks=[Turns()])
        loop.train()
    clock.start()
    held, target_bytes = rows(dev), sum(len(t.encode()) for t in dev['target'][:])
    model.eval()
    with torch.no_grad():
        nats = 0.0
        for i in range(0, len(held), 50):
            batch = collate([held[j] for j in range(i, min(i + 50, len(held)))])
            nats += model(**batch).loss.item()*(batch['labels'] != -100).sum().item()
    clock.final(dev_loss=nats/math.log(2)/target_bytes, parameters=sum(p.numel() for p in model.parameters()), steps=loop.state.global_step)

# decoding --------------------------------------------------------------------------------------------------------------
def decoding(spec, clock):
    "Greedy decoding by `transformer.write` and by MarianMTModel.generate with the same weights; the same ids, or it stops"
    from marian import to_marian
    accelerator, model, state, data, held, recipe, tokeniser = prepare(spec | {'rounds': spec['epochs']}, norm='post', positions='learned')
    for _ in range(spec['epochs']): epoch(accelerator, model, state, data, recipe)
    model.eval()
    marian, sources = to_marian(model), held.source[:150]
    limits, lines = [2*len(s) + 10 for s in sources], list(range(len(sources)))
    by_length = sorted(lines, key=lambda i: len(sources[i]))
    def by_us(groups):
        out = {}
        for g in groups: out |= zip(g, write(model, pad([sources[i] for i in g]), [limits[i] for i in g]))
        return out
    def by_generate(groups):
        out = {}
        for g in groups:
            ids = pad([sources[i] for i in g])
            words = marian.generate(input_ids=ids, attention_mask=(ids != PAD).long(), max_new_tokens=max(limits[i] for i in g), num_beams=1, do_sample=False)
            for i, row in zip(g, words[:, 1:].tolist()): out[i] = row[:limits[i]][:(row + [EOS]).index(EOS)]
        return out
    cut = lambda order, n: [order[i:i + n] for i in range(0, len(order), n)]
    ways = {'regurgitation': (by_us, [[by_length[j] for j in b] for b in batches([len(sources[i]) for i in by_length], 4096)]),
            'generate, batches of 8': (by_generate, cut(lines, 8)), 'generate, batches of 32': (by_generate, cut(lines, 32)),
            'generate, batches of 128 by length': (by_generate, cut(by_length, 128))}
    for _ in range(spec['rounds']):
        clock.start()
        outputs, values = {}, {}
        for name, (way, groups) in ways.items():
            t = time.perf_counter(); outputs[name] = way(groups); seconds = time.perf_counter() - t
            values[name] = sum(len(w) + 1 for w in outputs[name].values())/seconds
        different = {name: [i for i in lines if outputs[name][i] != outputs['regurgitation'][i]] for name in ways}
        clock.stop(values=values)
    assert not any(different.values()), f'greedy output differs: {different}'
    clock.start()
    clock.final(sentences=len(sources), target_tokens=sum(len(w) + 1 for w in outputs['regurgitation'].values()), differing=0,
                dev_loss=bits_per_byte(model, held), ended=sum(len(outputs['regurgitation'][i]) < limits[i] for i in lines))

# parts -----------------------------------------------------------------------------------------------------------------
def milliseconds(call, n):
    call()
    t = time.perf_counter()
    for _ in range(n): call()
    return (time.perf_counter() - t)/n*1000

def parts(spec, clock):
    "Pieces that were written for speed, beside what they replaced, in milliseconds forwards and backwards"
    ways, shape = {}, Shape(vocab_size=1000, d_model=64, layers=2, dropout=0)
    x, up = torch.randn(64, 28, 128, requires_grad=True), torch.randn(64, 28, 128)
    ours = Dropout(0.1).train()
    back = lambda f: lambda: f().backward(up)
    ways['dropout, a byte for each element'], ways['dropout, torch'] = back(lambda: ours(x)), back(lambda: F.dropout(x, 0.1))
    h, weight, y = torch.randn(256, 64, requires_grad=True), torch.randn(1000, 64, requires_grad=True), torch.randint(1000, (256,))
    ways['loss, gradient by hand'] = lambda: smoothed_cross_entropy(h, weight, y, 0.1)[0].backward()
    ways['loss, torch'] = lambda: F.cross_entropy(h @ weight.T, y, label_smoothing=0.1, reduction='sum').backward()
    q, table = torch.randn(2, 8, 2, 28, 32), rotations(28, 32)
    cos, sin = table.real.repeat_interleave(2, -1), table.imag.repeat_interleave(2, -1)
    turned = lambda: torch.stack((-q[..., 1::2], q[..., ::2]), -1).flatten(-2)
    assert torch.allclose(q*cos + turned()*sin, rotate(q, table), atol=1e-5)
    ways['rotation, complex product'], ways['rotation, sines and cosines'] = lambda: rotate(q, table), lambda: q*cos + turned()*sin
    for name, one in (('clip and AdamW, weights in one vector', True), ('clip and AdamW, a tensor for each weight', False)):
        model = Transformer(shape)
        weights = [flatten(model)] if one else list(model.parameters())
        for w in weights: w.grad = torch.randn_like(w)
        optimiser = torch.optim.AdamW(weights, 1e-3, fused=True)
        def step(weights=weights, optimiser=optimiser): torch.nn.utils.clip_grad_norm_(weights, 1.0); optimiser.step(); optimiser.zero_grad(set_to_none=False)
        ways[name] = step
    for _ in range(spec['rounds']):
        clock.start(); clock.stop(values={name: milliseconds(call, 40) for name, call in ways.items()})
    clock.start(); clock.final()

def compiled(spec, clock):
    "A training step of our model, plain and with its blocks under torch.compile, in milliseconds; or the error that stopped it"
    tokeniser, pool, _ = data_of(spec)
    data, ways, facts = Encoded(tokeniser, pool), {}, {}
    order = data.lengths.max(1).argsort()
    steps = [data.batch(order[g], 'cpu') for g in batches(data.lengths.max(1)[order].tolist(), spec['recipe']['tokens']//2)[5:25]]
    for name in ('step, plain', 'step, torch.compile'):
        torch.manual_seed(0)
        model = Transformer(shape_of(spec, tokeniser)).train()
        if name.endswith('compile'):
            for block in [*model.encoder, *model.decoder]: block.compile(dynamic=True)
        def run(model=model):
            for batch in steps: model(*batch)[0].backward()
        t = time.perf_counter()
        try: run(); ways[name] = run
        except Exception as e: facts['error'] = f'{type(e).__name__}: {str(e).splitlines()[0]}' # what a user would meet, kept as a result
        facts['seconds_of_first_pass'] = time.perf_counter() - t
    for _ in range(spec['rounds']):
        clock.start(); clock.stop(values={name: milliseconds(call, 2)/len(steps) for name, call in ways.items()})
    clock.start(); clock.final(**facts)

def peak(spec, clock):
    "GFLOP/s of a square matrix product, float32 and bfloat16"
    for _ in range(spec['rounds']):
        clock.start()
        values = {}
        for name, dtype, n, times in (('float32', torch.float32, 2048, 4), ('bfloat16', torch.bfloat16, 512, 2)):
            a, b = torch.randn(2, n, n).to(dtype)
            values[name] = 2*n**3/milliseconds(lambda: a @ b, times)/1e6
        clock.stop(values=values)
    clock.start(); clock.final()

if __name__ == '__main__':
    spec = json.loads(sys.argv[1])
    torch.set_num_threads(spec['threads'])
    globals()[spec['kind']](spec, Clock())
