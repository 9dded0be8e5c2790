"Whatever trains or fits is compared with the test and development sets when a study's data is made; a leak stops it with the ids."
import pytest
from regurgitation import arms
from regurgitation.arms import Data
from regurgitation.core import InputError, make_pool
from regurgitation.corpora import load_corpus
from regurgitation.splits import leaks
from regurgitation.studies import Study, load_study
from regurgitation.tasks import TASKS

def study(**changes):
    base = dict(name='own', question='?', arms={'real': {}}, sizes=[20], seeds=[0], corpus='bible', corpus_options={'source': 'wyc', 'target': 'web'}, test_pairs=30, dev_pairs=30)
    return Study(**{**base, **changes})

@pytest.fixture
def other(monkeypatch):
    "A corpus named other, whose splits hold the pairs that a test gives it"
    held = []
    def loading(name, split='train', n=None, **options):
        if name != 'other': return load_corpus(name, split=split, n=n, **options)
        return make_pool([{'id': f'other-{r["id"]}', 'source': r['source'], 'target': r['target']} for r in held[:n]])
    monkeypatch.setattr(arms, 'load_corpus', loading)
    return lambda pool: held.extend(pool.to_list())

@pytest.fixture(scope='module')
def bible(): return {part: load_corpus('bible', split=part, source='wyc', target='web') for part in ('train', 'dev', 'test', 'teacher')}

def test_a_clean_study_passes(): assert Data(study(teachers={'t': {'pairs': 20}}, labelled=10, sources=200)).splits

def test_a_test_set_that_holds_training_pairs(other, bible):
    other(bible['train'].select(range(30)))
    with pytest.raises(InputError, match=r'30 of 30 pairs of the test set are in study own, the train pairs: (\S+) has the source of other-\1'): Data(study(tested_on='other', chosen_on='bible'))

def test_a_development_set_that_holds_training_pairs(other, bible):
    other(bible['train'].select(range(30)))
    with pytest.raises(InputError, match='30 of 30 pairs of the dev set are in study own, the train pairs'): Data(study(chosen_on='other'))

def test_a_development_set_that_holds_test_pairs(other, bible):
    other(bible['test'].select(range(30)))
    with pytest.raises(InputError, match='of the test set are in study own, the dev pairs'): Data(study(chosen_on='other', test_pairs=975))

def test_the_pairs_of_a_trained_teacher(other, bible):
    other(bible['teacher'].select([i for i, text in enumerate(bible['teacher']['source'][:]) if len(text.split()) > 12][:30]))
    with pytest.raises(InputError, match='pairs of the test set are in study own, the teacher pairs'): Data(study(tested_on='other', chosen_on='bible', teachers={'t': {'pairs': 20}}))

def test_an_arm_with_a_corpus_of_its_own(other, bible):
    other(bible['test'].select(range(30)))
    with pytest.raises(InputError, match=r'\d+ of 975 pairs of the test set are in study own, arm elsewhere, seed 0'):
        Data(study(test_pairs=975, arms={'real': {}, 'elsewhere': {'corpus': 'other'}}))

def test_pairs_that_are_set_aside_and_pairs_that_are_added(bible):
    "The added pairs are the labelled ones first, then pairs beyond the sources: all of the train split, which shares nothing with the test"
    data = Data(study(labelled=20, sources=200, arms={'real': {}, 'more': {'plus': 60}}))
    named = {name: pool for name, pool in data._human_pools()}
    assert {'the train pairs', 'the labelled pairs', 'the pairs that are added, seed 0'} <= set(named)
    assert len(named['the pairs that are added, seed 0']) == 40 # the first twenty are the labelled ones, looked at already

def test_another_corpus_may_use_the_same_ids():
    mine, theirs = (make_pool([dict(id='1', source=source, target='x')]) for source in ('eins', 'zwei'))
    once = {name: pool['source'][:] for name, pool in arms._each_once({'a': mine, 'b': theirs, 'c': mine})}
    assert once == {'a': ['eins'], 'b': ['zwei'], 'c': []}

@pytest.mark.parametrize('source, target, leak', [
    ('guten Morgen, liebe Welt', 'x', True), ('Guten Morgen!', 'x', False), # an equal source counts from four words
    ('eins', 'one two three four five six seven eight', True), ('eins', 'one two three four five six seven', False), # eight words in a row
    ('zwei drei vier', 'anything', False)])
def test_what_counts_in_translation(source, target, leak):
    train = make_pool([dict(id='a', source='Guten Morgen, liebe Welt!', target='x y'), dict(id='b', source='Guten Morgen', target='zero one two three four five six seven eight nine'), dict(id='c', source='zwei drei vier', target='z')])
    assert bool(leaks(train, make_pool([dict(id='p', source=source, target=target)]))) == leak

PASSAGE = 'The Rhine rises in the Swiss Alps and ends in the North Sea near Rotterdam.'
@pytest.mark.parametrize('question, answer, leak', [
    ('Where does the Rhine end?', 'the North Sea', True), # the same passage with the same question
    ('Where does it rise?', 'the North Sea', False), # the same passage, and a short answer that is there twice
    ('In which sea does the long river Rhine finally end today?', 'x', False), ('Say, in which mountains does the long river Rhine begin?', 'x', True)])
def test_what_counts_in_question_answering(question, answer, leak):
    train = make_pool([dict(id='a', source=f'{PASSAGE}\n\nWhere does the Rhine end?', target='the North Sea'),
                       dict(id='b', source='Another text.\n\nIn which mountains does the long river Rhine begin?', target='the Alps')])
    test = make_pool([dict(id='p', source=f'{PASSAGE}\n\n{question}', target=answer)])
    assert bool(leaks(train, test, TASKS['qa'].texts)) == leak

@pytest.mark.parametrize('folder', ['finetuning_europarl', 'orders'])
def test_committed_studies_are_clean_and_their_echoes_are_told(folder, shared_data, monkeypatch, request):
    "No human pair is in both; what a generator repeats is counted. All studies: tests/test_golden.py makes the data of each"
    for variable, place in (('REGURGITATION_MIRROR', 'mirror'), ('REGURGITATION_HUB', 'hub')): monkeypatch.setenv(variable, str(shared_data/place))
    data = Data(load_study(request.config.rootpath/'results'/folder/'study.toml'))
    said = {'finetuning_europarl': 'self: its targets repeat eight words in a row of 3 of the 500 test pairs', 'orders': 'smollm2: its targets repeat eight words in a row of 1 of the 500 dev pairs'}
    assert any(sentence.startswith(said[folder]) for sentence in data.echoes())
