"""What a client is told when something is wrong."""

import re
from typing import Any

from logitchain.params import FIELDS


class ApiError(Exception):
    """An error in the API's own form."""

    def __init__(self, status: int, message: str, *, code: str, param: str | None = None) -> None:
        """`status` is the HTTP status; `param` names the field of the body that is at fault."""
        super().__init__(message)
        self.status, self.code, self.param = status, code, param

    def body(self) -> dict[str, Any]:
        """The response's body."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        error = {"message": str(self), "type": kind, "param": self.param, "code": self.code}
        return {"error": error}


def invalid(message: str, param: str | None = None) -> ApiError:
    """A bad value; without `param`, the field at fault is the first that the message names."""
    named = re.findall(r"field '([^']*)'", message)
    named += [word for word in re.findall(r"\w+", message) if word in FIELDS]
    return ApiError(400, message, code="invalid_value", param=param or next(iter(named), None))
