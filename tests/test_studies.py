"A study killed at random moments, and study files that are wrong."
import json, os, shutil, subprocess, sys, time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
import pytest, torch
from regurgitation.core import InputError, Store, raises, read_rows
from regurgitation.arms import kept_real
from regurgitation.studies import Data, load_study, makespan, plan, run_study, seconds_of, speed, work_of
from test_training import in_child, kill_until_done

SMALL = dict(learner={'d_model': 32, 'vocab_size': 400, 'epochs': 1, 'precision': 'float32'}, sizes=[20, 40], seeds=[0])

def study(): return replace(load_study('quickstart', limit=40), **SMALL)

def run_here(out, store, workers):
    torch.set_num_threads(1)
    run_study(study(), out, Store(store), workers=workers)

def rows_of(folder):
    "What must be equal in two runs of a study: all but time and hardware"
    rows = [{k: v for k, v in row.items() if k not in ('seconds', 'hardware')} for row in read_rows(folder/'rows.jsonl')]
    return sorted(rows, key=lambda r: r['key'])

@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp('undisturbed')
    child = in_child(run_here, folder/'out', folder/'store', 1)
    child.join()
    assert child.exitcode == 0
    return folder/'out'

def predictions(folder): return {p.name: p.read_bytes() for p in (folder/'predictions').iterdir() if not p.name.startswith('.')}

def test_killed_study_has_the_same_rows(tmp_path, undisturbed):
    killed = kill_until_done(run_here, (tmp_path/'out', tmp_path/'store', 1), 12, 4.0, 0)
    print(f'{killed} kills')
    assert killed >= 5
    assert rows_of(tmp_path/'out') == rows_of(undisturbed)
    assert predictions(tmp_path/'out') == predictions(undisturbed)

