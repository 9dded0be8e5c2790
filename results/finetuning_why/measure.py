"""What the training sets of the fine-tuning studies are like: rows behind the pages "Does a stronger teacher help?" and "The same for question answering"

    python results/finetuning_why/measure.py      makes the rows that are missing; stop it at any moment and call it again

For each arm and seed of results/finetuning, of the pairs on which the student was trained:
bits_per_byte   how surprising the first 200 targets are to Gemma 3 270M before any tuning, asked without an example (ends included)
echoes          share of targets that say nothing but a word of the prompt, such as "English:"
words           words of the targets over those of the human ones
like_own        chrF of the targets against what Gemma itself wrote for the same sources
typographic     share of targets with a typographic quotation mark or apostrophe

And of each arm's translations of the test set: how much better they are than those of the human arm when quotation marks, apostrophes, dashes
and dots are written alike in translations and references, and for each seed the share with a typographic mark (quotes: with a quotation mark), and BLEU
as it is and with marks alike. Of people's, Gemma's and GPT-4's pairs: what the step from the smallest to the largest size brought, marks alike.

For each arm and seed of results/finetuning_squad, of the questions on which the student was trained: exact match and F1 of the answers against
the human ones, their words and those of the human ones, and the share that stands word for word in the text. The same for Gemma's answers to all
questions, and to those to which SmolLM2 gave the same answer (`part` is "agreement").
"""
import math
from dataclasses import replace
from pathlib import Path

import numpy as np, torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from regurgitation import __version__
from regurgitation.arms import Data, scorer_of, teachers_of, training_set
from regurgitation.claims import Results
from regurgitation.core import Store, append_row, hardware, pool_fingerprint, progress, read_rows
from regurgitation.finetuning import Examples, answer_loss
from regurgitation.metrics import chrf, effect_interval, exact_match, f1, gap_interval, score_from_statistics, statistics
from regurgitation.mixture import agreement_scores
from regurgitation.models import get_model
from regurgitation.studies import arm_scores, generated_pool, load_study

HERE = Path(__file__).parent
ROWS, STUDY, QUESTIONS = HERE/'rows.jsonl', HERE.parent/'finetuning'/'study.toml', HERE.parent/'finetuning_squad'/'study.toml'
ECHOES = {'english:', 'english', 'german:', 'german'}

@torch.no_grad()
def bits_per_byte(lm, tokeniser, pool):
    examples = Examples(tokeniser, pool)
    with torch.autocast('cpu', torch.bfloat16): total = sum(answer_loss(lm, examples.batch(group)).item() for group in examples.batches(4096, 'why'))
    return total/math.log(2)/examples.bytes

ALIKE = str.maketrans({'“': '"', '”': '"', '„': '"', '’': "'", '‘': "'", '–': '-', '—': '-', '…': '...'})
def typographic(text): return any(c in text for c in '“”„’‘')

def alike_runs(part, arm, references):
    "An arm's rows and translations, a seed each, and what BLEU counts in them with one way to write quotation marks"
    rows = sorted((r for r in part.rows if r['arm'] == arm), key=lambda r: r['seed'])
    made = [part.predictions(r) for r in rows]
    return rows, made, np.stack([statistics('bleu', [t.translate(ALIKE) for t in m['hypotheses']], [[t.translate(ALIKE) for t in references[i]] for i in m['ids']]) for m in made])

def told(interval, part):
    return {**{k: getattr(interval, k) for k in ('estimate', 'low', 'high', 'p', 'seeds', 'items')}, 'signature': part.rows[0]['metrics']['bleu']['signature'] + ', quotation marks alike', 'version': __version__}

def style_rows(study, done):
    "Every arm minus the human one at each size, with one way to write quotation marks"
    results, references = Results(STUDY.parent), {r['id']: r['references'] for r in Data(study).splits['test'].to_list()}
    share = lambda made, has: [sum(map(has, m['hypotheses']))/len(m['ids']) for m in made]
    for size in results.sizes('real'):
        part = results.at(size)
        human = alike_runs(part, 'real', references)
        for arm in part.arms:
            if (arm, size) in done: continue
            rows, made, counted = alike_runs(part, arm, references)
            if len(rows) < len(human[0]): continue
            g = gap_interval(counted, human[2], 'bleu', ids=made[0]['ids'])
            yield {'study': 'finetuning_why', 'part': 'style', 'arm': arm, 'size': size, 'metric': 'bleu', 'typographic': share(made, typographic), 'quotes': share(made, lambda t: any(c in t for c in '“”')),
                   'bleu': [r['metrics']['bleu']['score'] for r in rows], 'bleu_alike': [round(float(score_from_statistics('bleu', x.sum(0))), 4) for x in counted], **told(g, part)}

