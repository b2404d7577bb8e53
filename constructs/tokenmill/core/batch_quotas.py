"""What Bedrock takes as one batch inference job: a dated table of default quotas, and your account's own.

"Amazon Bedrock endpoints and quotas" (AWS General Reference) names them: minimum number of records per batch
inference job, records per batch inference job, batch inference input file size, sum of in-progress and
submitted batch inference jobs. They are quotas of a model, a region and an account.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from tokenmill.core._checks import as_whole, numeric
from tokenmill.core._tables import rows
from tokenmill.core.bedrock_profiles import split_profile
from tokenmill.core.errors import TokenmillError

ANY_MODEL = "*"
GIGABYTE = 1_000_000_000
# What an account's raised quota can reasonably be: a part's places are held in 128 MB of memory.
MOST_RECORDS = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchQuota:
    """Quotas of one batch inference job.

    Args:
        minimum_records: The fewest records that a job takes.
        records_per_job: The most records of a job, at least twice the fewest, so that any number of records
            can be cut into jobs.
        file_gb: The largest input file, in GB (10^9 bytes).
        jobs_at_once: Jobs of the model that may be submitted or under way at once.

    Raises:
        TokenmillError: If a number is out of its range.
    """

    minimum_records: int = 100
    records_per_job: int = 50_000
    file_gb: float = 1.0
    jobs_at_once: int = 10

    def __post_init__(self) -> None:
        as_whole(self, "minimum_records", "records_per_job", "jobs_at_once")
        numeric(self, "file_gb")
        if not 1 <= self.minimum_records <= MOST_RECORDS // 2:
            raise TokenmillError(
                f"minimum_records is {self.minimum_records}; it must be 1 to {MOST_RECORDS // 2:,}"
            )
        if not 2 * self.minimum_records <= self.records_per_job <= MOST_RECORDS:
            raise TokenmillError(
                f"records_per_job is {self.records_per_job} and minimum_records {self.minimum_records}; a "
                f"job's most records must be twice its fewest or more, and at most {MOST_RECORDS:,}"
            )
        if not 0.001 <= self.file_gb <= 100:
            raise TokenmillError(f"file_gb is {self.file_gb}; it must be 0.001 to 100")
        if not 1 <= self.jobs_at_once <= 1000:
            raise TokenmillError(f"jobs_at_once is {self.jobs_at_once}; it must be 1 to 1,000")

    @property
    def file_bytes(self) -> int:
        """The largest input file, in bytes."""
        return int(self.file_gb * GIGABYTE)


def batch_quota(model: str = ANY_MODEL) -> BatchQuota:
    """Return the default quotas of a model's jobs.

    Args:
        model: A Bedrock id; the quotas of most models otherwise.
    """
    table = _table()
    return table.get(split_profile(model)[1].split(":")[0], table[ANY_MODEL])


@functools.cache
def _table() -> dict[str, BatchQuota]:
    return {
        row["model"]: BatchQuota(
            minimum_records=int(row["minimum_records"]),
            records_per_job=int(row["records_per_job"]),
            file_gb=float(row["file_gb"]),
            jobs_at_once=int(row["jobs_at_once"]),
        )
        for row in rows("bedrock_batch_quotas.csv")
    }
