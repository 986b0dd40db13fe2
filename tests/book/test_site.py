"""The static site: every page draws itself from the disk alone, and its links lead somewhere."""

import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser

import nbformat
import pytest

from dyhead_book.site import build_site
from dyhead_book.site.markdown import page_link, to_html, to_mathml
from dyhead_book.site.reference import chapters_by_module, defined_at
from dyhead_lab.errors import UserError
from dyhead_lab.paths import CHAPTERS


class Links(HTMLParser):
    """What a page loads (src, href of styles) and where its links lead."""

    def __init__(self, text):
        super().__init__()
        self.loads, self.leads, self.ids, self.tags = [], [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.append(tag)
        self.ids.add(given.get("id"))
        if tag == "a" and "href" in given:
            self.leads.append(given["href"])
        elif "src" in given or tag == "link":
            self.loads.append(given.get("src") or given["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site of the project's own notebooks."""
    return build_site(tmp_path_factory.mktemp("site"))


def notebook(folder, *sources, name="01_name.ipynb"):
    content = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(source) for source in sources])
    nbformat.write(content, folder / name)
    return content


def test_the_cell_for_hosted_notebooks_is_left_out(site):
    assert not [page.name for page in site[1:] if "COLAB_RELEASE_TAG" in page.read_text(encoding="utf-8")]


def test_nothing_is_loaded_but_style_script_diagrams_and_pictures_inside_the_page(site):
    for page in site[1:]:
        links = Links(page.read_text(encoding="utf-8"))
        drawn = {f"diagrams/{file.name}" for file in (page.parent / "diagrams").iterdir()}
        outside = [
            load for load in links.loads if load not in {"book.css", "book.js", *drawn} and not load.startswith("data:")
        ]
        assert not outside, f"{page.name} loads {outside}"
        assert links.tags.count("script") == 1
    assert "url(" not in (site[0].parent / "book.css").read_text(encoding="utf-8")


def test_every_link_between_pages_leads_to_a_page_and_a_part(site):
    pages = {page.name: Links(page.read_text(encoding="utf-8")) for page in site[1:]}
    for name, links in pages.items():
        for url in links.leads:
            if re.match(r"[a-z]+:", url):
                continue
            target, _, part = url.partition("#")
            if target.startswith(("workbook/", "book/")):
                assert (site[0].parent / target).is_file(), f"{name} offers {url}"
                continue
            assert (target or name) in pages, f"{name} links to {url}"
            assert not part or part in pages[target or name].ids, f"{name} links to {url}"


def test_all_formulas_are_drawn(site):
    for page in site[1:]:
        text = re.sub(r"<(pre|code)[ >].*?</\1>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        assert not re.search(r"\$[^$<>]*\\[a-z]+", text), f"{page.name} holds raw LaTeX"
    assert sum(page.read_text(encoding="utf-8").count("<math") for page in site) > 20


def test_each_page_names_its_neighbours(site):
    index, first, last = (site[at].read_text(encoding="utf-8") for at in (0, 1, -1))
    assert 'rel="prev"' not in first and f'rel="next" href="{site[2].name}"' in first
    assert f'rel="prev" href="{site[-2].name}"' in last and site[1].name in index


def test_both_editions_can_be_downloaded(site):
    name = "02_scale_aware"
    page = next(page for page in site[1:] if page.stem == name).read_text(encoding="utf-8")
    for edition in ("book", "workbook"):
        assert f'<a href="{edition}/{name}.ipynb" download>{edition}</a>' in page
    assert "workbook/19_" not in next(p for p in site if p.stem.startswith("19_")).read_text(encoding="utf-8")
    nbformat.validate(nbformat.read(site[0].parent / "book" / f"{name}.ipynb", as_version=4))


def test_the_search_knows_every_part_of_every_page(site):
    text = (site[0].parent / "sections.js").read_text(encoding="utf-8")
    sections = json.loads(text.removeprefix("window.SECTIONS = ").removesuffix(";\n"))
    urls = {section["url"] for section in sections}
    for page in site[1:]:
        parts = {f"{page.name}#{part}" for part in Links(page.read_text(encoding="utf-8")).ids if part}
        assert page.name in urls and {url for url in urls if url.startswith(page.name)} <= {page.name, *parts}
    assert not any("<" in section["title"] for section in sections)
    assert len(text) < 1_500_000, "bytes that a search loads"


def test_a_collapsed_cell_is_a_fold(tmp_path):
    content = notebook(tmp_path, "# Title")
    cell = nbformat.v4.new_code_cell("plumbing = 1", metadata={"jupyter": {"source_hidden": True}})
    cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text="what it shows")]
    content.cells += [cell, nbformat.v4.new_code_cell("shown = 2")]
    nbformat.write(content, tmp_path / "01_name.ipynb")
    text = build_site(tmp_path / "site", tmp_path)[1].read_text(encoding="utf-8")
    fold = re.search(r"<details><summary>Code</summary>.*?</details>", text, re.DOTALL)
    assert fold and text.count("plumbing") == fold[0].count("plumbing") == 1
    assert "what it shows" in text and "shown" in text.replace(fold[0], "")


