"""Fine-tuning speed beside transformers' Trainer and trl's SFTTrainer, on the same batches: python benchmarks/finetuning.py

Each contender makes the same steps, from the same weights, with the same rates, in a process of its own; they take turns, round by round, so that whatever else the
machine does meets all of them. A row for each is appended to results/performance/finetuning.jsonl when its steps are done; what is there is not measured again, so the
script may be stopped at any moment. The first step of a process warms up and is not counted. The last lines set the contenders beside one another.
trl is no dependency of ours; SFTTrainer takes part where a folder that holds it is named, as it comes (it computes the layers a second time to save memory) and without that:

    pip install --no-deps --target ../trl trl==1.16.0
    python benchmarks/finetuning.py --trl ../trl
"""
import argparse, json, os, resource, statistics, subprocess, sys, tempfile, time
from dataclasses import replace
from pathlib import Path
import torch
from regurgitation.core import append_row, hardware, installed_version, read_rows
from regurgitation.finetuning import Examples, Tuning, _ready, _start, _step
from regurgitation.training import learning_rate

OUT = Path(__file__).parents[1]/'results'/'performance'/'finetuning.jsonl'
KEY = ('contender', 'model', 'case', 'precision', 'tokens', 'steps', 'threads', 'round')
PLAIN = 'SFTTrainer, no checkpointing'
CASES = {'frozen embedding': dict(frozen_embedding=True), 'all weights': dict(frozen_embedding=False), 'LoRA': dict(rank=8, lr=3e-4)}

class Clock:
    "The seconds of each step, and the largest memory of the process so far"
    def __init__(self): self.seconds, self.before = [], peak()
    def start(self): self.t = time.perf_counter()
    def stop(self):
        if torch.cuda.is_available(): torch.cuda.synchronize() # a GPU works on after the call that gave it its work
        self.seconds.append(time.perf_counter() - self.t)

def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/2**10 # MiB

def batches(data, tuning, spec): return data.batches(tuning.tokens, 0, 0)[:spec['steps']]

def ours(spec, tuning, pool):
    "The steps of `finetune`"
    run = _ready(spec['model'], pool, tuning)
    groups, clock, losses = batches(run.data, tuning, spec), Clock(), []
    run.lm.train()
    for i, group in enumerate(groups):
        clock.start()
        losses.append(_step(run, group, learning_rate(tuning, (i + 1)/len(groups))).item()/run.data.answers(group))
        clock.stop()
    return clock, losses, run.data, groups

def theirs(spec, tuning, pool):
    "Trainer or SFTTrainer, given our batches in our order, our optimiser and our rates; what it does with them is its own"
    from transformers import Trainer, TrainerCallback, TrainingArguments
    from torch.utils.data import DataLoader
    lm, adapted, tokeniser = _start(spec['model'], None, tuning, 0, None)
    data = Examples(tokeniser, pool)
    groups, kind, arguments, more, saving = batches(data, tuning, spec), Trainer, TrainingArguments, {}, {}
    if spec['contender'] != 'Trainer':
        from datasets import Dataset
        from trl import SFTConfig, SFTTrainer
        kind, arguments = SFTTrainer, SFTConfig
        if spec['contender'] == PLAIN: saving = dict(gradient_checkpointing=False)
        more = dict(completion_only_loss=True, max_length=None, dataset_kwargs={'skip_prepare_dataset': True})
    clock = Clock()
    class OnTheSameBatches(kind):
        def get_train_dataloader(self):
            batch = lambda group: {**(b := data.batch(group)), 'attention_mask': (torch.arange(b['input_ids'].shape[1]) < torch.tensor([[data.lengths[i][0]] for i in group])).long()}
            return DataLoader([batch(g) for g in groups], batch_size=None)
    class Times(TrainerCallback):
        def on_step_begin(self, *_, **__): clock.start()
        def on_step_end(self, *_, **__): clock.stop()
    learned = [w for w in lm.parameters() if w.requires_grad]
    optimiser = torch.optim.AdamW(learned, tuning.lr, weight_decay=tuning.weight_decay, fused=True)
    rates = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda i: learning_rate(tuning, min(i + 1, len(groups))/len(groups))/tuning.lr)
    with tempfile.TemporaryDirectory() as folder:
        how = arguments(folder, max_steps=len(groups), bf16=spec['precision'] == 'bfloat16', max_grad_norm=tuning.clip, logging_steps=1, logging_strategy='steps', save_strategy='no', report_to=[],
                        use_cpu=spec.get('device', 'cpu') == 'cpu', disable_tqdm=True, remove_unused_columns=False, **saving, **more)
        rows = [{'input_ids': ids, 'labels': [-100]*begin + ids[begin:]} for ids, begin in data.rows]
        if more: rows, more = Dataset.from_list([{**r, 'completion_mask': [int(l != -100) for l in r['labels']]} for r in rows]), dict(processing_class=tokeniser)
        trainer = OnTheSameBatches(lm, how, train_dataset=rows, optimizers=(optimiser, rates), callbacks=[Times()], **more)
        trainer.train()
    return clock, [entry['loss'] for entry in trainer.state.log_history if 'loss' in entry], data, groups

