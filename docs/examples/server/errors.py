"""What a client is told when something is wrong."""

import re
from typing import Any

_NAME = r"(?:a token id in )?(\w+)\S* (?:must|names) "


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
    """A field of the body with a bad value; the message names it if `param` does not."""
    named = re.search(r"field '([^']*)'", message) or re.match(_NAME, message)
    return ApiError(400, message, code="invalid_value", param=param or (named and named[1]))
