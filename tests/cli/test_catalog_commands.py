"""`tokenmill catalog show` and `refresh`, the latter against a fake price list over real HTTP."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import typer
from botocore.stub import Stubber
from typer.testing import CliRunner, Result

from tokenmill.cli import catalog
from tokenmill.core.errors import TokenmillError
from tokenmill.core.price_list import endpoint_quotas, hosting_catalog
from tokenmill.core.user_catalog import FILE_NAME, UserCatalog

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAMES = ("ml.g6.xlarge", "ml.g6.2xlarge")


def product(name: str = "ml.g6.xlarge", usd: str = "1.1267000000", **change: Any) -> dict[str, Any]:
    """Return a product in the form of the price list (AWS documentation: "Using the AWS Price List API")."""
    attributes = {
        "regionCode": "us-west-2",
        "component": "Hosting",
        "instanceName": name,
        "usagetype": f"USW2-Host:{name}",
    }
    dimension = {"unit": "Hrs", "pricePerUnit": {"USD": usd}, "description": "an hour"}
    found = {
        "product": {"productFamily": "ML Instance", "sku": "S", "attributes": attributes},
        "serviceCode": "AmazonSageMaker",
        "terms": {"OnDemand": {"S.T": {"priceDimensions": {"S.T.D": dimension}}}},
        "publicationDate": "2026-11-20T04:33:34Z",
    }
    return found | change


@dataclass
class FakeAws:
    """Pages that the fake gives, and the requests that it got."""

    pages: list[list[Any]] = field(default_factory=lambda: [[product()]])
    quotas: list[dict[str, Any]] = field(default_factory=list)
    refusal: tuple[int, str] | None = None
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def answer(self, target: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.requests.append((target, body))
        if self.refusal:
            return self.refusal[0], {"__type": self.refusal[1], "message": "no"}
        if target == "ServiceQuotasV20190624.ListServiceQuotas":
            return 200, {"Quotas": self.quotas}
        number = int(body.get("NextToken", "0"))
        more = {"NextToken": str(number + 1)} if number + 1 < len(self.pages) else {}
        items = [item if isinstance(item, str) else json.dumps(item) for item in self.pages[number]]
        return 200, {"FormatVersion": "aws_v1", "PriceList": items, **more}


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAws]:
    """A fake on a loopback port that boto3 finds through its own endpoint variables."""
    fake = FakeAws()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, answer = fake.answer(self.headers["X-Amz-Target"], body)
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("AWS_ENDPOINT_URL_PRICING", address)
        monkeypatch.setenv("AWS_ENDPOINT_URL_SERVICE_QUOTAS", address)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "fake")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "fake")
        yield fake
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, without the machine's AWS."""
    for name in (
        "AWS_PROFILE",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_REGION",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Result:
    app = typer.Typer()
    app.callback()(lambda: None)
    catalog.register(app)
    return CliRunner().invoke(app, ["catalog", *arguments])


def failure(*arguments: str) -> str:
    error = run(*arguments).exception
    assert isinstance(error, TokenmillError)
    return str(error)


def test_show_marks_what_is_missing_and_names_the_sources() -> None:
    """us-east-1: ml.g6.2xlarge has a price with date and source, ml.g6.xlarge has none."""
    text = run("show", "--region", "us-east-1", "--family", "g6").stdout
    lines = {line.split()[0]: line for line in text.splitlines() if line.startswith("ml.")}
    assert "no price" in lines["ml.g6.xlarge"]
    assert "1.222" in lines["ml.g6.2xlarge"]
    assert "2026-08-01" in lines["ml.g6.2xlarge"]
    assert "checked against AWS price list 2026-08" in text
    assert "L40S" not in text


def test_show_refuses_a_region_that_no_catalog_knows() -> None:
    """A table without one price would look like an answer."""
    assert "region 'mars' has neither images nor prices in the catalogs" in failure(
        "show", "--region", "mars"
    )


def test_show_marks_an_old_price() -> None:
    """The us-east-1 price of inf2 is of April 2025."""
    text = run("show", "--family", "inf2").stdout
    assert "2025-04-11 (old)" in text
    assert "fp8 refused" in text


def test_catalog_without_a_command_shows_everything() -> None:
    """With what hosting does not accept, and every chip, measured-only ones included."""
    text = run().stdout
    assert "ml.trn2.3xlarge is known, but hosting does not accept it" in text
    assert "Trainium3" in text
    assert "GB200" in text


def test_the_json_document_holds_the_same() -> None:
    """Machines filter for themselves."""
    found = json.loads(run("show", "--json", "--family", "p6*").stdout)
    assert [item["name"] for item in found["instances"]] == [
        "ml.p6-b200.48xlarge",
        "ml.p6-b300.48xlarge",
        "ml.p6e-gb200.36xlarge",
    ]
    assert found["instances"][0]["prices"] == {}
    status = {row["accelerator"]: row["status"] for row in found["images"]}
    assert status == {"B200": "experimental", "B300": "experimental", "GB200": "refused"}
    assert {fact["format"] for fact in found["accelerators"][0]["formats"]} == {
        "int4",
        "fp8",
        "mxfp4",
        "nvfp4",
    }


def test_fails_on_a_family_that_is_not_there() -> None:
    assert failure("show", "--family", "g9").startswith("no family matches g9; known: g5, g6")


def test_refresh_writes_what_the_price_list_says(aws: FakeAws, folder: Path) -> None:
    """Two pages; other components, regions, unknown types and reservations are passed over."""
    other = product("ml.g6.4xlarge")
    other["product"]["attributes"]["component"] = "Training"
    reserved = product("ml.g6.8xlarge", terms={"Reserved": {}})
    aws.pages = [
        [product(), other, product("ml.unknown.xlarge")],
        [product("ml.g6.2xlarge", "1.2220000000"), reserved],
    ]
    done = run("refresh", "--region", "us-west-2")
    assert done.exception is None, done.exception
    assert "us-west-2: 2 hosting prices, published 2026-11-20" in done.stdout
    own = UserCatalog.read(folder / FILE_NAME)
    assert own.regions["us-west-2"].prices == {"ml.g6.xlarge": 1.1267, "ml.g6.2xlarge": 1.222}
    filters = aws.requests[0][1]["Filters"]
    assert {item["Field"]: item["Value"] for item in filters} == {
        "regionCode": "us-west-2",
        "component": "Hosting",
    }
    shown = run("show", "--region", "us-west-2", "--family", "g6").stdout
    assert "1.1267" in shown
    assert "not offered" in shown


def test_refresh_keeps_regions_that_it_does_not_read(aws: FakeAws, folder: Path) -> None:
    run("refresh", "--region", "us-west-2")
    elsewhere = product()
    elsewhere["product"]["attributes"]["regionCode"] = "eu-west-1"
    aws.pages = [[elsewhere]]
    done = run("refresh", "--region", "eu-west-1", "--json")
    document = json.loads(done.stdout)
    assert list(document["regions"]) == ["eu-west-1"]
    assert sorted(UserCatalog.read(folder / FILE_NAME).regions) == ["eu-west-1", "us-west-2"]


def test_refresh_reads_the_regions_of_the_settings(aws: FakeAws, folder: Path) -> None:
    text = '[chat]\nmodel = "Qwen/Qwen3-8B"\nregion = "us-west-2"\n[chat.traffic]\nrequests_per_second = 1\n'
    text += "input_tokens = 10\noutput_tokens = 10\n[chat.slo]\nttft_ms = 1000\nitl_ms = 50\n"
    (folder / "tokenmill.toml").write_text(text, encoding="utf-8")
    assert run("refresh").exception is None
    assert list(UserCatalog.read(folder / FILE_NAME).regions) == ["us-west-2"]


def test_refresh_reads_quotas_where_asked(aws: FakeAws, folder: Path) -> None:
    """One quota an instance type, named by it (AWS documentation: SageMaker quotas)."""
    aws.quotas = [
        {"QuotaName": "ml.g6.xlarge for endpoint usage", "Value": 4.0},
        {"QuotaName": "ml.g6.xlarge for training job usage", "Value": 9.0},
        {"QuotaName": "ml.zz.xlarge for endpoint usage", "Value": 1.0},
        {"QuotaName": "ml.g6.2xlarge for endpoint usage"},
        {},
    ]
    assert run("refresh", "--region", "us-west-2", "--quotas").exception is None
    assert UserCatalog.read(folder / FILE_NAME).regions["us-west-2"].quotas == {"ml.g6.xlarge": 4.0}


def test_a_type_with_two_prices_is_left_out_and_named(aws: FakeAws, folder: Path) -> None:
    """Which of them counts cannot be told from here."""
    aws.pages = [[product(), product(usd="0.5"), product("ml.g6.2xlarge")]]
    text = run("refresh", "--region", "us-west-2").stdout
    assert "us-west-2: ml.g6.xlarge has more than one price; give --price ml.g6.xlarge=USD" in text
    found = UserCatalog.read(folder / FILE_NAME).regions["us-west-2"]
    assert (list(found.prices), found.unclear) == (["ml.g6.2xlarge"], ("ml.g6.xlarge",))


BAD = product()
BAD_PRICE = "not US dollars above 0"


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("{", "a product of the price list is not a JSON object: '{'"),
        ("[1]", "a product of the price list is not a JSON object"),
        ("[" * 100_000, "a product of the price list is not a JSON object"),
        ({"product": []}, "lacks product.attributes"),
        (BAD | {"terms": None}, "lacks terms"),
        (BAD | {"terms": {"OnDemand": {"a": {}}}}, "lacks offer.priceDimensions"),
        (BAD | {"terms": {"OnDemand": {"a": {"priceDimensions": {"d": {"unit": "Hrs"}}}}}}, "pricePerUnit"),
        (BAD | {"terms": {"OnDemand": {"a": {"priceDimensions": {}}}}}, "has 0 hourly on-demand prices"),
        (product(usd="free"), BAD_PRICE),
        (product(usd="0"), BAD_PRICE),
        (product(usd="nan"), BAD_PRICE),
        (product(usd="999999"), BAD_PRICE),
        (BAD | {"publicationDate": None}, "has no publicationDate"),
    ],
)
def test_fails_on_a_product_of_another_form(aws: FakeAws, folder: Path, item: Any, message: str) -> None:
    """Nothing is written."""
    aws.pages = [[item]]
    assert message in failure("refresh", "--region", "us-west-2")
    assert not (folder / FILE_NAME).exists()


