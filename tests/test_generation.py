"Generators: what they may see, what they say of themselves, what they refuse, and what is left when they are stopped."
import json, os, signal, subprocess, sys, time
from pathlib import Path
import pytest, torch
from regurgitation.answers import Answers, FLAGS, flags, whole_lines
from regurgitation.core import InputError, Store, append_row, fingerprint, make_pool, pool_fingerprint, read_jsonl, write_jsonl
from regurgitation.corpora import load_corpus
from regurgitation.generation import (Copy, LanguageModelGenerator, TransformerGenerator, decoding_of, generate, load_generator, load_pool,
                                      save_pool, to_ask)
from regurgitation.training import Recipe, train
from regurgitation.transformer import Shape
from writers import TranslatorWriter, pool as verses, shots

HERE = Path(__file__).parent

@pytest.fixture(scope='module')
def teacher(tmp_path_factory):
    torch.set_num_threads(1)
    folder, pool = tmp_path_factory.mktemp('teacher'), load_corpus('bible', split='teacher', n=64)
    train(pool, pool.select(range(16)), folder, Shape(vocab_size=400, d_model=32), Recipe(epochs=4, precision='float32'))
    return folder/'best'

@pytest.fixture
def model(teacher, tmp_path):
    "A language model of ours with a store of its own"
    def make(store='store', options=None, **writer):
        return LanguageModelGenerator(TranslatorWriter(teacher, **writer), shots(), store=Store(tmp_path/store),
                                      **{'keep': FLAGS[1:], 'languages': ('Middle English', 'English')} | (options or {}))
    return make

def timeless(pool):
    "The rows without what differs from run to run"
    told = [{k: v for k, v in json.loads(p).items() if k not in ('time', 'seconds')} for p in pool['provenance'][:]]
    return [{**row, 'provenance': t} for row, t in zip(pool.to_list(), told)]

# What a generator may see

def test_no_generator_sees_a_human_target(teacher, model):
    "The same targets come out whatever the human ones say"
    pool = load_corpus('bible', split='train', n=12, max_words=9)
    other = make_pool([{**r, 'target': 'nothing of this', 'references': ['nor of this']} for r in pool.to_list()])
    named = (load_generator(name, **options) for name, options in ((f'transformer:{teacher}', {}), (f'transformer:{teacher}', {'method': 'sample'}), ('copy', {})))
    for generator in (*named, model()):
        assert generator.generate(pool)['target'][:] == generator.generate(other)['target'][:]
        assert not any(generator.generate(pool)['references'][:])

def test_back_translation_sees_the_target_only(teacher, model):
    pool = load_corpus('bible', split='train', n=12, max_words=9)
    other = make_pool([{**r, 'source': 'nothing of this'} for r in pool.to_list()])
    for generator in (load_generator(f'transformer:{teacher}'), Copy(), model()):
        made = generator.generate(pool, 'back-translation')
        assert made['source'][:] == generator.generate(other, 'back-translation')['source'][:]
        human = dict(zip(pool['id'][:], pool['target'][:]))
        assert made['target'][:] == [human[id] for id in made['id'][:]]

def test_a_shot_is_refused_among_the_sources(model):
    with pytest.raises(InputError, match='the model is asked about'): model().generate(shots())

# Our own Transformer

def test_a_sentence_is_sampled_alike_in_any_company(teacher):
    pool = load_corpus('bible', split='train', n=12, max_words=9)
    generator = TransformerGenerator(teacher, method='sample')
    whole = {r['id']: r['target'] for r in generator.generate(pool).to_list()}
    part = {r['id']: r['target'] for r in generator.generate(pool.select([7, 2, 5])).to_list()}
    assert part and all(whole[id] == text for id, text in part.items())
    assert TransformerGenerator(teacher, method='sample', seed=1).generate(pool)['target'][:] != list(whole.values())

def test_provenance_tells_weights_decoding_and_generation(teacher):
    row = TransformerGenerator(teacher, method='sample', temperature=0.7, seed=3, name='t').generate(load_corpus('bible', n=2))[0]
    told = json.loads(row['provenance'])
    assert row['origin'] == 't' and len(told['sha256']) == 64 and told['generation'] == 1
    assert told['decoding'] == {'method': 'sample', 'temperature': 0.7, 'seed': 3}

