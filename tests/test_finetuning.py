"Fine-tuning of small random models: its loss against transformers' own, runs that are killed, two processes, and files that are not what they were."
import json, multiprocessing as mp, os, random, shutil, signal, subprocess, sys, time
from dataclasses import replace
from functools import partial
from pathlib import Path
import pytest, torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import (AutoModelForCausalLM, BartConfig, BartForConditionalGeneration, Gemma3ForCausalLM, Gemma3TextConfig, GraniteConfig, GraniteForCausalLM, LlamaConfig, LlamaForCausalLM,
                          PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM)
from regurgitation import finetuning
from regurgitation.causal import CausalLM
from regurgitation.core import InputError, Store, make_pool, raises
from regurgitation.finetuning import Examples, Tuning, _end, _HeadLoss, _start, additions, answer_loss, encode_examples, finetune, load_tuned
from regurgitation.tasks import prompts
from regurgitation.transformer import train_tokeniser

GERMAN = ['Ich habe keine Zeit.', 'Das Wasser ist kalt.', 'Der Weg ist weit.', 'Wo ist der Bahnhof?', 'Es regnet seit gestern.', 'Sie liest jeden Abend.', 'Das Brot ist frisch.']
ENGLISH = ['I have no time.', 'The water is cold.', 'It is a long way.', 'Where is the station?', 'It has been raining since yesterday.', 'She reads every evening.', 'The bread is fresh.']
SMALL = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=256, eos_token_id=2, bos_token_id=1, pad_token_id=0)
KINDS = {'llama': (LlamaForCausalLM, LlamaConfig), 'qwen2': (Qwen2ForCausalLM, partial(Qwen2Config, tie_word_embeddings=True)),
         'gemma3': (Gemma3ForCausalLM, partial(Gemma3TextConfig, head_dim=16, sliding_window=9, layer_types=['sliding_attention', 'full_attention'])),
         'granite': (GraniteForCausalLM, partial(GraniteConfig, logits_scaling=3.0))}
CHAT = "{% for m in messages %}<pad>{{ m.role }}: {{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}<pad>assistant: {% endif %}"
NOTEBOOK = Path(__file__).resolve().parents[1]/'nbs'/'13_finetuning.ipynb'
RECIPE = Tuning(epochs=4, tokens=150, lr=1e-2, precision='float32')
LEARNERS = {'embedding too': replace(RECIPE, frozen_embedding=False), 'all layers': RECIPE, 'LoRA': replace(RECIPE, rank=4, dropout=0.1)}
forks = mp.get_context('forkserver')
forks.set_forkserver_preload(['regurgitation.finetuning', 'transformers.models.gemma3.modeling_gemma3'])

def pairs(): return make_pool([dict(id=f'pair/{i}', source=s, target=t) for i, (s, t) in enumerate(zip(GERMAN, ENGLISH))])

@pytest.fixture(scope='session')
def folders(tmp_path_factory):
    torch.set_num_threads(1)
    pieces, made = train_tokeniser(GERMAN + ENGLISH + ['German: English:\n'], 300), {}
    tokeniser = PreTrainedTokenizerFast(tokenizer_object=pieces, eos_token='</s>', pad_token='<pad>')
    tokeniser.chat_template = CHAT
    for name, (kind, config) in KINDS.items():
        torch.manual_seed(7)
        model, made[name] = kind(config(vocab_size=len(tokeniser), **SMALL)), tmp_path_factory.mktemp(name)
        for w in model.parameters(): torch.nn.init.normal_(w, std=0.2)
        model.save_pretrained(made[name]); tokeniser.save_pretrained(made[name])
    return made

@pytest.fixture(scope='session')
def tokeniser(folders): return CausalLM(folders['llama']).tokeniser

def weights(folder, which='last'): return load_file(next((folder/which).glob('*.safetensors')))

def same(a, b): return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)

