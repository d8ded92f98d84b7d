"""The report in a browser: sorts, filters, plays, obeys the keyboard, and takes no text for code."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from chromium import Chromium, find_chromium
from reports import report_in

from asr.report import System, write_report
from asr.scoring import score_utterance, summarize

PROGRAM = find_chromium()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium on this machine (apt install chromium)")
pytest.importorskip("websocket", reason="the browser is driven with websocket-client (pip install '.[dev]')")


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with Chromium(PROGRAM) as page:
        yield page


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report_in(tmp_path_factory.mktemp("a folder"))


@pytest.fixture
def page(browser: Chromium, path: Path) -> Chromium:
    """The report, just opened, on a desk by day."""
    browser.emulate()
    browser.open(path)
    return browser


def ids(page: Chromium) -> list[str]:
    return page.run("[...document.querySelectorAll('.row')].map((row) => row.dataset.id)")


def text(page: Chromium, selector: str) -> str:
    return page.run(f"document.querySelector({selector!r}).textContent")


def opened_id(page: Chromium) -> str | None:
    return page.run("document.querySelector('#utterance:not([hidden]) h2')?.textContent ?? null")


def open_by_keyboard(page: Chromium, utterance_id: str) -> None:
    page.press("u")
    page.press("6")
    page.run("document.getElementById('rows').focus()")
    for _ in range(ids(page).index(utterance_id)):
        page.press("j")
    page.press("Enter")
    page.wait("document.querySelector('#utterance canvas')")


def test_opens_without_errors_or_other_files(page: Chromium, path: Path) -> None:
    assert page.errors == []
    assert page.requests[-1:] == [path.as_uri()]
    assert page.run("document.querySelectorAll('.results tbody tr').length") == 3
    assert "WER by speaker" in text(page, "#view-overview")
    assert page.run("document.querySelectorAll('#view-overview svg.plot').length") == 3  # durations, losses, WER


def test_texts_are_not_taken_for_code(page: Chromium) -> None:
    open_by_keyboard(page, "c-1")
    assert page.run("window.trapped === undefined && document.querySelectorAll('img, script:not([id])').length") == 1
    assert "<script>window.trapped=1</script>" in text(page, "#utterance")
    assert "{{script}}" in text(page, "#utterance")
    assert "onerror=window.trapped=2" in text(page, "h1")


def test_a_foreign_script_is_refused_by_the_policy(page: Chromium) -> None:
    page.run(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.trapped = 3'}))"
    )
    page.run("fetch('https://example.org/').then(() => { window.trapped = 4 }, () => {})")
    assert page.run("window.trapped === undefined")


def test_sorts_by_digits_and_reverses(page: Chromium) -> None:
    page.press("u")
    assert ids(page)[0] == "c-1"  # the most errors
    page.press("1")
    assert ids(page)[0] == "a-2"  # the fewest
    page.press("6")
    assert ids(page) == ["a-1", "a-2", "b-1", "b-2", "c-1", "c-2"]
    page.press("6")
    assert ids(page) == ["c-2", "c-1", "b-2", "b-1", "a-2", "a-1"]
    page.press("3")
    assert ids(page)[:2] == ["b-1", "a-2"]
    page.press("2")
    assert ids(page)[0] == "c-2"  # one word heard where none was said: infinite


def test_searches(page: Chromium) -> None:
    page.press("/")
    for letter in "Radio":
        page.press(letter)
    page.wait("document.querySelectorAll('.row').length === 1")
    assert ids(page) == ["b-1"]
    assert text(page, "#count") == "1 utterance, 1 error in 4 words: 25.00 %"
    page.press("Enter")
    page.press("x")
    assert len(ids(page)) == 6


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("which", "right", ["a-2"]),
        ("which", "wrong", ["a-1", "b-1", "b-2", "c-1", "c-2"]),
        ("which", "differ", ["a-1", "b-1", "b-2", "c-1", "c-2"]),
        ("speaker", "1", ["b-1", "b-2"]),
    ],
)
def test_filters(page: Chromium, field: str, value: str, expected: list[str]) -> None:
    page.press("6")
    page.run(
        f"document.getElementById({field!r}).value = {value!r}; "
        f"document.getElementById({field!r}).dispatchEvent(new Event('change'))"
    )
    assert ids(page) == expected


def test_a_confusion_leads_to_its_utterances(page: Chromium) -> None:
    assert page.run("document.querySelector('.confusion').getAttribute('aria-label')") == "on → off, 2 times"
    page.run("document.querySelector('.confusion').click()")
    assert sorted(ids(page)) == ["a-1", "b-1"]
    page.run("document.querySelector('.chip').click()")
    assert len(ids(page)) == 6


def test_a_speaker_and_a_duration_lead_to_their_utterances(page: Chromium) -> None:
    page.run("[...document.querySelectorAll('.bar-row')].find((bar) => bar.textContent.includes('bert')).click()")
    assert sorted(ids(page)) == ["b-1", "b-2"]
    page.press("o")
    page.run("document.querySelector('.bar:last-of-type').dispatchEvent(new MouseEvent('click', {bubbles: true}))")
    assert ids(page) == ["b-1"]


def test_the_keyboard_moves_opens_and_closes(page: Chromium) -> None:
    open_by_keyboard(page, "a-1")
    assert opened_id(page) == "a-1"
    page.press("j")
    page.press("ArrowDown")
    assert opened_id(page) == "b-1"
    page.press("k")
    assert opened_id(page) == "a-2"
    page.press("End")
    assert opened_id(page) == "c-2"
    page.press("Escape")
    assert opened_id(page) is None
    page.press("Enter")
    page.wait("document.querySelector('#utterance:not([hidden])')")
    page.run("history.back()")  # what the back button of a phone does
    page.wait("document.querySelector('#utterance').hidden")
    page.press("?")
    assert page.run("document.getElementById('help').open")


def test_every_system_is_aligned_word_by_word(page: Chromium) -> None:
    open_by_keyboard(page, "a-1")
    page.wait("document.querySelector('.alignment button.heard')")
    pairs = page.run(
        "[...document.querySelectorAll('.alignment')].map((block) => [...block.querySelectorAll('.pair')]"
        ".map((pair) => [...pair.children].map((word) => word.textContent).join(' ')))"
    )
    assert pairs == [
        ["turn turn", "on off", "the the", "big light", "light please"],
        ["turn turn", "on on", "the the", "big ∅", "light light"],
    ]
    kinds = page.run(
        "[...document.querySelectorAll('.alignment')[0].querySelectorAll('.heard')].map((w) => w.className)"
    )
    assert [kind.split()[1] for kind in kinds] == ["same", "sub", "same", "sub", "sub"]


def test_what_the_model_saw_is_drawn_and_read(page: Chromium) -> None:
    open_by_keyboard(page, "a-2")
    painted = (
        "(() => { const c = document.querySelector('#utterance canvas'); const d = c.getContext('2d')"
        ".getImageData(0, 50, c.width, 90).data; return new Set(d).size > 20 })()"
    )
    page.wait(painted)
    assert text(page, ".reading").split() == ["0.00", "s", "y", "90", "%", "blank", "8", "%"]
    page.press("ArrowRight")
    assert text(page, ".reading").split()[:4] == ["0.04", "s", "blank", "75"]
    page.run("document.querySelector('.strip').focus()")
    page.press("ArrowRight")
    assert text(page, ".reading").split()[:3] == ["0.08", "s", "e"]


@pytest.mark.parametrize("utterance_id", ["a-1", "a-2"])
def test_plays_embedded_and_referenced_sound(page: Chromium, utterance_id: str) -> None:
    open_by_keyboard(page, utterance_id)
    page.wait("document.querySelector('audio')?.readyState > 0")
    page.run("document.getElementById('rows').focus()")
    assert page.run("document.querySelector('audio').paused")
    page.press(" ")
    page.wait("document.querySelector('audio').currentTime > 0.1 && !document.querySelector('audio').paused")
    page.press(" ")
    assert page.run("document.querySelector('audio').paused")
    assert page.errors == []
    page.wait("document.querySelector('.cursor').style.left !== '0%'")


def test_says_where_the_sound_is_when_it_is_not_here(page: Chromium) -> None:
    open_by_keyboard(page, "b-1")
    command = "asr evaluate --model ... --data ... --report report.html --embed-audio"
    assert command in text(page, ".player")
    page.press(" ")
    assert page.errors == []


def test_another_subset_has_its_own_utterances(page: Chromium) -> None:
    page.press("u")
    page.press("s")
    assert len(ids(page)) == 6
    page.press("s")
    assert ids(page) == ["z-1"]
    page.press("Enter")
    page.wait("document.querySelector('.player p')")
    assert "Only the texts are known" in text(page, ".player")


def test_the_address_names_the_utterance(page: Chromium, path: Path) -> None:
    open_by_keyboard(page, "b-2")
    assert page.run("location.hash") == "#u=b-2"
    page.call("Page.navigate", url="about:blank")
    page.call("Page.navigate", url=f"{path.as_uri()}#u=b-2")
    page.wait("document.querySelector('#utterance:not([hidden]) h2')?.textContent === 'b-2'")


@pytest.mark.parametrize("width", [360, 390])
def test_a_phone_never_scrolls_sideways(page: Chromium, width: int) -> None:
    page.emulate(width=width, height=780, phone=True)
    # Nothing may wrap into a third line above the page.
    assert page.run("document.querySelector('.top').offsetHeight") < 100
    sideways = "document.documentElement.scrollWidth > innerWidth || innerWidth !== screen.width"
    assert not page.run(sideways)
    page.press("u")
    assert not page.run(sideways)
    page.run("document.querySelector('.row').click()")
    page.wait("document.querySelector('#utterance h2')")
    assert not page.run(sideways)
    assert not page.run("document.querySelector('.browse').checkVisibility()")


@pytest.mark.parametrize("width", [830, 1000, 1190, 1280])
def test_results_fit_into_any_window(browser: Chromium, tmp_path: Path, width: int) -> None:
    scores = [score_utterance(id=f"u{number}", reference="a b", hypothesis="a", seconds=1.0) for number in range(20)]
    subset = "spoken_commands:test-unseen-synthesiser"
    result = summarize(scores, subset=subset, decoder="greedy", processing_seconds=0.3, whole=12_000)
    write_report(tmp_path / "r.html", title="t", systems=[System(name="greedy", result=result, scores=scores)])
    browser.emulate(width=width)
    browser.open(tmp_path / "r.html")
    card = "document.querySelector('.card').getBoundingClientRect().right"
    cells = "[...document.querySelectorAll('.results td')].filter((cell) => cell.checkVisibility())"
    assert browser.run(f"{cells}.every((cell) => cell.getBoundingClientRect().right < {card})")
    assert not browser.run("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    # A name in the middle of which a line ends.
    assert browser.run("document.querySelector('.results .link').offsetHeight") < 40
    browser.emulate()


def test_a_rate_that_is_not_defined_is_no_number(browser: Chromium, tmp_path: Path) -> None:
    scores = [score_utterance(id="u", reference="", hypothesis="made up")]
    result = summarize(scores, subset="silence", decoder="d", may_be_silent=True)
    write_report(tmp_path / "r.html", title="t", systems=[System(name="d", result=result, scores=scores)])
    browser.open(tmp_path / "r.html")
    shown = "[...document.querySelectorAll('.results tbody td')].map((cell) => cell.textContent)"
    assert browser.run(shown) == ["silence", "d", "–", "", "–", "–", "–", "0", "0", "2", "0", "1"]
    assert not browser.run("document.querySelector('.plot-cell svg')")


def test_every_number_of_the_results_has_a_name_of_its_own(page: Chromium) -> None:
    heads = page.run("[...document.querySelectorAll('.results th')].map((head) => head.textContent)")
    labels = page.run(
        "[...document.querySelector('.results tbody tr').querySelectorAll('[data-label]')]"
        ".map((cell) => cell.dataset.label)"
    )
    assert heads == ["Subset", "System", *labels]
    assert {"WER 95 %", "CER 95 %"} < set(labels)
    assert len(set(labels)) == len(labels)


def test_errors_are_called_the_same_everywhere(page: Chromium) -> None:
    titles = page.run("[...document.querySelectorAll('.confusions h3')].map((each) => each.firstChild.textContent)")
    open_by_keyboard(page, "a-1")
    marks = page.run("[...document.querySelectorAll('.key .word')].map((each) => each.textContent)")
    assert [title.lower() for title in titles] == marks == ["substituted", "deleted", "inserted"]


def test_long_names_of_speakers_are_told_apart(browser: Chromium, tmp_path: Path) -> None:
    names = [f"espeak-ng:en-scottish-{'and-so-on-' * 3}{variant}" for variant in ("f1", "f2", "short")]
    names.append("anna")
    heard = {"anna": "a b"}
    scores = [
        score_utterance(id=name, speaker=name, reference="a b", hypothesis=heard.get(name, "a")) for name in names
    ]
    result = summarize(scores, subset="test", decoder="d")
    write_report(tmp_path / "r.html", title="t", systems=[System(name="d", result=result, scores=scores)])
    for width in (1200, 360):
        browser.emulate(width=width, height=780, phone=width < 500)
        browser.open(tmp_path / "r.html")
        bars = "[...document.querySelectorAll('.bar-row')]"
        shown = browser.run(f"{bars}.map((bar) => bar.querySelector('.bar-name').innerText)")
        assert len(set(shown)) == 4
        assert {name[-2:] for name in shown} == {"f1", "f2", "rt", "na"}
        assert not browser.run(
            "[...document.querySelectorAll('.bar-name')].some((name) => name.scrollWidth > name.clientWidth)"
        )
        assert all(
            any(title.startswith(name) for title in browser.run(f"{bars}.map((b) => b.title)")) for name in names
        )
    assert "RTF" not in text(browser, ".results")
    assert "RTF" not in text(browser, ".card")
    assert "utterances (4 are too few, and such intervals too narrow)" in text(browser, ".card")
    browser.emulate()


def test_pictures_are_named_and_letters_never_overlap(page: Chromium) -> None:
    page.run(
        "window.drawn = []; const C = CanvasRenderingContext2D.prototype; const fill = C.fillText;"
        "C.measureText = () => ({ width: 30 });"
        "C.fillText = function (text, x, y) { if (this.textAlign === 'center' && !text.endsWith(' s')) "
        "window.drawn.push([x, y, text]); fill.call(this, text, x, y) }"
    )
    page.emulate(width=360, height=780, phone=True)
    open_by_keyboard(page, "a-1")
    page.wait("window.drawn.length > 0")
    letters = page.run("window.drawn.splice(0)")
    rows = {y for _, y, _ in letters}
    assert len(rows) == 2
    for row in rows:
        places = sorted({x for x, y, _ in letters if y == row})
        assert all(after - before >= 31.9 for before, after in pairwise(places))
    names = page.run("[...document.querySelectorAll('.lane')].map((each) => each.textContent)")
    assert names == ["waveform", "log-mel", "tokens"]
    page.emulate()


def test_dark_mode(page: Chromium) -> None:
    lightness = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number).reduce((a, b) => a + b) / 3"
    assert page.run(lightness) > 200
    page.emulate(dark=True)
    assert page.run(lightness) < 60


def test_every_control_has_a_name(page: Chromium) -> None:
    open_by_keyboard(page, "a-1")
    nameless = page.run(
        "[...document.querySelectorAll('button, select, input, [role=slider], [role=listbox]')].filter((each) => "
        "!(each.textContent.trim() || each.getAttribute('aria-label') || each.labels?.[0]?.textContent.trim())).length"
    )
    assert nameless == 0
