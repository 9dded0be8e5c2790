"""Exact self-BLEU of up to a million sentences, beside what a user would take instead: python benchmarks/diversity.py

Every measurement is a process of its own, on one core with one thread: it loads the texts, warms up on ten of them, and then the clock runs. Round by round the contenders take turns.
With each size the number of texts grows; a contender whose rounds take more than --limit seconds leaves. Rows are appended to results/performance/diversity.jsonl.

The sets hold one another. Up to 100,000 texts are English sentences of newstest and Tatoeba. Beyond them come the real sentences that are left (Tatoeba, the German sides, Europarl, WMT22,
SQuAD, the Bible), and when these are used up, joins of two of them; a row counts the joins. All are distinct. The corpora come from the internet, or from REGURGITATION_MIRROR and _HUB.

fast-bleu and NLTK have no tokeniser for this, so they get the same tokens from a file, and cutting them costs them nothing. NLTK is called as Texygen calls it, each text against all the others.
The package diversity offers homogenization_score with BLEU, which is another quantity: the BLEU of all the others against each text. Each takes part where it is named:

    python -m venv ../nltk && ../nltk/bin/pip install nltk==3.10.4 fast-bleu==0.0.90
    python -m venv ../diversity && ../diversity/bin/pip install diversity==0.3.1 spacy openai # it imports these two without asking for them
    python benchmarks/diversity.py --nltk ../nltk/bin/python --fast-bleu ../nltk/bin/python --diversity ../diversity/bin/python
"""
import argparse, json, os, re, statistics, subprocess, sys, tempfile, time
from importlib.metadata import version
from pathlib import Path

OUT = Path(__file__).resolve().parent.parent/'results'/'performance'/'diversity.jsonl'
SIZES = [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 100_000, 200_000, 400_000, 1_000_000]

# contenders: from texts to their scores ---------------------------------------------------------------------------------
def regurgitation(texts):
    from regurgitation.diversity import self_bleu_scores
    return self_bleu_scores(texts)

def sacrebleu(texts):
    import sacrebleu
    metric = sacrebleu.BLEU(effective_order=True)
    return [metric.sentence_score(text, texts[:i] + texts[i + 1:]).score for i, text in enumerate(texts)]

def nltk(lines):
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
    texts, smooth = [line.split() for line in lines], SmoothingFunction().method1
    return [100*sentence_bleu(texts[:i] + texts[i + 1:], text, smoothing_function=smooth) for i, text in enumerate(texts)]

def fast_bleu(lines):
    from fast_bleu import SelfBLEU
    return [100*score for score in SelfBLEU([line.split() for line in lines]).get_score()[4]]

def diversity(texts):
    from diversity import homogenization_score
    return 100*homogenization_score(texts, measure='bleu', verbose=False)

# name, the package that it stands for, what it reads, the smoothing of ours that it should agree with
CONTENDERS = {f.__name__: (f, *facts) for f, *facts in ((regurgitation, 'regurgitation', 'texts', 'exp'), (sacrebleu, 'sacrebleu', 'texts', 'exp'), (fast_bleu, 'fast-bleu', 'tokens', 'floor'),
                                                        (nltk, 'nltk', 'tokens', 'floor'), (diversity, 'diversity', 'texts', None))}

def peak(): return int(re.search(r'VmHWM:\s+(\d+)', Path('/proc/self/status').read_text())[1])*1024 # as ru_maxrss, without what the process was before exec

def measure(spec):
    "In a process of its own: the scores of the texts, in how many seconds and bytes"
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    answer, sys.stdout = os.fdopen(os.dup(1), 'w'), sys.stderr # whatever a package prints goes elsewhere
    os.dup2(2, 1)
    score, package, file, _ = CONTENDERS[spec['contender']]
    with open(Path(spec['folder'])/file, encoding='utf-8', newline='\n') as lines: texts = [line[:-1] for line, _ in zip(lines, range(spec['texts']))]
    score(texts[:10])
    before, start, cpu = peak(), time.perf_counter(), time.process_time()
    scores = score(texts)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    told = dict(seconds=seconds, cpu_seconds=cpu, peak_bytes=peak(), baseline_bytes=before, version=version(package), scores=scores if isinstance(scores, float) else list(scores))
    print(json.dumps(told), file=answer, flush=True)

