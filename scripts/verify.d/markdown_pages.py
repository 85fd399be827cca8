"""Markdown as a parser of CommonMark reads it, not as a pattern finds it.

`Page` holds one file: its fences, headings, links and code spans, and what is
wrong with its form: a fence that is never closed, text behind a closing fence,
backticks in the middle of a line, blocks that are code by indentation alone.
"""

import html.parser
import pathlib
import re
import urllib.parse

from markdown_it import MarkdownIt

PARSER = MarkdownIt("commonmark").enable("table").enable("strikethrough")


class Attributes(html.parser.HTMLParser):
    """The links, pictures and ids of raw HTML."""

    def __init__(self):
        super().__init__()
        self.links, self.ids = [], set()

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("href", "src"):
                self.links.append(value or "")
            elif name in ("id", "name"):
                self.ids.add(value)


def plain(token):
    """What a heading shows, without its markup."""
    return "".join(child.content for child in token.children
                   if child.type in ("text", "code_inline"))


class Page:
    def __init__(self, path, text=None):
        self.path = pathlib.Path(path)
        self.text = self.path.read_text() if text is None else text
        self.lines = self.text.splitlines()
        self.faults, self.fences, self.headings = [], [], []
        self.links, self.spans, self.anchors = [], [], set()
        tokens = PARSER.parse(self.text)
        for at, token in enumerate(tokens):
            if token.type == "fence":
                self._fence(token)
            elif token.type == "code_block":
                self._fault(token.map[0], "code by indentation: write a fence that names its language")
            elif token.type == "html_block":
                self._html(token.content, token.map[0])
            elif token.type == "heading_open":
                self._heading(token, tokens[at + 1])
            elif token.type == "inline":
                self._inline(token)

    def _fault(self, line, what):
        self.faults.append((f"{self.path}:{line + 1}", what))

    def _fence(self, token):
        first, end = token.map
        last = self.lines[end - 1].lstrip("> \t").rstrip()
        mark, least = token.markup[0], len(token.markup)
        if end - first < 2 or set(last) != {mark} or len(last) < least:
            self._fault(first, "a fence that is never closed")
        for offset, line in enumerate(token.content.splitlines()):
            if re.match(rf"\s*{re.escape(mark)}{{{least},}}", line):
                self._fault(first + 1 + offset, f"text behind a closing fence: {line.strip()}")
        self.fences.append((f"{self.path}:{first + 1}", token.info.strip(), token.content))

    def _heading(self, token, inline):
        text = plain(inline)
        self.headings.append((int(token.tag[1:]), text))
        # GitHub's anchors; the second heading of a name ends in -1.
        slug = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
        name, count = slug, 0
        while name in self.anchors:
            count += 1
            name = f"{slug}-{count}"
        self.anchors.add(name)

    def _inline(self, token):
        line = token.map[0] if token.map else 0
        for child in token.children:
            if child.type == "link_open":
                self.links.append((line, child.attrs["href"]))
            elif child.type == "image":
                self.links.append((line, child.attrs["src"]))
            elif child.type == "html_inline":
                self._html(child.content, line)
            elif child.type == "code_inline":
                self.spans.append((f"{self.path}:{line + 1}", child.content))
                if len(child.markup) > 2:
                    self._fault(line, "a fence that does not begin its line")
            elif child.type == "text":
                if "```" in child.content or "~~~" in child.content:
                    self._fault(line, "a fence that does not begin its line")
                elif re.search(r"\]\s?[\[(]", child.content):
                    self._fault(line, f"a link that is none: {child.content}")
                elif "`" in child.content:
                    self._fault(line, f"a code span that is never closed: {child.content}")

    def _html(self, text, line):
        found = Attributes()
        found.feed(text)
        self.links += [(line, link) for link in found.links]
        self.anchors |= found.ids


def broken_links(pages):
    """Yields place and fault of every link to a file or heading that is not there."""
    known = {page.path.resolve(): page for page in pages}
    for page in pages:
        for line, link in page.links:
            where = f"{page.path}:{line + 1}"
            if re.match(r"(https?|mailto):", link):
                continue
            path, _, anchor = urllib.parse.unquote(link).partition("#")
            to = (page.path.parent / path if path else page.path).resolve()
            if not to.exists():
                yield where, f"link to {link}, which is not there"
            elif anchor and to.suffix == ".md":
                target = known.get(to) or Page(to)
                if anchor not in target.anchors:
                    yield where, f"link to {link}: no such heading"
