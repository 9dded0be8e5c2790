"""Committed rows made again, and compared byte for byte: python tests/golden.py [NAME ...]

One row of each kind of work. Each is trained and evaluated in a store of its own, so nothing stored helps it. Its predictions
and scores must be those of the committed row. A processor may round otherwise in the last digit, and then a word changes; so
golden.json keeps, for each processor, what the code gave there before a change (--keep writes it). Not part of CI: about
40 minutes of one thread. Needs the corpora (REGURGITATION_MIRROR and REGURGITATION_HUB, or the internet).
"""
import argparse, gzip, hashlib, json, platform, sys, tempfile, time
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
RESULTS, KEPT = HERE.parent/'results', HERE/'golden.json'
ROWS = { # name -> folder of the study, kind of job, arm, size, seed
    'a teacher trained here': ('from_scratch', 'student', 'low-greedy', 400, 0),
    'a baseline': ('from_scratch', 'baseline', 'teacher:low', 0, None),
    'a scored arm': ('orders', 'student', 'detector', 1000, 0),
    'a mixed arm': ('mixtures', 'student', 'generated-50%', 8000, 0),
    'a curriculum': ('mixtures', 'student', 'generated-first', 8000, 0),
    'injected errors': ('isolation', 'student', 'systematic-20', 6400, 0),
    'a fine-tuned model': ('finetuning', 'student', 'gpt-4', 500, 0),
    'question answering': ('finetuning_smollm2', 'student', 'gemma', 500, 0),
}

def processor():
    "What decides the last digit: the processor's widest instructions, and torch"
    return f'{platform.machine()} {torch.backends.cpu.get_cpu_capability()} torch {torch.__version__}'

def summary(row, predictions):
    "The scores of a row and a fingerprint of its predictions"
    text = gzip.decompress(predictions.read_bytes())
    scores = {which: {m: s['score'] for m, s in row[which].items()} for which in ('metrics', 'last')}
    return {'predictions': hashlib.sha256(text).hexdigest(), **scores, 'dev_bits_per_byte': row.get('dev_bits_per_byte')}

def made_again(folder, kind, arm, size, seed):
    "The key of the row, and its summary as the code at hand makes it"
    from regurgitation.core import Store, read_rows
    from regurgitation.studies import Data, job, job_key, load_study
    study = load_study(RESULTS/folder/'study.toml')
    data = Data(study)
    key = job_key(study, data, kind, arm, size, seed)
    with tempfile.TemporaryDirectory() as out:
        job(study, data, Store(Path(out)/'store'), Path(out)/'rows', kind, arm, size, seed)
        row, = read_rows(Path(out)/'rows'/'rows.jsonl')
        return key, summary(row, Path(out)/'rows'/'predictions'/f'{key}.json.gz')

def committed(folder, key):
    "The summary of the committed row with that key; None where there is none"
    from regurgitation.core import read_rows
    rows = {row['key']: row for row in read_rows(RESULTS/folder/'rows.jsonl')}
    return summary(rows[key], RESULTS/folder/'predictions'/f'{key}.json.gz') if key in rows else None

def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('names', nargs='*', help=f'which: {", ".join(ROWS)}; all where none is named')
    parser.add_argument('--keep', action='store_true', help='write what differs from the committed rows to golden.json')
    options = parser.parse_args()
    torch.set_num_threads(1) # as the workers of a study
    kept, wrong = json.loads(KEPT.read_text()) if KEPT.exists() else {}, 0
    for name in options.names or ROWS:
        started, (key, found) = time.perf_counter(), made_again(*ROWS[name])
        before = kept.get(processor(), {}).get(name)
        if found == committed(ROWS[name][0], key): said = 'as committed'
        elif options.keep: said, kept.setdefault(processor(), {})[name] = f'kept; committed was {committed(ROWS[name][0], key)}', found
        else: said = 'as kept for this processor' if found == before else f'DIFFERENT: {found}'
        wrong += said.startswith('DIFFERENT')
        print(f'{name:24} {time.perf_counter() - started:6.0f} s  {said}', flush=True)
        if options.keep: KEPT.write_text(json.dumps(kept, indent=1, sort_keys=True) + '\n')
    sys.exit(f'{wrong} rows are not what they were' if wrong else 0)

if __name__ == '__main__': main()
