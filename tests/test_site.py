"The site in a browser: every page at two widths, every link, the search box, and the dark page."
import functools, os, re, shutil, subprocess, sys, threading
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import pytest

root = Path(__file__).resolve().parents[1]
published = 'https://regurgitation.github.io/regurgitation'
switches = '--no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update --disable-sync'.split()

def unavailable(reason):
    "Skip on a developer's machine; fail under CI, which must have what it needs"
    (pytest.fail if os.environ.get('CI') and sys.version_info >= (3, 11) else pytest.skip)(reason)

@pytest.fixture(scope='module')
def site(tmp_path_factory):
    "The folder of the built site: the one that REGURGITATION_SITE names, or one built now"
    if ready := os.environ.get('REGURGITATION_SITE'): return Path(ready).resolve()
    if sys.version_info < (3, 11): pytest.skip('smalldocs, which lays out the pages, needs Python 3.11')
    folder = tmp_path_factory.mktemp('site')/'docs'
    run = subprocess.run([sys.executable, root/'.ci/site.py', folder], cwd=root, capture_output=True, text=True, timeout=900)
    assert run.returncode == 0, run.stderr[-4000:]
    return folder

@pytest.fixture(scope='module')
def address(site):
    "The site's address on this machine while the tests of this file run"
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args): pass
    with ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{server.server_port}/'
        server.shutdown()

@pytest.fixture(scope='module')
def browser():
    chromium = shutil.which('chromium')
    if not chromium: unavailable("there is no chromium on this machine (Debian's package chromium)")
    from playwright.sync_api import sync_playwright
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=switches)
        yield opened
        opened.close()

def names(site): return sorted(p.relative_to(site).as_posix() for p in site.rglob('*.html') if 'site_libs' not in p.parts)

class Elements(HTMLParser):
    "The links and the ids of one page"
    def __init__(self, text):
        super().__init__()
        self.links, self.ids, self.fetched = set(), set(), set()
        self.feed(text)
    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids |= {attrs[k] for k in ('id', 'name') if attrs.get(k)}
        if tag == 'a' and attrs.get('href'): self.links.add(attrs['href'])
        if tag in ('script', 'img', 'iframe') and attrs.get('src'): self.fetched.add(attrs['src'])
        if tag == 'link' and attrs.get('rel') in ('stylesheet', 'icon'): self.fetched.add(attrs['href'])

def test_pages_are_named_after_their_modules(site):
    "metrics.html and not 03_metrics.html, in this build as in Quarto's"
    notebooks = [p.relative_to(root/'nbs') for p in (root/'nbs').rglob('*.ipynb') if not any(x.startswith(('.', '_')) for x in p.parts)]
    wanted = {(p.parent/re.sub(r'^\d+[a-z]?_', '', p.stem)).as_posix() + '.html' for p in notebooks}
    assert set(names(site)) == wanted

def test_every_internal_link_and_anchor_resolves(site):
    pages = {name: Elements((site/name).read_text(encoding='utf-8')) for name in names(site)}
    broken = []
    for name, page in pages.items():
        for link in page.links:
            if link.startswith(published): link = '/' + link[len(published):].lstrip('/')
            if urlsplit(link).scheme or link.startswith('//'): continue
            path, anchor = urldefrag(urljoin('/' + name, link))
            path = unquote(path).lstrip('/') or 'index.html'
            if path.endswith('/'): path += 'index.html'
            if not (site/path).exists(): broken.append(f'{name}: {link} leads to no file')
            elif anchor and path in pages and unquote(anchor) not in pages[path].ids: broken.append(f'{name}: {link} leads to no such place on {path}')
    assert not broken, '\n'.join(broken)

def test_code_shows_no_markup(site):
    code = re.compile(r'<pre.*?</pre>', re.S)
    raw = {f'{name}: {found}' for name in names(site) for block in code.findall((site/name).read_text(encoding='utf-8'))
           for found in re.findall(r'\]\(https?:[^)]*\)', re.sub(r'<[^>]+>', '', block)) if published in found}
    assert not raw, '\n'.join(sorted(raw))

