"Every notebook runs from top to bottom; nbdev leaves out cells flagged slow, cuda or network (tst_flags in settings.ini)."
import ast, json, re, subprocess, sys
from pathlib import Path

import pytest

root = Path(__file__).resolve().parents[1]
notebooks = sorted(p.relative_to(root).as_posix() for p in (root/'nbs').rglob('*.ipynb')
                   if not any(part.startswith(('.', '_')) for part in p.relative_to(root).parts))

@pytest.mark.parametrize('notebook', notebooks)
def test_notebook(notebook):
    run = subprocess.run([sys.executable, '-c', 'import sys; from nbdev.test import nbdev_test; nbdev_test(sys.argv[1])', notebook],
                         cwd=root, capture_output=True, text=True, timeout=900)
    assert run.returncode == 0, f'{notebook} stopped at:\n{run.stderr[-4000:]}'

@pytest.mark.parametrize('notebook', notebooks)
def test_imports_stand_alone(notebook):
    "nbdev runs a notebook's import cells, and few others, when it builds the pages: a visible one may do nothing else"
    for cell in json.loads((root/notebook).read_text(encoding='utf-8'))['cells']:
        code = ''.join(cell['source'])
        if cell['cell_type'] != 'code' or re.search(r'^#\|\s*(export|hide|eval: *false)', code, re.M) or 'nbdev_export()' in code: continue
        code = re.sub(r'^\s*[%!].*', '', code, flags=re.M)
        kinds = [type(node) for node in ast.walk(ast.parse(code))]
        mixed = {ast.Import, ast.ImportFrom} & set(kinds) and {ast.Expr, ast.Assign} & set(kinds)
        assert not mixed, f'{notebook}, cell {cell.get("id")}: give the imports a cell of their own:\n{code}'
