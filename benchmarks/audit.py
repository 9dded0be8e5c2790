"""How long `regurgitation audit` takes and how much memory, by number of rows: python benchmarks/audit.py

The file is made of the committed pools: Tatoeba's German by Gemma 3 270M and by SmolLM2 135M in turn, and of the human pairs beside
them. Round after round of the 20,000 sources is written; from the second on each pair begins with its round in both languages
(Runde 2, Round 2), so that hardly a text is twice there. The id is the corpus's with the row's number. Each case is a process of its
own on one thread; its time and peak memory (resident, as Linux counts it) become a row of results/performance/audit.jsonl, with the load of the machine before it.
"""
import argparse, itertools, json, os, sys, tempfile, time
from pathlib import Path
from regurgitation.core import append_row, hardware
from regurgitation.corpora import load_corpus
from regurgitation.generation import load_pool

ROOT = Path(__file__).parents[1]
POOLS = [ROOT/'results'/'pools'/f'tatoeba-de-en.20000.{model}.jsonl.gz' for model in ('gemma-3-270m', 'smollm2-135m-instruct')]
FLAGGED = ('truncated', 'refused', 'language', 'copied') # nothing is left out: the audit shall find it

def write(path, texts, rows):
    "So many rows, of (id, source, target), round after round"
    with open(path, 'w', encoding='utf-8') as f:
        for i, (id, source, target) in enumerate(itertools.islice(itertools.cycle(texts), rows)):
            n = i // len(texts) + 1
            if n > 1: source, target = f'Runde {n}: {source}', f'Round {n}: {target}'
            f.write(json.dumps({'id': f'{id}/{i}', 'source': source, 'target': target}, ensure_ascii=False) + '\n')

def texts_of(pool): return list(zip(pool['id'][:], pool['source'][:], pool['target'][:]))

def files(folder, rows):
    "The paths of the generated and of the human file, with the same ids and sources"
    first, second = (load_pool(path, keep=FLAGGED) for path in POOLS)
    human = dict(zip((h := load_corpus('tatoeba-de-en', 'train'))['id'][:], h['target'][:]))
    other = {id: target for id, _, target in texts_of(second)}
    made = [(id, source, other.get(id, target) if i % 2 else target) for i, (id, source, target) in enumerate(texts_of(first))]
    write(folder/'made.jsonl', made, rows)
    write(folder/'human.jsonl', [(id, source, human[id]) for id, source, _ in made], rows)
    return folder/'made.jsonl', folder/'human.jsonl'

# the process tells its own peak: what wait4 tells of a child begins with its parent's
COMMAND = """import atexit, os, re
from pathlib import Path
from regurgitation.cli import app
atexit.register(lambda: Path(os.environ['PEAK']).write_text(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]))
app()"""

def measure(folder, *arguments): # of the command line
    "Seconds and peak memory of a command as a process"
    load, start = os.getloadavg()[0], time.perf_counter()
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'PEAK': str(folder/'peak')}
    process = os.posix_spawn(sys.executable, [sys.executable, '-c', COMMAND, *map(str, arguments)], environment)
    _, status, used = os.wait4(process, 0)
    assert status == 0, f'{arguments[0]} ended with {status}'
    return {'seconds': time.perf_counter() - start, 'cpu_seconds': used.ru_utime + used.ru_stime, 'peak_mib': int((folder/'peak').read_text())/1024, 'load_before': load}

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rows', type=int, nargs='+', default=[100, 10_000, 100_000, 1_000_000])
    parser.add_argument('--alone', action='store_true', help='without the human and the test file')
    parser.add_argument('--out', type=Path, default=ROOT/'results'/'performance'/'audit.jsonl')
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        test = load_corpus('tatoeba-de-en', 'test')
        write(folder/'test.jsonl', texts_of(test), len(test))
        for rows in options.rows:
            made, human = files(folder, rows)
            beside = [] if options.alone else ['--real', human, '--test', folder/'test.jsonl']
            found = measure(folder, 'audit', made, *beside, '--out', folder/'out')
            row = {'part': 'audit', 'rows': rows, 'beside': not options.alone, 'test_rows': 0 if options.alone else len(test), 'mb': made.stat().st_size/1e6, **found,
                   'rows_per_second': rows/found['seconds'], 'machine': hardware(), 'run': time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}
            append_row(options.out, row)
            print({k: row[k] for k in ('rows', 'beside', 'seconds', 'cpu_seconds', 'peak_mib')}, flush=True)

if __name__ == '__main__': main()
