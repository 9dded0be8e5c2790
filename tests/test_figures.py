"The report: complete, self-contained, the same bytes from the same rows, and safe against text in names."
import html, re, shutil
from pathlib import Path
import pytest
from regurgitation.claims import Results, answer, sentence
from regurgitation.core import InputError
from regurgitation.figures import report, results_table
from regurgitation.signatures import SIGNS
from test_claims import ARMS, make, without

EVIL = 'Does <script>alert("1")</script> & co. lose?'

@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    made = make(tmp_path_factory.mktemp('figures')/'r', ARMS)
    (made/'study.toml').write_text(f'name = "quickstart"\nquestion = {EVIL!r}\ncorpus = "bible"\n')
    return made

def test_report_is_complete_and_self_contained(folder):
    text = report(folder).read_text(encoding='utf-8')
    assert f'<p class="answer">{html.escape(answer(folder))}</p>' in text and html.escape(sentence(folder)) in text.split('<details>')[1] and html.escape(EVIL) in text and '<script' not in text
    assert not re.findall(r'(?:src|href)="(?!#|data:)[^"]*"|@import|url\((?!#)', text)
    assert text.count('<svg') == 2 == text.count('role="img"') and 'currentColor' in text
    assert f'Looked for: {SIGNS}.' in text
    assert 'regurgitation run quickstart' in text and 'prefers-color-scheme: dark' in text and 'width=device-width' in text
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids)) and set(re.findall(r'(?:url\(|href=")#([^")]+)', text)) <= set(ids)

def test_same_rows_same_bytes(folder, tmp_path):
    report(folder)
    again = tmp_path/'again'
    shutil.copytree(folder, again, ignore=shutil.ignore_patterns('figures', 'report.html'))
    report(again)
    names = ['report.html', *(f'figures/{f}.{s}' for f in ('learning_curves', 'gaps') for s in ('png', 'svg'))]
    for name in names: assert (folder/name).read_bytes() == (again/name).read_bytes(), name

def test_table_holds_baselines_first_and_the_signature(folder):
    t = results_table(folder)
    assert t['arm'][0] == 'copy' and list(dict.fromkeys(t['arm']))[1:] == list(ARMS) and 'BLEU x' in t.attrs['signature']
    assert (t[t['pairs'] > 0].seeds == 3).all() and (t['±'] > 0).all()

def test_report_of_one_seed_says_so(tmp_path):
    text = report(make(tmp_path/'r', ARMS, seeds=(0,), sizes=(1000,))).read_text(encoding='utf-8')
    assert 'holds for one seed only' in text and 'a single seed, so no band' in text

def test_unfinished_study_has_no_report(tmp_path):
    made = make(tmp_path/'r', ARMS, change=without(arm='half', size=2000, seed=2))
    with pytest.raises(InputError, match='goes on where it stopped'): report(made)
    assert not (made/'report.html').exists()

def test_a_study_without_human_targets_is_compared_with_its_first_claim(tmp_path):
    shutil.copytree(Path(__file__).parents[1]/'results'/'suites', tmp_path/'suites')
    page = report(tmp_path/'suites').read_text()
    assert 'gpt-4 minus each arm' in page and 'real minus' not in page and Results(tmp_path/'suites').anchor == 'gpt-4'

def test_answers_have_scores_and_intervals_too():
    results = Results(Path(__file__).resolve().parents[1]/'results'/'finetuning_squad')
    table, untuned = results_table(results).set_index('arm'), [r for r in results.rows if r['seed'] is None]
    assert table['F1'].notna().all() and (table['±'] >= 0).all() and len(untuned) == 3
    for row in untuned: assert table.loc[row['arm'], 'F1'] == pytest.approx(row['metrics']['f1']['score'], abs=1e-3)
