"What a model is asked, and what is read from its answer."
import json
import pytest
from hypothesis import given, settings, strategies as st
from regurgitation.core import InputError, make_pool
from regurgitation.metrics import exact_match, f1
from regurgitation.tasks import STYLES, TASKS, load_task, parse, prompts, replace_targets, strip_targets

PAIRS = [dict(id='t/1', source='Ich war mir nicht sicher.', target="I wasn't sure."), dict(id='t/2', source='Sie hat zahlreiche Bücher.', target='She has a lot of books.')]
SHOT = make_pool([dict(id='s/1', source='Tom wird unruhig.', target='Tom is getting restless.')])
QA = dict(id='q/1', source='Sie starb 1910.\nIn Zürich.\n\nWann starb sie?', target='1910', references=['1910', 'im Jahr 1910'])
QA_SHOT = make_pool([dict(id='s/1', source='Er kam 1910.\n\nWann kam er?', target='1910')])

secrets = st.text('qxz', min_size=12, max_size=20)

@settings(max_examples=30, deadline=None)
@given(secrets, st.sampled_from(sorted(TASKS)), st.sampled_from(STYLES), st.booleans())
def test_nothing_of_the_hidden_side_is_in_a_prompt(secret, name, style, shot):
    task = load_task(name)
    row = {**(QA if name == 'qa' else PAIRS[0]), 'references': [secret], 'origin': secret, 'provenance': secret}
    hidden = make_pool([{**row, task.generated: secret}])
    asked = prompts(name, hidden, (QA_SHOT if name == 'qa' else SHOT) if shot else None, style)
    assert secret not in json.dumps(asked) and asked == prompts(name, strip_targets(hidden, task), (QA_SHOT if name == 'qa' else SHOT) if shot else None, style)
    assert secret not in json.dumps(strip_targets(hidden, name).to_list())

def test_completion_prompt():
    asked = prompts('translation', make_pool(PAIRS), SHOT)
    assert asked[1] == {'id': 't/2', 'text': 'German: Tom wird unruhig.\nEnglish: Tom is getting restless.\n\nGerman: Sie hat zahlreiche Bücher.\nEnglish:'}

def test_the_direction_turns_with_the_generated_side():
    asked = prompts('back-translation', make_pool(PAIRS), SHOT)
    assert asked[0]['text'] == "English: Tom is getting restless.\nGerman: Tom wird unruhig.\n\nEnglish: I wasn't sure.\nGerman:"
    french = prompts('translation', make_pool(PAIRS), style='chat', languages=('German', 'French'))
    assert 'from German into French' in french[0]['messages'][0]['content']

def test_chat_prompt_ends_with_the_question():
    turns = prompts('translation', make_pool(PAIRS), SHOT, 'chat')[0]['messages']
    assert [t['role'] for t in turns] == ['user', 'assistant', 'user'] and turns[1]['content'] == 'Tom is getting restless.' and turns[2]['content'].endswith('\nIch war mir nicht sicher.')

def test_question_prompt():
    text = prompts('qa', make_pool([QA]), QA_SHOT)[0]['text']
    assert text == 'Text: Er kam 1910.\nQuestion: Wann kam er?\nAnswer: 1910\n\nText: Sie starb 1910. In Zürich.\nQuestion: Wann starb sie?\nAnswer:'
    with pytest.raises(InputError, match='t/1: no empty line between'): prompts('qa', make_pool(PAIRS))

@pytest.mark.parametrize('shot,side', [(dict(id='t/1', source='x', target='y'), 'id'), (dict(id='s', source='ICH war mir nicht sicher!', target='y'), 'source'),
                                       (dict(id='s', source='x', target="i wasn't sure"), 'target')])
def test_a_shot_of_the_pool_is_refused(shot, side):
    with pytest.raises(InputError, match=f'has the same {side}'): prompts('translation', make_pool(PAIRS), make_pool([shot]))

def test_a_source_of_several_lines_becomes_one():
    assert prompts('translation', make_pool([dict(id='1', source='Das ist\n gut.\n\nSehr.', target='x')]))[0]['text'] == 'German: Das ist gut. Sehr.\nEnglish:'

@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(['English: ', 'English:', 'Answer:', *'a: \n"“”„«»‘’\'`b.']), max_size=14).map(''.join), st.sampled_from(['', 'Er sagte:', '„Ja.“']))
def test_parsing_again_changes_nothing(answer, shown):
    once = parse(answer, shown)
    assert parse(once, shown) == once and '\n' not in once and once == once.strip()

@pytest.mark.parametrize('answer,shown,target', [
    ('\n\nShe has books.\n\nGerman: Tom', '', 'She has books.'), ('Here is the translation:\nShe has books.', '', 'She has books.'), ('He said:\nGo!', 'Er sagte: Geh!', 'He said:'), ('Answer: 02:28', 'Um 02:28.', '02:28'),
    ('He said:', '', 'He said:'), ('"She has books."', '', 'She has books.'), ('"She" has "books"', '', '"She" has "books"'), ("'Tis true, Tom's'", '', "'Tis true, Tom's'"),
    ('English: "She has books."', '', 'She has books.'), ('ENGLISH:She has books.', '', 'She has books.'), ('"Go!"', '„Geh!“', '"Go!"'), ('', '', ''), ('""', '', '""')])
def test_parse(answer, shown, target): assert parse(answer, shown) == target

def test_ids_survive_and_slips_are_refused():
    pool = make_pool(PAIRS)
    back = replace_targets(strip_targets(pool, 'back-translation'), ['Ich wusste es nicht.', ''], 'm', task='back-translation')
    assert back.to_list() == [{'id': 't/1', 'source': 'Ich wusste es nicht.', 'target': "I wasn't sure.", 'references': [], 'origin': 'm', 'provenance': ''}]
    with pytest.raises(InputError, match='slipped'): replace_targets(pool, ['a', 'b'], 'm', ids=['t/2', 't/1'])

def test_squad_metrics_of_the_task():
    assert load_task('qa').metrics == ('exact_match', 'f1') and load_task(load_task('qa')) == load_task('qa')
    assert exact_match(['The year 1910!'], [['year 1910', '1910']]).score == 100 and round(f1(['in 1910'], [['1910']]).score, 1) == 66.7

def test_an_unknown_task_names_the_near_one():
    with pytest.raises(InputError, match="Did you mean 'back-translation'"): load_task('backtranslation')