@pytest.mark.parametrize('name, cap', (('llama', None), ('qwen2', None), ('gemma3', None), ('gemma3', 2.0))) # only Gemma bends its logits
def test_loss_and_gradients_are_those_of_transformers(folders, tokeniser, name, cap):
    model = AutoModelForCausalLM.from_pretrained(folders[name])
    model.config.final_logit_softcapping = cap
    batch = Examples(tokeniser, pairs()).batch(range(7))
    ours, theirs = answer_loss(model, batch)/(batch['labels'] != -100).sum(), model(**batch).loss
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-5)
    for a, b in zip(*(torch.autograd.grad(loss, list(model.parameters())) for loss in (ours, theirs))): assert torch.allclose(a, b, atol=1e-5)
    with torch.no_grad(): assert answer_loss(model, batch).item() == pytest.approx(ours.item()*(batch['labels'] != -100).sum().item(), rel=1e-6)

@pytest.mark.parametrize('biased', (False, True))
@pytest.mark.parametrize('cap', (None, 3.0))
@pytest.mark.parametrize('numbers', (1, 250, 2**20))
def test_the_output_layer_in_pieces(biased, cap, numbers):
    torch.manual_seed(0)
    hidden, weight, bias, chosen = torch.randn(9, 8, requires_grad=True), torch.randn(50, 8, requires_grad=True), torch.randn(50, requires_grad=True) if biased else None, torch.arange(0, 45, 5)
    learned = [x for x in (hidden, weight, bias) if x is not None]
    z = F.linear(hidden, weight, bias)
    plain = F.cross_entropy(z if cap is None else cap*torch.tanh(z/cap), chosen, reduction='sum')
    ours = _HeadLoss.apply(hidden, weight, bias, cap, chosen, True, numbers)
    assert torch.allclose(ours, plain, atol=1e-4)
    for a, b in zip(torch.autograd.grad(ours*0.3, learned), torch.autograd.grad(plain*0.3, learned)): assert torch.allclose(a, b, atol=1e-5)

def test_nothing_as_wide_as_the_vocabulary_waits_for_the_backward_pass(folders, tokeniser):
    lm, kept = _start(folders['llama'], None, RECIPE, 0, None)[0].train(), []
    batch = Examples(tokeniser, pairs()).batch(range(7))
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t), t)[1], lambda t: t): loss = answer_loss(lm, batch)
    kept += [g for g in loss.grad_fn.grads if g is not None]
    tables = {lm.get_input_embeddings().weight.data_ptr(), lm.get_output_embeddings().weight.data_ptr()}
    assert len(kept) > 10 and not [t.shape for t in kept if len(tokeniser) in t.shape and t.data_ptr() not in tables]

@pytest.mark.parametrize('style', ('completion', 'chat'))
def test_an_example_is_the_prompt_of_generation_and_ends_where_generation_stops(folders, tokeniser, style):
    lm = CausalLM(folders['llama'])
    for prompt, (ids, begin), target in zip(prompts('translation', pairs(), style=style), encode_examples(tokeniser, pairs(), style=style), ENGLISH):
        assert ids[:begin] == lm.encode(prompt) and tokeniser.decode(ids[begin:-1]).strip() == target
        assert ids[-1] in lm.ends if style == 'chat' else tokeniser.decode(ids[-1:]) == '\n'

def test_a_tokeniser_without_line_ends_says_the_end_of_text():
    from tokenizers import Tokenizer, models, pre_tokenizers
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(['</s>', '?', 'x', 'German', ':', 'English'])}, '?'))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    assert _end(PreTrainedTokenizerFast(tokenizer_object=words, eos_token='</s>'), 'completion') == [0]

