"""The rows behind the page "Is generated text poorer?": diversity and errors of every writer on the same sources.

    python results/why/measure.py      makes the rows that are missing; stop it at any moment and call it again

The corpora come from the internet, or from REGURGITATION_MIRROR. The pools of the language models lie under results/pools."""
from pathlib import Path

from regurgitation import __version__
from regurgitation.core import append_row, hardware, progress, read_rows
from regurgitation.corpora import load_corpus
from regurgitation.diversity import MEASURES, Tokens, diversity_difference, diversity_interval, length_bands, self_bleu
from regurgitation.errors import MQM, below, error_rates, load_mqm, mqm_errors
from regurgitation.generation import load_generator, load_pool
from regurgitation.answers import FLAGS
from regurgitation.tasks import languages_of

HERE = Path(__file__).parent
ROWS, POOLS = HERE/'rows.jsonl', HERE.parent/'pools'
RECORDED = {'wmt22-de-en': ['GPT-4', 'ChatGPT', 'text-davinci-003', 'MS-Translator', 'wmt-best'], 'wmt22-en-de': ['GPT-4', 'ChatGPT', 'text-davinci-003', 'MS-Translator', 'wmt-best'],
            'wmt23-de-en': ['GPT4-5shot', 'ONLINE-W', 'ONLINE-B', 'NLLB_Greedy']}
OWN = {'wmt22-de-en': 'wmt22-de-en.1984'} # by Gemma and SmolLM2
SPLIT = {'wmt23-de-en': 'test'}

def writers(corpus):
    "Name -> pool of all writers, the human first, on the sources for which everyone wrote something"
    human = load_corpus(corpus, split=SPLIT.get(corpus, 'all'))
    pools = {'human': human} | {name: load_generator(f'recorded:{name}', keep=FLAGS[1:]).generate(human) for name in RECORDED[corpus]}
    for model in ('gemma-3-270m', 'smollm2-135m-instruct') if corpus in OWN else ():
        pools[model] = load_pool(POOLS/f'{OWN[corpus]}.{model}.jsonl.gz', human, FLAGS[1:])
    everyone = set.intersection(*(set(pool['id'][:]) for pool in pools.values()))
    return {name: pool.select([i for i, id in enumerate(pool['id'][:]) if id in everyone]) for name, pool in pools.items()}

def number(interval): return {k: v for k, v in vars(interval).items() if v is not None and k != 'signature'}

def diversity_rows(corpus, pools):
    tokens = {name: Tokens(pool['target'][:]) for name, pool in pools.items()}
    bands = length_bands(tokens['human'].lengths)
    for name, of in tokens.items():
        measured = {m: {**number(diversity_interval(m, of)), **({} if name == 'human' else {'to_human': number(diversity_difference(m, of, tokens['human']))})} for m in MEASURES}
        yield name, {'measures': measured, 'signature': diversity_interval('distinct_1', of).signature, 'tokens': len(of.ids),
                     'bands': [{'tokens': label, 'texts': len(rows), 'self_bleu': self_bleu(of[rows]).score} for label, rows in bands]}

def cells(table):
    "Rows of a table by their second index, as JSON"
    plain = lambda v: None if v != v else v if isinstance(v, str) else float(v)
    return {name: {c: plain(v) for c, v in row.items()} for name, row in table.to_dict('index').items()}

def error_rows(corpus, pools):
    table = error_rates(pools, languages_of(corpus))
    for name, pool in pools.items(): # a reference has no errors against itself
        poor = {} if name == 'human' else {metric: below(pool, pools['human'], metric) for metric in ('chrf', 'bleu')}
        yield name, {'kinds': cells(table.loc[name]), 'below': {m: cells(t) for m, t in poor.items()}, 'signature': table.attrs['signature'], 'below_signature': {m: t.attrs['signature'] for m, t in poor.items()}}

def annotated_rows(name):
    annotations = load_mqm(name)
    systems = sorted({*annotations.system}, key=lambda s: (s != MQM[name]['human'], s))
    table = mqm_errors(annotations, systems)
    for system in systems: yield system, {'measures': cells(table.loc[system]), 'signature': table.attrs['signature']}

def answer_rows():
    human = load_corpus('squad', split='train', n=5000)
    pools = {'human': human} | {model: load_pool(POOLS/f'squad.5000.{model}.jsonl.gz', human, FLAGS[1:]) for model in ('gemma-3-270m', 'smollm2-135m-instruct')}
    table = error_rates(pools, task='qa')
    for name in pools: yield name, {'kinds': cells(table.loc[name]), 'signature': table.attrs['signature']}

if __name__ == '__main__':
    have = {(r['corpus'], r['part'], r['writer']) for r in read_rows(ROWS)} if ROWS.exists() else set()
    def keep(corpus, part, sources, names, rows):
        if all((corpus, part, name) in have for name in names): return
        for name, found in progress(rows(), len(names), f'{corpus}, {part}'):
            if (corpus, part, name) not in have: append_row(ROWS, {'study': 'why', 'part': part, 'corpus': corpus, 'writer': name, 'sources': sources, **found, 'hardware': hardware(), 'version': __version__})
    for corpus in RECORDED:
        pools = writers(corpus)
        for part, rows in ('diversity', diversity_rows), ('errors', error_rows): keep(corpus, part, len(pools['human']), list(pools), lambda: rows(corpus, pools))
    for name in MQM: keep(name, 'annotated', None, sorted({*load_mqm(name).system}), lambda: annotated_rows(name))
    keep('squad', 'answers', 5000, ['human', 'gemma-3-270m', 'smollm2-135m-instruct'], answer_rows)
