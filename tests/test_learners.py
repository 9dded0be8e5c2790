"A study whose learner is a language model: the same rows twice, its baselines, and settings that belong to the other learner."
import json, time
from dataclasses import replace

import pytest, torch
from test_arms import SMALL

from regurgitation import finetuning
from regurgitation.core import InputError, Store, raises, read_rows
from regurgitation.corpora import load_corpus
from regurgitation.learners import Scratch, Tuned, learner_of
from regurgitation.studies import Data, baselines, job_key, run_study, seconds_of, speed, work_of
from regurgitation.transformer import train_tokeniser

@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    "A causal model with random weights, as small as one can be"
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    folder, pool = tmp_path_factory.mktemp('tiny'), load_corpus('bible', n=100)
    tokeniser = train_tokeniser(pool['source'][:] + pool['target'][:], 400)
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(vocab_size=tokeniser.get_vocab_size(), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, bos_token_id=1, eos_token_id=2)).save_pretrained(folder)
    specials = {name: tokeniser.id_to_token(i) for name, i in (('bos_token', 1), ('eos_token', 2))}
    PreTrainedTokenizerFast(tokenizer_object=tokeniser, **specials).save_pretrained(folder)
    return folder

def study(tiny): return replace(SMALL, arms={'real': {}, 'poor': {'teacher': 'bbe'}}, teachers={'bbe': {'recorded': 'bbe'}}, sizes=[20], labelled=0, references={}, test_pairs=12, checkpoint='selected',
                                learner={'model': str(tiny), 'epochs': 1, 'tokens': 400, 'lr': 1e-3, 'precision': 'float32', 'max_tokens': 6, 'shots': 2})

def rows_of(folder): # all but time and hardware
    return sorted(({k: v for k, v in r.items() if k not in ('seconds', 'hardware')} for r in read_rows(folder/'out'/'rows.jsonl')), key=lambda r: r['key'])

@pytest.fixture(scope='module')
def twice(tiny, tmp_path_factory):
    made = []
    for name in 'ab':
        folder = tmp_path_factory.mktemp(name)
        run_study(study(tiny), folder/'out', Store(folder/'store'), workers=1)
        made.append(rows_of(folder))
    return made

def test_the_same_rows_twice(twice):
    assert twice[0] == twice[1]
    assert {r['arm'] for r in twice[0]} == {'real', 'poor', 'copy', 'zero-shot', 'few-shot', 'teacher:bbe'}

def longer(tiny): # each size goes on from the one before
    return replace(study(tiny), sizes=[10, 20], continued=True, learner={**study(tiny).learner, 'epochs': 2})

@pytest.fixture(scope='module')
def whole(tiny, tmp_path_factory):
    "The folder of a study that nobody stopped, and its steps"
    folder, steps = tmp_path_factory.mktemp('whole'), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetuning, '_step', lambda *args, step=finetuning._step: (steps.append(1), step(*args))[1])
        run_study(longer(tiny), folder/'out', Store(folder/'store'), workers=1)
    return folder, len(steps)

@pytest.mark.parametrize('error', (KeyboardInterrupt, InputError))
@pytest.mark.parametrize('training', (1, 2, 3))
def test_a_study_that_was_stopped_in_a_training_ends_in_the_same_rows(tiny, whole, tmp_path, monkeypatch, training, error):
    "In the second step of the second epoch of so many trainings: the first epoch is in a checkpoint"
    steps, met, step, (folder, made) = [], [], finetuning._step, whole
    def stopping(run, *args):
        steps.append(1)
        if run.epoch == 1 == len(run.losses): met.append(1)
        if len(met) == training: met.append(1); raise error('stopped')
        return step(run, *args)
    monkeypatch.setattr(finetuning, '_step', stopping)
    with pytest.raises(error): run_study(longer(tiny), tmp_path/'out', Store(tmp_path/'store'), workers=1)
    checkpoint, = (tmp_path/'store'/'training').glob('*.part/checkpoint.safetensors')
    run_study(longer(tiny), tmp_path/'out', Store(tmp_path/'store'), workers=1)
    predictions = [{p.name: p.read_bytes() for p in (f/'out'/'predictions').iterdir()} for f in (folder, tmp_path)]
    assert rows_of(tmp_path) == rows_of(folder) and predictions[0] == predictions[1] and len(predictions[0]) == len(rows_of(folder)) == 8
    assert len(steps) == made + 2 and not checkpoint.parent.exists() # the step that failed, and the one before it, which no checkpoint held

def test_a_torn_adapter_in_the_store_is_told(tiny, tmp_path):
    adapted, store = replace(study(tiny), arms={'real': {}}, teachers={}, learner={**study(tiny).learner, 'rank': 4}), Store(tmp_path/'store')
    run_study(adapted, tmp_path/'out', store, workers=1)
    (tmp_path/'out'/'rows.jsonl').unlink()
    adapter, = (tmp_path/'store'/'training').glob('*/best/adapter_model.safetensors')
    adapter.write_bytes(adapter.read_bytes()[:-1])
    with pytest.raises(InputError) as told: run_study(adapted, tmp_path/'out', store, workers=1)
    assert str(adapter) in str(told.value) and 'torn or changed' in str(told.value) and f'remove {adapter.parents[1]}' in str(told.value)

def test_a_row_of_a_tuned_model_tells_what_any_row_tells(twice):
    row = next(r for r in twice[0] if r['arm'] == 'poor')
    assert row['pairs_generated'] == 20 and row['epochs'] == 1 and row['target_tokens'] > 100 and row['dev_bits_per_byte'] > 0 and {'targets', 'errors', 'training_set'} <= set(row)