# texts ------------------------------------------------------------------------------------------------------------------
def sentences(most):
    "Distinct texts, at least so many, and how many of them are no joins"
    from regurgitation.bible import bible_verses
    from regurgitation.core import shuffled
    from regurgitation.corpora import load_corpus
    def sides(name, *columns):
        pool = load_corpus(name, 'all')
        for column in columns: yield from pool[column][:]
    distinct = lambda texts: list(dict.fromkeys(text for text in (' '.join(text.split()) for text in texts) if text))
    english = distinct([*sides('newstest-de-en', 'target'), *sides('tatoeba-de-en', 'target')])
    first, rest = english[:100_000], english[100_000:]
    if most <= len(first): return shuffled(first, 'diversity', 0), len(first)
    for name in ('newstest-de-en', 'tatoeba-de-en'): rest += sides(name, 'source')
    for name in ('europarl-de-en', 'wmt22-de-en', 'wmt22-en-de'): rest += sides(name, 'source', 'target')
    rest += [part for text in dict.fromkeys(sides('squad', 'source')) for paragraph in text.split('\n\n') for part in re.split(r'(?<=[.!?]) (?=[A-Z"])', paragraph)]
    rest += [verse for bible in ('wyc', 'web', 'bbe') for verse in bible_verses(bible).values()]
    real = distinct(shuffled(first, 'diversity', 0) + shuffled(distinct(rest), 'diversity', 1))
    joins = (f'{a} {b}' for k in range(2, 9) for order in [shuffled(real, 'diversity', k)] for a, b in zip(order[::2], order[1::2]))
    texts = dict.fromkeys(real)
    while len(texts) < most: texts[next(joins)] = None
    return list(texts), len(real)

def write(folder, texts):
    "One text a line, and the same texts as tokens"
    from regurgitation.diversity import _cut
    tokens = (' '.join(line) for start in range(0, len(texts), 20_000) for line in _cut(texts[start:start + 20_000], '13a', False))
    for name, lines in ('texts', texts), ('tokens', tokens):
        with open(Path(folder)/name, 'w', encoding='utf-8', newline='\n') as f: f.writelines(f'{line}\n' for line in lines)

# the race ---------------------------------------------------------------------------------------------------------------
def ask(python, spec, cwd=None):
    from regurgitation.core import InputError
    done = subprocess.run([python, '-I', str(Path(__file__).resolve()), '--measure', json.dumps(spec)], stdout=subprocess.PIPE, text=True, cwd=cwd)
    if done.returncode: raise InputError(f'{spec["contender"]}, {spec["texts"]} texts: its process ended with {done.returncode}. Its last words are above; leave it out, or mend its environment.')
    return json.loads(done.stdout)

def main(options):
    from regurgitation.core import append_row, hardware
    from regurgitation.diversity import Tokens, self_bleu_scores
    running = {'regurgitation': sys.executable, 'sacrebleu': sys.executable, **{name: python for name in ('fast_bleu', 'nltk', 'diversity') if (python := getattr(options, name))}}
    run, sizes = time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime()), [n for n in SIZES if n <= options.most]
    texts, real = sentences(max(sizes))
    with tempfile.TemporaryDirectory() as folder:
        write(folder, texts)
        for n in sizes:
            load, tokens, told = os.getloadavg(), Tokens(texts[:n]), {name: [] for name in running}
            for _ in range(options.rounds):
                for name, python in running.items(): told[name].append(ask(python, dict(contender=name, texts=n, folder=folder), options.metrics))
            for name, rounds in told.items():
                seconds, smooth = [r['seconds'] for r in rounds], CONTENDERS[name][3]
                scores = rounds[0]['scores']
                row = dict(part='self-BLEU', contender=CONTENDERS[name][1], version=rounds[0]['version'], texts=n, joins=max(0, n - real), tokens=len(tokens.ids),
                           seconds=statistics.median(seconds), rounds=seconds, cpu_seconds=statistics.median(r['cpu_seconds'] for r in rounds),
                           peak_bytes=max(r['peak_bytes'] for r in rounds), baseline_bytes=min(r['baseline_bytes'] for r in rounds),
                           score=statistics.fmean(scores) if isinstance(scores, list) else scores)
                if smooth and name != 'regurgitation': # ours stops a short text at its length, NLTK counts it as missing: compared are the others
                    ours, long = self_bleu_scores(tokens, smooth=smooth, effective_order=smooth == 'exp'), tokens.lengths >= 4
                    row['largest_difference'] = float(abs(ours - scores)[long].max())
                append_row(options.out, row | dict(machine=hardware(), load=load, run=run))
                print(f'{n:9,} {row["contender"]:14} {row["seconds"]:9.3f} s, {row["cpu_seconds"]:9.3f} s of the processor, {row["peak_bytes"]/2**30:6.3f} GiB, '
                      f'{(row["peak_bytes"] - row["baseline_bytes"])/2**30:6.3f} of them for the measure', flush=True)
                if row['cpu_seconds'] > options.limit and name != 'regurgitation': del running[name]

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ('nltk', 'fast-bleu', 'diversity'): parser.add_argument(f'--{name}', help='python of an environment that has it')
    parser.add_argument('--metrics', help='folder with bleu/bleu.py of huggingface/evaluate, which diversity loads from the hub where there is none')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--limit', type=float, default=30, help='seconds of the processor that a round may take; a contender that needs more leaves')
    parser.add_argument('--most', type=int, default=SIZES[-1], help='texts')
    parser.add_argument('--out', type=Path, default=OUT)
    parser.add_argument('--measure', help=argparse.SUPPRESS) # the process of one measurement
    options = parser.parse_args()
    os.environ |= {f'{library}_NUM_THREADS': '1' for library in ('OMP', 'OPENBLAS', 'MKL')}
    measure(json.loads(options.measure)) if options.measure else main(options)
