"""How long `regurgitation score`, `order` and `keep` take and how much memory, by scorer and number of rows: python benchmarks/scoring.py

The file is made of Gemma 3 270M's committed pool on Tatoeba's German as benchmarks/audit.py makes its own: round after round of the 20,000
sources, which begin with their round from the second on. bleu and detector learn from 2,000 pairs of the first round with their human references.
Each case is a process of its own on one thread; its time and peak memory become a row of results/performance/scoring.jsonl.
"""
import argparse, itertools, json, tempfile, time
from pathlib import Path
from audit import FLAGGED, POOLS, ROOT, measure
from regurgitation.core import append_row, hardware
from regurgitation.corpora import load_corpus
from regurgitation.generation import load_pool
from regurgitation.splits import normalise

def write(path, made, rows):
    "So many rows, round after round"
    with open(path, 'w', encoding='utf-8') as f:
        for i, row in enumerate(itertools.islice(itertools.cycle(made), rows)):
            n = i // len(made) + 1
            if n > 1: row = {**row, 'source': f'Runde {n}: {row["source"]}', 'target': f'Round {n}: {row["target"]}'}
            f.write(json.dumps({**row, 'id': f'{row["id"]}/{i}'}, ensure_ascii=False) + '\n')

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rows', type=int, nargs='+', default=[10_000, 1_000_000])
    parser.add_argument('--by', nargs='+', default=['length', 'entropy', 'detector', 'bleu'])
    parser.add_argument('--out', type=Path, default=ROOT/'results'/'performance'/'scoring.jsonl')
    options = parser.parse_args()
    human = {r['id']: r['target'] for r in load_corpus('tatoeba-de-en', 'train').to_list()}
    made = [{k: r[k] for k in ('id', 'source', 'target', 'origin', 'provenance')} for r in load_pool(POOLS[0], keep=FLAGGED).to_list()]
    labelled, known = made[-2000:], {normalise(row['source']) for row in made[-2000:]}
    made = [row for row in made[:-2000] if normalise(row['source']) not in known] # a scorer refuses sources that it has learned from
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        with open(folder/'labelled.jsonl', 'w', encoding='utf-8') as f:
            for row in labelled: f.write(json.dumps({**row, 'references': [human[row['id']]]}, ensure_ascii=False) + '\n')
        for rows, by in itertools.product(options.rows, options.by):
            write(folder/'made.jsonl', made, rows)
            learned = ['--labelled', folder/'labelled.jsonl'] if by in ('bleu', 'detector') else []
            scored, best = folder/'scored.jsonl', folder/'best.jsonl'
            commands = {'score': [folder/'made.jsonl', '--by', by, '--out', scored, *learned]} | ({'order': [scored, '--out', best], 'keep': [scored, '--top', '50%', '--out', best]} if by == 'length' else {})
            for part, arguments in commands.items(): note(options.out, part, by, rows, measure(folder, part, *arguments))

def note(out, part, by, rows, found):
    row = {'part': part, 'by': by, 'rows': rows, **found, 'rows_per_second': rows/found['seconds'], 'machine': hardware(), 'run': time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}
    append_row(out, row)
    print({k: row[k] for k in ('part', 'by', 'rows', 'seconds', 'cpu_seconds', 'peak_mib')}, flush=True)

if __name__ == '__main__': main()
