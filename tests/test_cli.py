"The command as a person meets it: a whole run in a terminal of 80 columns, its report, and what it says when something is wrong."
import json, os, re, signal, subprocess, sys, time
from pathlib import Path
import pytest
from regurgitation.core import read_rows

COMMAND = [sys.executable, '-c', 'from regurgitation.cli import app; app()']

def call(*args, store=None, **kwargs):
    env = {**os.environ, 'COLUMNS': '80', 'NO_COLOR': '1', 'TERM': 'dumb'} | ({'REGURGITATION_STORE': str(store)} if store else {})
    return subprocess.run([*COMMAND, *map(str, args)], capture_output=True, text=True, env=env, timeout=400, **kwargs)

@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp('quickstart')
    done = call('run', 'quickstart', '--limit', 40, '--out', folder/'out', store=folder/'store')
    assert done.returncode == 0, done.stderr
    return folder, done

def test_quickstart_makes_rows_figures_report_and_a_sentence(finished):
    folder, done = finished
    rows = read_rows(folder/'out'/'rows.jsonl')
    assert {r['arm'] for r in rows} == {'real', 'greedy', 'sampling', 'half', 'copy', 'untrained', 'teacher:teacher'}
    made = {str(p.relative_to(folder/'out')) for p in (folder/'out').rglob('*') if p.is_file()}
    assert {'report.html', 'figures/gaps.svg', 'figures/gaps.png', 'figures/learning_curves.png', 'study.toml'} <= made
    assert 'too weak to tell' in ' '.join(done.stdout.lower().split()) and 'report: ' in done.stdout and '{' not in done.stdout
    assert 'minutes' in done.stdout and 's of work' in done.stderr

def test_the_terminal_of_80_columns_is_enough(finished):
    text = finished[1].stdout
    assert all(len(line) <= 80 for line in text.splitlines() if '/' not in line)
    assert 'BLEU' in text and 'copy' in text

def test_a_second_run_makes_nothing(finished):
    folder, _ = finished
    before = (folder/'out'/'rows.jsonl').read_bytes()
    again = call('run', 'quickstart', '--limit', 40, '--out', folder/'out', store=folder/'store')
    assert again.returncode == 0 and 'all rows are there' in again.stdout
    assert (folder/'out'/'rows.jsonl').read_bytes() == before

def test_a_part_of_a_study_makes_rows_of_the_whole(finished, tmp_path):
    folder, _ = finished
    run = lambda *more: call('run', 'quickstart', '--limit', 40, '--out', tmp_path, *more, store=folder/'store')
    told = lambda path: {r['key']: {k: v for k, v in r.items() if k != 'seconds'} for r in read_rows(path/'rows.jsonl')}
    whole, part = told(folder/'out'), run('--arm', 'real', '--arm', 'greedy', '--size', 40)
    assert part.returncode == 0 and "no report yet" in part.stdout and "'sampling'" in part.stdout, part.stderr
    assert told(tmp_path) == {k: r for k, r in whole.items() if r['arm'] not in ('half', 'sampling')}
    assert run().returncode == 0 and told(tmp_path) == whole
    wrong = run('--size', 50)
    assert wrong.returncode == 2 and 'no size 50' in wrong.stderr

def test_the_report_comes_again_from_rows_alone(finished, tmp_path):
    folder, _ = finished
    before = (folder/'out'/'report.html').read_bytes()
    (folder/'out'/'report.html').unlink()
    done = call('report', folder/'out', '--json', store=tmp_path/'nothing')
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found['sentence'] and found['verdicts'] and len(found['answer'].split()) <= 30
    assert (folder/'out'/'report.html').read_bytes() == before

def test_an_interrupted_run_says_how_to_go_on(tmp_path):
    process = subprocess.Popen([*COMMAND, 'run', 'quickstart', '--out', str(tmp_path/'out')], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env={**os.environ, 'REGURGITATION_STORE': str(tmp_path/'store')}, start_new_session=True,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)) # a shell's background job would inherit a deaf ear
    assert 'rows to make' in process.stdout.readline()
    while not list((tmp_path/'store').glob('training/*.part')): time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and 'run the same command to go on' in errors
    assert 'Traceback' not in errors