def work(spec):
    "One contender's steps, in this process"
    from regurgitation.corpora import load_corpus
    torch.set_num_threads(spec['threads'])
    tuning = replace(Tuning(tokens=spec['tokens'], precision=spec['precision'], warmup=0.0), **CASES[spec['case']])
    clock, losses, data, groups = (ours if spec['contender'] == 'regurgitation' else theirs)(spec, tuning, load_corpus('wmt22-de-en', split='train', n=spec['pairs']))
    tokens, places = ([f(g) for g in groups] for f in (lambda g: sum(data.lengths[i][0] for i in g), lambda g: len(g)*max(data.lengths[i][0] for i in g)))
    return {**{k: spec[k] for k in KEY}, 'tokens_per_second': sum(tokens[1:])/sum(clock.seconds[1:]), 'seconds': clock.seconds, 'batch_tokens': tokens, 'batch_places': places,
            'answer_tokens': [data.answers(g) for g in groups], 'losses': losses, 'peak_mib': peak(), 'before_mib': clock.before, 'load': os.getloadavg(), 'machine': hardware(),
            'versions': {n: installed_version(n) for n in ('torch', 'transformers', 'peft', 'accelerate', 'trl')}, 'run': time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}

def compare(rows):
    "Medians over the rounds, beside ours"
    for case, precision in sorted({(r['case'], r['precision']) for r in rows}):
        own = [r for r in rows if (r['case'], r['precision']) == (case, precision)]
        median = lambda name, what: statistics.median(r[what] for r in own if r['contender'] == name)
        curve = lambda name: next(r['losses'] for r in own if r['contender'] == name)
        names = sorted({r['contender'] for r in own}, key=lambda n: n != 'regurgitation')
        for name in names:
            line = f'{case:17} {precision:9} {name:28} {median(name, "tokens_per_second"):8.1f} tokens/s {median(name, "peak_mib")/1024:6.2f} GiB'
            if name != names[0]: line += f'   ours is {median(names[0], "tokens_per_second")/median(name, "tokens_per_second"):.2f} times as fast, losses apart by {max(abs(a - b) for a, b in zip(curve(names[0]), curve(name))):.1e}'
            print(line)

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--model', default='gemma-3-270m')
    parser.add_argument('--pairs', type=int, default=1000)
    parser.add_argument('--steps', type=int, default=12, help='the first one is not counted')
    parser.add_argument('--tokens', type=int, default=1024, help='of a batch, padding counted')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--case', nargs='+', default=['frozen embedding', 'all weights'], choices=list(CASES))
    parser.add_argument('--precision', nargs='+', default=['bfloat16', 'float32'])
    parser.add_argument('--trl', help='folder that holds trl')
    parser.add_argument('--out', type=Path, default=OUT)
    parser.add_argument('--worker', help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        say, sys.stdout = sys.stdout, sys.stderr # libraries may print
        print('@' + json.dumps(work(json.loads(options.worker))), file=say, flush=True)
        return
    names, paths = ['regurgitation', 'Trainer'] + ['SFTTrainer', PLAIN]*bool(options.trl), [str(Path(__file__).parents[1]), *([options.trl] if options.trl else [])]
    environment = dict(os.environ, OMP_NUM_THREADS=str(options.threads), ACCELERATE_USE_CPU='true', TOKENIZERS_PARALLELISM='false', PYTHONPATH=os.pathsep.join(paths))
    for turn in range(options.rounds):
        for case in options.case:
            for precision in options.precision:
                for name in names:
                    spec = dict(contender=name, model=options.model, case=case, precision=precision, tokens=options.tokens, steps=options.steps, threads=options.threads, round=turn, pairs=options.pairs)
                    if options.out.exists() and any(all(r[k] == spec[k] for k in KEY) for r in read_rows(options.out)): continue
                    done = subprocess.run([sys.executable, __file__, '--worker', json.dumps(spec)], stdout=subprocess.PIPE, text=True, env=environment)
                    if done.returncode: raise SystemExit(f'{name} stopped; its last words are above. Run again: what was measured is kept.')
                    row = json.loads(next(l for l in done.stdout.splitlines() if l.startswith('@'))[1:])
                    append_row(options.out, row)
                    print(f'{turn} {case:17} {precision:9} {name:28} {row["tokens_per_second"]:8.1f} tokens/s {row["peak_mib"]/1024:6.2f} GiB', flush=True)
    same = dict(model=options.model, tokens=options.tokens, steps=options.steps, threads=options.threads)
    compare([r for r in read_rows(options.out) if all(r[k] == v for k, v in same.items())])

if __name__ == '__main__': main()
