"""The small sweep with which the recipe was chosen: real pairs (Wycliffe to the World English Bible), scored on the human
development set, never on the test set: python benchmarks/recipe.py --pairs 4000 --epochs 10

One row for each setting is appended to results/recipe/rows.jsonl; settings that are there already are not run again.
"""
import argparse, itertools, tempfile, time
from pathlib import Path
import torch
from regurgitation.core import append_row, hardware, read_rows
from regurgitation.corpora import load_corpus
from regurgitation.metrics import bleu
from regurgitation.training import Recipe, train
from regurgitation.transformer import Shape, load_translator, translate

OUT = Path(__file__).parents[1]/'results'/'recipe'/'rows.jsonl'
GRID = dict(d_model=[64, 96, 128], vocab_size=[1000, 2000], tokens=[512, 2048], lr=[2e-3, 4e-3], dropout=[0.0, 0.1])

def measure(setting, pool, dev, epochs, seed):
    "Train with one setting: the lowest development loss, BLEU on the development set, and what it cost"
    shape = Shape(**{k: setting[k] for k in ('d_model', 'vocab_size', 'dropout')})
    recipe = Recipe(epochs=epochs, tokens=setting['tokens'], lr=setting['lr'])
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        history = train(pool, dev, folder, shape, recipe, seed)
        seconds = time.perf_counter() - start
        score = bleu(translate(*load_translator(Path(folder)/'best'), dev['source']), dev['references'])
    return dict(dev_bits_per_byte=min(e['dev_bits_per_byte'] for e in history), dev_bleu=score.score, signature=score.signature, seconds=seconds)

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--pairs', type=int, default=4000, help='of the training split')
    parser.add_argument('--epochs', type=int, default=10)
    parser.add_argument('--dev-pairs', type=int, default=300)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--limit', type=int, help='settings to run at most')
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--out', type=Path, default=OUT)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    pool, dev = load_corpus('bible', split='train', n=options.pairs), load_corpus('bible', split='dev', n=options.dev_pairs)
    fixed = dict(pairs=options.pairs, epochs=options.epochs, dev_pairs=options.dev_pairs, seed=options.seed)
    done = read_rows(options.out) if options.out.is_file() else []
    for values in itertools.islice(itertools.product(*GRID.values()), options.limit):
        setting = dict(zip(GRID, values)) | fixed
        if any(all(row[k] == v for k, v in setting.items()) for row in done): continue
        row = setting | measure(setting, pool, dev, options.epochs, options.seed) | dict(machine=hardware())
        append_row(options.out, row)
        print({k: row[k] for k in (*GRID, 'dev_bits_per_byte', 'dev_bleu', 'seconds')}, flush=True)

if __name__ == '__main__': main()