def test_a_formula_is_mathml_and_one_that_cannot_be_drawn_is_named():
    assert re.match(r"<math .*<mfrac>", to_mathml(r"\frac{1}{L}", display=False))
    assert 'display="block"' in to_html("$$x_l$$")
    with pytest.raises(ValueError, match=r"\\nosuchcommand"):
        to_mathml(r"\nosuchcommand{x}", display=True)


def test_links_to_notebooks_become_links_to_pages():
    assert page_link("03_name.ipynb#part") == "03_name.html#part"
    assert page_link("https://host/03_name.ipynb") == "https://host/03_name.ipynb"
    assert 'href="03_name.html"' in to_html("[there](03_name.ipynb)")


def test_a_widget_leaves_its_picture(tmp_path):
    cell = nbformat.v4.new_code_cell("explorer")
    data = {"application/vnd.jupyter.widget-view+json": {"model_id": "m"}, "image/png": "aGVsbG8=", "text/plain": "E()"}
    cell.outputs = [nbformat.v4.new_output("execute_result", data, execution_count=1)]
    content = notebook(tmp_path, "# Title")
    content.cells.append(cell)
    content.metadata.widgets = {"application/vnd.jupyter.widget-state+json": {"state": {"m": {}}}}
    nbformat.write(content, tmp_path / "01_name.ipynb")
    text = build_site(tmp_path / "site", tmp_path)[1].read_text(encoding="utf-8")
    assert "data:image/png;base64,aGVsbG8=" in text and "widget-view" not in text


def test_an_earlier_build_is_replaced(tmp_path):
    notebook(tmp_path, "# Before")
    build_site(tmp_path / "site", tmp_path)
    notebook(tmp_path, "# After", "## A part of it")
    [_, page] = build_site(tmp_path / "site", tmp_path)
    text = page.read_text(encoding="utf-8")
    assert "Before" not in text and '<h2 id="a-part-of-it">' in text


@pytest.mark.parametrize(
    ("sources", "message"),
    [(["no title"], "has no title"), (["# T", r"$\nosuchcommand$"], "cannot be drawn"), (None, "no notebooks in")],
)
def test_what_cannot_be_a_page_is_named(tmp_path, sources, message):
    if sources is not None:
        notebook(tmp_path, *sources)
    with pytest.raises(UserError, match=message):
        build_site(tmp_path / "site", tmp_path)
    assert not (tmp_path / "site").exists()


@pytest.mark.parametrize(
    "text", ["{}", "[]", "null", '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{}]}']
)
def test_json_that_is_no_notebook_is_named(tmp_path, text):
    (tmp_path / "a.ipynb").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"a\.ipynb: is JSON, but no notebook: "):
        build_site(tmp_path / "site", tmp_path)


@pytest.mark.browser
def test_a_browser_without_a_network_draws_a_chapter(site):
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed; on Debian: apt-get install chromium")
    with ThreadPoolExecutor(1) as thread:  # another test of this process may have a browser open, and its loop with it
        thread.submit(draw_offline, site, sync_api, chromium).result()


