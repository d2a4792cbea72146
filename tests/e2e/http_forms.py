# SPDX-License-Identifier: Apache-2.0
"""http_forms: the bodies of multipart requests, written by hand."""

MARK = "x"
HEAD = {"Content-Type": f"multipart/form-data; boundary={MARK}"}


def form(*fields):
    """fields: (name, value bytes, filename or None); the body and its headers."""
    text = b""
    for name, value, filename in fields:
        named = f'; filename="{filename}"' if filename is not None else ""
        text += (f'--{MARK}\r\nContent-Disposition: form-data; name="{name}"{named}\r\n'
                 "\r\n").encode() + value + b"\r\n"
    return text + f"--{MARK}--\r\n".encode(), HEAD


def part(data):
    """What POST /v1/uploads/{id}/parts takes."""
    return form(("data", data, "part"))
