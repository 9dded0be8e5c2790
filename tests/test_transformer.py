"Our Transformer against MarianMT with the same weights, its decoders against one another, and what it says to bad input."
import math, sys
from pathlib import Path
import numpy as np, pytest, torch
import torch.nn.functional as F
from regurgitation.core import InputError
from regurgitation.transformer import (BOS, EOS, PAD, Shape, Transformer, Writer, beam, decode, encode, load_translator, pad,
    save_translator, smoothed_cross_entropy, train_tokeniser, translate, uniforms, write)

sys.path.insert(0, str(Path(__file__).resolve().parents[1]/'benchmarks'))

VERSES = ['And God seide, Liyt be maad; and liyt was maad.', 'And God siy the liyt, that it was good,', 'and he departide the liyt fro derknessis;',
          'and he clepide the liyt, dai, and the derknessis, nyyt.', 'And the euentid and morwetid was maad, o daie.', 'Jhesus wepte.']

def ragged(lengths, vocab=300, seed=0):
    rng = np.random.default_rng(seed)
    return pad([np.append(rng.integers(3, vocab, n - 1), EOS) for n in lengths])

def drifted(model, seed=0):
    "The model with every weight disturbed, so that no bias or norm is at its initial 0 or 1"
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for w in model.parameters(): w.add_(torch.randn(w.shape, generator=g)*0.1)
    return model.eval()

@pytest.fixture(scope='module', autouse=True)
def one_thread():
    "Small tensors: threads only get in one another's way"
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

@pytest.fixture(scope='module')
def pair():
    "Ours and Marian, with the same weights"
    import marian
    torch.manual_seed(0)
    ours = drifted(Transformer(Shape(300, 64, 2, 4, 96, 0.0, 'post', 'learned', 0.0)))
    return ours, marian.to_marian(ours)

def test_logits_and_loss_are_marians(pair):
    ours, marian = pair
    source, target = ragged((5, 9, 3, 9)), ragged((7, 4, 11, 2), seed=1)
    shifted = F.pad(target[:, :-1], (1, 0), value=BOS)
    with torch.no_grad():
        theirs = marian(input_ids=source, attention_mask=(source != PAD).long(), labels=target.masked_fill(target == PAD, -100), use_cache=False)
        logits = F.linear(ours.decode(shifted, *ours.encode(source)), ours.embedding.weight)
        loss, nll = ours(source, target)
    assert torch.allclose(logits[target != PAD], theirs.logits[target != PAD], atol=1e-4)
    assert math.isclose(loss/(target != PAD).sum(), theirs.loss, rel_tol=1e-5) and math.isclose(loss, nll, rel_tol=1e-6)

def test_weights_survive_the_way_to_marian_and_back(pair):
    from marian import from_marian
    ours, marian = pair
    assert all(torch.equal(v, ours.state_dict()[k]) for k, v in from_marian(marian).state_dict().items())

def test_gradients_are_marians(pair):
    ours, marian = pair
    source, target = ragged((5, 9, 3)), ragged((7, 4, 11), seed=1)
    g = torch.autograd.grad(ours(source, target)[0], ours.decoder[1].cross.qkv.weight)[0]
    loss = marian(input_ids=source, attention_mask=(source != PAD).long(), labels=target.masked_fill(target == PAD, -100)).loss*(target != PAD).sum()
    attention = marian.model.decoder.layers[1].encoder_attn
    theirs = torch.autograd.grad(loss, [getattr(attention, f'{p}_proj').weight for p in 'qkv'])
    assert torch.allclose(g, torch.cat(theirs), rtol=1e-3, atol=1e-4)

def test_greedy_output_is_marians(pair):
    ours, marian = pair
    source = ragged((5, 9, 3, 9, 12, 2))
    theirs = marian.generate(input_ids=source, attention_mask=(source != PAD).long(), max_new_tokens=20, num_beams=1, do_sample=False)
    assert [[w for w in row[1:].tolist() if w not in (PAD, EOS)] for row in theirs] == [[w for w in row if w != PAD] for row in write(ours, source, [20]*6)]

@pytest.fixture(scope='module', params=[('pre', 'rotary'), ('post', 'learned')], ids=['pre-rotary', 'post-learned'])
def model(request):
    torch.manual_seed(1)
    return drifted(Transformer(Shape(300, 64, 2, 2, 128, 0.0, *request.param)))

def test_cached_decoder_is_the_uncached_one(model):
    source, target = ragged((5, 9, 3)), ragged((40, 7, 21), seed=1)  # 40: the room for the cache grows twice
    shifted = F.pad(target[:, :-1], (1, 0), value=BOS)
    with torch.inference_mode():
        writer = Writer(model, source)
        steps = torch.stack([writer.step(shifted[:, t]) for t in range(40)], 1)
        whole = F.linear(model.decode(shifted, *model.encode(source)), model.embedding.weight)
    assert torch.allclose(steps, whole, atol=1e-4)

def greedy_by_definition(model, row, longest):
    "No cache, no batch: the whole prefix is computed anew for each word"
    words = [BOS]
    with torch.inference_mode():
        encoded, mask = model.encode(row[None])
        for _ in range(longest):
            words.append(int(F.linear(model.decode(torch.tensor([words]), encoded, mask)[0, -1], model.embedding.weight).argmax()))
            if words[-1] == EOS: break
    return [w for w in words[1:] if w != EOS]