def test_killed_command_leaves_no_worker_and_goes_on(tmp_path, undisturbed):
    "The parent of two worker processes is killed; they leave; the same command completes the rows"
    code = f'import sys; sys.path.insert(0, "tests"); import test_studies as t; t.run_here(__import__("pathlib").Path({str(tmp_path/"out")!r}), {str(tmp_path/"store")!r}, 2)'
    command = [sys.executable, '-c', f'if __name__ == "__main__":\n    {code}']
    for wait in (9, 14):
        process = subprocess.Popen(command, cwd=Path(__file__).parents[1], start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try: process.wait(wait)
        except subprocess.TimeoutExpired: process.kill(); process.wait()
        assert left_of(process.pid) == []
    subprocess.run(command, cwd=Path(__file__).parents[1], check=True, timeout=300)
    assert rows_of(tmp_path/'out') == rows_of(undisturbed)

def left_of(session):
    "Processes of a session that are still there after a while"
    for _ in range(200):
        left = [p for p in subprocess.run(['ps', '-o', 'pid=,stat=', '-s', str(session)], capture_output=True, text=True).stdout.splitlines() if ' Z' not in p]
        if not left: break
        time.sleep(0.1)
    return left

def test_a_finished_study_and_its_committed_rows_cost_nothing(tmp_path, undisturbed):
    shutil.copytree(undisturbed, tmp_path/'out')
    s = study()
    assert not any(plan(s, Data(s), tmp_path/'out'))
    run_study(s, tmp_path/'out', Store(tmp_path/'empty'))
    assert not (tmp_path/'empty'/'training').exists()

def test_one_more_arm_costs_that_arm(undisturbed):
    s = study()
    more = replace(s, arms={**s.arms, 'quarter': {**s.arms['half'], 'real': 0.25}})
    jobs = [j for phase in plan(more, Data(more), undisturbed) for j in phase if j[0] == 'student']
    assert {j[1] for j in jobs} == {'quarter'} and len(jobs) == len(s.sizes)

def test_arms_share_sources_and_sizes_are_nested(undisturbed):
    s = study()
    data = Data(s)
    assert data.train(0, 20)['id'][:] == data.train(0, 40)['id'][:20]
    assert data.train(0, 20)['id'][:] != data.train(1, 20)['id'][:]

@pytest.mark.parametrize('share', [0, 0.1, 0.25, 0.5, 0.9, 1])
def test_every_prefix_holds_the_share(share):
    kept = kept_real(1000, share)
    assert all(abs(sum(kept[:n]) - share*n) <= 1 for n in range(1, 1001))

def test_sizes_can_continue_from_the_size_before(tmp_path):
    s = replace(study(), continued=True, arms={'real': {}}, teachers={})
    run_study(s, tmp_path/'out', Store(tmp_path/'store'), workers=1)
    fresh = replace(s, continued=False)
    run_study(fresh, tmp_path/'fresh', Store(tmp_path/'store'), workers=1)
    by = lambda folder: {r['size']: r for r in rows_of(folder) if r['role'] == 'arm'}
    assert by(tmp_path/'out')[20]['metrics'] == by(tmp_path/'fresh')[20]['metrics']
    assert by(tmp_path/'out')[40]['dev_bits_per_byte'] != by(tmp_path/'fresh')[40]['dev_bits_per_byte']
    run_study(replace(s, continued='added'), tmp_path/'added', Store(tmp_path/'store'), workers=1)
    assert by(tmp_path/'added')[20]['key'] == by(tmp_path/'out')[20]['key'] and by(tmp_path/'added')[40]['training_set'] == by(tmp_path/'out')[40]['training_set']
    assert by(tmp_path/'added')[40]['dev_bits_per_byte'] != by(tmp_path/'out')[40]['dev_bits_per_byte']
    told = [json.loads(p.read_text())['config'] for p in (tmp_path/'store'/'training').glob('*/config.json')]
    assert len({c['pool'] for c in told if c['init']}) == 2 # one went on with all pairs, one with those that were added
    with pytest.raises(InputError, match='expected true, false or "added"'): replace(s, continued='new')

BAD = [('name = "x"\n', "no field 'arms'"), ('arms = {\n', 'not valid TOML'), ('colour = 1\n', "unknown field 'colour'"),
       ('name="x"\nquestion="?"\nsizes=[2,1]\nseeds=[0]\narms={real={}}\n', 'must ascend'),
       ('name="x"\nquestion="?"\nsizes=[]\nseeds=[0]\narms={real={}}\n', 'must not be empty'),
       ('name="x"\nquestion="?"\nsizes=[1]\nseeds=[0]\narms={real={tacher="a"}}\n', "unknown field 'tacher'"),
       ('name="x"\nquestion="?"\nsizes=[1]\nseeds=[0]\narms={real={real=1.5}}\n', 'share from 0 to 1'),
       ('name="x"\nquestion="?"\nsizes=[1]\nseeds=[0]\ntask="translate"\narms={real={}}\n', 'translation')]

@pytest.mark.parametrize('text,message', BAD)
def test_a_wrong_study_file_says_what_is_wrong(tmp_path, text, message):
    (tmp_path/'study.toml').write_text(text)
    with pytest.raises(InputError, match=message): load_study(str(tmp_path/'study.toml'))

def look(folder):
    "A worker's job: write down the GPU that it sees"
    def do(job, bar):
        (folder/str(os.getpid())).write_text(os.environ.get('CUDA_VISIBLE_DEVICES', 'none'))
        time.sleep(0.5)
    return do

def test_each_worker_has_a_gpu_of_its_own(tmp_path, monkeypatch):
    from regurgitation import executors
    for there, named, expected in ((0, None, []), (0, '0', []), (3, None, ['0', '1', '2']), (2, '4,7', ['4', '7']), (1, 'GPU-8f', ['GPU-8f'])):
        monkeypatch.setattr('torch.cuda.device_count', lambda: there)
        monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
        if named: monkeypatch.setenv('CUDA_VISIBLE_DEVICES', named)
        assert executors.gpus() == expected and executors.default_workers() == (len(expected) or os.cpu_count())
    monkeypatch.setattr(executors, 'gpus', lambda: ['4', '7'])
    executors.in_processes([range(6)], look, (tmp_path,), 3, SimpleNamespace(n=0, total=0, update=lambda n: None))
    found = sorted(p.read_text() for p in tmp_path.iterdir()) # a worker that starts late may find nothing left to do
    assert found in (['4'], ['4', '7'], ['4', '4', '7'])

def test_a_launcher_is_told_that_a_study_starts_its_own_workers(tmp_path, monkeypatch):
    monkeypatch.setenv('WORLD_SIZE', '2')
    assert '2 processes of a launcher' in raises(InputError, run_study, load_study('quickstart', limit=20), tmp_path)

def amounts(work): # what -> on how many pairs
    return {what[0]: n for what, n in work.items()}

def test_an_arm_counts_with_its_own_settings():
    s = study()
    arms = {'real': {}, 'long': {'learner': {'epochs': 18}}, 'wide': {'learner': {'d_model': 256}},
            'more': {'plus': 60}, 'parts': {**s.arms['half'], 'curriculum': 'real-first'}}
    s = replace(s, arms=arms, sources=200) # the pairs that are added lie beyond the sources
    data = Data(s)
    work = {arm: work_of(s, data, ('student', arm, 40, 0)) for arm in arms}
    train = {arm: amounts(parts)['train'] for arm, parts in work.items()}
    dev, twice = len(data.splits['dev'])//3, 2*len(data.splits['dev'])//3
    assert train == {'real': 40 + dev, 'long': 18*(40 + dev), 'wide': 40 + dev, 'more': 100 + dev, 'parts': 40 + twice}
    narrow, long, wide = (next(what for what in work[arm] if what[0] == 'train') for arm in ('real', 'long', 'wide'))
    assert narrow == long and speed(s, data, narrow) > speed(s, data, wide)

def test_evaluation_and_generation_count():
    s = study()
    data = Data(s)
    test = len(data.splits['test'])
    of = lambda epochs: replace(s, learner={**s.learner, 'epochs': epochs})
    once, twice = (amounts(work_of(of(n), data, ('student', 'real', 40, 0))) for n in (1, 3))
    assert once['write'] == test == once['score'] # after one epoch the selected checkpoint is the last
    assert twice['write'] == 2*test and twice['score'] == test
    (what, n), = work_of(s, data, ('generation', 'sampling', 'teacher', 0)).items()
    assert what[2:] == ('train', 'sample', 4) and n == 40
    assert amounts(work_of(s, data, ('baseline', 'copy', 0, None))) == {'score': test}
    assert amounts(work_of(s, data, ('baseline', 'teacher:teacher', 0, None)))['write'] == test

def test_what_the_store_holds_is_no_work(tmp_path, undisturbed):
    s, store = study(), Store(undisturbed.parent/'store')
    data = Data(s)
    for j in (('teacher', 'teacher', 0, None), ('generation', 'greedy', 'teacher', 0)):
        assert work_of(s, data, j, Store(tmp_path)) == work_of(s, data, j) and not work_of(s, data, j, store)

def test_a_phase_waits_for_the_one_before():
    seconds = {'teacher': 9, 'a': 4, 'b': 3, 'c': 2, 'd': 2}
    assert makespan([['teacher'], ['a', 'b', 'c', 'd']], seconds, 2) == 9 + 6
    assert makespan([['teacher'], ['a', 'b', 'c', 'd']], seconds, 1) == sum(seconds.values())
    assert makespan([['a', 'b', 'c', 'd', 'teacher']], seconds, 2) == 5 + 9 and makespan([[], ['a']], seconds, 3) == 4

class Bar: # of `progress`
    def __init__(self): self.n = 0
    def update(self, n): self.n += n
    def __enter__(self): return self
    def __exit__(self, *_): pass

@pytest.mark.parametrize('measured', (True, False))
def test_the_bar_ends_at_its_total(tmp_path, undisturbed, monkeypatch, measured):
    from regurgitation import studies
    s, bars = replace(study(), arms={'real': {}, 'greedy': {'teacher': 'teacher'}}), []
    monkeypatch.setattr(studies, 'progress', lambda total, **_: bars.append((total, Bar())) or bars[-1][1])
    jobs = [j for phase in plan(s, Data(s), tmp_path/'out') for j in phase]
    seconds = seconds_of(s, Data(s), jobs) if measured else None
    run_study(s, tmp_path/'out', Store(undisturbed.parent/'store'), workers=1, seconds=seconds)
    (total, bar), = bars
    assert bar.n == total > 0 and (not measured or total == sum(seconds.values()))
