"""Where an account's invocations in a region are logged: one setting for everyone in it.

Source: Amazon Bedrock API Reference, "PutModelInvocationLoggingConfiguration" (replaces what is there),
"GetModelInvocationLoggingConfiguration" (without a member when logging is off),
"DeleteModelInvocationLoggingConfiguration".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenmill.local.aws_requests import AwsError

if TYPE_CHECKING:
    from tokenmill.local.aws_requests import Operation, Params, Scope

_DELIVERIES = ("text", "image", "embedding", "video", "audio")


class LoggingSettings:
    """The setting of every account and region."""

    def __init__(self) -> None:
        self._settings: dict[Scope, Params] = {}

    def operations(self) -> dict[str, Operation]:
        """Return what runs the operations."""
        return {
            "PutModelInvocationLoggingConfiguration": self._put,
            "GetModelInvocationLoggingConfiguration": self._get,
            "DeleteModelInvocationLoggingConfiguration": self._delete,
        }

    def of(self, scope: Scope) -> Params | None:
        """Return the setting; nothing when logging is off.

        Args:
            scope: Whose.
        """
        return self._settings.get(scope)

    def _put(self, scope: Scope, params: Params) -> Params:
        wanted = params["loggingConfig"]
        if not ({"cloudWatchConfig", "s3Config"} & set(wanted)):
            raise AwsError("ValidationException", "loggingConfig needs cloudWatchConfig or s3Config.")
        defaults = {f"{kind}DataDeliveryEnabled": True for kind in _DELIVERIES}
        self._settings[scope] = defaults | wanted
        return {}

    def _get(self, scope: Scope, params: Params) -> Params:
        return {"loggingConfig": self._settings.get(scope)}

    def _delete(self, scope: Scope, params: Params) -> Params:
        self._settings.pop(scope, None)
        return {}
