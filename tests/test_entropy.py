"Entropies of targets: against all logits at once, against what the writer noted, in bounded memory, and blind to the references."
import itertools, json, math
import numpy as np, pytest, torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from regurgitation.causal import CausalLM
from regurgitation.core import InputError, Store, make_pool, raises
from regurgitation.corpora import load_corpus
from regurgitation.entropy import entropy_from_top, entropy_scorer, entropy_scores, nll_scorer, score_stream, surprise_in_pieces
from regurgitation.generation import LanguageModelGenerator, Recorded, TransformerGenerator
from regurgitation.mixture import ordered
from regurgitation.tasks import replace_targets
from regurgitation.transformer import Shape, Transformer, save_translator, train_tokeniser
from writers import TranslatorWriter, pool, shots

SMALL = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4, eos_token_id=2, bos_token_id=1, pad_token_id=0)
ARCHITECTURES = {
    'gemma3': (Gemma3ForCausalLM, lambda v: Gemma3TextConfig(vocab_size=v, num_key_value_heads=1, head_dim=8, sliding_window=9, layer_types=['sliding_attention', 'full_attention', 'sliding_attention'], **SMALL)),
    'llama': (LlamaForCausalLM, lambda v: LlamaConfig(vocab_size=v, num_key_value_heads=2, **SMALL)),
    'gpt2': (GPT2LMHeadModel, lambda v: GPT2Config(vocab_size=v, n_embd=32, n_layer=2, n_head=4, eos_token_id=2, bos_token_id=1, pad_token_id=0))} # does not know slots
CHAT = "{% for m in messages %}<s>{{ m['role'] }}: {{ m['content'] }}</s>{% endfor %}{% if add_generation_prompt %}<s>assistant:\n{% endif %}"
FLAGGED = ('truncated', 'refused', 'language', 'copied')

@pytest.fixture(scope='module')
def verses(): return load_corpus('bible', split='train', n=100, max_words=9)

@pytest.fixture(scope='module')
def folders(tmp_path_factory, verses):
    tokeniser, made = train_tokeniser(verses['source'][:] + verses['target'][:], 300), {}
    for name, (kind, config) in ARCHITECTURES.items():
        torch.manual_seed(7)
        model, made[name] = kind(config(tokeniser.get_vocab_size())), tmp_path_factory.mktemp(name)
        for p in model.parameters(): torch.nn.init.normal_(p, std=0.3)
        model.save_pretrained(made[name])
        PreTrainedTokenizerFast(tokenizer_object=tokeniser, eos_token='</s>', pad_token='<pad>', chat_template=CHAT).save_pretrained(made[name])
    return made

@pytest.fixture(scope='module')
def translator(tmp_path_factory, verses):
    torch.manual_seed(3)
    tokeniser, folder = train_tokeniser(verses['source'][:] + verses['target'][:], 300), tmp_path_factory.mktemp('translator')
    save_translator(folder, Transformer(Shape(vocab_size=tokeniser.get_vocab_size(), d_model=32)), tokeniser)
    return TransformerGenerator(folder)

@pytest.fixture
def asked(folders, tmp_path):
    "A small language model with a prompt"
    def make(name='gemma3', **options):
        how = dict(shots=shots(), languages=('Middle English', 'English'), keep=FLAGGED, store=Store(tmp_path), max_tokens=20, scores=True)
        return LanguageModelGenerator(CausalLM(folders[name]), **how | options)
    return make

def of_all_logits(lm, prompt, ids):
    log_p = lm.model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1:-1].detach().double().log_softmax(-1)
    return -(log_p.exp()*log_p).sum(-1).mean().item(), -log_p[range(len(ids)), ids].mean().item()

# The numbers

