"""The site of a finished run, driven in a browser as a reader would."""

import re
import shutil
import time

import pytest

playwright = pytest.importorskip(
    "playwright.sync_api", reason="needs the package playwright; see requirements-test.in"
)
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=f"needs a browser: {', '.join(NAMES)}")

DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}
WAY = ("tables/", "evaluations/", "adversarial/", "datasets/")
"""Where to go next on the way from a table to its images, the last where there is a choice."""


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=CHROMIUM)
        yield running
        running.close()


@pytest.fixture(scope="module")
def index(tiny_run):
    return (tiny_run.folder / "results/index.html").as_uri()


@pytest.fixture
def open_page(browser, index):
    """Return a function that opens the index; at the end, no page may have complained."""
    opened, complaints = [], []

    def open_it(viewport=DESKTOP, **settings):
        context = browser.new_context(viewport=viewport, offline=True, **settings)
        opened.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        # A picture that was still being loaded when the page was left is no complaint.
        page.on(
            "requestfailed",
            lambda request: (
                complaints.append(f"failed: {request.url}")
                if request.failure != "net::ERR_ABORTED"
                else None
            ),
        )
        page.on(
            "console",
            lambda message: (
                complaints.append(message.text) if message.type in ("error", "warning") else None
            ),
        )
        page.goto(index)
        return page

    yield open_it
    for context in opened:
        context.close()
    assert complaints == []


def shown(page):
    return page.locator("table.claims tbody tr:visible")


def overflow(page):
    return page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )


def focused(page, property_name="outerHTML"):
    return page.evaluate(f"document.activeElement.{property_name}") or ""


def tab_to(page, selector, limit=400):
    """Press Tab until an element has the focus."""
    for _ in range(limit):
        page.keyboard.press("Tab")
        if page.evaluate("s => document.activeElement.matches(s)", selector):
            return
    raise AssertionError(f"Tab never reaches {selector}")


def test_it_opens_from_disk_and_every_picture_loads(open_page):
    started = time.perf_counter()
    page = open_page()
    print(f"index.html loaded in {time.perf_counter() - started:.2f} s")
    assert page.locator("h1").inner_text()
    assert shown(page).count() > 5
    pictures = page.locator("img")
    assert pictures.count() > 5
    for i in range(pictures.count()):
        pictures.nth(i).scroll_into_view_if_needed()
    page.wait_for_function("[...document.images].every((image) => image.complete)")
    assert page.evaluate("[...document.images].filter((i) => !i.naturalWidth).length") == 0


@pytest.mark.parametrize(
    ("viewport", "seen"),
    [(DESKTOP, (".said", "img", "ul.counts >> nth=1")), (PHONE, (".said", "ul.counts >> nth=1"))],
    ids=["desktop", "phone"],
)
def test_the_first_screen_says_what_was_found(open_page, viewport, seen):
    page = open_page(viewport)
    first = page.locator("section.found").first
    for selector in seen:
        box = first.locator(selector).first.bounding_box()
        assert box["height"] > 10, selector
        assert box["y"] + box["height"] <= viewport["height"], selector
    assert len(first.locator(".said").inner_text()) > 40
    # Each claim is counted once in each part.
    name = first.locator("h2 a").get_attribute("href").removeprefix("#claims-")
    claims = page.locator(f"table.claims tr[data-study={name}]").count()
    for i in range(2):
        counts = first.locator("ul.counts").nth(i).locator(".verdict").all_inner_texts()
        assert sum(int(text.split()[0]) for text in counts) == claims


def test_the_picture_of_the_first_screen_leads_to_its_figure(open_page):
    page = open_page()
    link = page.locator(".found figure a").first
    assert link.locator("img").get_attribute("alt")
    target = link.get_attribute("href")
    link.click()
    assert page.url.endswith(target)
    assert page.locator(f"article h3[id='{target[1:]}']").is_visible()


def test_filters_change_the_rows_that_are_shown(open_page):
    page = open_page()
    rows = shown(page)
    everything = rows.count()
    for part in ("in_substance", "as_reported"):
        verdicts = rows.evaluate_all(f"rows => rows.map((row) => row.dataset.{part})")
        first = verdicts[0]
        page.locator(f"input[name={part}][value='{first}']").uncheck()
        assert rows.count() == everything - verdicts.count(first)
        assert page.locator("#shown").inner_text().startswith(f"{rows.count()} of {everything} ")
        page.get_by_role("button", name="Show all").click()
        page.wait_for_function(
            "n => document.querySelectorAll('table.claims tbody tr:not([hidden])').length === n",
            arg=everything,
        )
    studies = rows.evaluate_all("rows => rows.map((row) => row.dataset.study)")
    page.locator("select[name=study]").select_option("robustness")
    assert rows.count() == studies.count("robustness") > 0
    page.locator("input[name=words]").fill("no claim has these words")
    assert rows.count() == 0
    assert page.locator("section.ledger:visible").count() == 0