@pytest.mark.parametrize('rank', (0, 4))
def test_checkpointed_layers_are_computed_twice_and_learn_the_same(folders, tokeniser, rank):
    batch, found = Examples(tokeniser, pairs()).batch(range(7)), []
    for checkpointing in (False, True):
        lm, passes = _start(folders['gemma3'], None, replace(RECIPE, checkpointing=checkpointing, rank=rank), 0, None)[0].train(), []
        lm.model.layers[0].mlp.register_forward_hook(lambda *_: passes.append(1))
        answer_loss(lm, batch).backward()
        found.append((len(passes), [w.grad for w in lm.parameters() if w.grad is not None]))
    (once, plain), (twice, again) = found
    assert (once, twice) == (1, 2) and plain and all(torch.equal(a, b) for a, b in zip(plain, again))

@pytest.mark.parametrize('learner', LEARNERS)
def test_one_seed_is_one_row_and_only_what_shall_learn_learns(folders, tmp_path, learner):
    recipe = replace(LEARNERS[learner], epochs=1)
    for name, seed in (('a', 0), ('b', 0), ('c', 1)): finetune(folders['llama'], pairs(), tmp_path/name, recipe, seed)
    a, b, c = (weights(tmp_path/name) for name in 'abc')
    assert same(a, b) and not same(a, c)
    before, after = AutoModelForCausalLM.from_pretrained(folders['llama']).state_dict(), load_tuned(tmp_path/'a'/'last').model.state_dict()
    stayed = {k for k in before if torch.equal(before[k], after[k])}
    assert before.keys() == after.keys() and stayed == {'embedding too': set(), 'all layers': {'lm_head.weight', 'model.embed_tokens.weight'},
                                                        'LoRA': {k for k in before if 'proj' not in k}}[learner]

def tune_here(base, folder, learner, every):
    torch.set_num_threads(1)
    finetune(base, pairs(), folder, LEARNERS[learner], dev=pairs(), every=every)

def in_child(*args):
    child = forks.Process(target=tune_here, args=args)
    child.start()
    return child

@pytest.mark.parametrize('learner', ('embedding too', 'LoRA'))
def test_a_killed_run_ends_in_the_same_weights(folders, tmp_path, learner):
    child = in_child(folders['gemma3'], tmp_path/'whole', learner, 300.0)
    child.join()
    assert child.exitcode == 0
    chance, killed, checkpoint = random.Random(0), 0, tmp_path/'run'/'checkpoint.safetensors'
    stamp = lambda: checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
    while not (tmp_path/'run'/'history.json').exists():
        before, child = stamp(), in_child(folders['gemma3'], tmp_path/'run', learner, 0.0)
        while killed < 6 and child.exitcode is None and stamp() in (0, before): time.sleep(0.005) # until it has made a step
        if killed < 6:
            child.join(chance.uniform(0, 0.1))
            child.kill() # which may have ended by itself
        child.join()
        assert child.exitcode in (0, -signal.SIGKILL)
        killed += child.exitcode != 0
    print(f'{killed} kills')
    assert killed
    for which in ('best', 'last'): assert same(weights(tmp_path/'whole', which), weights(tmp_path/'run', which))
    assert (tmp_path/'whole'/'history.json').read_text() == (tmp_path/'run'/'history.json').read_text()
    assert sorted(p.name for p in (tmp_path/'run').iterdir()) == ['best', 'history.json', 'last']

class Dies:
    def __init__(self, left): self.left = left
    def update(self, n):
        self.left -= n
        if self.left < 0: raise KeyboardInterrupt

@pytest.mark.parametrize('learner', LEARNERS)
@pytest.mark.parametrize('after', (1, 7, 18))
def test_stopped_after_any_step_it_goes_on(folders, tmp_path, learner, after):
    finetune(folders['llama'], pairs(), tmp_path/'whole', LEARNERS[learner])
    with pytest.raises(KeyboardInterrupt): finetune(folders['llama'], pairs(), tmp_path/'run', LEARNERS[learner], every=0, bar=Dies(after))
    if (tmp_path/'run'/'checkpoint.safetensors').exists():
        assert 'the checkpoint of a run with another pool. Name' in raises(InputError, finetune, folders['llama'], pairs().select(range(6)), tmp_path/'run', LEARNERS[learner])
    finetune(folders['llama'], pairs(), tmp_path/'run', LEARNERS[learner])
    assert same(weights(tmp_path/'whole'), weights(tmp_path/'run'))

