"""What TLS says where no waiting helps."""

# OpenSSL's names: another certificate, or no TLS, or a very old one, at the other end. Whatever else goes wrong may be
# a server that starts or stops.
_REFUSALS = (
    "CERTIFICATE_VERIFY_FAILED",
    "WRONG_VERSION_NUMBER",
    "RECORD_LAYER_FAILURE",
    "UNSUPPORTED_PROTOCOL",
    "DOESN'T_MATCH",  # the name of the host, in the words of urllib3
)


def is_tls_refusal(reason: str) -> bool:
    """Tell whether the text of a failed connection names a wrong certificate, or a server without the TLS wanted."""
    # Where Python does not know OpenSSL's name of the reason, it writes it in words.
    name = reason.upper().replace(" ", "_")
    return any(refusal in name for refusal in _REFUSALS)