def test_fails_where_the_region_has_no_hosting_price(aws: FakeAws) -> None:
    aws.pages = [[]]
    assert "no hosting price for any known instance type in region 'moon-1'" in failure(
        "refresh", "--region", "moon-1"
    )


def test_fails_without_permission(aws: FakeAws) -> None:
    """The message names the action to allow."""
    aws.refusal = (400, "AccessDeniedException")
    assert "may not call pricing:GetProducts" in failure("refresh", "--region", "us-west-2")


def test_fails_with_the_services_own_reason(aws: FakeAws) -> None:
    aws.refusal = (400, "InvalidParameterException")
    expected = "pricing:GetProducts failed with InvalidParameterException: no"
    assert failure("refresh", "--region", "us-west-2") == expected


def test_fails_without_credentials() -> None:
    assert "no aws credentials found" in failure("refresh", "--region", "us-west-2")


def test_fails_where_aws_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "fake")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "fake")
    monkeypatch.setenv("AWS_ENDPOINT_URL_PRICING", "http://127.0.0.1:9")
    assert failure("refresh", "--region", "us-west-2").startswith("cannot reach aws")


def test_fails_on_an_unusable_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "none")
    assert "aws cannot be asked" in failure("refresh", "--region", "us-west-2")


def test_fails_without_settings_or_region() -> None:
    assert failure("refresh").endswith("does not exist; give --region")


