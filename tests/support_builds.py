"""CodeBuild behind the fake AWS of `support_fake_aws`, and the address that CloudFormation waits at."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from support_fake_aws import AwsError, FakeAws

PROJECT = "Build-1a2b3c"
STACK = "arn:aws:cloudformation:us-east-1:123456789012:stack/chat/0f8b"


class Answers:
    """A loopback server that takes what is put, as S3 does behind a signed URL."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, dict[str, Any]]] = []
        self.refuse = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None:
                pass

            def do_PUT(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                refused = outer.refuse > 0
                outer.refuse -= refused
                if not refused:
                    outer.taken.append((self.path, json.loads(body)))
                self.send_response(503 if refused else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class FakeBuilds:
    """A CodeBuild project: starts, lists, stops; a test says how a build ends."""

    def __init__(self, fake: FakeAws) -> None:
        self.builds: dict[str, dict[str, Any]] = {}
        self.log: list[str] = []
        self._tokens: dict[str, str] = {}
        answers = fake.answers
        answers["codebuild", "StartBuild"] = self._start
        answers["codebuild", "ListBuildsForProject"] = self._list
        answers["codebuild", "BatchGetBuilds"] = self._get
        answers["codebuild", "StopBuild"] = self._stop
        answers["logs", "GetLogEvents"] = lambda _: {"events": [{"message": f"{x}\n"} for x in self.log]}
        self.projects = {PROJECT}

    @property
    def running(self) -> list[str]:
        return [key for key, build in self.builds.items() if build["buildStatus"] == "IN_PROGRESS"]

    def end(self, build_id: str, status: str = "SUCCEEDED", **exported: str) -> dict[str, Any]:
        """End a build and return EventBridge's event of it."""
        build = self.builds[build_id]
        build["buildStatus"] = status
        build["exportedEnvironmentVariables"] = [{"name": k, "value": v} for k, v in exported.items()]
        return self.event(build_id, status)

    def event(self, build_id: str, status: str) -> dict[str, Any]:
        arn = f"arn:aws:codebuild:us-east-1:123456789012:build/{build_id}"
        return {
            "source": "aws.codebuild",
            "detail-type": "CodeBuild Build State Change",
            "detail": {"build-id": arn, "build-status": status, "project-name": PROJECT},
        }

    def _start(self, asked: dict[str, Any]) -> dict[str, Any]:
        token = asked["idempotencyToken"]
        if token not in self._tokens:
            build_id = f"{asked['projectName']}:{len(self.builds) + 1:04d}"
            self._tokens[token] = build_id
            self.builds[build_id] = {
                "id": build_id,
                "buildStatus": "IN_PROGRESS",
                "timeoutInMinutes": 50,
                "environment": {
                    "type": "LINUX_CONTAINER",
                    "image": "aws/codebuild/amazonlinux-x86_64-standard:5.0",
                    "computeType": "BUILD_GENERAL1_MEDIUM",
                    "environmentVariables": asked["environmentVariablesOverride"],
                },
                "logs": {"groupName": "builds", "streamName": build_id.partition(":")[2]},
            }
        return {"build": self.builds[self._tokens[token]]}

    def _list(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["projectName"] not in self.projects:
            raise AwsError("ResourceNotFoundException", "The provided project arn does not exist")
        return {"ids": list(reversed(self.builds))}

    def _get(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {"builds": [self.builds[key] for key in sorted(asked["ids"]) if key in self.builds]}

    def _stop(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.builds[asked["id"]]["buildStatus"] = "STOPPED"
        return {"build": self.builds[asked["id"]]}
