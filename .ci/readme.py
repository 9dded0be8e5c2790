"""Write README.md from nbs/index.ipynb, or with --check fail when the two disagree. (nbdev_readme needs Quarto; this does not.)"""
import base64, html, json, re, sys
from pathlib import Path

root = Path(__file__).resolve().parent.parent
home = json.loads((root/'nbs/index.ipynb').read_text(encoding='utf-8'))

def text(source): return ''.join(source).strip()

def in_repository(markdown):
    "Links between pages, turned into links between the files of the repository"
    return re.sub(r'\]\((?![a-z]+:|#|/)([^)]+)\)', lambda m: f'](nbs/{m[1]})' if not m[1].startswith('../') else f']({m[1][3:]})', markdown)

def label(svg): return html.unescape(re.search(r'aria-label="(.*?)"', svg)[1])

def standing_alone(svg):
    "A picture out of a page: its ink follows the reader's light or dark, as it did there"
    ink = '<style>svg { color: #2b2b33 } @media (prefers-color-scheme: dark) { svg { color: #d6dbe1 } } text { fill: currentColor }</style>'
    return re.sub(r'(<svg[^>]*>)', rf'\1{ink}', svg, count=1)

def blocks(cell, files):
    "The Markdown blocks of one cell; pictures are added to `files` by their path"
    if cell['cell_type'] == 'markdown': return [in_repository(text(cell['source']))]
    if cell['cell_type'] != 'code' or re.search(r'^#\|\s*hide\b', text(cell['source'])): return []
    code, found = text(cell['source']), []
    if not re.search(r'^#\|\s*echo:\s*false', code, re.M):
        found.append('```python\n' + re.sub(r'^#\|.*\n', '', code, flags=re.M) + '\n```')
    for n, output in enumerate(cell['outputs']):
        data = output.get('data', {})
        if svg := re.search(r'<svg.*?</svg>', text(data.get('text/html', '')), re.S):
            name = f"README_files/{cell['id']}-{n}.svg"
            files[name] = (standing_alone(svg[0]) + '\n').encode()
            found.append(f'![{label(svg[0])}]({name})')
        elif 'image/png' in data:
            name = f"README_files/{cell['id']}-{n}.png"
            files[name] = base64.b64decode(text(data['image/png']))
            found.append(f'![]({name})')
        elif 'text/markdown' in data: found.append(in_repository(text(data['text/markdown'])))
        elif shown := text(output.get('text', data.get('text/plain', ''))): found.append(f'```\n{shown}\n```')
    return found

files = {}
body = '\n\n'.join(block for cell in home['cells'] for block in blocks(cell, files))
note = '<!-- Made from nbs/index.ipynb by .ci/readme.py: edit the notebook, then run python .ci/readme.py -->\n\n'
files['README.md'] = (note + body + '\n').encode()

different = [name for name, content in files.items() if not (root/name).exists() or (root/name).read_bytes() != content]
if '--check' in sys.argv:
    if different: sys.exit(f"{', '.join(different)}: not what nbs/index.ipynb says; run python .ci/readme.py and commit")
else:
    for name in different:
        (root/name).parent.mkdir(exist_ok=True)
        (root/name).write_bytes(files[name])
    print(f"README.md: {'written' if different else 'already up to date'}")