def test_a_run_of_one_step_learns(folders, tmp_path):
    once = Tuning(epochs=1, tokens=10**4, lr=1e-2, precision='float32')
    assert len(finetune(folders['llama'], pairs(), tmp_path/'run', once)[0]['losses']) == 1
    before, after = load_file(folders['llama']/'model.safetensors'), weights(tmp_path/'run')
    assert [n for n in after if not torch.equal(before[n], after[n])] == [n for n in after if 'embed' not in n and 'lm_head' not in n]

def test_what_the_environment_says_of_steps_changes_none(folders, tmp_path, monkeypatch):
    from accelerate.state import AcceleratorState
    finetune(folders['llama'], pairs(), tmp_path/'plain', RECIPE)
    for name, value in dict(ACCELERATE_GRADIENT_ACCUMULATION_STEPS='4', ACCELERATE_MIXED_PRECISION='bf16').items(): monkeypatch.setenv(name, value)
    AcceleratorState._reset_state(True)
    finetune(folders['llama'], pairs(), tmp_path/'told', RECIPE)
    assert same(weights(tmp_path/'plain'), weights(tmp_path/'told'))

def test_splits_that_cannot_be_put_together_are_refused(monkeypatch):
    from types import SimpleNamespace
    from accelerate import DistributedType
    for kind in (DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM, DistributedType.FSDP):
        monkeypatch.setattr(finetuning, 'Accelerator', lambda **_: SimpleNamespace(distributed_type=kind, is_fsdp2=False))
        assert f'with {kind.value}' in (said := raises(InputError, finetuning._accelerator)) and 'fsdp_version: 2' in said

@pytest.mark.parametrize('rank', (0, 4))
def test_of_a_model_with_eyes_what_reads_is_trained(tokeniser, tmp_path, rank):
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration
    seeing = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14)
    torch.manual_seed(0)
    Gemma3ForConditionalGeneration(Gemma3Config(text_config=dict(vocab_size=len(tokeniser), head_dim=16, **SMALL), vision_config=seeing, mm_tokens_per_image=1, image_token_index=5, boi_token_index=6, eoi_token_index=7)).save_pretrained(tmp_path/'seeing')
    tokeniser.save_pretrained(tmp_path/'seeing')
    recipe = replace(RECIPE, rank=rank, epochs=2)
    lm = _start(tmp_path/'seeing', None, recipe, 0, None)[0]
    trained = [n for n, w in lm.named_parameters() if w.requires_grad]
    assert trained and all('language_model' in n for n in trained) and not [n for n, _ in lm.named_parameters() if 'lora' in n and 'language_model' not in n]
    finetune(tmp_path/'seeing', pairs(), tmp_path/'whole', recipe)
    with pytest.raises(KeyboardInterrupt): finetune(tmp_path/'seeing', pairs(), tmp_path/'run', recipe, every=0, bar=Dies(3))
    finetune(tmp_path/'seeing', pairs(), tmp_path/'run', recipe)
    assert same(weights(tmp_path/'whole'), weights(tmp_path/'run'))

def test_a_run_that_is_stopped_goes_on_in_the_precision_in_which_it_began(folders, tmp_path, monkeypatch):
    recipe = replace(RECIPE, precision='auto')
    monkeypatch.setattr(finetuning, 'fast_precision', lambda: 'float32')
    with pytest.raises(KeyboardInterrupt): finetune(folders['llama'], pairs(), tmp_path, recipe, every=0, bar=Dies(7))
    monkeypatch.setattr(finetuning, 'fast_precision', lambda: 'bfloat16')
    assert 'a run with another precision' in raises(InputError, finetune, folders['llama'], pairs(), tmp_path, recipe)
    finetune(folders['llama'], pairs(), tmp_path, replace(recipe, precision='float32', checkpointing=True)) # more time for less memory is no other run
    assert json.loads((tmp_path/'last'/'manifest.json').read_text())['tuning']['precision'] == 'float32'