def test_fails_for_china_whose_prices_are_in_cny() -> None:
    assert "are in CNY" in failure("refresh", "--region", "cn-north-1")


def test_fails_on_a_damaged_file_before_anything_is_asked(aws: FakeAws, folder: Path) -> None:
    (folder / FILE_NAME).write_text("{", encoding="utf-8")
    assert "is not JSON; delete it" in failure("refresh", "--region", "us-west-2")
    assert aws.requests == []


def ignore(number: int) -> None:
    """Take progress."""


def stubbed(service: Any, operation: str, *answers: dict[str, Any]) -> Any:
    """Return a client that gives answers which botocore's own validator accepts."""
    client = boto3.client(service, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
    stub = Stubber(client)
    for answer in answers:
        stub.add_response(operation, answer)
    stub.activate()
    return client


def test_what_is_read_is_a_valid_answer() -> None:
    """botocore's Stubber refuses answers that are not of the service model."""
    answer = {"FormatVersion": "aws_v1", "PriceList": [json.dumps(product())]}
    client = stubbed("pricing", "get_products", answer)
    assert hosting_catalog(client, "us-west-2", NAMES, ignore).prices == {"ml.g6.xlarge": 1.1267}


def test_quotas_are_read_from_a_valid_answer() -> None:
    quota = {"QuotaName": "ml.g6.xlarge for endpoint usage", "Value": 2.0, "QuotaCode": "L-1"}
    client = stubbed("service-quotas", "list_service_quotas", {"Quotas": [quota]})
    assert endpoint_quotas(client, NAMES, ignore) == {"ml.g6.xlarge": 2.0}


def test_fails_on_an_answer_of_another_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that is none would otherwise be read letter by letter."""
    client = boto3.client(
        "pricing", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    monkeypatch.setattr(client, "get_products", lambda **arguments: {"PriceList": "text"})
    with pytest.raises(
        TokenmillError, match="the answer of GetProducts is not of the API's form: Invalid type"
    ):
        hosting_catalog(client, "us-west-2", NAMES, ignore)


def test_fails_where_pages_go_round(monkeypatch: pytest.MonkeyPatch) -> None:
    client = boto3.client(
        "pricing", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    monkeypatch.setattr(client, "get_products", lambda **arguments: {"PriceList": [], "NextToken": "1"})
    with pytest.raises(TokenmillError, match="GetProducts gave the same page twice"):
        hosting_catalog(client, "us-west-2", NAMES, ignore)
