"""Markdown as HTML that may stand in the page: no tags of the writer's own, links to the web alone,
and of pictures those that lie beside the file."""

from urllib.parse import unquote

from support.page import pictures

from markdown_it import MarkdownIt
from markupsafe import Markup, escape

ADDRESSES = ("https://", "http://", "mailto:")
HEADING = "h5"  # of an answer: its question has h4


def markup(text, record):
    """The HTML of a text. record: a Record of the folder that its pictures lie in."""
    return _rendered(text, record, MarkdownIt.parse)


def inline(text, record):
    """The same for a text that is no paragraph."""
    return _rendered(text, record, MarkdownIt.parseInline)


def _rendered(text, record, parse):
    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    reader.validateLink = lambda address: True  # what is no address of the web is left out below
    reader.add_render_rule("image", _picture)
    env = {"record": record}
    tokens = parse(reader, text, env)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = HEADING
        _keep_links_to_the_web(token.children or ())
    return Markup(reader.renderer.render(tokens, reader.options, env))


def _keep_links_to_the_web(tokens):
    is_kept = False
    for token in tokens:
        if token.type == "link_open":  # there is no link within a link
            is_kept = token.attrs["href"].lower().startswith(ADDRESSES)
            token.attrs["rel"] = "noreferrer"
        token.hidden = token.type in ("link_open", "link_close") and not is_kept


def _picture(renderer, tokens, index, options, env):
    """A PNG file in the folder as part of the page; a sentence in place of all others."""
    token, record = tokens[index], env["record"]
    alt = renderer.renderInlineAsText(token.children or [], options, env)
    name = unquote(token.attrs["src"])
    picture = _in_folder(record.folder, name) and pictures.image(record, name)
    if not picture:
        return escape(f"[{alt or name}: only PNG files beside the answers are shown]")
    address, width, height = picture.values()
    shown = Markup('<img src="{}" width="{}" height="{}" alt="{}">')
    return shown.format(address, width, height, alt)


def _in_folder(folder, name):
    try:
        path = (folder / name).resolve()
        return path.is_relative_to(folder.resolve()) and path.is_file()
    except (OSError, ValueError):  # no name that a file can have
        return False
