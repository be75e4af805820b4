"""A page of HTML as a tree, for tests that look at what it shows."""

import re
from html.parser import HTMLParser

VOID_TAGS = {"meta", "img", "line", "polyline", "br"}


class Node:
    """An element of a page: its tag, attributes, and children, which are elements and words."""

    def __init__(self, tag, attributes):
        self.tag, self.attributes, self.children = tag, dict(attributes), []

    def all(self, tag, kind=""):
        for child in self.children:
            if isinstance(child, Node):
                if child.tag == tag and kind in (child.attributes.get("class") or ""):
                    yield child
                yield from child.all(tag, kind)

    def one(self, tag, kind=""):
        return next(self.all(tag, kind))

    @property
    def text(self):
        words = "".join(child if isinstance(child, str) else child.text for child in self.children)
        # As a browser shows it: several blanks and line breaks are one.
        return re.sub(r"\s+", " ", words)

    @property
    def id(self):
        return self.attributes.get("id")

    def rows(self):
        """The cells of a table's rows."""
        return [
            [cell for cell in row.children if isinstance(cell, Node) and cell.tag in ("th", "td")]
            for row in self.all("tr")
        ]

    def texts(self):
        return [[cell.text for cell in row] for row in self.rows()]


class Builder(HTMLParser):
    """Builds the tree; every element must be closed, in its place."""

    def __init__(self):
        super().__init__()
        self.open = [Node("page", [])]

    def handle_starttag(self, tag, attributes):
        node = Node(tag, attributes)
        self.open[-1].children.append(node)
        if tag not in VOID_TAGS:
            self.open.append(node)

    def handle_startendtag(self, tag, attributes):
        self.open[-1].children.append(Node(tag, attributes))

    def handle_endtag(self, tag):
        assert self.open.pop().tag == tag

    def handle_data(self, data):
        self.open[-1].children.append(data)


def parse(text):
    builder = Builder()
    builder.feed(text)
    builder.close()
    assert len(builder.open) == 1
    return builder.open[0]
