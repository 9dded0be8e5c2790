"What setuptools needs to know, read from settings.ini as in every nbdev project."
from configparser import ConfigParser
from pathlib import Path
from setuptools import find_packages, setup

here = Path(__file__).parent
config = ConfigParser(delimiters=['='])
config.read(here/'settings.ini', encoding='utf-8')
cfg = config['DEFAULT']

# split on blanks, not as a shell would: a marker such as python_version<'3.11' must keep its quotes
requirements, dev_requirements = (cfg.get(key, '').split() for key in ('requirements', 'dev_requirements'))
lib = cfg['lib_path']
statuses = ['0 - Unknown', '1 - Planning', '2 - Pre-Alpha', '3 - Alpha', '4 - Beta', '5 - Production/Stable']
pythons = ['3.10', '3.11', '3.12', '3.13']

setup(
    name=cfg['lib_name'], version=cfg['version'], description=cfg['description'], keywords=cfg['keywords'],
    author=cfg['author'], author_email=cfg['author_email'], license='Apache-2.0', url=cfg['git_url'],
    project_urls={'Documentation': cfg['doc_host'] + cfg['doc_baseurl'], 'Issues': cfg['git_url'] + '/issues'},
    long_description=(here/'README.md').read_text(encoding='utf-8'), long_description_content_type='text/markdown',
    classifiers=[f"Development Status :: {statuses[int(cfg['status'])]}", f"Intended Audience :: {cfg['audience']}",
                 f"Natural Language :: {cfg['language']}", *(f'Programming Language :: Python :: {v}' for v in pythons)],
    packages=find_packages(include=[lib, f'{lib}.*']), package_data={lib: ['presets/*.toml', '*.toml']},
    python_requires=f">={cfg['min_python']}", install_requires=requirements, extras_require={'dev': dev_requirements},
    entry_points={'console_scripts': cfg.get('console_scripts', '').split(), 'nbdev': [f'{lib}={lib}._modidx:d']},
    zip_safe=False)