def test_the_weights_and_the_recipe_determine_a_row(tiny):
    s = study(tiny)
    keys = {job_key(t, Data(t), 'student', 'real', 20, 0) for t in (s, replace(s, learner={**s.learner, 'lr': 2e-3}), replace(s, learner={**s.learner, 'rank': 4}), replace(s, learner={'d_model': 32}))}
    assert len(keys) == 4 and baselines(s)[:3] == ['copy', 'zero-shot', 'few-shot']

def test_settings_choose_the_learner(tiny):
    assert isinstance(learner_of({'d_model': 32}), Scratch) and isinstance(learner_of({'model': str(tiny)}), Tuned)
    for settings, message in (({'model': str(tiny), 'd_model': 32}, "no field 'd_model'"), ({'rank': 8}, "no field 'rank'"), ({'model': str(tiny), 'lr': -1}, 'lr -1')):
        with pytest.raises(InputError, match=message): learner_of(settings)

def test_a_chat_is_trained_and_asked_as_a_chat(tiny, tmp_path, monkeypatch):
    import shutil
    from regurgitation.causal import CausalLM
    folder, pool, asked, encode = shutil.copytree(tiny, tmp_path/'chat'), load_corpus('bible', n=12), [], CausalLM.encode
    told = json.loads((folder/'tokenizer_config.json').read_text())
    template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
    (folder/'tokenizer_config.json').write_text(json.dumps(told | {'chat_template': template}))
    settings = {**study(folder).learner, 'shots': 1}
    plain, chat, pinned = (learner_of({**settings, **more}) for more in ({}, {'style': 'chat'}, {'revision': 'v1'}))
    assert chat.config() == {**plain.config(), 'style': 'chat'} and pinned.config() == {**plain.config(), 'revision': 'v1'}
    chat.train(pool, pool, tmp_path/'run', 0)
    assert json.loads((tmp_path/'run'/'last'/'manifest.json').read_text())['asked']['style'] == 'chat'
    monkeypatch.setattr(CausalLM, 'encode', lambda lm, prompt: (asked.append(prompt), encode(lm, prompt))[1])
    assert len(chat.write(tmp_path/'run'/'last', pool, store=Store(tmp_path/'store'))) == 12 and len(chat.baseline('few-shot', pool, load_corpus('bible', n=20).select(range(12, 20)), Store(tmp_path/'store'))) == 8
    assert len(asked) >= 20 and all('messages' in prompt for prompt in asked)
    assert 'expected completion' in raises(InputError, learner_of({**settings, 'style': 'talk'}).train, pool, pool, tmp_path/'other', 0)

def test_speed_is_that_of_training(tiny):
    s = study(tiny)
    assert 0 < speed(s, Data(s)) < 1e5

def test_what_is_written_and_opened_takes_time(tiny):
    s = replace(study(tiny), arms={'real': {}, 'twice': {'learner': {'epochs': 2, 'lr': 1e-4}}})
    data = Data(s)
    jobs = [('student', arm, 20, 0) for arm in s.arms] + [('baseline', 'few-shot', 0, None)]
    once, twice, few = (work_of(s, data, j) for j in jobs)
    assert once.keys() == twice.keys() and few.keys() < once.keys() # epochs and rates change no speed, so none is measured again
    assert [twice[what] for what in once if what[0] in ('train', 'write')] == [2*once[what] for what in once if what[0] in ('train', 'write')]
    assert all(0 < speed(s, data, what) < 1e5 for what in once if what[0] != 'score') and min(seconds_of(s, data, jobs).values()) >= 1

def test_speed_is_that_of_a_whole_pool(tiny, monkeypatch):
    "Of verses from short to long, at a tenth of a millisecond for each place"
    runs, places = [], lambda run, group: len(group)*max(run.data.lengths[i][0] for i in group)
    monkeypatch.setattr(finetuning, '_step', lambda run, group, rate: (runs.append((run, places(run, group))), time.sleep(places(run, group)/1e4)))
    pool = load_corpus('bible', n=100)
    found, run = learner_of({'model': str(tiny), 'tokens': 400}).speed(pool), runs[0][0]
    true = 1e4*len(pool)/sum(places(run, group) for group in run.data.batches(400, 'speed'))
    assert .7*true < found <= true and len(runs) == 4 and run.lm.training

def test_question_answering_is_scored_by_exact_match_and_f1(tiny, tmp_path):
    places = [a + b + c for a in ('Beth', 'Naza', 'Jeri', 'Heb', 'Dama') for b in ('le', 'ra', 'ko', 'sa', 'mi', 'nu', 'pe', 'to') for c in ('hem', 'rin', 'than', 'go')]
    rows = [{'id': f'q{i}', 'source': f'He went down to {places[i]} with {places[-i]} his son.\n\nWhere did he go with {places[-i]}?', 'target': places[i]} for i in range(160)]
    (tmp_path/'qa.jsonl').write_text(''.join(json.dumps(r) + '\n' for r in rows))
    asked = replace(study(tiny), arms={'real': {}}, teachers={}, corpus=str(tmp_path/'qa.jsonl'), corpus_options={'parts': {'train': 3, 'dev': 1, 'test': 1}}, sources=None, task='qa', test_pairs=8, dev_pairs=8)
    run_study(asked, tmp_path/'out', Store(tmp_path/'store'), workers=1)
    found = {r['arm']: r for r in read_rows(tmp_path/'out'/'rows.jsonl')}
    assert set(found) == {'real', 'copy', 'zero-shot', 'few-shot'} and all(set(r['metrics']) == {'exact_match', 'f1'} for r in found.values())
    assert found['real']['errors'] == {'any': 0} and found['copy']['metrics']['f1']['score'] > 0 == found['copy']['metrics']['exact_match']['score']
    with pytest.raises(InputError, match='a study evaluates translation or qa'): replace(asked, task='back-translation')
