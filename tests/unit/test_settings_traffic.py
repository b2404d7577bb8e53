"""The traffic table: means, percentiles, a trace, and what goes with them."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest

from support_planner import CALIBRATION
from tokenmill.core.errors import SettingsError, TokenmillError
from tokenmill.core.settings import load_settings, read_plan
from tokenmill.core.user_catalog import RegionCatalog, UserCatalog
from tokenmill.core.workload import SpeculativeDecoding, TokenSpread
from tokenmill.planner import plan_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tokenmill.core.settings import StackSettings

    SettingsFile = Callable[..., Path]

RATE = "requests_per_second = 2"
MEANS = f"{RATE}\ninput_tokens = 512\noutput_tokens = 256"
TRACE = "arrival_s,input_tokens,output_tokens\n" + "".join(f"{n},{400 + n},{100 + n}\n" for n in range(60))


def chat(path: Path) -> StackSettings:
    """Return the [chat] section."""
    return load_settings(path)["chat"]


def problems(path: Path) -> tuple[str, ...]:
    """Return what is wrong with a settings file."""
    with pytest.raises(SettingsError) as caught:
        load_settings(path)
    return caught.value.problems


def test_percentiles_stand_beside_means_or_for_them(settings_file: SettingsFile) -> None:
    """Without a mean the lognormal length of these percentiles gives it."""
    text = f"{RATE}\ninput_tokens_p50 = 400\ninput_tokens_p95 = 2000\noutput_tokens = 256\n"
    spread = TokenSpread.lognormal(p50=400, p95=2000)
    load = chat(settings_file((MEANS, text))).workload
    assert (load.input_spread, load.output_spread) == (spread, None)
    assert load.input_tokens == spread.lognormal_mean
    both = chat(settings_file((MEANS, text + "input_tokens = 700\n"))).workload
    assert (both.input_spread, both.input_tokens) == (spread, 700)


def test_caches_bursts_and_drafts_are_inputs(settings_file: SettingsFile) -> None:
    """All of them end in the workload and so in the digest of the inputs."""
    more = "\nprefix_cache_share = 0.4\nburstiness = 2\nspeculative = { tokens = 4, acceptance = 0.7 }"
    plain = chat(settings_file())
    path = settings_file((MEANS, MEANS + more))
    load = chat(path).workload
    assert (load.prefix_cache_share, load.burstiness) == (0.4, 2.0)
    assert load.speculative == SpeculativeDecoding(tokens=4, acceptance=0.7)
    assert chat(path).input_hash != plain.input_hash


def test_a_trace_gives_the_peak_hour(settings_file: SettingsFile) -> None:
    """Its path starts at the settings file; gzip or not is the same trace and the same digest of inputs."""
    path = settings_file((MEANS, 'trace = "t.csv"'))
    (path.parent / "t.csv").write_text(TRACE)
    first = chat(path)
    assert first.workload.requests_per_second == pytest.approx(60 / 59, rel=1e-5)
    assert (first.workload.input_tokens, first.workload.output_tokens) == (430, 130)
    assert first.workload.burstiness == 0
    (path.parent / "t.csv").unlink()
    path = settings_file((MEANS, 'trace = "elsewhere.csv.gz"'))
    (path.parent / "elsewhere.csv.gz").write_bytes(gzip.compress(TRACE.encode()))
    assert chat(path).workload == first.workload
    assert chat(path).input_hash == first.input_hash


def test_a_trace_that_changes_is_a_changed_input(settings_file: SettingsFile) -> None:
    """Even where every number that is taken from it stays."""
    path = settings_file((MEANS, 'trace = "t.csv"'))
    (path.parent / "t.csv").write_text(TRACE)
    before = chat(path).input_hash
    (path.parent / "t.csv").write_text(TRACE.replace("0,400,100", "0.0,400,100"))
    assert chat(path).input_hash != before


def test_a_key_wins_over_the_trace(settings_file: SettingsFile) -> None:
    """A rate for next year, with this year's requests."""
    path = settings_file(
        (MEANS, 'trace = "t.csv"\nrequests_per_second = 50\nburstiness = 3\ninput_tokens = 900')
    )
    (path.parent / "t.csv").write_text(TRACE)
    load = chat(path).workload
    assert (load.requests_per_second, load.burstiness, load.input_tokens) == (50.0, 3.0, 900)
    assert (load.output_tokens, load.trace_digest != "") == (130, True)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            f"{RATE}\noutput_tokens = 256",
            ("missing key chat.traffic.input_tokens; it must be a whole number",),
        ),
        (
            f"{MEANS}\ninput_tokens_p95 = 900",
            ("chat.traffic.input_tokens_p50 is missing; p50 and p95 go together",),
        ),
        (
            f"{MEANS}\noutput_tokens_p50 = 900\noutput_tokens_p95 = 0",
            ("chat.traffic.output_tokens_p50 and p95: p50 must be 0 or more",),
        ),
        (f"{MEANS}\ntrce = 'x'", ("unknown key chat.traffic.trce; did you mean trace?",)),
        (f"{MEANS}\nspeculative = 3", ("chat.traffic.speculative must be a table, got 3",)),
        (
            f"{MEANS}\nspeculative = {{ tokens = 3, acceptence = 0.5 }}",
            (
                "unknown key chat.traffic.speculative.acceptence; did you mean acceptance?",
                "missing key chat.traffic.speculative.acceptance; it must be a number",
            ),
        ),
        (
            f"{MEANS}\nspeculative = {{ tokens = 3, acceptance = 70 }}",
            ("chat.traffic.speculative.acceptance must be 0 to 1, got 70",),
        ),
        (
            f"{MEANS}\nprefix_cache_share = 1.0",
            ("chat.traffic.prefix_cache_share must be 0 or more and below 1",),
        ),
        ("trace = 'none.csv'", ("chat.traffic.trace ",)),
        (
            MEANS.replace("= 2\n", "= nan\n"),
            ("chat.traffic.requests_per_second must be above 0, got nan",),
        ),
    ],
)
def test_fails_for_a_bad_traffic_table(
    settings_file: SettingsFile, text: str, found: tuple[str, ...]
) -> None:
    """Every mistake with its key."""
    said = problems(settings_file((MEANS, text)))
    assert len(said) == len(found)
    assert all(sentence.startswith(start) for sentence, start in zip(said, found, strict=True))


