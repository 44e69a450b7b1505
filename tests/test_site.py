"""`script/docs`: the site has every page, asks no other host for anything, and is found in."""

import re
from pathlib import Path

import pytest

from script.docs_tools.conf import chapters
from script.docs_tools.site import build
from tests.helpers.snippets import ROOT

# A whole site takes its time on a busy machine.
pytestmark = [
    pytest.mark.process, pytest.mark.slow, pytest.mark.nightly, pytest.mark.timeout(600)
]  # fmt: skip

# What a page loads by itself; a link is only followed by who clicks it.
_LOADED = re.compile(r"""<(?:script|img|iframe|link)\b[^>]*?(?:src|href)=["']([^"']+)""")
_STYLE = re.compile(r"""(?:url\(|@import )["']?([^"')]+)""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site") / "site"
    assert build(ROOT, target) == target / "index.html"
    return target


def test_the_front_page_leads_to_every_page(site: Path) -> None:
    front = (site / "docs" / "index.html").read_text("utf-8")
    assert 'url=docs/index.html"' in (site / "index.html").read_text("utf-8")
    decisions = (site / "docs" / "adr" / "README.html").read_text("utf-8")
    for page in (ROOT / "docs").rglob("*.md"):
        path = page.relative_to(ROOT / "docs").with_suffix(".html")
        assert (site / "docs" / path).is_file()
        if path.parts[0] != "adr":
            assert f'href="{path}"' in front or str(path) == "index.html", path
        elif path.name != "README.html":
            assert f'href="{path.name}"' in decisions, path


def test_no_page_asks_another_host_for_anything(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 60
    for path in pages:
        loaded = _LOADED.findall(path.read_text("utf-8"))
        assert not [each for each in loaded if "//" in each], path
    for path in site.rglob("*.css"):
        loaded = _STYLE.findall(path.read_text("utf-8"))
        assert not [each for each in loaded if "//" in each and not each.startswith("data:")], path


def test_words_are_found_without_a_server(site: Path) -> None:
    index = (site / "searchindex.js").read_text("utf-8")
    for word in ("redund", "docs/user-guide", "swarmclient"):
        assert word in index


def test_links_and_headings_that_are_wrong_stop_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    (root / "docs").mkdir(parents=True)
    (root / "docs" / "b.md").write_text("# B\n\n#### Too deep\n")
    wrong = "[away](nowhere.md), [to no heading](b.md#nothing)"
    (root / "docs" / "index.md").write_text(f"# Front\n\n{wrong}\n\n## All\n\n- [B](b.md)\n")
    with pytest.raises(SystemExit):
        build(root, tmp_path / "site")
    said = capfd.readouterr().err
    assert "'nowhere.md'" in said
    assert "'nothing'" in said
    assert "H1 to H4" in said


def test_the_chapters_are_the_headings_of_an_index_and_its_links() -> None:
    text = "# Title\n\n[no chapter](a.md)\n\n## One\n\n- [B](b.md), [there](b.md#part)\n\n## Two\n"
    assert chapters(text) == "\n```{toctree}\n:hidden:\n:caption: One\n\nB <b>\n```\n"
    assert chapters("# T\n\n- [A](a.md)\n") == "\n```{toctree}\n:hidden:\n\nA <a>\n```\n"