# Stops

def lines_of(store): return sum(1 for path in Path(store).glob('answers/*.jsonl') for _ in whole_lines(path))

@pytest.mark.parametrize('chunk,stops', [([], (3, 9, 17)), (['8'], (11,))], ids=['one by one', 'in portions'])
def test_killed_again_and_again_the_pool_is_the_same(teacher, tmp_path, model, chunk, stops):
    store, out, log = tmp_path/'killed', tmp_path/'pool.jsonl', tmp_path/'asked.log'
    command = [sys.executable, str(HERE/'writers.py'), str(teacher), str(store), str(out), str(log), *chunk]
    environment = {**os.environ, 'PYTHONPATH': str(HERE.parent), 'REGURGITATION_PROGRESS': 'off', 'OMP_NUM_THREADS': '1'}
    kills = 0
    for wanted in stops:
        run = subprocess.Popen(command, env=environment)
        while lines_of(store) < wanted and run.poll() is None: time.sleep(.01)
        if run.poll() is None:
            run.send_signal(signal.SIGKILL); kills += 1
        run.wait()
        assert sum(1 for _ in whole_lines(out)) >= lines_of(store) - 1 # the file grows with the store
        for path in [*store.glob('answers/*.jsonl'), out]: # and what a power cut leaves
            with open(path, 'ab') as f: f.write('{"key": "bible/GEN.1.1 ü'.encode()[:-1])
    assert kills == len(stops)
    subprocess.run(command, env=environment, check=True, timeout=120)
    whole = model('undisturbed').generate(verses())
    resumed = load_corpus(out)
    assert resumed['id'][:] == whole['id'][:] == verses()['id'][:] and timeless(resumed) == timeless(whole)
    asked = log.read_text().split()
    assert len(asked) <= len(whole) + kills * int((chunk or [1])[0]) and set(asked) == set(whole['id'])
    assert len(read_jsonl(out)) == 24 and lines_of(store) == 24

def test_two_processes_ask_once(teacher, tmp_path):
    store, log = tmp_path/'store', tmp_path/'asked.log'
    environment = {**os.environ, 'PYTHONPATH': str(HERE.parent), 'REGURGITATION_PROGRESS': 'off', 'OMP_NUM_THREADS': '1'}
    both = [subprocess.Popen([sys.executable, str(HERE/'writers.py'), str(teacher), str(store), str(tmp_path/f'{i}.jsonl'), str(log)], env=environment) for i in (0, 1)]
    assert [run.wait(timeout=120) for run in both] == [0, 0]
    assert len(log.read_text().split()) == 24
    assert (tmp_path/'0.jsonl').read_bytes() == (tmp_path/'1.jsonl').read_bytes()

def test_a_broken_line_loses_nothing(model):
    broken = model(stops=7)
    with pytest.raises(ConnectionError): broken.generate(verses())
    assert len(broken.known(verses())) == 7 and len(to_ask(verses(), broken)) == 17
    whole = model()
    assert whole.generate(verses())['id'][:] == verses()['id'][:] and len(whole.writer.asked) == 17
    assert model().report is None and whole.report.asked == 17 and whole.report.pairs == 24

def test_portions_do_not_depend_on_the_stop(model):
    whole, broken, rest = model('a', chunk=8), model('b', chunk=8, stops=11), model('b', chunk=8)
    whole.generate(verses())
    with pytest.raises(ConnectionError): broken.generate(verses())
    rest.generate(verses())
    assert len(whole.writer.portions) == 3 and rest.writer.portions == whole.writer.portions[1:]
    assert len(rest.known(verses())) == 24 and sum(1 for _ in whole_lines(Answers(rest.config(), rest.store).path)) == 24
    assert [id for portion in whole.writer.portions for id in portion] == verses()['id'][:]

def test_a_larger_pool_begins_with_the_portions_of_a_smaller(model):
    model(chunk=8).generate(verses().select(range(16)))
    more = model(chunk=8)
    more.generate(verses())
    assert more.writer.portions == [verses()['id'][16:]]

def test_a_larger_pool_finds_the_answers_of_a_smaller(model):
    model().generate(verses().select(range(5, 15)))
    more = model()
    more.generate(verses())
    assert len(more.writer.asked) == 14

# Failures

