"""What the training sets of results/finetuning are like to the model that learns from them: rows behind the page "Does a stronger teacher help?"

    python results/finetuning_why/measure.py      makes the rows that are missing; stop it at any moment and call it again

For each arm, of the pairs on which its student of the first seed was trained:
bits_per_byte   how surprising the first 200 targets are to Gemma 3 270M before any tuning, asked without an example (ends included)
echoes          share of targets that say nothing but a word of the prompt, such as "English:"
words           words of the targets over those of the human ones
like_own        chrF of the targets against what Gemma itself wrote for the same sources
typographic     share of targets with a typographic quotation mark or apostrophe

And of each arm's translations of the test set, over all seeds: how much better they are than those of the human arm when quotation marks,
apostrophes, dashes and dots are written alike in translations and references.
"""
import math
from pathlib import Path

import numpy as np, torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from regurgitation import __version__
from regurgitation.arms import Data, teachers_of, training_set
from regurgitation.claims import Results
from regurgitation.core import Store, append_row, hardware, pool_fingerprint, progress, read_rows
from regurgitation.finetuning import Examples, answer_loss
from regurgitation.metrics import chrf, gap_interval, statistics
from regurgitation.models import get_model
from regurgitation.studies import generated_pool, load_study

HERE = Path(__file__).parent
ROWS, STUDY = HERE/'rows.jsonl', HERE.parent/'finetuning'/'study.toml'
ECHOES = {'english:', 'english', 'german:', 'german'}

@torch.no_grad()
def bits_per_byte(lm, tokeniser, pool):
    examples = Examples(tokeniser, pool)
    with torch.autocast('cpu', torch.bfloat16): total = sum(answer_loss(lm, examples.batch(group)).item() for group in examples.batches(4096, 'why'))
    return total/math.log(2)/examples.bytes

ALIKE = str.maketrans({'“': '"', '”': '"', '„': '"', '’': "'", '‘': "'", '–': '-', '—': '-', '…': '...'})
def typographic(text): return any(c in text for c in '“”„’‘')

def style_rows(study):
    "Every arm minus the human one, with one way to write quotation marks"
    results, references = Results(STUDY.parent), {r['id']: r['references'] for r in Data(study).splits['test'].to_list()}
    def of(arm):
        made = [results.predictions(r) for r in sorted((r for r in results.rows if r['arm'] == arm), key=lambda r: r['seed'])]
        return made[0]['ids'], np.stack([statistics('bleu', [t.translate(ALIKE) for t in m['hypotheses']], [[t.translate(ALIKE) for t in references[i]] for i in m['ids']]) for m in made])
    ids, real = of('real')
    for arm in results.arms:
        g = gap_interval(of(arm)[1], real, 'bleu', ids=ids)
        shown = results.predictions(next(r for r in results.rows if r['arm'] == arm))
        yield {'study': 'finetuning_why', 'part': 'style', 'arm': arm, 'metric': 'bleu', **{k: getattr(g, k) for k in ('estimate', 'low', 'high', 'p', 'seeds', 'items')}, 'typographic': sum(map(typographic, shown['hypotheses']))/len(ids),
               'signature': results.rows[0]['metrics']['bleu']['signature'] + ', quotation marks alike', 'version': __version__}

def main():
    study, store = load_study(STUDY), Store()
    data, size = Data(study), study.sizes[-1]
    rows = read_rows(ROWS) if ROWS.exists() else []
    done = {(r['arm'], r['seed']) for r in rows if r['part'] == 'targets'}
    missing = [(arm, seed) for seed in study.seeds[:1] for arm in study.arms if (arm, seed) not in done]
    base = get_model(study.learner['model'])
    lm, tokeniser = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval(), AutoTokenizer.from_pretrained(base)
    own = data.texts('self')
    own = dict(zip(own['id'][:], own['target'][:]))
    for arm, seed in progress(missing, label='training sets', unit=' sets'):
        spec, human = study.arms[arm], data.train(seed, size)
        pool = training_set(human, [generated_pool(study, data, arm, t, seed, store) for t in teachers_of(spec)], size, spec, seed)
        ids, targets = pool['id'][:], pool['target'][:]
        words = {r['id']: len(r['target'].split()) for r in human}
        append_row(ROWS, {'study': 'finetuning_why', 'part': 'targets', 'arm': arm, 'size': size, 'seed': seed, 'training_set': pool_fingerprint(pool), 'bits_per_byte': round(bits_per_byte(lm, tokeniser, pool.select(range(200))), 5),
                          'echoes': sum(t.strip().lower() in ECHOES for t in targets)/len(targets), 'typographic': sum(map(typographic, targets))/len(targets), 'words': sum(len(t.split()) for t in targets)/sum(words[i] for i in ids),
                          'like_own': {'score': round((found := chrf(targets, [[own[i]] for i in ids])).score, 4), 'signature': found.signature}, 'hardware': hardware(), 'version': __version__})
    if not any(r['part'] == 'style' for r in rows):
        for row in style_rows(study): append_row(ROWS, row)

if __name__ == '__main__': main()