@pytest.mark.parametrize('style', ('completion', 'chat'))
@pytest.mark.parametrize('name', ARCHITECTURES)
def test_a_hundred_pairs_are_as_by_all_logits(asked, verses, name, style):
    generator = asked(name, style=style)
    lm, found = generator.writer, entropy_scores(verses, proxy=generator)
    assert lm.fast == (name != 'gpt2') and len(found) == 100 and set(found.model) == {lm.name} and found.id.tolist() == verses['id'][:]
    ends = [i for i in range(len(lm.tokeniser)) if i == 2 or style == 'completion' and '\n' in lm.tokeniser.decode([i])]
    for asked_for, target, row in zip(generator.prompts(verses), verses['target'][:], found.itertuples()):
        prompt, text = lm.encode(asked_for), asked_for['text'] + ' ' if style == 'completion' else lm.tokeniser.decode(lm.encode(asked_for))
        ids = lm.tokeniser(text + target, add_special_tokens=False)['input_ids'][len(prompt):]
        of_ends = lm.model(torch.tensor([prompt + ids])).logits[0, -1, ends]
        assert np.allclose(of_all_logits(lm, prompt, ids + [ends[int(of_ends.argmax())]]), (row.entropy, row.nll), atol=1e-5)
        assert row.tokens == len(ids) + 1 and math.isclose(row.logprob, -row.nll*row.tokens) and math.isclose(row.probability**row.tokens, math.exp(row.logprob), rel_tol=1e-9)

def test_a_hundred_pairs_of_our_transformer(translator, verses):
    from regurgitation.transformer import encode
    model, found = translator.model, entropy_scores(verses, proxy=translator)
    for pair, row in zip(verses, found.itertuples()):
        x, y = (torch.from_numpy(ids)[None] for ids in encode(translator.tokeniser, [pair['source'], pair['target']]))
        states = model.decode(torch.cat([torch.ones_like(y[:, :1]), y[:, :-1]], 1), *model.encode(x))[0].detach()
        log_p = (states.double() @ model.embedding.weight.detach().double().T).log_softmax(-1)
        assert np.allclose((-(log_p.exp()*log_p).sum(-1).mean(), -log_p[range(y.shape[1]), y[0]].mean()), (row.entropy, row.nll), atol=1e-5)
    assert math.isclose(sum(found.nll*found.tokens), float(sum(model(*(torch.from_numpy(i)[None] for i in encode(translator.tokeniser, [p['source'], p['target']])))[1] for p in verses)), rel_tol=1e-5)

@pytest.mark.parametrize('method', ('greedy', 'sample'))
def test_as_the_writer_noted_it(asked, verses, method):
    generator = asked(method=method)
    made = generator.generate(verses.select(range(40)))
    noted, told = entropy_scores(made), generator.known(made)
    exact = made.add_column('token_ids', [told[id]['token_ids'] for id in made['id'][:]])
    read = entropy_scores(exact, generator)
    assert {json.loads(p)['finish'] for p in made['provenance'][:]} >= {'length'} and (read.tokens == noted.tokens).all()
    assert np.allclose(read[['entropy', 'nll']], noted[['entropy', 'nll']], atol=1e-4)

def test_a_target_that_was_cut_off_has_no_end(asked, verses):
    generator = asked()
    told = lambda finish: [json.dumps({'finish': finish})]*5
    whole, cut = (entropy_scores(replace_targets(verses.select(range(5)), verses['target'][:5], generator.name, told(finish)), proxy=generator) for finish in ('stop', 'length'))
    assert (whole.tokens == cut.tokens + 1).all() and (whole.logprob < cut.logprob).all()

def test_a_bias_and_a_cap():
    torch.manual_seed(0)
    hidden, weight, bias, ids = torch.randn(30, 16), torch.randn(9000, 16), torch.randn(9000), torch.randint(9000, (30,))
    log_p = (3*torch.tanh((hidden @ weight.T + bias)/3)).log_softmax(-1)
    found = surprise_in_pieces(hidden, ids, weight, bias, 3.0, rows=7)
    assert torch.allclose(found[0], log_p[range(30), ids], atol=1e-4) and torch.allclose(found[1], -(log_p.exp()*log_p).sum(-1), atol=1e-4)

def test_the_batch_does_not_matter(asked, translator, verses, monkeypatch):
    for model in (asked(), translator):
        whole = entropy_scores(verses, proxy=model)
        some = entropy_scores(verses.select([70, 3, 41]), proxy=model)
        assert np.allclose(some[['entropy', 'nll']], whole.iloc[[70, 3, 41]][['entropy', 'nll']], atol=1e-5)

