"""The frozen files in data/ are what their builders make, and what they say of themselves."""

import botocore
import pytest
from pyarrow.parquet import read_table

from helpers.data import DOMAINS, documentation_drafts, load_preferences
from helpers.files import REPOSITORY
from scripts.domains import house_style
from scripts.domains.aws_api import build_domain


@pytest.fixture(scope="module")
def built():
    return {"house-style": house_style.build_house_style(), "aws-api": build_domain()}


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_domain_is_what_its_builder_makes(built, domain):
    assert botocore.__version__ in (REPOSITORY / "data" / "README.md").read_text(), "another botocore: other operations"
    for split, rows in built[domain].items():
        assert load_preferences(domain, split).to_list() == rows.to_list()


def test_documentation_drafts_are_what_their_builder_makes():
    assert documentation_drafts().to_list() == house_style.documentation_drafts("heldout").to_list()


def test_the_page_gives_the_number_of_rows():
    page = (REPOSITORY / "data" / "README.md").read_text()
    for path in (REPOSITORY / "data").glob("*.parquet"):
        assert f"| `{path.name}` | {read_table(path).num_rows:,} |" in page


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_limit_is_a_seeded_sample_and_a_wrong_split_is_named(domain):
    first, again, other = (load_preferences(domain, limit=20, seed=seed)["prompt"] for seed in (1, 1, 2))
    assert first == again != other
    with pytest.raises(ValueError, match="split 'test' is not one of train, validation, heldout"):
        load_preferences(domain, "test")