def test_failures_are_listed_never_stored_and_asked_again(model, tmp_path):
    ids, out = verses()['id'][:], tmp_path/'pool.jsonl'
    some = model(broken=ids[3:6])
    report = generate(verses(), some, out)
    assert report.failures == {id: 'too hard' for id in ids[3:6]} and report.pairs == 21 and '3 failed' in str(report)
    assert [r['id'] for r in read_jsonl(out)] == [*ids[:3], *ids[6:]]
    assert not any('too hard' in json.dumps(row) for row in whole_lines(Answers(some.config(), some.store).path))
    again = model()
    report = generate(verses(), again, out)
    assert again.writer.asked == ids[3:6] and report.asked == 3 and not report.failures and [r['id'] for r in read_jsonl(out)] == ids

def test_a_writer_that_forgets_a_prompt_is_noticed(model, teacher):
    forgetful = model()
    answers = forgetful.writer.answers
    forgetful.writer.answers = lambda prompts, **options: (a for a in answers(prompts, **options) if a['id'] != verses()['id'][0])
    forgetful.generate(verses())
    assert forgetful.report.failures == {verses()['id'][0]: 'no answer came'}

def test_nothing_at_all_is_an_error(model):
    with pytest.raises(InputError, match='no pair came out.*24 failed.*too hard'): model(broken=verses()['id'][:]).generate(verses())

def test_a_batch_collected_twice_adds_nothing_twice(model, tmp_path):
    asking, collecting = model('asked'), model('batch')
    asking.generate(verses())
    batch = [{'id': id, **{k: a[k] for k in ('text', 'finish', 'tokens')}} for id, a in asking.known(verses()).items()]
    half = generate(verses(), collecting, tmp_path/'pool.jsonl', given=iter(batch[:10] + [{'id': batch[10]['id'], 'error': 'expired'}]))
    assert half.pairs == 10 and half.waiting == 13 and half.failures == {batch[10]['id']: 'expired'}
    for _ in range(2): report = generate(verses(), collecting, tmp_path/'pool.jsonl', given=iter(batch))
    assert report.asked == 0 and report.pairs == 24 and not collecting.writer.asked
    assert load_corpus(tmp_path/'pool.jsonl')['target'][:] == asking.generate(verses())['target'][:]
    with pytest.raises(InputError, match="answers to ids that are not in this pool, such as 'x'"): collecting.generate(verses(), given=[{'id': 'x', 'text': 'y'}])

# Files

def test_answers_come_back_from_the_file_alone(model, tmp_path):
    out = tmp_path/'pool.jsonl'
    first = model()
    generate(verses(), first, out)
    with open(out, 'ab') as f: f.write(b'{"id": "torn')
    elsewhere = model('another store')
    report = generate(verses(), elsewhere, out)
    assert not elsewhere.writer.asked and report.asked == 0 and timeless(load_corpus(out)) == timeless(first.generate(verses()))
    generate(verses().select(range(10)), elsewhere, out) # the file shrinks, the store does not
    assert len(read_jsonl(out)) == 10 and len(elsewhere.known(verses())) == 24

def test_a_file_of_another_generator_is_left_alone(model, tmp_path):
    out = tmp_path/'pool.jsonl'
    generate(verses(), model(), out)
    before = out.read_bytes()
    for other in (model(options={'method': 'sample'}), Copy()):
        with pytest.raises(InputError, match='Name another file'): generate(verses(), other, out)
    write_jsonl(human := tmp_path/'human.jsonl', verses().to_list())
    with pytest.raises(InputError, match='human'): generate(verses(), model(), human)
    assert out.read_bytes() == before and len(read_jsonl(human)) == 24

def test_a_full_disk_is_told_and_leaves_what_was_there(tmp_path):
    if not Path('/dev/full').exists(): pytest.skip('needs /dev/full')
    with pytest.raises(InputError, match='/dev/full: cannot be written .No space left.*is kept'): append_row('/dev/full', {'id': 1})

def test_a_store_that_cannot_be_written_is_told(model, tmp_path):
    (tmp_path/'store').write_text('a file where the folder should be')
    with pytest.raises(InputError, match='REGURGITATION_STORE'): model().generate(verses())

# What determines an answer

