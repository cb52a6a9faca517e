"""Every page and section that code, settings and docs cite is in the repository, so that users can open it."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
SOURCES = sorted(
    path
    for pattern in (
        "advalign/**/*.py", "advalign/**/*.j2", "advalign/**/*.yaml", "pipelines/*.py", "benchmarks/*.py",
        "experiments/**/*.yaml", "registry/**/*.yaml", "*.yaml", "*.toml", "Makefile",
    )
    for path in REPOSITORY.glob(pattern)
)  # fmt: skip
PAGE = re.compile(r"[\w./-]*\w\.md\b(?:, sections? (.{0,80}))?")
LINK = re.compile(r"\]\(([\w./-]*)#([\w-]+)\)")


def plain(text: str) -> str:
    """The text on one line, without the marks of comments."""
    return re.sub(r"\s+(?:#\s*)?", " ", text)


def headings(page: Path) -> list[str]:
    """A page's headings, without its title and what code blocks hold."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"^##+ (.+)$", text, re.MULTILINE)


def anchor(heading: str) -> str:
    """A heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def starts_with_a_heading(said: str, page: Path) -> bool:
    """Whether the words after "section" begin with one of the page's headings and end there."""
    return any(re.match(re.escape(heading) + r"(?![\w ])", said) for heading in headings(page))


@pytest.mark.parametrize("source", SOURCES, ids=[str(path.relative_to(REPOSITORY)) for path in SOURCES])
def test_cited_pages_and_sections_exist(source):
    text = plain(source.read_text())
    for found in PAGE.finditer(text):
        page = REPOSITORY / found[0].split(",")[0]
        if "outputs" in page.parts:  # what a command writes
            continue
        assert page.is_file(), f"cites {found[0]!r}, which is not in the repository"
        assert found[1] is None or starts_with_a_heading(found[1], page), f"{page.name} has no section {found[1]!r}"
    assert not re.search(r"\((?:methods|contract|spec)[:,] [\w ]+\)", text), "cites a page without saying which"


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_links_to_sections_lead_to_headings(page):
    for target, section in LINK.findall(page.read_text()):
        linked = (page.parent / target) if target else page
        assert section in map(anchor, headings(linked)), f"links to {target}#{section}"


def test_sections_are_recognised_to_their_end():
    page = REPOSITORY / "docs" / "methods.md"
    assert starts_with_a_heading("Attack space), so that norms compare", page)
    assert not starts_with_a_heading("Attack", page)
    assert not starts_with_a_heading("Attack spaces", page)