def draw_offline(site, sync_api, chromium):
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        window = {"width": 1280, "height": 800}
        page = browser.new_context(offline=True, color_scheme="dark", viewport=window).new_page()
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(site[0].as_uri())
        page.wait_for_url("**/00_start_here.html")
        assert page.locator("main img").first.evaluate("image => image.naturalWidth") > 100
        background = page.locator("body").evaluate("body => getComputedStyle(body).backgroundColor")
        assert background == "rgb(21, 21, 21)"
        page.locator("nav a", has_text="Deformable convolution").first.click()
        assert page.locator("math").first.bounding_box()["width"] > 5
        code = page.locator(".highlight pre")
        cut = "all => all.filter(one => one.scrollWidth > one.clientWidth + 1).map(one => one.textContent.slice(0, 80))"
        assert code.count() > 20 and code.evaluate_all(cut) == [], "no line of code is cut off"
        formulas = page.locator('math[display="block"]')
        scrolls = "all => all.map(one => getComputedStyle(one).overflowY)"  # "auto" shows a scrollbar beside a formula
        assert set(formulas.evaluate_all(scrolls)) == {"hidden"}
        page.locator("#theme").click()
        light = page.locator("body").evaluate("body => getComputedStyle(body).backgroundColor")
        assert light == "rgb(255, 255, 255)"
        page.locator("#search").fill("bilinear sampling")
        page.locator("#found a").first.wait_for()
        assert "places" in page.locator("#found [role=status]").inner_text()
        page.locator("#search").press("Enter")
        page.wait_for_url(re.compile(r"\d\d_\w+\.html"))
        assert page.locator("body").evaluate("body => getComputedStyle(body).backgroundColor") == light
        assert all(url.startswith(("file:", "data:")) for url in asked)
        browser.close()


class TestReference:
    """The site and the reference of the library name each other; a module of it is a page in ``reference/api``."""

    @pytest.fixture
    def place(self, tmp_path):
        """A site with a reference of one page, and two notebooks; one of them takes something of the library."""
        source, out = tmp_path / "notebooks", tmp_path / "site"
        (out / "reference" / "api").mkdir(parents=True)
        source.mkdir()
        (out / "reference" / "index.html").touch()
        page = out / "reference" / "api" / "dyhead_lab.attention.dyhead.html"
        page.write_text('<dt id="dyhead_lab.attention.dyhead.DyHead">', encoding="utf-8")
        notebook(source, "# Without code", name="00_none.ipynb")
        content = notebook(source, "# With code")
        code = "%matplotlib inline\nimport dyhead_lab\nfrom dyhead_lab.attention import DyHead\n"
        code += "import torch\nfrom torch import nn\ndyhead_lab.DyHead, dyhead_lab.UserError"
        content.cells.append(nbformat.v4.new_code_cell(code))
        nbformat.write(content, source / "01_name.ipynb")
        return source, out

    def test_a_chapter_leads_to_what_it_takes_of_the_library_where_it_is_described(self, place):
        source, out = place
        build_site(out, source)
        leads = Links((out / "01_name.html").read_text(encoding="utf-8")).leads
        found = [url for url in leads if url.startswith("reference/")]
        described = "reference/api/dyhead_lab.attention.dyhead.html#dyhead_lab.attention.dyhead.DyHead"
        assert found == ["reference/index.html", described], "once; what has no page is not linked"
        assert "reference/index.html" in Links((out / "00_none.html").read_text(encoding="utf-8")).leads

    def test_without_a_reference_nothing_leads_there(self, place):
        source, out = place
        shutil.rmtree(out)
        build_site(out, source)
        assert "reference" not in (out / "01_name.html").read_text(encoding="utf-8")

    def test_a_module_knows_its_chapters(self, place):
        assert chapters_by_module(place[0]) == {
            "dyhead_lab.attention.dyhead": [place[0] / "01_name.ipynb"],
            "dyhead_lab.errors": [place[0] / "01_name.ipynb"],
        }

    @pytest.mark.parametrize(
        ("name", "module", "full"),
        [
            ("dyhead_lab.load_trained", "dyhead_lab.zoo.trained", "dyhead_lab.zoo.trained.load_trained"),
            ("dyhead_lab.zoo", "dyhead_lab.zoo", "dyhead_lab.zoo"),
            ("dyhead_lab.paths.CHAPTERS", "dyhead_lab.paths", "dyhead_lab.paths.CHAPTERS"),
        ],
    )
    def test_a_name_is_described_where_it_is_defined(self, name, module, full):
        assert defined_at(name) == (module, full)

    def test_every_chapter_of_the_book_is_named_by_a_module(self):
        """But lists whose code lies in the book. Each name that a chapter takes exists, or this raises."""
        named = {path for paths in chapters_by_module(CHAPTERS).values() for path in paths}
        assert {path.stem[:2] for path in CHAPTERS.glob("*.ipynb") if path not in named} <= {"18", "19", "21"}