WRONG = [(['run', 'quikstart'], "no study 'quikstart'"), (['report', 'nowhere'], 'nowhere'), (['run', 'quickstart', '--executor', 'moon'], "executor 'moon'")]

@pytest.mark.parametrize('args,message', WRONG)
def test_a_wrong_call_is_told_in_one_message(args, message):
    done = call(*args)
    assert done.returncode == 2 and message in ' '.join(done.stderr.split())
    assert 'Traceback' not in done.stderr

def test_a_torn_row_is_named(finished, tmp_path):
    folder, _ = finished
    (tmp_path/'rows.jsonl').write_text((folder/'out'/'rows.jsonl').read_text().replace('{', '', 1))
    done = call('report', tmp_path)
    told = ' '.join(done.stderr.split())
    assert done.returncode == 2 and 'line 1:' in told and 'mend or delete it' in told

def test_corpora_are_listed_with_licence_and_place():
    done = call('corpora', '--json')
    rows = json.loads(done.stdout)
    assert any(r['name'] == 'bible' for r in rows) and all(r['licence'] and r['source'] for r in rows)
    assert call('corpora').returncode == 0

@pytest.mark.parametrize('command', ['run', 'report', 'corpora'])
def test_help_has_an_example(command):
    assert 'Example: regurgitation' in ' '.join(call(command, '--help').stdout.split())

def test_generate_writes_pairs_a_pool_and_a_row_of_scores(tmp_path):
    out, pool, row = tmp_path/'copied.jsonl', tmp_path/'copied.jsonl.gz', tmp_path/'rows.jsonl'
    done = call('generate', '--corpus', 'bible', '--split', 'test', '--n', 60, '--generator', 'copy', '--out', out, '--pool', pool, '--row', row)
    assert done.returncode == 0 and '60 pairs from 60 sources' in ' '.join(done.stdout.split()), done.stderr
    told = read_rows(row)[0]
    assert told['metrics']['bleu']['low'] <= told['metrics']['bleu']['score'] <= told['metrics']['bleu']['high'] and 'bs:1000' in told['metrics']['bleu']['signature']
    from regurgitation.generation import load_pool
    assert load_pool(pool)['target'][:] == [json.loads(line)['source'] for line in out.read_text().splitlines()]

def test_two_files_are_compared_and_the_pairs_on_which_they_agree_are_kept(tmp_path):
    answers = {'a': ['the Rhine', 'in 1815', 'no', 'Basel'], 'b': ['Rhine', '1815', 'yes', 'Basel']}
    for name, texts in answers.items(): (tmp_path/f'{name}.jsonl').write_text(''.join(json.dumps({'id': f'q{i}', 'source': 'Who?', 'target': t}) + '\n' for i, t in enumerate(texts)))
    done = call('score', tmp_path/'a.jsonl', '--by', 'agreement', '--against', tmp_path/'b.jsonl', '--out', tmp_path/'scored.jsonl')
    assert done.returncode == 0, done.stderr
    assert call('keep', tmp_path/'scored.jsonl', '--top', '50%', '--out', tmp_path/'kept.jsonl').returncode == 0
    assert [r['id'] for r in read_rows(tmp_path/'kept.jsonl')] == ['q0', 'q3'] and [round(r['score']) for r in read_rows(tmp_path/'scored.jsonl')] == [100, 67, 0, 100]
    for wrong, said in ((('--by', 'agreement'), 'name the file by --against'), (('--by', 'length', '--against', tmp_path/'b.jsonl'), '--against is for agreement alone')):
        done = call('score', tmp_path/'a.jsonl', *wrong, '--out', tmp_path/'no.jsonl')
        assert done.returncode == 2 and said in ' '.join(done.stderr.split())