def test_words_are_looked_for_in_the_whole_claim(open_page):
    page = open_page()
    page.locator("input[name=words]").fill("DEFENCE rate")
    texts = shown(page).evaluate_all("rows => rows.map((row) => row.textContent.toLowerCase())")
    assert 0 < len(texts) < page.locator("table.claims tbody tr").count()
    assert all("defence" in text and "rate" in text for text in texts)


def test_a_link_to_a_hidden_claim_shows_it(open_page):
    page = open_page()
    page.locator("input[name=words]").fill("no claim has these words")
    name = page.locator("table.claims tbody tr").first.get_attribute("id")
    page.locator(f"article a[href='#{name}']").first.click()
    page.wait_for_function("id => !document.getElementById(id).hidden", arg=name)
    assert page.locator(f"[id='{name}']").is_visible()


def test_a_claim_leads_to_the_row_of_the_table_that_decides_it(open_page):
    page = open_page()
    link = page.locator("table.claims a[href*='table-']").first
    target = link.get_attribute("href")
    link.click()
    assert page.locator(target.replace(".", "\\.")).is_visible()
    assert page.url.endswith(target)


def test_lineage_is_followed_from_a_table_to_a_set_of_images(open_page):
    page = open_page()
    page.locator("a[href*='lineage/tables/bandlimiting/table_1']").first.click()
    steps = [page.locator("h1").inner_text()]
    assert "table_1" in steps[0]
    assert page.locator("#again + p + pre").inner_text().count("snakemake") == 1
    for _ in range(8):
        names = page.locator("#read + .scroll tbody td:first-child a").evaluate_all(
            "links => links.map((link) => link.textContent)"
        )
        ranks = [max(i for i, p in enumerate(("", *WAY)) if p in name) for name in names]
        chosen = names[ranks.index(max(ranks))]
        page.locator("#read + .scroll a", has_text=chosen).first.click()
        steps.append(chosen)
        if "results/datasets/" in chosen:
            break
    assert steps[-1] == "results/datasets/tiny.parquet", steps
    assert re.search(r"\b[0-9a-f]{64}\b", page.locator("dl.facts").first.inner_text())
    assert "make_dataset" in page.locator("main").inner_text()
    page.go_back()
    assert steps[-2] in page.locator("h1").inner_text()


def test_the_keyboard_alone_is_enough(open_page):
    page = open_page()
    page.keyboard.press("Tab")
    assert "Skip" in focused(page, "textContent")
    box = page.evaluate(
        "JSON.parse(JSON.stringify(document.activeElement.getBoundingClientRect()))"
    )
    assert box["left"] >= 0
    page.keyboard.press("Enter")
    tab_to(page, "select[name=study]")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    everything = shown(page).count()
    tab_to(page, "input[name=in_substance]")
    for _ in range(page.locator("input[name=in_substance]").count()):
        page.keyboard.press("Space")
        page.keyboard.press("Tab")
    assert shown(page).count() == 0
    tab_to(page, "form.filters button")
    page.keyboard.press("Enter")
    page.wait_for_function("!document.querySelector('table.claims tbody tr').hidden")
    assert shown(page).count() == everything
    tab_to(page, "table.claims summary")
    page.keyboard.press("Enter")
    assert page.locator("table.claims details").first.get_attribute("open") is not None
    tab_to(page, "a[href*='lineage/']")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    assert "comes from" in page.locator("h1").inner_text()


def test_a_phone_scrolls_down_only(open_page):
    page = open_page(PHONE)
    assert overflow(page) == 0
    # What a reader may unfold is as narrow.
    page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    assert overflow(page) == 0
    for name in ("lineage/tables/", "lineage/figures/"):
        page.locator(f"a[href*='{name}']").first.click()
        page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        assert overflow(page) == 0
        page.go_back()


def test_everything_is_read_without_scripts(open_page):
    page = open_page(java_script_enabled=False)
    assert shown(page).count() == page.locator("table.claims tbody tr").count() > 5
    assert not page.locator("form.filters").is_visible()


def test_dark_and_light_have_ink_that_can_be_read(open_page):
    def luminance(colour):
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    papers = []
    for scheme in ("light", "dark"):
        page = open_page(color_scheme=scheme)
        paper = luminance(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        for selector in ("body", "a:not(.skip)", ".soft", "td .verdict"):
            ink, own = page.locator(selector).first.evaluate(
                "e => [getComputedStyle(e).color, getComputedStyle(e).backgroundColor]"
            )
            under = paper if own == "rgba(0, 0, 0, 0)" else luminance(own)
            low, high = sorted((luminance(ink), under))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (scheme, selector)
        papers.append(paper)
    assert papers[0] > 0.9 > 0.1 > papers[1]