def test_pages_fetch_nothing_from_elsewhere(site):
    "A page must work with no network: styles, scripts, icons and formulas are all its own"
    foreign = {f'{name}: {src}' for name in names(site) for src in Elements((site/name).read_text(encoding='utf-8')).fetched
               if urlsplit(src).scheme not in ('', 'data') or src.startswith('//')}
    assert not foreign, '\n'.join(sorted(foreign))

@pytest.mark.parametrize('width', [1280, 390])
def test_every_page_opens_and_fits(site, address, browser, width):
    context, troubles = browser.new_context(viewport={'width': width, 'height': 844}), []
    page = context.new_page()
    page.on('console', lambda m: m.type == 'error' and troubles.append(f'{page.url}: {m.text}'))
    page.on('pageerror', lambda e: troubles.append(f'{page.url}: {e}'))
    # a fetch that the next page cuts short is no failure
    page.on('requestfailed', lambda r: r.failure != 'net::ERR_ABORTED' and troubles.append(f'{page.url}: could not fetch {r.url}'))
    page.on('response', lambda r: r.status >= 400 and troubles.append(f'{page.url}: {r.url} gives {r.status}'))
    for name in names(site):
        page.goto(address + name, wait_until='load')
        wide = page.evaluate('Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)')
        if wide > width: troubles.append(f'{name} is {wide} px wide in a window of {width}')
        if not page.evaluate("document.querySelector('h1')?.offsetParent && document.title"): troubles.append(f'{name} shows no title')
    context.close()
    assert not troubles, '\n'.join(troubles)

def brightness(page):
    "Of the page's background, 0 (black) to 255"
    return page.evaluate("getComputedStyle(document.body).backgroundColor.match(/[0-9.]+/g).slice(0, 3).reduce((a, b) => a + +b, 0) / 3")

def test_dark_follows_the_reader_and_the_switch(address, browser):
    for scheme, before, after in (('light', 255, 30), ('dark', 30, 255)):
        context = browser.new_context(color_scheme=scheme)
        page = context.new_page()
        page.goto(address)
        assert abs(brightness(page) - before) < 20, f'{scheme}: the page opens with brightness {brightness(page)}'
        page.click('.quarto-color-scheme-toggle')
        page.wait_for_timeout(150)
        assert abs(brightness(page) - after) < 20, f'{scheme}: after the switch the brightness is {brightness(page)}'
        page.goto(address + 'results/index.html')
        assert abs(brightness(page) - after) < 20, 'the choice is lost on the next page'
        context.close()

def test_search_finds_a_word(address, browser):
    page = browser.new_page(viewport={'width': 1280, 'height': 844})
    page.goto(address)
    page.fill('#quarto-search input', 'fingerprint')
    page.wait_for_selector('.search-result')
    assert any('core.html' in link.get_attribute('href') for link in page.query_selector_all('.search-result'))
    page.click('.search-result')
    assert 'fingerprint' in page.inner_text('main').lower()
    page.close()

def test_phone_reaches_every_page(site, address, browser):
    "At 390 px the sidebar opens by its button and lists the pages"
    page = browser.new_page(viewport={'width': 390, 'height': 844})
    page.goto(address)
    page.click('.quarto-btn-toggle')
    page.wait_for_timeout(300)
    assert page.locator('#quarto-sidebar').bounding_box()['x'] >= 0
    listed = {urljoin(page.url, a.get_attribute('href')) for a in page.query_selector_all('#quarto-sidebar a[href]')}
    assert {address + name for name in names(site)} <= listed
    page.close()

