"The fast loop against transformers' own, on small models of several architectures with random weights; and SmolLM2 for real."
import pytest, torch
from transformers import (BartConfig, BartForConditionalGeneration, Gemma3ForCausalLM, Gemma3TextConfig, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM,
                          PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM)
from regurgitation.causal import CausalLM, Slots, common_prefix, draw, likeliest
from regurgitation.core import InputError, raises
from regurgitation.models import MODELS, get_model, models
from regurgitation.transformer import train_tokeniser

SENTENCES = ['Ich habe keine Zeit.', 'Das Wasser ist kalt, und der Weg ist weit.', 'Die Regierung hat gestern neue Maßnahmen angekündigt.', 'Zeit.',
             'Der Zug nach Berlin hatte zwei Stunden Verspätung.', 'Meine Großmutter hat mir dieses Buch geschenkt.', 'Der Weg ist weit.']
PROMPTS = [{'id': str(i), 'text': 'Der Weg ist das Ziel. ' + s} for i, s in enumerate(SENTENCES)]
SMALL = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4, eos_token_id=2, bos_token_id=1, pad_token_id=0)
ARCHITECTURES = {
    'llama': (LlamaForCausalLM, lambda v: LlamaConfig(vocab_size=v, num_key_value_heads=2, **SMALL)),
    'qwen2': (Qwen2ForCausalLM, lambda v: Qwen2Config(vocab_size=v, num_key_value_heads=1, tie_word_embeddings=True, **SMALL)),
    'gemma3': (Gemma3ForCausalLM, lambda v: Gemma3TextConfig(vocab_size=v, num_key_value_heads=1, head_dim=8, sliding_window=9,
                                                             layer_types=['sliding_attention', 'full_attention', 'sliding_attention'], **SMALL)),
    'gpt2': (GPT2LMHeadModel, lambda v: GPT2Config(vocab_size=v, n_embd=32, n_layer=2, n_head=4, eos_token_id=2, bos_token_id=1, pad_token_id=0)),
    'bart': (BartForConditionalGeneration, lambda v: BartConfig(vocab_size=v, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4,
                                                                encoder_ffn_dim=48, decoder_ffn_dim=48, pad_token_id=0, eos_token_id=2, bos_token_id=1, decoder_start_token_id=2))}
FAST = ('llama', 'qwen2', 'gemma3')

@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    tokeniser, made = train_tokeniser(SENTENCES*3, 200), {}
    for name, (kind, config) in ARCHITECTURES.items():
        torch.manual_seed(7)
        model, made[name] = kind(config(tokeniser.get_vocab_size())), tmp_path_factory.mktemp(name)
        for p in model.parameters(): torch.nn.init.normal_(p, std=0.3) # far from uniform, so that the likeliest token is no tie
        model.save_pretrained(made[name])
        PreTrainedTokenizerFast(tokenizer_object=tokeniser, eos_token='</s>', pad_token='<pad>').save_pretrained(made[name])
    return made

def texts(answers): return {a['id']: (a['text'], a['finish'], a['tokens']) for a in answers}

@pytest.mark.parametrize('name', ARCHITECTURES)
def test_each_architecture_is_known_for_what_it_is(folders, name):
    lm = CausalLM(folders[name])
    assert lm.fast == (name in FAST)
    assert set(texts(lm.answers(PROMPTS, max_tokens=5))) == {p['id'] for p in PROMPTS}

@pytest.mark.parametrize('name', FAST)
def test_it_is_known_in_bfloat16_too_where_it_rounds_a_lot(folders, name):
    lm = CausalLM(folders[name], precision='bfloat16')
    assert lm.fast and set(texts(lm.answers(PROMPTS, max_tokens=5))) == {p['id'] for p in PROMPTS}

def test_another_attention_is_found_out(folders, monkeypatch): # keys of the prefix that a row must not see the same way
    import regurgitation.causal as causal
    lm, look = CausalLM(folders['llama']), causal.Slots.mask
    assert causal.knows_slots(lm.model)
    monkeypatch.setattr(causal.Slots, 'mask', lambda self, window=None: look(self, window).roll(1, -1))
    assert not causal.knows_slots(lm.model)

@pytest.mark.parametrize('slots', (1, 3, 64))
@pytest.mark.parametrize('name', FAST)
def test_the_same_words_as_generate(folders, name, slots):
    lm = CausalLM(folders[name], slots=slots)
    ours = texts(lm.answers(PROMPTS, max_tokens=24))
    lm.fast = False
    assert texts(lm.answers(PROMPTS, max_tokens=24)) == ours
    assert texts(lm.answers(PROMPTS, max_tokens=24, stop=('e', 'ist'))) == texts(CausalLM(folders[name], slots=slots).answers(PROMPTS, max_tokens=24, stop=('e', 'ist')))

@pytest.mark.parametrize('name', FAST)
def test_scores_are_those_of_one_pass_over_the_text(folders, name):
    lm = CausalLM(folders[name], slots=2)
    for method in ('greedy', 'sample'):
        for a in lm.answers(PROMPTS, method=method, temperature=0.6, max_tokens=15, scores=True):
            ids = lm.encode(PROMPTS[int(a['id'])]) + a['token_ids']
            log_p = lm.model(torch.tensor([ids])).logits[0, -1 - len(a['token_ids']):-1].log_softmax(-1).detach()
            assert len(a['token_ids']) == len(a['logprobs']) == len(a['entropies']) == a['tokens']
            assert torch.allclose(log_p.gather(1, torch.tensor(a['token_ids'])[:, None])[:, 0], torch.tensor(a['logprobs']), atol=1e-3)
            assert torch.allclose(-(log_p.exp()*log_p).sum(-1), torch.tensor(a['entropies']), atol=1e-3)