def test_back_translation_reads_the_source(translator, verses):
    forth, back = entropy_scores(verses, proxy=translator), entropy_scores(verses, proxy=translator, task='back-translation')
    turned = make_pool([{**r, 'source': r['target'], 'target': r['source']} for r in verses.to_list()])
    assert not np.allclose(forth.nll, back.nll) and np.allclose(back.nll, entropy_scores(turned, proxy=translator).nll)

# What a scorer sees, and the order that it gives

def test_no_score_sees_a_reference(asked, translator, verses):
    generator = asked()
    made = generator.generate(verses.select(range(12)))
    kinds = [{}, {'generator': generator}, {'proxy': translator}]
    erased = make_pool([{**r, 'references': []} for r in made.to_list()])
    permuted = make_pool([{**r, 'references': [t]} for r, t in zip(made.to_list(), verses['target'][40:])])
    for how in kinds:
        for scorer in (entropy_scorer, nll_scorer): assert np.array_equal(scorer(erased, **how), scorer(permuted, **how))
        assert entropy_scores(erased, **how).equals(entropy_scores(permuted, **how))

def test_the_sure_comes_first(translator, verses):
    found = entropy_scores(verses, proxy=translator)
    for scorer, column in ((entropy_scorer, 'entropy'), (nll_scorer, 'nll')):
        assert ordered(verses, scorer(verses, proxy=translator))['id'][0] == found.id[found[column].idxmin()]

# Memory

class Largest(TorchDispatchMode):
    "The number of elements of the largest tensor that any operation makes"
    most = 0
    def __torch_dispatch__(self, f, types, args=(), kwargs=None):
        out = f(*args, **kwargs or {})
        for t in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(t, torch.Tensor): self.most = max(self.most, t.numel())
        return out

def test_no_tensor_of_texts_times_vocabulary():
    most = {}
    for tokens, vocabulary in itertools.product((600, 2400), (10_000, 40_000)):
        hidden, weight, ids = torch.randn(tokens, 8), torch.randn(vocabulary, 8), torch.randint(vocabulary, (tokens,))
        with Largest() as seen: surprise_in_pieces(hidden, ids, weight)
        most[tokens, vocabulary] = seen.most
    assert set(most.values()) == {512*4096}

def test_nor_in_a_model(translator, verses, tmp_path):
    wide = 20_000
    model = LlamaForCausalLM(LlamaConfig(vocab_size=wide, num_key_value_heads=2, **SMALL))
    model.save_pretrained(tmp_path/'lm')
    PreTrainedTokenizerFast(tokenizer_object=translator.tokeniser, eos_token='</s>', pad_token='<pad>').save_pretrained(tmp_path/'lm')
    save_translator(tmp_path/'t', Transformer(Shape(vocab_size=wide, d_model=32)), translator.tokeniser)
    for generator in (LanguageModelGenerator(CausalLM(tmp_path/'lm'), shots()), TransformerGenerator(tmp_path/'t')):
        with Largest() as seen: found = entropy_scores(verses.select(range(60)), proxy=generator)
        assert seen.most < found.tokens.sum()*wide/5

def test_a_million_rows_are_never_held(translator):
    told, taken = json.dumps({'entropy': 1.0, 'nll': 0.5, 'tokens': 4}), itertools.count()
    def rows(n):
        for i in range(n):
            next(taken)
            yield {'id': str(i), 'source': 'Ich habe Zeit.', 'target': 'I have time.', 'origin': 'transformer', 'provenance': told}
    for done, scored in enumerate(itertools.islice(score_stream(rows(1_000_000)), 3000), 1):
        if done % 500 == 1: assert next(taken) - done <= 1000 + done//500 + 1 # counting looks counts, too
    assert scored['id'] == '2999' and scored['model'] == 'transformer'
    assert [r['id'] for r in score_stream(rows(25), proxy=translator, chunk=10)] == [str(i) for i in range(25)]

