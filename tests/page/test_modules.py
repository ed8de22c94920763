"""The page's modules by themselves, in the browser that runs them."""

import json

import pytest

from tests.page.looking import Look, Sight

pytestmark = pytest.mark.slow

MARKDOWN = """# A title with `code`

A paragraph with **bold, *both* and** plain, a_name_here, 2*3*4 and \\*stars\\*.
Its second line.

- one
  - inside **one**
2. two
> quoted
> again

| a | b |
|---|---|
| 1 | 2 |

```js
if (a < b) { "**" }

```
***
The end: **open *and `shut
"""


def import_into(sight: Sight, name: str) -> None:
    """Make a module of the page a global; the page's policy lets it load its own."""
    sight.run(f"import('/page/{name}.js').then((all) => Object.assign(window, all))")


@pytest.fixture
def sight(look: Look, pipelines: str) -> Sight:
    one = look(pipelines)
    for name in ("prose", "markdown", "sse", "words", "speaking"):
        import_into(one, name)
    return one


def test_a_text_looks_the_same_however_it_came(sight: Sight) -> None:
    sight.run(
        "window.drawn = (text, size) => { const prose = new Prose(document.createElement('div'));"
        " for (let end = size; end < text.length; end += size) prose.update(text.slice(0, end));"
        " prose.update(text); return new XMLSerializer().serializeToString(prose.element); }, 0"
    )
    for text in (MARKDOWN, MARKDOWN * 12, "x" * 10_000, "word " * 3000, "```\n" + "line of code\n" * 700, "- " * 4000):
        quoted = json.dumps(text)
        whole = sight.run(f"drawn({quoted}, {len(text)})")
        for size in (1, 7, 64) if len(text) < 1000 else (501, 977):
            assert sight.run(f"drawn({quoted}, {size})") == whole, (text[:20], size)


def test_markdown_is_drawn_as_what_it_means(sight: Sight) -> None:
    sight.run(f"window.prose = new Prose(document.createElement('div')), prose.update({json.dumps(MARKDOWN)})")
    kinds = sight.run("[...prose.element.children].map((one) => one.className.split(' ')[1] ?? one.localName)")
    assert kinds == ["heading", "p", "item", "item", "item", "blockquote", "blockquote", "table", "pre", "hr", "p"]
    bold = sight.run("[...prose.element.querySelectorAll('strong')].map((one) => one.textContent)")
    assert "".join(bold) == "bold, both and" + "one"
    text = sight.run("prose.element.textContent")
    assert "a_name_here, 2*3*4 and *stars*." in text
    assert "The end: **open *and `shut" in text


def test_every_place_of_a_text_is_found_again(sight: Sight) -> None:
    sight.run(f"window.prose = new Prose(document.createElement('div')), prose.update({json.dumps(MARKDOWN * 3)})")
    lost = sight.run(
        "Array.from({length: prose.text.length - 1}, (_, from) => { const range = prose.rangeOf(from, from + 1);"
        " return range && (prose.positionOf(range.startContainer, range.startOffset) !== from"
        " || range.toString() !== prose.text[from]); }).filter(Boolean).length"
    )
    assert lost == 0


def test_events_are_the_same_however_their_bytes_were_cut(sight: Sight) -> None:
    stream = 'id: 0\ndata: {"a":"é😀"}\n\n: still at it\n\nid: 1\r\ndata: one\r\ndata: two\r\n\r\ndata:three\n\n'
    sight.run(
        f"window.bytes = new TextEncoder().encode({json.dumps(stream)}), window.decoded = (size) => {{"
        " const decoder = new SseDecoder(); const found = []; for (let at = 0; at < bytes.length; at += size)"
        " found.push(...decoder.feed(bytes.slice(at, at + size))); return found; }, 0"
    )
    expected = [{"id": "0", "data": '{"a":"é😀"}'}, {"id": "1", "data": "one\ntwo"}, {"id": "1", "data": "three"}]
    for size in range(1, 40):
        assert sight.run(f"decoded({size})") == expected, size


def test_a_text_without_an_end_is_said_in_parts(sight: Sight) -> None:
    sight.run("window.parts = new Sentences().take('word '.repeat(1000) + 'One. Two', false)")
    assert sight.run("parts.every((part) => part.length <= 600) && parts.length < 12")
    assert sight.run("parts.at(-1).endsWith('One.')")
