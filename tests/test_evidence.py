"The two files of answers: as the rows say, each number beside its row, and with no sentence that is too long."
import csv, json
from pathlib import Path
import numpy as np, pytest
from regurgitation.core import read_rows
from regurgitation.evidence import answers, generator_of, map_points, text_tables, worth_sentence, write_answers

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT/'results'

@pytest.fixture(scope='module')
def again(tmp_path_factory):
    "The files made anew, from a folder that holds links to the committed results"
    root = tmp_path_factory.mktemp('evidence')/'results'
    root.mkdir()
    for folder in RESULTS.iterdir():
        if folder.is_dir(): (root/folder.name).symlink_to(folder)
    write_answers(root)
    return root

def alike(a, b):
    "The same but for the last digit of a number"
    if isinstance(a, dict): return a.keys() == b.keys() and all(alike(a[k], b[k]) for k in a)
    if isinstance(a, list): return len(a) == len(b) and all(map(alike, a, b))
    return abs(a - b) <= 2e-3*max(1, abs(a)) if isinstance(a, float) and isinstance(b, float) else a == b

def test_the_committed_answers_are_what_the_rows_say(again):
    "regurgitation report --all"
    committed, made = (json.loads((root/'answers.json').read_text(encoding='utf-8')) for root in (RESULTS, again))
    assert alike(committed, made)
    rows = [list(csv.DictReader((root/'answers.csv').read_text(encoding='utf-8').splitlines())) for root in (RESULTS, again)]
    assert len(rows[0]) == len(rows[1]) and rows[0][0].keys() == rows[1][0].keys()
    assert len(rows[0]) == sum(len(e['contrasts']) for e in committed['claims']) + sum(len(e['by']) for e in committed['generators'])

@pytest.fixture(scope='module')
def found(): return json.loads((RESULTS/'answers.json').read_text(encoding='utf-8'))

def test_a_number_leads_to_its_rows(found):
    "The estimate of a contrast at one size is the mean over the rows that it names, and each page is there"
    checked = 0
    for entry in found['claims']:
        assert (ROOT/'nbs'/'results'/f'{entry["page"]}.ipynb').exists(), entry
        for c in entry['contrasts']:
            if c['over'] != 'size' or '+' in c['metric']: continue
            score = {side: [json.loads((ROOT/line.split('#L')[0]).read_text().splitlines()[int(line.split('#L')[1]) - 1])['metrics'][c['metric']]['score'] for line in c['rows'][side]] for side in 'ab'}
            assert np.isclose(np.mean(score['a']) - np.mean(score['b']), c['estimate'], atol=2e-3), c
            checked += 1
    assert checked > 60

def test_claims_are_all_there(found):
    assert {e['claim'] for e in found['claims']} == {f'C{i}' for i in range(1, 11)} | {f'M{i}' for i in range(1, 7)} # C11 is open
    assert {e['verdict'] for e in found['claims']} <= {'supported', 'contradicted', 'mixed', 'inconclusive', 'too weak to tell'}
    assert sum(c['registered'] != 'before its rows' for e in found['claims'] for c in e['contrasts']) == 28
    assert all(len(e['answer'].split()) <= 30 for e in found['claims'])

def test_models_are_counted(found):
    assert found['models'] == sum(r['role'] == 'arm' for p in RESULTS.glob('*/study.toml') for r in read_rows(p.parent/'rows.jsonl'))

def test_a_rate_names_its_measure_and_its_place(found):
    for e in found['generators']:
        said = worth_sentence(e)
        assert f'{e["n_generated"]:,} pairs' in said and 'by loss on the development set: ' in said and e['label'] in said
        for c in e['by'].values(): assert (c['worth'] is None) == bool(c['note']) and (c['worth'] is None or c['low'] <= c['worth'] <= (c['high'] or np.inf))

def test_the_worth_of_gemma_read_by_hand(found):
    "Between the losses of 2,000 and 4,000 human pairs, on a straight line over the logarithm"
    e, = (e for e in found['generators'] if e['label'] == 'Gemma 3 270M' and e['corpus'] == 'tatoeba-de-en' and (e['n_real'], e['n_generated']) == (0, 4000))
    rows = {(r['pairs_real'], r['pairs_generated'], r['seed'], r['training_set']): r['dev_bits_per_byte'] for s in ('mixtures', 'orders', 'axes') for r in read_rows(RESULTS/s/'rows.jsonl')
            if r['role'] == 'arm' and r['arm'] in ('real', 'gemma', 'generated', 'real-2000', 'real-4000') and r['learner']['d_model'] == 64}
    loss = lambda real, made: np.mean([v for k, v in rows.items() if k[:2] == (real, made)])
    share = (loss(2000, 0) - loss(0, 4000))/(loss(2000, 0) - loss(4000, 0))
    assert abs(e['by']['loss']['equivalent'] - 2000*2**share) < 15 and 0.6 < e['by']['loss']['worth'] < 0.8

def test_arms_with_a_second_difference_are_not_read():
    study = {'arms': {'real': {}, 'gemma': {'teacher': 'gemma'}, 'sampled': {'teacher': 'high', 'method': 'sample'}, 'entropy': {'teacher': 'gemma', 'order': 'entropy'}, 'both': {'teacher': ['a', 'b']}}}
    assert [generator_of(study, arm) for arm in study['arms']] == ['', 'gemma', 'high, sample', None, None]

def test_the_map_has_every_tuned_model():
    points = map_points(RESULTS)
    assert {(p['student'], p['task']) for p in points} == {('Gemma 3 270M, fine-tuned', 'translation'), ('Gemma 3 270M, fine-tuned', 'qa'), ('SmolLM2 135M, fine-tuned', 'qa')}
    assert all(p['ahead'] == 0 for p in points if p['generator'] == 'self') and len(points) == 13

def test_verdicts_on_texts_are_those_of_their_page():
    tables = text_tables(read_rows(RESULTS/'why'/'rows.jsonl'))
    assert {k: len(t) for k, t in tables.items()} == {'why-annotated': 21, 'why-checked': 16, 'why-diversity': 16}