def growth_rows(study, done):
    "What the pairs from the smallest to the largest size brought an arm, and what they changed in its difference from the human one, marks alike"
    results, references = Results(STUDY.parent), {r['id']: r['references'] for r in Data(study).splits['test'].to_list()}
    few, many = (results.sizes('real')[i] for i in (0, -1))
    ids = results.predictions(results.rows[0])['ids']
    change = lambda arm, weight=1: [(sign*weight, alike_runs(results.at(n), arm, references)[2], 'bleu') for n, sign in ((few, -1), (many, 1))]
    for arm, of in (('real', 'score'), ('self', 'score'), ('self', 'minus real'), ('gpt-4', 'score'), ('gpt-4', 'minus real')):
        if (arm, of, many) in done: continue
        terms = change(arm) + (change('real', -1) if of == 'minus real' else [])
        yield {'study': 'finetuning_why', 'part': 'growth', 'arm': arm, 'of': of, 'smaller': few, 'size': many, 'metric': 'bleu', **told(effect_interval(terms, ids=ids), results)}

def drawn(study, data, arm, seed, store):
    "The training set of an arm at the largest size"
    spec, size = study.arms[arm], study.sizes[-1]
    available = data.train(seed, max(size, spec.get('among', 0)))
    scores = arm_scores(study, data, arm, store) if scorer_of(spec) else None
    return training_set(available, [generated_pool(study, data, arm, t, seed, store) for t in teachers_of(spec)], size, spec, seed, scores)

def target_rows(study, store, done):
    data, base = Data(study), get_model(study.learner['model'])
    if not (missing := [(arm, seed) for seed in study.seeds for arm in study.arms if (arm, seed) not in done]): return
    lm, tokeniser = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval(), AutoTokenizer.from_pretrained(base)
    own, human = data.texts('self'), {r['id']: len(r['target'].split()) for r in data.splits['train'].to_list()}
    own = dict(zip(own['id'][:], own['target'][:]))
    for arm, seed in progress(missing, label='training sets', unit=' sets'):
        pool = drawn(study, data, arm, seed, store)
        ids, targets = pool['id'][:], pool['target'][:]
        yield {'study': 'finetuning_why', 'part': 'targets', 'arm': arm, 'size': study.sizes[-1], 'seed': seed, 'training_set': pool_fingerprint(pool), 'bits_per_byte': round(bits_per_byte(lm, tokeniser, pool.select(range(200))), 5),
               'echoes': sum(t.strip().lower() in ECHOES for t in targets)/len(targets), 'typographic': sum(map(typographic, targets))/len(targets), 'words': sum(len(t.split()) for t in targets)/sum(human[i] for i in ids),
               'like_own': {'score': round((found := chrf(targets, [[own[i]] for i in ids])).score, 4), 'signature': found.signature}, 'hardware': hardware(), 'version': __version__}

def beside_human(pool, human):
    "What answers are like beside the human ones to the same questions"
    targets, right = pool['target'][:], [human[i]['target'] for i in pool['id'][:]]
    scores = {k: {'score': round((found := metric(targets, right)).score, 4), 'signature': found.signature} for k, metric in (('exact_match', exact_match), ('f1', f1))}
    words = lambda texts: round(float(np.mean([len(t.split()) for t in texts])), 4)
    return {'questions': len(pool), **scores, 'words': words(targets), 'human_words': words(right), 'in_text': sum(t in s for s, t in zip(pool['source'][:], targets))/len(pool)}

def answer_rows(study, store, done):
    data, told = Data(study), {'hardware': hardware(), 'version': __version__}
    human = {r['id']: r for r in data.splits['train'].to_list()}
    for arm, seed in [(arm, seed) for arm in study.arms for seed in study.seeds if (arm, seed) not in done]:
        pool = drawn(study, data, arm, seed, store)
        yield {'study': 'finetuning_why', 'part': 'answers', 'arm': arm, 'size': study.sizes[-1], 'seed': seed, 'training_set': pool_fingerprint(pool), **beside_human(pool, human), **told}

def agreement_rows(study):
    data, told = Data(study), {'hardware': hardware(), 'version': __version__}
    human, pool = {r['id']: r for r in data.splits['train'].to_list()}, data.texts('self')
    same = agreement_scores(pool, data.texts('smollm2')) == 100
    for arm, kept in (('all', np.ones(len(pool), bool)), ('the same answer', same), ('another answer', ~same)):
        yield {'study': 'finetuning_why', 'part': 'agreement', 'arm': arm, **beside_human(pool.select(np.flatnonzero(kept)), human), **told}

def main():
    study, questions = (replace(load_study(path, full=True), sizes=load_study(path).sizes) for path in (STUDY, QUESTIONS)) # all arms, at the size of the core
    store = Store()
    rows = read_rows(ROWS) if ROWS.exists() else []
    done = lambda part: {(r['arm'], r.get('seed')) for r in rows if r['part'] == part}
    for made in (target_rows(study, store, done('targets')), style_rows(study, {(r['arm'], r['size']) for r in rows if r['part'] == 'style'}), growth_rows(study, {(r['arm'], r['of'], r['size']) for r in rows if r['part'] == 'growth'}),
                 answer_rows(questions, store, done('answers')), *([] if done('agreement') else [agreement_rows(questions)])):
        for row in made: append_row(ROWS, row)

if __name__ == '__main__': main()
