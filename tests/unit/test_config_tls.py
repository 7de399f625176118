"""Which words of a failed TLS connection mean that no waiting helps."""

import pytest

from morphml_ray.config.tls import is_tls_refusal


@pytest.mark.parametrize(
    ("reason", "is_refusal"),
    [
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate (_ssl.c:1006)", True),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] Hostname mismatch, certificate is not valid for 'db' (_ssl.c:1006)", True),
        ("Error 1 connecting to db:6379. [SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006).", True),
        ("[SSL] record layer failure (_ssl.c:1006)", True),
        ("[SSL: UNSUPPORTED_PROTOCOL] unsupported protocol (_ssl.c:1006)", True),
        ("hostname 'localhost' doesn't match '127.0.0.1'", True),
        ("[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred in violation of protocol (_ssl.c:1006)", False),
        ("Error 111 connecting to db:6379. Connection refused.", False),
        ("_ssl.c:989: The handshake operation timed out", False),
    ],
)
def test_a_refusal_is_told_from_a_server_that_comes_and_goes(reason: str, *, is_refusal: bool) -> None:
    assert is_tls_refusal(reason) is is_refusal
