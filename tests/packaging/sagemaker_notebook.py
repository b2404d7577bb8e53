"""What a notebook does with the real SageMaker SDK, against loopback; run by test_sagemaker_extra."""

from __future__ import annotations

import json
import os
import struct
import threading
from binascii import crc32
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ARN = "arn:aws:sagemaker:us-east-1:123456789012:endpoint"
ASKED: list[tuple[str, dict[str, str], dict[str, object]]] = []


def frame(payload: bytes) -> bytes:
    """One PayloadPart of an event stream."""
    headers = b""
    for name, value in ((b":message-type", b"event"), (b":event-type", b"PayloadPart")):
        headers += bytes([len(name)]) + name + b"\x07" + struct.pack("!H", len(value)) + value
    start = struct.pack("!II", 16 + len(headers) + len(payload), len(headers))
    message = start + struct.pack("!I", crc32(start)) + headers + payload
    return message + struct.pack("!I", crc32(message))


class Handler(BaseHTTPRequestHandler):
    """CloudFormation's outputs, SageMaker's endpoint, and a model."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if b"Action=DescribeStacks" in body:
            member = "<member><OutputKey>{}</OutputKey><OutputValue>{}</OutputValue></member>"
            outputs = member.format("EndpointName", "chat") + member.format("ComponentName", "chat-1")
            self._send(
                "<DescribeStacksResponse><DescribeStacksResult><Stacks><member><StackName>s</StackName>"
                f"<Outputs>{outputs}</Outputs></member></Stacks></DescribeStacksResult></DescribeStacksResponse>"
            )
        elif "X-Amz-Target" in self.headers:
            name = json.loads(body)["EndpointName"]
            times = {"CreationTime": 1, "LastModifiedTime": 1}
            self._send(
                {"EndpointName": name, "EndpointArn": f"{ARN}/{name}", "EndpointStatus": "InService", **times}
            )
        else:
            ASKED.append((self.path, dict(self.headers), json.loads(body or b"{}")))
            self._answer()

    def _answer(self) -> None:
        if self.path.endswith("/async-invocations"):
            self._send(
                {"InferenceId": "1"}, headers={"X-Amzn-SageMaker-OutputLocation": "s3://b/out"}, status=202
            )
        elif self.path.endswith("-response-stream"):
            chunks = [{"choices": [{"delta": {"content": piece}}]} for piece in ("Hel", "lo")]
            lines = (
                b"".join(f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks) + b"data: [DONE]\n\n"
            )
            self._send(frame(lines[:30]) + frame(lines[30:]), kind="application/vnd.amazon.eventstream")
        else:
            self._send({"choices": [{"message": {"content": "Hello"}}]})

    def _send(
        self,
        content: object,
        *,
        kind: str = "application/json",
        headers: dict[str, str] | None = None,
        status: int = 200,
    ) -> None:
        data = (
            content
            if isinstance(content, bytes)
            else content
            if isinstance(content, str)
            else json.dumps(content)
        )
        body = data if isinstance(data, bytes) else data.encode()
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        return


def main() -> None:
    """Ask in every way and check what arrived."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ.update(
        AWS_ENDPOINT_URL=f"http://127.0.0.1:{server.server_port}",
        AWS_ACCESS_KEY_ID="test",
        AWS_SECRET_ACCESS_KEY="test",
        AWS_DEFAULT_REGION="us-east-1",
        SAGEMAKER_REGION="us-east-1",
    )
    from tokenmill.notebook import predictor

    model = predictor(stack="s")
    assert model.predict({"messages": []})["choices"][0]["message"]["content"] == "Hello"
    assert model.chat("Hi", max_tokens=4) == "Hello"
    assert model.later("s3://b/in", inference_id="1") == "s3://b/out"
    paths = [path for path, _, _ in ASKED]
    assert paths == [
        "/endpoints/chat/invocations",
        "/endpoints/chat/invocations-response-stream",
        "/endpoints/chat/async-invocations",
    ], paths
    named = [headers.get("X-Amzn-SageMaker-Inference-Component") for _, headers, _ in ASKED]
    assert named == ["chat-1", "chat-1", None], named
    assert ASKED[1][2]["messages"] == [{"role": "user", "content": "Hi"}]
    server.shutdown()
    print("the notebook works")


if __name__ == "__main__":
    main()