def test_limits_name_formats_and_experiments(settings_file: SettingsFile) -> None:
    """A format that does not exist is refused with those that do."""
    old = 'instances = ["ml.inf2.*"]'
    limits = chat(
        settings_file((old, 'quantizations = ["as-published", "fp8"]\nallow_experimental = true'))
    ).limits
    assert limits.quantizations == ("as-published", "fp8")
    assert limits.allow_experimental
    (said,) = problems(settings_file((old, 'quantizations = ["fp9"]')))
    assert said.startswith(
        "chat.limits.quantizations must be a list of as-published, fp8, int8, int4, got ['fp9']"
    )


def test_a_calibration_beside_the_settings_counts(settings_file: SettingsFile) -> None:
    """Planning picks it up; taking it away, or another one, changes the inputs; its date and name do not."""
    section = chat(settings_file())
    CALIBRATION.write(section.calibration_path)
    assert section.calibration == CALIBRATION
    made = plan_for(section)
    made.write(section.plan_path)
    assert read_plan(section) == (made, ())
    assert made.calibration == CALIBRATION
    from dataclasses import replace

    replace(CALIBRATION, date="2027-01-01", source="other.csv").write(section.calibration_path)
    read_plan(section)
    replace(CALIBRATION, tensor=8).write(section.calibration_path)
    with pytest.raises(TokenmillError, match=r"limits, backend or calibration\)"):
        read_plan(section)
    section.calibration_path.unlink()
    with pytest.raises(TokenmillError, match="other inputs"):
        read_plan(section)


def test_a_plan_without_the_calibration_that_it_was_made_with_was_edited(settings_file: SettingsFile) -> None:
    """The digest of the inputs alone would not tell."""
    section = chat(settings_file())
    CALIBRATION.write(section.calibration_path)
    plan_for(section).write(section.plan_path)
    text = section.plan_path.read_text()
    section.plan_path.write_text(text.replace('"factor": 1.5', '"factor": 0.5'))
    with pytest.raises(TokenmillError, match="was edited by hand: its calibration is not"):
        read_plan(section)


def test_a_catalog_of_your_own_that_is_renewed_only_warns(settings_file: SettingsFile) -> None:
    """As a shipped one does."""
    section = chat(settings_file())
    regions = {"us-east-1": RegionCatalog(prices={"ml.inf2.24xlarge": 7.0}, published="2026-10-30")}
    path = section.path.parent / "tokenmill.catalog.json"
    UserCatalog(schema=1, date="2026-11-01", source="AWS Price List", regions=regions).write(path)
    made = plan_for(section)
    made.write(section.plan_path)
    assert made.chosen.usd_per_hour == pytest.approx(7.0 * made.chosen.instances)
    UserCatalog(schema=1, date="2026-11-09", source="AWS Price List", regions=regions).write(path)
    (said,) = read_plan(section)[1]
    assert "your catalog 2026-11-01 -> 2026-11-09" in said