def test_greedy_is_its_definition_in_any_batch(model):
    lengths, longest = (5, 9, 3, 14, 2), [12, 30, 7, 20, 25]
    source = ragged(lengths)
    expected = [greedy_by_definition(model, row[:n], m) for row, n, m in zip(source, lengths, longest)]
    assert write(model, source, longest) == expected
    assert [write(model, row[None, :n], [m])[0] for row, n, m in zip(source, lengths, longest)] == expected

def test_beam_of_one_is_greedy_on_ragged_batches(model):
    source, longest = ragged((5, 9, 3, 14, 2)), [12, 30, 7, 20, 25]
    assert beam(model, source, longest, k=1) == write(model, source, longest)

def likelihood(model, row, words):
    "Log-probability of a sentence, its end included"
    with torch.inference_mode():
        logits = F.linear(model.decode(torch.tensor([[BOS] + words]), *model.encode(row[None])), model.embedding.weight)[0]
    return logits.log_softmax(-1)[range(len(words) + 1), words + [EOS]].sum().item()

def test_a_wide_beam_finds_the_best_short_sentence():
    "With 6 words and at most 3 of them, a beam as wide as all prefixes is exhaustive search"
    torch.manual_seed(2)
    model = drifted(Transformer(Shape(6, 32, 1, 1, 32, 0.0)))
    row, others = torch.tensor([3, 5, EOS]), [w for w in range(6) if w != EOS]
    sentences = [[]] + [[a] for a in others] + [[a, b] for a in others for b in others]
    best = max(sentences, key=lambda words: likelihood(model, row, words)/(len(words) + 1))
    assert beam(model, row[None], [3], k=36)[0] == best

def test_sampling_belongs_to_the_sentence(model):
    source, longest, keys = ragged((5, 9, 3, 14, 2)), [12, 30, 7, 20, 25], ['a', 'b', 'c', 'd', 'e']
    together = write(model, source, longest, 1.0, uniforms(3, keys, 30))
    back = [4, 2, 0, 3, 1]
    assert [together[i] for i in back] == write(model, source[back], [longest[i] for i in back], 1.0, uniforms(3, [keys[i] for i in back], 30))
    assert together == [write(model, source[i:i + 1], [longest[i]], 1.0, uniforms(3, [keys[i]], 30))[0] for i in range(5)]
    assert together != write(model, source, longest, 1.0, uniforms(4, keys, 30))

def test_sampling_follows_the_distribution(model):
    source = ragged((5,)).expand(4000, -1)
    with torch.inference_mode(): p = Writer(model, source[:1]).step(torch.tensor([BOS]))[0].softmax(-1)
    drawn = [words[0] if words else EOS for words in write(model, source, [1]*4000, 1.0, uniforms(0, range(4000), 1))]
    counted = torch.bincount(torch.tensor(drawn), minlength=300)/4000
    assert (counted - p).abs().max() < 4*(0.25/4000)**0.5

def test_translate_is_the_same_whatever_the_batches(model):
    tokeniser = train_tokeniser(VERSES, 300)
    for options in (dict(), dict(method='sample', keys=list('abcdef')), dict(method='beam', k=3)):
        whole = translate(model, tokeniser, VERSES, **options)
        assert whole == translate(model, tokeniser, VERSES, tokens=40, **options)
    assert translate(model, tokeniser, VERSES) == translate(model, tokeniser, VERSES[::-1])[::-1]

@pytest.mark.parametrize('smoothing', [0.0, 0.1, 0.5])
def test_loss_and_gradient_are_torchs(smoothing):
    torch.manual_seed(0)
    x, weight = (torch.randn(50, 16)*3).requires_grad_(), torch.randn(37, 16, requires_grad=True)
    y = torch.randint(37, (50,))
    loss, nll = smoothed_cross_entropy(x, weight, y, smoothing)
    theirs = F.cross_entropy(x @ weight.T, y, label_smoothing=smoothing, reduction='sum')
    assert torch.allclose(loss, theirs) and torch.allclose(nll, F.cross_entropy(x @ weight.T, y, reduction='sum'))
    for a, b in zip(torch.autograd.grad(3*loss, (x, weight)), torch.autograd.grad(3*theirs, (x, weight))): assert torch.allclose(a, b, rtol=1e-4, atol=1e-4)

def test_text_survives_the_tokeniser():
    tokeniser = train_tokeniser(VERSES, 300)
    texts = ['Þe derke “nyyt” — 光, \t and \U0001f30d', 'e\u0301 is not é', *VERSES]
    assert decode(tokeniser, encode(tokeniser, texts)) == texts
    assert [len(row) for row in encode(tokeniser, VERSES, longest=4)] == [4]*6 and all(row[-1] == EOS for row in encode(tokeniser, VERSES, longest=4))

def test_what_it_says_to_bad_input(model):
    tokeniser = train_tokeniser(VERSES, 300)
    with pytest.raises(InputError, match="method 'beams': expected greedy, sample or beam"): translate(model, tokeniser, VERSES, method='beams')
    with pytest.raises(InputError, match='tokeniser needs texts to learn from, and the pool is empty'): train_tokeniser([])
    with pytest.raises(InputError, match='d_model 66 with 2 heads: each head needs an even number'): Shape(d_model=66)

@pytest.mark.parametrize('file', ['shape.json', 'model.safetensors', 'tokeniser.json'])
def test_a_torn_translator_is_named(model, tmp_path, file):
    save_translator(tmp_path/'best', model, train_tokeniser(VERSES, 300))
    path = tmp_path/'best'/file
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r'best: not a translator, or a torn one \(.*Remove the folder and train again'): load_translator(tmp_path/'best')
    path.unlink()
    with pytest.raises(InputError, match='best: not a translator'): load_translator(tmp_path/'best')
