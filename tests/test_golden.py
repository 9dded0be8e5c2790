"The committed rows: none is lost or renamed, each has the key that its study gives it, and no core row is missing."
import json
from pathlib import Path

import pytest

from regurgitation.arms import Data, scorer_of, sizes_of
from regurgitation.core import read_rows
from regurgitation.studies import baselines, job_key, load_study, plan

RESULTS = Path(__file__).resolve().parents[1]/'results'
STUDIES = sorted(p.parent.name for p in RESULTS.glob('*/study.toml'))
KEYS = json.loads((Path(__file__).parent/'golden_keys.json').read_text()) # study -> keys; a study that adds rows adds theirs

@pytest.mark.parametrize('folder', STUDIES)
def test_every_row_keeps_its_key(folder):
    assert [row['key'] for row in read_rows(RESULTS/folder/'rows.jsonl')][:len(KEYS[folder])] == KEYS[folder]

def possible(study, data):
    "The keys of all rows that a study can have"
    students = [('student', arm, size, seed) for arm, spec in study.arms.items() for size in sizes_of(spec, study.sizes) for seed in study.seeds]
    others = [('baseline', name, 0, None) for name in baselines(study)]
    scorers = [('scorer', arm, 0, None) for arm, spec in study.arms.items() if scorer_of(spec)]
    return {job_key(study, data, *job): job for job in students + others + scorers}

@pytest.mark.parametrize('folder', STUDIES)
def test_rows_belong_to_their_study(folder, shared_data, monkeypatch):
    "The key of each committed row, made again from the study file and its data; and nothing of the core is missing"
    for variable, place in (('REGURGITATION_MIRROR', 'mirror'), ('REGURGITATION_HUB', 'hub')): monkeypatch.setenv(variable, str(shared_data/place))
    core, full = (load_study(RESULTS/folder/'study.toml', full=full) for full in (False, True))
    data = Data(core)
    assert not [job for phase in plan(core, data, RESULTS/folder) for job in phase]
    known = possible(core, data) | possible(full, Data(full, checked=True))
    for row in read_rows(RESULTS/folder/'rows.jsonl'):
        assert row['key'] in known, f'{folder}: no run of the study has the key of {row["arm"]}, size {row["size"]}, seed {row["seed"]}'
        kind, arm, size, seed = known[row['key']]
        if kind != 'scorer': assert (arm, size, seed) == (row['arm'], row['size'], row['seed'])
