"""Build the site into _docs (or the folder given) where there is no Quarto: nbdev prepares the pages, smalldocs lays them out.

Both builds read the one _quarto.yml and give a page the same name: 03_metrics.ipynb becomes metrics.html. A broken
link between pages ends the build with an error."""
import argparse, html, os, re, sys
from pathlib import Path

import smalldocs.layout, smalldocs.site
from latex2mathml.converter import convert
from nbdev.serve import proc_nbs
from smalldocs.config import load

root = Path(__file__).resolve().parent.parent
formula = re.compile(r'<span class="math (inline|display)">\\[(\[](.*?)\\[)\]]</span>', re.S)

def mathml(match):
    "The formula as MathML, which browsers draw without a script; Quarto does the same (html-math-method)."
    tex = re.sub(r'{aligned}', '{align*}', html.unescape(match[2]))  # the one environment that the converter lacks
    result = convert(tex, display='block' if match[1] == 'display' else 'inline')
    if '<mi>&</mi>' in result: sys.exit(f'this formula has an environment that latex2mathml does not know: {tex}')
    return result

known = re.compile('html-math-method|output-file')  # two settings that smalldocs lacks and this file supplies

class Site(smalldocs.site.Site):
    def read(self, src):
        "A page under the name that nbdev gave it in `output-file`, as Quarto does"
        page = super().read(src)
        page.out = page.out.with_name(page.front.get('output-file', page.out.name))
        return page

    def find_page(self, target):
        return super().find_page(target) or next((p for p in self.pages.values() if p.out == target), None)

    def resolve(self, href, page, record=True):
        "nbdev links a name in backticks to the published site: stay within the pages at hand instead"
        home = self.project.website['site-url']
        if href.startswith(home): href = '/' + href[len(home):].lstrip('/')
        return super().resolve(href, page, record)

    def render_page(self, page):
        super().render_page(page)
        page.html, page.env['math'] = formula.sub(mathml, page.html), False

class SiteNav(smalldocs.layout.SiteNav):
    def glob(self, pattern):
        "A leading slash keeps a pattern to the top folder, as in Quarto"
        return [p for p in super().glob(pattern) if not (pattern.startswith('/') and p.src.parent.parts)]

smalldocs.layout.SiteNav = SiteNav

def build(out, force=False):
    "Write the site to `out`; returns the broken links"
    os.chdir(root)
    sys.path.insert(0, str(root))
    prepared = proc_nbs(n_workers=2, force=force)
    for stale in [p for p in prepared.rglob('*.ipynb') if not (root/'nbs'/p.relative_to(prepared)).exists()]: stale.unlink()
    site = Site(load(prepared), quiet=True)
    site.out = Path(out).resolve()
    pages = site.build()
    for warning in site.warnings:
        if not known.search(warning): print('warning:', warning, file=sys.stderr)
    print(f'{pages} pages in {out}')
    return site.broken

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('out', nargs='?', default='_docs', help='the folder to write to')
    parser.add_argument('--force', action='store_true', help='prepare every page again')
    args = parser.parse_args()
    out = Path(args.out).resolve()
    if broken := build(out, args.force): sys.exit(f'{len(broken)} broken links')
