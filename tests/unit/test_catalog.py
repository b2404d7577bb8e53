"""What the catalog says of types, chips, weight formats and images, and the user's own prices over it."""

from __future__ import annotations

import csv
import datetime
import json
import os
from importlib import resources
from typing import TYPE_CHECKING, Any

import pytest

from tokenmill.core.errors import TokenmillError
from tokenmill.core.images import image_catalog, image_of, serving_image
from tokenmill.core.instances import (
    accelerator_catalog,
    instance_catalog,
    instance_type,
    known_instances,
    quantization_facts,
)
from tokenmill.core.model_formats import QUANTIZED_BYTES
from tokenmill.core.user_catalog import FILE_NAME, RegionCatalog, UserCatalog, find_user_catalog

if TYPE_CHECKING:
    from pathlib import Path

READ = UserCatalog(
    schema=1,
    date="2026-11-20",
    source="a price list",
    regions={
        "eu-west-1": RegionCatalog(
            prices={"ml.g6.xlarge": 1.3}, published="2026-11-01", unclear=("ml.g6.2xlarge",)
        )
    },
)


def test_every_accelerated_type_of_the_service_model_from_g5_on_is_known() -> None:
    """Hosting accepts them (botocore, ProductionVariantInstanceType); older chips are left out."""
    import botocore.session

    model = botocore.session.get_session().get_service_model("sagemaker")
    shape: Any = model.shape_for("ProductionVariantInstanceType")
    families = ("inf2", "trn", "g5", "g6", "g7", "p4", "p5", "p6")
    accepted = {name for name in shape.enum if name.split(".")[1].startswith(families)}
    assert set(instance_catalog()) == accepted
    assert {"ml.trn2.3xlarge", "ml.trn3.48xlarge"} & set(shape.enum) == set()


def test_a_type_that_was_only_measured_is_not_offered() -> None:
    """ml.trn2.3xlarge exists, but endpoints refuse it."""
    assert set(known_instances()) - set(instance_catalog()) == {"ml.trn2.3xlarge"}
    assert known_instances()["ml.trn2.3xlarge"].cores == 4
    with pytest.raises(
        TokenmillError, match=r"'ml.trn2.3xlarge' is not offered for hosting; nearest: ml.trn2.48xlarge"
    ):
        instance_type("ml.trn2.3xlarge")


def test_a_blackwell_card_has_the_memory_that_the_driver_shows() -> None:
    """183,359 MiB a B200 and 8 of them (aws/karpenter-provider-aws@1d92708: instance-types.md)."""
    item = instance_type("ml.p6-b200.48xlarge")
    assert (item.chips, item.accelerator.name) == (8, "B200")
    assert item.accelerator.memory_gib * 1024 == pytest.approx(183_359, rel=0.001)


@pytest.mark.parametrize(
    ("chip", "formats", "weight_only"),
    [
        ("Inferentia2", set(), set()),
        ("Trainium2", {"fp8"}, set()),
        ("A100-80GB", {"int8", "int4", "fp8", "mxfp4"}, {"int4", "fp8", "mxfp4"}),
        ("H100", {"int8", "int4", "fp8", "mxfp4"}, {"int4", "mxfp4"}),
        ("B200", {"int4", "fp8", "mxfp4", "nvfp4"}, {"int4"}),
    ],
)
def test_a_chip_runs_the_formats_that_its_server_documents(
    chip: str, formats: set[str], weight_only: set[str]
) -> None:
    """vLLM documentation: "Quantization"; vllm-neuron: features-guide.md; optimum-neuron: plain weights."""
    item = accelerator_catalog()[chip]
    assert set(item.quantizations) == formats
    assert set(item.weight_only) == weight_only


def test_every_fact_on_a_format_is_of_a_known_chip_and_format() -> None:
    """A misspelt row would say nothing to anyone."""
    for fact in quantization_facts():
        assert fact.accelerator in accelerator_catalog()
        assert fact.format in QUANTIZED_BYTES
        assert fact.use in ("computed", "stored", "refused")
        assert fact.source
        assert datetime.date.fromisoformat(fact.source_date)


def test_a_pair_of_chip_and_format_stands_once() -> None:
    """Two rows could disagree."""
    pairs = [(fact.accelerator, fact.format) for fact in quantization_facts()]
    assert len(pairs) == len(set(pairs))


def test_a_format_that_a_chip_runs_is_one_that_its_image_loads() -> None:
    """The planner asks both."""
    for name, chip in accelerator_catalog().items():
        assert set(chip.quantizations) <= set(image_of(name).quantizations)


def test_a_refused_pairing_serves_nothing_and_says_why() -> None:
    """GB200 hosts are arm64, no hosting type has Trainium3; B200 is only without evidence."""
    gb200 = serving_image(instance_type("ml.p6e-gb200.36xlarge"), "us-east-1")
    assert (gb200.servable, gb200.status) == (False, "refused")
    assert "arm64" in gb200.status_reason
    b200 = serving_image(instance_type("ml.p6-b200.48xlarge"))
    assert (b200.servable, b200.status) == (True, "experimental")
    assert image_of("H100").status == "documented"
    assert not image_of("Trainium3").servable


def test_every_pairing_names_a_known_chip_and_its_source() -> None:
    """Of the images' own chips, or of one that is refused outright."""
    for image in image_catalog().values():
        for pairing in image.pairings:
            assert pairing.accelerator in accelerator_catalog()
            assert pairing.status in ("refused", "experimental")
            assert pairing.accelerator in image.accelerators or pairing.status == "refused"
            assert pairing.source
            assert datetime.date.fromisoformat(pairing.source_date)


