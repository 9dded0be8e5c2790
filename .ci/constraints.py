"""Write constraints.txt: the exact version of everything that this environment has installed for the project.

Run it with the Python of the environment in which results are made: python .ci/constraints.py > constraints.txt"""
import re
from configparser import ConfigParser
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

def canonical(name): return re.sub(r'[-_.]+', '-', name).lower()

def closure(wanted):
    "Every distribution that the `wanted` requirements bring with them, by canonical name"
    found, left = {}, [(Requirement(r), '') for r in wanted]
    while left:
        req, extra = left.pop()
        if req.marker and not req.marker.evaluate({'extra': extra}): continue
        try: dist = distribution(req.name)
        except PackageNotFoundError: raise SystemExit(f'{req} is not installed here: pip install -e ".[dev]" first')
        key = canonical(req.name), tuple(sorted(req.extras))
        if key in found: continue
        found[key] = dist
        left += [(Requirement(r), e) for r in dist.requires or [] for e in ('', *req.extras)]
    return {name: dist for (name, _), dist in found.items()}

def pin(name, dist):
    "`name==version`, for the Python versions that this release supports: older ones resolve from the ranges"
    supports = SpecifierSet(dist.metadata['Requires-Python'] or '')
    oldest = next((f'3.{m}' for m in (10, 11, 12, 13) if f'3.{m}.99' in supports), None)
    marker = '' if oldest == '3.10' else f" ; python_version >= '{oldest}'"
    return f"{name}=={dist.version.split('+')[0]}{marker}"  # a local label such as +cpu exists on no index

config = ConfigParser(delimiters=['='])
config.read(Path(__file__).parent.parent/'settings.ini', encoding='utf-8')
cfg = config['DEFAULT']
print('# The environment in which the committed results were made. Written by .ci/constraints.py; settings.ini keeps ranges.')
for name, dist in sorted(closure(cfg['requirements'].split() + cfg['dev_requirements'].split()).items()):
    print(pin(name, dist))
