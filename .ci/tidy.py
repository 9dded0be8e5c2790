"""Before the pages are laid out: nbdev links names in backticks even inside the code of a signature, where a link cannot be. Take it out.

Both site builders run this in the folder of prepared notebooks (project.pre-render in _quarto.yml)."""
import json, re
from pathlib import Path

fence = re.compile(r'```python\n.*?\n```', re.S)
link = re.compile(r'\[`([^`\]]+)`\]\(http[^)\s]*\)')

for path in Path().rglob('*.ipynb'):
    before = path.read_text(encoding='utf-8')
    notebook = json.loads(before)
    for data in (o['data'] for c in notebook['cells'] for o in c.get('outputs', []) if 'text/markdown' in o.get('data', {})):
        data['text/markdown'] = fence.sub(lambda m: link.sub(r'\1', m[0]), ''.join(data['text/markdown']))
    after = json.dumps(notebook, ensure_ascii=False)
    if notebook != json.loads(before): path.write_text(after, encoding='utf-8')