def test_a_price_row_is_of_a_known_type_and_stands_once() -> None:
    """A price of nothing would never be found."""
    text = resources.files("tokenmill.core").joinpath("data", "prices.csv").read_text(encoding="utf-8")
    keys = [(row["name"], row["region"]) for row in csv.DictReader(text.splitlines())]
    assert len(keys) == len(set(keys))
    assert {name for name, _ in keys} <= set(instance_catalog())


def test_where_no_source_speaks_of_a_region_nothing_is_known() -> None:
    """A price says that the type is offered; its absence says nothing."""
    item = instance_type("ml.p5.48xlarge")
    assert item.offered("us-west-2") is True
    assert item.offered("eu-west-1") is None


def test_a_users_prices_replace_the_shipped_ones_of_their_regions_only() -> None:
    """eu-west-1 was read: what it lists counts with its date, what it does not list is not offered there."""
    catalog = instance_catalog(READ)
    price = catalog["ml.g6.xlarge"].price("eu-west-1")
    assert price is not None
    assert (price.usd_per_hour, price.source_date) == (1.3, "2026-11-20")
    assert price.source == "a price list, published 2026-11-01"
    assert catalog["ml.g6.4xlarge"].offered("eu-west-1") is False
    assert catalog["ml.g6.2xlarge"].offered("eu-west-1") is None
    assert catalog["ml.g6.xlarge"].price("us-west-2") == instance_type("ml.g6.xlarge").price("us-west-2")


def test_a_region_that_was_read_keeps_no_shipped_price() -> None:
    """The shipped us-east-1 price of ml.g5.xlarge is gone where the user's list of us-east-1 lacks it."""
    regions = {"us-east-1": RegionCatalog(prices={}, published="2026-11-01")}
    own = UserCatalog(schema=1, date="2026-11-20", source="a price list", regions=regions)
    assert instance_type("ml.g5.xlarge").price("us-east-1") is not None
    assert instance_catalog(own)["ml.g5.xlarge"].price("us-east-1") is None


def test_a_catalog_file_reads_back_as_written(tmp_path: Path) -> None:
    """Beside the settings, readable for all, with nothing left over."""
    path = tmp_path / FILE_NAME
    assert find_user_catalog(tmp_path) is None
    READ.write(path)
    assert find_user_catalog(tmp_path) == READ
    assert path.stat().st_mode & 0o777 == 0o644
    assert [item.name for item in tmp_path.iterdir()] == [FILE_NAME]


def test_a_newer_reading_keeps_the_other_regions() -> None:
    """Only what was read again is replaced."""
    newer = UserCatalog(
        schema=1,
        date="2026-11-21",
        source="another list",
        regions={"us-east-1": RegionCatalog(prices={"ml.g6.xlarge": 1.1}, published="2026-11-02")},
    )
    both = READ.merged(newer)
    assert sorted(both.regions) == ["eu-west-1", "us-east-1"]
    assert (both.date, both.source) == ("2026-11-21", "another list")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new one is written aside and moved into place."""
    path = tmp_path / FILE_NAME
    path.write_text("old", encoding="utf-8")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        READ.write(path)
    assert path.read_text(encoding="utf-8") == "old"
    assert [item.name for item in tmp_path.iterdir()] == [FILE_NAME]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "schema must be 1, got 2"),
        ({"date": "yesterday"}, "date must be a day as YYYY-MM-DD, got 'yesterday'"),
        (
            {"regions": {"r": {"prices": {"ml.x": 0}, "published": "2026-11-01"}}},
            "price of ml.x must be above 0",
        ),
        ({"regions": {"r": {"prices": {"ml.x": 99999}, "published": "2026-11-01"}}}, "at most 10,000 USD/h"),
        ({"regions": {"r": {"prices": {}, "published": "?"}}}, "published must be a day as YYYY-MM-DD"),
        (
            {"regions": {"r": {"prices": {}, "published": "2026-11-01", "quotas": {"ml.x": -1}}}},
            "quota of ml.x must be 0 or more, got -1",
        ),
        (
            {"regions": {"r": {"prices": {"ml.x": "1"}, "published": "2026-11-01"}}},
            "must be a number, got '1'",
        ),
        ({"more": 1}, "unknown fields more"),
    ],
)
def test_fails_on_a_damaged_catalog_file(tmp_path: Path, change: dict[str, object], message: str) -> None:
    """The message names file and field."""
    path = tmp_path / FILE_NAME
    good = {"schema": 1, "date": "2026-11-20", "source": "s", "regions": {}}
    path.write_text(json.dumps(good | change), encoding="utf-8")
    with pytest.raises(TokenmillError, match=message) as caught:
        find_user_catalog(tmp_path)
    assert FILE_NAME in str(caught.value)


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[" * 100_000])
def test_fails_on_a_catalog_file_that_is_not_json(tmp_path: Path, content: bytes) -> None:
    """With the way out."""
    path = tmp_path / FILE_NAME
    path.write_bytes(content)
    with pytest.raises(TokenmillError, match="is not JSON; delete it and run `tokenmill catalog refresh`"):
        UserCatalog.read(path)


def test_fails_on_a_catalog_file_that_is_not_there(tmp_path: Path) -> None:
    """Asked for by name, absence is an error."""
    with pytest.raises(TokenmillError, match="does not exist; run `tokenmill catalog refresh`"):
        UserCatalog.read(tmp_path / FILE_NAME)
