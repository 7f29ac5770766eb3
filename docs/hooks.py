"""A hook of MkDocs: puts the published figures and tables, which lie outside docs/, into the site.

Pages link to them as `../results/published/...`, a path that also works where the repository is browsed.
"""

from pathlib import Path

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
PUBLISHED = ROOT / "results" / "published"
LINK = "../results/published/"


def on_files(files: Files, config, **_) -> Files:
    """Add every published file as `published/...`."""
    for path in sorted(PUBLISHED.rglob("*")):
        if path.is_file():
            files.append(File.generated(config, f"published/{path.relative_to(PUBLISHED)}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, **_) -> str:
    """Links to published files, as the site has them."""
    return markdown.replace(f"]({LINK}", "](published/")