def test_answers_are_found_by_what_determines_them_only(model):
    same = [model(), model(options={'seed': 5}), model(options={'temperature': .3}), model(options={'keep': ()}), model(options={'generation': 2})]
    assert len({fingerprint(m.config()) for m in same}) == 1
    other = [model(), model(options={'method': 'sample'}), model(options={'method': 'sample', 'seed': 1}), model(options={'method': 'beam'}), model(options={'max_tokens': 9}),
             model(options={'style': 'chat'}), model(options={'languages': ('German', 'English')}), model(options={'scores': True}), model(options={'stop': ['.']})]
    assert len({fingerprint(m.config()) for m in other} | {fingerprint(model().config('back-translation'))}) == len(other) + 1
    fewer = model(); fewer.shots = shots().select([0])
    assert fewer.config() != model().config()

def test_an_answer_to_another_text_of_the_same_id_is_not_taken(model):
    changed = make_pool([{**r, 'source': r['source'] + ' Amen.'} for r in verses().select(range(3)).to_list()])
    model().generate(verses())
    again = model()
    again.generate(changed)
    assert len(again.writer.asked) == 3

def test_provenance_of_a_language_model(model):
    generator = model(options={'method': 'sample', 'temperature': .7, 'seed': 3})
    made = generator.generate(verses())
    told = json.loads(made[0]['provenance'])
    assert made[0]['origin'] == 'tiny' and told['model'] == 'tiny' and len(told['sha256']) == 64 and told['human_pairs'] == 2
    assert told['decoding'] == {'method': 'sample', 'temperature': .7, 'top_p': 1.0, 'seed': 3, 'max_tokens': 128, 'stop': ['\n']}
    assert told['prompt']['shots'] == shots()['id'][:] and len(told['prompt']['template']) == 16 and told['tokens'] == 5 and told['time'][:2] == '20'
    other = model('elsewhere', {'method': 'sample', 'temperature': .7, 'seed': 3}).generate(verses())
    assert pool_fingerprint(made) == pool_fingerprint(other) and timeless(made) == timeless(other)

# Flags

SHOWN = 'Die Preise sind seit gestern um ein Fünftel gesunken.'
FLAGGED = [('Prices have fallen by a fifth since yesterday.', 'stop', []), ('Prices have fallen by a', 'length', ['truncated']), ('', 'stop', ['empty']), ('\n \n', 'length', ['empty']),
    ('', 'refused', ['empty', 'refused']), ("I can't say.", 'refused', ['refused']), ("I'm sorry, but I cannot assist with this request.", 'stop', ['refused']), (SHOWN, 'stop', ['language', 'copied']),
    (SHOWN.upper(), 'stop', ['language', 'copied']), ('Die Preise fallen seit gestern stark.', 'stop', ['language']), ('Les prix ont chuté d’un cinquième depuis hier.', 'stop', ['language']),
    ('Prices have fallen by a fifth since yesterday.\nGerman: Die Pre', 'length', []), ('OK.', 'stop', []), ('Tom', 'stop', [])]

@pytest.mark.parametrize('text,finish,expected', FLAGGED)
def test_flags(text, finish, expected):
    from regurgitation.tasks import parse
    assert flags({'text': text, 'finish': finish}, parse(text, SHOWN), SHOWN) == expected

def test_answers_to_questions_are_not_taken_for_copies_or_foreign():
    text = 'Sie nannten es die Kaiserliche Akademie der Wissenschaften.\n\nWhat was it called?'
    assert flags({'text': 'die Kaiserliche Akademie der Wissenschaften', 'finish': 'stop'}, 'die Kaiserliche Akademie der Wissenschaften', text, 'qa') == []

def test_keep_states_what_stays(model):
    pool, ids = verses(), verses()['id'][:]
    given = [{'id': id, 'text': f'A line of verse number {i}', 'finish': 'length' if i < 8 else 'stop'} for i, id in enumerate(ids)]
    given[20]['text'] = ''
    strict, free = model(options={'keep': ()}), model(options={'keep': ('truncated',)})
    assert strict.generate(pool, given=given)['id'][:] == [*ids[8:20], *ids[21:]] and free.generate(pool, given=given)['id'][:] == [*ids[:20], *ids[21:]]
    assert strict.report.flags == free.report.flags == {'empty': [ids[20]], 'truncated': ids[:8]}
    assert [r['id'] for r in free.generate(pool).to_list() if 'truncated' in json.loads(r['provenance']).get('flags', [])] == ids[:8]
    for wrong in (('empty',), ('truncatd',)):
        with pytest.raises(InputError, match=f"keep='{wrong[0]}'"): model(options={'keep': wrong})

