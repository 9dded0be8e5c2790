"Training stopped at random moments, and training on two processes: the same weights."
import json, multiprocessing as mp, os, random, signal, subprocess, sys, time
from pathlib import Path
import pytest, torch
from safetensors.torch import load_file
from regurgitation.corpora import load_corpus
from regurgitation.training import Recipe, epoch_batches, shard, train
from regurgitation.transformer import Shape

SHAPE, RECIPE = Shape(vocab_size=400, d_model=32), Recipe(epochs=10, tokens=512, precision='float32')
forks = mp.get_context('forkserver')
forks.set_forkserver_preload(['regurgitation.studies'])

def small(n=48): return load_corpus('bible', split='train', n=n)

def weights(folder, which='last'): return load_file(folder/which/'model.safetensors')

def same(a, b): return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)

def train_here(folder, every):
    torch.set_num_threads(1)
    train(small(), small(16), folder, SHAPE, RECIPE, every=every)

def in_child(target, *args):
    child = forks.Process(target=target, args=args)
    child.start()
    return child

def kill_until_done(target, args, kills, longest, seed):
    "Start the target again and again, kill it with signal 9 after a random time, and let it end after so many kills"
    rng, killed = random.Random(seed), 0
    for _ in range(20*kills):
        child = in_child(target, *args)
        child.join(rng.uniform(0.05, longest) if killed < kills else None)
        if child.exitcode is None: child.kill(); child.join() # or it has ended by itself
        if child.exitcode != -signal.SIGKILL: break
        killed += 1
    assert child.exitcode == 0
    return killed

def test_killed_training_ends_in_the_same_weights(tmp_path):
    started, child = time.monotonic(), in_child(train_here, tmp_path/'whole', 15.0)
    child.join()
    assert child.exitcode == 0
    whole, killed, runs = time.monotonic() - started, 0, 0
    while killed < 16 and runs < 24: # a fast machine may end a run before its eight kills
        killed += kill_until_done(train_here, (tmp_path/f'run{runs}', 0.0), 8, min(3.0, whole), runs)
        runs += 1
    print(f'{killed} kills in {runs} runs')
    assert killed >= 16
    for i in range(runs):
        for which in ('best', 'last'): assert same(weights(tmp_path/'whole', which), weights(tmp_path/f'run{i}', which))
        assert (tmp_path/f'run{i}'/'history.json').read_text() == (tmp_path/'whole'/'history.json').read_text()
        assert not (tmp_path/f'run{i}'/'checkpoint.safetensors').exists()

def test_a_finished_training_is_not_done_again(tmp_path):
    train_here(tmp_path, 15.0)
    before = (tmp_path/'last'/'model.safetensors').stat().st_mtime_ns
    train_here(tmp_path, 15.0)
    assert (tmp_path/'last'/'model.safetensors').stat().st_mtime_ns == before

def test_bfloat16_trains_to_about_the_same_loss(tmp_path):
    torch.set_num_threads(1)
    dev = []
    for precision in ('float32', 'bfloat16'):
        history = train(small(16), small(16), tmp_path/precision, Shape(vocab_size=300, d_model=32), Recipe(epochs=2, tokens=512, precision=precision))
        dev.append(history[-1]['dev_bits_per_byte'])
    assert dev[0] != dev[1] and dev[0] == pytest.approx(dev[1], rel=0.05)

def test_two_seeds_differ_and_one_seed_is_one_row(tmp_path):
    torch.set_num_threads(1)
    for name, seed in (('a', 0), ('b', 0), ('c', 1)): train(small(), small(16), tmp_path/name, SHAPE, Recipe(epochs=1, tokens=512), seed)
    assert same(weights(tmp_path/'a'), weights(tmp_path/'b'))
    assert not same(weights(tmp_path/'a'), weights(tmp_path/'c'))

SCRIPT = '''
import sys, torch
from pathlib import Path
from regurgitation.corpora import load_corpus
from regurgitation.training import Recipe, train
from regurgitation.transformer import Shape
torch.set_num_threads(1)
train(load_corpus('bible', split='train', n=48), load_corpus('bible', split='train', n=16), Path(sys.argv[1]),
      Shape(vocab_size=400, d_model=32, dropout=0), Recipe(epochs=3, tokens=512, precision='float32'))
'''

def test_two_processes_make_the_same_steps_as_one(tmp_path):
    "Under accelerate launch the pairs of each batch are shared out, so the weights agree up to rounding"
    (tmp_path/'script.py').write_text(SCRIPT)
    small()  # the corpus is unpacked once, before two processes ask for it
    launch = [sys.executable, '-m', 'accelerate.commands.launch', '--multi_gpu', '--num_machines', '1', '--mixed_precision', 'no', '--dynamo_backend', 'no',
              '--num_processes', '2', '--main_process_port', '0']
    for n, start in ((1, [sys.executable]), (2, launch)):
        subprocess.run([*start, str(tmp_path/'script.py'), str(tmp_path/f'on{n}')],
                       check=True, timeout=300, capture_output=True, text=True, env={**os.environ, 'OMP_NUM_THREADS': '1', 'ACCELERATE_USE_CPU': 'true'})
    one, two = (torch.cat([w.flatten() for k, w in weights(tmp_path/run).items() if 'qkv.bias' not in k]) for run in ('on1', 'on2'))
    assert (one - two).norm() < 0.01*one.norm()  # a key's bias has no gradient but rounding, which Adam blows up
    losses = [[e['train_nats_per_token'] for e in json.loads((tmp_path/f'on{n}'/'history.json').read_text())] for n in (1, 2)]
    assert losses[0][0] != losses[1][0] and len(losses[0]) == 3  # rank 0 reports its own part
    devs = [[e['dev_bits_per_byte'] for e in json.loads((tmp_path/f'on{n}'/'history.json').read_text())] for n in (1, 2)]
    assert devs[0] == pytest.approx(devs[1], rel=1e-3)

@pytest.mark.parametrize('world', [1, 2, 3, 8])
def test_each_pair_once_in_an_epoch(world):
    lengths = [(5 + i % 30, 6 + i % 27) for i in range(333)]
    groups = epoch_batches(lengths, 512, 'seed', 0)
    seen = [i for group in groups for rank in range(world) for part, weight in [shard(group, rank, world)] if weight for i in part]
    assert sorted(seen) == list(range(333))
