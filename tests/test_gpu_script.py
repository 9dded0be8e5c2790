"benchmarks/gpu.sh: what it says where there is no GPU, and that its code runs there in tiny sizes."
import json, os, subprocess, sys
from pathlib import Path

import pytest, torch

ROOT = Path(__file__).resolve().parents[1]
FIELDS = {'task', 'case', 'contender', 'device', 'device_name', 'precision', 'gpu', 'settings', 'throughput', 'rates',
          'observed', 'tolerance', 'difference', 'passed', 'seconds', 'machine', 'version', 'versions', 'run'}
sys.path.insert(0, str(ROOT/'benchmarks'))

def script(*options):
    "The script, run by this python from another folder"
    environment = dict(os.environ, PYTHON=sys.executable, OMP_NUM_THREADS='1')
    return subprocess.run(['bash', str(ROOT/'benchmarks'/'gpu.sh'), *map(str, options)], cwd=ROOT.parent,
                          capture_output=True, text=True, env=environment)

@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU here')
@pytest.mark.parametrize('options', [(), ('--install',), ('--only', 'training')])
def test_without_a_gpu_it_says_so_and_does_nothing(options):
    run = script(*options)
    assert run.returncode == 2 and run.stdout == ''
    assert len(run.stderr.splitlines()) == 1
    assert 'no GPU' in run.stderr and '--device cpu --smoke --out FILE' in run.stderr

@pytest.mark.parametrize('options', [
    ('--smoke',), ('--device', 'cpu'), ('--device', 'cpu', '--smoke', '--out', ROOT/'results/performance/gpu.jsonl')])
def test_rows_of_a_smoke_stay_out_of_the_committed_file(options):
    run = script(*options)
    assert run.returncode == 2 and 'name another file by --out' in run.stderr

def test_a_smoke_writes_whole_rows_and_measures_none_twice(tmp_path):
    out = tmp_path/'gpu.jsonl'
    ask = '--device', 'cpu', '--smoke', '--only', 'training', '--rounds', '2', '--out', out
    run = script(*ask)
    assert run.returncode == 0, run.stderr[-3000:]
    before, rows = out.read_bytes(), [json.loads(line) for line in out.read_text().splitlines()]
    assert [(r['contender'], r['precision']) for r in rows] == [
        ('regurgitation on the CPU', 'float32'), ('regurgitation', 'float32'), ('regurgitation', 'bfloat16')]
    assert all(FIELDS <= {*r} and r['passed'] and 'gpu' in r['machine'] for r in rows)
    reference, same, half = rows
    assert same['observed'] == reference['observed'] and same['difference'] == {'loss': 0}
    assert half['difference']['loss'] == max(abs(a - b) for a, b in zip(half['observed'], reference['observed'])) > 0
    assert reference['rates'] == {} and {*same['rates']} == {'pairs_per_second', 'tokens_per_second'}
    assert all(len(rounds) == 2 for rounds in same['rates'].values())
    assert same['throughput'] == {unit: sum(rounds)/2 for unit, rounds in same['rates'].items()}
    assert script(*ask).returncode == 0 and out.read_bytes() == before

def test_a_process_sees_one_gpu_or_none(monkeypatch):
    from gpu import environment
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '3,1')
    monkeypatch.setenv('ACCELERATE_USE_CPU', 'true')
    assert environment('cuda')['CUDA_VISIBLE_DEVICES'] == '3' and 'ACCELERATE_USE_CPU' not in environment('cuda')
    assert environment('cpu')['CUDA_VISIBLE_DEVICES'] == '' and environment('cpu')['ACCELERATE_USE_CPU'] == 'true'
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES')
    assert environment('cuda')['CUDA_VISIBLE_DEVICES'] == '0'

def test_answers_are_compared_up_to_the_first_token_that_differs():
    from gpu import answers_apart
    said = lambda text, ids, logprobs: dict(text=text, token_ids=ids, logprobs=logprobs)
    reference = [said('In the beginning', [3, 4, 5], [-1.0, -0.5, -0.25]), said('Jesus wept.', [7, 8], [-1.0, -2.0])]
    own = [said('In the start', [3, 4, 6], [-1.0, -0.75, -9.0]), said('Jesus wept.', [7, 8], [-1.125, -2.0])]
    assert answers_apart(own, reference) == {'differing answers': 0.5, 'log-probability': 0.25}
    texts_alone = [dict(text='In the beginning'), dict(text='Jesus wept.')]
    assert answers_apart(texts_alone, reference) == {'differing answers': 0}

def test_a_contender_whose_reference_stopped_has_no_row_and_the_others_go_on(tmp_path, monkeypatch):
    import gpu
    asked = ('training', gpu.REFERENCE), ('training', 'regurgitation'), ('notebooks', '05_training')
    specs = [dict.fromkeys(gpu.KEY, '') | dict(task=task, contender=name) for task, name in asked]
    row = lambda spec: spec | dict(seconds=1.0, throughput={}, difference={}, tolerance={}, passed=True)
    monkeypatch.setattr(gpu, 'measure', lambda spec, reference: None if spec['task'] == 'training' else row(spec))
    assert [r is None for r in gpu.run(specs, tmp_path/'rows.jsonl')] == [True, True, False]
    assert len((tmp_path/'rows.jsonl').read_text().splitlines()) == 1
