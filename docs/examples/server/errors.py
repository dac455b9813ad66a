"""Errors, in the form of the API."""

from typing import Any


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

    @property
    def headers(self) -> dict[str, str]:
        """The response's headers: when to try again, or that the rest of the body is not read."""
        if self.status in (429, 503):
            return {"Retry-After": "1"}
        return {"Connection": "close"} if self.status == 408 else {}


def invalid(message: str, param: str | None = None) -> ApiError:
    """A bad value of the field `param`."""
    return ApiError(400, message, code="invalid_value", param=param)