# The likeliest tokens only

def test_bounds_hold_for_any_distribution():
    rng = np.random.default_rng(0)
    for vocabulary, spread in itertools.product((30, 500, 5000), (0.3, 1, 3)):
        p = np.sort(np.exp(spread*rng.standard_normal((40, vocabulary))), -1)[:, ::-1]
        p /= p.sum(-1, keepdims=True)
        true = -(p*np.log(p)).sum(-1)
        for k in (1, 5, 20):
            low, estimate, high = entropy_from_top(np.log(p[:, :k]), vocabulary)
            assert (low <= true + 1e-9).all() and (true <= high + 1e-9).all() and (low <= estimate).all() and (estimate <= high).all()

@pytest.mark.parametrize('logprobs', ([], [0.0, -1.0], [math.nan], [-math.inf], [-1.0]*40))
def test_what_is_no_top(logprobs): assert 'expected the log-probabilities' in raises(InputError, entropy_from_top, logprobs, 30)

# Bad input

def test_bad_pools_and_models(asked, translator, verses, folders, tmp_path):
    row = {'id': 'a', 'source': 'Zeit', 'target': 'time', 'origin': translator.name}
    said = lambda rows, generator=None, **options: raises(InputError, lambda: list(score_stream(rows, generator, **options)))
    assert 'no pair in it' in said([]) and 'no pair in it' in said([], translator)
    assert "row 2: target is nan" in said([row, {**row, 'id': 'b', 'target': math.nan}], translator)
    assert "from row 3 on, row 1: target is ''" in said([row, {**row, 'id': 'b'}, {**row, 'id': 'c', 'target': ''}], translator, chunk=2)
    assert "no field 'target'" in said([{'id': 'a', 'source': 'Zeit'}], proxy=translator)
    assert 'no scores in its provenance' in said([row]) and 'no scores' in said([{**row, 'provenance': 'by hand'}]) and 'no scores' in said([{**row, 'provenance': '[1]'}])
    assert 'expected finite numbers' in said([{**row, 'provenance': json.dumps({'nll': math.nan, 'tokens': 3})}])
    assert 'both generator and proxy' in said([row], translator, proxy=translator)
    assert 'Name a causal language model' in said([row], proxy=Recorded('GPT-4')) and 'Name a causal language model' in said([row], proxy=LanguageModelGenerator(TranslatorWriter(translator_folder(translator, tmp_path)), shots()))
    assert "written by 'human'" in said([{**row, 'origin': 'human'}], translator)
    assert 'with these weights' in said([{**row, 'provenance': json.dumps({'sha256': 'ab'})}], translator)
    assert 'another prompt' in raises(InputError, entropy_scores, asked().generate(verses.select(range(3))), asked(shots=None))
    nll_only = make_pool([{**row, 'provenance': json.dumps({'nll': 0.5, 'tokens': 3})}])
    assert 'nll_scorer' in raises(InputError, entropy_scorer, nll_only) and nll_scorer(nll_only).tolist() == [-0.5]

def translator_folder(translator, folder):
    save_translator(folder/'t', translator.model, translator.tokeniser)
    return folder/'t'

def test_weights_that_are_no_numbers(asked, translator, verses):
    generator = asked()
    with torch.no_grad(): generator.writer.model.get_input_embeddings().weight[5:] = math.nan
    assert 'expected finite numbers' in raises(InputError, entropy_scores, verses.select(range(2)), proxy=generator)

def test_a_model_whose_logits_are_more_than_a_layer(asked, verses, monkeypatch):
    generator = asked('gpt2')
    head = generator.writer.model.lm_head.forward
    monkeypatch.setattr(generator.writer.model.lm_head, 'forward', head)
    plain = generator.writer.model.forward
    def scaled(*args, **kwargs):
        out = plain(*args, **kwargs)
        out.logits = out.logits/4
        return out
    monkeypatch.setattr(generator.writer.model, 'forward', scaled)
    assert 'more than one linear layer' in raises(InputError, entropy_scores, verses.select(range(2)), proxy=generator)