def test_a_finished_run_is_only_read(folders, tmp_path, monkeypatch):
    asked = dict(model=folders['llama'], pool=pairs(), folder=tmp_path, tuning=RECIPE, dev=pairs(), languages=('German', 'English'))
    history = finetune(**asked)
    monkeypatch.setattr(finetuning, '_ready', None) # no model is loaded
    assert finetune(**asked) == history and len(history) == 4 and len(history[0]['losses']) == history[0]['step']
    assert history[-1]['dev_bits_per_byte'] < history[0]['dev_bits_per_byte'] and history[-1]['train_nats_per_token'] < history[0]['train_nats_per_token']
    for name, other in dict(model=folders['qwen2'], pool=pairs().select(range(6)), tuning=replace(RECIPE, lr=1e-3), dev=None, seed=1, init=tmp_path/'best', revision='main').items():
        assert f'a finished run with another {"lr" if name == "tuning" else name}. Name another folder' in raises(InputError, finetune, **{**asked, name: other})
    assert 'another prompt.' in raises(InputError, finetune, **asked, style='chat') and finetune(**asked) == history
    shutil.rmtree(tmp_path/'last')
    assert 'missing or torn' in raises(InputError, finetune, **asked)

def test_a_store_that_was_stopped_before_it_named_the_folder(folders, tmp_path, monkeypatch):
    store = Store(tmp_path)
    def made(seed, dies=False):
        def fill(folder):
            finetune(folders['llama'], pairs(), folder, RECIPE, seed, dev=pairs())
            if dies: raise KeyboardInterrupt
        return fill
    with pytest.raises(KeyboardInterrupt): store.get('training', {}, made(0, dies=True))
    monkeypatch.setattr(finetuning, '_ready', None)
    assert 'another seed' in raises(InputError, store.get, 'training', {}, made(1))
    done = store.get('training', {}, made(0))
    assert finetune(folders['llama'], pairs(), done, RECIPE, dev=pairs()) == json.loads((done/'history.json').read_text())

@pytest.mark.parametrize('linked', (True, False))
def test_the_last_weights_are_the_best_ones_where_they_are_the_same(folders, tmp_path, monkeypatch, linked):
    def refused(*_): raise OSError('no links here')
    if not linked: monkeypatch.setattr(os, 'link', refused)
    files = lambda run: [tmp_path/run/which/'model.safetensors' for which in ('best', 'last')]
    dev = [e['dev_bits_per_byte'] for e in finetune(folders['llama'], pairs(), tmp_path/'a', RECIPE, dev=pairs())]
    assert min(dev) == dev[-1] < dev[0]
    assert os.path.samefile(*files('a')) == linked and same(weights(tmp_path/'a', 'best'), weights(tmp_path/'a')) and load_tuned(tmp_path/'a'/'last')
    rising = iter((1.0, 3.0, 2.0, 1.5))
    monkeypatch.setattr(finetuning, '_bits_per_byte', lambda run: next(rising))
    finetune(folders['llama'], pairs(), tmp_path/'b', RECIPE, dev=pairs())
    assert not os.path.samefile(*files('b')) and not same(weights(tmp_path/'b', 'best'), weights(tmp_path/'b')) and same(weights(tmp_path/'a'), weights(tmp_path/'b'))

def test_a_loss_that_is_no_number_is_in_no_history(folders, tmp_path):
    once = Tuning(epochs=2, tokens=10**4, lr=1e30, warmup=0.0, precision='float32') # one step an epoch, and no gradient follows it
    said = raises(InputError, finetune, folders['llama'], pairs(), tmp_path, once, dev=pairs())
    assert 'diverged in epoch 0 (development loss nan)' in said and 'Lower the learning rate, 1e+30, and remove the checkpoint' in said
    assert not list(tmp_path.iterdir())

