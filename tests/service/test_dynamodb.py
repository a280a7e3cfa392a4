"""hello on DynamoDB: requests never scan the table, startup without the endpoint, export to S3."""

import os
import re
import subprocess
import time
from pathlib import Path
from urllib.request import Request, urlopen

from tests.conftest import Serve
from tests.support.commands import hello
from tests.support.dynamodb import CREDENTIALS, call
from tests.support.dynamodb_proxy import Proxy, always, forward
from tests.support.environment import HELLO, ROOT, need, until
from tests.support.service import letters

LATE = 2.0  # seconds that a busy machine may add to a timeout
SECRET = CREDENTIALS["AWS_SECRET_ACCESS_KEY"]


def test_birthdays_over_http_never_scan(dynamodb_url: str, proxy: Proxy, serve: Serve) -> None:
    """The list of birthdays and the calendar ask the index; the list of all people goes over the table."""
    service = serve(environment={"HELLO_STORE": dynamodb_url})
    for number in range(20):
        assert service.put(letters(number), f"1990-04-{number + 1:02}").status == 204
    proxy.answered.clear()
    assert len(service.get("/birthdays?days=366").json()["birthdays"]) == 20
    assert service.get("/birthdays.ics").body.count(b"BEGIN:VEVENT") == 20
    assert set(proxy.actions) == {"Query"}
    assert len(service.get("/hello").json()["people"]) == 20
    assert "Scan" in proxy.actions


def test_an_export_to_s3_comes_back_as_people(moto_url: str, moto_server: str, tmp_path: Path) -> None:
    """What DynamoDB has exported the command of docs/dynamodb.md imports: everyone, and not the schema."""
    people = ROOT / "examples" / "people.csv"
    loaded = hello("import", str(people), folder=tmp_path, environment={"HELLO_STORE": moto_url})
    assert loaded.returncode == 0
    bucket = f"{moto_server}/hello-exports"
    allowed = {"Authorization": "AWS4-HMAC-SHA256 Credential=test/20261124/us-east-1/s3/aws4_request"}
    with urlopen(Request(bucket, headers=allowed, method="PUT")):
        pass
    table = call(moto_url, "DescribeTable")["Table"]["TableArn"]
    export = {
        "TableArn": table,
        "S3Bucket": "hello-exports",
        "S3Prefix": "hello",
        "ExportFormat": "DYNAMODB_JSON",
    }
    arn = call(moto_url, "ExportTableToPointInTime", **export)["ExportDescription"]["ExportArn"]

    def exported() -> bool:
        status = call(moto_url, "DescribeExport", ExportArn=arn)["ExportDescription"]["ExportStatus"]
        assert status != "FAILED"
        return bool(status == "COMPLETED")

    until(exported, "DynamoDB to export")
    with urlopen(Request(bucket, headers=allowed)) as listing:
        [key] = re.findall("<Key>(.+?[.]gz)</Key>", listing.read().decode())
    with urlopen(Request(f"{bucket}/{key}", headers=allowed)) as file:
        (tmp_path / "data.json.gz").write_bytes(file.read())
    (command,) = re.findall("^zcat .+$", (ROOT / "docs" / "dynamodb.md").read_text(), re.MULTILINE)
    need("jq")
    moved = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{HELLO.parent}:{os.environ['PATH']}", "HELLO_STORE": "sqlite:///new.db"},
        capture_output=True,
        check=False,
    )
    assert (moved.returncode, moved.stderr) == (0, loaded.stderr), "the count and the digest are the same"


RECOVERY_SECONDS = 2.0


def test_a_service_starts_without_its_endpoint_and_finds_it_later(
    dynamodb_url: str, proxy: Proxy, serve: Serve
) -> None:
    """Liveness is 200 and readiness 503; requests for people get 503 with Retry-After until it is there."""
    proxy.stop()
    service = serve("--store-timeout", "0.5", environment={"HELLO_STORE": dynamodb_url})
    assert any("can't be reached yet" in entry.get("message", "") for entry in service.log())

    def away() -> None:
        assert service.get("/hc").status == 200
        assert service.get("/ready").status == 503
        for answer in (service.get("/hello/zoe"), service.put("zoe", "1990-04-23")):
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
            assert answer.headers["Content-Type"] == "application/problem+json"

    def back() -> None:
        begin = time.monotonic()
        until(lambda: service.get("/ready").status == 200, "the service to be ready")
        assert time.monotonic() - begin < RECOVERY_SECONDS + LATE

    away()
    proxy.start()
    back()
    assert service.put("zoe", "1990-04-23").status == 204
    proxy.stop()
    away()
    proxy.start()
    back()
    assert service.get("/hello/zoe").status == 200
    proxy.play = always((500, b""))
    away()
    proxy.play = forward
    back()
    assert service.stop() == 0
    log = (service.folder / "log").read_text()
    assert "Traceback" not in log
    assert SECRET not in log
