"""A part of 50,000 records goes through a function of 128 MB, whatever the order of its output."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import io, json, random, resource, sys, time
sys.path[:0] = {path!r}
from support_batch_inference import SETTINGS, answer_to
from tokenmill_runtime import batch_objects, batch_inference_gather as gather, batch_inference_job
from tokenmill_runtime import batch_inference_run as runs
import boto3  # a handler has it loaded

COUNT = 50_000
def source():
    for n in range(COUNT):
        body = {{"messages": [{{"role": "user", "content": f"question {{n}} " + "x" * 400}}]}}
        yield json.dumps(body).encode() + b"\\n"

def output():
    order = list(range(COUNT))
    random.Random(7).shuffle(order)
    for n in order:
        text = f"question {{n}} " + "x" * 400
        request = {{"messages": [{{"role": "user", "content": [{{"text": text}}]}}]}}
        line = {{"recordId": f"{{n:011d}}", "modelInput": request, "modelOutput": answer_to(request)}}
        yield json.dumps(line).encode() + b"\\n"

class Sink:
    written = {{}}
    def __init__(self, bucket, key, *, metadata=None):
        self.name = key.rpartition("/")[2]
        self.written[self.name] = [0, -1]
    def __enter__(self):
        return self
    def __exit__(self, *error):
        return None
    def write(self, content):
        index = runs.index_of(content)
        assert index > self.written[self.name][1], "out of order"
        self.written[self.name] = [self.written[self.name][0] + 1, index]

batch_objects.lines = lambda *a, **k: ("e", source())
batch_objects.tagged_lines = lambda *a, **k: ({{}}, output())
batch_objects.read_tagged = lambda *a, **k: None
batch_objects.write_document = lambda *a, **k: None
from tokenmill_runtime import batch_inference_part
batch_inference_part.ObjectWriter = Sink
gather.job_of = lambda *a: {{
    "jobArn": "a/b", "status": "Completed",
    "outputDataConfig": {{"s3OutputDataConfig": {{"s3Uri": "s3://files/output/x/out/"}}}},
}}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
run = runs.BatchRun(input="input/a", output="output/x", execution="e")
part = runs.Part(number=0, first=0, count=COUNT, start=0, end=1, etag="e", tokens=0)
gather.gather(run, runs.Settings(**SETTINGS), part, round_number=0)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({{"results": Sink.written["results.jsonl"][0], "grown_mb": (after - before) / 1024}}))
"""


def test_a_part_in_any_order_fits_into_memory() -> None:
    """Its 30 MB of answers are on the disk; in memory is where each of them stands."""
    path = [entry for entry in sys.path if entry]
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(path=path)], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    told = json.loads(found.stdout)
    assert told["results"] == 50_000
    assert told["grown_mb"] < 40