def test_no_human_sentence_of_tatoeba_is_a_refusal(shared_data):
    import zipfile
    from regurgitation.answers import _REFUSAL
    path, = shared_data.glob('mirror/**/deu-eng.zip')
    english = {line.split('\t')[0] for line in zipfile.ZipFile(path).read('deu.txt').decode().split('\n')}
    assert len(english) > 100_000 and not [text for text in english if _REFUSAL.search(text)]

# Pools that travel

def test_a_saved_pool_comes_back(model, tmp_path):
    generator, corpus = model(), dict(name='bible', split='train', n=24, max_words=9)
    made = generator.generate(verses())
    for name in ('a', 'b'): save_pool(tmp_path/f'{name}.jsonl.gz', made, corpus, generator.report)
    assert (tmp_path/'a.jsonl.gz').read_bytes() == (tmp_path/'b.jsonl.gz').read_bytes()
    assert load_pool(tmp_path/'a.jsonl.gz', keep=FLAGS[1:]).to_list() == made.to_list()
    head, *rows = read_jsonl(tmp_path/'a.jsonl.gz')
    assert head['corpus'] == corpus and not any('source' in r or 'sha256' in r for r in rows) and head['report']['sources'] == 24
    back = model().generate(verses(), 'back-translation')
    save_pool(tmp_path/'back.jsonl.gz', back, corpus)
    assert load_pool(tmp_path/'back.jsonl.gz', keep=FLAGS[1:]).to_list() == back.to_list()

def test_a_saved_pool_of_another_corpus_is_refused(model, tmp_path):
    path = tmp_path/'pool.jsonl.gz'
    save_pool(path, model().generate(verses()), dict(name='bible', split='train', n=24, max_words=9))
    with pytest.raises(InputError, match='24 of 24 ids are not in the corpus'): load_pool(path, load_corpus('bible', split='test', n=5))
    with pytest.raises(InputError, match='with other texts'): load_pool(path, make_pool([{**r, 'source': 'x' + r['source']} for r in verses().to_list()]))
    write_jsonl(path, read_jsonl(path)[:-1])
    with pytest.raises(InputError, match='23 rows, its first line says 24'): load_pool(path)

# Names

WRONG = [(lambda t: load_generator('copi'), 'copy'), (lambda t: load_generator('transformer:nowhere'), 'nowhere'), (lambda t: load_generator('openai'), 'expected openai:NAME'),
         (lambda t: load_generator('copy', seed=1), "unexpected keyword argument 'seed'"), (lambda t: decoding_of(top_k=3), "'top_k'.*top_p"),
         (lambda t: decoding_of(method='best'), 'greedy, sample, beam'), (lambda t: decoding_of(method='sample', temperature=0), 'above 0'),
         (lambda t: TransformerGenerator(t, method='best'), 'greedy, sample or beam'), (lambda t: TransformerGenerator(t, method='sample', temperature=0), 'above 0')]

@pytest.mark.parametrize('call,message', WRONG)
def test_wrong_calls(teacher, call, message):
    with pytest.raises(InputError, match=message): call(teacher)

@pytest.mark.parametrize('path', sorted((HERE.parent/'results'/'pools').glob('*.jsonl.gz')), ids=lambda p: p.name)
def test_committed_pools_find_their_sources(path, shared_data, monkeypatch):
    monkeypatch.setenv('REGURGITATION_MIRROR', str(shared_data/'mirror')); monkeypatch.setenv('REGURGITATION_HUB', str(shared_data/'hub'))
    pool = load_pool(path, keep=FLAGS[1:])
    told = [json.loads(p) for p in pool['provenance'][:]]
    assert len(pool) > .99*int(path.name.split('.')[-4]) and all(t['entropy'] >= 0 and t['nll'] >= 0 and t['human_pairs'] == 4 and t['sha256'] for t in told)
    assert not any('source' in row for row in read_jsonl(path)[1:]) # the corpus's own text stays where it is
