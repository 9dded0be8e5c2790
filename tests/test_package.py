"The package as a user gets it: a wheel with its data files, and no development tool behind its imports."
import subprocess, sys, zipfile
from pathlib import Path

root = Path(__file__).resolve().parents[1]

def test_package_imports_no_development_tool():
    modules = sorted(p.stem for p in (root/'regurgitation').glob('*.py') if not p.stem.startswith('_'))
    code = f"import sys, importlib\nfor m in {modules}: importlib.import_module('regurgitation.' + m)\n" \
           "print(*sorted({m.split('.')[0] for m in sys.modules} & {'nbdev', 'fastcore', 'execnb', 'IPython', 'pytest'}))"
    run = subprocess.run([sys.executable, '-c', code], cwd=root, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-3000:]
    assert run.stdout.strip() == '', f'importing the package imports {run.stdout.strip()}'

def test_wheel_holds_every_file_of_the_package(tmp_path):
    "Built from a copy, so that no build folder is left behind"
    import shutil
    copy = shutil.copytree(root, tmp_path/'copy', ignore=lambda d, names: {n for n in names if Path(d) == root and n not in
        ('regurgitation', 'setup.py', 'settings.ini', 'pyproject.toml', 'README.md', 'MANIFEST.in')} | {'__pycache__'})
    code = 'import sys; from setuptools.build_meta import build_wheel; print(build_wheel(sys.argv[1]))'
    run = subprocess.run([sys.executable, '-c', code, str(tmp_path)], cwd=copy, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-3000:]
    names = set(zipfile.ZipFile(next(tmp_path.glob('*.whl'))).namelist())
    wanted = {p.relative_to(root).as_posix() for p in (root/'regurgitation').rglob('*') if p.suffix in ('.py', '.toml')}
    assert wanted <= names, f'missing from the wheel: {sorted(wanted - names)}'