@pytest.mark.parametrize('learner', ('all layers', 'LoRA'))
def test_a_run_goes_on_from_another(folders, tmp_path, learner):
    first = finetune(folders['llama'], pairs(), tmp_path/'first', LEARNERS[learner], dev=pairs())
    second = finetune(folders['llama'], pairs(), tmp_path/'second', LEARNERS[learner], dev=pairs(), init=tmp_path/'first'/'last')
    assert second[0]['losses'][0] < first[0]['losses'][0] and second[-1]['dev_bits_per_byte'] < first[-1]['dev_bits_per_byte']
    other = LEARNERS['LoRA' if learner != 'LoRA' else 'all layers']
    assert 'tuned with rank' in raises(InputError, finetune, folders['llama'], pairs(), tmp_path/'third', other, init=tmp_path/'first'/'last')
    if learner == 'LoRA': assert 'tuned with alpha 32.0, and this run has alpha 8.0' in raises(InputError, finetune, folders['llama'], pairs(), tmp_path/'third', replace(LEARNERS[learner], alpha=8.0), init=tmp_path/'first'/'last')
    said = raises(InputError, finetune, folders['qwen2'], pairs(), tmp_path/'third', LEARNERS[learner], init=tmp_path/'first'/'last')
    assert f'tuned from {str(folders["llama"])!r}' in said and f'{str(folders["qwen2"])!r} has' in said and 'adapter' not in said

def test_additions():
    pool = make_pool([dict(id=str(i), source=f'Satz {i}.', target=f'Sentence {i}.') for i in range(25)])
    assert [(n, part['id'][0], len(part)) for n, part in additions(pool, 10)] == [(10, '0', 10), (20, '10', 10), (25, '20', 5)]
    assert [(n, part['id'][0], len(part)) for n, part in additions(pool, 10, restart=True)] == [(10, '0', 10), (20, '0', 20), (25, '0', 25)]
    assert [(n, len(part)) for n, part in additions(pool)] == [(25, 25)] and [n for n, _ in additions(pool, 5)] == [5, 10, 15, 20, 25]

@pytest.mark.parametrize('precision', ('float32', 'bfloat16'))
def test_a_merged_adapter_writes_what_the_adapter_writes(folders, tmp_path, precision):
    from peft import PeftModel
    finetune(folders['gemma3'], pairs(), tmp_path, replace(LEARNERS['LoRA'], epochs=8))
    lm = load_tuned(tmp_path/'last', precision=precision)
    ids = torch.tensor([lm.encode(prompts('translation', pairs())[0])])
    beside = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folders['gemma3']), tmp_path/'last').eval()
    assert lm.fast and (lm.model(ids).logits - beside(ids).logits).abs().max() < (1e-3 if precision == 'float32' else 0.5)*beside(ids).logits.std()
    assert lm.facts['tuned'] and lm.name.endswith(lm.name.split('-tuned-')[1]) and not lm.model.training

def test_an_adapter_finds_its_model_where_it_is_told(folders, tmp_path, monkeypatch):
    shutil.copytree(folders['llama'], tmp_path/'model')
    monkeypatch.chdir(tmp_path)
    finetune('./model', pairs(), tmp_path/'run', replace(LEARNERS['LoRA'], epochs=1))
    (tmp_path/'elsewhere').mkdir(); monkeypatch.chdir(tmp_path/'elsewhere')
    assert 'model' in raises(InputError, load_tuned, tmp_path/'run'/'last')
    assert load_tuned(tmp_path/'run'/'last', tmp_path/'model').facts['tuned'] == load_tuned(tmp_path/'run'/'last', folders['llama']).facts['tuned']
    assert 'the weights' in raises(InputError, load_tuned, tmp_path/'run'/'last', folders['qwen2'])