@pytest.mark.parametrize('by', ['bleu', 'detector'])
def test_a_file_is_scored_ordered_and_cut_and_its_references_are_not_seen(tmp_path, by):
    from regurgitation.corpora import load_corpus
    pairs = load_corpus('bible', n=400, source='wyc', target='web', also='bbe').to_list()
    rows = [{'id': p['id'], 'source': p['source'], 'target': p['source'] if i % 2 else p['target'], 'references': [p['target']]} for i, p in enumerate(pairs)] # every other one is only copied
    write = lambda name, rows: (tmp_path/name).write_text(''.join(json.dumps(r) + '\n' for r in rows))
    write('labelled.jsonl', rows[:300]); write('made.jsonl', rows[300:])
    write('turned.jsonl', [{**r, 'references': rows[300 + (i + 1) % 100]['references']} for i, r in enumerate(rows[300:])])
    for name in ('made', 'turned'):
        done = call('score', tmp_path/f'{name}.jsonl', '--by', by, '--labelled', tmp_path/'labelled.jsonl', '--out', tmp_path/f'{name}.scored.jsonl')
        assert done.returncode == 0, done.stderr
    scored = read_rows(tmp_path/'made.scored.jsonl')
    assert [(r['score'], r['rank']) for r in scored] == [(r['score'], r['rank']) for r in read_rows(tmp_path/'turned.scored.jsonl')] and len({r['score'] for r in scored}) > 5
    if by == 'detector': return # the rest is the same for both
    assert call('order', tmp_path/'made.scored.jsonl', '--out', tmp_path/'best.jsonl').returncode == 0 == call('keep', tmp_path/'made.scored.jsonl', '--top', '25', '--out', tmp_path/'kept.jsonl').returncode
    best = read_rows(tmp_path/'best.jsonl')
    assert [r['rank'] for r in best] == list(range(1, 101)) and [r['score'] for r in best] == sorted((r['score'] for r in scored), reverse=True)
    assert read_rows(tmp_path/'kept.jsonl') == [r for r in scored if r['rank'] <= 25]

def test_what_does_not_come_out_counts_as_empty():
    from regurgitation.corpora import load_corpus
    from regurgitation.generation import quality
    human = load_corpus('bible', split='test', n=40)
    assert quality(human, human)['bleu']['score'] == 100
    assert quality(human.select(range(20)), human)['bleu']['score'] < 70

def test_generate_says_what_is_wrong(tmp_path):
    base = ('generate', '--corpus', 'bible', '--out', tmp_path/'o.jsonl', '--n', 20)
    for given, said in ((('--generator', 'causl:gemma-3-270m'), "no generator 'causl'"), (('--generator', 'causal:gemma-3-27m'), "Did you mean 'gemma-3-270m'"),
                        (('--generator', 'copy', '--from', tmp_path/'x'), '--from needs --batch'), (('--generator', 'openai:gpt-4o-mini'), 'OPENAI_API_KEY'),
                        (('--generator', 'copy', '--batch', tmp_path/'b'), 'takes no batch files'),
                        (('--generator', 'openai:gpt-4o-mini', '--prices', 'cheap'), '--prices'),
                        (('--generator', 'openai:gpt-4o-mini', '--method', 'sample', '--temperature', 0), 'for 0 take greedy')):
        done = subprocess.run([*COMMAND, *map(str, base), *map(str, given)], capture_output=True, text=True, env={k: v for k, v in os.environ.items() if k != 'OPENAI_API_KEY'})
        assert done.returncode == 2 and said in ' '.join(done.stderr.split()) and 'Traceback' not in done.stderr, done.stderr

@pytest.mark.parametrize('command', (('corpora',), ('corpora', 'wmt22-de-en'), ('models',)))
def test_listings_fit_80_columns(command):
    done = call(*command)
    assert done.returncode == 0 and all(len(line) <= 80 for line in done.stdout.splitlines()), done.stdout + done.stderr
    assert call(*command, '--json').stdout.startswith(('[', '{'))
