"Claims come before their rows: what the history of this repository can show, and what it cannot is marked in the register."
import json, subprocess
from functools import cache
from pathlib import Path

import pytest

from regurgitation.claims import load_claims, read_toml, tomllib

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {read_toml(p)['name']: p.parent.name for p in (ROOT/'results').glob('*/study.toml')}

def git(*call): return subprocess.run(['git', '-C', ROOT, *call], capture_output=True, text=True).stdout

@pytest.fixture(scope='module')
def order():
    "Commit -> its place, oldest first"
    if git('rev-parse', '--is-shallow-repository').strip() != 'false': pytest.skip('no whole git history beside this test')
    return {commit: i for i, commit in enumerate(git('rev-list', '--reverse', '--topo-order', 'HEAD').split())}

def versions(path): return [(c, text) for c in git('log', '--format=%H', '--reverse', '--topo-order', '--', path).split() if (text := git('show', f'{c}:{path}'))]

def single(register):
    "Each contrast of one arm against one, with what identifies it"
    for id, claim in register['claims'].items():
        for k in claim.get('contrasts', []):
            for b in k['b']:
                for n in k.get('b_sizes', [k['size']]): yield (id, k['study'], k['a'], b, str(k['size']), str(n)), k

@cache
def first_rows(study):
    "Arm -> the commit that brought its first row"
    found = {}
    for commit, text in versions(f'results/{FOLDERS[study]}/rows.jsonl'):
        for line in text.splitlines(): found.setdefault(json.loads(line)['arm'], commit)
    return found

def test_what_git_cannot_show_to_be_older_is_marked(order):
    first = {}
    for commit, text in versions('regurgitation/claims.toml'):
        for contrast, _ in single(tomllib.loads(text)): first.setdefault(contrast, commit)
    for contrast, k in single(load_claims()):
        if contrast[1] not in FOLDERS: continue # of the texts themselves, or a demonstration without committed rows
        assert contrast in first, f'{contrast}: commit the register before its rows'
        rows = first_rows(contrast[1])
        both = max(order[rows[arm]] for arm in contrast[2:4] if arm in rows)
        assert (order[first[contrast]] >= both) == ('registered' in k), f'{contrast}: registered in {first[contrast][:7]}'
