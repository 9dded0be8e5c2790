"Generators: what they may see, what they say of themselves, and what they refuse."
import json
import pytest, torch
from regurgitation.core import InputError, make_pool
from regurgitation.corpora import load_corpus
from regurgitation.generation import Copy, TransformerGenerator, load_generator
from regurgitation.training import Recipe, train
from regurgitation.transformer import Shape

@pytest.fixture(scope='module')
def teacher(tmp_path_factory):
    torch.set_num_threads(1)
    folder, pool = tmp_path_factory.mktemp('teacher'), load_corpus('bible', split='teacher', n=64)
    train(pool, pool.select(range(16)), folder, Shape(vocab_size=400, d_model=32), Recipe(epochs=4, precision='float32'))
    return folder/'best'

def test_no_generator_sees_a_human_target(teacher):
    "The same targets come out whatever the human ones say"
    pool = load_corpus('bible', split='train', n=12)
    other = make_pool([{**r, 'target': 'nothing of this', 'references': ['nor of this']} for r in pool.to_list()])
    for name, options in ((f'transformer:{teacher}', {}), (f'transformer:{teacher}', {'method': 'sample'}), ('copy', {})):
        generator = load_generator(name, **options)
        assert generator.generate(pool)['target'][:] == generator.generate(other)['target'][:]
        assert not any(generator.generate(pool)['references'][:])

def test_a_sentence_is_sampled_alike_in_any_company(teacher):
    pool = load_corpus('bible', split='train', n=12)
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

WRONG = [(lambda t: load_generator('copi'), 'copy'), (lambda t: load_generator('transformer:nowhere'), 'nowhere'),
         (lambda t: TransformerGenerator(t, method='best'), 'greedy, sample or beam'), (lambda t: TransformerGenerator(t, method='sample', temperature=0), 'above 0')]

@pytest.mark.parametrize('call,message', WRONG)
def test_wrong_calls(teacher, call, message):
    with pytest.raises(InputError, match=message): call(teacher)