def test_the_end_of_a_turn_or_of_a_text_is_found(tokeniser):
    from copy import deepcopy
    from tokenizers import AddedToken
    turned = deepcopy(tokeniser)
    turned.add_tokens([AddedToken('<end>', special=True)])
    turned.chat_template = CHAT.replace('</s>', '<end>')
    assert _end(turned, 'chat') == [turned.convert_tokens_to_ids('<end>')] and '<end>' not in turned.all_special_tokens
    turned.eos_token, turned.chat_template = None, CHAT.replace('</s>', '')
    assert 'no token that ends a text' in raises(InputError, _end, turned, 'chat')

def test_files_that_are_not_what_they_were(folders, tmp_path):
    finetune(folders['llama'], pairs(), tmp_path/'run', replace(LEARNERS['LoRA'], epochs=1))
    last = tmp_path/'run'/'last'
    adapter, whole = last/'adapter_model.safetensors', (last/'adapter_model.safetensors').read_bytes()
    for torn in (whole[:-1], whole[:20], whole[:-1] + bytes([whole[-1] ^ 1]), b''):
        adapter.write_bytes(torn)
        said = raises(InputError, load_tuned, last)
        assert str(adapter) in said and 'torn or changed' in said and 'tune again' in said
    adapter.unlink()
    assert str(adapter) in raises(InputError, load_tuned, last)
    adapter.write_bytes(whole)
    told = json.loads((last/'manifest.json').read_text())
    (last/'manifest.json').write_text(json.dumps(told | {'base': ['0'*64]}))
    assert 'with the weights 0000000000000000' in raises(InputError, load_tuned, last)
    for broken in ('{"files": ', ''):
        (last/'manifest.json').write_text(broken)
        assert 'missing or torn' in raises(InputError, load_tuned, last)
    assert 'missing or torn' in raises(InputError, load_tuned, folders['llama'])
    (tmp_path/'torn').mkdir(); (tmp_path/'torn'/'checkpoint.safetensors').write_bytes(b'half a checkpoint')
    assert 'a torn checkpoint' in raises(InputError, finetune, folders['llama'], pairs(), tmp_path/'torn', RECIPE)

def test_what_cannot_be_learned_is_said(folders, tokeniser, tmp_path):
    tune = partial(raises, InputError, finetune, folders['llama'])
    assert 'the pool is empty' in tune(pairs().select([]), tmp_path, RECIPE)
    unanswered = pairs().map(lambda r: {'target': '' if r['id'] == 'pair/3' else r['target']})
    assert "'pair/3': its target is empty" in tune(unanswered, tmp_path, RECIPE)
    assert "'pair/3': its source is empty" in tune(pairs().map(lambda r: {'source': '  ' if r['id'] == 'pair/3' else r['source']}), tmp_path, RECIPE, task='back-translation')
    long = make_pool([dict(id='long', source='Der Weg ist weit. '*60, target='It is a long way. '*60)])
    assert "'long':" in (said := tune(long, tmp_path, RECIPE)) and 'the model reads 256' in said
    assert 'diverged' in tune(pairs(), tmp_path, replace(RECIPE, lr=1e30, epochs=3))
    for wrong in (dict(precision='float16'), dict(epochs=0), dict(tokens=0), dict(lr=0.0), dict(warmup=1.0), dict(rank=-1), dict(dropout=1.0), dict(clip=0.0), dict(alpha=0.0), dict(weight_decay=-1.0),
                  dict(epochs=1.5), dict(rank=8.0), dict(epochs=True), dict(lr='3e-5'), dict(checkpointing='yes'), dict(precision=None)):
        name, value = next(iter(wrong.items()))
        assert f'{name} {value!r}: expected' in raises(InputError, Tuning, **wrong)
    assert 'of rank 4 here, trains no embedding' in raises(InputError, Tuning, rank=4, frozen_embedding=False)

