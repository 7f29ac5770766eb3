"""Hooks of MkDocs.

The published figures and tables, which are outside docs/, are put into the site. Pages link to them as
`../results/published/...`, a path that also works where the repository is browsed.

Docstrings are plain text rather than Markdown: T* and results/<experiment> in them are shown as they are.
"""

from pathlib import Path

from markdown import Extension, Markdown
from markdown.inlinepatterns import SimpleTextInlineProcessor
from markdown.util import AtomicString
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
PUBLISHED = ROOT / "results" / "published"
LINK = "../results/published/"


class AsItIs(SimpleTextInlineProcessor):
    """The matched text, without a meaning in Markdown or HTML."""

    def handleMatch(self, m, data):
        return AtomicString(m[1]), m.start(0), m.end(0)


class PlainText(Extension):
    """Stars behind a single capital letter and subscripts of norms are no emphasis, words in angle brackets are no HTML."""

    def extendMarkdown(self, md: Markdown) -> None:
        md.inlinePatterns.register(AsItIs(r"(?<![A-Za-z])([A-Z]\*)"), "star", 175)
        md.inlinePatterns.register(AsItIs(r"(\|_\w)"), "subscript", 175)
        md.inlinePatterns.register(AsItIs(r"(<[a-z_]+>)"), "angle", 125)


def on_config(config, **_):
    config.markdown_extensions.append(PlainText())
    return config


def on_files(files: Files, config, **_) -> Files:
    """Add every published file as `published/...`."""
    for path in sorted(PUBLISHED.rglob("*")):
        if path.is_file():
            files.append(File.generated(config, f"published/{path.relative_to(PUBLISHED)}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, **_) -> str:
    """Links to published files, as the site has them."""
    return markdown.replace(f"]({LINK}", "](published/")