@pytest.mark.parametrize('name', FAST)
def test_a_sample_does_not_depend_on_its_neighbours(folders, name):
    how = dict(method='sample', max_tokens=12, top_p=0.9, seed=5)
    many, few = CausalLM(folders[name], slots=7), CausalLM(folders[name], slots=2)
    together = texts(many.answers(PROMPTS, **how))
    assert texts(few.answers(PROMPTS[::-1], **how)) == together
    assert {k: v for p in PROMPTS for k, v in texts(few.answers([p], **how)).items()} == together
    assert texts(many.answers(PROMPTS, **how | {'seed': 6})) != together

def test_nothing_as_wide_as_the_vocabulary_is_kept(folders, monkeypatch):
    lm, seen = CausalLM(folders['llama']), []
    monkeypatch.setattr('regurgitation.causal.likeliest', lambda hidden, table, *a: (seen.append(tuple(hidden.shape)), likeliest(hidden, table, *a))[1])
    monkeypatch.setattr('regurgitation.causal._logits', lambda *_: pytest.fail('logits for the whole vocabulary'))
    list(lm.answers(PROMPTS, max_tokens=9, scores=True))
    assert seen and all(len(shape) == 2 and shape[0] <= len(PROMPTS) for shape in seen) # one position of each row

def test_rows_leave_when_they_have_ended(folders, monkeypatch):
    lm, rows = CausalLM(folders['gemma3'], slots=3), []
    monkeypatch.setattr('regurgitation.causal.likeliest', lambda hidden, table, *a: (rows.append(len(hidden)), likeliest(hidden, table, *a))[1])
    written = sum(a['tokens'] for a in lm.answers(PROMPTS, max_tokens=11))
    assert sum(rows) == written and max(rows) <= 3

def test_prompts_that_are_the_same_or_one_token_long(folders):
    lm = CausalLM(folders['llama'])
    same = texts(lm.answers([{'id': 'a', 'text': 'Zeit.'}, {'id': 'b', 'text': 'Zeit.'}], max_tokens=6))
    assert same['a'] == same['b']
    assert common_prefix([[5], [5]]) == 0 and common_prefix([[5, 6], [5]]) == 0 and common_prefix([[1, 2, 3, 4]]) == 3

def test_memory_bounds_the_slots(folders):
    lm = CausalLM(folders['llama'], memory=1e-9)
    assert texts(lm.answers(PROMPTS, max_tokens=8)) == texts(CausalLM(folders['llama']).answers(PROMPTS, max_tokens=8))

def test_the_nucleus_and_the_whole():
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]]))
    assert [draw(logits, [u]).item() for u in (0.0, 0.49, 0.51, 0.79, 0.81, 0.96, 0.9999)] == [0, 0, 1, 1, 2, 3, 3]
    assert {draw(logits, [u/50], top_p=0.8).item() for u in range(50)} == {0, 1}
    assert {draw(logits, [u/50], top_p=0.01).item() for u in range(50)} == {0}

def test_beams_and_encoder_decoders_go_through_generate(folders):
    for name in ('llama', 'bart'): assert len(texts(CausalLM(folders[name]).answers(PROMPTS, method='beam', k=3, max_tokens=6))) == len(PROMPTS)
    assert 'scores are kept' in raises(InputError, lambda: list(CausalLM(folders['llama']).answers(PROMPTS, method='beam', scores=True)))

def test_what_cannot_be_asked_is_said(folders, tmp_path):
    lm = CausalLM(folders['llama'])
    assert 'expected greedy, sample or beam' in raises(InputError, lambda: list(lm.answers(PROMPTS, method='best')))
    assert 'For temperature 0 take greedy' in raises(InputError, lambda: list(lm.answers(PROMPTS, method='sample', temperature=0)))
    assert 'no chat template' in raises(InputError, lambda: list(lm.answers([{'id': '1', 'messages': [{'role': 'user', 'content': 'Guten Tag.'}]}])))
    assert list(lm.answers([])) == []

def test_a_model_must_be_safetensors_and_known(tmp_path):
    assert "Did you mean 'gemma-3-270m'" in raises(InputError, get_model, 'gema-3-270m')
    assert 'no config.json' in raises(InputError, get_model, tmp_path)
    (tmp_path/'config.json').write_text('{}'); (tmp_path/'pytorch_model.bin').write_bytes(b'pickle')
    assert 'no weights in safetensors' in raises(InputError, get_model, tmp_path)
    assert {m['name'] for m in models()} == set(MODELS)

def test_a_model_of_the_hub_that_cannot_be_reached(monkeypatch, tmp_path):
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
    assert 'cannot be reached' in raises(InputError, get_model, 'nobody/no-such-model')

def test_smollm2_for_real():
    lm = CausalLM('smollm2-135m-instruct')
    assert lm.fast and lm.ends
    asked = [{'id': c, 'messages': [{'role': 'user', 'content': f'What is the capital of {c}? Answer with one word.'}]} for c in ('France', 'Italy', 'Germany')]
    ours = {a['id']: a['text'] for a in lm.answers(asked, max_tokens=12, stop=())}
    assert 'Paris' in ours['France'] and 'Rome' in ours['Italy'] and 'Berlin' in ours['Germany']
    lm.fast = False
    assert {a['id']: a['text'] for a in lm.answers(asked, max_tokens=12, stop=())} == ours