def test_models_that_would_learn_another_loss_are_refused(folders, tokeniser, tmp_path):
    assert 'does more to its logits than we know' in raises(InputError, finetune, folders['granite'], pairs(), tmp_path/'run', RECIPE)
    BartForConditionalGeneration(BartConfig(vocab_size=len(tokeniser), d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32,
                                            decoder_ffn_dim=32, pad_token_id=0, eos_token_id=2, bos_token_id=1, decoder_start_token_id=2)).save_pretrained(tmp_path/'bart')
    tokeniser.save_pretrained(tmp_path/'bart')
    assert 'has an encoder' in raises(InputError, finetune, tmp_path/'bart', pairs(), tmp_path/'run', RECIPE)

SCRIPT = '''
import sys, torch
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_finetuning import LEARNERS, pairs, replace
from accelerate import Accelerator, DistributedType, FullyShardedDataParallelPlugin
import regurgitation.finetuning as finetuning
torch.set_num_threads(1)
def spreading(**how): # accelerate leaves FSDP out on processors, torch does not
    accelerator = Accelerator(**how)
    accelerator.state.distributed_type, accelerator.state.fsdp_plugin = DistributedType.FSDP, FullyShardedDataParallelPlugin()
    return accelerator
if sys.argv[4] == 'spread': finetuning.Accelerator = spreading
for learner in ('embedding too', 'LoRA'):
    spread, step = [], finetuning._step
    def watched(run, *args):
        spread.append(any('DTensor' in type(w).__name__ for w in run.lm.parameters()))
        return step(run, *args)
    finetuning._step = watched
    finetuning.finetune(Path(sys.argv[2]), pairs(), Path(sys.argv[3])/learner, replace(LEARNERS[learner], dropout=0.0), dev=pairs())
    finetuning._step = step
    assert all(spread) == (sys.argv[4] == 'spread'), spread
torch.distributed.destroy_process_group() # else its threads may outlive the interpreter, which then aborts
'''

@pytest.mark.parametrize('how', ('copied', 'spread'))
def test_two_processes_make_the_steps_of_one(folders, tmp_path, how):
    (tmp_path/'script.py').write_text(SCRIPT)
    shown = next(text for cell in json.loads(NOTEBOOK.read_text(encoding='utf-8'))['cells'] if '```yaml' in (text := ''.join(cell['source'])))
    (tmp_path/'fsdp.yaml').write_text(shown.split('```yaml\n')[1].split('```')[0]) # the file that the page shows
    kind = {'copied': ['--multi_gpu', '--num_machines', '1', '--mixed_precision', 'no', '--dynamo_backend', 'no'], 'spread': ['--config_file', str(tmp_path/'fsdp.yaml')]}[how]
    done = subprocess.run([sys.executable, '-m', 'accelerate.commands.launch', *kind, '--num_processes', '2', '--main_process_port', '0', str(tmp_path/'script.py'), os.path.dirname(__file__), str(folders['gemma3']), str(tmp_path/'two'), how], timeout=600, capture_output=True, text=True,
                          env={**os.environ, 'OMP_NUM_THREADS': '1', 'ACCELERATE_USE_CPU': 'true'})
    assert done.returncode == 0, done.stderr[-3000:]
    for learner in ('embedding too', 'LoRA'):
        one = finetune(folders['gemma3'], pairs(), tmp_path/'one'/learner, replace(LEARNERS[learner], dropout=0.0), dev=pairs())
        two = json.loads((tmp_path/'two'/learner/'history.json').read_text())
        a, b = weights(tmp_path/'one'/learner), weights(tmp_path/'two'/learner)
        assert a.keys() == b.keys() and max((a[k] - b[k]).abs().max().item() for k in a) < 1e-4
        assert [x for e in two for x in e['losses']] == pytest.approx([x for e in one for x in e['losses']], abs=1e-5)
        assert [e['dev_bits_per_byte'] for e in two] == pytest.approx([e['dev_bits_per_byte'] for e in one], abs=1e-5)