def test_sidebar_lists_each_page_once(site):
    "Modules under Modules, questions under Results"
    bar = (site/'index.html').read_text(encoding='utf-8').split('id="quarto-sidebar"')[1].split('</nav>')[0]
    links = [link for link in re.findall(r'href="([^"#]+)"', bar)]
    assert len(links) == len(set(links)), f'listed twice: {sorted({x for x in links if links.count(x) > 1})}'

def text_of(page): return re.sub(r'\s+', ' ', re.sub(r'<[^>]+>', ' ', page))

def test_home_answers_in_the_first_screen(address, browser):
    "Question, answer, three numbers and the map, without a scroll, on a desk and on a phone, light and dark"
    for width, height in ((1280, 900), (390, 844)):
        for scheme in ('light', 'dark'):
            context = browser.new_context(viewport={'width': width, 'height': height}, color_scheme=scheme)
            page = context.new_page()
            page.goto(address)
            assert 'synthetic' in page.inner_text('h1') and 'model collapse' in page.inner_text('main')
            bottom = page.evaluate("document.querySelector('main svg[role=img]').getBoundingClientRect().bottom")
            assert bottom <= height + 10, f'{width} px: the map ends at {bottom}'
            numbers = page.locator('main table').first.locator('a')
            assert numbers.count() == 3 and all(re.search(r'^[+−]\d+\.\d BLEU$', n) for n in numbers.all_inner_texts())
            context.close()

def test_a_number_on_home_leads_to_its_rows_in_two_clicks(address, browser):
    page = browser.new_page()
    page.goto(address)
    page.locator('main table').first.locator('a').first.click()
    page.locator('summary').first.click()
    links = page.locator('details a').evaluate_all('links => links.map(a => a.href)')
    rows = [link for link in links if re.search(r'/blob/main/results/\w+/rows\.jsonl#L\d+$', link)]
    assert len(rows) >= 6
    for link in rows:
        path, line = re.search(r'/blob/main/(.+)#L(\d+)$', link).groups()
        assert len((root/path).read_text(encoding='utf-8').splitlines()) >= int(line)
    page.close()

def test_every_results_page_opens_with_a_short_answer(site):
    "At most 30 words and 2 numbers, in bold, before anything else"
    for path in sorted((root/'nbs'/'results').glob('[01]*.ipynb')):
        page = (site/'results'/(re.sub(r'^\d+_', '', path.stem) + '.html')).read_text(encoding='utf-8')
        answer = text_of(re.search(r'<main.*?<strong>(.*?)</strong>', page, re.S)[1]).strip()
        numbers = re.findall(r'(?<![\w-])[+−-]?\d[\d,.]*', answer)
        assert 5 <= len(answer.split()) <= 30 and len(numbers) <= 2, f'{path.stem}: {answer}'

def test_no_page_shows_an_address_or_six_decimals(site):
    for name in names(site):
        page = (site/name).read_text(encoding='utf-8')
        assert not re.search(r'object at(?:\s|&nbsp;)*0x', text_of(page)), name
        if name.startswith('results/'):
            cells = re.findall(r'<td[^>]*>\s*[+−-]?(\d+\.\d{5,})\s*</td>', page)
            long = [cell for cell in cells if len(cell.replace('.', '').lstrip('0')) > 4] # a small difference may begin late
            assert not long, f'{name}: {long[:5]}'

def test_the_command_page_shows_the_help_of_each_command(site):
    page = text_of((site/'cli.html').read_text(encoding='utf-8'))
    for command in ('run', 'report', 'corpora', 'models', 'generate', 'audit', 'score', 'order', 'keep'):
        assert f'Usage: regurgitation {command} [OPTIONS]' in page, command
    assert 'ArgumentInfo' not in page and 'OptionInfo' not in page

def test_the_index_of_results_gives_answer_and_verdict(site):
    page = text_of((site/'results'/'index.html').read_text(encoding='utf-8'))
    for verdict in ('C1 mixed', 'C10 supported', 'M5 contradicted', 'C2 too weak to tell'): assert verdict in page, verdict
