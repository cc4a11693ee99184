"""Write data/house-style.parquet, data/aws-api.parquet and data/documentation-drafts.parquet again.

python -m scripts.domains

Another version of botocore describes other operations, and every recorded number belongs to the files as they are.
"""

import datasets
from pyarrow.parquet import write_table

from helpers.files import REPOSITORY
from scripts.domains.aws_api import build_domain
from scripts.domains.house_style import build_house_style, documentation_drafts


def in_one(splits: datasets.DatasetDict) -> datasets.Dataset:
    """All rows, with a first column that names their split."""
    named = [rows.add_column("split", [name] * len(rows)) for name, rows in splits.items()]
    return datasets.concatenate_datasets(named)


def main() -> None:
    """Build each domain and write it."""
    built = {
        "aws-api": in_one(build_domain()),
        "house-style": in_one(build_house_style()),
        "documentation-drafts": documentation_drafts("heldout"),
    }
    for name, rows in built.items():
        target = REPOSITORY / "data" / f"{name}.parquet"
        write_table(rows.flatten_indices().data.table.combine_chunks(), target, compression="zstd")
        print(f"{target.name}: {len(rows)} rows, {target.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
